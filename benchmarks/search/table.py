"""Regret of replayed searches as one table: means with 95% intervals, and paired differences from the default."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from scipy import stats

from benchmarks.search.replay import Strategy

KINDS = ("simulated", "recorded")


@dataclass(frozen=True)
class Replayed:
    """One search that was replayed.

    Attributes:
        landscape: Its name; `recorded ...` where the curves are of real trainings.
        strategy: What was played.
        slots: Trials at once.
        repetition: Landscape, noise and seed are the same for all strategies of a repetition.
        regret: Of what was crowned.
        trials: Of the search.
        share: Of the epochs given, those spent.
        driver_seconds: CPU time of all decisions.
    """

    landscape: str
    strategy: Strategy
    slots: int
    repetition: int
    regret: float
    trials: int
    share: float
    driver_seconds: float

    @property
    def kind(self) -> str:
        """One of `KINDS`."""
        return KINDS[self.landscape.startswith(KINDS[1])]


def interval(values: Sequence[float]) -> tuple[float, float]:
    """The mean and half of its 95% t-interval; NaN for one value."""
    mean = statistics.fmean(values)
    if len(values) < 2:
        return mean, math.nan
    wide = float(stats.t.ppf(0.975, len(values) - 1)) * statistics.stdev(values) / math.sqrt(len(values))
    return mean, wide


def by_repetition(found: Iterable[Replayed]) -> dict[int, float]:
    """The mean regret over the landscapes of each repetition that has all of them.

    Landscapes are not drawn from anything: what is uncertain is the mean over repetitions.
    """
    regrets: dict[int, dict[str, float]] = {}
    for one in found:
        regrets.setdefault(one.repetition, {})[one.landscape] = one.regret
    most = max(map(len, regrets.values()), default=0)
    return {n: statistics.fmean(each.values()) for n, each in regrets.items() if len(each) == most}


def rows(found: Sequence[Replayed], default: Strategy) -> list[str]:
    """The lines of the table, the header first; strategies in the order in which they were played.

    Trials, epochs spent and CPU time are those on simulated curves, where there are any.
    """
    wide = "{:<9} {:<9} {:<12} {:>5} {:>6} {:>6} {:>9}  {:>15} {:>16}   {:>15} {:>16}"
    kinds = [text for kind in KINDS for text in (f"{kind}", "- default")]
    lines = [wide.format("sampler", "rule", "allocation", "slots", "trials", "spent", "ms/trial", *kinds)]
    for slots in sorted({one.slots for one in found}):
        of_slots = [one for one in found if one.slots == slots]
        for strategy in dict.fromkeys(one.strategy for one in of_slots):
            own = [one for one in of_slots if one.strategy == strategy]
            cells = []
            for kind in KINDS:
                mine = [one for one in own if one.kind == kind]
                theirs = [one for one in of_slots if one.kind == kind and one.strategy == default]
                cells += [regret_text(mine), difference_text(mine, theirs) if strategy != default else ""]
            told = [one for one in own if one.kind == KINDS[0]] or own
            lines.append(
                wide.format(
                    strategy.sampler,
                    strategy.rule,
                    strategy.allocation,
                    slots,
                    f"{statistics.fmean(one.trials for one in told):.1f}",
                    f"{statistics.fmean(one.share for one in told):.0%}",
                    f"{1000 * sum(one.driver_seconds for one in told) / sum(one.trials for one in told):.1f}",
                    *cells,
                ).rstrip()
            )
    return lines


def by_landscape(found: Sequence[Replayed], default: Strategy) -> list[str]:
    """Differences from the default on each landscape, over all numbers of slots."""
    names = list(dict.fromkeys(one.landscape for one in found))
    wide = "{:<9} {:<9} {:<12}" + " {:>16}" * len(names)
    lines = [wide.format("sampler", "rule", "allocation", *names)]
    for strategy in dict.fromkeys(one.strategy for one in found):
        cells = []
        for name in names:
            mine = [one for one in found if one.landscape == name and one.strategy == strategy]
            theirs = [one for one in found if one.landscape == name and one.strategy == default]
            cells.append(regret_text(mine) if strategy == default else difference_text(mine, theirs))
        lines.append(wide.format(strategy.sampler, strategy.rule, strategy.allocation, *cells).rstrip())
    return lines


def regret_text(found: Sequence[Replayed]) -> str:
    """A mean regret with its interval; a dash where nothing was played."""
    values = list(_over_slots(found).values())
    return "-" if not values else "{:.4f} ±{:.4f}".format(*interval(values))


def difference_text(found: Sequence[Replayed], default: Sequence[Replayed]) -> str:
    """A paired difference with its interval, starred where the interval is on one side of 0."""
    played = {one.landscape for one in found}
    own, theirs = _over_slots(found), _over_slots([one for one in default if one.landscape in played])
    both = sorted(own.keys() & theirs.keys())
    if not both:
        return "-"
    mean, half = interval([own[n] - theirs[n] for n in both])
    return f"{mean:+.4f} ±{half:.4f}{'*' if abs(mean) > half else ' '}"


def _over_slots(found: Sequence[Replayed]) -> Mapping[int, float]:
    """Mean regret of each repetition that has every number of slots."""
    each = [by_repetition(one for one in found if one.slots == slots) for slots in {one.slots for one in found}]
    common = set.intersection(*(set(one) for one in each)) if each else set()
    return {n: statistics.fmean(one[n] for one in each) for n in common}
