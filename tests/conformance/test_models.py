"""What every registered model must do, and those that a name of the form HEAD_BACKBONE stands for."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from trainables.models import MODELS, SegmentationModel, build_model, min_train_batch

CLASSES = ("road", "car", "sky", "tree", "pole")

RESOLVED = (
    "fcn_regnet_y_400mf",
    "lraspp_mobilenet_v2",
    "lraspp_efficientnet_lite0",
    "deeplabv3_efficientnet_lite0",
    "deeplabv3_test_resnet",
    "lraspp_test_convnext",
    "fcn_mambaout_femto",
    "linear_test_vit",
    "unet_test_resnet",
    "fpn_test_convnext",
    "upernet_test_resnet",
    "segformer_mit_b0",
    "deeplabv3plus_test_resnet",
    "smp/linknet_resnet18",
)
"""One of each kind that the listed ones leave out: another layout of layers, timm's dilated, timm's channels-last,
patches, every further head, a model of the library."""

OUTLINED = (
    "lraspp_resnet50",
    "fcn_wide_resnet50_2",
    "fcn_mobilenet_v3_small",
    "deeplabv3_efficientnet_b0",
    "lraspp_convnext_tiny",
    "fcn_regnety_002",
    "deeplabv3_mobilenetv3_small_050",
    "unet_swin_tiny_patch4_window7_224",
    "linear_vit_small_patch14_dinov2",
    "fcn_vit_small_patch16_dinov3",
    "segformer_convnext_tiny",
)
"""Models that are checked without computing anything."""

HEAVY = ("fcn_resnet50", "fcn_resnet101", "deeplabv3_resnet50", "deeplabv3_resnet101")
"""Listed models that are checked without computing anything; torchvision computes the same (see test_models.py)."""


@pytest.fixture(scope="module", params=[*(name for name in MODELS if name not in HEAVY), *RESOLVED])
def named(request: pytest.FixtureRequest) -> Iterator[tuple[str, SegmentationModel]]:
    """A model's name and the model from seed 0, built once for all tests."""
    torch.manual_seed(0)
    yield request.param, build_model(request.param, CLASSES)


@pytest.fixture(scope="module", params=[*HEAVY, *OUTLINED])
def outlined(request: pytest.FixtureRequest) -> Iterator[tuple[str, SegmentationModel]]:
    """A model's name and the model without values."""
    with torch.device("meta"):
        yield request.param, build_model(request.param, CLASSES)


def assert_trains_on_smallest_batch(name: str, model: SegmentationModel, device: str) -> None:
    """One step's gradient, which reaches every weight: no layer is carried along unused."""
    smallest = min_train_batch(name)
    output = model.train()(torch.randn(smallest, 3, 64, 64, device=device))
    assert ("aux" in output) == ("aux_weight" in MODELS.parameters(name))
    assert all(logits.shape == (smallest, len(CLASSES), 64, 64) for logits in output.values())
    sum(logits.mean() for logits in output.values()).backward()
    assert [name for name, parameter in model.named_parameters() if parameter.grad is None] == []
    model.zero_grad(set_to_none=True)
    if smallest > 1:
        with pytest.raises(ValueError, match="more than 1 value per channel"), torch.no_grad():
            model(torch.randn(smallest - 1, 3, 64, 64, device=device))


def test_odd_sizes_and_a_batch_of_one_are_evaluated(named: tuple[str, SegmentationModel]) -> None:
    _, model = named
    for size in ((33, 47), (32, 32)):
        with torch.no_grad():
            output = model.eval()(torch.randn(1, 3, *size))
        assert set(output) == {"out"}
        assert output["out"].shape == (1, len(CLASSES), *size)
        assert torch.isfinite(output["out"]).all()


def test_odd_sizes_are_evaluated_by_the_outline(outlined: tuple[str, SegmentationModel]) -> None:
    _, model = outlined
    with torch.no_grad():
        output = model.eval()(torch.randn(1, 3, 33, 47, device="meta"))
    assert {key: value.shape for key, value in output.items()} == {"out": (1, len(CLASSES), 33, 47)}


def test_smallest_batch_trains_every_weight_and_none_smaller(named: tuple[str, SegmentationModel]) -> None:
    assert_trains_on_smallest_batch(*named, device="cpu")


def test_outline_trains_every_weight(outlined: tuple[str, SegmentationModel]) -> None:
    assert_trains_on_smallest_batch(*outlined, device="meta")


def test_memory_layout_of_the_images_changes_nothing(named: tuple[str, SegmentationModel]) -> None:
    _, model = named
    images = torch.randn(1, 3, 64, 48)
    with torch.no_grad():
        expected = model.eval()(images)["out"]
        found = model(images.contiguous(memory_format=torch.channels_last))["out"]
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-4)


def test_model_tells_what_it_is(named: tuple[str, SegmentationModel]) -> None:
    name, model = named
    assert model.name == name
    assert model.predefined == ""
    assert set(model.normalisation) == {"mean", "std"}
    assert all(len(values) == 3 and 0 < min(values) < 1 for values in model.normalisation.values())
    assert next(iter(model.named_parameters()))[0].startswith("backbone.")


def test_seed_decides_the_initial_parameters_and_state_dict_carries_them_all(
    named: tuple[str, SegmentationModel],
) -> None:
    name, model = named
    torch.manual_seed(0)
    other = build_model(name, CLASSES)
    for parameter, same in zip(model.parameters(), other.parameters(), strict=True):
        assert torch.equal(parameter, same)
    with torch.no_grad():
        for tensor in other.state_dict().values():
            tensor.fill_(1)
    other.load_state_dict(model.state_dict())
    images = torch.randn(1, 3, 32, 32)
    with torch.no_grad():
        assert torch.equal(model.eval()(images)["out"], other.eval()(images)["out"])
