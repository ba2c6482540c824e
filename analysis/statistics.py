"""How far a number measured on these images would move on other images: intervals, as pure functions on arrays.

A statistic takes many replicates of a split at once (`trainables.metrics.resampling`), weights of shape (R, N), so that
sums over images are one matrix product. What it does when each unit in turn is left out (the jackknife) tells its bias,
its standard error, and how few units that error comes from.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy import special

from trainables.metrics import Floats, Units, leave_out_weights

Statistic = Callable[[Floats], Floats]
"""Weights of shape (R, N) to values of shape (R,) or (K, R)."""

CONFIDENCE = 0.95
MIN_IMAGES = 20
"""Fewer images give no interval (docs/METRICS.md has the measured coverage)."""
MIN_GROUPS = 8
"""Fewer groups give no interval."""
MOST_BLOCKS = 400
"""More units are left out in blocks, dealt out at random."""
DRAWS = 20_000
"""Of a largest |t| among several."""


@dataclass(frozen=True)
class Interval:
    """Bounds of an interval, each of shape () or (K,); NaN where none can be given."""

    low: Floats
    high: Floats


@dataclass(frozen=True)
class Spread:
    """A statistic, and what leaving out one of B blocks of units does to it.

    Attributes:
        estimate: On all images, shape (K,).
        influences: Value without each block less the mean of these, shape (K, B).
        bias: Of the estimate: (B - 1) times the mean without a block less the estimate, shape (K,).
    """

    estimate: Floats
    influences: Floats
    bias: Floats

    @property
    def error(self) -> Floats:
        """Standard errors, shape (K,)."""
        blocks = self.influences.shape[-1]
        return np.asarray(np.sqrt((blocks - 1) / blocks * np.square(self.influences).sum(axis=-1)))

    @property
    def freedom(self) -> Floats:
        """Degrees of freedom of the errors, shape (K,).

        The variance of a variance of B values with kurtosis k is (k - 1) / B of its square, as that of a chi square
        with 2 B / (k - 1) degrees of freedom. Where a few images decide, as those of a rare class, k is large.
        """
        blocks = self.influences.shape[-1]
        squares = np.square(self.influences).sum(axis=-1)
        fourths = np.power(self.influences, 4).sum(axis=-1)
        kurtosis = blocks * np.divide(fourths, squares**2, out=np.full_like(squares, 3 / blocks), where=squares > 0)
        return np.asarray(np.clip(2 * blocks / np.maximum(kurtosis - 1, 1e-9), 1, blocks - 1))


def enough(units: Units) -> bool:
    """Whether there are enough units for an interval."""
    return units.count >= (MIN_GROUPS if units.grouped else MIN_IMAGES)


def leave_out(statistic: Statistic, units: Units) -> Spread:
    """What leaving out units does to a statistic.

    Args:
        statistic: From weights of shape (R, N) to values of shape (K, R).
        units: What is left out; at least two.
    """
    estimate = statistic(np.ones((1, len(units.of_image))))[:, 0]
    without = [statistic(weights) for weights in leave_out_weights(units, most=MOST_BLOCKS)]
    values = np.concatenate(without, axis=-1)
    mean = values.mean(axis=-1)
    return Spread(estimate, values - mean[:, None], (values.shape[-1] - 1) * (mean - estimate))


def confidence_interval(statistic: Statistic, units: Units, *, confidence: float = CONFIDENCE) -> Interval:
    """Confidence interval of a statistic over images.

    Student's t interval around the estimate less its bias (Efron and Tibshirani, "An Introduction to the Bootstrap",
    1993, chapters 10 and 11), with the degrees of freedom that the influences of the units allow. It covers where
    percentiles of resamples do not (benchmarks/interval_coverage.py).

    Args:
        statistic: From weights of shape (R, N) to values of shape (R,) or (K, R).
        units: What is left out.
        confidence: Nominal coverage in 0 .. 1.

    Returns:
        The interval; NaN where there are too few units (`enough`) or the statistic is not defined without some of them.
    """
    once = statistic(np.ones((1, len(units.of_image))))
    if not enough(units):
        return Interval(np.full(once.shape[:-1], np.nan), np.full(once.shape[:-1], np.nan))
    spread = leave_out(lambda weights: np.atleast_2d(statistic(weights)), units)
    reach = special.stdtrit(spread.freedom, (1 + confidence) / 2) * spread.error
    low, high = (np.asarray(spread.estimate - spread.bias + side * reach) for side in (-1, 1))
    return Interval(low.reshape(once.shape[:-1]), high.reshape(once.shape[:-1]))


def paired_interval(first: Statistic, second: Statistic, units: Units, *, confidence: float = CONFIDENCE) -> Interval:
    """Interval of `first` minus `second`, both on the same images.

    It is about two checkpoints on other images. It says nothing about the configurations behind them: another seed
    moves a checkpoint as well, and one checkpoint each cannot show by how much.
    """
    return confidence_interval(lambda weights: first(weights) - second(weights), units, confidence=confidence)


@dataclass(frozen=True)
class Family:
    """Several differences on the same images, told at once.

    Attributes:
        low: Lower bounds, shape (K,); NaN where none is given.
        high: Upper bounds; all intervals hold at once in 95% of splits.
        chance: How often the largest of K differences that are all 0 is, in its standard errors, as large as each one.
        above: How likely each difference is to be above 0 on other images, by its own Student's t.
    """

    low: Floats
    high: Floats
    chance: Floats
    above: Floats


def paired_family(differences: Statistic, units: Units, *, confidence: float = CONFIDENCE) -> Family:
    """Simultaneous intervals of several differences of checkpoints, by the largest |t| over them.

    The single-step max-t method (Hothorn, Bretz and Westfall, "Simultaneous Inference in General Parametric Models",
    Biometrical Journal 50, 2008): the t of all differences together are drawn as a multivariate t with the correlations
    of their influences and the fewest degrees of freedom among them.

    Args:
        differences: From weights of shape (R, N) to differences of shape (K, R), all on the same images.
        units: What is left out.
        confidence: Nominal coverage of all intervals at once, in 0 .. 1.
    """
    if not enough(units):
        count = len(differences(np.ones((1, len(units.of_image)))))
        return Family(*(np.full(count, np.nan) for _ in range(4)))
    spread = leave_out(differences, units)
    centre, error = spread.estimate - spread.bias, spread.error
    largest = _largest_t(spread)
    reach = np.quantile(largest, confidence) * error
    own = np.divide(centre, error, out=np.where(centre == 0, 0.0, np.copysign(np.inf, centre)), where=error > 0)
    chance = (1 + (largest >= np.abs(own)[:, None]).sum(axis=1)) / (1 + len(largest))
    above = special.stdtr(spread.freedom, own)
    return Family(centre - reach, centre + reach, chance, np.asarray(above))


def _largest_t(spread: Spread) -> Floats:
    """The largest |t| of differences that are all 0, in `DRAWS` splits."""
    rng = np.random.default_rng(0)
    error = np.sqrt(np.square(spread.influences).sum(axis=1))
    moving = spread.influences[error > 0] / error[error > 0, None]
    if not len(moving):
        return np.zeros(DRAWS)
    values, vectors = np.linalg.eigh(moving @ moving.T)
    root = vectors * np.sqrt(np.maximum(values, 0))
    freedom = float(spread.freedom[error > 0].min())
    drawn = rng.standard_normal((DRAWS, len(moving))) @ root.T
    return np.asarray(np.abs(drawn).max(axis=1) / np.sqrt(rng.chisquare(freedom, DRAWS) / freedom))
