"""Records the learning curves of small real trainings, for searches to be replayed on.

    python -m benchmarks.search.record [--minutes 60] [--spaces lr,full] [--parallel 2] [--out FILE]

Adds one line per trial to `benchmarks/search/recorded.jsonl` and goes on where it stopped. Configurations are the
starting points of a space, then the points of a scrambled Sobol sequence over it; every configuration is trained with
each of `SEEDS` at each length of `KINDS`. The images are embedded scenes; the model is LRASPP-MobileNetV3 from scratch,
on one thread of the CPU per trial.
"""

from __future__ import annotations

import argparse
import itertools
import json
import multiprocessing
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import torch
from scipy.stats.qmc import Sobol

from benchmarks.search.recorded import IMAGE_SIZE, MODEL, RECORDED, SEEDS, read_lines
from search_spaces import SPACES, SearchSpace
from sweep.points import at
from trainables.data import DATASETS
from trainables.data.cache.decoded import DataCaches
from trainables.errors import DivergedError
from trainables.execution import TrialData
from trainables.loaders import evaluation_loader
from trainables.loops import evaluate
from trainables.metrics import ConfusionMatrix, summary
from trainables.places import DEFAULT_LIMIT_BYTES
from trainables.registry import Scalar
from trainables.trial import Trial

TRAIN_IMAGES, VAL_IMAGES, HELD_OUT_IMAGES = 80, 40, 150
"""The first of the data set's train, val and test splits; held-out images say what a model is worth."""
KINDS = (("lr", 8), ("full", 8), ("lr", 16), ("full", 16), ("lr", 4), ("full", 4))
"""Spaces and lengths of trials, recorded in turn: a recording that is cut short has as many of each."""


@dataclass(frozen=True)
class Task:
    """A trial that is to be recorded: a space's configuration by its number, a length and a seed."""

    space: str
    epochs: int
    number: int
    seed: int
    point: Mapping[str, Scalar]

    @property
    def key(self) -> tuple[str, int, int, int]:
        """What its line is found by."""
        return self.space, self.epochs, self.number, self.seed


def points(space: SearchSpace) -> Iterator[Mapping[str, Scalar]]:
    """The starting points, then a Sobol sequence; a trial has the parameters whose conditions hold."""
    yield from space.start
    sequence = Sobol(len(space.parameters), scramble=True, seed=0)
    while True:
        point = at(space, sequence.random(1)[0])
        yield {key: point[key] for key in space.complete(point)}


@cache
def images() -> tuple[TrialData, tuple[str, ...], DataCaches]:
    """What trials train and are scored on, the images held out from them, and the caches of this process."""
    data = DATASETS.get("scenes")()
    splits = data.splits(seed=0)
    seen = TrialData(data, splits.train[:TRAIN_IMAGES], splits.val[:VAL_IMAGES])
    return seen, tuple(splits.test[:HELD_OUT_IMAGES]), DataCaches()


@cache
def space_of(name: str) -> SearchSpace:
    """The space, for the model that is recorded."""
    return SPACES.get(name)([MODEL], "none")


def record(task: Task) -> dict[str, Any]:
    """Trains one configuration.

    Returns:
        Its line. `val`: mIoU after each epoch on the images that a sweep sees; `held_out`: mIoU of the last model on
        images that it does not see. A trial that diverges has `infeasible`, and the curve up to there.
    """
    torch.set_num_threads(1)
    data, held_out, caches = images()
    base: dict[str, Scalar] = {"image_size": IMAGE_SIZE, "epochs": task.epochs, "seed": task.seed,
                               "model.name": MODEL, "model.weights": "none"}  # fmt: skip
    told = {"space": task.space, "epochs": task.epochs, "point": task.number, "seed": task.seed,
            "params": dict(task.point)}  # fmt: skip
    trial = Trial(space_of(task.space).trial_config(base, task.point), data, caches=caches)
    curve: list[float] = []
    try:
        while not trial.done:
            curve.append(round(float(trial.run_epoch()["metrics"]["val/miou"]), 5))
    except DivergedError as error:
        return {**told, "val": curve, "infeasible": str(error)}
    matrix = ConfusionMatrix(len(data.data.classes))
    kept = caches.get(data.data, trial.config.image_size, limit_bytes=DEFAULT_LIMIT_BYTES)
    kept.build(evaluation=held_out)
    loader = evaluation_loader(kept, held_out, size=trial.config.image_size, batch_size=trial.config.batch_size,
                               normalisation=trial.model.normalisation, workers=0, pin_memory=False)  # fmt: skip
    evaluate(trial.updater.evaluated, loader, [matrix], device=trial.device, precision=trial.precision)
    return {**told, "val": curve, "held_out": round(float(summary(matrix.value())["val/miou"]), 5)}


def tasks(kinds: list[tuple[str, int]]) -> Iterator[Task]:
    """Configuration after configuration, of each kind in turn."""
    names = list(dict.fromkeys(name for name, _ in kinds))
    sequences = {name: points(space_of(name)) for name in names}
    for number in itertools.count():
        found = {name: next(sequences[name]) for name in names}
        for name, epochs in kinds:
            for seed in SEEDS:
                yield Task(name, epochs, number, seed, found[name])


def main() -> None:
    """Records until the time is over."""
    flags = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    flags.add_argument("--minutes", type=float, default=60.0, help="no trial is begun afterwards (default: 60)")
    flags.add_argument("--spaces", default="lr,full", metavar="NAME,...")
    flags.add_argument("--parallel", type=int, default=1, metavar="N", help="trials at once (default: 1)")
    flags.add_argument("--out", type=Path, default=RECORDED, metavar="FILE", help=f"default: {RECORDED.name}")
    asked = flags.parse_args()
    end = time.monotonic() + 60 * asked.minutes
    done = {(line["space"], line["epochs"], line["point"], line["seed"]) for line in read_lines(asked.out)}
    todo = (one for one in tasks([k for k in KINDS if k[0] in asked.spaces.split(",")]) if one.key not in done)
    apart = multiprocessing.get_context("spawn")
    with asked.out.open("a") as stream, ProcessPoolExecutor(asked.parallel, mp_context=apart) as workers:
        running: set[Future[dict[str, Any]]] = set()
        while True:
            while len(running) < asked.parallel and time.monotonic() < end:
                running.add(workers.submit(record, next(todo)))
            if not running:
                return
            ended, running = wait(running, return_when=FIRST_COMPLETED)
            for one in ended:
                stream.write(json.dumps(one.result(), separators=(",", ":")) + "\n")
            stream.flush()


if __name__ == "__main__":
    main()
