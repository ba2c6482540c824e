"""Geometric transformations against independent geometry."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from trainables.augmentations import Policy, PolicySpec, resize
from trainables.augmentations.geometry import Rotate, ScaleCrop, Shift
from trainables.data.base import VOID
from trainables.data.resizing import Size, content_size
from trainables.options import CROP, LETTERBOX, STRETCH, TILE

from .drawn import SIZE, alone, blobs, drawn, photo


def shapes(least: int, most: int) -> st.SearchStrategy[tuple[int, int]]:
    return st.tuples(st.integers(least, most), st.integers(least, most))


@pytest.mark.parametrize("name", ["scale_crop", "hflip", "rotate", "shift"])
@pytest.mark.parametrize("seed", range(4))
def test_mask_can_be_recomputed_from_an_image_that_shows_it(name: str, seed: int) -> None:
    mask = blobs((90, 120), seed)
    image = np.repeat(mask[..., None] * 40, 3, axis=2)
    moved_image, moved_mask = Policy(alone(name), SIZE)(image, mask, seed=seed)
    largest = ndimage.maximum_filter(moved_mask, 5, mode="constant", cval=VOID)
    away_from_seams = largest == ndimage.minimum_filter(moved_mask, 5)
    seen = away_from_seams & (moved_mask != VOID)
    assert seen.mean() > 0.05
    assert np.array_equal(np.round(moved_image[..., 0] / 40)[seen], moved_mask[seen])


@settings(max_examples=40)
@given(shapes(60, 150), st.integers(0, 2**16), st.sampled_from(["scale_crop", "shift"]))
def test_an_image_that_keeps_its_aspect_stays_under_its_mask(size: tuple[int, int], seed: int, name: str) -> None:
    # Three cells along each side: none is so thin that it falls between the pixels that a mask is shrunk to.
    row, column = (np.arange(side) * 3 // side for side in size)
    mask = (np.add.outer(row, 2 * column) % 5).astype(np.uint8)
    image = np.repeat(mask[..., None] * 40, 3, axis=2)
    moved_image, moved_mask = Policy(alone(name), SIZE, resize=LETTERBOX)(image, mask, seed=seed)
    assert moved_image.shape == (*SIZE, 3) and moved_mask.shape == SIZE
    inside = ndimage.maximum_filter(moved_mask, 5) == ndimage.minimum_filter(moved_mask, 5)
    seen = inside & (moved_mask != VOID)
    assert seen.any()
    assert np.array_equal(np.round(moved_image[..., 0] / 40)[seen], moved_mask[seen])


@given(shapes(16, 400), st.integers(0, 2**16))
def test_zoom_keeps_the_aspect_and_fills_what_the_image_has_room_for(size: tuple[int, int], seed: int) -> None:
    zoom = ScaleCrop(SIZE, 2.0, 1.0)
    zoom.resize = LETTERBOX
    found = parameters(zoom, seed, size)
    window = [part.stop - part.start for part in found["cut"]]
    fits = content_size(size, SIZE, LETTERBOX)
    for part, inner, side, most in zip(window, found["inner"], size, SIZE, strict=True):
        assert (part == side) or (inner == most), "what is cut off lies outside"
    scales = sorted(inner / part for part, inner in zip(window, found["inner"], strict=True))
    rounding = max((1 / part + 1 / inner) for part, inner in zip(window, found["inner"], strict=True))
    assert scales[1] / scales[0] - 1 <= rounding
    factor = max(
        inner / side * part_of
        for inner, side, part_of in zip(
            found["inner"], fits, (s / w for s, w in zip(size, window, strict=True)), strict=True
        )
    )
    assert 0.5 * (1 - rounding) <= factor <= 2 * (1 + rounding)


@pytest.mark.parametrize("family", ["none", "geometric", "trivial", "all"])
@pytest.mark.parametrize("size", [(30, 40), (60, 80), (90, 120)])
def test_an_image_of_the_inputs_aspect_is_augmented_alike_either_way(family: str, size: tuple[int, int]) -> None:
    spec = PolicySpec.from_flat({"policy": family})
    for seed in range(4):
        stretched, *others = (
            Policy(spec, SIZE, resize=one)(photo(size), blobs(size), seed=seed) for one in (STRETCH, LETTERBOX, CROP)
        )
        for other in others:
            assert np.array_equal(stretched[0], other[0]) and np.array_equal(stretched[1], other[1])


@pytest.mark.parametrize(("resize", "size", "content"), [
    (TILE, (90, 150), (90, 150)), (TILE, (40, 150), (40, 150)), (TILE, (40, 50), (40, 50)),
    (CROP, (90, 150), (60, 100)), (CROP, (240, 100), (192, 80)),
])  # fmt: skip
def test_training_sees_a_part_of_the_image_another_one_for_every_seed(resize: str, size: Size, content: Size) -> None:
    # Each pixel says where it lies; the mask is in step with the image.
    rows, columns = np.mgrid[: size[0], : size[1]].astype(np.uint8)
    image, mask = np.stack([rows * 0.8, columns, columns * 0], axis=2).astype(np.uint8), columns // 2
    policy, corners = Policy(PolicySpec.from_flat({"policy": "none"}), SIZE, resize=resize), set()
    for seed in range(8):
        part, truth = policy(image, mask, seed=seed)
        assert part.shape == (*SIZE, 3) and truth.shape == SIZE
        inside = [min(side, whole) for side, whole in zip(SIZE, content, strict=True)]
        known = np.zeros(SIZE, bool)
        known[: inside[0], : inside[1]] = True
        assert np.array_equal(truth == VOID, ~known), "beside a smaller image is void"
        scale = [whole / side for whole, side in zip(content, size, strict=True)]
        for channel, factor in ((0, 0.8 / scale[0]), (1, 1 / scale[1])):
            steps = np.diff(part[..., channel][known].reshape(inside).astype(int), axis=channel)
            assert steps.mean() == pytest.approx(factor, abs=0.05)
        assert np.abs(part[..., 1] / 2 - truth)[known].max() <= 2
        corners.add((int(part[0, 0, 0]), int(part[0, 0, 1])))
    room = [whole - side for side, whole in zip(SIZE, content, strict=True)]
    assert len(corners) == 1 if max(room) <= 0 else len(corners) > 4


@pytest.mark.parametrize("seed", range(5))
def test_rotated_mask_is_scipys_with_void_from_outside(seed: int) -> None:
    result = drawn(Rotate(40.0, 1.0), seed=seed)
    (a, b, x), (c, d, y) = result["matrix"]
    backward = np.linalg.inv(np.array([[d, c, y], [b, a, x], [0, 0, 1]]))
    expected = ndimage.affine_transform(
        blobs(), backward[:2, :2], backward[:2, 2], order=0, mode="grid-constant", cval=VOID
    )
    assert (result["mask"] == expected).mean() > 0.985
    assert (result["mask"] == VOID).mean() == pytest.approx((expected == VOID).mean(), abs=0.01)


@pytest.mark.parametrize("seed", range(5))
def test_shift_is_numpys_padding(seed: int) -> None:
    """Reflected in the image, void in the mask."""
    result = drawn(Shift(0.5, 1.0), seed=seed)
    rows, columns = result["cut"]
    top, bottom, left, right = result["frame"]
    pads = ((top, bottom), (left, right))
    assert np.array_equal(result["image"], np.pad(photo()[rows, columns], (*pads, (0, 0)), mode="reflect"))
    assert np.array_equal(result["mask"], np.pad(blobs()[rows, columns], pads, constant_values=VOID))
    assert result["mask"].shape == SIZE


def parameters(transform: Any, seed: int, size: tuple[int, int]) -> dict[str, Any]:
    """What a transformation draws for an image of that size."""
    transform.set_random_seed(seed)
    drawn: dict[str, Any] = transform.get_params_dependent_on_data({"shape": (*size, 3)}, {})
    return drawn


def test_angles_and_shifts_stay_within_their_limits_and_reach_them() -> None:
    angles, shifts = [], []
    for seed in range(200):
        matrix = parameters(Rotate(20.0, 1.0), seed, SIZE)["matrix"]
        angles.append(math.degrees(math.atan2(matrix[0, 1], matrix[0, 0])))
        top, bottom, left, right = parameters(Shift(0.2, 1.0), seed, SIZE)["frame"]
        shifts.append(((top - bottom) / SIZE[0], (left - right) / SIZE[1]))
    for values, limit in ((angles, 20.0), (np.ravel(shifts), 0.2)):
        assert np.abs(values).max() <= limit
        assert min(values) < -0.9 * limit and max(values) > 0.9 * limit


@pytest.mark.parametrize("seed", range(6))
def test_zoom_takes_the_nearest_pixel_centre_and_pads_with_void(seed: int) -> None:
    source = (90, 120)
    result = drawn(ScaleCrop(SIZE, 2.0, 1.0), seed=seed, size=source)
    rows, columns = result["cut"]
    top, _, left, _ = result["frame"]
    expected = np.full(SIZE, VOID)
    cut = blobs(source)[rows, columns]
    inner = result["inner"]
    for y in range(inner[0]):
        for x in range(inner[1]):
            nearest_y = math.floor((y + 0.5) * cut.shape[0] / inner[0])
            nearest_x = math.floor((x + 0.5) * cut.shape[1] / inner[1])
            expected[top + y, left + x] = cut[nearest_y, nearest_x]
    assert (result["mask"] == expected).mean() > 0.99
    assert np.array_equal(result["mask"] == VOID, expected == VOID)


def test_zoom_factors_are_log_uniform_in_their_limits() -> None:
    scales = []
    for seed in range(300):
        result = parameters(ScaleCrop((600, 800), 2.0, 1.0), seed, SIZE)
        zoomed_in = SIZE[0] / (result["cut"][0].stop - result["cut"][0].start)
        scales.append(math.log2(zoomed_in * result["inner"][0] / 600))
    assert min(scales) > -1.01 and max(scales) < 1.1
    assert np.histogram(scales, bins=4, range=(-1, 1))[0].min() > 45


def test_flip_is_numpys() -> None:
    image, mask = Policy(alone("hflip"), SIZE)(photo(), blobs(), seed=0)
    assert np.array_equal(image, photo()[:, ::-1])
    assert np.array_equal(mask, blobs()[:, ::-1])


def test_resizing_keeps_image_and_mask_in_step() -> None:
    mask = blobs((95, 133))
    image = np.repeat(mask[..., None] * 40, 3, axis=2)
    small_image, small_mask = resize(image, mask, (40, 50))
    expected = mask[np.floor((np.arange(40) + 0.5) * 95 / 40).astype(int)]
    expected = expected[:, np.floor((np.arange(50) + 0.5) * 133 / 50).astype(int)]
    assert (small_mask == expected).mean() > 0.99
    inside = ndimage.maximum_filter(small_mask, 3) == ndimage.minimum_filter(small_mask, 3)
    assert np.array_equal(np.round(small_image[..., 0] / 40)[inside], small_mask[inside])
