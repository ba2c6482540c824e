"""Workers without torch or Ray: what a trial reports is a pure function of its configuration and the epoch."""

from __future__ import annotations

import hashlib
import heapq
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from search_spaces import SPACES, SearchSpace
from sweep.conductor import Conductor, Task
from sweep.journal import Event, Journal
from sweep.manifest import Budget
from sweep.objectives import objective_of

OBJECTIVE = "val/miou"
SPACE: SearchSpace = SPACES.get("loss")(["lraspp_mobilenet_v3_large"], "none")
BASE = {
    "image_size": "32x32",
    "epochs": 4,
    "model.name": "lraspp_mobilenet_v3_large",
    "model.weights": "none",
    "seed": 0,
}
SECONDS = 10.0
"""Of every epoch."""

Outcome = Callable[[Mapping[str, Any], int], dict[str, Any]]
"""(configuration, epoch) -> what a trial reports instead of, or with, its metrics."""


LATER = {"training.loss_stride": 1, "training.class_tiles": 0.0, "resize": "stretch"}
"""Keys that configurations have got since, with what they were before: simulated scores are as they were."""


def fraction(*parts: object) -> float:
    """A number in 0 .. 1 that depends on the parts alone."""
    parts = tuple(
        {key: value for key, value in part.items() if LATER.get(key, ...) != value} if isinstance(part, dict) else part
        for part in parts
    )
    digest = hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).digest()
    return int.from_bytes(digest[:6], "big") / 2**48


def scores(config: Mapping[str, Any], epoch: int) -> dict[str, Any]:
    """Every trial trains to the end, and none is twice as good as another."""
    return {"metrics": {OBJECTIVE: 0.35 + fraction(config) * 0.25 + 0.05 * epoch / config["epochs"]}}


def troubled(config: Mapping[str, Any], epoch: int) -> dict[str, Any]:
    """Some diverge, some fail: two of the starting points for certain, of the others one in six each.

    With the loss `tversky` nothing is learnt.
    """
    known_good = config["optimizer.lr"] == 3e-3
    if known_good and config["loss.name"] == "cross_entropy":
        return scores(config, epoch)
    at = 1 + int(fraction("when", config) * config["epochs"])
    luck = fraction("luck", config)
    if epoch == at and (luck < 1 / 6 or (known_good and config["loss.name"] == "focal")):
        return {"infeasible": "diverged"}
    if epoch == at and (luck > 5 / 6 or (known_good and config["loss.name"] == "dice")):
        return {"failed": "RuntimeError: broken"}
    if config["loss.name"] == "tversky":
        return {"metrics": {OBJECTIVE: 0.02 + 0.01 * luck}}
    return scores(config, epoch)


@dataclass
class Clock:
    """Seconds that pass only when work is done."""

    now: float = 0.0

    def __call__(self) -> float:
        """The time."""
        return self.now


@dataclass
class Worker:
    """One trial on one slot: as `SegmentationTrainable`, it first repeats results that were not heard of."""

    task: Task
    outcome: Outcome
    disk: dict[str, int]
    """Epochs of each trial's last checkpoint."""
    epoch: int = field(init=False)

    def __post_init__(self) -> None:
        own = self.disk.setdefault(self.task.trial_id, self.disk.get(self.task.parent or "", 0))
        self.epoch = min(self.task.reported, own)

    def step(self) -> dict[str, Any]:
        """The next result."""
        if self.epoch >= self.task.config["epochs"]:
            return {"failed": "nothing left to train", "epoch": self.epoch}
        result = self.outcome(self.task.config, self.epoch + 1)
        if "metrics" not in result:
            return {**result, "epoch": self.epoch}
        self.epoch += 1
        self.disk[self.task.trial_id] = max(self.disk[self.task.trial_id], self.epoch)
        return {"epoch": self.epoch, "seconds": SECONDS, **result}


def make(journal: Journal, **changes: Any) -> Conductor:
    """A conductor of 12 trials of 4 epochs; TPE learns after the starting points."""
    options: dict[str, Any] = {
        "space": SPACE,
        "base": BASE,
        "budget": Budget(trials=12, max_epochs=4),
        "sampler": "tpe",
        "scheduler": "asha",
        "seed": 3,
        "objective": objective_of(OBJECTIVE),
        "clock": Clock(),
        **changes,
    }  # fmt: skip
    conductor = Conductor(journal, **options)
    return conductor


