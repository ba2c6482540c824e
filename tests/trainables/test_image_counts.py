"""Confusion matrices without their zeros give the digits of whole ones."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from trainables.metrics import (
    METRICS,
    ConfusionsAlone,
    ImageCounts,
    Replicates,
    all_metrics,
    class_metric,
    f1,
    image_counts,
    iou,
    margins,
    pixel_accuracy,
    precision,
    recall,
    region_average_precision,
    region_scores,
    weighted_sum,
)

IMAGES = 6
EMPTY, CROWDED = 2, 4
"""An image that is all void, and one with many pairs of classes."""

Whole = npt.NDArray[np.int64]


@pytest.fixture(params=[1, 2, 300, 1000])
def whole(request: pytest.FixtureRequest) -> Whole:
    """Random counts, most of them zero; the first image has the largest that there may be."""
    classes: int = request.param
    rng = np.random.default_rng(classes)
    matrices = np.zeros((IMAGES, classes, classes), np.int64)
    for place in range(IMAGES):
        true, predicted = rng.integers(0, classes, (2, 500 if place == CROWDED else 4))
        matrices[place, true, predicted] = rng.integers(1, 10_000, len(true))
    matrices[EMPTY] = 0
    matrices[0, 0, 0] = 2**40 + 1
    return matrices


@pytest.mark.parametrize("axis", [0, 1, 2, -1, (0, 1), (0, 2), (1, 2)])
def test_sums_are_those_of_the_array(whole: Whole, axis: int | tuple[int, ...]) -> None:
    found = ImageCounts.of_matrices(whole).sum(axis=axis)
    assert found.dtype == np.int64
    np.testing.assert_array_equal(found, whole.sum(axis=axis))


def test_all_that_metrics_compute_is_equal_to_the_digit(whole: Whole, monkeypatch: pytest.MonkeyPatch) -> None:
    sparse = ImageCounts.of_matrices(whole)
    classes = whole.shape[1]
    assert sparse.shape == whole.shape and len(sparse) == IMAGES
    np.testing.assert_array_equal(sparse, whole)
    np.testing.assert_array_equal(list(sparse), whole)
    for one, other in zip(margins(sparse), margins(whole), strict=True):
        np.testing.assert_array_equal(one, other)
    rng = np.random.default_rng(0)
    weights = rng.integers(0, 4, (5, IMAGES)).astype(float)
    monkeypatch.setattr(image_counts, "SUMMED_VALUES", 1000)
    np.testing.assert_array_equal(weighted_sum(weights, sparse), weighted_sum(weights, whole))
    confidence = np.where(whole.sum(axis=1) > 0, rng.random((IMAGES, classes)).round(1), np.nan)
    for name, values in region_scores(whole).items():
        np.testing.assert_array_equal(region_scores(sparse)[name], values)
    np.testing.assert_array_equal(
        region_average_precision(sparse, confidence, (0.5,), weights=weights),
        region_average_precision(whole, confidence, (0.5,), weights=weights),
    )
    replicates = Replicates(ConfusionsAlone(sparse), weights)
    for function in (pixel_accuracy, iou, f1, precision, recall):
        np.testing.assert_array_equal(function(replicates.margins), function(weighted_sum(weights, whole)))
    metrics = [one for one in all_metrics() if one.needs == {"confusion"}]
    metrics.append(class_metric(METRICS.get("iou"), "0", list(map(str, range(classes)))))
    for metric in metrics:
        own, expected = (metric(Replicates(ConfusionsAlone(one), weights)) for one in (sparse, whole))
        np.testing.assert_array_equal(own, expected)
        if metric.of_classes:
            np.testing.assert_array_equal(
                *(metric.of_classes(ConfusionsAlone(one)) for one in (sparse, whole))  # type: ignore[misc]
            )


def test_a_file_and_its_images_one_by_one_hold_the_same(whole: Whole) -> None:
    sparse = ImageCounts.of_matrices(whole)
    again = ImageCounts.of(sparse.arrays())
    joined = ImageCounts.joined([ImageCounts.of_matrices(part) for part in (whole[:1], whole[1:3], whole[3:])])
    for one in (again, joined):
        np.testing.assert_array_equal(one, whole)
        assert one.arrays().keys() == sparse.arrays().keys()
    assert sum(array.nbytes for array in sparse.arrays().values()) <= 16 + 16 * np.count_nonzero(whole)
    assert not sparse[EMPTY].any() and sparse[-1].tolist() == whole[-1].tolist()
    np.testing.assert_array_equal(sparse[::2, 0], whole[::2, 0])
    with pytest.raises(IndexError):
        sparse[IMAGES]


def test_no_image_at_all_is_an_empty_array() -> None:
    none = ImageCounts.of_matrices(np.zeros((0, 3, 3), np.int64))
    assert np.asarray(none).shape == (0, 3, 3)
    assert none.sum(axis=0).tolist() == [[0] * 3] * 3 and none.sum(axis=2).shape == (0, 3)
    assert none.weighted(np.ones((2, 0))).tolist() == [[[0.0] * 3] * 3] * 2
