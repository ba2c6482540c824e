"""What large images cost in memory when models are trained on tiles of them and evaluated in windows.

python benchmarks/tiles.py [--sides 1000,2000,4000] [--tile 512] [--images 4] [--classes 3]

Square images of coloured blocks and growing sides are written as PNG into a temporary folder. For each side, one
process decodes them into the cache, draws the tiles of an epoch, and evaluates all of them in windows with a model of
one layer, as a trial's validation does (which keeps no scores) and as a report does (which reads scores). Memory is the
most that the process held beyond what it held before, in MiB, without pages of mapped files, which the system takes
back when it needs them.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import threading
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import PIL.Image
import torch
from paired import machine
from tabulate import tabulate
from torch import Tensor, nn

from trainables.augmentations import Policy, PolicySpec
from trainables.data import DATASETS
from trainables.data.cache.decoded import DecodedCache
from trainables.data.cache.scan import image_sizes, scan
from trainables.data.tiles import tiles_per_epoch, window_count
from trainables.loaders import IMAGENET_NORMALISATION, TrainingSet, evaluation_loader
from trainables.loops import evaluate
from trainables.metrics import ConfusionMatrix, PerImageConfusion, RegionConfidence
from trainables.options import TILE

BATCH = 8


class OneLayer(nn.Module):
    """Logits at an eighth of the resolution, as those of most heads."""

    normalisation = IMAGENET_NORMALISATION

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.layer = nn.Conv2d(3, classes, 8, stride=8)

    def forward(self, images: Tensor, *, resize: bool = True) -> dict[str, Tensor]:
        """Logits (N, C, H / 8, W / 8)."""
        return {"out": self.layer(images)}


def write(root: Path, side: int, count: int, classes: int) -> None:
    """Images and masks of blocks."""
    rng = np.random.default_rng(0)
    for name in ("images", "masks"):
        (root / name).mkdir(parents=True)
    for number in range(count):
        blocks = rng.integers(0, 256, (side // 8, side // 8, 3), dtype=np.uint8)
        PIL.Image.fromarray(blocks.repeat(8, 0).repeat(8, 1)).save(root / "images" / f"{number}.png", compress_level=1)
        mask = rng.integers(0, classes, (side // 40, side // 40), dtype=np.uint8).repeat(40, 0).repeat(40, 1)
        PIL.Image.fromarray(mask).save(root / "masks" / f"{number}.png")
    named = [{"id": place, "name": f"class {place}", "color": [place, 9 * place, 99]} for place in range(classes)]
    (root / "classes.json").write_text(json.dumps({"classes": named, "void": 255}))


def held() -> int:
    """Bytes of this process that are not of mapped files."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith("RssAnon"))


def peak(work: Callable[[], object]) -> int:
    """The most bytes that some work holds beyond those held before, looked at every 2 ms."""
    before, most, over = held(), [0], threading.Event()

    def watch() -> None:
        while not over.wait(0.002):
            most[0] = max(most[0], held() - before)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        work()
    finally:
        over.set()
        watcher.join()
    return most[0]


def measure(root: Path, side: int, tile: int) -> list[Any]:
    """A row of the table."""
    torch.set_num_threads(1)
    data = DATASETS.get("folder")(root=root / str(side))
    ids, size, classes = list(data.ids()), (tile, tile), len(data.classes)
    scan(data, ids)
    cache = DecodedCache(data, size, limit_bytes=10**11, resize=TILE, folder=root / f"cache {side}")
    built = peak(lambda: cache.build(ids, ids))
    sizes = image_sizes(data, ids)
    tiles = [tiles_per_epoch(one, size) for one in sizes]
    policy = Policy(PolicySpec.from_flat({"policy": "geometric"}), size, resize=TILE)
    samples = TrainingSet(cache, ids, policy, seed=0, tiles=tiles)
    drawn = peak(lambda: [samples[(1, index)].image.sum() for index in range(len(samples))])
    model = OneLayer(classes)

    def validate(*collectors: Any) -> None:
        evaluate(model, evaluation_loader(cache, ids, size=size, batch_size=BATCH), collectors)

    val = peak(lambda: validate(ConfusionMatrix(classes)))
    report = peak(lambda: validate(PerImageConfusion(classes), RegionConfidence(classes)))
    windows = sum(window_count(one, size) for one in sizes)
    kept = [f"{found / 2**20:.0f}" for found in (built, drawn, val, report)]
    return [f"{side}x{side}", f"{4 * side * side / 2**20:.0f}", len(samples), windows, *kept]


def main() -> None:
    """Prints the table."""
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--sides", default="1000,2000,4000", help="of the images, in pixels (default: 1000,2000,4000)")
    p.add_argument("--tile", type=int, default=512, help="side of a tile and of a window (default: 512)")
    p.add_argument("--images", type=int, default=4, help="of each side (default: 4)")
    p.add_argument("--classes", type=int, default=3, help="default: 3")
    options = p.parse_args()
    sides = [int(side) for side in options.sides.split(",")]
    fresh = multiprocessing.get_context("spawn")
    with TemporaryDirectory(prefix="tiles-") as folder:
        rows = []
        for side in sides:
            write(Path(folder, str(side)), side, options.images, options.classes)
            with fresh.Pool(1) as pool:
                rows.append(pool.apply(measure, (Path(folder), side, options.tile)))
    print(f"{machine()}\n{options.images} images of each size, tiles of {options.tile}, {options.classes} classes\n")
    headers = ["images", "MiB each", "tiles", "windows", "decode", "draw", "validate", "report"]
    print(tabulate(rows, headers=headers, tablefmt="github", disable_numparse=True))


if __name__ == "__main__":
    main()
