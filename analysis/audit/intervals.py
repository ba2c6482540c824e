"""Intervals from per-image counts: each image, or group, or block of them, left out in turn.

docs/METRICS.md, "Intervals" and "Claims", has the formulas: the jackknife's bias and standard error, degrees of freedom
from the kurtosis of its values, Student's t, and the largest |t| of several differences.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from analysis.audit.kept_scores import KeptScores, pixel_precision, without_each
from analysis.audit.pixels import (
    Flags,
    Floats,
    Integers,
    Recount,
    class_values,
    mean,
    mean_of_columns,
    region_precision,
    share,
)

# The limits of docs/METRICS.md.
CONFIDENCE = 0.95
MOST_BLOCKS = 400
IMAGES, GROUPS = 20, 8
IMAGES_OF_CLASSES = 40
UNITS_OF_PREDICTIONS = 150
UNITS_OF_A_CLASS = 2
UNITS_OF_ONE_CLASS = 20
DRAWS = 20_000

PIXEL_ACCURACY, PRECISION, PIXEL_AP, REGION_AP = "pixel_accuracy", "precision", "ap", "map"
OF_CLASSES = ("iou", "f1", "precision", "recall")
METRICS = (PIXEL_ACCURACY, *OF_CLASSES, PIXEL_AP, REGION_AP)


@dataclass(frozen=True)
class Units:
    """What is left out.

    Attributes:
        unit: Image or group of each image, shape (N,).
        block: What is left out together, shape (N,).
        blocks: How many of them.
        grouped: Whether units are groups.
    """

    unit: Integers
    block: Integers
    blocks: int
    grouped: bool

    @property
    def count(self) -> int:
        """Images, or groups."""
        return int(self.unit.max(initial=-1)) + 1

    @property
    def enough(self) -> bool:
        """Whether there are enough for any interval."""
        return self.count >= (GROUPS if self.grouped else IMAGES)

    def with_class(self, pixels: Integers) -> Integers:
        """In how many units each of K classes has pixels, from those of each image, shape (N, K)."""
        return np.array([len(np.unique(self.unit[column > 0])) for column in pixels.T], np.int64)


@dataclass(frozen=True)
class Rests:
    """A metric of a split, and of it without each block.

    Attributes:
        value: On all images.
        rests: Shape (B,).
    """

    value: float
    rests: Floats

    def __sub__(self, other: Rests) -> Rests:
        return Rests(self.value - other.value, self.rests - other.rests)

    @property
    def centre(self) -> float:
        """The value less its bias, (B - 1) times what the mean of the rests lies above it."""
        return float(self.value - (len(self.rests) - 1) * (self.rests.mean() - self.value))

    @property
    def error(self) -> float:
        """The jackknife's standard error."""
        blocks = len(self.rests)
        return float(np.sqrt((blocks - 1) ** 2 / blocks * self.rests.var(ddof=1))) if blocks > 1 else float("nan")

    @property
    def freedom(self) -> float:
        """Degrees of freedom: min(B - 1, 2 B / (k - 1)), k the kurtosis of the rests; at least 1."""
        blocks, off = len(self.rests), self.rests - self.rests.mean()
        second = float(np.mean(off**2))
        kurtosis = float(np.mean(off**4)) / second**2 if second > 0 else 3.0
        return float(np.clip(2 * blocks / max(kurtosis - 1, 1e-9), 1, blocks - 1))

    def interval(self) -> tuple[float, float]:
        """Student's t interval around the centre."""
        reach = float(stats.t.ppf((1 + CONFIDENCE) / 2, self.freedom)) * self.error
        return self.centre - reach, self.centre + reach


def units_of(groups: Sequence[str | None]) -> Units:
    """What is left out of these images: their groups, or themselves where they have none."""
    names: dict[object, int] = {}
    for place, group in enumerate(groups):
        names.setdefault(_unit(place, group), len(names))
    unit = np.array([names[_unit(place, group)] for place, group in enumerate(groups)], np.int64)
    count, blocks = len(names), min(MOST_BLOCKS, len(names))
    dealt = np.arange(count) if count == blocks else np.random.default_rng(0).permutation(count)
    block = np.empty(count, np.int64)
    block[dealt] = np.arange(count) % max(1, blocks)
    return Units(unit, block[unit], blocks, any(group is not None for group in groups))


def _unit(place: int, group: str | None) -> tuple[str, str]:
    return ("image", str(place)) if group is None else ("group", group)


