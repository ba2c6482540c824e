"""How images come to a model's input: their aspect, void beside them, and the size where nobody says one."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from tests.mini import write
from trainables.data import DATASETS, SegmentationData
from trainables.data.base import VOID
from trainables.data.cache.decoded import DecodedCache
from trainables.data.resizing import content_size, fit_image, fit_mask, resize_image, resize_mask
from trainables.data.usual_size import usual_size
from trainables.options import CROP, LETTERBOX, RESIZES, STRETCH, TILE

sides = st.integers(1, 300)
sizes = st.tuples(sides, sides)


@given(sizes, sizes)
def test_an_image_keeps_its_aspect_to_the_pixel_and_cannot_be_larger(image: tuple[int, int], canvas: tuple[int, int]):
    rows, columns = content_size(image, canvas, LETTERBOX)
    scale = min(Fraction(canvas[0], image[0]), Fraction(canvas[1], image[1]))
    assert rows == canvas[0] or columns == canvas[1]
    for found, side, most in ((rows, image[0], canvas[0]), (columns, image[1], canvas[1])):
        assert 1 <= found <= most
        assert abs(found - side * scale) <= Fraction(1, 2) or found == 1
    assert content_size(image, canvas, STRETCH) == canvas


@given(sizes, st.integers(1, 4))
def test_an_image_of_the_inputs_aspect_fills_it(image: tuple[int, int], factor: int) -> None:
    canvas = (image[0] * factor, image[1] * factor)
    assert content_size(image, canvas, LETTERBOX) == canvas
    assert content_size(canvas, image, LETTERBOX) == image
    assert content_size(image, canvas, CROP) == canvas and content_size(canvas, image, CROP) == image


@given(sizes, sizes)
def test_a_crop_covers_the_input_with_the_images_aspect_and_a_tile_is_not_resized(
    image: tuple[int, int], canvas: tuple[int, int]
) -> None:
    rows, columns = content_size(image, canvas, CROP)
    scale = max(Fraction(canvas[0], image[0]), Fraction(canvas[1], image[1]))
    assert rows == canvas[0] or columns == canvas[1]
    for found, side, least in ((rows, image[0], canvas[0]), (columns, image[1], canvas[1])):
        assert found >= least and abs(found - side * scale) <= Fraction(1, 2)
    assert content_size(image, canvas, TILE) == image


@settings(max_examples=25)
@given(st.tuples(st.integers(40, 90), st.integers(40, 90)), st.tuples(st.integers(32, 64), st.integers(32, 64)))
def test_a_mask_stays_over_its_image_and_what_is_beside_it_is_void(size: tuple[int, int], canvas: tuple[int, int]):
    row, column = (np.arange(side) * 3 // side for side in size)
    mask = (np.add.outer(row, 2 * column) % 5).astype(np.uint8)
    image = np.repeat(mask[..., None] * 40, 3, axis=2)
    seen_image, seen_mask = fit_image(image, canvas, LETTERBOX), fit_mask(mask, canvas, LETTERBOX)
    rows, columns = content_size(size, canvas, LETTERBOX)
    assert seen_image.shape == (*canvas, 3) and seen_mask.shape == canvas
    known = np.zeros(canvas, bool)
    known[:rows, :columns] = True
    assert np.array_equal(seen_mask == VOID, ~known)
    assert np.array_equal(seen_mask[known].reshape(rows, columns), resize_mask(mask, (rows, columns)))
    largest = ndimage.maximum_filter(seen_mask, 5, mode="nearest")
    inside = known & (largest == ndimage.minimum_filter(seen_mask, 5, mode="nearest"))
    assert np.array_equal(np.round(seen_image[..., 0] / 40)[inside], seen_mask[inside])
    # Beside it the image goes on as a mirror shows it: numpy's own reflection.
    reflected = np.pad(
        resize_image(image, (rows, columns)), ((0, canvas[0] - rows), (0, canvas[1] - columns), (0, 0)), mode="reflect"
    )
    assert np.array_equal(seen_image, reflected)


@pytest.fixture(scope="module")
def mixed(tmp_path_factory: pytest.TempPathFactory) -> SegmentationData:
    """Two wide images for each tall one, and one of the input's aspect."""
    root = write(tmp_path_factory.mktemp("mixed") / "data", count=8, sizes=((48, 64), (64, 48), (48, 64), (30, 90)))
    return DATASETS.get("folder")(root=root)


@pytest.mark.parametrize("resize", RESIZES)
def test_the_cache_gives_what_is_decoded_on_the_fly(mixed: SegmentationData, resize: str, tmp_path: Path) -> None:
    size = (24, 32)
    cache = DecodedCache(mixed, size, limit_bytes=10**8, resize=resize, folder=tmp_path)
    cache.build(mixed.ids(), mixed.ids())
    fly = DecodedCache(mixed, size, limit_bytes=0, resize=resize)
    for image_id in mixed.ids():
        for kept, decoded in ((cache.train_arrays, fly.train_arrays), (cache.eval_arrays, fly.eval_arrays)):
            for one, other in zip(kept(image_id), decoded(image_id), strict=True):
                assert np.array_equal(one, other)
        image, mask = mixed.image(image_id), mixed.mask(image_id)
        shown, truth = cache.eval_arrays(image_id)
        assert np.array_equal(shown, fit_image(image, size, resize)), "at the input's size"
        assert np.array_equal(truth, mask), "at its own size, whatever the input's"
        kept_image, kept_mask = cache.train_arrays(image_id)
        assert kept_image.shape[:2] == kept_mask.shape
        if resize == LETTERBOX:
            height, width = kept_mask.shape
            assert abs(height * mask.shape[1] - width * mask.shape[0]) <= max(mask.shape), "its aspect, to a pixel"


def test_images_of_the_inputs_aspect_are_kept_once_for_both(mixed: SegmentationData, tmp_path: Path) -> None:
    wide = [image_id for image_id in mixed.ids() if mixed.mask(image_id).shape == (48, 64)]
    stretched = DecodedCache(mixed, (24, 32), limit_bytes=10**8, resize=STRETCH, folder=tmp_path)
    stretched.build(wide, wide)
    fitted = DecodedCache(mixed, (24, 32), limit_bytes=10**8, resize=LETTERBOX, folder=tmp_path)
    assert fitted.plan(wide, wide).missing_bytes == 0
    assert fitted.plan(mixed.ids(), ()).missing_bytes > 0, "others are other bytes"


def test_size_where_nobody_says_one_has_the_aspect_of_the_median_image(mixed: SegmentationData) -> None:
    usual = usual_size(mixed)
    assert (usual.median, usual.own) == ((48, 64), (256, 256))
    height, width = usual.size
    assert height % 8 == width % 8 == 0 and height * 4 == width * 3
    assert 0.9 <= height * width / 256**2 <= 1.1
    # 3:4 in 4:3 takes 9/16 of it, 1:3 in 3:4 takes 4/9.
    assert usual.void_share(usual.size) == pytest.approx(1 - np.mean([1, 9 / 16, 1, 4 / 9]), abs=0.01)


@pytest.mark.parametrize("size", [(64, 64), (32, 32)])
def test_data_set_whose_own_size_has_the_aspect_of_its_images_keeps_it(tmp_path: Path, size: tuple[int, int]) -> None:
    data = DATASETS.get("folder")(root=write(tmp_path / "data", count=4, sizes=(size,)))
    assert usual_size(data).size == data.default_image_size == (256, 256)
