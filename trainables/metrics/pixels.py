"""Metrics of pixels: from the confusion matrix of a split, and from the scores of its pixels."""

from __future__ import annotations

import numpy as np

from trainables.metrics.arrays import (
    Confusions,
    Counts,
    Floats,
    Margins,
    class_ratio,
    margins,
    mean_over_classes,
    ratio,
    weighted_sum,
)
from trainables.metrics.registry import Collected, Metric, Replicates, confusion_metric, register


@confusion_metric(
    "pixel_accuracy",
    words="pixel accuracy",
    definition="docs/METRICS.md#pixel_accuracy",
    reported_as="pixel_accuracy",
    of_margins=True,
)
def pixel_accuracy(matrix: Confusions | Margins) -> Floats:
    """Share of pixels predicted right, over all classes.

    Args:
        matrix: Confusion matrices of shape (..., C, C), rows truth, columns prediction; or their margins.

    Returns:
        Shape (...), in 0 .. 1; NaN without a pixel.
    """
    right, truth, _ = margins(matrix)
    return ratio(right.sum(axis=-1), truth.sum(axis=-1))


@confusion_metric(
    "iou", words="mIoU", class_words="IoU", definition="docs/METRICS.md#iou", reported_as="miou", of_margins=True
)
def iou(matrix: Confusions | Margins) -> Floats:
    """Intersection over union per class: TP / (TP + FP + FN).

    Args:
        matrix: Confusion matrices of shape (..., C, C), rows truth, columns prediction; or their margins.

    Returns:
        Shape (..., C), in 0 .. 1. A class in neither truth nor prediction is NaN, one in only one of them 0; the same
        holds for `precision`, `recall` and `f1`.
    """
    right, truth, predicted = margins(matrix)
    return class_ratio(right, truth + predicted - right, truth, predicted)


@confusion_metric(
    "f1", words="mean F1", class_words="F1", definition="docs/METRICS.md#f1", reported_as="f1", of_margins=True
)
def f1(matrix: Confusions | Margins) -> Floats:
    """F1 (Dice) per class: 2 TP / (2 TP + FP + FN). Shapes and absent classes as in `iou`."""
    right, truth, predicted = margins(matrix)
    return class_ratio(2 * right, truth + predicted, truth, predicted)


@confusion_metric(
    "precision",
    words="mean precision",
    class_words="Precision",
    definition="docs/METRICS.md#precision",
    reported_as="precision",
    of_predictions=True,
    of_margins=True,
)
def precision(matrix: Confusions | Margins) -> Floats:
    """Precision per class: TP / (TP + FP). Shapes and absent classes as in `iou`."""
    right, truth, predicted = margins(matrix)
    return class_ratio(right, predicted, truth, predicted)


@confusion_metric(
    "recall",
    words="mean recall",
    class_words="Recall",
    definition="docs/METRICS.md#recall",
    reported_as="recall",
    of_margins=True,
)
def recall(matrix: Confusions | Margins) -> Floats:
    """Recall per class: TP / (TP + FN). Shapes and absent classes as in `iou`."""
    right, truth, predicted = margins(matrix)
    return class_ratio(right, truth, truth, predicted)


def average_precision(histogram: Counts) -> Floats:
    """Pixel-wise average precision from counted scores: the sum of (R_n - R_(n-1)) P_n over the distinct scores.

    The step-wise sum of `sklearn.metrics.average_precision_score`, to which it is equal on the rounded scores.

    Args:
        histogram: Counts of shape (..., 2, L): positives, then negatives, by rising score. May be weighted sums.

    Returns:
        Shape (...), in 0 .. 1; NaN without positives.
    """
    falling = np.flip(np.asarray(histogram, dtype=np.float64), axis=-1)
    cumulative = np.cumsum(falling, axis=-1)
    found, all_predicted = cumulative[..., 0, :], cumulative.sum(axis=-2)
    precision_at = np.divide(found, all_predicted, out=np.zeros_like(found), where=all_predicted > 0)
    return ratio((falling[..., 0, :] * precision_at).sum(axis=-1), found[..., -1])


def _mean_pixel_ap(replicates: Replicates) -> Floats:
    none = np.full(len(replicates.weights), np.nan)
    each = [
        _class_ap(replicates.collected, class_id, replicates.weights) if pixels else none
        for class_id, pixels in enumerate(replicates.split.sum(axis=1))
    ]
    return mean_over_classes(np.stack(each, axis=-1))


def _class_ap(collected: Collected, class_id: int, weights: Floats) -> Floats:
    """Average precision of one class's pixels, weights of shape (R, N) to (R,).

    That of the split, from finely rounded scores, and how far the replicate's lies from it where scores of single
    images are counted, more coarsely. One class and some images at a time, for the histograms of all classes, of all
    images, or of all replicates, would fill the memory. Counts are whole numbers: the order of sums does not matter.
    """
    totals = collected.score_totals(class_id)
    replicates: Floats | None = None
    start = 0
    for histograms in collected.histogram_blocks(class_id):
        if replicates is None:
            levels = histograms.shape[-1]
            split = totals.reshape(2, levels, -1).sum(axis=-1)
            # Levels that no score has are most in a small or untrained model.
            scored = np.flatnonzero(split.any(axis=0))
            replicates = np.zeros((len(weights), 2, len(scored)))
        own = weights[:, start : start + len(histograms)]
        replicates += weighted_sum(own, np.take(histograms, scored, axis=-1))
        start += len(histograms)
    if replicates is None:
        return np.full(len(weights), np.nan)
    moved = average_precision(replicates) - average_precision(split)
    return np.clip(average_precision(totals) + moved, 0.0, 1.0)


def _pixel_ap_of_classes(collected: Collected) -> Floats:
    pixels = collected.confusions.sum(axis=(0, 2))
    # Without positives it is NaN; of many classes most may have none, and each would be read from a file.
    return np.array(
        [average_precision(collected.score_totals(one)) if pixels[one] else np.nan for one in range(len(pixels))]
    )


register(
    Metric(
        name="ap",
        words="mean pixel AP",
        class_words="Pixel AP",
        definition="docs/METRICS.md#ap",
        needs=frozenset({"confusion", "scores"}),
        of_replicates=_mean_pixel_ap,
        of_classes=_pixel_ap_of_classes,
    )
)
