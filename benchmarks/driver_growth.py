"""What a sweep's driver costs as its trials get more: CPU time per trial, memory, and how long its journal replays.

    python benchmarks/driver_growth.py [--trials 5000] [--samplers random,tpe] [--slots 16] [--seconds 1]

The conductor, the journal, the Optuna study, `trials.csv` and `study.db` are those of a sweep of the space `augment`
with ASHA; what stands in for Ray and training is `tests/sweep/simulated.py`. Epochs take simulated seconds (of each
trial `--seconds`), of `--slots` trials side by side, and the files are written every 5 of these seconds, as in a sweep.
CPU time is that of the process, waiting for the disk aside; of each window of 100 trials that ends at the count named.

Beside it in the same run and process: Optuna's own `ask` of one sampler object and `tell`, a study in memory with the
same space and as many trials, each reported as often. `loaded` is the memory of the process before its first trial.

    python benchmarks/driver_growth.py --asks 200,1000,2000 [--samplers tpe]

After so many trials of one and the same history (random, 15 more running): what a suggestion costs a sweep, and what
Optuna's own `ask` with one sampler object costs. In turn, the median of 24 of each.
"""

from __future__ import annotations

import argparse
import gc
import heapq
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import optuna
from optuna.trial import TrialState

from search_spaces import SPACES
from sweep.conductor import Conductor
from sweep.journal import Journal
from sweep.manifest import Budget
from sweep.objectives import objective_of
from sweep.optuna_study import Suggestions
from sweep.samplers import SAMPLERS, Draw
from sweep.views import REFRESH_SECONDS, Views
from tests.sweep.simulated import OBJECTIVE, Clock, Worker, fraction

WINDOW = 100
SLOTS = 15
"""Trials that run while a suggestion is measured."""
ASKS = 24
MARKS = (100, 200, 1000, 2000, 5000)
SPACE = SPACES.get("augment")(["lraspp_mobilenet_v3_large"], "none")
BASE: dict[str, Any] = {"image_size": "96x128", "model.name": "lraspp_mobilenet_v3_large", "model.weights": "none"}
OTHERS = ("val/pixel_accuracy", "val/f1", "val/precision", "val/recall", "val/loss", "train/loss", "lr", "images_per_s")


def metrics(config: Mapping[str, Any], epoch: int) -> dict[str, Any]:
    """What a trial reports: a score that grows with the epochs, and eight numbers beside it."""
    score = 0.35 + fraction(config) * 0.25 + 0.05 * epoch / config["epochs"]
    return {"metrics": {OBJECTIVE: score, **{name: score * 0.9 for name in OTHERS}}}


def make(journal: Journal, sampler: str, trials: int, epochs: int, clock: Clock) -> Conductor:
    """The conductor of the sweep."""
    return Conductor(
        journal,
        space=SPACE,
        base={**BASE, "epochs": epochs, "seed": 0},
        budget=Budget(trials=trials, max_epochs=epochs),
        sampler=sampler,
        scheduler="asha",
        seed=3,
        objective=objective_of(OBJECTIVE),
        clock=clock,
    )


class Meter:
    """CPU time of every trial and memory at the marks."""

    def __init__(self) -> None:
        self._aside = 0.0
        self.at = [time.process_time()]
        self.memory: dict[int, float] = {}

    def ended(self) -> None:
        """One more trial has ended."""
        now = time.process_time()
        self.at.append(now - self._aside)
        if len(self.at) - 1 in MARKS:
            self.memory[len(self.at) - 1] = resident()
            self._aside += time.process_time() - now

    def milliseconds(self, mark: int) -> float:
        """CPU time per trial of the window that ends at a count of trials."""
        first = max(0, mark - WINDOW)
        return 1000 * (self.at[mark] - self.at[first]) / (mark - first)

    def marks(self) -> list[int]:
        """The counts that were reached."""
        return sorted({mark for mark in (*MARKS, len(self.at) - 1) if mark < len(self.at)})


def resident() -> float:
    """Memory that the process holds, MiB."""
    gc.collect()
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 2**20


