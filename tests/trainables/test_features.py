"""Feature maps of a frozen backbone: computed once, the same whatever is kept, and never another backbone's."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from trainables import features
from trainables.augmentations import Policy, PolicySpec
from trainables.augmentations.views import views_of
from trainables.config import TrialConfig
from trainables.execution import Execution, TrialData
from trainables.features import FeaturesOnce, Source
from trainables.loops import Forward, every_nth, on_lattice, to_input
from trainables.models import build_model
from trainables.models.base import SegmentationModel
from trainables.options import CROP, LETTERBOX, STRETCH, TILE
from trainables.trial import Trial

SIZE = (24, 32)
FROZEN: dict[str, Any] = {
    "model.name": "lraspp_efficientnet_lite0",
    "model.weights": "imagenet",
    "image_size": "32x48",
    "epochs": 2,
    "batch_size": 4,
    "training.freeze": "backbone",
    "augment.policy": "flip",
}


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SEGSWEEP_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many images each forward pass of a backbone had, from `FeaturesOnce`."""
    seen: list[int] = []
    run: Callable[..., Any] = FeaturesOnce._run

    def counting(self: FeaturesOnce, image: np.ndarray) -> Any:
        seen.append(1)
        return run(self, image)

    monkeypatch.setattr(FeaturesOnce, "_run", counting)
    return seen


def trained(data: TrialData, execution: Execution | None = None, **values: Any) -> Trial:
    trial = Trial(TrialConfig.from_flat({**FROZEN, **values}), data, execution=execution)
    while not trial.done:
        trial.run_epoch()
    return trial


def metrics(trial: Trial) -> list[dict[str, float]]:
    return [entry["metrics"] for entry in trial.history]


@pytest.mark.parametrize(("p", "count"), [(0.0, 1), (0.5, 2), (1.0, 1)])
@pytest.mark.parametrize("resize", [LETTERBOX, STRETCH])
def test_views_are_all_that_a_policy_makes_of_an_image(p: float, count: int, resize: str) -> None:
    rng = np.random.default_rng(0)
    image, mask = rng.integers(0, 255, (40, 30, 3), np.uint8), rng.integers(0, 9, (40, 30), np.uint8)
    policy = Policy(PolicySpec.from_flat({"policy": "flip", "hflip.p": p}), SIZE, resize=resize)
    views = views_of(policy, most=2)
    assert views is not None and len(views.all) == count
    seen = set()
    for seed in range(20):
        made, made_mask = policy(image, mask, seed=seed)
        view = views.drawn(seed)
        np.testing.assert_array_equal(views.image(image, view), made)
        np.testing.assert_array_equal(views.mask(mask, view), made_mask)
        seen.add(view)
    assert seen == {*views.all}


@pytest.mark.parametrize("policy", ["geometric", "photometric", "mix", "trivial"])
def test_a_policy_without_end_has_no_views(policy: str) -> None:
    assert views_of(Policy(PolicySpec.from_flat({"policy": policy}), SIZE), most=2) is None


@pytest.mark.parametrize("resize", [CROP, TILE])
def test_parts_of_an_image_are_no_views(resize: str) -> None:
    policy = Policy(PolicySpec.from_flat({"policy": "none"}), SIZE, resize=resize)
    assert views_of(policy, most=2) is None


