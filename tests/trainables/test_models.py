"""Models against torchvision's own, and what must be known about them before they are built."""

from __future__ import annotations

import math
import re
import sys

import pytest
import segmentation_models_pytorch
import timm
import torch
from torch import nn
from torch.nn import functional
from torchvision import models as torchvision_models

from search_spaces.core.space import SearchSpace
from trainables.errors import UnknownNameError, UsageError
from trainables.models import (
    MODELS,
    build_model,
    ensure_weights,
    min_train_batch,
    parameter_count,
    predefined_categories,
    refusal,
)
from trainables.models.architectures import WHOLE_MODELS
from trainables.models.backbones import torchvision_backbone, torchvision_backbones
from trainables.models.heads import HEADS
from trainables.models.library import REFUSED

CLASSES = ("road", "car", "sky")
LITE0 = "lraspp_efficientnet_lite0"


@pytest.mark.parametrize("name", ["lraspp_mobilenet_v3_large", "deeplabv3_mobilenet_v3_large", "fcn_resnet50"])
def test_output_is_that_of_torchvisions_model_with_the_same_parameters(name: str) -> None:
    torch.manual_seed(0)
    ours = build_model(name, CLASSES).eval()
    options = {"aux_loss": True} if "aux_weight" in MODELS.parameters(name) else {}
    theirs = torchvision_models.get_model(name, weights=None, weights_backbone=None, num_classes=3, **options).eval()
    theirs.load_state_dict(ours.state_dict())
    images = torch.randn(1, 3, 32, 64)
    with torch.no_grad():
        torch.testing.assert_close(ours(images)["out"], theirs(images)["out"], rtol=1e-5, atol=1e-6)


def test_auxiliary_head_works_in_training_only() -> None:
    model = build_model("deeplabv3_mobilenet_v3_large", CLASSES, aux_weight=0.3)
    images = torch.randn(2, 3, 64, 64)
    assert model.aux_weight == 0.3
    assert model(images)["aux"].shape == (2, 3, 64, 64)
    assert set(model.eval()(images)) == {"out"}


def test_no_auxiliary_head_without_weight() -> None:
    model = build_model("deeplabv3_mobilenet_v3_large", CLASSES, aux_weight=0.0)
    assert set(model(torch.randn(2, 3, 64, 64))) == {"out"}
    assert not any(name.startswith("aux") for name in model.state_dict())


def test_models_without_auxiliary_head_take_no_weight_for_it() -> None:
    assert "aux_weight" not in MODELS.parameters("lraspp_mobilenet_v3_large")
    with pytest.raises(TypeError):
        build_model("lraspp_mobilenet_v3_large", CLASSES, aux_weight=0.4)


def test_running_statistics_follow_within_few_steps_when_trained_from_scratch() -> None:
    model = build_model("lraspp_mobilenet_v3_large", CLASSES)
    momenta = {module.momentum for module in model.modules() if isinstance(module, nn.BatchNorm2d)}
    assert momenta == {0.1}


@pytest.mark.parametrize("name", WHOLE_MODELS)
def test_parameters_are_counted_as_torchvision_documents_them(name: str) -> None:
    weights = torchvision_models.get_model_weights(name).DEFAULT
    assert parameter_count(name, 21) == weights.meta["num_params"]


@pytest.mark.parametrize("name", ["fcn_resnet101", "deeplabv3_resnet50", "deeplabv3_resnet101"])
def test_models_of_torchvision_keep_its_parameter_names(name: str) -> None:
    with torch.device("meta"):
        ours = build_model(name, CLASSES)
        options = {"aux_loss": True} if "aux_weight" in MODELS.parameters(name) else {}
        theirs = torchvision_models.get_model(name, weights=None, weights_backbone=None, num_classes=3, **options)
    assert {key: value.shape for key, value in ours.state_dict().items()} == {
        key: value.shape for key, value in theirs.state_dict().items()
    }


