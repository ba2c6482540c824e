"""The effects of factors, their curves, and what types of error take, by the draws that docs/METRICS.md names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from scipy import stats

from analysis.audit.factors import DISTANCE, FREQUENCY, LOOKS, NAMES
from analysis.audit.intervals import Rests, Units, family
from analysis.audit.pixels import Floats, Integers, share
from analysis.audit.types import TYPES

# The limits and numbers of draws of docs/METRICS.md.
LEAST_EFFECT = 0.03
STABLE_SHARE = 0.95
FAMILY_LEVEL = 0.95
LEAST_IMAGES = 20
LEAST_PER_TERM = 10
LEAST_OF_CLASS = 5
LEAST_CLASSES = 10
LEAST_UNITS, LEAST_UNITS_OF_TYPE = 50, 10
DRAWS = 500
FIFTHS = 5


@dataclass(frozen=True)
class Cases:
    """The true components of a split under one prediction, K of them.

    Attributes:
        iou: Shape (K,).
        class_id: Shape (K,).
        image: Place of the image, or of its group where images come in groups, shape (K,).
        factors: Shape (K, F).
        names: Of the factors, length F.
        frequency: Share of the training images that have each class; None where they cannot be read.
    """

    iou: Floats
    class_id: Integers
    image: Integers
    factors: Floats
    names: tuple[str, ...] = NAMES
    frequency: Floats | None = None

    @property
    def images(self) -> int:
        """Number of images up to the last that has a component."""
        return int(self.image.max(initial=-1)) + 1


def effects(cases: Cases, seed: int) -> list[dict[str, float | str]]:
    """Rows of the table `factors` without the label.

    Args:
        cases: Of one label.
        seed: Of the sweep.
    """
    columns, spans = zip(*(_mid_ranks(values) for values in cases.factors.T), strict=True)
    used = [place for place, span in enumerate(spans) if span > 0]
    own_classes = _of_classes(cases.class_id)
    terms = own_classes.shape[1] + len(used)
    if not used or cases.images < LEAST_IMAGES or len(cases.iou) < LEAST_PER_TERM * terms:
        return []
    names = cases.names
    others = [place for place in used if names[place] not in (*LOOKS, DISTANCE)]
    looks = [place for place in used if names[place] in LOOKS]
    generator = np.random.default_rng(seed)
    drawn = np.concatenate([np.ones((1, cases.images), np.int64), _draws(cases.images, DRAWS, generator)])
    slopes = np.empty((len(drawn), len(names)))
    levels = np.array([])
    # How components look is adjusted for where they are and how the image was taken, not the other way round; the
    # distance from training for all.
    strange = [one for one in used if names[one] == DISTANCE]
    for answered, adjusted in ((strange, used), (looks, sorted((*others, *looks))), (others, others)):
        if not answered:
            continue
        design = np.column_stack([own_classes, *(columns[place] for place in adjusted)])
        for row, counts in enumerate(drawn):
            fitted = _least_squares(design, cases.iou, counts[cases.image])
            for place in answered:
                slopes[row, place] = fitted[own_classes.shape[1] + adjusted.index(place)] * spans[place]
            levels = fitted[: own_classes.shape[1]] if row == 0 else levels
    common = _common(cases.class_id)
    shares = np.array([]) if cases.frequency is None else cases.frequency[common]
    between = len(shares) >= LEAST_CLASSES and bool(_mid_ranks(shares)[1] > 0)
    level = 1 - (1 - FAMILY_LEVEL) / (len(used) + between)
    rows: list[dict[str, float | str]] = []
    for place in used:
        effect, replicates = float(slopes[0, place]), slopes[1:, place]
        reach = float(stats.t.ppf((1 + level) / 2, cases.images - 1)) * float(replicates.std(ddof=1))
        stable = float(np.mean((np.sign(replicates) == np.sign(effect)) & (np.abs(replicates) >= abs(effect) / 2)))
        low, high = np.nanquantile(cases.factors[:, place], (0.1, 0.9))
        alone = _least_squares(np.column_stack([own_classes, columns[place]]), cases.iou, np.ones(len(cases.iou)))
        rows.append(
            {
                "factor": names[place],
                "low": float(low),
                "high": float(high),
                "effect": effect,
                "effect_low": effect - reach,
                "effect_high": effect + reach,
                "alone": float(alone[-1] * spans[place]),
                "stable": stable,
                "components": len(cases.iou),
                "images": cases.images,
            }
        )
    if between:
        counts = _draws(len(common), DRAWS, generator)
        rows.append(_between_classes(cases, shares, levels[: len(common)], counts, level))
    return rows


def _between_classes(
    cases: Cases, shares: Floats, levels: Floats, draws: Integers, level: float
) -> dict[str, float | str]:
    """The row of the frequency: a straight line through the levels of classes, which are drawn again."""
    ranks, span = _mid_ranks(shares)
    slope, error = stats.linregress(ranks, levels)[0], stats.linregress(ranks, levels)[4]
    reach = float(stats.t.ppf((1 + level) / 2, len(shares) - 2) * error * span)
    drawn = np.array([_slope(np.repeat(ranks, counts), np.repeat(levels, counts)) for counts in draws])
    stable = float(np.mean((np.sign(drawn) == np.sign(slope)) & (np.abs(drawn) >= abs(slope) / 2)))
    means = np.array([cases.iou[cases.class_id == one].mean() for one in _common(cases.class_id).tolist()])
    low, high = np.quantile(shares, (0.1, 0.9))
    effect = float(slope * span)
    return {
        "factor": FREQUENCY,
        "low": float(low),
        "high": float(high),
        "effect": effect,
        "effect_low": effect - reach,
        "effect_high": effect + reach,
        "alone": _slope(ranks, means) * span,
        "stable": stable,
        "components": len(cases.iou),
        "images": cases.images,
    }


def _slope(across: Floats, along: Floats) -> float:
    """Of the straight line through points; 0 where they stand above each other."""
    apart = across - across.mean()
    spread = float((apart**2).mean())
    return float((apart * along).mean()) / spread if spread > 1e-12 else 0.0


def is_reason(row: Mapping[Any, Any]) -> bool:
    """Whether the numbers of a row of `factors` make it a reason."""
    is_clear = row["effect_low"] > 0 or row["effect_high"] < 0
    return bool(is_clear and abs(row["effect"]) >= LEAST_EFFECT and row["stable"] >= STABLE_SHARE)


def curves(cases: Cases, seed: int) -> list[dict[str, float | str]]:
    """Rows of the table `factor_curves` without the label: mean IoU in each fifth of a factor."""
    if cases.images < LEAST_IMAGES:
        return []
    drawn = _draws(cases.images, DRAWS, np.random.default_rng(seed))
    rows: list[dict[str, float | str]] = []
    for name, values in zip(cases.names, cases.factors.T, strict=True):
        if np.isnan(values).all():
            continue
        ends = np.unique(np.nanquantile(values, np.arange(FIFTHS + 1) / FIFTHS))
        for number, (low, high) in enumerate(pairwise(ends)):
            is_last = number == len(ends) - 2
            inside = (values >= low) & ((values <= high) if is_last else (values < high))
            sums, counts = np.zeros(cases.images), np.zeros(cases.images)
            np.add.at(sums, cases.image[inside], cases.iou[inside])
            np.add.at(counts, cases.image[inside], 1)
            means = share(drawn @ sums, drawn @ counts)
            means = means[~np.isnan(means)]
            bounds = np.quantile(means, (0.025, 0.975)) if len(means) else np.full(2, np.nan)
            total = counts.sum()
            rows.append(
                {
                    "factor": name,
                    "low": float(low),
                    "high": float(high),
                    "components": int(total),
                    "iou": float(sums.sum() / total) if total else float("nan"),
                    "iou_low": float(bounds[0]),
                    "iou_high": float(bounds[1]),
                }
            )
    return rows


@dataclass(frozen=True)
class Wrong:
    """The wrong pixels of a split under one prediction.

    Attributes:
        sides: Wrong pixels of each image by type and by each class that they are of, on either side; (N, 10, C).
        unions: Pixels of each class in truth or prediction of each image, (N, C).
    """

    sides: Integers
    unions: Integers

    def lost(self, counts: Integers) -> Floats:
        """What each type takes from the mIoU where images count so often, shape (10,).

        A wrong pixel takes one part of the union from the IoU of its true and of its predicted class each.
        """
        unions = counts @ self.unions
        there = unions > 0
        sides = np.tensordot(counts, self.sides, 1)[:, there]
        return np.asarray((sides / unions[there]).sum(axis=1) / max(1, int(there.sum())))


def wrong_pixels(types: Sequence[Integers], pairs: Integers) -> Wrong:
    """Puts the wrong pixels of all images together.

    Args:
        types: Rows of type, true class, predicted class, pixels of each image.
        pairs: Of each image, shape (N, C, C).
    """
    classes = pairs.shape[1]
    sides = np.zeros((len(types), len(TYPES), classes), np.int64)
    for image, rows in enumerate(types):
        for kind, true, predicted, pixels in rows.tolist():
            sides[image, kind, true] += pixels
            sides[image, kind, predicted] += pixels
    own = np.stack([pairs[:, one, one] for one in range(classes)], axis=1)
    return Wrong(sides, pairs.sum(axis=1) + pairs.sum(axis=2) - own)


def type_changes(before: Wrong, after: Wrong, units: Units | None) -> list[dict[str, float | str]]:
    """Rows of the table `type_changes`.

    Args:
        before: Of the first prediction.
        after: Of the second, on the same images.
        units: What intervals leave out; None where there are none.
    """
    once = np.ones(len(before.sides), np.int64)
    first, second = before.lost(once), after.lost(once)
    low, high = np.full((2, len(TYPES)), np.nan)
    if units is not None and units.count >= LEAST_UNITS:
        occurs = units.with_class((before.sides + after.sides).sum(axis=2))
        given = np.flatnonzero(occurs >= LEAST_UNITS_OF_TYPE)
        kept = (units.block[None] != np.arange(units.blocks)[:, None]).astype(np.int64)
        rests = np.array([after.lost(one) - before.lost(one) for one in kept])
        if len(given):
            held = family([Rests(float((second - first)[kind]), rests[:, kind]) for kind in given.tolist()])
            low[given], high[given] = held.low, held.high
    told = zip(TYPES, first, second, second - first, low, high, strict=True)
    return [
        {
            "type": name,
            "before": float(one),
            "after": float(other),
            "difference": float(difference),
            "difference_low": float(lower),
            "difference_high": float(upper),
        }
        for name, one, other, difference, lower, upper in told
    ]


def _draws(count: int, draws: int, generator: np.random.Generator) -> Integers:
    """How often each image or class is drawn, shape (draws, count): those of the report, by the seed of its sweep."""
    return generator.multinomial(count, np.full(count, 1 / count), draws)


def _mid_ranks(values: Floats) -> tuple[Floats, float]:
    """Mid-ranks in -0.5 .. 0.5, what is missing in the middle, and how far the 10th percentile is from the 90th."""
    ranks, known = np.zeros(len(values)), np.isfinite(values)
    if known.sum() < 2:
        return ranks, 0.0
    ordered, own = np.sort(values[known]), values[known]
    middle = (np.searchsorted(ordered, own, "left") + np.searchsorted(ordered, own, "right")) / 2
    ranks[known] = middle / len(own) - 0.5
    low, high = np.quantile(ranks[known], (0.1, 0.9))
    return ranks, float(high - low)


def _common(class_id: Integers) -> Integers:
    """The classes that have enough components."""
    names, counts = np.unique(class_id, return_counts=True)
    return np.asarray(names[counts >= LEAST_OF_CLASS])


def _of_classes(class_id: Integers) -> Floats:
    """A column for each class, one for all that have few components."""
    common = _common(class_id)
    columns = [class_id == name for name in common.tolist()]
    rare = ~np.isin(class_id, common)
    return np.column_stack([*columns, *([rare] if rare.any() else [])]).astype(np.float64)


def _least_squares(design: Floats, outcome: Floats, counts: Floats | Integers) -> Floats:
    """Coefficients of a linear model in which rows count so often; the shortest where several fit."""
    weighted = design * counts[:, None]
    return np.asarray(np.linalg.lstsq(weighted.T @ design, weighted.T @ outcome, rcond=1e-10)[0])
