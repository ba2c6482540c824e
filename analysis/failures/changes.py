"""What differs between two predictions of the same images: failures cured, new and shared, and what each type takes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pandas as pd

from analysis.failures.components import Integers
from analysis.failures.factors import FACTORS
from analysis.failures.names import ErrorType
from analysis.failures.split import SplitFailures
from analysis.statistics import paired_family
from trainables.metrics import Units, margins

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

LEAST_UNITS = 50
"""Images or groups for intervals: with fewer those of all types do not hold at once often enough."""
LEAST_UNITS_OF_TYPE = 10
"""Images or groups in which a type must occur under one of the predictions: the few of a rarer one decide."""
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


def type_changes(before: SplitFailures, after: SplitFailures, units: Units | None) -> pd.DataFrame:
    """How much of the mIoU each type takes before and after: a row per type, columns `TYPE_CHANGE_COLUMNS`.

    The difference has a 95% interval over images, unions and all, that holds for all types at once
    (`statistics.paired_family`); none for a type that occurs in few images.

    Args:
        before: The first prediction.
        after: The second, of the same images.
        units: What intervals leave out; None where none are given, because the images chose between the two.
    """
    images = len(before.images)
    once = np.ones((1, images))
    first, second = _lost_by_type(before, once)[0], _lost_by_type(after, once)[0]
    low, high = np.full((2, len(ErrorType)), np.nan)
    if units is not None and units.count >= LEAST_UNITS:
        given = np.flatnonzero(_units_with(before, after, units) >= LEAST_UNITS_OF_TYPE)
        if len(given):
            family = paired_family(
                lambda weights: (_lost_by_type(after, weights) - _lost_by_type(before, weights)).T[given], units
            )
            low[given], high[given] = family.low, family.high
    columns = ([kind.words for kind in ErrorType], first, second, second - first, low, high)
    return pd.DataFrame(dict(zip(TYPE_CHANGE_COLUMNS, columns, strict=True)))


def changes_between(
    before: SplitFailures | None,
    after: SplitFailures | None,
    class_names: Sequence[str],
    *,
    iou_limit: float,
    units: Units | None,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The tables `component_changes` and `type_changes`; empty where there are not two different predictions.

    Args:
        before: The first prediction.
        after: The second, of the same images.
        class_names: By class id.
        iou_limit: A component fails at or below it.
        units: As of `type_changes`.
    """
    if before is None or after is None or before is after:
        return pd.DataFrame(columns=list(CHANGE_COLUMNS)), pd.DataFrame(columns=list(TYPE_CHANGE_COLUMNS), dtype=float)
    changes = component_changes(before, after, class_names, iou_limit=iou_limit)
    return changes, type_changes(before, after, units)


def _type_of(pixels: Integers) -> str:
    return ErrorType(int(pixels.argmax())).words if pixels.any() else ""


def _units_with(before: SplitFailures, after: SplitFailures, units: Units) -> Integers:
    """In how many images or groups each type occurs under one of the predictions, shape (types,)."""
    occurs = np.zeros((units.count, len(ErrorType)), bool)
    for split in (before, after):
        image, kind = split.counts.T[:2]
        occurs[units.of_image[image], kind] = True
    return np.asarray(occurs.sum(axis=0))


def _lost_by_type(split: SplitFailures, draws: Floats) -> Floats:
    """MIoU lost to each type in each replicate of the images, shape (R, types).

    Args:
        split: Of N images.
        draws: How often each image counts, or by what weight, shape (R, N).
    """
    image, kind, true_class, predicted_class, pixels = split.counts.T
    right, truth, predicted = margins(split.confusions)
    unions = draws @ (truth + predicted - right)
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