def drive(conductor: Conductor, views: Views, clock: Clock, meter: Meter, *, slots: int, seconds: float) -> float:
    """Runs a conductor to its end; returns the CPU seconds that its files took."""
    conductor.start()
    running: list[tuple[float, int, Worker]] = []
    disk: dict[str, int] = {}
    count, due, in_files = 0, 0.0, 0.0
    while True:
        while len(running) < slots and (task := conductor.next()) is not None:
            count += 1
            worker = Worker(task, metrics, disk)
            heapq.heappush(running, (clock.now + seconds / task.config["epochs"], count, worker))
        if not running:
            if not conductor.finished:
                raise RuntimeError("nothing runs and nothing is handed out, yet the sweep is not over")
            return in_files
        clock.now, number, worker = heapq.heappop(running)
        each = seconds / worker.task.config["epochs"]
        result = {**worker.step(), "seconds": each}
        if conductor.on_trial_result(worker.task.trial_id, result) or result["epoch"] >= worker.task.config["epochs"]:
            meter.ended()
        else:
            heapq.heappush(running, (clock.now + each, number, worker))
        if clock.now >= due:
            before = time.process_time()
            views.write()
            in_files += time.process_time() - before
            due = clock.now + REFRESH_SECONDS


def optuna_alone(sampler: str, trials: int, epochs: int) -> Meter:
    """Optuna's own loop: one sampler object, `ask`, a report for each epoch, `tell`."""
    starting = Draw(SPACE, 3, trials=trials)
    study = optuna.create_study(direction="maximize", sampler=SAMPLERS.get(sampler)(starting))
    meter = Meter()
    for number in range(trials):
        trial = study.ask()
        params = SPACE.suggest(trial)
        for epoch in range(1, epochs + 1):
            trial.report(fraction(params, number) * epoch, epoch)
        study.tell(trial, fraction(params, number) * epochs)
        meter.ended()
    return meter


def replayed(trials: Iterable[optuna.trial.FrozenTrial], sampler: optuna.samplers.BaseSampler) -> optuna.Study:
    """A study of Optuna alone to which the same was told, with a sampler for what comes."""
    study = optuna.create_study(direction="maximize")
    for known in trials:
        study.sampler = optuna.samplers.PartialFixedSampler(known.params, optuna.samplers.RandomSampler(seed=0))
        trial = study.ask()
        SPACE.suggest(trial)
        for epoch, value in known.intermediate_values.items():
            trial.report(value, epoch)
        for name, value in known.user_attrs.items():
            trial.set_user_attr(name, value)
        for name, value in known.constraints.items():
            trial.set_constraint(name, value)
        if known.state == TrialState.COMPLETE:
            study.tell(trial, known.value)
        elif known.state.is_finished():
            study.tell(trial, state=known.state)
    study.sampler = sampler
    return study


def asks(sampler: str, trials: int, path: Path) -> None:
    """Prints what a suggestion costs after so many trials, beside Optuna's own on the same history."""
    with Journal(path / "journal.jsonl") as journal:
        conductor = make(journal, "random", trials + SLOTS, 3, Clock())
        conductor.start()
        running: list[Worker] = []
        while sum(not trial.is_open for trial in conductor.table.trials.values()) < trials:
            while len(running) < SLOTS and (task := conductor.next()) is not None:
                running.append(Worker(task, metrics, {}))
            worker = running.pop(0)
            if not conductor.on_trial_result(worker.task.trial_id, {**worker.step(), "seconds": 1.0}):
                running.append(worker)
        history = [trial for trial in conductor.search.suggestions.study.get_trials() if "trial_id" in trial.user_attrs]
        ours = Suggestions(SPACE, sampler=sampler, seed=3, trials=trials + SLOTS, objective=conductor.objective)
        for event in journal.events:
            if event["event"] == "suggested":
                ours.ask(event["trial_id"], event["number"], fixed=event["params"])
            ours.apply(event)
    theirs = replayed(history, SAMPLERS.get(sampler)(Draw(SPACE, 3, trials=trials + SLOTS)))
    taken: dict[str, list[float]] = {"ours": [], "Optuna's": []}
    for number in range(len(history), len(history) + ASKS + 1):
        for name in sorted(taken, reverse=bool(number % 2)):
            before = time.process_time()
            if name == "ours":
                ours.ask("next", number)
                taken[name].append(time.process_time() - before)
                ours.drop("next")
            else:
                trial = theirs.ask()
                SPACE.suggest(trial)
                taken[name].append(time.process_time() - before)
                theirs.tell(trial, state=TrialState.FAIL)
    own, other = (1000 * statistics.median(times[1:]) for times in taken.values())
    print(f"{sampler} after {trials} trials: {own:.1f} ms, Optuna's own {other:.1f} ms, {own / other:.3f} times")