@pytest.mark.parametrize(
    ("name", "in_timm"),
    [
        ("resnet18", "resnet18"),
        ("resnet50", "resnet50"),
        ("wide_resnet50_2", "wide_resnet50_2"),
        ("mobilenet_v2", "mobilenetv2_100"),
        ("efficientnet_b0", "efficientnet_b0"),
        ("efficientnet_v2_s", "tf_efficientnetv2_s"),
        ("efficientnet_v2_l", "tf_efficientnetv2_l"),
        ("regnet_y_400mf", "regnety_004"),
        ("convnext_tiny", "convnext_tiny"),
    ],
)
def test_levels_are_where_timm_finds_them(name: str, in_timm: str) -> None:
    """The oracle is timm's table of the same architectures: channels at strides 8, 16 and 32."""
    backbone = torchvision_backbone(name)
    assert backbone is not None
    with torch.device("cpu" if name.startswith("regnet") else "meta"):
        channels = backbone.build(("low", "aux", "out"), dilated=False, imagenet=False).channels()
        levels = [f"stride{stride}" for stride in backbone.strides]
        pyramid = backbone.build(levels, dilated=False, imagenet=False).channels()
    with torch.device("meta"):
        info = timm.create_model(in_timm, features_only=True).feature_info
    at = dict(zip(info.reduction(), info.channels(), strict=True))
    assert channels == {"low": at[8], "aux": at[16], "out": at[32]}
    assert pyramid == {f"stride{stride}": at[stride] for stride in info.reduction()}


@pytest.mark.parametrize(
    ("name", "strides"),
    [
        ("fcn_resnet50", {"out": 8, "aux": 8}),
        ("fcn_resnet18", {"out": 32, "aux": 16}),
        ("lraspp_resnet50", {"low": 8, "high": 32}),
        ("lraspp_mobilenet_v3_small", {"low": 8, "high": 16}),
        ("deeplabv3_efficientnet_b0", {"out": 32, "aux": 16}),
        ("deeplabv3_efficientnet_lite0", {"out": 16, "aux": 16}),
        (LITE0, {"low": 8, "high": 32}),
        ("fcn_test_resnet", {"out": 16, "aux": 16}),
        ("fcn_pvt_v2_b0", {"out": 32, "aux": 16}),
        ("unet_mobilenet_v3_large", {"stride2": 2, "stride4": 4, "stride8": 8, "stride16": 16, "stride32": 32}),
        ("unet_test_convnext", {"stride4": 4, "stride8": 8, "stride16": 16, "stride32": 32}),
        ("deeplabv3plus_resnet50", {"stride4": 4, "out": 8}),
        ("linear_test_vit", {"out": 16}),
    ],
)
def test_strides_are_as_documented(name: str, strides: dict[str, int]) -> None:
    with torch.device("meta"):
        maps = build_model(name, CLASSES).eval().backbone(torch.zeros(1, 3, 128, 256))
    assert {level: (128 / found.shape[2], 256 / found.shape[3]) for level, found in maps.items()} == {
        level: (stride, stride) for level, stride in strides.items()
    }


def test_every_torchvision_backbone_makes_a_model_with_every_head() -> None:
    names = torchvision_backbones()
    assert {"resnet34", "mobilenet_v3_small", "efficientnet_v2_m", "regnet_x_8gf", "convnext_base"} <= set(names)
    for name in names:
        assert all(f"{head}_{name}" in MODELS for head in HEADS)
    assert not {"fcn_vgg16", "fcn_regnet_y_128gf", "fcn_swin_t"} & {f"fcn_{name}" for name in names}


def test_what_normalises_a_single_value_needs_two_images_and_nothing_else_does() -> None:
    backbones = ("resnet18", "efficientnet_lite0", "regnety_002")
    pooling = {"deeplabv3", "deeplabv3plus", "upernet"}
    assert {min_train_batch(f"{head}_{name}") for name in backbones for head in pooling} == {2}
    assert {min_train_batch(f"{head}_{name}") for name in backbones for head in set(HEADS) - pooling} == {1}
    assert min_train_batch("fcn_rexnet_100") == 2, "its squeeze and excitation normalises a 1x1 map"


def test_images_are_normalised_as_the_backbones_weights_want_it() -> None:
    imagenet = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}
    with torch.device("meta"):
        assert build_model("fcn_resnet50", CLASSES).normalisation == imagenet
        assert build_model("fcn_resnet18d", CLASSES).normalisation == imagenet
        assert build_model(LITE0, CLASSES).normalisation == {"mean": (127 / 255,) * 3, "std": (128 / 255,) * 3}
    other = torchvision_backbone("efficientnet_v2_l")
    assert other is not None and other.normalisation == {"mean": (0.5,) * 3, "std": (0.5,) * 3}


