"""Large images: tiles in training, windows in an evaluation, whose result is that of the whole image."""

from __future__ import annotations

import math
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torch import Tensor, nn

from trainables.augmentations import Policy, PolicySpec
from trainables.config import TrialConfig
from trainables.data import DATASETS
from trainables.data.cache.decoded import DecodedCache
from trainables.data.resizing import resize_image
from trainables.data.tiles import MOST_TILES, Side, pixels_of_classes, tiles_per_epoch, window_count
from trainables.execution import TrialData
from trainables.loaders import TrainingSet, evaluation_loader
from trainables.loops import evaluate
from trainables.metrics import ConfusionMatrix
from trainables.options import CROP, TILE
from trainables.trial import Trial
from trainables.windows import blended

from ..mini import write

lengths = st.integers(1, 400)
overlaps = st.floats(0, 0.9)


@given(lengths, lengths, overlaps)
def test_windows_cover_a_side_and_overlap_by_no_less_than_was_asked(length: int, window: int, overlap: float) -> None:
    side = Side.covered(length, window, overlap)
    assert side.starts[0] == 0 and side.starts[-1] + side.window == length
    assert side.window == min(length, window)
    steps = [later - earlier for earlier, later in pairwise(side.starts)]
    assert all(0 < step <= max(1, window * (1 - overlap)) + 1 for step in steps)
    # One fewer would leave a gap, or overlap less.
    assert len(steps) <= 1 or (length - side.window) / (len(steps) - 1) > max(1, math.floor(window * (1 - overlap)))


@given(lengths, lengths, overlaps)
def test_every_pixel_counts_somewhere_and_inner_borders_do_not(length: int, window: int, overlap: float) -> None:
    side = Side.covered(length, window, overlap)
    total, weights = np.zeros(length), side.weights()
    for start, weight in zip(side.starts, weights, strict=True):
        assert weight.min() >= 0 and weight.max() <= 1
        total[start : start + side.window] += weight
    assert total.min() > 0
    assert weights[0][0] == weights[-1][-1] == 1, "a border of the image is as good as its middle"
    for (first, left), (second, right) in pairwise(zip(side.starts, weights, strict=True)):
        quarter = math.floor((first + side.window - second) / 4)
        assert not right[:quarter].any() and not left[side.window - quarter :].any()


class Looks(nn.Module):
    """Logits from so many pixels around each, at a resolution `stride` times coarser."""

    def __init__(self, reach: int, stride: int = 1) -> None:
        super().__init__()
        torch.manual_seed(3)
        kernel = 2 * reach + 1
        self.layer = nn.Conv2d(3, 3, kernel, padding=reach, stride=1)
        self.pool = nn.AvgPool2d(stride)

    def forward(self, images: Tensor, *, resize: bool = True) -> dict[str, Tensor]:
        return {"out": self.pool(self.layer(images))}


