"""Whether the other candidates can be told from the winner: all pairs of candidates at once.

The winner is the one with the best mean over the very seeds that it is compared by, so its pairs with the others are no
sample of pairs. The largest |t| over all pairs of candidates bounds them whichever of them wins (Tukey's test, "The
Problem of Multiple Comparisons", 1953), with the variances and the picking of `sweep.claims`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import combinations

import numpy as np

from sweep.claims import BLOCK, CONFIDENCE, DRAWS, Arm, Contrast, Design, detectable_difference, luck_of_best, spreads
from trainables.metrics import Floats


def compare_with_winner(
    winner: Arm,
    others: Sequence[Arm],
    *,
    seed_variance: float,
    freedom: int,
    image_variance: Mapping[str, float] | None = None,
    units: int = 0,
    chosen_from: int | None = None,
    looks: int = 1,
    draws: int = DRAWS,
) -> list[Contrast]:
    """Compares each of the other candidates with the winner.

    Args:
        winner: Of the candidates, over its seeds.
        others: The rest of them; without the baseline, which `sweep.claims.compare` holds each of them against.
        seed_variance: Of the scores of one configuration, as all of them show it, the baseline too.
        freedom: Its degrees of freedom.
        image_variance: Of the difference of each of the others from the winner, by name; None where images count as
            given.
        units: See `sweep.claims.Design`, as are `chosen_from` and `looks`.
        chosen_from: See there.
        looks: See there.
        draws: Simulated sweeps of equals.

    Returns:
        One contrast for each of the others: below 0 it is worse than the winner. The intervals hold for all pairs of
        candidates at once; `chance` is the share of sweeps of equals in which some pair differs as much.
    """
    design = Design(tuple(len(arm.scores) for arm in (winner, *others)), units, chosen_from, None, looks)
    images = [0.0 if image_variance is None else image_variance[arm.name] for arm in others]
    largest = (
        np.sort(_largest(design, freedom, seed_variance, float(np.mean(images)), draws)) if others else np.zeros(0)
    )
    found = []
    for arm, variance in zip(others, images, strict=True):
        critical = float(np.quantile(largest, 1 - (1 - CONFIDENCE) / looks))
        error = math.sqrt(seed_variance * (1 / len(arm.scores) + 1 / len(winner.scores)) + variance)
        difference = arm.mean - winner.mean
        t = abs(difference) / error if error > 0 else math.inf if difference else 0.0
        above = len(largest) - int(np.searchsorted(largest, t, side="left"))
        found.append(
            Contrast(
                name=arm.name,
                difference=difference,
                low=difference - critical * error,
                high=difference + critical * error,
                chance=min(1.0, looks * (above + 1) / (len(largest) + 1)),
                detectable=detectable_difference(critical, error, freedom),
                seeds=len(arm.scores),
            )
        )
    return found


def _largest(design: Design, freedom: int, seed_variance: float, image_variance: float, draws: int) -> Floats:
    """The largest |t| over all pairs of candidates, of each of so many sweeps of equals."""
    if not seed_variance and not image_variance:
        return np.zeros(draws)
    count = len(design.seeds)
    tried = max(count, design.chosen_from or 0)
    block = max(1, BLOCK // max(tried, count))
    pairs = [(*pair, _error(design, pair, seed_variance, image_variance)) for pair in combinations(range(count), 2)]
    rng = np.random.default_rng(0)
    found = []
    for start in range(0, draws, block):
        size = min(block, draws - start)
        seed_sd, luck_sd = spreads(seed_variance, freedom, image_variance, design.units, rng, size)
        own = (
            luck_sd * rng.standard_normal((size, count))
            if design.chosen_from is None
            else luck_of_best(tried, count, seed_sd, luck_sd, rng, size)
        )
        means = own + seed_sd * rng.standard_normal((size, count)) / np.sqrt(np.array(design.seeds))
        largest = np.zeros(size)
        for first, second, error in pairs:
            np.maximum(largest, np.abs(means[:, first] - means[:, second]) / error, out=largest)
        found.append(largest)
    return np.concatenate(found)


def _error(design: Design, pair: tuple[int, int], seed_variance: float, image_variance: float) -> float:
    """Standard error of the difference of two of the candidates."""
    return math.sqrt(seed_variance * sum(1 / design.seeds[one] for one in pair) + image_variance)
