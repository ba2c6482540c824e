"""Pixels counted again from masks, one pair of classes at a time, and the scores of classes and regions from them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

Mask = npt.NDArray[np.uint8 | np.uint16]
Integers = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]

STEPS = 10
"""IoU thresholds are 0/10, 1/10 ... 10/10."""


@dataclass(frozen=True)
class Recount:
    """Pixels of each true and predicted class in each image; void truth is left out.

    Attributes:
        pairs: Rows truth, columns prediction, shape (N, C, C).
    """

    pairs: Integers

    @cached_property
    def hit(self) -> Integers:
        """Right pixels of each class in each image, shape (N, C)."""
        return np.stack([self.pairs[:, one, one] for one in range(self.pairs.shape[1])], axis=1)

    @cached_property
    def truth(self) -> Integers:
        """True pixels, shape (N, C)."""
        return np.asarray(self.pairs.sum(axis=2))

    @cached_property
    def predicted(self) -> Integers:
        """Predicted pixels, shape (N, C)."""
        return np.asarray(self.pairs.sum(axis=1))

    @property
    def image_iou(self) -> Floats:
        """IoU of each class in each image, shape (N, C); NaN for a class in neither mask."""
        return share(self.hit, self.truth + self.predicted - self.hit)

    @property
    def wrong(self) -> Integers:
        """Wrong pixels of each image, shape (N,)."""
        return np.asarray((self.truth - self.hit).sum(axis=1))

    def sums(self) -> tuple[Integers, Integers, Integers]:
        """Right, true and predicted pixels of each class over the split, each of shape (C,)."""
        return self.hit.sum(axis=0), self.truth.sum(axis=0), self.predicted.sum(axis=0)

    def class_values(self) -> dict[str, Floats]:
        """`iou`, `f1`, `precision`, `recall` of each class over the split, shape (C,)."""
        return class_values(*self.sums())

    def scores(self) -> dict[str, float]:
        """`pixel_accuracy`, and the means over classes of `class_values`."""
        means = {name: mean(values) for name, values in self.class_values().items()}
        return {"pixel_accuracy": float(self.hit.sum() / max(1, self.truth.sum())), **means}

    def thresholds(self, confidence: Floats) -> dict[str, Floats]:
        """`precision`, `recall`, `f1` and `ap` of regions, means over classes, at each IoU threshold, shape (11,).

        Args:
            confidence: Of each predicted region, shape (N, C).
        """
        true, predicted = ((array > 0).sum(axis=0) for array in (self.truth, self.predicted))
        found: dict[str, list[float]] = {"precision": [], "recall": [], "f1": []}
        for step in range(STEPS + 1):
            matched = self.matches(step).sum(axis=0)
            parts = {"precision": predicted, "recall": true, "f1": (true + predicted) / 2}
            for name, whole in parts.items():
                values = np.where(true + predicted == 0, np.nan, np.nan_to_num(share(matched, whole)))
                found[name].append(mean(values))
        once = np.ones((1, len(self.pairs)))
        ap = region_precision(self, confidence, once)[0]
        return {**{name: np.array(values) for name, values in found.items()}, "ap": mean_of_columns(ap)}

    def matches(self, step: int) -> Flags:
        """Which predicted regions are right at the threshold step / 10, shape (N, C)."""
        # hit / union >= step / 10 in whole numbers
        union = self.truth + self.predicted - self.hit
        return np.asarray((self.hit > 0) & (STEPS * self.hit >= step * union))

    def size_iou(self, least: float, most: float) -> Floats:
        """IoU of the true regions whose share of their image's known pixels is in [least, most), shape (N, C).

        NaN where there is none, or it has another size.
        """
        part = self.truth / np.maximum(1, self.truth.sum(axis=1, keepdims=True))
        inside = (self.truth > 0) & (part >= least) & (part < most)
        return np.where(inside, self.image_iou, np.nan)


def count_pairs(truth: Mask, prediction: Mask, classes: int) -> Integers:
    """Pixels of one image by true class (row) and predicted class (column), shape (C, C)."""
    pairs = np.zeros((classes, classes), np.int64)
    for class_id in np.unique(truth[truth < classes]).tolist():
        names, counts = np.unique(prediction[truth == class_id], return_counts=True)
        pairs[class_id, names] = counts
    return pairs


def class_values(
    hit: npt.NDArray[np.generic], truth: npt.NDArray[np.generic], predicted: npt.NDArray[np.generic]
) -> dict[str, Floats]:
    """`iou`, `f1`, `precision`, `recall` from right, true and predicted pixels, all of one shape.

    NaN for a class in neither truth nor prediction; 0 for one in only one of them.
    """
    hit, truth, predicted = (np.asarray(part, np.float64) for part in (hit, truth, predicted))
    parts = {"iou": truth + predicted - hit, "f1": (truth + predicted) / 2, "precision": predicted, "recall": truth}
    absent = truth + predicted == 0
    return {name: np.where(absent, np.nan, np.nan_to_num(share(hit, whole))) for name, whole in parts.items()}


def region_precision(one: Recount, confidence: Floats, counted: npt.NDArray[np.generic]) -> Floats:
    """Average precision of regions by class and IoU threshold, all-point interpolation, shape (R, C, 11).

    Args:
        one: Of N images.
        confidence: Of each predicted region, shape (N, C).
        counted: Whether (or how often) each image counts in each of R splits, shape (R, N).

    Returns:
        NaN for a class without a true region in the split.
    """
    classes = one.pairs.shape[1]
    result = np.full((len(counted), classes, STEPS + 1), np.nan)
    for class_id in range(classes):
        truths = counted @ (one.truth[:, class_id] > 0).astype(np.float64)
        images = np.flatnonzero(one.predicted[:, class_id] > 0)
        _, rank = np.unique(-confidence[images, class_id], return_inverse=True)
        ranks = int(rank.max(initial=-1)) + 1
        chosen = counted[:, images].astype(np.float64)
        seen = np.cumsum(_by_rank(chosen, rank, ranks), axis=1)
        for step in range(STEPS + 1):
            right = chosen * one.matches(step)[images, class_id]
            gained = _by_rank(right, rank, ranks)
            precision = np.nan_to_num(share(np.cumsum(gained, axis=1), seen))
            best = np.flip(np.maximum.accumulate(np.flip(precision, 1), axis=1), 1)
            area = np.einsum("rk,rk->r", gained, best)
            result[:, class_id, step] = share(area, truths)
    return result


def _by_rank(values: Floats, rank: Integers, ranks: int) -> Floats:
    """Sums of the columns that share a rank, shape (R, ranks)."""
    if len(rank) == ranks:
        ordered = np.empty_like(values)
        ordered[:, rank] = values
        return ordered
    total = np.zeros((ranks, len(values)))
    np.add.at(total, rank, values.T)
    return total.T


def share(part: npt.NDArray[np.generic], whole: npt.NDArray[np.generic]) -> Floats:
    """A part of a whole; 0 of 0 is NaN."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(np.true_divide(part, whole), dtype=np.float64)  # type: ignore[call-overload]


def mean(values: Floats) -> float:
    """Mean of what is not NaN; NaN where nothing is left."""
    there = values[~np.isnan(values)]
    return float(there.mean()) if len(there) else float("nan")


def mean_of_columns(values: Floats) -> Floats:
    """`mean` of each column, shape (K,)."""
    return np.array([mean(column) for column in values.T])


def first_of_ties(values: Mapping[str, int], written: str) -> str:
    """The name with the largest value; of several the one that a table holds, for their order has no meaning."""
    most = max(values.values(), default=0)
    names = [name for name, value in values.items() if value == most and most > 0]
    return written if written in names else names[0] if names else ""
