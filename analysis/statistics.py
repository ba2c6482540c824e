"""How far a number measured on these images would move on other images: intervals, as pure functions on arrays.

A replicate of the bootstrap is a vector of weights: how often each image was drawn. A statistic takes many replicates
at once, weights of shape (R, N), so that sums over images are one matrix product. Where images come in groups (frames
of a video, slices of a patient) whole groups are drawn, and all images of a group share its weight.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import special

from trainables.metrics import Floats

Statistic = Callable[[Floats], Floats]
"""Weights of shape (R, N) to values of shape (R,) or (K, R)."""

MIN_IMAGES = 20
"""Fewer images give no interval: they miss the rare classes, and 95% covered 0.83 of the time (docs/METRICS.md)."""

MIN_GROUPS = 5
"""Fewer groups give no interval: resamples of four are too few to reach its ends (docs/METRICS.md)."""

BATCH_WEIGHTS = 2**21
"""Weights (replicates times images) that a statistic is given at once: 16 MiB, however many images there are."""


@dataclass(frozen=True)
class Units:
    """What is drawn in a replicate.

    Attributes:
        of_image: Unit of each image, integers 0 .. count - 1 of shape (N,).
        count: Number of units.
        grouped: Whether units are groups of images.
    """

    of_image: npt.NDArray[np.intp]
    count: int
    grouped: bool

    @property
    def enough(self) -> bool:
        """Whether there are enough of them for an interval."""
        return self.count >= (MIN_GROUPS if self.grouped else MIN_IMAGES)


@dataclass(frozen=True)
class Interval:
    """Bounds of an interval, each of shape () or (K,); NaN where none can be given."""

    low: Floats
    high: Floats


def sampling_units(groups: Sequence[str | None]) -> Units:
    """The units of images: their groups, or the images themselves where they have none.

    Args:
        groups: Group of each image, None for an image of its own.
    """
    names = [("image", str(place)) if group is None else ("group", group) for place, group in enumerate(groups)]
    numbers = {name: number for number, name in enumerate(dict.fromkeys(names))}
    of_image = np.array([numbers[name] for name in names], dtype=np.intp)
    return Units(of_image, len(numbers), grouped=any(group is not None for group in groups))


def bootstrap_interval(
    statistic: Statistic,
    units: Units,
    *,
    confidence: float = 0.95,
    resamples: int = 1000,
    seed: int = 0,
) -> Interval:
    """Confidence interval of a statistic over images, by resampling units with replacement.

    The percentile interval, which covered better than BCa, at the level of `expanded_confidence`, which brought five
    groups from 0.82 to 0.92 (benchmarks/interval_coverage.py).

    Args:
        statistic: From weights of shape (R, N) to values of shape (R,) or (K, R).
        units: What is drawn.
        confidence: Nominal coverage in 0 .. 1.
        resamples: Number of replicates.
        seed: Of the draws; the same seed gives the same draws to every statistic.

    Returns:
        The interval; NaN where there are too few units (`Units.enough`) or the statistic is not defined on a replicate.
    """
    if not units.enough:
        shape = statistic(np.ones((1, len(units.of_image)))).shape[:-1]
        return Interval(np.full(shape, np.nan), np.full(shape, np.nan))
    rng = np.random.default_rng(seed)
    batch = max(1, BATCH_WEIGHTS // len(units.of_image))
    values = []
    for start in range(0, resamples, batch):
        draws = rng.integers(0, units.count, (min(batch, resamples - start), units.count))
        values.append(statistic(draw_counts(draws, units.count)[:, units.of_image]))
    tail = (1 - expanded_confidence(confidence, units.count)) / 2
    low, high = np.quantile(np.concatenate(values, axis=-1), (tail, 1 - tail), axis=-1)
    return Interval(np.asarray(low), np.asarray(high))


def expanded_confidence(confidence: float, units: int) -> float:
    """The level at which a percentile interval of few units has the width that Student's t asks for.

    A plain percentile interval is too narrow by sqrt((n - 1) / n) and takes normal for Student quantiles (Hesterberg,
    "What Teachers Should Know About the Bootstrap", The American Statistician 69, 2015, section 4.3.1).

    Args:
        confidence: Nominal coverage in 0 .. 1.
        units: Number of independent units n, at least 2.
    """
    quantile = special.stdtrit(units - 1, (1 + confidence) / 2) * np.sqrt(units / (units - 1))
    return float(1 - 2 * special.ndtr(-quantile))


def paired_interval(
    first: Statistic,
    second: Statistic,
    units: Units,
    *,
    confidence: float = 0.95,
    resamples: int = 1000,
    seed: int = 0,
) -> Interval:
    """Interval of `first` minus `second`, both on the same drawn images.

    It is about two checkpoints on other images. It says nothing about the configurations behind them: another seed
    moves a checkpoint as well, and one checkpoint each cannot show by how much.
    """
    return bootstrap_interval(
        lambda weights: first(weights) - second(weights), units, confidence=confidence, resamples=resamples, seed=seed
    )


def draw_counts(draws: npt.NDArray[np.intp], count: int) -> Floats:
    """How often each unit was drawn: draws of shape (R, D) with entries below `count` to counts of shape (R, count)."""
    offsets = np.arange(len(draws))[:, None] * count
    counts = np.bincount((draws + offsets).ravel(), minlength=len(draws) * count)
    return counts.reshape(len(draws), count).astype(np.float64)
