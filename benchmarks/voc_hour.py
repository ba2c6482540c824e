r"""An hour of search on VOC beside what one trains by hand: the same training images, fresh seeds, a drawn test split.

    python -m sweep.run --space full --data voc2012 --data-root DATA_ROOT --models lraspp_efficientnet_lite0 \
        --weights imagenet --time-budget 1h --name hour
    python benchmarks/voc_hour.py train --data-root DATA_ROOT --epochs 10 [--device cuda]
    python benchmarks/voc_hour.py compare runs/hour --data-root DATA_ROOT

`train` trains the rivals with three seeds each on the train split that every sweep over these images draws, and
evaluates them on its test split: the hand recipe (everything is trained, 224x224, 8 epochs, AdamW at 3e-3, a fifth of
it in the backbone, one cycle, flips), and the known-good point of `full` with `--epochs`. Each finished run is one line
of `--runs`. `compare` evaluates the fresh seeds of a run's verdict on test, too, and says by how much its winner is
ahead of each: over paired images and unpaired seeds, with 95% intervals for all rivals at once (`sweep.claims`).
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from paired import machine
from tabulate import tabulate

from search_spaces import find_space
from search_spaces.common import known_good_training
from sweep.claims import Arm, compare
from sweep.deciding import image_variances, over_images
from sweep.journal import JOURNAL_FILE, read_events
from sweep.objectives import objective_of
from sweep.verdict import Confirmed, last_verdict
from trainables.applied import images_digest
from trainables.checkpoint import CHECKPOINTS, latest_checkpoint, publish, rebuild_model
from trainables.config import TrialConfig, format_size
from trainables.data import DATASETS, Splits
from trainables.data.base import SegmentationData
from trainables.data.splits.given import make_splits
from trainables.execution import Execution, TrialData
from trainables.loaders import evaluation_loader
from trainables.loops import evaluate
from trainables.metrics import ConfusionsAlone, ImageCounts, PerImageConfusion, sampling_units, summary
from trainables.registry import Scalar
from trainables.trial import Trial

MODEL = "lraspp_efficientnet_lite0"
SEEDS = (101, 102, 103)
WATCHED = 8
"""Images that a trial validates on after each epoch."""
HAND: Mapping[str, Scalar] = {
    "image_size": "224x224",
    "epochs": 8,
    "batch_size": 8,
    "augment.policy": "flip",
    "loss.name": "cross_entropy",
    "optimizer.name": "adamw",
    "optimizer.lr": 3e-3,
    "schedule.name": "one_cycle",
    "training.backbone_lr": 0.2,
    "training.freeze": "none",
}


def recipes(size: tuple[int, int], epochs: int) -> Iterator[tuple[str, dict[str, Scalar]]]:
    """The rivals by name, as flat configurations without a seed."""
    common: dict[str, Scalar] = {"model.name": MODEL, "model.weights": "imagenet"}
    yield "hand recipe", {**common, **HAND}
    space = find_space("full", image_size=size)([MODEL], "imagenet")
    base = {**common, "image_size": format_size(size), "epochs": epochs, **known_good_training("imagenet")}
    yield f"known-good point of full, {epochs} epochs", {**base, **space.fixed, **space.start[0]}


def counts_on_test(model: Any, data: SegmentationData, splits: Splits, config: TrialConfig) -> ImageCounts:
    """What a model makes of each image of test, in the split's order."""
    loader = evaluation_loader(
        data, splits.test, size=config.image_size, batch_size=8, normalisation=model.normalisation
    )
    pairs = PerImageConfusion(len(data.classes))
    evaluate(model, loader, [pairs], device=next(model.parameters()).device)
    return pairs.value()


def train(asked: argparse.Namespace) -> None:
    """Trains what is missing."""
    torch.backends.cudnn.allow_tf32 = False
    data, splits = opened(asked.data_root)
    done = read(asked.runs)
    execution = Execution(device=asked.device)
    for name, flat in recipes(data.default_image_size, asked.epochs):
        for seed in SEEDS:
            if (name, seed) in done:
                continue
            began = time.perf_counter()
            config = TrialConfig.from_flat({**flat, "seed": seed})
            trial = Trial(
                config, TrialData(data, tuple(splits.train), tuple(splits.val[:WATCHED])), execution=execution
            )
            while not trial.done:
                trial.run_epoch()
            counts = counts_on_test(trial.updater.evaluated, data, splits, config)
            run = {
                "recipe": name,
                "seed": seed,
                "config": config.flat(),
                "images": images_digest(splits.train, splits.test),
                "machine": machine() if asked.device == "cpu" else torch.cuda.get_device_name(),
                "miou": miou(counts),
                "seconds": round(time.perf_counter() - began, 1),
                "counts": {key: array.tolist() for key, array in counts.arrays().items()},
            }
            with asked.runs.open("a", encoding="utf-8") as file:
                file.write(json.dumps(run) + "\n")
            print(f"{name}, seed {seed}: mIoU {run['miou']:.4f} on test, {run['seconds']} s", flush=True)


