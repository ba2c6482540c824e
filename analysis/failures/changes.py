"""What differs between two predictions of the same images: failures cured, new and shared, and what each type takes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import special

from analysis.failures.components import Integers
from analysis.failures.factors import FACTORS
from analysis.failures.names import ErrorType
from analysis.failures.split import SplitFailures

CURED, NEW, SHARED = "cured", "new", "shared"
"""A component that fails under the first prediction alone, under the second alone, under both."""

CHANGE_COLUMNS = (
    *("image_id", "class", "component", "change", "iou_before", "iou_after", "type_before", "type_after"),
    *("pixels", "top", "left", "bottom", "right"),
    *(factor.name for factor in FACTORS),
)
"""Of the table `component_changes`; factors are empty where there are no images."""

TYPE_CHANGE_COLUMNS = ("type", "before", "after", "difference", "difference_low", "difference_high")
"""Of the table `type_changes`."""

FAMILY_LEVEL = 0.95
LEAST_IMAGES = 20
RESAMPLES = 300
ROWS_AT_A_TIME = 2**22

Floats = npt.NDArray[np.float64]


def component_changes(
    before: SplitFailures, after: SplitFailures, class_names: Sequence[str], *, iou_limit: float = 0.5
) -> pd.DataFrame:
    """The true components that fail under one of two predictions or both: columns `CHANGE_COLUMNS`.

    Args:
        before: The first prediction, such as the baseline's.
        after: The second, of the same images.
        class_names: By class id.
        iou_limit: A component fails at or below it.
    """
    rows = []
    for image_id, first, second in zip(before.image_ids, before.images, after.images, strict=True):
        one, other = first.components, second.components
        own, others = np.flatnonzero(one.is_true), np.flatnonzero(other.is_true)
        fails = [
            (part.iou[places] <= iou_limit) & (part.iou[places] < 1) for part, places in ((one, own), (other, others))
        ]
        for place in np.flatnonzero(fails[0] | fails[1]).tolist():
            was, now = bool(fails[0][place]), bool(fails[1][place])
            top, left, bottom, right = one.boxes[own[place]].tolist()
            factors = [float("nan")] * len(FACTORS) if second.factors is None else second.factors[place].tolist()
            rows.append(
                (
                    image_id,
                    class_names[int(one.class_id[own[place]])],
                    int(one.number[own[place]]),
                    SHARED if was and now else CURED if was else NEW,
                    float(one.iou[own[place]]),
                    float(other.iou[others[place]]),
                    _type_of(one.type_pixels[own[place]]),
                    _type_of(other.type_pixels[others[place]]),
                    int(one.pixels[own[place]]),
                    *(top, left, bottom, right),
                    *factors,
                )
            )
    return pd.DataFrame(rows, columns=list(CHANGE_COLUMNS))


def type_changes(before: SplitFailures, after: SplitFailures, *, intervals: bool, seed: int = 0) -> pd.DataFrame:
    """How much of the mIoU each type takes before and after: a row per type, columns `TYPE_CHANGE_COLUMNS`.

    The difference has an interval over images that holds for all types at once (95%, Bonferroni): images are drawn
    again for both predictions alike, unions and all.

    Args:
        before: The first prediction.
        after: The second, of the same images.
        intervals: Whether to give any; the images must not have chosen between the two.
        seed: Of the draws.
    """
    images = len(before.images)
    once = np.ones((1, images), np.int64)
    first, second = _lost_by_type(before, once)[0], _lost_by_type(after, once)[0]
    half = np.full(len(ErrorType), np.nan)
    if intervals and images >= LEAST_IMAGES:
        draws = np.random.default_rng(seed).multinomial(images, np.full(images, 1 / images), RESAMPLES)
        differences = _lost_by_type(after, draws) - _lost_by_type(before, draws)
        level = 1 - (1 - FAMILY_LEVEL) / len(ErrorType)
        half = special.stdtrit(images - 1, (1 + level) / 2) * differences.std(axis=0, ddof=1)
    difference = second - first
    columns = ([kind.words for kind in ErrorType], first, second, difference, difference - half, difference + half)
    return pd.DataFrame(dict(zip(TYPE_CHANGE_COLUMNS, columns, strict=True)))


def changes_between(
    before: SplitFailures | None,
    after: SplitFailures | None,
    class_names: Sequence[str],
    *,
    iou_limit: float,
    intervals: bool,
    seed: int = 0,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The tables `component_changes` and `type_changes`; empty where there are not two different predictions.

    Args:
        before: The first prediction.
        after: The second, of the same images.
        class_names: By class id.
        iou_limit: A component fails at or below it.
        intervals: As of `type_changes`.
        seed: Of the draws.
    """
    if before is None or after is None or before is after:
        return pd.DataFrame(columns=list(CHANGE_COLUMNS)), pd.DataFrame(columns=list(TYPE_CHANGE_COLUMNS), dtype=float)
    changes = component_changes(before, after, class_names, iou_limit=iou_limit)
    return changes, type_changes(before, after, intervals=intervals, seed=seed)


def _type_of(pixels: Integers) -> str:
    return ErrorType(int(pixels.argmax())).words if pixels.any() else ""


def _lost_by_type(split: SplitFailures, draws: Integers) -> Floats:
    """MIoU lost to each type in each replicate of the images, shape (R, types).

    Args:
        split: Of N images.
        draws: How often each image counts, shape (R, N).
    """
    image, kind, true_class, predicted_class, pixels = split.counts.T
    confusions = np.stack([one.confusion for one in split.images])
    sides = confusions.sum(axis=1) + confusions.sum(axis=2) - np.diagonal(confusions, axis1=1, axis2=2)
    unions = draws @ sides
    shares = np.divide(1.0, unions, out=np.zeros(unions.shape), where=unions > 0)
    shares /= np.maximum(1, (unions > 0).sum(axis=1))[:, None]
    lost = np.zeros((len(draws), len(ErrorType)))
    step = max(1, ROWS_AT_A_TIME // max(1, len(image)))
    for start in range(0, len(draws), step):
        part = slice(start, start + step)
        weights = shares[part][:, true_class] + shares[part][:, predicted_class]
        of_rows = draws[part][:, image] * pixels * weights
        for error in ErrorType:
            lost[part, error] = of_rows[:, kind == error].sum(axis=1)
    return lost