def leave_out(one: Recount, scores: KeptScores, units: Units) -> dict[str, Rests]:
    """Every metric, and the values of single classes as `iou[3]`, with what leaving out units does to them.

    Args:
        one: Of the split.
        scores: That were kept.
        units: What is left out.
    """
    parts = [_without(pixels, units) for pixels in (one.hit, one.truth, one.predicted)]
    whole = one.sums()
    of_split, of_rests = class_values(*whole), class_values(*parts)
    in_split, in_rests = whole[1] > 0, parts[1] > 0
    found = {PIXEL_ACCURACY: Rests(one.scores()[PIXEL_ACCURACY], share(parts[0].sum(axis=1), parts[1].sum(axis=1)))}
    for name in OF_CLASSES:
        # A rest that lost a class of the split says nothing about it; what is predicted alone counts as 0 throughout.
        phantom = ~in_split & ~np.isnan(of_split[name])
        values = np.where(phantom, 0.0, np.where(in_split & in_rests, of_rests[name], np.nan))
        found[name] = Rests(mean(of_split[name]), mean_of_columns(values.T))
        for class_id, value in enumerate(of_split[name]):
            lost = in_split[class_id] & ~in_rests[:, class_id]
            found[f"{name}[{class_id}]"] = Rests(float(value), np.where(lost, np.nan, of_rests[name][:, class_id]))
    found[PIXEL_AP] = _pixel_ap(scores, units, len(in_split))
    kept = (units.block[None] != np.arange(units.blocks)[:, None]).astype(np.float64)
    everything = np.ones((1, len(units.block)))
    areas = region_precision(one, scores.confidence, np.concatenate([everything, kept]))
    means = np.array([mean_of_columns(of_rest).mean() for of_rest in areas])
    found[REGION_AP] = Rests(float(means[0]), means[1:])
    return found


def size_rests(values: Floats, units: Units) -> Rests:
    """The mean of what is not NaN in an array (N, C), and without each block of images."""
    there = ~np.isnan(values)
    sums, counts = np.where(there, values, 0).sum(axis=1), there.sum(axis=1)
    rests = share(_without(sums[:, None], units), _without(counts[:, None], units))[:, 0]
    return Rests(float(share(sums.sum(), counts.sum())), rests)


def why_none(metric: str, truth: Integers, units: Units, learnt: Flags, *hits: Integers) -> bool:
    """Whether no interval is given of a metric.

    Args:
        metric: Its name, or `iou[3]`.
        truth: True pixels of each class in each image, shape (N, C).
        units: What is left out.
        learnt: Whether each class occurs in train, shape (C,).
        hits: Right pixels of each checkpoint, as `truth`.
    """
    if not units.enough:
        return True
    if metric == PIXEL_ACCURACY:
        return False
    needed = 0 if units.grouped else IMAGES_OF_CLASSES
    name, _, class_id = metric.rstrip("]").partition("[")
    if name == PRECISION:
        needed = UNITS_OF_PREDICTIONS
    occurs = units.with_class(truth)
    if class_id and max(int(units.with_class(one)[int(class_id)]) for one in hits) < UNITS_OF_ONE_CLASS:
        return True
    return bool(units.count < needed or (occurs < UNITS_OF_A_CLASS)[(occurs > 0) | learnt].any())


@dataclass(frozen=True)
class Family:
    """Several differences with intervals that hold at once, each of shape (K,).

    Attributes:
        low: Lower bounds.
        high: Upper bounds.
        chance: Of as large a |t| among as many differences that are 0.
        above: How likely each is above 0, by its own Student's t.
    """

    low: Floats
    high: Floats
    chance: Floats
    above: Floats


def family(differences: Sequence[Rests]) -> Family:
    """The intervals of several differences on the same images, by the largest |t| of them all."""
    rests = np.array([one.rests - one.rests.mean() for one in differences])
    centre, error, freedom = (
        np.array([getattr(one, name) for one in differences]) for name in ("centre", "error", "freedom")
    )
    norm = np.sqrt((rests**2).sum(axis=1))
    moving = rests[norm > 0] / norm[norm > 0, None]
    largest = np.zeros(DRAWS)
    if len(moving):
        # The draws of docs/METRICS.md: other draws move a bound in its third digit.
        eigenvalues, vectors = np.linalg.eigh(moving @ moving.T)
        rng, least = np.random.default_rng(0), freedom[norm > 0].min()
        normal = rng.standard_normal((DRAWS, len(moving))) @ (vectors * np.sqrt(np.maximum(eigenvalues, 0))).T
        largest = np.abs(normal).max(axis=1) / np.sqrt(rng.chisquare(least, DRAWS) / least)
    reach = np.quantile(largest, CONFIDENCE) * error
    own = np.array(
        [c / e if e > 0 else np.copysign(np.inf, c) if c else 0.0 for c, e in zip(centre, error, strict=True)]
    )
    chance = np.array([(1 + (largest >= abs(t)).sum()) / (1 + DRAWS) for t in own])
    return Family(centre - reach, centre + reach, chance, np.asarray(stats.t.cdf(own, freedom)))


def outcome_of(low: float, high: float) -> str:
    """What a difference of two checkpoints is called."""
    return "" if np.isnan(low) else "higher" if low > 0 else "lower" if high < 0 else "undecided"


def _without(values: Integers | Floats, units: Units) -> Floats:
    """Sums of the columns of (N, K) without each block, shape (B, K)."""
    parts = np.zeros((units.blocks, values.shape[1]), values.dtype)
    np.add.at(parts, units.block, values)
    return np.asarray(values.sum(axis=0) - parts)


def _pixel_ap(scores: KeptScores, units: Units, classes: int) -> Rests:
    split, rests = [], []
    for class_id in range(classes):
        totals = scores.totals(class_id)
        split.append(float(pixel_precision(totals)))
        rests.append(without_each(scores.levels(class_id), totals, units.block, units.blocks))
    return Rests(mean(np.array(split)), mean_of_columns(np.array(rests)))
