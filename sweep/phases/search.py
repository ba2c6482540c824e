"""The search: starting points first, then what the sampler suggests; rules stop unpromising trials early."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from search_spaces.core.space import SearchSpace
from sweep.journal import Event
from sweep.optuna_study import Suggestions
from sweep.phase_kinds import SEARCH
from sweep.phases.base import Context, Phase, Proposal, Stop
from sweep.schedulers import SCHEDULERS, scheduler_for
from sweep.trials import TrialView
from trainables.errors import ConfigError
from trainables.labels import BASELINE
from trainables.registry import Scalar

DRAWS = 10
"""Suggestions that may be too long for the time that is left before the search is over."""


class Search(Phase):
    """Tries configurations of a space.

    Args:
        context: Of the sweep.
        space: What varies, with overrides already fixed.
        base: Flat keys common to all trials.
        sampler: Name of the sampler.
        scheduler: Name of the stop rule.
        seed: The sweep's seed.
    """

    kind = SEARCH

    def __init__(
        self,
        context: Context,
        *,
        space: SearchSpace,
        base: Mapping[str, Scalar],
        sampler: str,
        scheduler: str,
        seed: int,
    ) -> None:
        self.context = context
        self.space = space
        self.base = dict(base)
        self.suggestions = Suggestions(
            space,
            sampler=sampler,
            seed=seed,
            trials=context.budget.trials,
            objective=context.objective,
            further=context.further,
        )
        self._scheduler = scheduler_for(space, scheduler)
        self._rule = SCHEDULERS.get(self._scheduler)(context.budget.max_epochs)
        self._advice: dict[str, str | None] = {}
        self._over: set[str] = set()
        self._skipped: set[int] = set()
        self._gpu_seconds = 0.0
        self._ended = 0
        self._ended_seconds = 0.0

    def next(self) -> Proposal | None:
        """A starting point, or a suggestion of the sampler."""
        if not self._may_go_on():
            return None
        return self._next_start() or self._next_suggestion()

    def _next_start(self) -> Proposal | None:
        """The first starting point that was not tried, and for which there is time."""
        for index in range(len(self._trials()) + len(self._skipped), len(self.space.start)):
            point = self.space.start[index]
            config = self.space.trial_config(self.base, point).flat()
            if index > 0 and (why := self._why_too_long(config)):
                self.context.note("skipped", start=index, label=self.space.label(config), reason=why)
                continue
            trial_id, number = self._identity()
            params = self.suggestions.ask(trial_id, number, fixed=dict(point))
            source = "known_good" if number == 0 else "start"
            return self._proposal(trial_id, number, params or {}, source)
        return None

    def _next_suggestion(self) -> Proposal | None:
        trial_id, number = self._identity()
        why = ""
        for _ in range(DRAWS):
            params = self.suggestions.ask(trial_id, number)
            if params is None:
                reason = f"{self.space.name} holds no configuration that was not tried"
                self.context.note("exhausted", reason=reason)
                return None
            proposal = self._proposal(trial_id, number, params, "sampler")
            why = self._why_too_long(proposal.config)
            if not why:
                return proposal
            self.suggestions.drop(trial_id)
        self.context.note("time_over", reason=why)
        return None

    def _identity(self) -> tuple[str, int]:
        number = len(self._trials())
        return f"t{number:03d}", number

    def _proposal(self, trial_id: str, number: int, params: Mapping[str, Scalar], source: str) -> Proposal:
        config = self.space.trial_config(self.base, params).flat()
        wrong = {key: value for key, value in params.items() if config.get(key) != value}
        if wrong:
            raise ConfigError(f"the space {self.space.name} suggests what no configuration holds: {wrong}")
        label = BASELINE if number == 0 else self.space.label(config)
        return Proposal(trial_id, number, label, config, params, source)

    def _why_too_long(self, config: Mapping[str, Scalar]) -> str:
        """Why a trial could not end in time, with what must still come after it; empty if it can."""
        limit = self.context.limit
        if limit is None:
            return ""
        seconds = limit.forecast.trial_seconds(config, int(config["epochs"]))
        running = self.context.seconds_to_go(trial for trial in self.context.table.open() if self._owns(trial))
        finishing = self.context.seconds_to_go(self.context.to_finish())
        then = max(sum(finishing) / limit.slots, max(finishing, default=0.0))
        if limit.fits(max([seconds, *running]), then=then + limit.kept()):
            return ""
        after = [(then, "to finish labels"), *limit.kept_for()]
        told = "".join(f" and {math.ceil(time)} s {why}" for time, why in after if time)
        return f"it would take {math.ceil(seconds)} s{told}, and {max(0, int(limit.left()))} s are left"

    def expected_trials(self) -> int:
        """Trials of the search when it ends, as far as can be foreseen."""
        limit, begun = self.context.limit, len(self._trials())
        if limit is None or not self.context.budget.open_ended:
            return self.context.budget.trials
        if self._over or not self._ended:
            return max(begun, 0 if self._over else limit.plan.trials)
        each = self._ended_seconds / self._ended + limit.forecast.start_seconds()
        finishing = sum(self.context.seconds_to_go(self.context.to_finish()))
        left = (limit.left() - limit.kept()) * limit.slots - finishing
        return begun + max(0, int(left / each) - limit.slots)

    def done(self) -> bool:
        """Whether the budget is spent or the space exhausted, and every trial has ended."""
        return not self._may_go_on() and not self.is_running()

    def verdict(self, trial: TrialView) -> Stop | None:
        """What the stop rule and the budget say; never of the baseline, with which everything is compared."""
        if trial.label == BASELINE:
            return None
        advice = self._advice.get(trial.trial_id)
        return Stop(self._scheduler, advice) if advice is not None else self.context.late(trial) or self._spent()

    def on_event(self, event: Event, *, replayed: bool) -> None:
        """Shows results to the stop rule, and everything to the study."""
        kind = event["event"]
        trial = self.context.table.trials.get(event.get("trial_id", ""))
        own = trial is not None and self._owns(trial)
        if kind == "suggested" and replayed and own:
            self.suggestions.ask(event["trial_id"], event["number"], fixed=event["params"])
        elif kind in ("exhausted", "time_over"):
            self._over.add(kind)
        elif kind == "skipped":
            self._skipped.add(event["start"])
        elif kind == "settings" and "time_budget" in event["changed"].get("budget", {}):
            self._over.discard("time_over")
        elif kind == "result" and trial is not None and own:
            self._gpu_seconds += event["seconds"] * self.context.gpus(trial.config)
            value = self.context.objective.value(event["metrics"])
            if value is not None:
                goodness = self.context.objective.goodness(value)
                self._advice[trial.trial_id] = self._rule.observe(trial.trial_id, event["epoch"], goodness)
        elif kind == "ended" and trial is not None and own:
            self._advice.pop(trial.trial_id, None)
            self._ended += 1
            self._ended_seconds += trial.seconds
        self.suggestions.apply(event)

    def _owns(self, trial: TrialView) -> bool:
        return trial.phase == self.kind.name

    def _trials(self) -> Sequence[TrialView]:
        return self.context.table.of_phase(self.kind.name)

    def _may_go_on(self) -> bool:
        budget = self.context.budget
        few_enough = len(self._trials()) < budget.trials or (budget.open_ended and self.context.limit is not None)
        return few_enough and not self._over and self._spent() is None

    def _spent(self) -> Stop | None:
        budget = self.context.budget
        of_search = budget.time_budget if self.context.limit is None else None
        if of_search is not None and self.context.elapsed() >= of_search:
            return Stop("time budget", f"{of_search:g} s are over")
        hours = self._gpu_seconds / 3600
        if budget.gpu_hours is not None and hours >= budget.gpu_hours:
            return Stop("GPU budget", f"{budget.gpu_hours:g} GPU hours are over")
        return None
