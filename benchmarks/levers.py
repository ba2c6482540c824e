"""How far each lever moves val mIoU: one factor at a time around a base point, backbone frozen and trained.

python benchmarks/levers.py --data-root DATA_ROOT [--runs levers.jsonl] [--out benchmarks/results/levers.txt]
                            [--device cuda] [--parallel 4] [--only LEVER=VALUE ...]

LRASPP on EfficientNet-Lite0 with ImageNet weights, trained by the trial code of a sweep on a stratified split of VOC.
A run differs from the base point of its half (`frozen` or `trained`) in one lever. It validates on one batch per epoch
and on the whole of val once, after its last epoch. Each finished run is one line of `--runs`: started again, the
command measures what is missing there, in the order of `CELLS`; `--table` only prints what there is. What was measured
on different devices is never compared: each has a table of its own. On a GPU everything is float32 without TF32.

The difference from the base is the mean over seeds of paired differences (the same seed on both sides). Its 95%
interval is a t interval whose standard deviation is pooled over all values of the half, since three differences alone
say little of their own spread. Seconds are processor time of training, without validation, relative to the base point
of the half; on a machine that others use, too, they are right to a third: a learning rate does not change them. On a
GPU they are seconds of the clock, and none are told where several runs shared it (`--parallel`).
"""

from __future__ import annotations

import argparse
import json
import math
import multiprocessing
import statistics
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
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
LEVERS = frozenset(f"{cell.lever}={cell.value}" for cell in CELLS if cell.lever)


Job = tuple[Cell, int]
"""A cell and a seed."""


@dataclass(frozen=True)
class Bench:
    """Where runs are measured, and on which images; made anew in each process that measures.

    Attributes:
        data: Train and val.
        caches: Decoded images.
        device: `cpu` or `cuda`.
        shared: Whether other runs use the device at the same time.
    """

    data: TrialData
    caches: DataCaches
    device: str
    shared: bool

    @classmethod
    def opened(cls, root: Path, device: str, *, shared: bool) -> Bench:
        """With VOC below `root`; turns TF32 off, which only cuDNN has on for float32."""
        torch.set_num_threads(1)
        torch.backends.cudnn.allow_tf32 = False
        return cls(split(DATASETS.get("voc2012")(root=root)), DataCaches(), device, shared)

    @property
    def seconds(self) -> float:
        """By the clock that an epoch is timed with: of the processor, or on a GPU of the wall."""
        return time.process_time() if self.device == "cpu" else time.perf_counter()


def measure(job: Job, bench: Bench) -> dict[str, Any]:
    """Trains one run to the end: its val mIoU and the seconds of its epochs' training."""
    (cell, seed), data, caches = job, bench.data, bench.caches
    config = TrialConfig.from_flat(cell.config(seed))
    watched = TrialData(data.data, data.train, data.val[:WATCHED])
    execution = Execution(threads=1, device=bench.device)
    cache = caches.get(data.data, config.image_size, limit_bytes=execution.cache_bytes)
    cache.build(data.train, data.val)
    trial = Trial(config, watched, execution=execution, caches=caches)
    started = bench.seconds
    while not trial.done:
        trial.run_epoch()
    seconds = None if bench.shared else (bench.seconds - started) / config.epochs
    loader = evaluation_loader(
        cache,
        data.val,
        size=config.image_size,
        batch_size=config.batch_size,
        normalisation=trial.model.normalisation,
    )
    matrix = ConfusionMatrix(len(data.data.classes))
    evaluate(trial.updater.evaluated, loader, [matrix], device=trial.device, precision=trial.precision)
    found = {"miou": summary(matrix.value())[MIOU], "epoch_seconds": seconds, "on": machine(bench.device)}
    return {**_key(job, called(bench.device)), **found}


_BENCH: list[Bench] = []
"""Of a process that measures for another one."""


def _prepare(root: Path, device: str) -> None:
    _BENCH.append(Bench.opened(root, device, shared=True))


def _measure_here(job: Job) -> dict[str, Any]:
    return measure(job, _BENCH[0])


def measured(jobs: Sequence[Job], root: Path, device: str, parallel: int) -> Iterator[dict[str, Any]]:
    """Runs, as they are finished; some at once in processes of their own."""
    if parallel == 1:
        bench = Bench.opened(root, device, shared=False)
        yield from (measure(job, bench) for job in jobs)
        return
    fresh = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(parallel, fresh, initializer=_prepare, initargs=(root, device)) as pool:
        for done in as_completed([pool.submit(_measure_here, job) for job in jobs]):
            yield done.result()


def called(device: str) -> str:
    """What rows call a device: `cpu`, or the GPU by its name."""
    return torch.cuda.get_device_name() if device.startswith("cuda") else device


def _key(job: Job, device: str) -> dict[str, Any]:
    """What a run is; runs of another base point or length, or on another device, have another."""
    cell, seed = job
    of_cell = {"half": cell.half, "lever": cell.lever, "value": cell.value}
    return {**of_cell, "seed": seed, "config": cell.config(seed), "device": device}


def key(job: Job, device: str) -> str:
    """The same as text."""
    return json.dumps(_key(job, device))


