"""Which configuration is ahead: trials that differ in the seed alone are one, and are ranked by their mean."""

from __future__ import annotations

import statistics
from bisect import bisect_left, insort
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from sweep.objectives import Objective
from sweep.phase_kinds import kind_of

if TYPE_CHECKING:
    from sweep.trials import TrialView

Configuration = tuple[tuple[str, ...], tuple[Any, ...]]
"""Keys in order, and their values."""
_KEYS: dict[tuple[str, ...], tuple[str, ...]] = {}
"""The keys that configurations have, each combination once: of thousands of trials few differ in them."""


def configuration(trial: TrialView) -> Configuration:
    """What a trial trains, its seed left out: equal for trials that differ in the seed alone."""
    if trial.identity is None:
        trial.identity = identity_of(trial.config)
    return trial.identity


def identity_of(config: Mapping[str, Any]) -> Configuration:
    """A flat configuration without its seed, to be compared."""
    keys = tuple(sorted(key for key in config if key != "seed"))
    return _KEYS.setdefault(keys, keys), tuple(config[key] for key in keys)


def by_configuration(trials: Iterable[TrialView]) -> dict[Configuration, list[TrialView]]:
    """Trials that differ in the seed alone, together, in the order in which they come."""
    groups: dict[Configuration, list[TrialView]] = {}
    for trial in trials:
        groups.setdefault(configuration(trial), []).append(trial)
    return groups


def mean_goodness(trials: Iterable[TrialView], objective: Objective) -> float:
    """Mean score of trials that have one, turned so that higher is better."""
    return statistics.fmean(objective.goodness(trial.metrics[objective.key]) for trial in trials)


@dataclass(eq=False)
class _Group:
    """The trials of one configuration, in the order of their numbers, and its place in a ranking."""

    trials: list[TrialView] = field(default_factory=list)
    place: tuple[int, float, int] = (0, 0.0, 0)

    def longest(self) -> list[TrialView]:
        """Those that were trained longest."""
        most = max(trial.epochs for trial in self.trials)
        return [trial for trial in self.trials if trial.epochs == most]


class Ranking:
    """Configurations by their trials, the first of the ranking first: by epochs, by mean score, by first trial.

    A trial that was trained longer ranks before one that was stopped earlier, whatever their scores: scores at
    different epochs do not compare. Each trial that is added costs the logarithm of how many there are.

    Args:
        objective: What ranks.
    """

    def __init__(self, objective: Objective) -> None:
        self._objective = objective
        self._groups: dict[Configuration, _Group] = {}
        self._ascending: list[tuple[tuple[int, float, int], Configuration]] = []

    def add(self, trial: TrialView) -> None:
        """Ranks a trial that has ended with a finite score."""
        key = configuration(trial)
        group = self._groups.get(key)
        if group is None:
            group = self._groups[key] = _Group()
        else:
            del self._ascending[bisect_left(self._ascending, group.place, key=_place)]
        insort(group.trials, trial, key=lambda one: one.number)
        longest = group.longest()
        group.place = longest[0].epochs, mean_goodness(longest, self._objective), -longest[0].number
        insort(self._ascending, (group.place, key), key=_place)

    def __iter__(self) -> Iterator[list[TrialView]]:
        """The trials of each configuration that were trained longest, in the order of their numbers."""
        return (self._groups[key].longest() for _, key in reversed(self._ascending))

    def __len__(self) -> int:
        """How many configurations there are."""
        return len(self._ascending)

    def of(self, key: Configuration) -> list[TrialView]:
        """The trials of one configuration that were trained longest; none of one that is not ranked."""
        group = self._groups.get(key)
        return group.longest() if group is not None else []


def _place(entry: tuple[tuple[int, float, int], Configuration]) -> tuple[int, float, int]:
    return entry[0]


class Standings:
    """The rankings of a run by one objective: of each label what was tried, and of all what may become `best`.

    Args:
        objective: What ranks.
        trials: Those that have ended, in the order in which they were suggested.
    """

    def __init__(self, objective: Objective, trials: Iterable[TrialView]) -> None:
        self._objective = objective
        self._tried: dict[str, Ranking] = {}
        self._first: dict[str, int] = {}
        self.full = Ranking(objective)
        """The trials at full budget that may become `best`."""
        for trial in trials:
            self.add(trial)

    def add(self, trial: TrialView) -> None:
        """Ranks a trial that has ended; without a score it represents nothing."""
        if self._objective.value(trial.metrics) is None:
            return
        kind = kind_of(trial.phase)
        if kind.explores and trial.state in ("completed", "stopped"):
            self._tried.setdefault(trial.label, Ranking(self._objective)).add(trial)
            self._first[trial.label] = min(self._first.get(trial.label, trial.position), trial.position)
        if kind.may_be_best and trial.state == "completed":
            self.full.add(trial)

    def leaders(self) -> dict[str, TrialView]:
        """The first trial of each label's ranking; labels in the order in which they were first suggested."""
        return {label: next(iter(self._tried[label]))[0] for label in sorted(self._tried, key=self._first.__getitem__)}
