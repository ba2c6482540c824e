"""Decides what is tried next and what each result means; knows neither Ray nor files beyond the journal.

Every decision is an event in the journal first. Resuming builds a conductor on the old journal: it replays the events
into its views, hands out the unfinished trials and goes on. What to run and when to stop is up to the phases
(`sweep/phases`); the conductor routes events to them and writes their decisions down.
"""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from search_spaces.core.space import SearchSpace
from sweep.forecast import REFIT_SHARE, WORKER_SECONDS, TimeLimit
from sweep.journal import Event, Journal
from sweep.manifest import Budget
from sweep.objectives import Objective
from sweep.pareto import LABEL as PARETO
from sweep.pareto import TradeOff, last_trade_off
from sweep.phase_kinds import ABLATE
from sweep.phases import Ablate, Confirm, Context, Finish, Phase, Proposal, Search
from sweep.phases.ablate import ablating
from sweep.phases.confirm import repeated
from sweep.plan import Plan, cost_of
from sweep.trials import GpusOf, TrialTable, TrialView
from sweep.verdict import Confirmed, Verdict, last_verdict
from sweep.verify import published_labels
from trainables.labels import BASELINE, BEST
from trainables.registry import Scalar

RESTARTS = 2
"""Times a trial is handed out again after its worker died (killed for memory, node lost), each time a sweep is run."""


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
    """A sweep from its first suggestion to the last trial with a fresh seed.

    Args:
        journal: New, or of the sweep to go on with.
        space: What varies, with overrides already fixed.
        base: Flat keys common to all trials.
        budget: Limits of the search.
        sampler: Name of the sampler.
        scheduler: Name of the stop rule.
        seed: The sweep's seed.
        objective: What ranks trials.
        further: Objectives beside it: a trial that does not report them all has failed.
        of_model: What results carry beside what trials report: measures of the model of a flat configuration.
        gpus: Of a trial, by its configuration: for the account of GPU time.
        plan: What the budget was expected to buy; with one, a time budget bounds the whole command.
        slots: Trials that run at once.
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
        objective: Objective,
        further: Sequence[Objective] = (),
        of_model: Callable[[Mapping[str, Any]], Mapping[str, float]] = lambda config: {},
        gpus: GpusOf = lambda config: 0.0,
        plan: Plan | None = None,
        slots: int = 1,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.journal = journal
        self.budget = budget
        self.plan = plan
        self.objective = objective
        self.objectives = (objective, *further)
        self._of_model = of_model
        self._sampler = sampler
        self.table = TrialTable()
        self.limit = None
        if plan is not None and budget.time_budget is not None:
            self.limit = TimeLimit(budget.time_budget, plan, slots, self.elapsed, self._count_labels)
        context = Context(self.table, objective, budget, gpus, self.elapsed, journal.append, self.limit, tuple(further))
        self.search = Search(context, space=space, base=base, sampler=sampler, scheduler=scheduler, seed=seed)
        self.confirm = Confirm(context, seed=seed, top=budget.confirm_top, seeds=budget.confirm_seeds)
        if self.limit is not None:
            self.limit.confirm, self.limit.refit = self.confirm.seconds, self._kept_for_refit
        phases = (self.search, Finish(context), self.confirm, Ablate(context, seed=seed))
        self._phases: dict[str, Phase] = {phase.kind.name: phase for phase in phases}
        self._clock = clock
        self._spent = 0.0
        self._started: float | None = None
        self._decided: set[str] = set()
        self._deaths: Counter[str] = Counter()
        self._node_deaths: Counter[str] = Counter()
        self._memory_kills: Counter[str] = Counter()
        self.halted = ""
        """What failed of the machine, so that the sweep is to stop; its trials stay open."""
        journal.follow(self._on_event, decides=True)
        self._unfinished = [trial for trial in self.table.open()]

    def start(self, *, before: float = 0.0) -> None:
        """Starts the clock; on a journal with trials, says that the sweep goes on.

        Args:
            before: Seconds that this command has spent already.
        """
        self._started = self._clock() - before
        if not self.table.trials:
            return
        with self.journal.together():
            self.journal.append("resumed", spent_s=self.elapsed())
            for trial in self._unfinished:
                # The sweep may have died between a result and what follows from it; there is less time than there was.
                if trial.results or self.limit is not None:
                    self._judge(trial)
        self._unfinished = [trial for trial in self._unfinished if trial.is_open]

    def next(self) -> Task | None:
        """The next trial to run; None while nothing can be handed out, see `finished`, and where the machine failed."""
        if self.halted:
            return None
        if self._unfinished:
            return self._task(self._unfinished.pop(0))
        with self.journal.together():
            for phase in self._phases.values():
                proposal = phase.next()
                if proposal is not None:
                    return self._task(self._announce(phase, proposal))
                if not phase.done():
                    ahead = self.confirm.ahead()
                    return None if ahead is None else self._task(self._announce(self.confirm, ahead))
        return None

    @property
    def finished(self) -> bool:
        """Whether every trial has ended and nothing is left to hand out."""
        idle = not self._unfinished and not self.table.open()
        return idle and all(phase.done() for phase in self._phases.values())

    def on_trial_result(self, trial_id: str, result: Mapping[str, Any]) -> bool:
        """Writes down a result of a trial and says whether the trial should stop."""
        trial = self.table.trials[trial_id]
        if not trial.is_open:
            return True
        if "machine" in result:
            self.on_machine_fault(trial_id, str(result["machine"]))
            return True
        for state in ("infeasible", "failed"):
            if state in result:
                self._end(trial, state, str(result[state]))
                return True
        if result["epoch"] <= trial.epochs:  # a trial started again repeats what the journal has
            return False
        with self.journal.together():
            self.journal.append(
                "result",
                trial_id=trial_id,
                epoch=result["epoch"],
                seconds=result["seconds"],
                metrics={**result["metrics"], **self._of_model(trial.config)},
                spent_s=self.elapsed(),
            )
            return self._judge(trial)

    def on_worker_death(self, trial_id: str, reason: str) -> None:
        """Writes down that a trial's worker died, and hands the trial out again or, after too many deaths, ends it."""
        trial = self.table.trials[trial_id]
        if not trial.is_open:
            return
        self._deaths[trial_id] += 1
        if self._deaths[trial_id] > RESTARTS:
            cure = "if memory was short, lower --concurrent or batch_size"
            self._end(trial, "failed", f"its worker died {self._deaths[trial_id]} times ({reason}); {cure}")
            return
        self.journal.append("restarted", trial_id=trial_id, reason=reason)
        self._unfinished.insert(0, trial)

    def on_node_death(self, trial_id: str, reason: str) -> None:
        """Writes down that a trial's node died, and hands the trial out again: it goes on after its last epoch.

        It never fails for that. After too many deaths of nodes under it the sweep stops: it may be what ends them.
        """
        told = "{} nodes died under it ({}); if memory is short, lower --concurrent or batch_size"
        self._hand_out_again(trial_id, reason, self._node_deaths, told)

    def on_memory_kill(self, trial_id: str, reason: str) -> None:
        """Writes down that a trial's worker was killed because memory was short, and hands the trial out again.

        It never fails for that: others may have taken the memory. After too many such kills the sweep stops.
        """
        self._hand_out_again(trial_id, reason, self._memory_kills, "{} times its worker was {}")

    def _hand_out_again(self, trial_id: str, reason: str, losses: Counter[str], too_many: str) -> None:
        """After a loss that is the machine's fault; stops the sweep where there were too many of one kind."""
        trial = self.table.trials[trial_id]
        if not trial.is_open:
            return
        losses[trial_id] += 1
        if losses[trial_id] > RESTARTS:
            self.on_machine_fault(trial_id, too_many.format(losses[trial_id], reason))
            return
        self.journal.append("restarted", trial_id=trial_id, reason=reason)
        self._unfinished.insert(0, trial)

    def on_machine_fault(self, trial_id: str, reason: str) -> None:
        """Stops the sweep for what is no configuration's fault; the trial goes on when the sweep is resumed."""
        self.halted = self.halted or f"{trial_id}: {reason}"

    def on_interrupt(self, reason: str) -> None:
        """Writes down that the sweep is ended from outside."""
        self.journal.append("interrupted", reason=reason, spent_s=self.elapsed())

    def on_publish(self, labels: Mapping[str, Any]) -> None:
        """Writes down what is in `best/` (`sweep.verify.published_event`), unless it was there before."""
        if labels and labels != published_labels(self.journal.others):
            self.journal.append("published", labels=labels)

    def on_verdict(self, verdict: Verdict | None) -> None:
        """Writes down what fresh seeds showed, unless it was there before."""
        if verdict is not None and verdict != last_verdict(self.journal.others):
            self.journal.append("verdict", **verdict.to_json())

    def on_ablation(self, ablation: Verdict | None) -> None:
        """Writes down what each component of the winner is worth, unless it was there before."""
        if ablation is not None and ablation != last_verdict(self.journal.others, "ablation"):
            self.journal.append("ablation", **ablation.to_json())

    def on_trade_off(self, trade_off: TradeOff | None) -> None:
        """Writes down what the objectives cost one another, unless it was there before."""
        if trade_off is not None and trade_off != last_trade_off(self.journal.others, self.objectives):
            self.journal.append("trade_off", **trade_off.to_json())

    def on_close(self) -> None:
        """Writes down that the command is done, its report included."""
        self.journal.append("closed", spent_s=self.elapsed())

    def elapsed(self) -> float:
        """Seconds spent so far, over all resumes."""
        running = self._clock() - self._started if self._started is not None else 0.0
        return round(self._spent + running, 3)

    def labels(self) -> dict[str, TrialView]:
        """The trial that represents each label at full budget."""
        return self.table.labels(*self.objectives)

    def trade_off(self) -> TradeOff | None:
        """What the objectives cost one another; None where there is one alone, or nothing at full budget."""
        return self.table.trade_off(*self.objectives) if len(self.objectives) > 1 else None

    def refit_seconds(self, trial: TrialView, *, trained: int = 0) -> float:
        """Expected of training a trial's configuration again on train and val; 0 without a time limit.

        Args:
            trial: The winner.
            trained: Epochs of the refit that are there already.
        """
        if self.limit is None:
            return 0.0
        forecast, plan, config = self.limit.forecast, self.limit.plan, trial.config
        cost = cost_of(plan.costs, config)
        once = cost.once_seconds if cost is not None else 0.0
        epochs = int(config["epochs"]) - trained
        each = forecast.epoch_seconds(config) * plan.refit_growth(config)
        return WORKER_SECONDS + forecast.start_seconds() + once + epochs * each

    def _kept_for_refit(self) -> float:
        """Seconds that trials leave to the refit: those of the best so far, as far as the plan allows."""
        limit = self.limit
        if limit is None or not limit.plan.refit_seconds or self.confirm.was_asked_for:
            return 0.0
        best = self.labels().get(BEST) or next(iter(self.table.explored_labels().get(BASELINE, ())), None)
        if best is None:
            return limit.plan.refit_seconds
        return min(self.refit_seconds(best), max(limit.plan.refit_seconds, REFIT_SHARE * limit.budget))

    def confirmed(self) -> list[Confirmed]:
        """The configurations with several seeds, the baseline first; empty if there are none.

        Those that were trained again with fresh seeds, or all where the search gave each the same seeds (`--seeds`).
        """
        groups = self.table.confirmed(self.objective)
        if not groups and self.gives_seeds:
            groups = self.table.repeated(self.objective)
        return [self._over_seeds(group) for group in groups]

    @property
    def gives_seeds(self) -> bool:
        """Whether the search trains every configuration with the same seeds, so that none was picked for its score."""
        parameter = self.search.space.parameter("seed")
        return self._sampler == "grid" and parameter is not None and parameter.kind == "choice"

    def looks(self, configurations: Sequence[Confirmed]) -> int:
        """How often there was a verdict on other seeds than these, and this time."""
        now = sorted(trial for one in configurations for trial in one.trials)
        before = {
            tuple(sorted(trial for one in event["configurations"] for trial in one["trials"]))
            for event in self.journal.of("verdict")
        }
        return 1 + len(before - {tuple(now)})

    def ablated(self) -> list[Confirmed]:
        """The winner that was taken apart, then it without each component; empty where nothing was."""
        choice = ablating(self.journal.others)
        groups: dict[str, list[TrialView]] = {}
        for trial in self.table.of_phase(ABLATE.name):
            of_choice = choice is not None and trial.trial_id.startswith(f"{choice['winner']}-")
            if of_choice and trial.state == "completed" and self.objective.value(trial.metrics) is not None:
                groups.setdefault(trial.label, []).append(trial)
        winner = [one for one in self.confirmed() if choice is not None and one.trial_id == choice["winner"]]
        without = [self._over_seeds(group) for group in groups.values() if len(group) > 1]
        return [*winner, *without] if winner and without else []

    def _over_seeds(self, group: Sequence[TrialView]) -> Confirmed:
        return Confirmed(
            trial_id=repeated(group[0].trial_id),
            label=group[0].label,
            trials=tuple(trial.trial_id for trial in group),
            seeds=tuple(int(trial.config["seed"]) for trial in group),
            scores=tuple(trial.metrics[self.objective.key] for trial in group),
            lost=self.table.lost(group[0]),
        )

    def _count_labels(self) -> int:
        own = len(self.table.explored_labels())
        return own + (sum(label.startswith(PARETO) for label in self.labels()) if len(self.objectives) > 1 else 0)

    def _on_event(self, event: Event) -> None:
        replayed = self._started is None
        if replayed:
            self._spent = max(self._spent, float(event.get("spent_s", 0.0)))
        if event["event"] == "decision":
            self._decided.add(event["trial_id"])
        elif event["event"] == "ended":
            self._decided.discard(event["trial_id"])
        self.table.apply(event)
        if self.limit is not None:
            self.limit.forecast.on_event(event)
        for phase in self._phases.values():
            phase.on_event(event, replayed=replayed)

    def _announce(self, phase: Phase, proposal: Proposal) -> TrialView:
        continued = {"parent": proposal.parent, "first_epoch": proposal.first_epoch} if proposal.parent else {}
        self.journal.append(
            "suggested",
            trial_id=proposal.trial_id,
            seed=proposal.config["seed"],
            number=proposal.number,
            label=proposal.label,
            phase=phase.kind.name,
            config=dict(proposal.config),
            params=dict(proposal.params),
            source=proposal.source,
            spent_s=self.elapsed(),
            **continued,
        )
        return self.table.trials[proposal.trial_id]

    def _task(self, trial: TrialView) -> Task:
        return Task(trial.trial_id, dict(trial.config), trial.epochs, trial.parent)

    def _judge(self, trial: TrialView) -> bool:
        """Ends a trial if its last result says so."""
        if trial.epochs >= trial.config["epochs"]:
            self._end(trial, "completed", "")
            return True
        stop = self._phases[trial.phase].verdict(trial)
        if stop is None:
            return False
        if trial.trial_id not in self._decided:
            where = {"trial_id": trial.trial_id, "epoch": trial.epochs}
            self.journal.append("decision", **where, action="stop", by=stop.by, reason=stop.reason)
        self._end(trial, "stopped", f"{stop.by}: {stop.reason}")
        return True

    def _end(self, trial: TrialView, state: str, reason: str) -> None:
        metrics = {k: v for k, v in trial.metrics.items() if math.isfinite(v)}
        missing = [objective.key for objective in self.objectives if objective.value(metrics) is None]
        if state == "completed" and missing:
            state, reason = "failed", f"it reported no {', '.join(missing)}"
        self.journal.append(
            "ended", trial_id=trial.trial_id, state=state, reason=reason, epoch=trial.epochs, metrics=metrics
        )
