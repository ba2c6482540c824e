"""Whether a configuration is better than the baseline: a test of several against one, over fresh seeds and over images.

The scores of a configuration over seeds have a variance s^2, the same for all configurations as Dunnett's test has it
(Dunnett, "A Multiple Comparison Procedure for Comparing Several Treatments with a Control", JASA 50, 1955). The images
of the split add a variance v to every difference, which leaving out images tells. A difference d of two means
over n and n0 seeds is held against

    t = d / sqrt(s^2 (1/n + 1/n0) + v)

How large the largest t of a sweep of equals is, is simulated with the same numbers of seeds, of images and of
configurations that were picked from. The two variances are not known but estimated, s^2 often from four degrees of
freedom: each simulated sweep draws both as the estimates leave them open, s^2 f / chi^2 with f degrees of freedom
(the fiducial solution of Behrens and Fisher; Fisher, "The Fiducial Argument in Statistical Inference", Annals of
Eugenics 6, 1935). With the estimates themselves a spread that is small by luck would make the chance that is told many
times too small. On val the candidates were picked by scores on the very images that they are
compared on: their luck with these images is picked as well, and the simulation picks in the same way. docs/METRICS.md
has the definition and what simulated sweeps showed.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum

import numpy as np

from trainables.metrics import Floats

CONFIDENCE = 0.95
DRAWS = 100_000
"""Simulated sweeps of equals: a chance of 0.025 is known to 0.0005, and its t, where seeds are few, to 1%."""
LEAST_SEEDS = 2
"""Fewer show no variance."""
POWER = 0.8
BLOCK = 2**21
"""Numbers that a simulation holds at once."""


class Outcome(Enum):
    """What fresh seeds showed of a configuration beside the baseline."""

    BETTER = "better"
    WORSE = "worse"
    UNDECIDED = "undecided"


@dataclass(frozen=True)
class Arm:
    """A configuration that was trained with fresh seeds.

    Attributes:
        name: Of it.
        scores: One per seed, higher is better.
    """

    name: str
    scores: tuple[float, ...]

    @property
    def mean(self) -> float:
        """Over the seeds."""
        return float(np.mean(self.scores))


@dataclass(frozen=True)
class Contrast:
    """A configuration beside the baseline.

    Attributes:
        name: Of the configuration.
        difference: Of the means over seeds; above 0 the configuration is better.
        low: Lower bound of its 95% interval, which holds for all contrasts of the sweep at once.
        high: Upper bound.
        chance: Share of sweeps of equals in which the largest t is at least as large as this one's.
        detectable: A true gain that would have been found in 8 of 10 such sweeps.
        seeds: Of the configuration.
    """

    name: str
    difference: float
    low: float
    high: float
    chance: float
    detectable: float
    seeds: int

    @property
    def outcome(self) -> Outcome:
        """An interval that ends at 0 decides nothing."""
        if self.low > 0:
            return Outcome.BETTER
        return Outcome.WORSE if self.high < 0 else Outcome.UNDECIDED


@dataclass(frozen=True)
class Design:
    """How a comparison was made: what decides how large a difference chance alone brings.

    Attributes:
        seeds: Of the baseline, then of each configuration compared with it.
        units: Images, or groups of images, of the split; 0 where the images count as given.
        chosen_from: Configurations, without the baseline, of which those compared are the best on the images of the
            split; None where other images chose them.
        picked: Where the first is no baseline but was picked itself: of how many configurations the search took how
            many, the best mean of which over these very seeds it is.
        looks: How often seeds were added and looked at, this time included.
    """

    seeds: tuple[int, ...]
    units: int = 0
    chosen_from: int | None = None
    picked: tuple[int, int] | None = None
    looks: int = 1

    @property
    def freedom(self) -> int:
        """Degrees of freedom of the variance over seeds."""
        return sum(self.seeds) - len(self.seeds)


class Null:
    """The largest t of sweeps in which every configuration is as good as the baseline.

    Args:
        design: Of the comparison.
        seed_variance: Of the scores of one configuration.
        image_variance: Of a difference, from the images.
        draws: Simulated sweeps.
    """

    def __init__(
        self, design: Design, seed_variance: float, image_variance: float = 0.0, *, draws: int = DRAWS
    ) -> None:
        self.design = design
        self._largest = np.sort(_largest(design, seed_variance, image_variance, draws))

    def chance(self, t: float) -> float:
        """Share of the sweeps whose largest t is at least this; never 0, since the draws end somewhere."""
        above = len(self._largest) - int(np.searchsorted(self._largest, t, side="left"))
        return min(1.0, self.design.looks * (above + 1) / (len(self._largest) + 1))

    def critical(self, confidence: float = CONFIDENCE) -> float:
        """The t that the largest of a sweep of equals exceeds in (1 - confidence) / 2 of all, over all looks."""
        return float(np.quantile(self._largest, 1 - (1 - confidence) / 2 / self.design.looks))


def compare(
    baseline: Arm,
    others: Sequence[Arm],
    *,
    image_variance: Mapping[str, float] | None = None,
    units: int = 0,
    chosen_from: int | None = None,
    picked: tuple[int, int] | None = None,
    looks: int = 1,
    draws: int = DRAWS,
) -> list[Contrast]:
    """Compares configurations with the baseline; or, where the first was picked itself, the first with each of them.

    Args:
        baseline: Over its seeds; or the winner that is taken apart, which is then compared with each of the others.
        others: Each over its seeds; at least one.
        image_variance: Of each difference of means over seeds, by name, as leaving out images gives it; None where
            the images count as given.
        units: Images or groups of images that were left out.
        chosen_from: See `Design`.
        picked: See `Design`.
        looks: See `Design`.
        draws: Simulated sweeps of equals.

    Returns:
        One contrast per configuration, in their order.

    Raises:
        ValueError: If an arm has fewer than `LEAST_SEEDS` scores.
    """
    arms = [baseline, *others]
    short = [arm.name for arm in arms if len(arm.scores) < LEAST_SEEDS]
    if short or not others:
        raise ValueError(f"too few seeds of {', '.join(short)}" if short else "nothing to compare with")
    design = Design(tuple(len(arm.scores) for arm in arms), units, chosen_from, picked, looks)
    seed_variance = pooled_variance(arms)
    of_images = [0.0 if image_variance is None else image_variance[arm.name] for arm in others]
    null = Null(design, seed_variance, float(np.mean(of_images)), draws=draws)
    critical = null.critical()
    found = []
    for arm, images in zip(others, of_images, strict=True):
        error = math.sqrt(seed_variance * (1 / len(arm.scores) + 1 / len(baseline.scores)) + images)
        difference = arm.mean - baseline.mean if picked is None else baseline.mean - arm.mean
        t = difference / error if error > 0 else math.copysign(math.inf, difference) if difference else 0.0
        reach = critical * error
        found.append(
            Contrast(
                name=arm.name,
                difference=difference,
                low=difference - reach,
                high=difference + reach,
                chance=null.chance(t),
                detectable=detectable_difference(critical, error, design.freedom),
                seeds=len(arm.scores),
            )
        )
    return found


def pooled_variance(arms: Sequence[Arm]) -> float:
    """Variance of scores within configurations, over all of them."""
    squares = sum(float(np.square(np.asarray(arm.scores) - arm.mean).sum()) for arm in arms)
    return squares / (sum(len(arm.scores) for arm in arms) - len(arms))


def power(gain: float, design: Design, seed_sd: float, image_sd: float = 0.0, *, draws: int = DRAWS) -> float:
    """How often a true gain of one configuration is claimed, if that one is among those compared.

    Args:
        gain: True difference.
        design: Of the comparison.
        seed_sd: Of the scores of one configuration.
        image_sd: Of a difference, from the images.
        draws: Simulated comparisons.
    """
    critical = Null(design, seed_sd**2, image_sd**2, draws=draws).critical()
    rng = np.random.default_rng(1)
    errors = seed_sd**2 * (1 / design.seeds[1] + 1 / design.seeds[0]) + image_sd**2
    differences = gain + math.sqrt(errors) * rng.standard_normal(draws)
    return float(np.mean(differences > critical * np.sqrt(_estimated(design, seed_sd**2, image_sd**2, rng, draws)[1])))


def detectable(design: Design, seed_sd: float, image_sd: float = 0.0, *, draws: int = DRAWS) -> float:
    """A true gain that is claimed in 8 of 10 cases; see `power`."""
    error = math.sqrt(seed_sd**2 * (1 / design.seeds[1] + 1 / design.seeds[0]) + image_sd**2)
    return detectable_difference(Null(design, seed_sd**2, image_sd**2, draws=draws).critical(), error, design.freedom)


def detectable_difference(critical: float, error: float, freedom: int) -> float:
    """The critical difference, and as much more as chance takes away in 2 of 10 cases."""
    from scipy import special  # not for a command's help, which lists objectives

    return error * (critical + float(special.stdtrit(freedom, POWER)))


def _largest(design: Design, seed_variance: float, image_variance: float, draws: int) -> Floats:
    """The largest t of each of so many sweeps of equals."""
    if not seed_variance and not image_variance:
        return np.zeros(draws)
    tried, _ = design.picked or (design.chosen_from or 0, 0)
    block = max(1, BLOCK // max(tried, len(design.seeds) - 1))
    differences = _of_candidates if design.picked is None else _of_picked
    errors = np.sqrt(_shares(design)[1:] * seed_variance + image_variance)
    rng = np.random.default_rng(0)
    found = []
    for start in range(0, draws, block):
        size = min(block, draws - start)
        seed_sd, luck_sd = spreads(seed_variance, design.freedom, image_variance, design.units, rng, size)
        found.append((differences(design, seed_sd, luck_sd, rng, size) / errors).max(axis=1))
    return np.asarray(np.concatenate(found))


def spreads(
    seed_variance: float, freedom: int, image_variance: float, units: int, rng: np.random.Generator, size: int
) -> tuple[Floats, Floats]:
    """True spreads that estimates leave open: draws of the fiducial distributions of two standard deviations.

    Args:
        seed_variance: Estimated, of the scores of one configuration.
        freedom: Degrees of freedom of that estimate.
        image_variance: Estimated, of a difference.
        units: Images, or groups of images, that it is from; up to 1 where it counts as known.
        rng: Of the draws.
        size: How many.

    Returns:
        The standard deviations of a score over seeds, and of one configuration's score over images, shape (size, 1).
    """
    of_seeds = seed_variance * freedom / rng.chisquare(freedom, (size, 1))
    of_images = np.full((size, 1), image_variance)
    if units > 1:
        of_images = image_variance * (units - 1) / rng.chisquare(units - 1, (size, 1))
    return np.sqrt(of_seeds), np.sqrt(of_images / 2)


def _shares(design: Design) -> Floats:
    """What the variance over seeds is multiplied with in the variance of each difference from the first."""
    return np.array([1 / seeds + 1 / design.seeds[0] for seeds in design.seeds])


def _of_candidates(design: Design, seed_sd: Floats, luck_sd: Floats, rng: np.random.Generator, size: int) -> Floats:
    """Differences of candidates from a baseline as good as they are, shape (size, compared)."""
    compared = len(design.seeds) - 1
    seeds = np.array(design.seeds)
    if design.chosen_from is None:
        own = luck_sd * rng.standard_normal((size, compared))
    else:
        own = luck_of_best(max(compared, design.chosen_from), compared, seed_sd, luck_sd, rng, size)
    means = own + seed_sd * rng.standard_normal((size, compared)) / np.sqrt(seeds[1:])
    shape = (size, 1)
    baseline = luck_sd * rng.standard_normal(shape) + seed_sd * rng.standard_normal(shape) / math.sqrt(seeds[0])
    return np.asarray(means - baseline)


def _of_picked(design: Design, seed_sd: Floats, luck_sd: Floats, rng: np.random.Generator, size: int) -> Floats:
    """Differences by which a picked winner stands above variants that are as good, shape (size, variants).

    The winner's luck with the images and with the seeds was picked: of `tried` configurations the `top` best by one
    seed, of these the best by its mean over the seeds that it is compared with. The variants have luck of their own.
    """
    tried, top = design.picked or (1, 1)
    top = max(1, top)
    variants = len(design.seeds) - 1
    seeds = np.array(design.seeds)
    luck = luck_of_best(max(top, tried), top, seed_sd, luck_sd, rng, size)
    means = luck + seed_sd * rng.standard_normal((size, top)) / math.sqrt(seeds[0])
    own = luck_sd * rng.standard_normal((size, variants))
    others = own + seed_sd * rng.standard_normal((size, variants)) / np.sqrt(seeds[1:])
    return np.asarray(means.max(axis=1)[:, None] - others)


def luck_of_best(tried: int, top: int, seed_sd: Floats, luck_sd: Floats, rng: np.random.Generator, size: int) -> Floats:
    """Luck with the images of the best by one seed each among equals, shape (size, top); spreads of shape (size, 1)."""
    luck = luck_sd * rng.standard_normal((size, tried))
    best = np.argsort(-(luck + seed_sd * rng.standard_normal((size, tried))), axis=1)[:, :top]
    return np.asarray(np.take_along_axis(luck, best, axis=1))


def _estimated(
    design: Design, seed_variance: float, image_variance: float, rng: np.random.Generator, size: int
) -> Floats:
    """Variances of the differences as they would be estimated, shape (1 + compared, size); the first row is unused."""
    of_seeds = seed_variance * rng.chisquare(design.freedom, size) / design.freedom
    of_images = np.full(size, image_variance)
    if design.units > 1:
        of_images = image_variance * rng.chisquare(design.units - 1, size) / (design.units - 1)
    return np.asarray(_shares(design)[:, None] * of_seeds + of_images)
