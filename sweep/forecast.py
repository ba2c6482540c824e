"""How long trials will take: as measured before the sweep at first, then as they report; and what still fits."""

from __future__ import annotations

import math
import statistics
from bisect import insort
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from sweep.journal import Event
from sweep.plan import MeasuredCost, Plan, cost_of

RAY_SECONDS = 8.0
"""To start Ray, and to end it."""
WORKER_SECONDS = 7.0
"""For the first trial of each place: its process starts and loads torch."""
REFIT_SHARE = 0.1
"""The most of a time budget that is kept for a refit which was not asked for."""
TRIAL_SECONDS = 1.0
"""Of a trial beside its epochs, until the first has reported: placing, building, writing."""
_KINDS = ("model.name", "image_size", "resize", "training.freeze", "batch_size", "loss.name", "augment.policy")
"""Keys that decide what an epoch costs, the most important first."""
_MEASURED = 5
"""Of them are measured before a sweep."""
_RECENT = 20
"""Epochs that an estimate is made of."""


class Forecast:
    """Seconds of epochs and trials; follows the journal.

    An epoch counts from one result to the next, with all that is written in between. The estimate of an epoch is the
    mean of the latest of its kind: with the same loss and policy where there are any, else of the same model, input,
    frozen part and batches, else what was measured before the sweep, times how far such measurements were off for
    others.

    Args:
        costs: Measured before the sweep.
    """

    def __init__(self, costs: Iterable[MeasuredCost]) -> None:
        self._costs = tuple(costs)
        self._epochs: dict[tuple[Any, ...], deque[float]] = {}
        self._configs: dict[str, Mapping[str, Any]] = {}
        self._last: dict[str, float] = {}
        self._overheads: list[float] = []
        self._fresh: set[str] = set()
        self._resuming = False

    def on_event(self, event: Event) -> None:
        """Learns from an event; the times are the conductor's, which do not count pauses."""
        kind, trial_id = event["event"], event.get("trial_id", "")
        if kind == "suggested" and "spent_s" in event:
            self._configs[trial_id] = event["config"]
            self._last[trial_id] = event["spent_s"]
            self._fresh.add(trial_id)
        elif kind == "result" and trial_id in self._last:
            config = self._configs[trial_id]
            took = event["spent_s"] - self._last[trial_id]
            self._last[trial_id] = event["spent_s"]
            if trial_id in self._fresh:  # with the start of the trial, which is told apart
                self._fresh.discard(trial_id)
                insort(self._overheads, max(0.0, took - event["seconds"]))
                took = event["seconds"]
            for length in (_MEASURED, len(_KINDS)):
                self._epochs.setdefault(_kind(config, length), deque(maxlen=_RECENT)).append(took)
        elif kind == "result" and trial_id in self._configs:  # it runs again
            self._last[trial_id] = event["spent_s"]
            self._fresh.discard(trial_id)
            self._resuming = False
        elif kind in ("resumed", "restarted"):
            self._resuming |= kind == "resumed"
            gone = list(self._last) if kind == "resumed" else [trial_id]
            for one in gone:  # what they report next took a start of unknown length
                self._last.pop(one, None)

    def epoch_seconds(self, config: Mapping[str, Any]) -> float:
        """Of one epoch of a configuration."""
        for length in (len(_KINDS), _MEASURED):
            seen = self._epochs.get(_kind(config, length))
            if seen:
                return statistics.fmean(seen)
        return self._measured(config) * self._ratio()

    def _measured(self, config: Mapping[str, Any]) -> float:
        cost = cost_of(self._costs, config)
        return cost.epoch_seconds if cost is not None else 0.0

    def _ratio(self) -> float:
        """Epochs as they reported to epochs as they were measured, over all kinds that have both."""
        kinds = [kind for kind in self._epochs if len(kind) == _MEASURED]
        pairs = [
            statistics.fmean(self._epochs[kind]) / measured
            for kind in kinds
            if (measured := self._measured({key: told for key, told in zip(_KINDS, kind, strict=False) if told})) > 0
        ]
        return statistics.fmean(pairs) if pairs else 1.0

    def start_seconds(self) -> float:
        """Of a trial beside its epochs."""
        count = len(self._overheads)  # in their order: their median is in the middle
        return statistics.median(self._overheads[(count - 1) // 2 : count // 2 + 1]) if count > 2 else TRIAL_SECONDS

    def restart_seconds(self, trial_id: str) -> float:
        """Before the next epoch of a trial whose process has ended; 0 of one that is running."""
        if trial_id in self._last:
            return 0.0
        return WORKER_SECONDS + self.start_seconds() + (RAY_SECONDS if self._resuming else 0.0)

    def seconds_left(self, trial_id: str, config: Mapping[str, Any], epochs: int) -> float:
        """Of the last epochs of a trial that was begun."""
        return self.restart_seconds(trial_id) + epochs * self.epoch_seconds(config)

    def trial_seconds(self, config: Mapping[str, Any], epochs: int) -> float:
        """Of so many epochs of a trial that is begun or continued."""
        return self.start_seconds() + epochs * self.epoch_seconds(config)


def _kind(config: Mapping[str, Any], length: int) -> tuple[Any, ...]:
    return tuple(str(config.get(key, "")) for key in _KINDS[:length])


@dataclass
class TimeLimit:
    """The time that a sweep must keep, from the start of its command to the end of its report on val.

    Attributes:
        budget: Seconds in all, over all resumes; the pauses between them are not counted.
        plan: Made from it.
        slots: Trials that run at once.
        elapsed: Seconds spent so far.
        labels: How many labels there are so far.
        forecast: Of trials.
        confirm: Seconds that the search leaves to the confirmation.
        refit: Seconds that both leave to the refit.
    """

    budget: float
    plan: Plan
    slots: int
    elapsed: Callable[[], float]
    labels: Callable[[], int]
    forecast: Forecast = field(init=False)
    confirm: Callable[[], float] = field(init=False, default=lambda: 0.0)
    refit: Callable[[], float] = field(init=False, default=lambda: 0.0)

    def __post_init__(self) -> None:
        self.forecast = Forecast(self.plan.costs)

    def kept(self) -> float:
        """Seconds that the search leaves to what comes after it."""
        return self.confirm() + self.refit()

    def kept_for(self) -> list[tuple[float, str]]:
        """The parts of `kept`, with what each is for; none of them 0."""
        parts = [(self.confirm(), "to confirm the best"), (self.refit(), "to train it again on train and val")]
        return [(seconds, purpose) for seconds, purpose in parts if seconds]

    @property
    def end(self) -> float:
        """When the last training must have ended, in seconds spent."""
        more = max(0, self.labels() - self.plan.labels)
        return self.budget - self.plan.report_seconds - more * self.plan.label_seconds

    def left(self) -> float:
        """Seconds until then."""
        return self.end - self.elapsed()

    def fits(self, seconds: float, *, then: float = 0.0) -> bool:
        """Whether something that takes so long now, and then something else, ends in time."""
        return self.elapsed() + seconds + then <= self.end

    def overrun(self, seconds: float) -> float:
        """By how many seconds something that takes so long from now on would end too late, beyond what is tolerated."""
        return self.elapsed() + seconds - self.end - TOLERANCE * self.budget


def makespan(each: float, trials: int, slots: int, *, before: float = 0.0) -> float:
    """Seconds until trials of one length have ended that begin as places get free.

    Args:
        each: Seconds of a trial.
        trials: How many.
        slots: Places.
        before: Seconds that are still to be worked on trials that are running.
    """
    return max(each * math.ceil(trials / slots), (before + each * trials) / slots)


TOLERANCE = 0.02
"""Share of the budget by which a trial that is running may end too late, rather than be stopped."""
