import pickle
from collections.abc import Callable
from fractions import Fraction
from math import ceil, floor
from pathlib import Path

import numpy as np
import pytest

from trainables.data import DATASETS
from trainables.data import files as files_module
from trainables.data.cache import DecodedCache, class_pixels, resize_image, resize_mask

MakeFolder = Callable[..., Path]


def test_shrinking_an_image_takes_the_mean_of_the_area() -> None:
    image = np.random.default_rng(0).integers(0, 256, (12, 20, 3), np.uint8)
    expected = image.reshape(4, 3, 5, 4, 3).mean(axis=(1, 3))
    assert np.abs(resize_image(image, (4, 5)).astype(float) - expected).max() <= 0.5 + 1e-6


def test_enlarging_an_image_is_bilinear_between_pixel_centres() -> None:
    image = np.zeros((1, 2, 3), np.uint8)
    image[0, 1] = 200
    assert resize_image(image, (1, 4))[0, :, 0].tolist() == [0, 50, 150, 200]


@pytest.mark.parametrize("size", [(5, 7), (12, 16), (31, 29), (12, 40), (3, 16)])
def test_resized_mask_takes_the_pixel_under_each_centre(size: tuple[int, int]) -> None:
    mask = np.random.default_rng(1).choice(np.array([0, 3, 200, 255], np.uint8), (12, 16))
    resized = resize_mask(mask, size)
    assert resized.shape == size
    for y in range(size[0]):
        for x in range(size[1]):
            # A centre that falls exactly between two pixels may take either.
            row, column = Fraction(2 * y + 1, 2) * Fraction(12, size[0]), Fraction(2 * x + 1, 2) * Fraction(16, size[1])
            near = mask[max(0, ceil(row) - 1) : floor(row) + 1, max(0, ceil(column) - 1) : floor(column) + 1]
            assert resized[y, x] in near


def test_train_and_eval_arrays_have_the_promised_sizes(make_folder: MakeFolder) -> None:
    data = DATASETS.get("folder")(root=make_folder(1))
    cache = DecodedCache(data, (6, 8), limit_bytes=10**6)
    image, mask = cache.train_arrays("a00")
    assert (image.shape, mask.shape) == ((6, 8, 3), (6, 8))
    image, mask = cache.eval_arrays("a00")
    assert (image.shape, mask.shape) == ((6, 8, 3), (12, 16))
    np.testing.assert_array_equal(mask, data.mask("a00"))


def test_files_are_decoded_once_within_the_limit(make_folder: MakeFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    data = DATASETS.get("folder")(root=make_folder(3))
    reads: list[str] = []
    whole = files_module.read_image
    monkeypatch.setattr(files_module, "read_image", lambda path: (reads.append(path.stem), whole(path))[1])
    cache = DecodedCache(data, (6, 8), limit_bytes=10**6)
    for _ in range(3):
        for image_id in data.ids():
            cache.train_arrays(image_id)
            cache.eval_arrays(image_id)
    assert sorted(reads) == ["a00", "a01", "a02"]
    assert cache.used_bytes == 3 * (6 * 8 * 3 + 6 * 8 + 12 * 16)


def test_beyond_the_limit_the_same_arrays_are_decoded_on_the_fly(make_folder: MakeFolder) -> None:
    data = DATASETS.get("folder")(root=make_folder(6))
    roomy, tight = DecodedCache(data, (6, 8), limit_bytes=10**6), DecodedCache(data, (6, 8), limit_bytes=400)
    for _ in range(2):
        for image_id in data.ids():
            for kept, fresh in zip(roomy.train_arrays(image_id), tight.train_arrays(image_id), strict=True):
                np.testing.assert_array_equal(kept, fresh)
    assert 0 < tight.used_bytes <= 400


def test_work_in_place_does_not_reach_the_cache(make_folder: MakeFolder) -> None:
    cache = DecodedCache(DATASETS.get("folder")(root=make_folder(1)), (6, 8), limit_bytes=10**6)
    before = [array.copy() for array in cache.train_arrays("a00")]
    for array in cache.train_arrays("a00"):
        array[:] = 0
    for old, new in zip(before, cache.train_arrays("a00"), strict=True):
        np.testing.assert_array_equal(old, new)


def test_cache_travels_empty_and_works_on_arrival(make_folder: MakeFolder) -> None:
    cache = DecodedCache(DATASETS.get("folder")(root=make_folder(2)), (6, 8), limit_bytes=10**6)
    image, _ = cache.train_arrays("a01")
    arrived = pickle.loads(pickle.dumps(cache))
    assert (arrived.used_bytes, arrived.size) == (0, (6, 8))
    np.testing.assert_array_equal(arrived.train_arrays("a01")[0], image)


def test_class_pixels_equal_a_loop_over_the_masks(make_folder: MakeFolder) -> None:
    data = DATASETS.get("folder")(root=make_folder(5))
    ids = ["a04", "a01"]
    expected = [sum(int((data.mask(i) == c).sum()) for i in ids) for c in range(3)]
    assert class_pixels(data, ids).tolist() == expected
