"""The search: starting points first, then what the sampler suggests; rules stop unpromising trials early."""

from __future__ import annotations

from collections.abc import Mapping

from search_spaces.core.space import SearchSpace
from sweep.journal import Event
from sweep.optuna_study import Suggestions
from sweep.phases.base import Context, Phase, Proposal, Stop
from sweep.schedulers import SCHEDULERS, scheduler_for
from sweep.trials import PhaseKind, TrialView
from trainables.errors import ConfigError
from trainables.labels import BASELINE
from trainables.registry import Scalar


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

    name = "search"
    kind = PhaseKind(explores=True, may_be_best=True)

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
        self.suggestions = Suggestions(space, sampler=sampler, seed=seed, objective=context.objective)
        self._scheduler = scheduler_for(space, scheduler)
        self._rule = SCHEDULERS.get(self._scheduler)(context.budget.max_epochs)
        self._advice: dict[str, str | None] = {}
        self._nothing_new = False

    def next(self) -> Proposal | None:
        """A starting point, or a suggestion of the sampler."""
        if not self._may_go_on():
            return None
        number = len(self._trials())
        trial_id = f"t{number:03d}"
        start = dict(self.space.start[number]) if number < len(self.space.start) else None
        params = self.suggestions.ask(trial_id, number, fixed=start)
        if params is None:
            reason = f"{self.space.name} holds no configuration that was not tried"
            self.context.note("exhausted", reason=reason)
            return None
        config = self.space.trial_config(self.base, params).flat()
        wrong = {key: value for key, value in params.items() if config.get(key) != value}
        if wrong:
            raise ConfigError(f"the space {self.space.name} suggests what no configuration holds: {wrong}")
        label = BASELINE if number == 0 else self.space.label(config)
        source = "known_good" if number == 0 else "start" if start is not None else "sampler"
        return Proposal(trial_id, number, label, config, params, source)

    def done(self) -> bool:
        """Whether the budget is spent or the space exhausted, and every trial has ended."""
        return not self._may_go_on() and not any(trial.is_open for trial in self._trials())

    def verdict(self, trial: TrialView) -> Stop | None:
        """What the stop rule and the budget say; never of the baseline, with which everything is compared."""
        if trial.label == BASELINE:
            return None
        advice = self._advice.get(trial.trial_id)
        return Stop(self._scheduler, advice) if advice is not None else self._spent()

    def on_event(self, event: Event, *, replayed: bool) -> None:
        """Shows results to the stop rule, and everything to the study."""
        kind = event["event"]
        own = event.get("trial_id", "") in self.context.table.trials and self._owns(event["trial_id"])
        if kind == "suggested" and replayed and own:
            self.suggestions.ask(event["trial_id"], event["number"], fixed=event["params"])
        elif kind == "exhausted":
            self._nothing_new = True
        elif kind == "result" and own:
            value = self.context.objective.value(event["metrics"])
            if value is not None:
                goodness = self.context.objective.goodness(value)
                self._advice[event["trial_id"]] = self._rule.observe(event["trial_id"], event["epoch"], goodness)
        self.suggestions.apply(event)

    def _owns(self, trial_id: str) -> bool:
        return self.context.table.trials[trial_id].phase == self.name

    def _trials(self) -> list[TrialView]:
        return self.context.table.of_phase(self.name)

    def _may_go_on(self) -> bool:
        return len(self._trials()) < self.context.budget.trials and not self._nothing_new and self._spent() is None

    def _spent(self) -> Stop | None:
        budget = self.context.budget
        if budget.time_budget is not None and self.context.elapsed() >= budget.time_budget:
            return Stop("time budget", f"{budget.time_budget:g} s are over")
        hours = sum(trial.seconds for trial in self._trials()) * self.context.gpus_per_trial / 3600
        if budget.gpu_hours is not None and hours >= budget.gpu_hours:
            return Stop("GPU budget", f"{budget.gpu_hours:g} GPU hours are over")
        return None