def measure(sampler: str, *, trials: int, epochs: int, slots: int, seconds: float, path: Path) -> None:
    """Prints the table of one sampler."""
    loaded = resident()
    meter, clock = Meter(), Clock()
    with Journal(path / "journal.jsonl") as journal:
        conductor = make(journal, sampler, trials, epochs, clock)
        views = Views(conductor, path, lambda config: 0.0)
        started = time.perf_counter()
        in_files = drive(conductor, views, clock, meter, slots=slots, seconds=seconds)
        wall = time.perf_counter() - started
        before = time.process_time()
        views.write()
        last = time.process_time() - before
        events = len(journal.events)
    ended = meter.at[-1] - meter.at[0]
    del conductor, views, journal
    before = time.process_time()
    with Journal(path / "journal.jsonl") as journal:
        read = time.process_time() - before
        again = make(journal, sampler, trials, epochs, Clock())
        replayed = time.process_time() - before
        if not again.finished:
            raise RuntimeError("a finished sweep is not finished when it is replayed")
    del again, journal
    alone = optuna_alone(sampler, trials, epochs)
    size = (path / "journal.jsonl").stat().st_size / 2**20
    print(f"\n{sampler}: {trials} trials of up to {epochs} epochs, {slots} slots; loaded {loaded:.0f} MiB")
    print(f"{'trials':>8} {'ms per trial':>14} {'of the 2nd row':>15} {'MiB':>8} {'Optuna alone, ms':>18}")
    base = meter.milliseconds(meter.marks()[min(1, len(meter.marks()) - 1)])
    for mark in meter.marks():
        own, other = meter.milliseconds(mark), alone.milliseconds(min(mark, trials))
        memory = f"{meter.memory[mark]:.0f}" if mark in meter.memory else "-"
        print(f"{mark:>8} {own:>14.2f} {own / base:>15.2f} {memory:>8} {other:>18.2f}")
    print(f"all: {ended:.1f} s of CPU in {wall:.1f} s, of which trials.csv and study.db {in_files:.1f} s")
    print(f"the last writing of both: {1000 * last:.0f} ms of CPU")
    print(f"journal: {events} events, {size:.1f} MiB; read and verified in {read:.1f} s, replayed in {replayed:.1f} s")


def main() -> None:
    """Prints a table for each sampler, each in a process of its own."""
    flags = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    flags.add_argument("--trials", type=int, default=5000, metavar="N")
    flags.add_argument("--epochs", type=int, default=3, metavar="N")
    flags.add_argument("--samplers", default="random,tpe", metavar="A,B")
    flags.add_argument("--slots", type=int, default=16, metavar="N")
    flags.add_argument("--seconds", type=float, default=1.0, metavar="S", help="of each trial, simulated")
    flags.add_argument("--asks", metavar="N,N", help="measure suggestions alone, after so many trials")
    asked = flags.parse_args()
    if asked.asks:
        for count in asked.asks.split(","):
            with tempfile.TemporaryDirectory() as folder:
                asks(asked.samplers.split(",")[-1], int(count), Path(folder))
        return
    names = asked.samplers.split(",")
    if len(names) > 1:
        numbers = {"trials": asked.trials, "epochs": asked.epochs, "slots": asked.slots, "seconds": asked.seconds}
        told = [word for name, value in numbers.items() for word in (f"--{name}", str(value))]
        for name in names:
            subprocess.run([sys.executable, __file__, "--samplers", name, *told], check=True, env=os.environ)
        return
    with tempfile.TemporaryDirectory() as folder:
        measure(
            names[0],
            trials=asked.trials,
            epochs=asked.epochs,
            slots=asked.slots,
            seconds=asked.seconds,
            path=Path(folder),
        )


if __name__ == "__main__":
    main()
