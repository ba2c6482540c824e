"""What each way of bringing images to the model's input does to mIoU, at the same number of input pixels.

python benchmarks/resizing.py DATA_ROOT [--short] [--device cuda] [--parallel 8] [--minutes 4]
                              [--runs resizing.jsonl] [--out benchmarks/results/resizing.txt]

DATA_ROOT holds VOCdevkit, CamVid or both. LRASPP on EfficientNet-Lite0 with ImageNet weights, trained by the trial code
of a sweep with flips and one cycle, on a stratified split of VOC, and on blocks of video of CamVid. mIoU is that of the
last epoch on val, at the masks' own resolution, whatever the model saw. Inputs are square and, with about as many
pixels, of the aspect 3:4 that most of the images have.

The difference from `letterbox` at the same input is the mean over seeds of paired differences (the same seed, split and
order of images on both sides), with its 95% t interval: it says how far other seeds would move it, on these images and
this split. All ways train on as many samples: with `tile`, which draws several of an image in an epoch, for fewer
epochs. Pixels are those that the model sees of an image on average in an evaluation, as a multiple of the input. A way
that shows every image as `letterbox` does has no row: CamVid's images fill an input of 192x256 either way.

Each finished run is one line of `--runs`; started again, the command measures what is missing. Seeds come one after the
other, so that an interrupted measurement has all ways with the first of them. After `--minutes` no run is begun. What
was measured on different devices or splits is never compared: each device has tables of its own. On a GPU everything is
float32 without TF32. `--short` takes fewer and smaller images, 2 seeds and 2 epochs: it shows that the command works,
nothing else.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import multiprocessing
import statistics
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from paired import machine
from scipy import stats
from tabulate import tabulate

from trainables.config import TrialConfig, parse_size
from trainables.data import DATASETS
from trainables.data.cache.decoded import DataCaches
from trainables.data.cache.scan import image_sizes, scan
from trainables.data.resizing import Size, content_size
from trainables.data.splits.stratified import draw
from trainables.data.tiles import counted_tiles, window_count
from trainables.errors import DataError
from trainables.execution import Execution, TrialData
from trainables.loaders import evaluation_loader
from trainables.loops import evaluate
from trainables.metrics import ConfusionMatrix, summary
from trainables.options import RESIZES, TILE
from trainables.registry import Scalar
from trainables.trial import Trial

SHARES = (0.4, 0.3, 0.3)
"""Of VOC's images: to train on, to validate on, left alone."""
SHORT_IMAGES = 32
"""To train on and to validate on with `--short`."""
FOLDERS: Mapping[str, str] = {"voc2012": "", "camvid": "CamVid"}
"""Where each data set lies below DATA_ROOT."""
REFERENCE = "letterbox"
MIOU = "val/miou"
WATCHED = 8
"""Images that a trial validates on after each epoch; all of val count after the last."""

BASE: Mapping[str, Scalar] = {
    "model.name": "lraspp_efficientnet_lite0",
    "model.weights": "imagenet",
    "optimizer.name": "adamw",
    "optimizer.lr": 3e-3,
    "loss.name": "cross_entropy",
    "augment.policy": "flip",
    "training.backbone_lr": 0.1,
    "training.freeze": "batch_norm",
    "batch_size": 8,
}


@dataclass(frozen=True)
class Plan:
    """What is measured.

    Attributes:
        inputs: Sizes of the model's input, HEIGHTxWIDTH.
        epochs: Of each run.
        seeds: How many, from 0.
        images: Most images to train on and to validate on; 0 for all.
    """

    inputs: tuple[str, ...] = ("224x224", "192x256")
    epochs: int = 8
    seeds: int = 6
    images: int = 0


FULL = Plan()
SHORT = Plan(inputs=("96x96",), epochs=2, seeds=2, images=SHORT_IMAGES)


