"""Decides what is tried next and what each result means; knows neither Ray nor files beyond the journal.

Every decision is an event in the journal first. Resuming builds a conductor on the old journal: it replays the events
into its views, hands out the unfinished trials and goes on.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from search_spaces.space import SearchSpace
from sweep.journal import Event, Journal
from sweep.schedulers import SCHEDULERS, scheduler_for
from sweep.search import Study
from sweep.trials import BASELINE, TrialTable, TrialView, finish_id
from sweep.verify import published_labels
from trainables.config import TrialConfig
from trainables.errors import ConfigError
from trainables.registry import Scalar


@dataclass(frozen=True)
class Budget:
    """How much a search may spend.

    Attributes:
        trials: Search trials.
        max_epochs: Epochs of a full trial.
        time_s: Seconds of the search in all, over all resumes; None for no limit.
        gpu_hours: GPU hours of the search; None for no limit.
    """

    trials: int
    max_epochs: int
    time_s: float | None = None
    gpu_hours: float | None = None


@dataclass(frozen=True)
class Task:
    """A trial to run.

    Attributes:
        trial_id: Identity.
        config: Flat configuration.
        reported: Epochs whose results the journal has.
        parent: The trial whose checkpoint to begin from, if there is none of its own.
    """

    trial_id: str
    config: Mapping[str, Any]
    reported: int
    parent: str | None = None


class Conductor:
    """A search from its first suggestion to the last label trained to full budget.

    Args:
        journal: New, or of the sweep to go on with.
        space: What varies, with overrides already fixed.
        base: Flat keys common to all trials.
        budget: Limits of the search.
        sampler: Name of the sampler.
        scheduler: Name of the stop rule.
        seed: The sweep's seed.
        objective: Metric that ranks trials.
        mode: `max` or `min`.
        gpus_per_trial: For the account of GPU time.
        clock: Seconds, monotonic.
    """

    def __init__(
        self,
        journal: Journal,
        *,
        space: SearchSpace,
        base: Mapping[str, Scalar],
        budget: Budget,
        sampler: str,
        scheduler: str,
        seed: int,
        objective: str,
        mode: str,
        gpus_per_trial: float = 0.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.journal = journal
        self.space = space
        self.base = dict(base)
        self.budget = budget
        self.seed = seed
        self.objective = objective
        self.mode = mode
        self.gpus_per_trial = gpus_per_trial
        self.table = TrialTable()
        self.study = Study(space, sampler=sampler, seed=seed, objective=objective, mode=mode)
        self._scheduler = scheduler_for(space, scheduler)
        self._rule = SCHEDULERS.get(self._scheduler)(budget.max_epochs)
        self._sign = 1.0 if mode == "max" else -1.0
        self._clock = clock
        self._spent = 0.0
        self._started: float | None = None
        self._advice: dict[str, str | None] = {}
        self._decided: set[str] = set()
        self._nothing_new = False
        journal.follow(self._take_in)
        self._unfinished = [trial for trial in self.table.open()]

    def begin(self) -> None:
        """Starts the clock; on a journal with trials, says that the sweep goes on."""
        self._started = self._clock()
        if not self.journal.of("suggested"):
            return
        self.journal.append("resumed", spent_s=self._spent)
        for trial in self._unfinished:
            if trial.results:  # the sweep may have died between a result and what follows from it
                self._judge(trial)
        self._unfinished = [trial for trial in self._unfinished if trial.is_open]

    def next(self) -> Task | None:
        """The next trial to run; None while nothing can be handed out, see `finished`."""
        if self._unfinished:
            return self._task(self._unfinished.pop(0))
        if self._may_search():
            suggested = self._suggest()
            if suggested is not None:
                return self._task(suggested)
        if any(trial.is_open for trial in self.table.of_phase("search")):
            return None
        return self._finish_next()

    @property
    def finished(self) -> bool:
        """Whether every trial has ended and nothing is left to hand out."""
        return not self._unfinished and not self.table.open() and not self._may_search() and not self._to_finish()

    def heard(self, trial_id: str, result: Mapping[str, Any]) -> bool:
        """Takes in a result of a trial and says whether the trial should stop."""
        trial = self.table.trials[trial_id]
        if not trial.is_open:
            return True
        for state in ("infeasible", "failed"):
            if state in result:
                self._end(trial, state, str(result[state]))
                return True
        if result["epoch"] <= trial.epochs:  # a trial started again repeats what was heard
            return False
        self.journal.append(
            "result",
            trial_id=trial_id,
            epoch=result["epoch"],
            seconds=result["seconds"],
            metrics=dict(result["metrics"]),
            spent_s=self.elapsed(),
        )
        return self._judge(trial)

    def lost(self, trial_id: str, reason: str) -> None:
        """Takes in that a trial's worker died for good."""
        trial = self.table.trials[trial_id]
        if trial.is_open:
            self._end(trial, "failed", reason)

    def restarted(self, trial_id: str, reason: str) -> None:
        """Takes in that a trial's worker died and the trial is started again."""
        self.journal.append("restarted", trial_id=trial_id, reason=reason)

    def interrupted(self, reason: str) -> None:
        """Takes in that the sweep is ended from outside."""
        self.journal.append("interrupted", reason=reason, spent_s=self.elapsed())

    def published(self, labels: Mapping[str, Any]) -> None:
        """Takes in what stands in `best/` (`sweep.verify.published_event`), unless it is what stood there before."""
        if labels and labels != published_labels(self.journal.events):
            self.journal.append("published", labels=labels)

    def elapsed(self) -> float:
        """Seconds spent so far, over all resumes."""
        running = self._clock() - self._started if self._started is not None else 0.0
        return round(self._spent + running, 3)

    def labels(self) -> dict[str, TrialView]:
        """Who stands for each label at full budget."""
        return self.table.labels(self.objective, self.mode)

    def _take_in(self, event: Event) -> None:
        kind = event["event"]
        if self._started is None:  # a replay
            self._spent = max(self._spent, float(event.get("spent_s", 0.0)))
            if kind == "suggested" and event["phase"] == "search":
                self.study.ask(event["trial_id"], event["number"], fixed=event["params"])
        if kind == "exhausted":
            self._nothing_new = True
        if kind == "decision":
            self._decided.add(event["trial_id"])
        self.table.apply(event)
        self.study.apply(event)
        if kind == "result":
            trial = self.table.trials[event["trial_id"]]
            value = event["metrics"].get(self.objective)
            if trial.phase == "search" and value is not None:
                advice = self._rule.observe(event["trial_id"], event["epoch"], self._sign * value)
                self._advice[event["trial_id"]] = advice

    def _suggest(self) -> TrialView | None:
        number = len(self.table.of_phase("search"))
        trial_id = f"t{number:03d}"
        start = dict(self.space.start[number]) if number < len(self.space.start) else None
        params = self.study.ask(trial_id, number, fixed=start)
        if params is None:
            self.journal.append("exhausted", reason=f"{self.space.name} holds no configuration that was not tried")
            return None
        config = TrialConfig.from_flat({**self.base, **self.space.fixed, **params}).flat()
        wrong = {key: value for key, value in params.items() if config.get(key) != value}
        if wrong:
            raise ConfigError(f"the space {self.space.name} suggests what no configuration holds: {wrong}")
        label = BASELINE if number == 0 else self.space.label(config)
        source = "known_good" if number == 0 else "start" if start is not None else "sampler"
        self._announce(
            trial_id, number=number, label=label, phase="search", config=config, params=params, source=source
        )
        return self.table.trials[trial_id]

    def _finish_next(self) -> Task | None:
        waiting = self._to_finish()
        if not waiting:
            return None
        parent = waiting[0]
        trial_id = finish_id(parent.trial_id)
        self._announce(
            trial_id,
            number=parent.number,
            label=parent.label,
            phase="finish",
            config=dict(parent.config),
            params=dict(parent.params),
            source="representative",
            parent=parent.trial_id,
            first_epoch=parent.epochs,
        )
        return self._task(self.table.trials[trial_id])

    def _to_finish(self) -> list[TrialView]:
        """Representatives below full budget; if a finish trial fails, its label goes without."""
        chosen = self.table.representatives(self.objective, self.mode).values()
        return [t for t in chosen if t.state == "stopped" and finish_id(t.trial_id) not in self.table.trials]

    def _announce(self, trial_id: str, **fields: Any) -> None:
        self.journal.append("suggested", trial_id=trial_id, seed=fields["config"]["seed"], **fields)

    def _task(self, trial: TrialView) -> Task:
        return Task(trial.trial_id, trial.config, trial.epochs, trial.parent)

    def _may_search(self) -> bool:
        tried = len(self.table.of_phase("search"))
        return tried < self.budget.trials and not self._nothing_new and self._exhausted() is None

    def _exhausted(self) -> tuple[str, str] | None:
        limit = self.budget.time_s
        if limit is not None and self.elapsed() >= limit:
            return "time budget", f"{limit:g} s are over"
        hours = sum(t.seconds for t in self.table.of_phase("search")) * self.gpus_per_trial / 3600
        if self.budget.gpu_hours is not None and hours >= self.budget.gpu_hours:
            return "GPU budget", f"{self.budget.gpu_hours:g} GPU hours are over"
        return None

    def _judge(self, trial: TrialView) -> bool:
        """Ends a trial if its last result means its end."""
        if trial.epochs >= trial.config["epochs"]:
            self._end(trial, "completed", "")
            return True
        reason = self._reason_to_stop(trial)
        if reason is None:
            return False
        by, text = reason
        if trial.trial_id not in self._decided:
            where = {"trial_id": trial.trial_id, "epoch": trial.epochs}
            self.journal.append("decision", **where, action="stop", by=by, reason=text)
        self._end(trial, "stopped", f"{by}: {text}")
        return True

    def _reason_to_stop(self, trial: TrialView) -> tuple[str, str] | None:
        if trial.phase != "search":
            return None
        if trial.label == BASELINE:
            return None  # everything is compared with it: it must reach the full budget
        advice = self._advice.get(trial.trial_id)
        if advice is not None:
            return self._scheduler, advice
        return self._exhausted()

    def _end(self, trial: TrialView, state: str, reason: str) -> None:
        metrics = {k: v for k, v in trial.metrics.items() if math.isfinite(v)}
        value = metrics.get(self.objective)
        if state == "completed" and value is None:
            state, reason = "failed", f"it reported no {self.objective}"
        self.journal.append(
            "ended", trial_id=trial.trial_id, state=state, reason=reason, epoch=trial.epochs, metrics=metrics
        )
