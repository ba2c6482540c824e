"""Where a sweep stands, counted event by event: trials by phase and state, epochs and time, the best so far."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

from sweep.candidate import Candidates
from sweep.journal import Event
from sweep.manifest import Budget
from sweep.objectives import Objective
from sweep.phase_kinds import CONFIRM, FINISH, KINDS, SEARCH, kind_of
from sweep.plan import Plan
from sweep.ranking import configuration
from sweep.trials import GpusOf, TrialTable, TrialView
from trainables.labels import BASELINE

RANKED = ("completed", "stopped")
"""States of trials of the search that a candidate is chosen from."""


@dataclass
class Spent:
    """What the trials of a phase have taken.

    Attributes:
        epochs: Trained, those of a trial that was given up included.
        seconds: Of these epochs; trials that run side by side are added up.
        gpu_seconds: The same times the GPUs that each was given.
    """

    epochs: int = 0
    seconds: float = 0.0
    gpu_seconds: float = 0.0


@dataclass(frozen=True)
class Foreseen:
    """What a phase is expected to take; None where nothing says so.

    Attributes:
        trials: How many.
        epochs: Of all of them.
    """

    trials: int | None = None
    epochs: float | None = None


@dataclass
class Tally:
    """The account of a sweep; follows a journal, behind the table of its trials.

    Each event costs the same, however many there were before.

    Attributes:
        table: All trials so far, which has been shown each event before.
        objective: What ranks.
        gpus: Of a trial, by its configuration.
        spent: By phase.
        best: The best of the trials of the search that have ended.
        curve: The best score so far after each of them that has one.
    """

    table: TrialTable
    objective: Objective
    gpus: GpusOf = lambda config: 0.0
    spent: dict[str, Spent] = field(default_factory=dict)
    best: TrialView | None = None
    curve: list[float] = field(default_factory=list)
    _scored: dict[str, int] = field(default_factory=dict)

    def on_event(self, event: Event) -> None:
        """Counts an event."""
        if event["event"] == "result":
            trial = self.table.trials[event["trial_id"]]
            account = self.spent.setdefault(trial.phase, Spent())
            seconds = float(event["seconds"])
            account.epochs += 1
            account.seconds += seconds
            account.gpu_seconds += seconds * self.gpus(trial.config)
        elif event["event"] == "ended":
            trial = self.table.trials[event["trial_id"]]
            scored = self.objective.value(trial.metrics) is not None
            if scored and kind_of(trial.phase).explores and trial.state in RANKED:
                self._rank(trial)

    def _rank(self, trial: TrialView) -> None:
        self._scored[trial.trial_id] = hash(configuration(trial))
        self.best = trial if self.best is None else max(self.best, trial, key=self.order)
        self.curve.append(self.best.metrics[self.objective.key])

    def order(self, trial: TrialView) -> tuple[float, int]:
        """By score, then the earlier one first."""
        return self.objective.goodness(trial.metrics[self.objective.key]), -trial.position

    def leader(self) -> TrialView | None:
        """The best so far, trials of the search that are running included."""
        running = [trial for trial in self.table.open() if kind_of(trial.phase).explores]
        scored = [trial for trial in running if self.objective.value(trial.metrics) is not None]
        return max([*([self.best] if self.best else []), *scored], key=self.order, default=None)

    def baseline(self) -> TrialView | None:
        """The baseline at full budget."""
        return self.table.labels(self.objective).get(BASELINE)

    def candidate(self) -> TrialView | None:
        """The best configuration at full budget by val alone, whatever fresh seeds show: its first trial.

        None where that is the baseline's own configuration, or nothing has come to full budget.
        """
        first = next(iter(self.table.standings(self.objective).full), None)
        baseline = self.baseline()
        if first is None or (baseline is not None and configuration(first[0]) == configuration(baseline)):
            return None
        return first[0]

    def candidates(self) -> Candidates:
        """Of how many trials and configurations the best is the best."""
        return Candidates(len(self._scored), len(set(self._scored.values())))

    def states(self) -> dict[str, Counter[str]]:
        """How many trials of each phase are in each state; phases in their order, those without a trial left out."""
        found: dict[str, Counter[str]] = {}
        for trial in self.table.trials.values():
            found.setdefault(trial.phase, Counter())[trial.state] += 1
        known = [name for name in KINDS if name in found]
        return {name: found[name] for name in [*known, *(name for name in found if name not in KINDS)]}

    @property
    def epochs(self) -> int:
        """Trained, in all phases."""
        return sum(one.epochs for one in self.spent.values())

    @property
    def seconds(self) -> float:
        """Of these epochs."""
        return sum(one.seconds for one in self.spent.values())


def foreseen(budget: Budget, plan: Plan | None, *, asked_for_more: bool) -> Mapping[str, Foreseen]:
    """What each phase is expected to take, by its name.

    Args:
        budget: Of the sweep, as it holds now.
        plan: What it was expected to buy at the start.
        asked_for_more: Whether more fresh seeds were asked for after the sweep, which no plan knows of.
    """
    plan = plan if plan is not None and plan.trials == budget.trials else None
    found = {SEARCH.name: Foreseen(budget.trials, plan.search_epochs if plan is not None else None)}
    if plan is not None and plan.finish_epochs:
        found[FINISH.name] = Foreseen(None, plan.finish_epochs)
    seeds = (budget.confirm_top + 1) * budget.confirm_seeds if budget.confirm_top else 0
    if seeds and not asked_for_more:
        found[CONFIRM.name] = Foreseen(seeds, plan.confirm_epochs if plan is not None else None)
    return found
