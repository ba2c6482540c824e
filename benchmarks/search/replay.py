"""Plays a sampler, a stop rule and an allocation on a landscape: the project's own decisions, simulated training.

The conductor, its phases, samplers, stop rules, and the plan are those of a sweep; what stands in for Ray and training
is `tests/sweep/simulated.py`. A budget is counted in epochs, of the search and of finishing labels. A trial is begun if
it could still be trained to its end, beside all that runs and all labels that are to be finished; what is left at last
is less than one trial and is not spent.
"""

from __future__ import annotations

import math
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest import mock

from benchmarks.search.families import Landscape
from search_spaces.core.space import SearchSpace
from sweep import schedulers
from sweep.conductor import Conductor
from sweep.journal import Journal
from sweep.manifest import Budget
from sweep.objectives import objective_of
from sweep.plan import MeasuredCost, Plan
from sweep.planning import TRIALS_PER_EPOCH, Asked, make_plan
from sweep.predicting import Setting, predict
from sweep.schedulers import SCHEDULERS, grace_epochs
from tests.sweep.simulated import OBJECTIVE, Clock, drive_in_time, fraction
from trainables.cost import Cost
from trainables.labels import BEST
from trainables.registry import Scalar

ENDLESS = 1e9
"""Seconds: the replay's limit is epochs, and a sweep with a time budget asks for trials as long as there is any."""


@dataclass(frozen=True)
class Allocation:
    """How a budget of epochs becomes trials.

    Attributes:
        name: In tables.
        longer: Steps along the landscape's lengths from the one that `sweep.planning` would choose: -1, 0, 1.
        first_rung: Share of a full trial at which trials are first compared; 0 for after one epoch; None for the stop
            rule's own, a third.
    """

    name: str
    longer: int = 0
    first_rung: float | None = None

    def grace(self, epochs: int) -> int:
        """Epochs before the first comparison."""
        if self.first_rung is None:
            return grace_epochs(epochs)
        return max(1, math.ceil(self.first_rung * epochs))


ALLOCATIONS = {
    one.name: one
    for one in (
        Allocation("planned"),
        Allocation("shorter", longer=-1),
        Allocation("longer", longer=1),
        Allocation("rung 1/9", first_rung=1 / 9),
        Allocation("rung 1/2", first_rung=1 / 2),
        Allocation("rung epoch 1", first_rung=0.0),
    )
}


@dataclass(frozen=True)
class Strategy:
    """What is replayed: keys of `SAMPLERS`, `SCHEDULERS` and `ALLOCATIONS`."""

    sampler: str = "tpe"
    rule: str = "asha"
    allocation: str = "planned"

    def __str__(self) -> str:
        return f"{self.sampler} x {self.rule} x {self.allocation}"


@dataclass(frozen=True)
class Outcome:
    """What a replayed search came to.

    Attributes:
        regret: The best true value of the landscape minus that of the crowned configuration; 0 at best.
        crowned: Its flat configuration; empty if no trial came to its end.
        spent: Epochs that were trained.
        trials: Of the search.
        epochs: Of a full trial.
        driver_seconds: CPU time of all decisions: suggestions, stop rules, journal; without waiting for a disk.
    """

    regret: float
    crowned: Mapping[str, Any]
    spent: int
    trials: int
    epochs: int
    driver_seconds: float


@dataclass
class Ledger:
    """Epochs given, spent, and promised.

    Attributes:
        given: In all.
        epochs: Of a full trial.
        landscape: What trials report.
    """

    given: int
    epochs: int
    landscape: Landscape
    spent: int = 0
    training_seconds: float = 0.0
    conductor: Conductor | None = field(default=None, repr=False)

    def train(self, config: Mapping[str, Any], epoch: int) -> dict[str, Any]:
        """One epoch; the one in which a trial diverges counts."""
        began = time.process_time()
        self.spent += 1
        told = self.landscape.report(config, epoch)
        self.training_seconds += time.process_time() - began
        return told

    def may_begin(self) -> bool:
        """Whether a free slot is to ask for a trial.

        Once nothing runs and no whole trial fits, the search is told that its time is over, in the way in which it
        tells itself; then labels are finished.
        """
        assert self.conductor is not None
        if self.conductor.search.done() or self.conductor.journal.of("time_over"):
            return True
        running = self.conductor.table.open()
        if self.spent + self._promised() + self.epochs <= self.given:
            return True
        if running:
            return False
        self.conductor.journal.append("time_over", reason=f"{self.given - self.spent} epochs are left")
        return True

    def _promised(self) -> int:
        """Epochs of trials that run, as long as none is stopped, and of labels that are to be finished."""
        assert self.conductor is not None
        to_go = [*self.conductor.table.open(), *self.conductor.search.context.to_finish()]
        return sum(self.epochs - trial.epochs for trial in to_go)


