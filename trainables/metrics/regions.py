"""Metrics of regions: all pixels of one class in one image, against what was predicted there."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from trainables.metrics.arrays import Confusions, Floats, class_ratio, margins, mean_over_classes, ratio
from trainables.metrics.pixels import iou
from trainables.metrics.registry import Metric, Replicates, register

IOU_THRESHOLDS = tuple(step / 10 for step in range(11))
"""0.0, 0.1 ... 1.0 as the nearest doubles (a running sum would give 0.30000000000000004)."""


def region_matches(confusions: Confusions, thresholds: Sequence[float] = IOU_THRESHOLDS) -> npt.NDArray[np.bool_]:
    """Which predicted (image, class) regions are true positives at each IoU threshold.

    A region is all pixels of a class in an image, void truth left out. It matches when the class is in the image's
    truth, IoU >= threshold and the overlap is not empty: at 0.0 any overlap will do, at 1.0 only equality.

    Args:
        confusions: Per-image confusion matrices of shape (N, C, C).
        thresholds: IoU thresholds in 0 .. 1.

    Returns:
        Booleans of shape (N, C, T).
    """
    overlap, _, _ = margins(confusions)
    with np.errstate(invalid="ignore"):
        reached = iou(confusions)[..., None] >= np.asarray(thresholds)
    return (overlap > 0)[..., None] & reached


def region_presence(confusions: Confusions) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
    """Which (image, class) regions exist in the truth and in the prediction, two arrays of shape (N, C)."""
    _, truth, predicted = margins(confusions)
    return truth > 0, predicted > 0


def region_scores(confusions: Confusions, thresholds: Sequence[float] = IOU_THRESHOLDS) -> dict[str, Floats]:
    """Precision, recall and F1 of regions per class and IoU threshold.

    Args:
        confusions: Per-image confusion matrices of shape (N, C, C).
        thresholds: IoU thresholds in 0 .. 1.

    Returns:
        `precision`, `recall`, `f1`, each of shape (C, T). A class in no region on either side is NaN, one with regions
        on one side only 0.
    """
    matched = region_matches(confusions, thresholds).sum(axis=0)
    in_truth, in_prediction = (present.sum(axis=0)[:, None] for present in region_presence(confusions))
    return {
        "precision": class_ratio(matched, in_prediction, in_truth, in_prediction),
        "recall": class_ratio(matched, in_truth, in_truth, in_prediction),
        "f1": class_ratio(2 * matched, in_truth + in_prediction, in_truth, in_prediction),
    }


def region_average_precision(
    confusions: Confusions,
    confidence: Floats,
    thresholds: Sequence[float] = IOU_THRESHOLDS,
    *,
    weights: npt.ArrayLike | None = None,
) -> Floats:
    """Average precision of regions per class and IoU threshold, ranked by confidence over all images.

    All-point interpolation as in PASCAL VOC since 2010 (Everingham et al., 2015, section 3.4.1): the area under the
    precision-recall curve after each precision was raised to the largest one at the same or a higher recall. Regions of
    equal confidence enter together, so that the order of images never matters.

    Args:
        confusions: Per-image confusion matrices of shape (N, C, C).
        confidence: Confidence of each predicted region, shape (N, C).
        thresholds: IoU thresholds in 0 .. 1.
        weights: How often each image counts, shape (..., N); once by default. Bootstrap replicates are such weights.

    Returns:
        Shape (..., C, T); NaN for a class without a region in the (weighted) truth.
    """
    in_truth, in_prediction = region_presence(confusions)
    matches = region_matches(confusions, thresholds)
    weight = np.ones(len(confusions)) if weights is None else np.asarray(weights, dtype=np.float64)
    result = np.full((*weight.shape[:-1], *matches.shape[1:]), np.nan)
    for index in range(matches.shape[1]):
        images = np.flatnonzero(in_prediction[:, index])
        images = images[np.argsort(-confidence[images, index], kind="stable")]
        ranked = weight[..., images]
        last_of_tie = np.append(np.diff(confidence[images, index]) != 0, True)[: len(images)]
        truth = weight[..., in_truth[:, index]].sum(axis=-1)
        all_predicted = np.cumsum(ranked, axis=-1)[..., last_of_tie]
        for step in range(matches.shape[2]):
            found = np.cumsum(ranked * matches[images, index, step], axis=-1)[..., last_of_tie]
            result[..., index, step] = ratio(_area_under_envelope(found, all_predicted), truth)
    return result


def _area_under_envelope(found: Floats, all_predicted: Floats) -> Floats:
    """Sum of each step in `found` times the largest precision from there on; both cumulative along the last axis."""
    precision_at = np.divide(found, all_predicted, out=np.zeros_like(found), where=all_predicted > 0)
    envelope = np.flip(np.maximum.accumulate(np.flip(precision_at, axis=-1), axis=-1), axis=-1)
    return np.asarray((np.diff(found, axis=-1, prepend=0.0) * envelope).sum(axis=-1))


def _mean_average_precision(replicates: Replicates) -> Floats:
    collected = replicates.collected
    values = region_average_precision(collected.confusions, collected.confidence, weights=replicates.weights)
    return np.asarray(mean_over_classes(np.moveaxis(values, -1, 0)).mean(axis=0))


register(
    Metric(
        name="map",
        words="mean AP of regions",
        definition="docs/METRICS.md#map",
        needs=frozenset({"confusion", "regions"}),
        of_replicates=_mean_average_precision,
    )
)