@pytest.mark.parametrize("height", [24, 25, 26])
@pytest.mark.parametrize("width", [33, 32])
@pytest.mark.parametrize("coarse", [(3, 4), (5, 7), (24, 32)])
def test_lattice_holds_the_full_logits_at_the_kept_pixels(height: int, width: int, coarse: tuple[int, int]) -> None:
    logits = torch.randn(2, 3, *coarse, generator=torch.Generator().manual_seed(0))
    full = functional.interpolate(logits, size=(height, width), mode="bilinear", align_corners=False)
    found = on_lattice(logits, (height, width), 3)
    assert torch.allclose(found, every_nth(full, 3), atol=1e-5)
    assert found.shape[-2:] == (height // 3, width // 3)


def test_lattice_has_a_pixel_for_each_block_at_every_size() -> None:
    for side in range(3, 700):
        masks, logits = torch.zeros(1, side, 32), torch.zeros(1, 1, (side + 7) // 8, 4)
        assert on_lattice(logits, (side, 32), 3).shape[-2:] == every_nth(masks, 3).shape[-2:]


def test_images_are_stretched_to_whole_patches_before_their_features_are_kept() -> None:
    model = build_model("linear_test_vit", ("a", "b")).eval()
    kept = FeaturesOnce(model, size=(24, 40), precision="fp32", limit_bytes=2**20)
    images = torch.randint(256, (1, 24, 40, 3), dtype=torch.uint8)
    with torch.no_grad():
        expected = model(to_input(images, model.normalisation, "cpu"))["out"]
        row = kept.row(Source.of_pixels(lambda: images[0].numpy()))
        found = Forward(model, model.normalisation, torch.device("cpu"))(kept.batch([row]))
        torch.testing.assert_close(found["out"], expected)


def test_decoding_features_is_the_model() -> None:
    model = build_model("fcn_resnet18", ["a", "b"], weights="none").train()
    model.backbone.eval()
    images: Tensor = torch.randn(2, 3, 32, 48)
    for resize in (True, False):
        whole = model(images, resize=resize)
        parts = model.decode(model.backbone(images), (32, 48), resize=resize)
        assert whole.keys() == parts.keys() == {"out", "aux"}
        assert whole["out"].shape == parts["out"].shape


def test_each_view_runs_through_the_backbone_once_for_all_trials(mini_data: TrialData, runs: list[int]) -> None:
    first = trained(mini_data)
    images = 2 * len(mini_data.train) + len(mini_data.val)
    assert first.features is not None and first.applied["features_once"]
    assert images < len(runs) <= images + 1  # and one to learn the shapes
    runs.clear()
    second = trained(mini_data, **{"optimizer.lr": 1e-2, "loss.name": "dice", "seed": 1})
    assert len(runs) == 1
    assert metrics(second) != metrics(first)


def test_digits_do_not_depend_on_what_is_kept(mini_data: TrialData, own_cache: Path) -> None:
    cold, warm = metrics(trained(mini_data)), metrics(trained(mini_data))
    assert warm == cold
    for path in (own_cache / "features").iterdir():
        path.unlink()
    trial = Trial(TrialConfig.from_flat(FROZEN), mini_data)
    assert trial.features is not None
    trial.features._store._slots.clear()  # as if evicted
    trial.run_epoch(), trial.run_epoch()
    assert metrics(trial) == cold


def test_digits_agree_with_the_model_run_whole(mini_data: TrialData) -> None:
    whole = trained(mini_data, Execution(cache_bytes=0))
    assert whole.features is None and not whole.applied["features_once"]
    for once, every in zip(metrics(trained(mini_data)), metrics(whole), strict=True):
        assert once["train/loss"] == pytest.approx(every["train/loss"], rel=1e-4)
        assert once["val/miou"] == pytest.approx(every["val/miou"], abs=2e-3)


def test_resumed_equals_undisturbed(mini_data: TrialData, tmp_path: Path) -> None:
    begun = Trial(TrialConfig.from_flat({**FROZEN, "training.ema": 0.9}), mini_data)
    begun.run_epoch()
    kept = begun.save(tmp_path)
    resumed = Trial(TrialConfig.from_flat({**FROZEN, "training.ema": 0.9}), mini_data)
    resumed.restore(kept)
    resumed.run_epoch()
    assert metrics(resumed) == metrics(trained(mini_data, **{"training.ema": 0.9}))


@pytest.mark.parametrize(
    "values",
    [{"training.freeze": "stages"}, {"training.freeze": "none"}, {"augment.policy": "geometric"}],
    ids=lambda values: "-".join(map(str, values.values())),
)
def test_what_learns_or_never_recurs_is_not_kept(mini_data: TrialData, values: dict[str, Any]) -> None:
    assert Trial(TrialConfig.from_flat({**FROZEN, **values}), mini_data).features is None


def test_more_than_the_cache_may_hold_is_not_begun(mini_data: TrialData, own_cache: Path) -> None:
    trial = Trial(TrialConfig.from_flat(FROZEN), mini_data)
    assert trial.features is not None
    needed = trial.features.bytes * (2 * len(mini_data.train) + len(mini_data.val))
    assert Trial(TrialConfig.from_flat(FROZEN), mini_data, execution=Execution(cache_bytes=needed)).features
    less = Trial(TrialConfig.from_flat(FROZEN), mini_data, execution=Execution(cache_bytes=needed - 1))
    assert less.features is None


def test_a_full_disk_costs_time_and_no_digit(
    mini_data: TrialData, own_cache: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    kept = metrics(trained(mini_data, epochs=1))
    for path in (own_cache / "features").iterdir():
        path.unlink()
    usage = type(shutil.disk_usage("/"))
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(10**9, 10**9, 0))
    assert metrics(trained(mini_data, epochs=1)) == kept
    assert not list((own_cache / "features").glob("*.u8"))
    assert "run through the backbone again" in caplog.text


def test_images_are_not_read_once_their_features_are_kept(
    mini_data: TrialData, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = metrics(trained(mini_data))

    def read(*arguments: Any, **options: Any) -> Any:
        raise AssertionError("an image was read")

    monkeypatch.setattr("trainables.augmentations.views.fit_image", read)
    monkeypatch.setattr("trainables.data.cache.decoded.fill_image", read)
    trial = trained(mini_data, Execution(workers=2))
    assert metrics(trial) == expected
    assert trial.train_loader.num_workers == trial.val_loader.num_workers == 0, "nothing is left for a process to do"


def test_other_sizes_and_other_models_share_nothing(mini_data: TrialData, runs: list[int]) -> None:
    trained(mini_data, epochs=1)
    images = 2 * len(mini_data.train) + len(mini_data.val)
    for values in ({"image_size": "32x64"}, {"model.name": "fcn_efficientnet_lite0"}):
        runs.clear()
        trained(mini_data, epochs=1, **values)
        assert len(runs) >= images, values


def test_a_damaged_pack_is_run_again(mini_data: TrialData, own_cache: Path, caplog: pytest.LogCaptureFixture) -> None:
    cold = metrics(trained(mini_data))
    (pack,) = (own_cache / "features").glob("*.u8")
    content = bytearray(pack.read_bytes())
    content[len(content) // 2] ^= 255
    pack.write_bytes(content)
    assert metrics(trained(mini_data)) == cold
    assert "run through the backbone again" in caplog.text


def test_key_names_what_features_depend_on(monkeypatch: pytest.MonkeyPatch) -> None:
    def identity(precision: str = "fp32", seed: int = 0) -> bytes:
        torch.manual_seed(seed)
        model = build_model("lraspp_mobilenet_v3_small", ["a"], weights="none").eval()
        assert isinstance(model, SegmentationModel)
        return FeaturesOnce(model, size=(32, 32), precision=precision, limit_bytes=0)._identity

    assert identity() == identity() != identity("bf16")
    assert identity() != identity(seed=1), "other weights"
    before = identity()
    monkeypatch.setattr(features, "_FORMAT", features._FORMAT + 1)
    assert identity() != before
