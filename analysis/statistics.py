"""How far a number measured on these images would move on other images: intervals, as pure functions on arrays.

A statistic takes many replicates of a split at once (`trainables.metrics.resampling`), weights of shape (R, N), so that
sums over images are one matrix product.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy import special

from trainables.metrics import Floats, Units, replicate_weights

Statistic = Callable[[Floats], Floats]
"""Weights of shape (R, N) to values of shape (R,) or (K, R)."""

MIN_IMAGES = 20
"""Fewer images give no interval: they miss the rare classes, and 95% covered 0.83 of the time (docs/METRICS.md)."""

MIN_GROUPS = 5
"""Fewer groups give no interval: resamples of four are too few to reach its ends (docs/METRICS.md)."""


@dataclass(frozen=True)
class Interval:
    """Bounds of an interval, each of shape () or (K,); NaN where none can be given."""

    low: Floats
    high: Floats


def enough(units: Units) -> bool:
    """Whether there are enough units for an interval."""
    return units.count >= (MIN_GROUPS if units.grouped else MIN_IMAGES)


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
        The interval; NaN where there are too few units (`enough`) or the statistic is not defined on a replicate.
    """
    if not enough(units):
        shape = statistic(np.ones((1, len(units.of_image)))).shape[:-1]
        return Interval(np.full(shape, np.nan), np.full(shape, np.nan))
    values = [statistic(weights) for weights in replicate_weights(units, resamples=resamples, seed=seed)]
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


@dataclass(frozen=True)
class Family:
    """Several differences on the same drawn images, told at once.

    Attributes:
        low: Lower bounds, shape (K,); NaN where none is given.
        high: Upper bounds; all intervals hold at once in 95% of splits.
        chance: How often the largest of K differences that are all 0 is, in its standard errors, as large as each one.
        above: Share of replicates in which each difference is above 0.
    """

    low: Floats
    high: Floats
    chance: Floats
    above: Floats


def paired_family(
    differences: Statistic, units: Units, *, confidence: float = 0.95, resamples: int = 1000, seed: int = 0
) -> Family:
    """Simultaneous intervals of several differences of checkpoints, by the bootstrap's largest |t| over them.

    The single-step max-t method (Westfall and Young, "Resampling-Based Multiple Testing", 1993), each difference in its
    bootstrap standard errors.

    Args:
        differences: From weights of shape (R, N) to differences of shape (K, R), all on the same drawn images.
        units: What is drawn.
        confidence: Nominal coverage of all intervals at once, in 0 .. 1.
        resamples: Number of replicates.
        seed: Of the draws.
    """
    once = np.ones((1, len(units.of_image)))
    estimates = differences(once)[:, 0]
    if not enough(units):
        return Family(*(np.full(len(estimates), np.nan) for _ in range(4)))
    drawn = replicate_weights(units, resamples=resamples, seed=seed)
    values = np.concatenate([differences(weights) for weights in drawn], axis=1)
    errors = values.std(axis=1)
    centred = np.abs(values - values.mean(axis=1, keepdims=True))
    largest = np.divide(centred, errors[:, None], out=np.zeros_like(centred), where=errors[:, None] > 0).max(axis=0)
    reach = np.quantile(largest, expanded_confidence(confidence, units.count)) * errors
    own = np.divide(np.abs(estimates), errors, out=np.where(estimates == 0, 0.0, np.inf), where=errors > 0)
    chance = (1 + (largest >= own[:, None]).sum(axis=1)) / (1 + len(largest))
    above = (values > 0).mean(axis=1) + (values == 0).mean(axis=1) / 2
    return Family(estimates - reach, estimates + reach, chance, above)
