"""Models, augmentation and trials on images of other channels than red, green and blue."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from search_spaces.augment import augment, families
from search_spaces.bands import without_colours
from tests import mini
from trainables.augmentations import TRANSFORMS, Policy, PolicySpec, preflight
from trainables.augmentations.magnitudes import MAGNITUDES
from trainables.augmentations.policy import refused_for_bands
from trainables.augmentations.transforms import only_rgb
from trainables.checkpoint import publish, rebuild_model
from trainables.config import TrialConfig
from trainables.data.bands import Bands, any_bands
from trainables.data.cache.scan import band_statistics
from trainables.data.find import find
from trainables.data.folder import Folder
from trainables.data.layouts.finding import Said
from trainables.errors import CheckpointError, UsageError
from trainables.execution import TrialData
from trainables.models import FILE, MODELS, build_for_bands, build_model
from trainables.models.bands import input_channels, normalisation_of, widen, widened
from trainables.models.build import why_not_for
from trainables.models.weight_files import digest
from trainables.trial import Trial

FIVE = Bands((1, 2, 3, 4, 5), 5, colours=(3, 2, 1))
MODEL = "lraspp_mobilenet_v3_small"


@pytest.mark.parametrize("channels", [1, 2, 4, 5, 13])
@pytest.mark.parametrize("known", [True, False])
def test_a_grey_image_gives_what_it_gave_with_three_channels(channels: int, known: bool) -> None:
    """The rule's promise, on the convolution itself and whatever the number of channels."""
    generator = torch.Generator().manual_seed(0)
    kernels = torch.randn(6, 3, 3, 3, generator=generator)
    places = (2, 0, 3) if known and channels > 3 else None
    wide = widened(kernels, channels, places, fresh=False)
    grey = torch.rand(1, 1, 9, 9, generator=generator)
    before = nn.functional.conv2d(grey.expand(-1, 3, -1, -1), kernels)
    after = nn.functional.conv2d(grey.expand(-1, channels, -1, -1), wide)
    assert torch.allclose(before, after, atol=1e-5)
    if places is not None:
        for color, place in enumerate(places):
            assert torch.allclose(wide[:, place], kernels[:, color] * 3 / channels)
    assert torch.equal(widened(kernels, 3, (2, 1, 0), fresh=False), kernels)


def test_kernels_from_scratch_are_not_alike_and_keep_the_variance_of_the_output() -> None:
    torch.manual_seed(0)
    kernels = torch.randn(512, 3, 3, 3) * 0.1
    wide = widened(kernels, 12, None, fresh=True)
    assert not torch.allclose(wide[:, 0], wide[:, 1])
    assert float(wide.var() * 12 / (kernels.var() * 3)) == pytest.approx(1, rel=0.05)


def test_a_whole_model_gives_the_same_for_grey_images_after_widening() -> None:
    torch.manual_seed(0)
    model = build_model(MODEL, ["a", "b"]).eval()
    grey = torch.rand(1, 1, 64, 64)
    with torch.no_grad():
        before = model(grey.expand(-1, 3, -1, -1))["out"]
        widen(model, FIVE, fresh=False)
        assert torch.allclose(model(grey.expand(-1, 5, -1, -1))["out"], before, atol=1e-4)


@pytest.mark.parametrize(
    "name", ["fcn_resnet18", "lraspp_efficientnet_lite0", "segformer_mit_b0", "linear_vit_tiny_patch16_224",
             "smp/unetplusplus_resnet18", "unet_convnext_atto"]
)  # fmt: skip
def test_models_of_every_library_take_bands(name: str) -> None:
    """torchvision, EfficientNet-Lite, MiT, timm's transformers and CNNs, segmentation_models.pytorch."""
    assert why_not_for(name, FIVE) == ""


class _Inner(nn.Module):
    """Takes three channels in something else than a convolution."""

    def __init__(self) -> None:
        super().__init__()
        self.name = "inner"
        self.mix = nn.Linear(3, 4)

    def forward(self, images: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"out": self.mix(images.movedim(1, -1)).movedim(-1, 1)}