def read(path: Path) -> dict[str, dict[str, Any]]:
    """The finished runs by their keys; a last line that was cut off is left out, one without a device is the CPU's."""
    found = {}
    for line in path.read_text(encoding="utf-8").splitlines() if path.is_file() else ():
        try:
            run = json.loads(line)
        except ValueError:
            continue
        run.setdefault("device", "cpu")
        found[json.dumps({name: run[name] for name in ("half", "lever", "value", "seed", "config", "device")})] = run
    return found


def split(data: SegmentationData) -> TrialData:
    """Train and val, stratified by class with seed 0."""
    ids = list(data.ids())
    scan(data, ids)
    train, val, _ = draw(data, ids, SHARES, seed=0)
    return TrialData(data, tuple(train), tuple(val))


def table(runs: Mapping[str, Mapping[str, Any]], device: str) -> str:
    """A row for every cell on a device; one that is not measured with every seed says so."""
    by_cell = {cell: _runs_of(cell, runs, device) for cell in CELLS}
    spreads = {half: _pooled(half, by_cell) for half in HALVES}
    rows = [_row(cell, found, by_cell[Cell(cell.half)], spreads[cell.half]) for cell, found in by_cell.items()]
    order = sorted(range(len(rows)), key=lambda place: (CELLS[place].lever, str(CELLS[place].half), place))
    headers = ["lever", "value", "backbone", "mIoU", "difference", "95% interval", "seconds"]
    return tabulate([rows[place] for place in order], headers=headers, disable_numparse=True)


def _runs_of(cell: Cell, runs: Mapping[str, Mapping[str, Any]], device: str) -> list[Mapping[str, Any]]:
    found = (runs.get(key((cell, seed), device)) for seed in SEEDS)
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
    times = [[run["epoch_seconds"] for run in some] for some in (found, base)]
    ratio = "" if None in times[0] + times[1] else f"x{sum(times[0]) / sum(times[1]):.2f}"
    if not cell.lever:
        return [*head, f"{miou:.3f}", "", "", ratio]
    differences = _differences(found, base)
    deviation, freedom = spread
    half_width = float(stats.t.ppf(0.975, freedom)) * deviation / math.sqrt(len(differences))
    mean = statistics.fmean(differences)
    interval = f"{mean - half_width:+.3f} .. {mean + half_width:+.3f}"
    return [*head, f"{miou:.3f}", f"{mean:+.3f}", interval, ratio]


def told(data: TrialData, runs: Mapping[str, Mapping[str, Any]]) -> str:
    """What was measured, and a table of each device."""
    base = ", ".join(f"{key}={value}" for key, value in BASE.items())
    lines = [
        f"{data.data.name}: {len(data.train)} train, {len(data.val)} val images; seeds {', '.join(map(str, SEEDS))}",
        f"base point: {base}",
        f"training.freeze of the halves: {', '.join(f'{half} {what}' for half, what in HALVES.items())}",
    ]
    for device in sorted({run["device"] for run in runs.values()}):
        lines += ["", *_of_device(runs, device)]
    return "\n".join(lines) + "\n"


def _of_device(runs: Mapping[str, Mapping[str, Any]], device: str) -> Iterator[str]:
    yield f"device: {device}"
    yield from sorted({run["on"] for run in runs.values() if run["device"] == device and "on" in run})
    for half in HALVES:
        found = [run["epoch_seconds"] for run in _runs_of(Cell(half), runs, device)]
        if found and None not in found:
            clock = "processor time" if device == "cpu" else "the clock"
            yield f"{half}: {statistics.fmean(found):.1f} s of {clock} per epoch at the base point"
    yield ""
    yield table(runs, device)


def main() -> None:
    """Measures what is missing and prints the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-root", type=Path, required=True, help="holds VOCdevkit")
    parser.add_argument("--runs", type=Path, default=Path("levers.jsonl"), help="one line per finished run")
    parser.add_argument("--out", type=Path, help="where the tables are written, beside the terminal")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--parallel", type=int, default=1, metavar="N", help="runs at once on the device")
    parser.add_argument("--only", action="append", metavar="LEVER=VALUE", help="measure these values; may be repeated")
    parser.add_argument("--table", action="store_true", help="measure nothing")
    asked = parser.parse_args()
    there = read(asked.runs)
    if not asked.table:
        name = called(asked.device)
        cells = [cell for cell in CELLS if not asked.only or f"{cell.lever}={cell.value}" in asked.only]
        if not cells:
            parser.error(f"--only {' '.join(asked.only)}: known are {', '.join(sorted(LEVERS))}")
        jobs = [(cell, seed) for cell in cells for seed in SEEDS if key((cell, seed), name) not in there]
        print(machine(asked.device), flush=True)
        for run in measured(jobs, asked.data_root, asked.device, asked.parallel):
            with asked.runs.open("a", encoding="utf-8") as file:
                file.write(json.dumps(run) + "\n")
            what = f"{run['half']} {run['lever'] or 'base point'} {run['value']} seed {run['seed']}"
            print(f"{what}: mIoU {run['miou']:.4f}", flush=True)
    text = told(split(DATASETS.get("voc2012")(root=asked.data_root)), read(asked.runs))
    print(text)
    if asked.out:
        asked.out.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
