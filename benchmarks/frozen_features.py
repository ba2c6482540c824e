"""What it gains to compute a frozen backbone's features once: trials per hour and mIoU beside fine-tuning.

python benchmarks/frozen_features.py DATA_ROOT [--short] [--trials 4] [--all-ways] [--no-sweeps] [--out FILE]

LRASPP on EfficientNet-Lite0 with ImageNet weights, trained by the trial code of a sweep on a stratified split of VOC,
with flips, one cycle, a validation after every epoch. Ways to train:

- fine-tuned: the backbone learns at a tenth of the head's rate, BatchNorm keeps its statistics; the known-good point;
- frozen, each time: only the head learns, and the backbone runs in every step;
- frozen, once: the same with the backbone's features kept, which trials with other rates then share.

The space `frozen` takes the loss at every third row and column of the mask (`training.loss_stride: 3`), others at all.
The ratio of a further trial of `frozen` to the known-good point of fine-tuning is what a search gains. `--all-ways`
measures fine-tuning with that stride and frozen trials without it, too: what kept features gain by themselves.

Of the third way `--trials` are trained with rates around the known-good one, of the others one each. Time is processor
time of this process with one thread, of whole trials (building them, reading images, training, validation), so that
what else keeps the machine busy counts little. Trials follow each other as in an actor of a sweep. Decoded images are
in the cache before the first. Trials per hour are 3600 s over the time of a trial; for the third way also with the
features' own computation, shared by the trials that were run.

Then two sweeps over the same split (`python -m sweep.run`, one trial at a time, no confirmation): the space `baseline`
with two seeds, which is fine-tuned, and `--sweep-trials` of the space `frozen`. Their trials per hour are those of the
journal, by the wall's clock, from the first suggestion to the last result: the start of the worker, building,
checkpoints, results and decisions included.

`--short` takes a fifth of the images, 160x160 and 4 epochs; without it it is the split, the size and the epochs of
docs/MODELS.md.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from paired import machine
from tabulate import tabulate

from sweep.journal import JOURNAL_FILE, read_events
from trainables.config import TrialConfig
from trainables.data import DATASETS
from trainables.data.cache.decoded import DataCaches
from trainables.data.cache.scan import scan
from trainables.data.splits.stratified import draw
from trainables.execution import TrialData
from trainables.feature_sets import MOST_VIEWS
from trainables.trial import Trial

SHARES = (0.6, 0.2, 0.2)
"""Of the images: to train on, to validate on, left alone."""
SHORT_SHARES = (0.12, 0.12, 0.76)
FINE_TUNED_RATE = 3e-3
RATES = (5e-3, 2.5e-3, 1e-2, 3.5e-3, 7e-3, 1.5e-3, 1.4e-2, 2e-3)
"""Of the trials that share features; the first is the known-good one of the space `frozen`."""
MODEL: Mapping[str, Any] = {"model.name": "lraspp_efficientnet_lite0", "model.weights": "imagenet"}
BASE: Mapping[str, Any] = {
    **MODEL,
    "optimizer.name": "adamw",
    "augment.policy": "flip",
    "resize": "stretch",
    "batch_size": 8,
}


@dataclass(frozen=True)
class Run:
    """A trial that ended.

    Attributes:
        seconds: Of processor time.
        miou: On val after the last epoch.
        kept: Whether its features were computed once.
    """

    seconds: float
    miou: float
    kept: bool


def run(data: TrialData, caches: DataCaches, config: Mapping[str, Any], *, views: int = MOST_VIEWS) -> Run:
    """Trains one trial; features are kept where its policy makes at most so many views of an image."""
    began = time.process_time()
    with mock.patch("trainables.feature_sets.MOST_VIEWS", views):
        trial = Trial(TrialConfig.from_flat({**BASE, **config}), data, caches=caches)
    while not trial.done:
        trial.run_epoch()
    miou = float(trial.history[-1]["metrics"]["val/miou"])
    return Run(time.process_time() - began, miou, bool(trial.applied["features_once"]))


def split(root: Path, shares: tuple[float, float, float]) -> tuple[TrialData, list[str]]:
    """Train and val, stratified by class with seed 0, and the images that are left alone."""
    data = DATASETS.get("voc2012")(root=root)
    ids = list(data.ids())
    scan(data, ids)
    train, val, rest = draw(data, ids, shares, seed=0)
    return TrialData(data, tuple(train), tuple(val)), list(rest)


@dataclass(frozen=True)
class Trials:
    """What was trained in this process: at the loss stride of the space `frozen` and, `_all`, at every pixel."""

    shared: Sequence[Run]
    again: Run
    fine_all: Run
    shared_all: Run | None = None
    fine: Run | None = None

    @property
    def as_asked(self) -> bool:
        """Whether features were kept where they should be, and only there."""
        kept = all(one.kept for one in (*self.shared, self.shared_all) if one)
        return kept and not any(one.kept for one in (self.fine_all, self.fine, self.again) if one)


def trained(data: TrialData, sized: Mapping[str, Any], trials: int, *, all_ways: bool) -> Trials:
    """Every way once, frozen on kept features several times."""
    caches = DataCaches()
    known = {**sized, "optimizer.lr": FINE_TUNED_RATE, "training.freeze": "batch_norm", "training.backbone_lr": 0.1}
    run(data, caches, {**known, "epochs": 1})  # reads and decodes the images
    frozen = {**sized, "optimizer.lr": RATES[0], "training.freeze": "backbone", "training.loss_stride": 3}
    return Trials(
        shared=[run(data, caches, {**frozen, "optimizer.lr": rate}) for rate in RATES[:trials]],
        shared_all=run(data, caches, {**frozen, "training.loss_stride": 1}) if all_ways else None,
        again=run(data, caches, frozen, views=0),
        fine=run(data, caches, {**known, "training.loss_stride": 3}) if all_ways else None,
        fine_all=run(data, caches, known),
    )


def report(found: Trials) -> Iterator[str]:
    """The lines of the report; of the trials that share features the first is alone in computing them."""
    first, *later = found.shared
    each = statistics.mean(one.seconds for one in later)
    mean = statistics.mean(one.seconds for one in found.shared)
    rows: list[list[Any]] = [["fine-tuned", "all", found.fine_all.seconds, found.fine_all.miou]]
    if found.fine is not None:
        rows.append(["fine-tuned", "every third", found.fine.seconds, found.fine.miou])
    rows.append(["frozen, each time", "every third", found.again.seconds, found.again.miou])
    if found.shared_all is not None:
        rows.append(["frozen, once: a further trial", "all", found.shared_all.seconds, found.shared_all.miou])
    rows.append(["frozen, once: a further trial", "every third", each, max(one.miou for one in found.shared)])
    rows.append([f"frozen, once: {len(found.shared)} trials with the features", "every third", mean, None])
    yield tabulate(
        [[*row[:3], 3600 / row[2], found.fine_all.seconds / row[2], row[3]] for row in rows],
        headers=[
            *("", "loss at rows and columns", "seconds a trial", "trials an hour", "times fine-tuned"),
            "val mIoU (best of the row)",
        ],
        floatfmt=("", "", ".1f", ".0f", ".1f", ".3f"),
        tablefmt="github",
        missingval="",
    )
    features = first.seconds - each
    yield f"\nThe features took {features:.1f} s, once: the first trial ({first.seconds:.1f} s) less a further one."
    yield f"mIoU at the known-good rate: {first.miou:.4f} with features kept, {found.again.miou:.4f} without."
    rates = zip(RATES, found.shared, strict=False)
    yield "mIoU by rate: " + ", ".join(f"{rate:g} {one.miou:.3f}" for rate, one in rates)


@dataclass(frozen=True)
class Swept:
    """The search of a sweep, as its journal tells it.

    Attributes:
        space: Its name.
        ends: Seconds from the first suggestion to the end of each trial, rising.
        miou: On val, of each trial's last epoch.
    """

    space: str
    ends: Sequence[float]
    miou: Sequence[float]

    @property
    def further(self) -> float:
        """Seconds of a trial that is not the first."""
        return (self.ends[-1] - self.ends[0]) / (len(self.ends) - 1)


def swept(root: Path, splits: Path, runs: Path, sized: Mapping[str, Any], space: str, *count: str) -> Swept:
    """Runs a sweep in a process of its own.

    Raises:
        subprocess.CalledProcessError: If it fails; what it printed is shown.
    """
    held = {"image_size": sized["image_size"], "resize": BASE["resize"]}
    command = [sys.executable, "-m", "sweep.run", "--space", space, *count, "--max-epochs", str(sized["epochs"])]
    command += ["--data", "voc2012", "--data-root", str(root), "--splits", str(splits)]
    command += ["--models", MODEL["model.name"], "--weights", MODEL["model.weights"], "--scheduler", "none"]
    command += [flag for key, value in held.items() for flag in ("--set", f"{key}={value}")]
    command += ["--concurrent", "1", "--cpus-per-trial", "1", "--confirm", "0", "--no-refit", "--no-report"]
    command += ["--no-dashboard", "--wandb", "disabled", "--runs-dir", str(runs), "--name", space]
    subprocess.run(command, check=True, stdout=sys.stderr)
    events = read_events(runs / space / JOURNAL_FILE)
    results = [event for event in events if event["event"] == "result" and event["epoch"] == sized["epochs"]]
    start = min(_when(event) for event in events if event["event"] == "suggested")
    return Swept(
        space,
        [_when(event) - start for event in results],
        [float(event["metrics"]["val/miou"]) for event in results],
    )


def _when(event: Mapping[str, Any]) -> float:
    return datetime.fromisoformat(event["time"]).timestamp()


def report_of_sweeps(fine: Swept, frozen: Swept) -> Iterator[str]:
    """The lines on both sweeps."""
    rows = []
    for name, one in (("`baseline`, fine-tuned", fine), ("`frozen`", frozen)):
        whole = one.ends[-1] / len(one.ends)
        row = [name, len(one.ends), whole, 3600 / whole, fine.ends[-1] / len(fine.ends) / whole]
        rows.append([*row, one.further, fine.further / one.further, max(one.miou)])
    yield tabulate(
        rows,
        headers=[
            *("sweep", "trials", "seconds a trial, the first with its start", "trials an hour", "times fine-tuned"),
            *("seconds of a further trial", "times fine-tuned", "best val mIoU"),
        ],
        floatfmt=("", "", ".1f", ".0f", ".1f", ".1f", ".1f", ".3f"),
        tablefmt="github",
    )


def main() -> int:
    """Command line; returns the exit code: 1 if features were not kept where they should be."""
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("data_root", type=Path, help="folder that holds VOCdevkit")
    p.add_argument("--short", action="store_true", help="fewer and smaller images, fewer epochs")
    p.add_argument("--trials", type=int, default=4, choices=range(2, len(RATES) + 1), help="that share features")
    p.add_argument("--sweep-trials", type=int, default=8, help="of the sweep over frozen, two or more")
    p.add_argument("--all-ways", action="store_true", help="also fine-tuned and frozen with each other's loss stride")
    p.add_argument("--no-sweeps", action="store_true", help="leave the sweeps out")
    p.add_argument("--out", type=Path, help="where to keep what is printed")
    options = p.parse_args()
    torch.set_num_threads(1)
    folder = Path(tempfile.mkdtemp(prefix="frozen-features-"))
    os.environ["SEGSWEEP_CACHE"] = str(folder)
    lines = []
    try:
        data, rest = split(options.data_root, SHORT_SHARES if options.short else SHARES)
        sized = {"image_size": "160x160", "epochs": 4} if options.short else {"image_size": "224x224", "epochs": 8}
        found = trained(data, sized, options.trials, all_ways=options.all_ways)
        kept = sum(path.stat().st_size for path in (folder / "features").rglob("*") if path.is_file())
        lines += report(found)
        if not options.no_sweeps:
            for name, ids in (("train", data.train), ("val", data.val), ("test", rest)):
                (folder / f"{name}.txt").write_text("\n".join(ids) + "\n", encoding="utf-8")
            where = (options.data_root, folder, folder / "runs", sized)
            fine = swept(*where, "baseline", "--seeds", "2")
            frozen = swept(*where, "frozen", "--trials", str(options.sweep_trials))
            lines += ["", *report_of_sweeps(fine, frozen)]
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    of_images = f"{len(data.train)} images to train on, {len(data.val)} to validate on, {sized['image_size']}"
    title = f"{of_images}, {sized['epochs']} epochs; features of all views {kept / 2**20:.0f} MiB"
    text = "\n".join([machine(), "", title, "", *lines])
    print(text)
    if options.out:
        options.out.write_text(text + "\n", encoding="utf-8")
    return 0 if found.as_asked else 1


if __name__ == "__main__":
    raise SystemExit(main())
