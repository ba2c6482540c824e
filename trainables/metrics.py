"""What a prediction is worth: collectors that see every image once, and pure functions of what they counted.

Collectors (`process` an image at its mask's original size) hold sums only, so that any metric, any interval and any
subset of images can be computed later without the model. Every definition, with its formula and its treatment of void
and of absent classes, is in docs/METRICS.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from trainables.data.base import VOID

IGNORE = VOID
"""Truth value of void pixels: they count in no metric, on neither side."""

SCORE_LEVELS = 1024
"""Levels of a quantised score: about 43 a logit, which costs the average precision some 0.001 (docs/METRICS.md)."""

SCORE_LIMIT = 12.0
"""Largest logit that is told apart: a probability of 0.999994, where precision no longer changes."""

BLOCK_PIXELS = 2**15
"""Pixels of an image whose scores are worked on at once."""

IOU_THRESHOLDS = tuple(step / 10 for step in range(11))
"""0.0, 0.1 ... 1.0 as the nearest doubles (a running sum would give 0.30000000000000004)."""

Floats = npt.NDArray[np.float64]
Counts = npt.NDArray[Any]


class Collector(Protocol):
    """Sees every evaluated image once."""

    def process(self, image_id: str, logits: Tensor, prediction: Tensor, target: Tensor) -> None:
        """Takes in one image at its mask's original size, all three on one device.

        Args:
            image_id: The image's id.
            logits: Class scores before softmax, float of shape (C, H, W).
            prediction: Class ids, integers of shape (H, W): the argmax of `logits`.
            target: True class ids, integers of shape (H, W), with `IGNORE` for void.
        """


def confusion_matrix(prediction: Tensor, target: Tensor, classes: int) -> Tensor:
    """Counts pixels by true class (row) and predicted class (column); pixels whose truth is void are left out.

    Args:
        prediction: Class ids, integers of any shape.
        target: True class ids of the same shape; `IGNORE` is void.
        classes: Number of classes C.

    Returns:
        int64 tensor of shape (C, C) on the device of `prediction`.

    Raises:
        ValueError: If the shapes differ, or an id outside 0 .. C - 1 (void apart) occurs in either, also where the
            other is void: such pixels are never dropped in silence.
    """
    if prediction.shape != target.shape:
        raise ValueError(f"prediction has shape {tuple(prediction.shape)}, target {tuple(target.shape)}: must be equal")
    predicted, truth = prediction.reshape(-1), target.reshape(-1)
    if predicted.dtype != torch.uint8 or truth.dtype != torch.uint8:
        _reject_ids_beyond(255, predicted, truth, classes)
    # One count over all pairs of bytes: known ones, void ones and unknown ones come apart without a pass of their own.
    pairs = torch.bincount(truth.int() * 256 + predicted, minlength=256 * 256).view(256, 256)
    known, void = pairs[:classes, :classes], pairs[IGNORE, :classes]
    if known.sum() + void.sum() != predicted.numel():
        raise ValueError(_unknown_ids(predicted, truth, classes))
    return known.clone()


def _reject_ids_beyond(largest: int, predicted: Tensor, truth: Tensor, classes: int) -> None:
    """Only numbers of more than a byte can lie there, and only they are looked through."""
    for ids in (predicted, truth):
        if ids.numel() and (ids.min() < 0 or ids.max() > largest):
            raise ValueError(_unknown_ids(predicted, truth, classes))


def _unknown_ids(predicted: Tensor, truth: Tensor, classes: int) -> str:
    faults = []
    for side, ids in (("prediction", predicted), ("target", truth[truth != IGNORE])):
        outside = sorted(set(ids[(ids < 0) | (ids >= classes)].tolist()))
        if outside:
            faults.append(f"{side} holds the ids {', '.join(map(str, outside))}")
    return f"{' and '.join(faults)}: expected 0 .. {classes - 1}, in the target also {IGNORE} for void"


class ConfusionMatrix:
    """Sums the confusion matrix over images."""

    def __init__(self, classes: int) -> None:
        self.classes = classes
        self._total: Tensor | None = None

    def reset(self) -> None:
        """Forgets everything."""
        self._total = None

    def process(self, image_id: str, logits: Tensor, prediction: Tensor, target: Tensor) -> None:
        """See `Collector`."""
        self.update(prediction, target)

    def update(self, prediction: Tensor, target: Tensor) -> None:
        """Adds pixels without scores, of any (equal) shape."""
        matrix = confusion_matrix(prediction, target, self.classes)
        self._total = matrix if self._total is None else self._total + matrix

    def value(self) -> npt.NDArray[np.int64]:
        """The sum so far, shape (C, C): rows truth, columns prediction."""
        if self._total is None:
            return np.zeros((self.classes, self.classes), dtype=np.int64)
        return self._total.cpu().numpy()


class PerImageConfusion:
    """Keeps one confusion matrix an image: the source of every interval and of every failure."""

    def __init__(self, classes: int) -> None:
        self.classes = classes
        self.image_ids: list[str] = []
        self._matrices: list[npt.NDArray[np.int64]] = []

    def process(self, image_id: str, logits: Tensor, prediction: Tensor, target: Tensor) -> None:
        """See `Collector`."""
        self.image_ids.append(image_id)
        self._matrices.append(confusion_matrix(prediction, target, self.classes).cpu().numpy())

    def value(self) -> npt.NDArray[np.int64]:
        """Matrices of shape (N, C, C), in the order of `image_ids`."""
        return _stack(self._matrices, (self.classes, self.classes), np.int64)


class ScoreHistogram:
    """Keeps, per image and class, how many pixels of the class and how many others got each quantised score.

    Summed over any images, this is all that the average precision of pixels needs (`average_precision`).
    """

    def __init__(self, classes: int) -> None:
        self.classes = classes
        self._histograms: list[npt.NDArray[np.int32]] = []

    def process(self, image_id: str, logits: Tensor, prediction: Tensor, target: Tensor) -> None:
        """See `Collector`."""
        cells = self.classes * SCORE_LEVELS
        first_cell = (torch.arange(self.classes, device=target.device) * SCORE_LEVELS)[:, None]
        every = torch.zeros(cells, dtype=torch.long, device=target.device)
        own = torch.zeros_like(every)
        for rows in _row_blocks(target.shape):
            truth = target[rows].reshape(-1)
            known = truth != IGNORE
            cell = quantise_scores(logits[:, rows].reshape(self.classes, -1)[:, known]).add_(first_cell)
            every += torch.bincount(cell.reshape(-1), minlength=cells)
            own += torch.bincount(cell.gather(0, truth[known][None].long())[0], minlength=cells)
        counts = torch.stack([own, every - own]).reshape(2, self.classes, SCORE_LEVELS).transpose(0, 1)
        self._histograms.append(counts.int().contiguous().cpu().numpy())

    def value(self) -> npt.NDArray[np.int32]:
        """Counts of shape (N, C, 2, SCORE_LEVELS): pixels of the class first, then the others."""
        return _stack(self._histograms, (self.classes, 2, SCORE_LEVELS), np.int32)


class RegionConfidence:
    """Keeps the confidence of each predicted (image, class) region.

    It is the mean softmax probability of the class over the region's pixels (predicted as the class, truth not void).
    """

    def __init__(self, classes: int) -> None:
        self.classes = classes
        self._confidences: list[npt.NDArray[np.float64]] = []

    def process(self, image_id: str, logits: Tensor, prediction: Tensor, target: Tensor) -> None:
        """See `Collector`."""
        known = target != IGNORE
        predicted = prediction[known]
        blocks = [
            logits[:, rows].float().softmax(dim=0).gather(0, prediction[None, rows].long())[0]
            for rows in _row_blocks(target.shape)
        ]
        probability = torch.cat(blocks)[known].double()
        total = torch.bincount(predicted, weights=probability, minlength=self.classes)
        pixels = torch.bincount(predicted, minlength=self.classes)
        # 0 / 0 is the NaN that says: no such region.
        self._confidences.append((total / pixels).cpu().numpy())

    def value(self) -> Floats:
        """Confidences in 0 .. 1 of shape (N, C); NaN where the class is not predicted in the image."""
        return _stack(self._confidences, (self.classes,), np.float64)


def _row_blocks(shape: Sequence[int]) -> list[slice]:
    """Rows of an image (H, W), some `BLOCK_PIXELS` at a time.

    Scores of all classes and their intermediate results fit into a processor's cache that way; for a whole photograph
    they are gigabytes.
    """
    height, width = shape
    rows = max(1, BLOCK_PIXELS // max(width, 1))
    return [slice(top, top + rows) for top in range(0, height, rows)]


def _stack(items: Sequence[npt.NDArray[Any]], shape: tuple[int, ...], dtype: type) -> npt.NDArray[Any]:
    return np.stack(items) if items else np.zeros((0, *shape), dtype=dtype)


def quantise_scores(logits: Tensor) -> Tensor:
    """Turns class scores into levels that are evenly spaced in the logit of the softmax probability.

    Probabilities pile up at 0 and 1; their logits, log p - log(1 - p), do not.

    Args:
        logits: Class scores before softmax, shape (C, ...).

    Returns:
        int64 tensor of the same shape, 0 .. SCORE_LEVELS - 1; higher is more probable.
    """
    log_probability = logits.float().log_softmax(dim=0)
    # log(1 - p) without cancellation for small p; at p = 1 it is -inf and the score lands in the top level.
    log_odds = log_probability - torch.log(-torch.expm1(log_probability))
    level = (log_odds.clamp(-SCORE_LIMIT, SCORE_LIMIT) + SCORE_LIMIT) * (SCORE_LEVELS / (2 * SCORE_LIMIT))
    return level.long().clamp_(0, SCORE_LEVELS - 1)


def pixel_accuracy(matrix: Counts) -> Floats:
    """Share of pixels predicted right, over all classes.

    Args:
        matrix: Confusion matrices of shape (..., C, C), rows truth, columns prediction.

    Returns:
        Shape (...), in 0 .. 1; NaN without a pixel.
    """
    matrix = np.asarray(matrix)
    right = np.trace(matrix, axis1=-2, axis2=-1)
    return _ratio(right, matrix.sum(axis=(-2, -1)))


def iou(matrix: Counts) -> Floats:
    """Intersection over union per class: TP / (TP + FP + FN).

    Args:
        matrix: Confusion matrices of shape (..., C, C), rows truth, columns prediction.

    Returns:
        Shape (..., C), in 0 .. 1. A class in neither truth nor prediction is NaN, one in only one of them 0; the same
        holds for `precision`, `recall` and `f1`.
    """
    right, truth, predicted = _margins(matrix)
    return _per_class(right, truth + predicted - right, truth, predicted)


def precision(matrix: Counts) -> Floats:
    """Precision per class: TP / (TP + FP). Shapes and absent classes as in `iou`."""
    right, truth, predicted = _margins(matrix)
    return _per_class(right, predicted, truth, predicted)


def recall(matrix: Counts) -> Floats:
    """Recall per class: TP / (TP + FN). Shapes and absent classes as in `iou`."""
    right, truth, predicted = _margins(matrix)
    return _per_class(right, truth, truth, predicted)


def f1(matrix: Counts) -> Floats:
    """F1 (Dice) per class: 2 TP / (2 TP + FP + FN). Shapes and absent classes as in `iou`."""
    right, truth, predicted = _margins(matrix)
    return _per_class(2 * right, truth + predicted, truth, predicted)


def _margins(matrix: Counts) -> tuple[Counts, Counts, Counts]:
    matrix = np.asarray(matrix)
    return np.diagonal(matrix, axis1=-2, axis2=-1), matrix.sum(axis=-1), matrix.sum(axis=-2)


def _per_class(numerator: Counts, denominator: Counts, truth: Counts, predicted: Counts) -> Floats:
    absent = (truth == 0) & (predicted == 0)
    return np.where(absent, np.nan, np.nan_to_num(_ratio(numerator, denominator), nan=0.0))


def _ratio(numerator: Counts, denominator: Counts) -> Floats:
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(np.true_divide(numerator, denominator), dtype=np.float64)


def mean_over_classes(values: Floats, class_set: npt.ArrayLike | None = None) -> Floats:
    """Mean over the last axis, without NaN.

    Args:
        values: Shape (..., C).
        class_set: Booleans of shape (C,) or (..., C): the classes that may count; all by default.

    Returns:
        Shape (...); NaN where no class is left.
    """
    counted = ~np.isnan(values)
    if class_set is not None:
        counted = counted & np.asarray(class_set, dtype=bool)
    return _ratio(np.where(counted, values, 0.0).sum(axis=-1), counted.sum(axis=-1))


def summary(matrix: Counts, prefix: str = "val/") -> dict[str, float]:
    """The means that a trial reports: `miou`, `pixel_accuracy`, `f1`, `precision`, `recall`, each behind `prefix`.

    Args:
        matrix: One confusion matrix over the whole split, shape (C, C).
        prefix: Put before each name.
    """
    return {
        f"{prefix}miou": float(mean_over_classes(iou(matrix))),
        f"{prefix}pixel_accuracy": float(pixel_accuracy(matrix)),
        f"{prefix}f1": float(mean_over_classes(f1(matrix))),
        f"{prefix}precision": float(mean_over_classes(precision(matrix))),
        f"{prefix}recall": float(mean_over_classes(recall(matrix))),
    }


def average_precision(histogram: Counts) -> Floats:
    """Pixel-wise average precision from quantised scores: the sum of (R_n - R_(n-1)) P_n over the distinct scores.

    The step-wise sum of `sklearn.metrics.average_precision_score`, to which it is equal on the quantised scores.

    Args:
        histogram: Counts of shape (..., 2, L): positives, then negatives, by rising score. May be weighted sums.

    Returns:
        Shape (...), in 0 .. 1; NaN without positives.
    """
    falling = np.flip(np.asarray(histogram, dtype=np.float64), axis=-1)
    cumulative = np.cumsum(falling, axis=-1)
    found, all_predicted = cumulative[..., 0, :], cumulative.sum(axis=-2)
    precision_at = np.divide(found, all_predicted, out=np.zeros_like(found), where=all_predicted > 0)
    return _ratio((falling[..., 0, :] * precision_at).sum(axis=-1), found[..., -1])


def region_matches(confusions: Counts, thresholds: Sequence[float] = IOU_THRESHOLDS) -> npt.NDArray[np.bool_]:
    """Which predicted (image, class) regions are true positives at each IoU threshold.

    A region is all pixels of a class in an image, void truth left out. It matches when the class is in the image's
    truth, IoU >= threshold and the overlap is not empty: at 0.0 any overlap will do, at 1.0 only equality.

    Args:
        confusions: Per-image confusion matrices of shape (N, C, C).
        thresholds: IoU thresholds in 0 .. 1.

    Returns:
        Booleans of shape (N, C, T).
    """
    overlap = np.diagonal(confusions, axis1=-2, axis2=-1)
    with np.errstate(invalid="ignore"):
        reached = iou(confusions)[..., None] >= np.asarray(thresholds)
    return (overlap > 0)[..., None] & reached


def region_presence(confusions: Counts) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
    """Which (image, class) regions exist in the truth and in the prediction, two arrays of shape (N, C)."""
    _, truth, predicted = _margins(confusions)
    return truth > 0, predicted > 0


def region_scores(confusions: Counts, thresholds: Sequence[float] = IOU_THRESHOLDS) -> dict[str, Floats]:
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
        "precision": _per_class(matched, in_prediction, in_truth, in_prediction),
        "recall": _per_class(matched, in_truth, in_truth, in_prediction),
        "f1": _per_class(2 * matched, in_truth + in_prediction, in_truth, in_prediction),
    }


def region_average_precision(
    confusions: Counts,
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
            result[..., index, step] = _ratio(_area_under_envelope(found, all_predicted), truth)
    return result


def _area_under_envelope(found: Floats, all_predicted: Floats) -> Floats:
    """Sum of each step in `found` times the largest precision from there on; both cumulative along the last axis."""
    precision_at = np.divide(found, all_predicted, out=np.zeros_like(found), where=all_predicted > 0)
    envelope = np.flip(np.maximum.accumulate(np.flip(precision_at, axis=-1), axis=-1), axis=-1)
    return np.asarray((np.diff(found, axis=-1, prepend=0.0) * envelope).sum(axis=-1))
