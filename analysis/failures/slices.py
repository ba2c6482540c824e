"""Where the IoU is lost: components with one or two things in common that lose more than others, beyond chance.

A condition is a class, or a third or fifth of the components at one end of a factor; a slice is one condition or two.
Of a thousand slices some look bad by chance, so that each interval is corrected for how many were looked at. Once a
slice is told, its components are set aside before the next one is looked for, as sequential covering does (Lavrač et
al., "Subgroup Discovery with CN2-SD", JMLR 5, 2004): otherwise ten names for the same components would follow.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import special

from analysis.failures.components import Integers
from analysis.failures.reasons import ComponentTable, Floats, mid_ranks

# Limits; docs/METRICS.md has the reason of each.
PARTS = {"third": 1 / 3, "fifth": 1 / 5}
LEAST_COMPONENTS = 30
LEAST_IMAGES = 20
LEAST_EXCESS = 0.02
LEAST_DIFFERENCE = 0.05
FAMILY_LEVEL = 0.95
MOST_SLICES = 5

CLASS = "class"
LOWEST, HIGHEST = "lowest", "highest"

SLICE_COLUMNS = (
    *("label", "first", "first_is", "first_limit", "second", "second_is", "second_limit", "components", "images"),
    *("component_share", "lost_share", "excess", "excess_low", "excess_high", "mean_iou", "others_iou"),
    *("difference", "difference_low", "difference_high", "looked_at"),
)
"""Of the table `slices`."""

Flags = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Condition:
    """What some components have in common.

    Attributes:
        name: A factor, or `CLASS`.
        value: Such as "lowest third"; the name of a class.
        limit: Of the factor's values, up to or from which components are inside; NaN of a class.
        inside: Which components, shape (K,).
    """

    name: str
    value: str
    limit: float
    inside: Flags


@dataclass(frozen=True)
class Estimate:
    """A number with half the width of its interval at the level that holds for all slices at once."""

    value: float
    half: float

    def is_above(self, least: float) -> bool:
        """Whether it is at least so much, and beyond chance above 0."""
        return self.value >= least and self.value > self.half


@dataclass(frozen=True)
class Slice:
    """One condition or two, and what their components lose.

    Attributes:
        conditions: One or two.
        inside: Which components.
        excess: Share of the lost IoU less share of the components.
        difference: By how much the IoU is lower than in the rest of a condition, the one that is the least sure.
    """

    conditions: tuple[Condition, ...]
    inside: Flags
    excess: Estimate
    difference: Estimate


def slice_frame(tables: Mapping[str, ComponentTable], class_names: Sequence[str]) -> pd.DataFrame:
    """The table `slices`: a row for each slice that is told, columns `SLICE_COLUMNS`, the largest excess first.

    Args:
        tables: By label (`reasons.component_tables`).
        class_names: By class id.
    """
    rows = [row for label, table in tables.items() for row in _rows(label, table, class_names)]
    return pd.DataFrame(rows, columns=list(SLICE_COLUMNS))


def _rows(label: str, table: ComponentTable, class_names: Sequence[str]) -> list[tuple[object, ...]]:
    found, looked_at = find_slices(table, class_names)
    lost = 1 - table.iou
    rows: list[tuple[object, ...]] = []
    for one in found:
        first, second = (*one.conditions, Condition("", "", np.nan, one.inside))[:2]
        rows.append(
            (
                label,
                *(first.name, first.value, first.limit, second.name, second.value, second.limit),
                *(int(one.inside.sum()), len(np.unique(table.image[one.inside]))),
                *(one.inside.mean(), lost[one.inside].sum() / lost.sum()),
                *(one.excess.value, one.excess.value - one.excess.half, one.excess.value + one.excess.half),
                *(table.iou[one.inside].mean(), table.iou[~one.inside].mean()),
                *(one.difference.value, one.difference.value - one.difference.half),
                *(one.difference.value + one.difference.half, looked_at),
            )
        )
    return rows


def find_slices(table: ComponentTable, class_names: Sequence[str]) -> tuple[list[Slice], int]:
    """The slices that lose more than others, the largest excess first, and how many were looked at.

    Each holds on all components as well as on those outside the slices that were found before it. Pairs of conditions
    come first, for one that fails alone shows in both of its conditions.

    Args:
        table: Of one prediction.
        class_names: By class id.
    """
    conditions = slice_conditions(table, class_names)
    pairs = [pair for pair in combinations(conditions, 2) if pair[0].name != pair[1].name]
    groups = [
        [one for one in candidates if is_large(_inside(one), table.image)]
        for candidates in (pairs, [(one,) for one in conditions])
    ]
    looked_at = sum(map(len, groups))
    ranks = mid_ranks(table.factors)[0]
    found: list[Slice] = []
    left = np.ones(len(table.iou), bool)
    for candidates in groups:
        while len(found) < MOST_SLICES and (best := _worst(table, ranks, candidates, left, looked_at)) is not None:
            found.append(best)
            left &= ~best.inside
    return sorted(found, key=lambda one: -one.excess.value), looked_at


def slice_conditions(table: ComponentTable, class_names: Sequence[str]) -> list[Condition]:
    """Both ends of each factor and each class, as far as they hold enough components.

    Args:
        table: Of one prediction; its IoUs have no say.
        class_names: By class id.
    """
    found = []
    for place, factor in enumerate(table.of):
        values = table.factors[:, place]
        if not np.isfinite(values).any():
            continue
        for word, part in PARTS.items():
            low, high = np.nanquantile(values, (part, 1 - part)).tolist()
            for end, limit, inside, inner in (
                (LOWEST, low, values <= low, values < low),
                (HIGHEST, high, values >= high, values > high),
            ):
                # Where half of the components have the same value, it is no end.
                chosen = inside if inside.mean() <= 0.5 else inner
                found.append(Condition(factor.name, f"{end} {word}", limit, chosen))
    for class_id in np.unique(table.class_id).tolist():
        found.append(Condition(CLASS, class_names[class_id], np.nan, table.class_id == class_id))
    return [one for one in found if is_large(one.inside, table.image)]


def is_large(inside: Flags, image: Integers) -> bool:
    """Whether components are enough, in enough images, to be judged."""
    return int(inside.sum()) >= LEAST_COMPONENTS and _images(inside, image) >= LEAST_IMAGES


def _images(inside: Flags, image: Integers) -> int:
    return int(np.count_nonzero(np.bincount(image[inside])))


def _inside(conditions: tuple[Condition, ...]) -> Flags:
    return np.asarray(np.logical_and.reduce([one.inside for one in conditions]))


def _worst(
    table: ComponentTable, ranks: Floats, candidates: Sequence[tuple[Condition, ...]], left: Flags, looked_at: int
) -> Slice | None:
    """Of the slices that hold on all components and on those that are left, the one of the largest excess there."""
    if not candidates or not (1 - table.iou)[left].any():
        return None
    everywhere = np.ones(len(left), bool)
    excess = _excesses(table, candidates, left)
    for place in np.argsort(-excess, kind="stable").tolist():
        if excess[place] < LEAST_EXCESS:
            return None
        if judge(table, ranks, candidates[place], left, looked_at) is not None:
            of_all = judge(table, ranks, candidates[place], everywhere, looked_at)
            if of_all is not None:
                return of_all
    return None


def _excesses(table: ComponentTable, candidates: Sequence[tuple[Condition, ...]], left: Flags) -> Floats:
    """Share of the lost IoU less share of the components of each candidate, among those left."""
    conditions = {id(one): one for candidate in candidates for one in candidate}
    place = {key: number for number, key in enumerate(conditions)}
    flags = np.stack([one.inside[left] for one in conditions.values()], axis=1).astype(np.float64)
    lost = (1 - table.iou)[left]
    both = (flags.T @ (flags * lost[:, None])) / lost.sum() - (flags.T @ flags) / len(lost)
    return np.array([both[place[id(one[0])], place[id(one[-1])]] for one in candidates])


def judge(
    table: ComponentTable, ranks: Floats, conditions: tuple[Condition, ...], among: Flags, looked_at: int
) -> Slice | None:
    """A slice, if it loses more than its share and more than the rest of each of its conditions; else None.

    Args:
        table: Of one prediction.
        ranks: Of its factors (`mid_ranks`).
        conditions: One or two.
        among: The components to compare, shape (K,).
        looked_at: Slices that the intervals hold for at once.
    """
    inside = _inside(conditions) & among
    if not is_large(inside, table.image):
        return None
    level = 1 - (1 - FAMILY_LEVEL) / looked_at
    excess = _excess(table, inside, among, level)
    if not excess.is_above(LEAST_EXCESS):
        return None
    parents = [
        among & np.logical_and.reduce([other.inside for other in conditions if other is not one] or [among])
        for one in conditions
    ]
    # Without other factors it is quickly said of most slices that they are no worse.
    for condition, parent in zip(conditions, parents, strict=True):
        if not _is_worse(difference(table, inside, parent, level, of_classes=condition.name == CLASS)):
            return None
    found = []
    for condition, parent in zip(conditions, parents, strict=True):
        others = ranks[:, _others(table, condition, conditions)]
        one = difference(table, inside, parent, level, of_classes=condition.name == CLASS, others=others)
        if not _is_worse(one):
            return None
        found += [one] if one else []
    return Slice(conditions, inside, excess, min(found, key=lambda one: one.value - one.half))


def _is_worse(found: Estimate | None) -> bool:
    return found is not None and found.is_above(LEAST_DIFFERENCE)


def _others(table: ComponentTable, condition: Condition, conditions: tuple[Condition, ...]) -> list[int]:
    """The factors that are equal where a condition is compared: as in `factor_effects`, none of a later stage."""
    stage = next((factor.stage for factor in table.of if factor.name == condition.name), -1)
    of_slice = {one.name for one in conditions}
    return [place for place, one in enumerate(table.of) if one.stage <= stage and one.name not in of_slice]


def _excess(table: ComponentTable, inside: Flags, among: Flags, level: float) -> Estimate:
    """Share of the lost IoU that lies inside less the share of the components, with its interval over images."""
    lost = np.where(among, 1 - table.iou, 0)
    of_lost, of_all = lost[inside].sum() / lost.sum(), inside.sum() / among.sum()
    influence = (inside - of_lost) * lost / lost.sum() - (inside - of_all) * among / among.sum()
    return Estimate(float(of_lost - of_all), _half(influence, table.image, _images(inside, table.image), level))


def difference(
    table: ComponentTable,
    inside: Flags,
    parent: Flags,
    level: float,
    *,
    of_classes: bool,
    others: Floats | None = None,
) -> Estimate | None:
    """By how much the IoU is lower inside than in the rest of `parent`; None where the rest is too small to tell.

    Least squares; the errors are added up by image (Liang and Zeger, Biometrika 73, 1986).

    Args:
        table: Of one prediction.
        inside: The components of the slice, shape (K,).
        parent: Those of its other condition, the slice among them.
        level: Of the interval.
        of_classes: Whether classes are what is compared; else each has an effect of its own.
        others: Ranks of factors that are to be equal, shape (K, F).
    """
    if not is_large(parent & ~inside, table.image):
        return None
    image = table.image[parent]
    place = np.zeros(len(image), np.int64) if of_classes else np.unique(table.class_id[parent], return_inverse=True)[1]
    columns = np.column_stack([table.iou, inside] if others is None else [table.iou, inside, others])[parent]
    sums = np.stack([np.bincount(place, column) for column in columns.T], axis=1)
    columns -= (sums / np.bincount(place)[:, None])[place]
    iou, across = columns[:, 0], columns[:, 1]
    if columns.shape[1] > 2:
        rest = columns[:, 2:]
        gram = rest.T @ rest
        fitted = np.linalg.lstsq(gram, rest.T @ columns[:, :2], rcond=1e-9)[0]
        iou, across = (columns[:, :2] - rest @ fitted).T
    spread = float(across @ across)
    if spread < 1e-6 * len(across):
        return None
    slope = float(across @ iou) / spread
    images = min(_images(inside, table.image), _images(parent & ~inside, table.image))
    return Estimate(-slope, _half(across * (iou - slope * across) / spread, image, images, level))


def _half(influence: Floats, image: Integers, images: int, level: float) -> float:
    """Half the width of an interval from what each component adds to the estimate, which rests on so many images."""
    variance = float((np.bincount(image, influence) ** 2).sum()) * images / (images - 1)
    return float(special.stdtrit(images - 1, (1 + level) / 2) * np.sqrt(variance))
