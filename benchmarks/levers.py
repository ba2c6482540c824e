"""How far each lever moves val mIoU: one factor at a time around a base point, backbone frozen and trained.

python benchmarks/levers.py --data-root DATA_ROOT [--runs levers.jsonl] [--out benchmarks/results/levers.txt]

LRASPP on EfficientNet-Lite0 with ImageNet weights, trained by the trial code of a sweep on a stratified split of VOC.
A run differs from the base point of its half (`frozen` or `trained`) in one lever. It validates on one batch per epoch
and on the whole of val once, after its last epoch. Each finished run is one line of `--runs`: started again, the
command measures what is missing there, in the order of `CELLS`; `--table` only prints what there is.

The difference from the base is the mean over seeds of paired differences (the same seed on both sides). Its 95%
interval is a t interval whose standard deviation is pooled over all values of the half, since three differences alone
say little of their own spread. Seconds are processor time of training, without validation, relative to the base point
of the half; on a machine that others use, too, they are right to a third: a learning rate does not change them.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from paired import machine
from scipy import stats
from tabulate import tabulate

from trainables.config import TrialConfig
from trainables.data import DATASETS
from trainables.data.base import SegmentationData
from trainables.data.cache.decoded import DataCaches
from trainables.data.cache.scan import scan
from trainables.data.splits.stratified import draw
from trainables.execution import Execution, TrialData
from trainables.loaders import evaluation_loader
from trainables.loops import evaluate
from trainables.metrics import ConfusionMatrix, summary
from trainables.registry import Scalar
from trainables.trial import Trial

SHARES = (0.4, 0.3, 0.3)
"""Of the images: to train on, to validate on, left alone."""
SEEDS = (0, 1, 2)
MIOU = "val/miou"
WATCHED = 8
"""Images that a trial validates on after each epoch."""

BASE: Mapping[str, Scalar] = {
    "model.name": "lraspp_efficientnet_lite0",
    "model.weights": "imagenet",
    "optimizer.name": "adamw",
    "optimizer.lr": 3e-3,
    "loss.name": "cross_entropy",
    "augment.policy": "flip",
    "training.backbone_lr": 0.1,
    "image_size": "160x160",
    "batch_size": 8,
    "epochs": 5,
}
HALVES: Mapping[str, str] = {"frozen": "backbone", "trained": "batch_norm"}
"""What is not updated at the base point of each half."""


@dataclass(frozen=True)
class Cell:
    """One value of a lever in one half; the base points have no lever."""

    half: str
    lever: str = ""
    value: Scalar = ""

    def config(self, seed: int) -> dict[str, Scalar]:
        """The flat configuration of a run."""
        lever = {self.lever: self.value} if self.lever else {}
        return {**BASE, "training.freeze": HALVES[self.half], **lever, "seed": seed}


CELLS: Sequence[Cell] = (
    Cell("frozen"),
    Cell("trained"),
    Cell("frozen", "image_size", "224x224"),
    Cell("trained", "image_size", "224x224"),
    Cell("frozen", "loss.name", "cross_entropy+lovasz"),
    Cell("frozen", "augment.policy", "trivial"),
    Cell("frozen", "optimizer.lr", 1e-2),
    Cell("frozen", "batch_size", 4),
    Cell("frozen", "loss.name", "cross_entropy+dice"),
    Cell("frozen", "optimizer.lr", 1e-3),
    Cell("trained", "training.backbone_lr", 0.005),
    Cell("trained", "optimizer.lr", 1e-2),
    Cell("trained", "training.freeze", "stages"),
    Cell("trained", "loss.name", "cross_entropy+lovasz"),
    Cell("trained", "augment.policy", "trivial"),
    Cell("trained", "batch_size", 4),
    Cell("trained", "training.backbone_lr", 0.5),
    Cell("trained", "loss.name", "cross_entropy+dice"),
    Cell("trained", "optimizer.lr", 1e-3),
    Cell("trained", "training.freeze", "none"),
    Cell("frozen", "batch_size", 16),
    Cell("frozen", "augment.policy", "none"),
    Cell("frozen", "image_size", "320x320"),
    Cell("trained", "training.backbone_lr", 0.02),
    Cell("trained", "batch_size", 16),
)
"""The most important first: an interrupted measurement has them."""


def measure(cell: Cell, seed: int, data: TrialData, caches: DataCaches) -> dict[str, Any]:
    """Trains one run to the end: its val mIoU and its seconds of processor time per epoch."""
    config = TrialConfig.from_flat(cell.config(seed))
    watched = TrialData(data.data, data.train, data.val[:WATCHED])
    execution = Execution(threads=1)
    cache = caches.get(data.data, config.image_size, limit_bytes=execution.cache_bytes)
    cache.build(data.train, data.val)
    trial = Trial(config, watched, execution=execution, caches=caches)
    started = time.process_time()
    while not trial.done:
        trial.run_epoch()
    seconds = (time.process_time() - started) / config.epochs
    loader = evaluation_loader(
        cache,
        data.val,
        size=config.image_size,
        batch_size=config.batch_size,
        normalisation=trial.model.normalisation,
    )
    matrix = ConfusionMatrix(len(data.data.classes))
    evaluate(trial.updater.evaluated, loader, [matrix])
    return {**_key(cell, seed), "miou": summary(matrix.value())[MIOU], "epoch_seconds": seconds}


def _key(cell: Cell, seed: int) -> dict[str, Any]:
    """What a run is; runs of another base point or length have another."""
    return {"half": cell.half, "lever": cell.lever, "value": cell.value, "seed": seed, "config": cell.config(seed)}


def read(path: Path) -> dict[str, dict[str, Any]]:
    """The finished runs by their keys, as text; a last line that was cut off is left out."""
    found = {}
    for line in path.read_text(encoding="utf-8").splitlines() if path.is_file() else ():
        try:
            run = json.loads(line)
        except ValueError:
            continue
        found[json.dumps({name: run[name] for name in ("half", "lever", "value", "seed", "config")})] = run
    return found


def split(data: SegmentationData) -> TrialData:
    """Train and val, stratified by class with seed 0."""
    ids = list(data.ids())
    scan(data, ids)
    train, val, _ = draw(data, ids, SHARES, seed=0)
    return TrialData(data, tuple(train), tuple(val))


def table(runs: Mapping[str, Mapping[str, Any]]) -> str:
    """A row for every cell; one that is not measured with every seed says so."""
    by_cell = {cell: _runs_of(cell, runs) for cell in CELLS}
    spreads = {half: _pooled(half, by_cell) for half in HALVES}
    rows = [_row(cell, found, by_cell[Cell(cell.half)], spreads[cell.half]) for cell, found in by_cell.items()]
    order = sorted(range(len(rows)), key=lambda place: (CELLS[place].lever, str(CELLS[place].half), place))
    headers = ["lever", "value", "backbone", "mIoU", "difference", "95% interval", "seconds"]
    return tabulate([rows[place] for place in order], headers=headers, disable_numparse=True)


def _runs_of(cell: Cell, runs: Mapping[str, Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    found = (runs.get(json.dumps(_key(cell, seed))) for seed in SEEDS)
    return [run for run in found if run is not None]


def _differences(found: Sequence[Mapping[str, Any]], base: Sequence[Mapping[str, Any]]) -> list[float]:
    of_base = {run["seed"]: run["miou"] for run in base}
    return [run["miou"] - of_base[run["seed"]] for run in found if run["seed"] in of_base]


def _pooled(half: str, by_cell: Mapping[Cell, Sequence[Mapping[str, Any]]]) -> tuple[float, int]:
    """Standard deviation of a paired difference, and its degrees of freedom."""
    told = [_differences(runs, by_cell[Cell(half)]) for cell, runs in by_cell.items() if cell.half == half]
    several = [one for one, cell in zip(told, (c for c in by_cell if c.half == half), strict=True) if cell.lever]
    several = [one for one in several if len(one) > 1]
    freedom = sum(len(one) - 1 for one in several)
    squares = sum(statistics.variance(one) * (len(one) - 1) for one in several)
    return (math.sqrt(squares / freedom) if freedom else math.nan), freedom


def _row(
    cell: Cell, found: Sequence[Mapping[str, Any]], base: Sequence[Mapping[str, Any]], spread: tuple[float, int]
) -> list[str]:
    value = str(cell.value) if cell.lever else "base point"
    head = [cell.lever or "-", value, cell.half]
    if len(found) < len(SEEDS) or len(base) < len(SEEDS):
        return [*head, f"not measured ({len(found)} of {len(SEEDS)} seeds)", "", "", ""]
    miou = statistics.fmean(run["miou"] for run in found)
    ratio = sum(run["epoch_seconds"] for run in found) / sum(run["epoch_seconds"] for run in base)
    if not cell.lever:
        return [*head, f"{miou:.3f}", "", "", "x1.00"]
    differences = _differences(found, base)
    deviation, freedom = spread
    half_width = float(stats.t.ppf(0.975, freedom)) * deviation / math.sqrt(len(differences))
    mean = statistics.fmean(differences)
    interval = f"{mean - half_width:+.3f} .. {mean + half_width:+.3f}"
    return [*head, f"{miou:.3f}", f"{mean:+.3f}", interval, f"x{ratio:.2f}"]


def told(data: TrialData, runs: Mapping[str, Mapping[str, Any]]) -> str:
    """What was measured, where, and the table."""
    base = ", ".join(f"{key}={value}" for key, value in BASE.items())
    bases = [run for run in runs.values() if not run["lever"]]
    seconds = {
        half: [
            run["epoch_seconds"]
            for run in bases
            if run["half"] == half and run["config"] == Cell(half).config(run["seed"])
        ]
        for half in HALVES
    }
    lines = [
        f"{data.data.name}: {len(data.train)} train, {len(data.val)} val images; seeds {', '.join(map(str, SEEDS))}",
        f"base point: {base}",
        f"training.freeze of the halves: {', '.join(f'{half} {what}' for half, what in HALVES.items())}",
        *(
            f"{half}: {statistics.fmean(found):.1f} s of processor time per epoch at the base point"
            for half, found in seconds.items()
            if found
        ),
        machine(),
        "",
        table(runs),
    ]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Measures what is missing and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-root", type=Path, required=True, help="holds VOCdevkit")
    parser.add_argument("--runs", type=Path, default=Path("levers.jsonl"), help="one line per finished run")
    parser.add_argument("--out", type=Path, help="where the table is written, beside the terminal")
    parser.add_argument("--table", action="store_true", help="measure nothing")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    data = split(DATASETS.get("voc2012")(root=asked.data_root))
    caches = DataCaches()
    for cell in () if asked.table else CELLS:
        for seed in SEEDS:
            if json.dumps(_key(cell, seed)) in read(asked.runs):
                continue
            run = measure(cell, seed, data, caches)
            with asked.runs.open("a", encoding="utf-8") as file:
                file.write(json.dumps(run) + "\n")
            print(f"{cell} seed {seed}: mIoU {run['miou']:.4f}, {run['epoch_seconds']:.1f} s per epoch", flush=True)
    text = told(data, read(asked.runs))
    print(text)
    if asked.out:
        asked.out.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