@pytest.mark.parametrize("name", [LITE0, "lraspp_mobilenet_v3_large"])
def test_lraspp_begins_undecided_between_the_classes(name: str) -> None:
    torch.manual_seed(0)
    weights = "imagenet" if name == LITE0 else "none"
    logits = build_model(name, CLASSES, weights=weights).eval()(torch.randn(2, 3, 64, 64))["out"]
    loss = functional.cross_entropy(logits, torch.randint(3, (2, 64, 64)))
    assert loss.item() == pytest.approx(math.log(3), abs=0.1)


def test_images_are_stretched_to_whole_patches() -> None:
    torch.manual_seed(0)
    model = build_model("linear_test_vit", CLASSES).eval()
    images = torch.randn(1, 3, 33, 60)
    stretched = functional.interpolate(images, size=(48, 64), mode="bilinear", align_corners=False)
    with torch.no_grad():
        assert torch.equal(model(images, resize=False)["out"], model.classifier(model.backbone(stretched)["out"]))
        assert model(images)["out"].shape == (1, 3, 33, 60)


@pytest.mark.parametrize(("head", "encoder"), [("fpn", "resnet18"), ("upernet", "resnet18"), ("segformer", "mit_b0")])
def test_decoders_compute_what_those_of_the_librarys_own_models_do(head: str, encoder: str) -> None:
    theirs = segmentation_models_pytorch.create_model(head, encoder, encoder_weights=None, classes=3).eval()
    with torch.no_grad():
        maps = theirs.encoder(torch.randn(1, 3, 64, 96))
        channels = {f"stride{2**place}": found.shape[1] for place, found in enumerate(maps) if place > 1}
        ours = HEADS.get(head).build(channels, 3).eval()
        ours.decoder.load_state_dict(theirs.decoder.state_dict())
        assert torch.equal(ours.decode(maps[2:]), theirs.decoder(maps))


def test_whole_models_of_the_library_are_the_librarys() -> None:
    name = "smp/unetplusplus_resnet18"
    theirs = segmentation_models_pytorch.UnetPlusPlus("resnet18", encoder_weights=None, classes=3).eval()
    ours = build_model(name, CLASSES).eval()
    ours.backbone.body.load_state_dict(theirs.encoder.state_dict())
    ours.classifier.decoder.load_state_dict(theirs.decoder.state_dict())
    ours.classifier.final.load_state_dict(theirs.segmentation_head.state_dict())
    images = torch.randn(1, 3, 64, 96)
    with torch.no_grad():
        assert torch.equal(ours(images)["out"], theirs(images))
    assert SearchSpace("s", "", (), "model.name").label({"model.name": name}) == "smp-unetplusplus_resnet18"


def test_every_architecture_of_the_library_trains_on_its_smallest_batch() -> None:
    for architecture in set(segmentation_models_pytorch.MODEL_ARCHITECTURES_MAPPING) - set(REFUSED):
        name = f"smp/{architecture}_resnet18"
        with torch.device("meta"):
            model = build_model(name, CLASSES).train()
            smallest = min_train_batch(name)
            logits = model(torch.zeros(smallest, 3, 64, 64))["out"]
            assert logits.shape == (smallest, 3, 64, 64)
            logits.mean().backward()
            assert [key for key, one in model.named_parameters() if one.grad is None] == [], "carried along unused"
            if smallest > 1:
                with pytest.raises(ValueError, match="more than 1 value per channel"):
                    model(torch.zeros(1, 3, 64, 64))


def test_without_the_library_its_models_are_told_to_need_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "segmentation_models_pytorch", None)
    for name in ("unet_resnet18", "smp/unet_resnet34"):
        with pytest.raises(UsageError, match=r"pip install '\.\[smp\]' in the folder"):
            build_model(name, CLASSES)
    assert "out" in build_model("linear_resnet18", CLASSES).eval()(torch.zeros(1, 3, 32, 32))


def test_models_of_timm_are_counted_without_being_built() -> None:
    built = build_model("lraspp_test_resnet", CLASSES)
    assert parameter_count("lraspp_test_resnet", 3) == sum(parameter.numel() for parameter in built.parameters())


