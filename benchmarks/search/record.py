"""Records the learning curves of small real trainings, for searches to be replayed on.

    python -m benchmarks.search.record [--minutes 60] [--spaces lr]

Adds one line per trial to `benchmarks/search/recorded.jsonl` and goes on where it stopped. Configurations are the
starting points of a space, then the points of a scrambled Sobol sequence over it; every configuration is trained with
each of `SEEDS`. The images are embedded scenes; the model is LRASPP-MobileNetV3 from scratch, on one thread.
"""

from __future__ import annotations

import argparse
import itertools
import json
import time
from collections.abc import Iterator, Mapping
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
KINDS = (("lr", 8),)
"""Spaces and lengths of trials, recorded in turn: a recording that is cut short has as many of each."""


def points(space: SearchSpace) -> Iterator[Mapping[str, Scalar]]:
    """The starting points, then a Sobol sequence; a trial has the parameters whose conditions hold."""
    yield from space.start
    sequence = Sobol(len(space.parameters), scramble=True, seed=0)
    while True:
        point = at(space, sequence.random(1)[0])
        yield {key: point[key] for key in space.complete(point)}


def train(space: SearchSpace, point: Mapping[str, Scalar], *, epochs: int, seed: int, data: TrialData,
          held_out: tuple[str, ...], caches: DataCaches) -> dict[str, Any]:  # fmt: skip
    """Trains one configuration.

    Returns:
        `val`: mIoU after each epoch on the images that a sweep sees; `held_out`: mIoU of the last model on images that
        it does not see. A trial that diverges has `infeasible`, and the curve up to there.
    """
    base: dict[str, Scalar] = {"image_size": IMAGE_SIZE, "epochs": epochs, "seed": seed, "model.name": MODEL,
                               "model.weights": "none"}  # fmt: skip
    trial = Trial(space.trial_config(base, point), data, caches=caches)
    curve: list[float] = []
    try:
        while not trial.done:
            curve.append(round(float(trial.run_epoch()["metrics"]["val/miou"]), 5))
    except DivergedError as error:
        return {"val": curve, "infeasible": str(error)}
    matrix = ConfusionMatrix(len(data.data.classes))
    cache = caches.get(data.data, trial.config.image_size, limit_bytes=DEFAULT_LIMIT_BYTES)
    cache.build(evaluation=held_out)
    loader = evaluation_loader(cache, held_out, size=trial.config.image_size, batch_size=trial.config.batch_size,
                               normalisation=trial.model.normalisation, workers=0, pin_memory=False)  # fmt: skip
    evaluate(trial.updater.evaluated, loader, [matrix], device=trial.device, precision=trial.precision)
    return {"val": curve, "held_out": round(float(summary(matrix.value())["val/miou"]), 5)}


def main() -> None:
    """Records until the time is over."""
    flags = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    flags.add_argument("--minutes", type=float, default=60.0)
    flags.add_argument("--spaces", default=",".join(name for name, _ in KINDS), metavar="NAME,...")
    asked = flags.parse_args()
    end = time.monotonic() + 60 * asked.minutes
    kinds = [kind for kind in KINDS if kind[0] in asked.spaces.split(",")]
    torch.set_num_threads(1)
    done = {(line["space"], line["epochs"], line["point"], line["seed"]) for line in read_lines()}
    images = DATASETS.get("scenes")()
    splits = images.splits(seed=0)
    data = TrialData(images, splits.train[:TRAIN_IMAGES], splits.val[:VAL_IMAGES])
    held_out = tuple(splits.test[:HELD_OUT_IMAGES])
    caches = DataCaches()
    spaces = {name: SPACES.get(name)([MODEL], "none") for name, _ in kinds}
    sequences = [points(spaces[name]) for name, _ in kinds]
    with RECORDED.open("a") as stream:
        for number in itertools.count():
            for (name, epochs), sequence in zip(kinds, sequences, strict=True):
                point = next(sequence)
                for seed in SEEDS:
                    if (name, epochs, number, seed) in done:
                        continue
                    if time.monotonic() > end:
                        return
                    found = train(spaces[name], point, epochs=epochs, seed=seed, data=data, held_out=held_out,
                                  caches=caches)  # fmt: skip
                    told = {"space": name, "epochs": epochs, "point": number, "seed": seed, "params": dict(point)}
                    stream.write(json.dumps({**told, **found}, separators=(",", ":")) + "\n")
                    stream.flush()


if __name__ == "__main__":
    main()
