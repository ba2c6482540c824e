"""Whether tiles drawn around classes help rare ones, against tiles drawn uniformly: `training.class_tiles`.

python benchmarks/class_tiles.py [--camvid FOLDER] [--share 0.5] [--seeds 3] [--epochs 6] [--tiles-only] [--out FILE]

Two data sets: a made one, whose images of 384x512 show three grounds and, on 0.15% of their pixels, small discs that
are told from the ground by their colour alone; and CamVid's frames where `--camvid` names them (80 to train on, 40 to
validate on, blocks of video apart). LRASPP on EfficientNet-Lite0 with ImageNet weights is trained on tiles of 128x128
by the trial code of a sweep, for each seed with uniform tiles and with the given share of tiles around classes, on as
many tiles. Rare are the classes with less than 2% of the labelled pixels of train. Scores are those of the last epoch
on val, in windows, at the masks' own size. Differences are paired over seeds, with their 95% t intervals.
`--tiles-only` trains nothing: it counts in an epoch's tiles which classes they show.
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import PIL.Image
import torch
from paired import machine
from resizing import difference
from tabulate import tabulate

from trainables.augmentations import Policy, PolicySpec
from trainables.config import TrialConfig, format_size
from trainables.data import DATASETS
from trainables.data.cache.decoded import DecodedCache, class_pixels
from trainables.data.cache.scan import image_sizes, scan
from trainables.data.tiles import tiles_per_epoch
from trainables.execution import Execution, TrialData
from trainables.loaders import TrainingSet
from trainables.options import TILE
from trainables.trial import Trial

RARE = 0.02
"""Share of train's labelled pixels below which a class is rare."""
MADE_IMAGES = 24
TILE_SIZE = (128, 128)
CAMVID_IMAGES = (80, 40)
"""To train on, and to validate on."""


@dataclass(frozen=True)
class Found:
    """What one run gave.

    Attributes:
        rare: Mean IoU of the rare classes.
        miou: Of all.
    """

    rare: float
    miou: float


def write(root: Path) -> None:
    """Images of three grounds with small discs of a fourth class."""
    rng = np.random.default_rng(0)
    for name in ("images", "masks"):
        (root / name).mkdir(parents=True)
    for number in range(MADE_IMAGES):
        coarse = rng.normal(size=(6, 8)).astype(np.float32)
        mask = np.digitize(cv2.resize(coarse, (512, 384), interpolation=cv2.INTER_CUBIC), (-0.4, 0.4)).astype(np.uint8)
        for _ in range(2):
            place = int(rng.integers(10, 502)), int(rng.integers(10, 374))
            cv2.circle(mask, place, int(rng.integers(6, 9)), 3, thickness=-1)
        colors = np.array([(90, 120, 80), (120, 110, 90), (100, 100, 120), (140, 95, 85)], np.float64)
        image = colors[mask] * rng.uniform(0.8, 1.2) + rng.normal(0, 14, (*mask.shape, 3))
        PIL.Image.fromarray(image.clip(0, 255).astype(np.uint8)).save(root / "images" / f"{number:02d}.png")
        PIL.Image.fromarray(mask).save(root / "masks" / f"{number:02d}.png")
    (root / "classes.json").write_text(json.dumps(["low", "middle", "high", "disc"]))


