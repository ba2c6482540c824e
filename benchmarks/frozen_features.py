"""What it gains to compute a frozen backbone's features once: trials per hour and mIoU beside fine-tuning.

python benchmarks/frozen_features.py DATA_ROOT [--short] [--trials 4] [--out benchmarks/results/frozen_features.txt]

LRASPP on EfficientNet-Lite0 with ImageNet weights, trained by the trial code of a sweep on a stratified split of VOC,
with flips, one cycle, a validation after every epoch. Three ways:

- fine-tuned: the backbone learns at a tenth of the head's rate, BatchNorm keeps its statistics;
- frozen, each time: only the head learns, and the backbone runs in every step;
- frozen, once: the same with the backbone's features kept, which trials with other rates then share.

The first two are one trial each, the third `--trials` of them with rates around the known-good one. Time is processor
time of this process with one thread, of whole trials (building them, reading images, training, validation), so that
what else keeps the machine busy counts little. Decoded images are in the cache before the first. Trials per hour are
3600 s over the time of a trial; for the third way also with the features' own computation, shared by the trials that
were run.

`--short` takes a fifth of the images, 160x160 and 4 epochs; without it it is the split, the size and the epochs of
docs/MODELS.md.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from paired import machine
from tabulate import tabulate

from trainables.config import TrialConfig
from trainables.data import DATASETS
from trainables.data.cache.scan import scan
from trainables.data.splits.stratified import draw
from trainables.execution import TrialData
from trainables.feature_sets import MOST_VIEWS
from trainables.trial import Trial

SHARES = (0.6, 0.2, 0.2)
"""Of the images: to train on, to validate on, left alone."""
SHORT_SHARES = (0.12, 0.12, 0.76)
RATES = (3e-3, 1.5e-3, 6e-3, 2e-3, 4e-3, 1e-3, 8e-3, 5e-3)
"""Of the trials that share features; the first is the known-good one."""
BASE: Mapping[str, Any] = {
    "model.name": "lraspp_efficientnet_lite0",
    "model.weights": "imagenet",
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


def run(data: TrialData, config: Mapping[str, Any], *, views: int = MOST_VIEWS) -> Run:
    """Trains one trial; features are kept where its policy makes at most so many views of an image."""
    began = time.process_time()
    with mock.patch("trainables.feature_sets.MOST_VIEWS", views):
        trial = Trial(TrialConfig.from_flat({**BASE, **config}), data)
    while not trial.done:
        trial.run_epoch()
    miou = float(trial.history[-1]["metrics"]["val/miou"])
    return Run(time.process_time() - began, miou, bool(trial.applied["features_once"]))


def split(root: Path, shares: tuple[float, float, float]) -> TrialData:
    """Train and val, stratified by class with seed 0."""
    data = DATASETS.get("voc2012")(root=root)
    ids = list(data.ids())
    scan(data, ids)
    train, val, _ = draw(data, ids, shares, seed=0)
    return TrialData(data, tuple(train), tuple(val))


def report(fine: Run, again: Run, shared: list[Run]) -> Iterator[str]:
    """The lines of the report; of the trials that share features the first is alone in computing them."""
    first, *later = shared
    each = statistics.mean(one.seconds for one in later)
    features = first.seconds - each
    rows = [
        ["fine-tuned", fine.seconds, 3600 / fine.seconds, 1.0, fine.miou],
        ["frozen, each time", again.seconds, 3600 / again.seconds, fine.seconds / again.seconds, again.miou],
        ["frozen, once: a further trial", each, 3600 / each, fine.seconds / each, max(one.miou for one in shared)],
    ]
    total = sum(one.seconds for one in shared)
    mean = total / len(shared)
    rows.append([f"frozen, once: {len(shared)} trials with the features", mean, 3600 / mean, fine.seconds / mean, None])
    yield tabulate(
        rows,
        headers=["", "seconds a trial", "trials an hour", "times fine-tuned", "val mIoU (best of the row)"],
        floatfmt=("", ".1f", ".0f", ".1f", ".3f"),
        tablefmt="github",
        missingval="",
    )
    yield f"\nThe features took {features:.1f} s, once: the first trial ({first.seconds:.1f} s) less a further one."
    yield f"mIoU at the known-good rate: {shared[0].miou:.4f} with features kept, {again.miou:.4f} without."
    yield "mIoU by rate: " + ", ".join(f"{rate:g} {one.miou:.3f}" for rate, one in zip(RATES, shared, strict=False))


def main() -> int:
    """Command line; returns the exit code: 1 if features were not kept where they should be."""
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("data_root", type=Path, help="folder that holds VOCdevkit")
    p.add_argument("--short", action="store_true", help="fewer and smaller images, fewer epochs")
    p.add_argument("--trials", type=int, default=4, choices=range(2, len(RATES) + 1), help="that share features")
    p.add_argument("--out", type=Path, help="where to keep what is printed")
    options = p.parse_args()
    torch.set_num_threads(1)
    folder = Path(tempfile.mkdtemp(prefix="frozen-features-"))
    os.environ["SEGSWEEP_CACHE"] = str(folder)
    try:
        data = split(options.data_root, SHORT_SHARES if options.short else SHARES)
        sized = {"image_size": "160x160", "epochs": 4} if options.short else {"image_size": "224x224", "epochs": 8}
        known = {**sized, "optimizer.lr": RATES[0]}
        run(data, {**known, "epochs": 1, "training.freeze": "batch_norm"})  # reads and decodes the images
        fine = run(data, {**known, "training.freeze": "batch_norm", "training.backbone_lr": 0.1})
        frozen = {**known, "training.freeze": "backbone"}
        shared = [run(data, {**frozen, "optimizer.lr": rate}) for rate in RATES[: options.trials]]
        kept = sum(path.stat().st_size for path in (folder / "features").rglob("*") if path.is_file())
        again = run(data, frozen, views=0)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    of_images = f"{len(data.train)} images to train on, {len(data.val)} to validate on, {sized['image_size']}"
    title = f"{of_images}, {sized['epochs']} epochs; features of all views {kept / 2**20:.0f} MiB"
    text = "\n".join([machine(), "", title, "", *report(fine, again, shared)])
    print(text)
    if options.out:
        options.out.write_text(text + "\n", encoding="utf-8")
    return 0 if all(one.kept for one in shared) and not again.kept and not fine.kept else 1


if __name__ == "__main__":
    raise SystemExit(main())