def drive(
    conductor: Conductor,
    *,
    slots: int = 1,
    outcome: Outcome = scores,
    disk: dict[str, int] | None = None,
    clock: Clock | None = None,
    rng: np.random.Generator | None = None,
    deaths: float = 0.0,
    until: int | None = None,
) -> None:
    """Runs a conductor to its end, or until `until` results were heard.

    Args:
        conductor: Not begun.
        slots: Trials at once.
        outcome: What trials report.
        disk: Checkpoints that outlive the driver.
        clock: Moved on by every epoch.
        rng: Decides which of the running trials reports next, and who dies.
        deaths: Share of steps at which a worker dies; after three deaths its trial has failed.
        until: Kill the driver after so many steps.
    """
    disk = {} if disk is None else disk
    rng = rng or np.random.default_rng(0)
    workers: list[Worker] = []
    conductor.start()
    for step in range(10_000):
        while len(workers) < slots and (task := conductor.next()) is not None:
            assert task.trial_id not in {worker.task.trial_id for worker in workers}, "handed out twice"
            workers.append(Worker(task, outcome, disk))
        if not workers:
            assert conductor.finished, "nothing runs and nothing is handed out, yet the sweep is not over"
            return
        if step == until:
            return
        index = int(rng.integers(len(workers)))
        worker = workers[index]
        if rng.random() < deaths:
            conductor.on_worker_death(worker.task.trial_id, "killed")
            workers.pop(index)
            continue
        result = worker.step()
        if clock is not None:
            clock.now += SECONDS / slots
        done = "metrics" not in result or result["epoch"] >= worker.task.config["epochs"]
        if conductor.on_trial_result(worker.task.trial_id, result) or done:
            workers.pop(index)
    raise AssertionError("the sweep does not end")


def decisions(journal: Journal) -> list[tuple[Any, ...]]:
    """What was suggested, what each trial came to and who was stopped why: all but times."""
    told: list[tuple[Any, ...]] = []
    for event in journal.events:
        if event["event"] == "suggested":
            told.append(("suggested", event["trial_id"], event["phase"], json.dumps(event["config"]), event["label"]))
        elif event["event"] == "decision":
            told.append(("decision", event["trial_id"], event["epoch"], event["by"], event["reason"]))
        elif event["event"] == "ended":
            told.append(("ended", event["trial_id"], event["state"], event["reason"], event["epoch"]))
    return told


def cut(source: Path, target: Path, events: int) -> Path:
    """The first events of a journal, as after a kill."""
    lines = source.read_bytes().splitlines(keepends=True)
    target.write_bytes(b"".join(lines[:events]))
    return target


def checkpoints_at(events: list[Event], ahead: int) -> dict[str, int]:
    """Epochs on disk when the last event was written; the trial of that event may be `ahead` of the journal."""
    disk: dict[str, int] = {}
    for event in events:
        if event["event"] == "suggested":
            disk[event["trial_id"]] = disk.get(event.get("parent") or "", 0)
        elif event["event"] == "result":
            disk[event["trial_id"]] = event["epoch"]
    open_trials = {e["trial_id"] for e in events if e["event"] == "suggested"}
    open_trials -= {e["trial_id"] for e in events if e["event"] == "ended"}
    for trial_id in open_trials:
        disk[trial_id] = min(disk[trial_id] + ahead, 4)
    return disk


def prefixes(journal: Journal) -> Iterator[int]:
    """Every length at which a kill can have cut it, the empty one included."""
    yield from range(len(journal.events) + 1)


def drive_in_time(
    conductor: Conductor,
    clock: Clock,
    *,
    slots: int,
    seconds_of: Callable[[Mapping[str, Any]], float],
    start_seconds: float = 2.0,
    disk: dict[str, int] | None = None,
    until: float = float("inf"),
    outcome: Outcome = scores,
    may_begin: Callable[[], bool] = lambda: True,
) -> bool:
    """Runs a conductor whose trials run side by side, each in its own time.

    Args:
        conductor: Not begun.
        clock: The conductor's.
        slots: Trials at once.
        seconds_of: Seconds of an epoch of a configuration.
        start_seconds: Between a suggestion and the first epoch.
        disk: Checkpoints that outlive the driver.
        until: When the driver is killed, on the clock.
        outcome: What trials report.
        may_begin: Whether a free slot asks for a trial now, or waits for another to end.

    Returns:
        Whether the sweep came to its end.
    """
    disk = {} if disk is None else disk
    conductor.start()
    running: list[tuple[float, int, Worker]] = []
    count = 0
    while True:
        while len(running) < slots and may_begin() and (task := conductor.next()) is not None:
            count += 1
            heapq.heappush(
                running, (clock.now + start_seconds + seconds_of(task.config), count, Worker(task, outcome, disk))
            )
        if not running:
            assert conductor.finished, "nothing runs and nothing is handed out, yet the sweep is not over"
            return True
        at, number, worker = heapq.heappop(running)
        if at > until:
            clock.now = max(clock.now, until)
            return False
        clock.now = at
        result = {**worker.step(), "seconds": seconds_of(worker.task.config)}
        done = "metrics" not in result or result["epoch"] >= worker.task.config["epochs"]
        if not conductor.on_trial_result(worker.task.trial_id, result) and not done:
            heapq.heappush(running, (at + seconds_of(worker.task.config), number, worker))