def made(root: Path) -> TrialData:
    """The made data set, two thirds of it to train on."""
    write(root)
    data = DATASETS.get("folder")(root=root)
    ids = tuple(data.ids())
    return TrialData(data, ids[: 2 * len(ids) // 3], ids[2 * len(ids) // 3 :])


def camvid(root: Path) -> TrialData:
    """Frames of CamVid, evenly spread over the blocks of train and of val."""
    data = DATASETS.get("camvid")(root=root)
    splits = data.splits(seed=0)
    train, val = (
        tuple(ids[place * len(ids) // min(most, len(ids))] for place in range(min(most, len(ids))))
        for ids, most in zip((splits.train, splits.val), CAMVID_IMAGES, strict=True)
    )
    return TrialData(data, train, val)


def shown(data: TrialData, share: float) -> npt.NDArray[np.float64]:
    """Share of the first epoch's tiles that show each class, shape (C,), with seed 0."""
    tiles = [tiles_per_epoch(size, TILE_SIZE) for size in image_sizes(data.data, data.train)]
    cache = DecodedCache(data.data, TILE_SIZE, limit_bytes=10**10, resize=TILE)
    cache.build(data.train)
    policy = Policy(PolicySpec.from_flat({"policy": "flip"}), TILE_SIZE, resize=TILE)
    samples = TrainingSet(cache, data.train, policy, seed=0, tiles=tiles, class_tiles=share)
    seen = np.zeros(len(data.data.classes))
    for index in range(len(samples)):
        mask = samples[(1, index)].mask
        seen += [bool((mask == place).any()) for place in range(len(seen))]
    return seen / len(samples)


def measure(data: TrialData, rare: Sequence[int], *, share: float, seed: int, epochs: int) -> Found:
    """Trains a model with some share of tiles around classes."""
    config = {
        "model.name": "lraspp_efficientnet_lite0",
        "model.weights": "imagenet",
        "optimizer.lr": 3e-3,
        "augment.policy": "flip",
        "training.backbone_lr": 0.1,
        "training.freeze": "batch_norm",
        "training.class_tiles": share,
        "resize": TILE,
        "image_size": format_size(TILE_SIZE),
        "batch_size": 8,
        "epochs": epochs,
        "seed": seed,
    }
    classes = [info.name for info in data.data.classes]
    reported = ("val/miou", *(f"val/iou[{classes[place]}]" for place in rare))
    trial = Trial(TrialConfig.from_flat(config), TrialData(data.data, data.train, data.val, reported=reported),
                  execution=Execution(threads=1))  # fmt: skip
    while not trial.done:
        last = trial.run_epoch()
    metrics = last["metrics"]
    return Found(statistics.fmean(metrics[name] for name in reported[1:]), metrics["val/miou"])


def rows(name: str, data: TrialData, options: argparse.Namespace) -> list[list[Any]]:
    """Two rows of the table: uniform tiles, and tiles around classes."""
    scan(data.data, [*data.train, *data.val])
    pixels = class_pixels(data.data, data.train)
    rare = [place for place, count in enumerate(pixels) if 0 < count < RARE * pixels.sum()]
    runs: dict[float, list[Found]] = {0.0: [], options.share: []}
    for seed in () if options.tiles_only else range(options.seeds):
        for share, found in runs.items():
            found.append(measure(data, rare, share=share, seed=seed, epochs=options.epochs))
            print(f"{name} {share:g} seed {seed}: rare {found[-1].rare:.4f}, mIoU {found[-1].miou:.4f}", flush=True)
    table = []
    for share, found in runs.items():
        seen = shown(data, share)
        scores: list[str] = []
        for key in ("rare", "miou") if found else ():
            own, uniform = ([getattr(one, key) for one in of] for of in (found, runs[0.0]))
            less = difference([a - b for a, b in zip(own, uniform, strict=True)]) if share else ("",)
            scores += [f"{statistics.fmean(own):.3f}", " ".join(less)]
        of_rare = ", ".join(f"{data.data.classes[place].name} {seen[place]:.0%}" for place in rare)
        table.append([name, f"{share:g}", of_rare, *scores])
    return table


def main() -> None:
    """Prints the table."""
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--camvid", type=Path, help="the folder of CamVid; left out without it")
    p.add_argument("--share", type=float, default=0.5, help="of tiles around classes (default: 0.5)")
    p.add_argument("--seeds", type=int, default=3, help="default: 3")
    p.add_argument("--epochs", type=int, default=6, help="default: 6")
    p.add_argument("--tiles-only", action="store_true", help="train nothing")
    p.add_argument("--out", type=Path, help="where the table is written, beside the terminal")
    options = p.parse_args()
    torch.set_num_threads(1)
    with TemporaryDirectory(prefix="class-tiles-") as folder:
        table = rows("made", made(Path(folder, "made")), options)
        if options.camvid is not None:
            table += rows("camvid", camvid(options.camvid), options)
    headers = ["data", "class_tiles", "tiles that show", "IoU of rare", "difference", "mIoU", "difference"]
    text = "\n".join(
        [
            machine(),
            "tiles alone"
            if options.tiles_only
            else f"{options.seeds} seeds, {options.epochs} epochs; differences from uniform tiles with 95% intervals",
            "",
            tabulate(table, headers=headers, tablefmt="github", disable_numparse=True),
        ]
    )
    print(text)
    if options.out:
        options.out.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
