"""What a phase of a sweep is: it says what to run next, what a result means, and when it is done."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from sweep.forecast import TimeLimit
from sweep.journal import Event
from sweep.manifest import Budget
from sweep.objectives import Objective
from sweep.phase_kinds import PhaseKind
from sweep.trials import GpusOf, TrialTable, TrialView, finish_id
from trainables.labels import BASELINE

HOPELESS = 2.0
"""How many times worse than the baseline at the same epoch a label may be, and still be trained to the end."""


@dataclass(frozen=True)
class Proposal:
    """A trial that a phase wants to run.

    Attributes:
        trial_id: Identity; no other trial of the sweep has it.
        number: Of the search trial that it is, or continues.
        label: The label that it would represent.
        config: Flat configuration.
        params: What the search chose of it.
        source: Where it comes from: `known_good`, `start`, `sampler`, `representative`, `fresh seed`.
        parent: The trial whose checkpoint to begin from.
        first_epoch: Epochs that the parent has trained.
    """

    trial_id: str
    number: int
    label: str
    config: Mapping[str, Any]
    params: Mapping[str, Any]
    source: str
    parent: str | None = None
    first_epoch: int = 0


@dataclass(frozen=True)
class Stop:
    """A trial is to end before its budget.

    Attributes:
        by: The rule or budget that ends it.
        reason: With the numbers compared.
    """

    by: str
    reason: str


@dataclass(frozen=True)
class Context:
    """What the phases of a sweep share.

    Attributes:
        table: All trials so far.
        objective: What ranks them: the first, where there are several.
        budget: Limits of the search.
        gpus: Of a trial, by its configuration: for the account of GPU time.
        elapsed: Seconds spent so far, over all resumes.
        note: Writes an event to the journal: `note("exhausted", reason=...)`.
        limit: The time that the whole command must keep; None where it has no plan.
        further: The other objectives, which the sampler learns from as well.
    """

    table: TrialTable
    objective: Objective
    budget: Budget
    gpus: GpusOf
    elapsed: Callable[[], float]
    note: Callable[..., Event]
    limit: TimeLimit | None = None
    further: tuple[Objective, ...] = ()

    def to_finish(self) -> list[TrialView]:
        """Trials that represent a label, were stopped early and are worth their last epochs, the best first."""
        return [trial for trial in self.stopped() if not self.hopeless(trial)]

    def stopped(self) -> list[TrialView]:
        """Trials that represent a label and were stopped early, the best first; continued ones are left out."""
        chosen = self.table.representatives(self.objective).values()
        waiting = [t for t in chosen if t.state == "stopped" and finish_id(t.trial_id) not in self.table.trials]
        return sorted(waiting, key=lambda t: -self.objective.goodness(t.metrics[self.objective.key]))

    def hopeless(self, trial: TrialView) -> str:
        """Why a trial is not worth its last epochs; empty if it is, or if the baseline has no score to compare with.

        It is not if, where it was stopped, its score was below half of the baseline's at the same epoch; of an
        objective of which less is better, above twice of it.
        """
        baseline = self._of_baseline(trial.epochs)
        if baseline is None or baseline <= 0:
            return ""
        score, show = trial.metrics[self.objective.key], self.objective.show
        if self.objective.metric.direction == "max":
            too_bad, told = score < baseline / HOPELESS, f"below {show(baseline / HOPELESS)}, half of"
        else:
            too_bad, told = score > baseline * HOPELESS, f"above {show(baseline * HOPELESS)}, twice"
        return f"{show(score)} at epoch {trial.epochs} is {told} what the baseline had there" if too_bad else ""

    def _of_baseline(self, epoch: int) -> float | None:
        """The baseline's score at an epoch."""
        results = (result for t in self.table.explored_labels().get(BASELINE, ()) for result in t.results)
        return next((self.objective.value(result["metrics"]) for result in results if result["epoch"] == epoch), None)

    def seconds_to_go(self, trials: Iterable[TrialView]) -> list[float]:
        """Of each trial until its full budget; empty without a time limit."""
        limit = self.limit
        if limit is None:
            return []
        return [limit.forecast.trial_seconds(t.config, int(t.config["epochs"]) - t.epochs) for t in trials]

    def late(self, trial: TrialView) -> Stop | None:
        """Ends a running trial that could not end in time."""
        limit = self.limit
        if limit is None:
            return None
        epochs = int(trial.config["epochs"]) - trial.epochs
        late = limit.overrun(limit.forecast.seconds_left(trial.trial_id, trial.config, epochs))
        return Stop("time budget", f"its last epoch would end {late:.0f} s too late") if late > 0 else None


class Phase(ABC):
    """One phase. Its decisions are functions of the events that it was shown.

    Attributes:
        kind: Its name, and what its trials may be used for.
    """

    kind: ClassVar[PhaseKind]
    context: Context

    @abstractmethod
    def next(self) -> Proposal | None:
        """The next trial to run; None while there is none, see `done`."""

    @abstractmethod
    def done(self) -> bool:
        """Whether nothing is left to propose, and nothing that is still running could change that."""

    def is_running(self) -> bool:
        """Whether one of its trials has not ended."""
        return any(trial.phase == self.kind.name for trial in self.context.table.open())

    def verdict(self, trial: TrialView) -> Stop | None:
        """What the last result of one of its trials means: None to go on to the full budget."""
        return None

    def on_event(self, event: Event, *, replayed: bool) -> None:
        """Is shown every event of the journal, in order.

        Args:
            event: Of any phase.
            replayed: Whether it happened before this process.
        """
        return None
