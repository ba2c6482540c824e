"""Ratios of counts, with the rules of absent classes, and sums over images: what every metric is made of."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from trainables.metrics.image_counts import SUMMED_VALUES, ImageCounts

Floats = npt.NDArray[np.float64]
Counts = npt.NDArray[Any]
Confusions = Counts | ImageCounts
"""Confusion matrices of images, shape (N, C, C): whole, or without their zeros."""


class Margins(NamedTuple):
    """Right pixels, pixels in the truth and predicted pixels of each class, each of shape (..., C)."""

    right: Counts
    truth: Counts
    predicted: Counts


def margins(matrix: Confusions | Margins) -> Margins:
    """What most metrics need of confusion matrices.

    Args:
        matrix: Of shape (..., C, C), rows truth, columns prediction; or what this function gives.
    """
    if isinstance(matrix, Margins):
        return matrix
    if isinstance(matrix, ImageCounts):
        return Margins(*matrix.margins())
    matrix = np.asarray(matrix)
    return Margins(np.diagonal(matrix, axis1=-2, axis2=-1), matrix.sum(axis=-1), matrix.sum(axis=-2))


def class_ratio(numerator: Counts, denominator: Counts, truth: Counts, predicted: Counts) -> Floats:
    """A ratio per class: NaN for a class in neither truth nor prediction, 0 where it is 0 / 0 otherwise."""
    absent = (truth == 0) & (predicted == 0)
    return np.where(absent, np.nan, np.nan_to_num(ratio(numerator, denominator), nan=0.0))


def ratio(numerator: Counts, denominator: Counts) -> Floats:
    """Numerator over denominator; 0 / 0 is NaN and does not warn."""
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
    return ratio(np.where(counted, values, 0.0).sum(axis=-1), counted.sum(axis=-1))


def weighted_sum(weights: Floats, per_image: npt.NDArray[np.generic] | ImageCounts) -> Floats:
    """Sums over images: weights of shape (R, N) and an array of shape (N, ...) give shape (R, ...)."""
    if isinstance(per_image, ImageCounts):
        return per_image.weighted(weights)
    values = math.prod(per_image.shape[1:])
    block = max(1, SUMMED_VALUES // max(values, 1))
    total = np.zeros((len(weights), values))
    for start in range(0, len(per_image), block):
        of_block = per_image[start : start + block].astype(np.float64).reshape(-1, values)
        total += weights[:, start : start + block] @ of_block
    return total.reshape(-1, *per_image.shape[1:])


def mean_over_split_classes(
    values: Floats, in_truth: npt.NDArray[np.bool_], split_in_truth: npt.NDArray[np.bool_], split_values: Floats
) -> Floats:
    """Mean over the classes of the whole split in each replicate.

    A class in the split's truth counts wherever a replicate holds some of its truth: a replicate that lost it, and in
    which the class is only predicted, says nothing about it (counting it as 0 would pull every interval down). A class
    that the whole split only has in predictions counts as 0 in every replicate, as it does in the estimate.

    Args:
        values: A metric of the replicates, shape (R, C).
        in_truth: Whether a replicate's truth holds the class, shape (R, C).
        split_in_truth: Whether the whole split's truth does, shape (C,).
        split_values: The metric on the whole split, shape (C,); NaN for a class that does not count.

    Returns:
        Shape (R,).
    """
    only_predicted = ~split_in_truth & ~np.isnan(split_values)
    values = np.where(only_predicted, 0.0, np.where(in_truth, values, np.nan))
    return mean_over_classes(values, split_in_truth | only_predicted)