@dataclass(frozen=True)
class Job:
    """One run: a data set, a way at an input, and a seed."""

    data: str
    size: str
    way: str
    seed: int
    epochs: int

    @property
    def config(self) -> dict[str, Scalar]:
        """The flat configuration."""
        return {**BASE, "image_size": self.size, "resize": self.way, "epochs": self.epochs, "seed": self.seed}


def split(name: str, root: Path, images: int) -> TrialData:
    """Train and val of a data set with seed 0."""
    data = DATASETS.get(name)(root=root / FOLDERS[name])
    if name == "camvid":
        drawn = data.splits(seed=0)
        train, val = drawn.train, drawn.val
    else:
        ids = list(data.ids())
        scan(data, ids)
        train, val, _ = (tuple(part) for part in draw(data, ids, SHARES, seed=0))
    return TrialData(data, _some(train, images), _some(val, images))


def _some(ids: Sequence[str], most: int) -> tuple[str, ...]:
    return tuple(ids if not most or len(ids) <= most else [ids[place * len(ids) // most] for place in range(most)])


class Bench:
    """Where runs are measured; made anew in each process that measures."""

    def __init__(self, root: Path, device: str, images: int) -> None:
        torch.set_num_threads(1)
        torch.backends.cudnn.allow_tf32 = False
        self.root, self.device, self.images = root, device, images
        self._splits: dict[str, TrialData] = {}
        self._caches = {name: DataCaches() for name in FOLDERS}

    def split(self, name: str) -> TrialData:
        """Train and val of a data set.

        Raises:
            DataError: If it is not there.
        """
        if name not in self._splits:
            self._splits[name] = split(name, self.root, self.images)
        return self._splits[name]

    def drawn(self, name: str) -> str:
        """A hash of which images of a data set are trained on, and which are validated on."""
        data = self.split(name)
        return hashlib.sha256(json.dumps([data.train, data.val]).encode()).hexdigest()[:12]

    def has(self, name: str) -> bool:
        """Whether a data set is there."""
        try:
            return bool(self.split(name).train)
        except DataError:
            return False

    def measure(self, job: Job) -> dict[str, Any]:
        """Trains one run to the end: val mIoU, and the seconds of its epochs."""
        data = self.split(job.data)
        execution = Execution(threads=1, device=self.device)
        watched = TrialData(data.data, data.train, data.val[:WATCHED])
        trial = Trial(TrialConfig.from_flat(job.config), watched, execution=execution, caches=self._caches[job.data])
        started = time.perf_counter()
        while not trial.done:
            trial.run_epoch()
        seconds = time.perf_counter() - started
        loader = evaluation_loader(
            trial.samples.cache,
            data.val,
            size=trial.config.image_size,
            batch_size=trial.config.batch_size,
            normalisation=trial.model.normalisation,
        )
        matrix = ConfusionMatrix(len(data.data.classes))
        evaluate(trial.updater.evaluated, loader, [matrix], device=trial.device, precision=trial.precision)
        found = {"miou": summary(matrix.value())[MIOU], "seconds": seconds, "on": machine(self.device)}
        return {**key_of(job, called(self.device), self), **found}


_HERE: list[tuple[Bench, float]] = []
"""Of a process that measures for another one, and until when runs are begun there."""


def _prepare(root: Path, device: str, images: int, until: float) -> None:
    _HERE.append((Bench(root, device, images), until))


def _measure_here(job: Job) -> dict[str, Any] | None:
    bench, until = _HERE[0]
    return bench.measure(job) if time.time() < until else None


def measured(jobs: Sequence[Job], bench: Bench, *, parallel: int, until: float = math.inf) -> Iterator[dict[str, Any]]:
    """Runs, as they are finished; some at once in processes of their own. None is begun after `until` (epoch time)."""
    if parallel == 1:
        yield from (bench.measure(job) for job in jobs if time.time() < until)
        return
    fresh = multiprocessing.get_context("spawn")
    given = (bench.root, bench.device, bench.images, until)
    with ProcessPoolExecutor(parallel, fresh, initializer=_prepare, initargs=given) as pool:
        for done in as_completed([pool.submit(_measure_here, job) for job in jobs]):
            if (run := done.result()) is not None:
                yield run


def called(device: str) -> str:
    """What rows call a device: `cpu`, or the GPU by its name."""
    return torch.cuda.get_device_name() if device.startswith("cuda") else device


def key_of(job: Job, device: str, bench: Bench) -> dict[str, Any]:
    """What a run is; one of other options, on other images or another device has another."""
    of_job = {"data": job.data, "size": job.size, "way": job.way, "seed": job.seed, "split": bench.drawn(job.data)}
    return {**of_job, "config": job.config, "device": device}


def read(path: Path) -> dict[str, dict[str, Any]]:
    """The finished runs by their keys as text; a last line that was cut off is left out."""
    found: dict[str, dict[str, Any]] = {}
    for line in path.read_text(encoding="utf-8").splitlines() if path.is_file() else ():
        try:
            run = json.loads(line)
        except ValueError:
            continue
        names = ("data", "size", "way", "seed", "split", "config", "device")
        found[json.dumps({name: run.get(name) for name in names})] = run
    return found


def all_jobs(plan: Plan, data: Sequence[str], ways: Sequence[str]) -> list[Job]:
    """Every run, the first seed of all ways before the second."""
    return [
        Job(name, size, way, seed, plan.epochs)
        for seed in range(plan.seeds)
        for name in data
        for size in plan.inputs
        for way in ways
    ]


def seen(data: TrialData, job: Job) -> list[Size]:
    """How large the model sees each image of val."""
    return [content_size(size, parse_size(job.size), job.way) for size in image_sizes(data.data, data.val)]


def seen_pixels(data: TrialData, job: Job) -> float:
    """Pixels that the model sees of an image of val on average, over those of its input."""
    size = parse_size(job.size)
    if job.way == TILE:
        return statistics.fmean(window_count(one, size) for one in image_sizes(data.data, data.val))
    return statistics.fmean(map(math.prod, seen(data, job))) / math.prod(size)


def budgeted(data: TrialData, job: Job) -> Job:
    """A job that trains on as many samples as the others: with tiles an epoch has several of an image."""
    if job.way != TILE:
        return job
    sizes = image_sizes(data.data, data.train)
    tiles = counted_tiles(sizes, parse_size(job.size))
    return replace(job, epochs=max(1, round(job.epochs * len(sizes) / tiles)))


def differs(data: TrialData, job: Job) -> bool:
    """Whether a way is the reference or shows some image otherwise: those of one aspect fill such an input anyhow."""
    return job.way == REFERENCE or seen(data, job) != seen(data, replace(job, way=REFERENCE))


def table(jobs: Sequence[Job], runs: Mapping[str, Mapping[str, Any]], device: str, bench: Bench) -> str:
    """A row for every way at every input; one that is not measured with two seeds says so."""

    def scores(job: Job) -> dict[int, float]:
        found: dict[int, float] = {}
        for one in jobs:
            if (one.data, one.size, one.way) == (job.data, job.size, job.way):
                run = runs.get(json.dumps(key_of(one, device, bench)))
                found |= {} if run is None else {one.seed: float(run["miou"])}
        return found

    rows = []
    for job in (one for one in jobs if one.seed == 0):
        data = bench.split(job.data)
        own, reference = scores(job), scores(replace(job, way=REFERENCE))
        head = [job.data, job.size, job.way, f"{seen_pixels(data, job):.2f}", len(own)]
        mean = f"{statistics.fmean(own.values()):.3f}" if own else "not measured"
        differences = [own[seed] - reference[seed] for seed in sorted(own.keys() & reference.keys())]
        rows.append([*head, mean, *([""] * 2 if job.way == REFERENCE else difference(differences))])
    headers = ["data", "input", "way", "pixels", "seeds", "mIoU", f"less {REFERENCE}", "95% interval"]
    return tabulate(rows, headers=headers, tablefmt="github", disable_numparse=True)


def difference(values: Sequence[float]) -> tuple[str, str]:
    """The mean of paired differences and its t interval, as text."""
    if len(values) < 2:
        return "not measured", ""
    mean = statistics.fmean(values)
    reach = float(stats.t.ppf(0.975, len(values) - 1)) * statistics.stdev(values) / math.sqrt(len(values))
    return f"{mean:+.3f}", f"{mean - reach:+.3f} .. {mean + reach:+.3f}"


def told(jobs: Sequence[Job], runs: Mapping[str, Mapping[str, Any]], bench: Bench) -> Iterator[str]:
    """What was measured, and a table of each device."""
    yield ", ".join(f"{key}={value}" for key, value in BASE.items()) + f", epochs={jobs[0].epochs}"
    for name in dict.fromkeys(job.data for job in jobs):
        data = bench.split(name)
        yield f"{name}: {len(data.train)} images to train on, {len(data.val)} to validate on"
    for device in sorted({run["device"] for run in runs.values()}):
        yield ""
        yield from sorted({run["on"] for run in runs.values() if run["device"] == device})
        yield ""
        yield table(jobs, runs, device, bench)


def main() -> int:
    """Measures what is missing and prints the tables; exit code 2 where DATA_ROOT has none of the data sets."""
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("data_root", type=Path, help="folder that holds VOCdevkit, CamVid or both")
    p.add_argument("--short", action="store_true", help="few small images, 2 seeds, 2 epochs")
    p.add_argument("--seeds", type=int, help=f"of each way (default {FULL.seeds})")
    p.add_argument("--epochs", type=int, help=f"of each run (default {FULL.epochs})")
    p.add_argument("--data", choices=tuple(FOLDERS), action="append", help="only this one; may be repeated")
    p.add_argument("--way", choices=RESIZES, action="append", help=f"{REFERENCE} and this one only; may be repeated")
    p.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    p.add_argument("--parallel", type=int, default=1, metavar="N", help="runs at once on the device")
    p.add_argument("--minutes", type=float, default=math.inf, help="no run is begun after so many")
    p.add_argument("--runs", type=Path, default=Path("resizing.jsonl"), help="one line per finished run")
    p.add_argument("--out", type=Path, help="where the tables are written, beside the terminal")
    p.add_argument("--table", action="store_true", help="measure nothing")
    options = p.parse_args()
    until = time.time() + 60 * options.minutes
    plan = SHORT if options.short else FULL
    plan = Plan(plan.inputs, options.epochs or plan.epochs, options.seeds or plan.seeds, plan.images)
    bench = Bench(options.data_root, options.device, plan.images)
    data = [name for name in options.data or FOLDERS if bench.has(name)]
    if not data:
        p.error(f"{options.data_root} holds none of {', '.join(options.data or ('VOCdevkit', 'CamVid'))}")
    ways = [way for way in RESIZES if not options.way or way in (REFERENCE, *options.way)]
    jobs = [
        budgeted(bench.split(job.data), job)
        for job in all_jobs(plan, data, ways)
        if differs(bench.split(job.data), job)
    ]
    there = read(options.runs)
    if not options.table:
        device = called(options.device)
        missing = [job for job in jobs if json.dumps(key_of(job, device, bench)) not in there]
        print(machine(options.device), flush=True)
        for run in measured(missing, bench, parallel=options.parallel, until=until):
            with options.runs.open("a", encoding="utf-8") as file:
                file.write(json.dumps(run) + "\n")
            what = f"{run['data']} {run['size']} {run['way']} seed {run['seed']}"
            print(f"{what}: mIoU {run['miou']:.4f}, {run['seconds']:.0f} s", flush=True)
    text = "\n".join(told(jobs, read(options.runs), bench))
    print(text)
    if options.out:
        options.out.write_text(text + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