def test_regnets_are_counted_though_they_cannot_be_outlined() -> None:
    before = torch.random.get_rng_state()
    counted = parameter_count("lraspp_regnet_y_400mf", 3)
    assert torch.equal(torch.random.get_rng_state(), before)
    built = build_model("lraspp_regnet_y_400mf", CLASSES)
    assert counted == sum(parameter.numel() for parameter in built.parameters())
    classifier = torchvision_models.regnet_y_400mf(weights=None)
    backbone = sum(p.numel() for p in classifier.parameters()) - sum(p.numel() for p in classifier.fc.parameters())
    assert sum(parameter.numel() for parameter in built.backbone.parameters()) == backbone


@pytest.mark.parametrize(
    ("name", "said"),
    [
        (
            "unet_vit_tiny_patch16_224",
            "no feature map at stride 4, 8 and 32 for unet, only at 16: use fcn, deeplabv3",
        ),
        ("lraspp_naflexvit_base_patch16_gap", "no feature map at stride 8"),
        ("fcn_gmixer_12_224", "gmixer_12_224 does not take images of any size"),
        ("smp/unetplusplus_mit_b0", "UnetPlusPlus is not support.*take another encoder"),
        ("smp/dpt_resnet18", "dpt takes more of its encoder than feature maps.*such as smp/segformer_resnet18"),
    ],
)
def test_backbones_that_cannot_serve_are_told(name: str, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        parameter_count(name, 21)
    assert re.search(said, refusal(name, "imagenet"))


@pytest.mark.parametrize(
    "name", ["segnet_resnet18", "fcn_", "fcn", "lraspp_resnet18.nope", "fcn_some/path", "FCN_resnet18"]
)
def test_names_that_follow_no_pattern_are_unknown(name: str) -> None:
    assert name not in MODELS
    with pytest.raises(UnknownNameError, match="HEAD_BACKBONE"):
        build_model(name, CLASSES)


def test_without_timm_its_backbones_are_told_to_need_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "timm", None)
    for attempt in (lambda: parameter_count(LITE0, 7), lambda: ensure_weights(LITE0, "imagenet")):
        with pytest.raises(UsageError, match=r"pip install '\.\[lite\]' in the folder"):
            attempt()
    with pytest.raises(UnknownNameError, match=r"pip install '\.\[lite\]' in the folder"):
        build_model("fcn_regnety_006", CLASSES)
    assert "weights" in MODELS.all_parameters()
    assert min_train_batch("deeplabv3_efficientnet_lite0") == 2


def test_counting_parameters_is_building_without_the_cost() -> None:
    name = "deeplabv3_mobilenet_v3_large"
    before = torch.random.get_rng_state()
    counted = parameter_count(name, 5, aux_weight=0.0)
    assert torch.equal(torch.random.get_rng_state(), before)
    built = build_model(name, list("abcde"), aux_weight=0.0)
    assert counted == sum(parameter.numel() for parameter in built.parameters())
    assert parameter_count(name, 5) > counted


def test_categories_of_predefined_weights_are_vocs() -> None:
    categories = predefined_categories("fcn_resnet50")
    assert len(categories) == 21
    assert categories[0] == "__background__" and categories[15] == "person"
    with pytest.raises(UsageError, match=r"has no coco_voc weights.*fcn_resnet50"):
        predefined_categories("fcn_resnet18")


def test_unknown_model_is_told_with_the_close_names() -> None:
    with pytest.raises(UnknownNameError, match=r"unknown model 'fcn_resnet5'.*fcn_resnet50"):
        build_model("fcn_resnet5", CLASSES)
    with pytest.raises(UnknownNameError, match="deeplabv3_resnet50"):
        min_train_batch("deeplab3_resnet50")


def test_another_seed_is_another_initialisation() -> None:
    torch.manual_seed(0)
    first = build_model("lraspp_mobilenet_v3_large", CLASSES).state_dict()
    second = build_model("lraspp_mobilenet_v3_large", CLASSES).state_dict()
    for layer in ("backbone.0.0.weight", "classifier.low_classifier.weight"):
        assert not torch.equal(first[layer], second[layer])