def picture(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(7).integers(0, 256, (height, width, 3), dtype=np.uint8)


def run(model: nn.Module, seen: list[tuple[int, ...]]):  # type: ignore[no-untyped-def]
    def forward(images: Tensor) -> Tensor:
        seen.append(tuple(images.shape))
        with torch.no_grad():
            return model(images.permute(0, 3, 1, 2).float() / 255)["out"]

    return forward


@settings(max_examples=30, deadline=None)
@given(st.integers(20, 150), st.integers(20, 150), st.integers(1, 5))
def test_windows_give_what_the_whole_image_gives_a_model_that_looks_no_further(height: int, width: int, once: int):
    model, image, seen = Looks(4).eval(), picture(height, width), []
    found = list(blended(run(model, seen), image, (64, 64), at_once=once))
    with torch.no_grad():
        whole = model(torch.from_numpy(image).permute(2, 0, 1)[None].float() / 255)["out"][0]
    # 64 pixels that overlap by 16: a model that looks 4 pixels far.
    torch.testing.assert_close(torch.cat(found, dim=1), whole, atol=1e-5, rtol=1e-5)
    assert sum(shape[0] for shape in seen) == window_count((height, width), (64, 64))
    assert max(shape[0] for shape in seen) <= once


def test_windows_agree_with_the_whole_image_of_a_coarse_model_and_not_of_one_that_looks_further() -> None:
    # 208 = 64 + 3 * 48: windows begin at multiples of the model's stride.
    image, seen = picture(208, 256), []
    for reach, stride, alike in ((2, 2, True), (24, 2, False)):
        model = Looks(reach, stride).eval()
        found = torch.cat(list(blended(run(model, seen), image, (64, 64), at_once=4)), dim=1)
        with torch.no_grad():
            whole = model(torch.from_numpy(image).permute(2, 0, 1)[None].float() / 255)["out"]
        enlarged = nn.functional.interpolate(whole, size=(208, 256), mode="bilinear", align_corners=False)[0]
        assert torch.allclose(found, enlarged, atol=1e-5) is alike


HALF = f"{TILE}@0.5"
SIZES = ((48, 64), (40, 150), (130, 49), (30, 30))
"""Wider, higher and smaller than a tile."""


@pytest.fixture(scope="module")
def mixed(tmp_path_factory: pytest.TempPathFactory):  # type: ignore[no-untyped-def]
    """Images of four sizes."""
    root = write(tmp_path_factory.mktemp("tiles") / "mixed", count=8, sizes=SIZES, seed=4)
    return DATASETS.get("folder")(root=root)


class Keeps:
    """Keeps what it is given."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, Tensor, Tensor]] = []

    def process(self, image_id: str, logits: Tensor, prediction: Tensor, target: Tensor) -> None:
        assert torch.equal(prediction, logits.argmax(0).to(torch.uint8))
        assert prediction.shape == target.shape
        self.seen.append((image_id, logits, prediction))


def test_evaluation_at_half_the_scale_gives_logits_of_the_masks_own_size(mixed) -> None:  # type: ignore[no-untyped-def]
    """Those of the smaller image, enlarged; masks are compared as they are."""
    model, kept, ids = Looks(2).eval(), Keeps(), list(mixed.ids())[:4]
    loader = evaluation_loader(mixed, ids, size=(32, 32), batch_size=2, resize=HALF)
    evaluate(model, loader, [kept])
    mean, std = (np.array(values) for values in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    for image_id, logits, _ in kept.seen:
        size = mixed.mask(image_id).shape
        half = resize_image(mixed.image(image_id), tuple(round(side / 2) for side in size))
        filled = np.pad(half, (*((0, max(0, 32 - side)) for side in half.shape[:2]), (0, 0)), mode="reflect")
        with torch.no_grad():
            whole = model(torch.from_numpy((filled / 255 - mean) / std).permute(2, 0, 1)[None].float())["out"]
        shown = whole[..., : half.shape[0], : half.shape[1]]
        enlarged = nn.functional.interpolate(shown, size=size, mode="bilinear", align_corners=False)[0]
        torch.testing.assert_close(logits, enlarged, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("batch_size", [1, 3])
def test_evaluation_in_windows_equals_that_of_whole_images(mixed, batch_size: int) -> None:  # type: ignore[no-untyped-def]
    model, kept, matrix, alone = Looks(4).eval(), Keeps(), ConfusionMatrix(3), ConfusionMatrix(3)
    ids = list(mixed.ids())
    loader = evaluation_loader(mixed, ids, size=(64, 64), batch_size=batch_size, resize=TILE)
    evaluate(model, loader, [kept, matrix])
    evaluate(model, loader, [alone])  # which needs no logits, and is given none
    assert [image_id for image_id, *_ in kept.seen] == ids
    expected = np.zeros((3, 3), np.int64)
    mean, std = (np.array(values) for values in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    for image_id, logits, prediction in kept.seen:
        image, mask = mixed.image(image_id), mixed.mask(image_id)
        assert prediction.shape == mask.shape
        # A side that is shorter than a tile goes on as its reflection.
        beside = [(0, max(0, 64 - side)) for side in mask.shape]
        filled = np.pad(image, (*beside, (0, 0)), mode="reflect")
        inputs = torch.from_numpy((filled / 255 - mean) / std).permute(2, 0, 1)[None].float()
        with torch.no_grad():
            whole = model(inputs)["out"][0, :, : mask.shape[0], : mask.shape[1]]
        torch.testing.assert_close(logits, whole, atol=1e-4, rtol=1e-4)
        np.add.at(expected, (mask[mask != 255], whole.argmax(0).numpy()[mask != 255]), 1)
    assert np.array_equal(matrix.value(), alone.value())
    assert np.abs(matrix.value() - expected).sum() <= 4  # ties decided by rounding


def test_an_epoch_has_as_many_tiles_as_the_pixels_fill_and_draws_each_anew(mixed) -> None:  # type: ignore[no-untyped-def]
    ids, size = list(mixed.ids())[:4], (32, 32)
    counts = [tiles_per_epoch(mixed.image(image_id).shape[:2], size) for image_id in ids]
    assert counts == [3, 6, 7, 1]
    assert tiles_per_epoch((4000, 6000), (512, 512)) == MOST_TILES
    policy = Policy(PolicySpec.from_flat({"policy": "none"}), size, resize=TILE)
    cache = DecodedCache(mixed, size, limit_bytes=0, resize=TILE)
    samples = TrainingSet(cache, ids, policy, seed=0, tiles=counts)
    assert len(samples) == sum(counts)
    drawn = {epoch: [samples[(epoch, index)] for index in range(len(samples))] for epoch in (1, 2)}
    assert [sample.image_id for sample in drawn[1]] == [i for i, n in zip(ids, counts, strict=True) for _ in range(n)]
    for image_id, count in zip(ids, counts, strict=True):
        parts = {one.image.tobytes() for epoch in (1, 2) for one in drawn[epoch] if one.image_id == image_id}
        assert len(parts) >= (1 if count == 1 else 2 * count - 2), "a few places may be drawn twice"
    again = TrainingSet(cache, ids, policy, seed=0, tiles=counts)
    for index in reversed(range(len(samples))):
        assert np.array_equal(again[(2, index)].image, drawn[2][index].image)
        assert again[(2, index)].mix_seed == drawn[2][index].mix_seed
    assert len({sample.mix_seed for epoch in (1, 2) for sample in drawn[epoch]}) == 2 * len(samples)


@pytest.mark.parametrize("family", ["none", "geometric"])
@pytest.mark.parametrize("resize", [TILE, HALF, CROP])
def test_parts_that_are_drawn_to_show_a_class_do_so_and_others_are_where_they_were(
    tmp_path: Path, family: str, resize: str
) -> None:
    root = write(tmp_path / "rare", count=2, sizes=((240, 320),))
    for path in (root / "masks").iterdir():
        mask = np.zeros((240, 320), np.uint8)
        mask[:, 160:] = 1
        mask[200:206, 20:26] = 2  # 1 in 2000 pixels
        Image.fromarray(mask).save(path)
    data = DATASETS.get("folder")(root=root)
    ids, size = list(data.ids()), (48, 48)
    spec = PolicySpec.from_flat({"policy": family, **({"rotate.p": 0, "shift.p": 0} if family != "none" else {})})
    cache = DecodedCache(data, size, limit_bytes=10**7, resize=resize, folder=tmp_path / "cache")
    cache.build(ids)

    def drawn(share: float) -> list[np.ndarray]:
        policy = Policy(spec, size, resize=resize)
        samples = TrainingSet(cache, ids, policy, seed=0, tiles=[60, 60], class_tiles=share)
        return [samples[(1, index)].mask for index in range(120)]

    uniform, half, always = drawn(0), drawn(0.5), drawn(1)
    shows = [np.mean([(mask == 2).any() for mask in masks]) for masks in (uniform, half, always)]
    assert shows[2] > shows[1] > shows[0] + 0.05, "one of three classes, all alike, is the rare one"
    assert shows[2] > 0.33
    alike = np.mean([np.array_equal(one, other) for one, other in zip(uniform, half, strict=True)])
    assert 0.3 < alike < 0.75, "half of the parts are those that were drawn uniformly"
    assert all(np.array_equal(one, other) for one, other in zip(half, drawn(0.5), strict=True))


def test_pixels_of_classes_are_of_the_class_and_spread_over_it() -> None:
    mask = np.full((300, 200), 255, np.uint8)
    mask[10:250, :] = 3
    mask[299, 199] = 7
    found = pixels_of_classes(mask, seed=1, most=500)
    assert set(found) == {3, 7} and found[7].tolist() == [[299, 199]]
    rows, columns = found[3].T
    assert (mask[rows, columns] == 3).all() and len(rows) == 500
    assert abs(rows.mean() - 129.5) < 10 and abs(columns.mean() - 99.5) < 8


@pytest.mark.parametrize("resize", [CROP, TILE, HALF])
def test_resumed_trial_on_parts_matches_uninterrupted_run(mixed, resize: str, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    data = TrialData(mixed, tuple(mixed.ids())[:6], tuple(mixed.ids())[6:])
    flat = {"image_size": "32x32", "resize": resize, "batch_size": 3, "epochs": 2, "augment.policy": "geometric",
            "training.class_tiles": 0.5}  # fmt: skip
    config = TrialConfig.from_flat({**flat, "model.name": "lraspp_mobilenet_v3_small"})
    whole, resumed = (Trial(config, data) for _ in range(2))
    assert whole.applied["train_samples"] == {CROP: 6, TILE: 3 + 6 + 7 + 1 + 3 + 6, HALF: 1 + 2 + 2 + 1 + 1 + 2}[resize]
    assert whole.steps_per_epoch == whole.applied["train_samples"] // 3
    assert (whole.applied["resize"], whole.applied["train_images"]) == (resize, 6)
    whole.run_epoch()
    resumed.restore(whole.save(tmp_path))
    for trial in (whole, resumed):
        trial.run_epoch()
    assert whole.history[1]["metrics"] == resumed.history[1]["metrics"]
    for one, other in zip(whole.model.state_dict().values(), resumed.model.state_dict().values(), strict=True):
        assert torch.equal(one, other)


def test_whole_crops_are_in_batches_of_one_size(mixed) -> None:  # type: ignore[no-untyped-def]
    ids = sorted(mixed.ids(), key=lambda image_id: mixed.image(image_id).shape)
    loader = evaluation_loader(mixed, ids, size=(32, 32), batch_size=3, resize=CROP)
    shapes = [tuple(batch.images.shape) for batch in loader]
    assert [image_id for batch in loader for image_id in batch.ids] == ids
    assert shapes == [(2, 32, 32, 3), (2, 32, 120, 3), (2, 32, 43, 3), (2, 85, 32, 3)]
