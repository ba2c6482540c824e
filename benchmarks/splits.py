"""How evenly drawn splits share out the pixels of classes, and whether that shifts the score of a fixed model.

    python -m benchmarks.splits DATA_ROOT [--seeds 200] [--out FILE]

Compared are a random draw, iterative stratification on which classes an image shows (`stratified_split`: the rule
before) and the rule of new splits (`balanced_split`), each 60/20/20. On VOC 2012, on CamVid (blocks of video stay
together) and on populations of images whose classes have a long tail: class 1 is in 90% of 300 images, class 15 in
1.5%, their pixels are log-normal; eight populations have images on their own, eight groups of one to ten images. A row
is the mean over seeds (and populations):

- deviation: of a part's share of a class's pixels from the share asked for, relative to it; the mean over parts and
  classes, and the largest; the same mean for the images that show a class, and for the size of parts;
- missing: parts that lack a class which is in at least three images (groups), per draw;
- largest in test: how often the unit with most pixels of a class is in test, which has 20% of images; apart where it
  holds less than a tenth of the class's pixels, and where it holds more;
- mIoU of a fixed model, less its mIoU on all images, with standard errors. Pooled: of the confusion of test summed
  over draws, which a rule shifts only if it prefers easy or hard images for test. Test: the mean over draws, which
  differs from zero with a random draw, too, as IoU is a ratio; and its SD over draws. The model is made up: of each
  class in each image it finds a share that grows with its size there, the rest goes to another class of the image.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from tabulate import tabulate

from trainables.data import DATASETS
from trainables.data.cache.scan import pixels_by_image
from trainables.data.splits.stratified import FRACTIONS, balanced_split, stratified_split

Pixels = npt.NDArray[np.int64]
Parts = list[npt.NDArray[np.intp]]
Draw = Callable[[Pixels, Sequence[int], int], Parts]
SHARES = np.array(FRACTIONS)
POPULATIONS = 8
BLOCKS = 10
"""Of draws whose confusion is summed."""


def at_random(pixels: Pixels, groups: Sequence[int], seed: int) -> Parts:
    """Whole groups in random order, until a part has its share of the images."""
    of_image = np.asarray(groups)
    names = np.random.default_rng(seed).permutation(np.unique(of_image))
    dealt = np.cumsum([np.count_nonzero(of_image == name) for name in names]) / len(pixels)
    part_of = dict(zip(names.tolist(), np.searchsorted(SHARES.cumsum()[:-1], dealt - 1e-9).tolist(), strict=True))
    parts = np.array([part_of[group] for group in of_image.tolist()])
    return [np.flatnonzero(parts == part) for part in range(len(SHARES))]


RULES: dict[str, Draw] = {
    "random": at_random,
    "by images": lambda pixels, groups, seed: stratified_split(pixels > 0, FRACTIONS, seed=seed, groups=groups),
    "by pixels": lambda pixels, groups, seed: balanced_split(pixels, FRACTIONS, seed=seed, groups=groups),
}


def long_tailed(seed: int, *, grouped: bool, images: int = 300, classes: int = 15) -> tuple[Pixels, list[int]]:
    """Pixels of each class in each image, shape (images, classes), and the group of each image."""
    rng = np.random.default_rng(seed)
    groups = np.repeat(np.arange(images), rng.integers(1, 11, images) if grouped else 1)[:images]
    often = np.geomspace(0.9, 0.015, classes)
    shown = rng.random((images, classes)) < often
    if grouped:  # what a group shows, most of its images show
        shown = shown[groups] & (rng.random((images, classes)) < 0.8)
    pixels = np.where(shown, rng.lognormal(6, 1.3, (images, classes)), 0).astype(np.int64)
    return pixels, groups.tolist()


def made_up_confusion(pixels: Pixels, seed: int = 0) -> npt.NDArray[np.float64]:
    """The confusion of a model that nobody trained, (images, C, C): rows are the truth, columns what is predicted."""
    rng = np.random.default_rng(seed)
    count, classes = pixels.shape
    share = pixels / np.maximum(1, pixels.sum(axis=1, keepdims=True))
    found = np.clip(rng.normal(0.5 + 0.5 * np.sqrt(share), 0.2), 0, 1)
    confusion = np.zeros((count, classes, classes))
    for image in range(count):
        there = np.flatnonzero(pixels[image])
        for class_id in there:
            taken_for = rng.choice(there[there != class_id]) if len(there) > 1 else (class_id + 1) % classes
            confusion[image, class_id, class_id] = found[image, class_id] * pixels[image, class_id]
            confusion[image, class_id, taken_for] = (1 - found[image, class_id]) * pixels[image, class_id]
    return confusion


def mean_iou(confusion: npt.NDArray[np.float64]) -> float:
    """Of summed confusion, (C, C); classes in neither truth nor prediction are left out."""
    true, union = np.diag(confusion), confusion.sum(axis=0) + confusion.sum(axis=1) - np.diag(confusion)
    return float(np.mean(true[union > 0] / union[union > 0]))


def measured(pixels: Pixels, groups: Sequence[int], draw: Draw, seeds: Sequence[int]) -> dict[str, Any]:
    """What one rule gives on one set of images: lists with a value for each seed, or each seed and class."""
    shown = pixels.sum(axis=0) > 0
    pixels = pixels[:, shown]
    names, unit_of = np.unique(np.asarray(groups), return_inverse=True)
    of_units = np.zeros((len(names), pixels.shape[1]))
    np.add.at(of_units, unit_of, pixels)
    enough = (of_units > 0).sum(axis=0) >= len(SHARES)
    largest, weight = of_units.argmax(axis=0), of_units.max(axis=0) / of_units.sum(axis=0)
    confusion = made_up_confusion(pixels)
    whole = mean_iou(confusion.sum(axis=0))
    pooled = np.zeros((BLOCKS, *confusion.shape[1:]))
    found: dict[str, list[float]] = {key: [] for key in ("mean", "max", "images", "size", "missing", "miou")}
    homes: dict[bool, list[bool]] = {False: [], True: []}
    for place, seed in enumerate(seeds):
        parts = draw(pixels, groups, seed)
        held = np.array([pixels[part].sum(axis=0) for part in parts])
        seen = np.array([(pixels[part] > 0).sum(axis=0) for part in parts])
        off = np.abs(held / held.sum(axis=0) / SHARES[:, None] - 1)
        found["mean"].append(off.mean())
        found["max"].append(off.max())
        found["images"].append(np.abs(seen / seen.sum(axis=0) / SHARES[:, None] - 1).mean())
        found["size"].append(np.abs(np.array([len(part) for part in parts]) / len(pixels) / SHARES - 1).mean())
        found["missing"].append(float((held[:, enough] == 0).sum()))
        in_all = confusion[parts[2]].sum(axis=0)
        pooled[place % BLOCKS] += in_all
        found["miou"].append(mean_iou(in_all) - whole)
        in_test = set(unit_of[parts[2]].tolist())
        for unit, share in zip(largest.tolist(), weight.tolist(), strict=True):
            homes[share >= 0.1].append(unit in in_test)
    return {
        **found,
        "light": homes[False],
        "heavy": homes[True],
        "pooled": [mean_iou(block) - whole for block in pooled],
    }


def standard_error(values: npt.NDArray[np.float64]) -> float:
    """Of the mean over draws and populations, which are given; values of shape (populations, draws)."""
    return float(np.sqrt((values.var(axis=1, ddof=1) / values.shape[1]).mean() / len(values)))


def table(sets: Sequence[tuple[Pixels, Sequence[int]]], seeds: Sequence[int]) -> str:
    """A row for each rule, over all sets and seeds."""
    rows = []
    for name, draw in RULES.items():
        all_of = [measured(pixels, groups, draw, seeds) for pixels, groups in sets]
        joined = {key: np.concatenate([one[key] for one in all_of]) for key in all_of[0]}
        pooled, miou = (np.array([one[key] for one in all_of]) for key in ("pooled", "miou"))
        rows.append(
            [
                name,
                *(f"{joined[key].mean():.3f}" for key in ("mean", "max", "images", "size", "missing")),
                *(
                    f"{joined[key].mean():.2f} of {len(joined[key])}" if len(joined[key]) else ""
                    for key in ("light", "heavy")
                ),
                *(f"{values.mean():+.4f} ({standard_error(values):.4f})" for values in (pooled, miou)),
                f"{np.sqrt(miou.var(axis=1, ddof=1).mean()):.4f}",
            ]
        )
    head = ["rule", "pixels, mean", "pixels, max", "images", "size", "missing"]
    head += ["largest in test (< 0.1)", "(>= 0.1)", "pooled mIoU (SE)", "test mIoU (SE)", "SD"]
    return tabulate(rows, head, disable_numparse=True)


def main() -> None:
    """Prints a table for each kind of data."""
    flags = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    flags.add_argument("data_root", type=Path, metavar="DATA_ROOT", help="holds VOCdevkit and CamVid")
    flags.add_argument("--seeds", type=int, default=200, metavar="N")
    flags.add_argument("--out", type=Path, metavar="FILE")
    asked = flags.parse_args()
    told = []
    for name, root in (("voc2012", asked.data_root), ("camvid", asked.data_root / "CamVid")):
        data = DATASETS.get(name)(root=root)
        ids = list(data.ids())
        names = [data.group(image_id) or image_id for image_id in ids]
        numbers = {group: number for number, group in enumerate(dict.fromkeys(names))}
        sets: list[tuple[Pixels, Sequence[int]]] = [(pixels_by_image(data, ids), [numbers[group] for group in names])]
        what = f"{len(ids)} images" + (f" in {len(numbers)} groups" if len(numbers) < len(ids) else "")
        told.append(f"{name}, {what}, {asked.seeds} seeds\n{table(sets, range(asked.seeds))}\n")
    for grouped in (False, True):
        tails = [long_tailed(seed, grouped=grouped) for seed in range(POPULATIONS)]
        what = f"long tails{' in groups' if grouped else ''}, {POPULATIONS} populations, {asked.seeds} seeds each"
        told.append(f"{what}\n{table(tails, range(asked.seeds))}\n")
    text = "\n".join(told)
    print(text)
    if asked.out:
        asked.out.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