class _Twice(_Inner):
    """A convolution, and the image once more."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 1)

    def forward(self, images: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"out": self.conv(images) + super().forward(images)["out"]}


@pytest.mark.parametrize(("model", "why"), [(_Inner, "no convolution of it takes"), (_Twice, "parts of it take three")])
def test_a_model_that_cannot_be_widened_is_refused_with_the_reason(model: type[nn.Module], why: str) -> None:
    with pytest.raises(UsageError, match=f"model inner cannot take images of 5 channels: {why}"):
        widen(model(), FIVE, fresh=True)


def _file(path: Path) -> str:
    return f"{FILE}{path}@{digest(path)}"


def test_own_weights_of_a_model_for_as_many_channels_are_taken_and_others_widened(tmp_path: Path) -> None:
    torch.manual_seed(1)
    five, three = build_for_bands(MODEL, ["a", "b"], FIVE), build_model(MODEL, ["a", "b"])
    for model, name in ((five, "five"), (three, "three")):
        save_file(
            {key: value.contiguous() for key, value in model.state_dict().items()}, tmp_path / f"{name}.safetensors"
        )
    torch.manual_seed(2)
    first = next(key for key, value in five.state_dict().items() if value.ndim == 4)
    again = build_for_bands(MODEL, ["a", "b"], FIVE, weights=_file(tmp_path / "five.safetensors"))
    assert torch.equal(again.state_dict()[first], five.state_dict()[first])
    other = build_for_bands(MODEL, ["a", "b"], FIVE, weights=_file(tmp_path / "three.safetensors"))
    wanted = widened(three.state_dict()[first], 5, FIVE.places, fresh=False)
    assert torch.equal(other.state_dict()[first], wanted)
    assert other.predefined.endswith(", for 5 channels")


def test_known_colours_keep_the_statistics_of_the_weights() -> None:
    weights = {"mean": (0.4, 0.5, 0.6), "std": (0.1, 0.2, 0.3)}
    found = normalisation_of(weights, FIVE, [(0.01 * place, 0.02) for place in range(5)])
    assert found == {"mean": (0.6, 0.5, 0.4, 0.03, 0.04), "std": (0.3, 0.2, 0.1, 0.02, 0.02)}


def _always(name: str) -> PolicySpec:
    full = {"magnitude": 1.0} if name in MAGNITUDES else {}
    return PolicySpec.from_list([{"transform": name, "p": 1.0, **full}])


@pytest.mark.parametrize("channels", [1, 5])
def test_transformations_do_to_each_band_what_they_do_to_pictures(channels: int) -> None:
    """OpenCV refuses, or in silence computes something else, for more than four channels, and drops the axis of one."""
    rng = np.random.default_rng(0)
    image, mask = rng.integers(0, 256, (48, 64, channels), np.uint8), rng.integers(0, 3, (48, 64), np.uint8)
    for name in [name for name in TRANSFORMS if not only_rgb(name)]:
        policy = Policy(_always(name), (40, 56), hidden=range(100, 100 + channels))
        found, _ = policy(image.copy(), mask.copy(), seed=3)
        assert found.shape == (40, 56, channels), name
        if name in ("noise", "dropout", "contrast"):  # noise differs in every channel; the others look at all of them
            continue
        for channel in range(channels):
            grey = np.repeat(image[..., channel : channel + 1], 3, axis=-1)
            alone, _ = Policy(_always(name), (40, 56))(grey, mask.copy(), seed=3)
            assert np.abs(alone[..., 0].astype(int) - found[..., channel]).max() <= 1, (name, channel)


def test_noise_is_independent_in_every_band_and_hidden_pixels_have_the_colour_asked_for() -> None:
    image, mask = np.full((40, 40, 5), 128, np.uint8), np.zeros((40, 40), np.uint8)
    noisy, _ = Policy(_always("noise"), (40, 40), hidden=(0,) * 5)(image.copy(), mask, seed=1)
    assert np.abs(np.corrcoef(noisy.reshape(-1, 5).T) - np.eye(5)).max() < 0.15
    hidden, void = Policy(_always("dropout"), (40, 40), hidden=(1, 2, 3, 4, 5))(image.copy(), mask, seed=1)
    assert np.array_equal(np.unique(hidden[void == 255], axis=0), [[1, 2, 3, 4, 5]])


def test_changes_of_colours_are_refused_for_bands_and_all_others_tried() -> None:
    colours = {name for name in TRANSFORMS if only_rgb(name)}
    assert colours == {"saturation", "hue", "jpeg", "fog", "rain", "glare", "trivial"}
    with pytest.raises(UsageError, match=r"not for hue \(it mixes red, green and blue\): --set augment.hue.p=0"):
        Policy(_always("hue"), (32, 32), hidden=(0,) * 4)
    with pytest.raises(UsageError, match="not for jpeg"):
        preflight([_always("jpeg"), _always("hflip")], (32, 32), 3, channels=4)
    preflight([_always(name) for name in TRANSFORMS if name not in colours], (48, 64), 3, channels=5)


def test_one_number_of_channels_is_told_everywhere() -> None:
    model = build_for_bands(MODEL, ["a", "b"], any_bands(4) or FIVE)
    model.normalisation = {"mean": (0.0,) * 4, "std": (1.0,) * 4}
    assert input_channels(model) == 4
    assert model.eval()(torch.zeros(1, 4, 32, 32))["out"].shape == (1, 2, 32, 32)
    assert any_bands(3) is None
    assert all(name in MODELS for name in [MODEL])


def test_the_folder_of_bands_is_what_was_written(tmp_path: Path) -> None:
    data = Folder(mini.write_bands(tmp_path / "data", count=3))
    assert data.bands == Bands((1, 2, 3, 4, 5), 5, colours=(1, 2, 3))
    assert data.image_bits == 12


def test_space_keeps_what_bands_can_have() -> None:
    space, told = without_colours(augment([MODEL], "none"))
    assert "saturation, hue" in told
    assert "trivial" in told
    policies = space.parameter("augment.policy")
    assert policies is not None
    assert set(policies.choices) == {*families()} - {"trivial"}
    base = {"model.name": MODEL, "model.weights": "none", "epochs": 1, "seed": 0, "image_size": "32x32"}
    for family in policies.choices:
        point = space.reach("augment.policy", family)
        assert point is not None
        config = space.trial_config(base, point)
        assert not refused_for_bands(config.augment), family
    photometric = space.trial_config(base, space.reach("augment.policy", "photometric") or {})
    assert {item.name for item in photometric.augment.transforms} >= {"brightness"}
    assert [point["augment.policy"] for point in space.start] == ["none", "geometric", "photometric", "all"]
    held, _ = without_colours(augment([MODEL], "none").fix({"augment.policy": "photometric"}))
    assert held.fixed["augment.hue.p"] == 0
    assert without_colours(augment([MODEL], "none").fix({"augment.policy": "geometric"}))[1] == ""


def test_a_trial_learns_from_bands_and_goes_on_only_on_the_same(tmp_path: Path) -> None:
    """Noise in one band, the ball in another: it learns, with statistics of train, which its checkpoint keeps."""
    root = mini.write_bands(tmp_path / "data", count=16)
    data = Folder(root, find(root, Said(channels=(5, 4))))
    ids = data.ids()
    seen = TrialData(data, tuple(ids[:12]), tuple(ids[12:]))
    flat = {"model.name": MODEL, "image_size": "48x64", "epochs": 6, "batch_size": 4, "optimizer.lr": 0.01,
            "augment.policy": "flip", "loss.name": "cross_entropy"}  # fmt: skip
    trial = Trial(TrialConfig.from_flat(flat), seen)
    mean, deviation = zip(*band_statistics(data, ids[:12]), strict=True)
    assert trial.model.normalisation == {"mean": mean, "std": deviation}
    assert band_statistics(data, ids) != band_statistics(data, ids[:12])
    assert trial.applied["model"]["inputs"] == 2
    losses = [trial.run_epoch()["metrics"]["train/loss"] for _ in range(2)]
    assert losses[1] < losses[0]
    checkpoint = trial.save(tmp_path / "checkpoints")
    again = Trial(TrialConfig.from_flat(flat), seen)
    again.restore(checkpoint)
    assert again.epoch == 2
    other = Folder(root, find(root, Said(channels=(4, 5))))
    with pytest.raises(CheckpointError, match="other bands"):
        Trial(TrialConfig.from_flat(flat), TrialData(other, seen.train, seen.val)).restore(checkpoint)
    publish(checkpoint, tmp_path / "model", label="best")
    model, record = rebuild_model(tmp_path / "model")
    assert input_channels(model) == 2
    assert model.state_dict().keys() == trial.model.state_dict().keys()
    assert list(record.normalisation["mean"]) == list(mean)