def compare_with(asked: argparse.Namespace) -> None:
    """Prints by how much the winner of a run is ahead."""
    data, splits = opened(asked.data_root)
    verdict = last_verdict(read_events(asked.run / JOURNAL_FILE))
    if verdict is None:
        raise SystemExit(f"{asked.run} has no verdict")
    counted: dict[str, ImageCounts] = {}
    arms: list[Confirmed] = []
    for one in verdict.configurations:
        for trial_id in one.trials:
            counted[trial_id] = of_checkpoint(asked.run, trial_id, data, splits)
        who = f"{one.label} ({one.trial_id})" + (", the winner" if one.trial_id == verdict.leading.name else "")
        arms.append(Confirmed(who, one.label, one.trials, one.seeds, tuple(miou(counted[t]) for t in one.trials)))
    digest = images_digest(splits.train, splits.test)
    runs = [run for run in read(asked.runs).values() if run["images"] == digest]
    for name in dict.fromkeys(run["recipe"] for run in runs):
        found = {f"{name}/{run['seed']}": run for run in runs if run["recipe"] == name}
        counted |= {key: ImageCounts.of({k: np.array(v) for k, v in r["counts"].items()}) for key, r in found.items()}
        scores = tuple(run["miou"] for run in found.values())
        arms.append(Confirmed(name, name, tuple(found), tuple(run["seed"] for run in found.values()), scores))
    (winner,) = (arm for arm in arms if arm.trial_id.endswith(", the winner"))
    others = [arm for arm in arms if arm is not winner]
    objective = objective_of("val/miou")
    units = sampling_units([None] * len(splits.test))
    means = over_images([winner, *others], objective, lambda t: ConfusionsAlone(counted[t]), units)
    assert means is not None
    variances = image_variances(means, winner.trial_id, units)
    contrasts = compare(
        Arm(winner.trial_id, winner.scores),
        [Arm(arm.trial_id, arm.scores) for arm in others],
        image_variance=variances,
        units=units.count,
    )
    print(f"{len(splits.train)} images to train on, {len(splits.test)} of test; {machine()}")
    rows = [[winner.trial_id, len(winner.scores), f"{np.mean(winner.scores):.3f}", "", ""]]
    for arm, one in zip(others, contrasts, strict=True):
        ahead = (f"{-one.difference:+.3f}", f"{-one.high:+.3f} .. {-one.low:+.3f}")
        rows.append([arm.trial_id, len(arm.scores), f"{np.mean(arm.scores):.3f}", *ahead])
    headers = ["trained", "seeds", "mIoU on test", "winner is ahead by", "95% interval"]
    print(tabulate(rows, headers=headers, disable_numparse=True))


def of_checkpoint(run_dir: Path, trial_id: str, data: SegmentationData, splits: Splits) -> ImageCounts:
    """What the last model of a trial makes of test."""
    checkpoint = latest_checkpoint(run_dir / CHECKPOINTS / trial_id)
    if checkpoint is None:
        raise SystemExit(f"the checkpoint of {trial_id} is gone")
    folder = run_dir.parent / f"{run_dir.name}-{trial_id}"
    publish(checkpoint, folder, label=trial_id)
    model, record = rebuild_model(folder)
    return counts_on_test(model, data, splits, record.config)


def opened(root: Path) -> tuple[SegmentationData, Splits]:
    """The data set and the splits that a sweep over it draws."""
    data = DATASETS.get("voc2012")(root=root)
    return data, make_splits(data)


def read(path: Path) -> dict[tuple[str, int], dict[str, Any]]:
    """The finished runs."""
    lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    return {(run["recipe"], run["seed"]): run for run in map(json.loads, lines)}


def miou(counts: ImageCounts) -> float:
    """Of a split."""
    return float(summary(counts.sum(axis=0))["val/miou"])


def main() -> None:
    """Trains, or compares."""
    flags = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    modes = flags.add_subparsers(required=True)
    trains, compares = modes.add_parser("train"), modes.add_parser("compare")
    trains.add_argument("--epochs", type=int, required=True, help="of the known-good point of full: as the sweep's")
    trains.add_argument("--device", default="cpu")
    trains.set_defaults(do=train)
    compares.add_argument("run", type=Path)
    compares.set_defaults(do=compare_with)
    for mode in (trains, compares):
        mode.add_argument("--data-root", type=Path, required=True, help="holds VOCdevkit")
        mode.add_argument("--runs", type=Path, default=Path("voc_rivals.jsonl"))
    asked = flags.parse_args()
    asked.do(asked)


if __name__ == "__main__":
    main()