class _MemoryJournal(Journal):
    """Durable nowhere: a replay is over in seconds, and fsync would be most of it."""

    def _write(self, line: bytes) -> None:
        return None


def replay(landscape: Landscape, strategy: Strategy, *, given: int, slots: int, seed: int) -> Outcome:
    """Plays one search.

    Args:
        landscape: What is searched.
        strategy: How.
        given: Epochs in all.
        slots: Trials at once.
        seed: Of the sampler.
    """
    allocation = ALLOCATIONS[strategy.allocation]
    epochs = length(landscape, allocation, given=given)
    with mock.patch.object(schedulers, "grace_epochs", allocation.grace):
        plan = planned(landscape, strategy.rule, epochs=epochs, given=given)
        ledger = Ledger(given, epochs, landscape)
        clock = Clock()
        with tempfile.TemporaryDirectory() as folder, _MemoryJournal(Path(folder, "journal.jsonl")) as journal:
            began = time.process_time()
            conductor = Conductor(
                journal,
                space=landscape.space,
                base=landscape.base(epochs),
                budget=Budget(plan.trials, epochs, time_budget=ENDLESS, open_ended=True),
                sampler=strategy.sampler,
                scheduler=strategy.rule,
                seed=seed,
                objective=objective_of(OBJECTIVE),
                plan=plan,
                slots=slots,
                clock=clock,
            )
            ledger.conductor = conductor
            drive_in_time(conductor, clock, slots=slots, seconds_of=_seconds, start_seconds=0.0, outcome=ledger.train,
                          may_begin=ledger.may_begin)  # fmt: skip
            took = time.process_time() - began - ledger.training_seconds
    best = conductor.labels().get(BEST)
    value = landscape.value(best.config) if best is not None else 0.0
    return Outcome(
        regret=landscape.best - value,
        crowned=best.config if best is not None else {},
        spent=ledger.spent,
        trials=len(conductor.table.of_phase("search")),
        epochs=epochs,
        driver_seconds=took,
    )


def _seconds(config: Mapping[str, Any]) -> float:
    """Of an epoch: configurations differ by a tenth, so that slots do not march in step."""
    return 0.95 + 0.1 * fraction(config)


def length(landscape: Landscape, allocation: Allocation, *, given: int) -> int:
    """Epochs of a full trial, or a step from there: what `sweep.planning` would choose under the default stop rule.

    Raises:
        ValueError: If the landscape has no such length.
    """
    least = len(landscape.space.start)

    def has_room(epochs: int) -> bool:
        trials = planned(landscape, Strategy().rule, epochs=epochs, given=given).trials
        return trials >= max(least, math.ceil(TRIALS_PER_EPOCH * epochs))

    fitting = [place for place, epochs in enumerate(landscape.lengths) if has_room(epochs)]
    place = max(fitting, default=0) + allocation.longer
    if not 0 <= place < len(landscape.lengths):
        raise ValueError(f"{landscape.name} has no trials that are {allocation.name} than planned")
    return landscape.lengths[place]


_PLANS: dict[tuple[Any, ...], Plan] = {}


def planned(landscape: Landscape, rule: str, *, epochs: int, given: int) -> Plan:
    """The plan of a sweep whose trials and finishes are expected to take so many epochs."""
    rungs = SCHEDULERS.get(rule)(epochs).epochs()
    key = (landscape.space.name, rule, rungs, epochs, given)
    if key not in _PLANS:
        setting = _setting(landscape.space, landscape.base(epochs), rule)
        trials, fitting = max(1, given // epochs), 1
        for _ in range(6):
            foreseen = predict(setting, trials, epochs)
            taken = foreseen.search_epochs + foreseen.finish_epochs
            if taken <= given:
                fitting = max(fitting, trials)
            closer = max(1, int(trials * given / taken))
            if closer == trials:
                break
            trials = closer
        _PLANS[key] = make_plan(setting, Asked(fitting, epochs, None, confirm=0))
    return _PLANS[key]


def _setting(space: SearchSpace, base: Mapping[str, Scalar], rule: str) -> Setting:
    """An epoch takes a second; there is no report."""
    cost = MeasuredCost(str(base["model.name"]), str(base["image_size"]), Cost(train_seconds=1.0))
    return Setting(space, base, (cost,), rule, slots=1, gpus_per_trial=0.0, spent=0.0, report=False,
                   train_images=0, val_images=0, val_pixels=0.0, val_units=0)  # fmt: skip
