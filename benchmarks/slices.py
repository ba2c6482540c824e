"""Whether slices are found where they are planted, and none where there are none.

    python -m benchmarks.slices [--scenes 100,300] [--repetitions 100]

The components of `scenes` as they are, with their factors and all correlations; their IoU is made up: its class, what
images and components add by chance, cut off at 0 and 1. First without an effect of any factor, with classes that differ
and classes that are equal. Then two ends of factors drawn at random, or dark images and small components, lower the IoU
where they come together. A slice is false if by the expected IoUs it is not worse than the rest of each of its
conditions by 0.02. Planted ones are drawn half as often. Keeps everything in benchmarks/results/slices.txt.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from analysis.failures.reasons import ComponentTable
from analysis.failures.slices import (
    CLASS,
    PARTS,
    Condition,
    Slice,
    difference,
    find_slices,
    is_large,
    slice_conditions,
)
from benchmarks.factors import NO_EFFECT, natural
from trainables.data.scenes.spec import CLASSES

RESULTS = Path(__file__).parent / "results" / "slices.txt"
SEED = 8117
DROPS = (0.1, 0.2, 0.3)
DARK_AND_SMALL = (("light", "lowest"), ("size", "lowest"))
CLASS_NAMES = [info.name for info in CLASSES]

Pair = tuple[Condition, Condition]


def expected(table: ComponentTable, rng: np.random.Generator, *, classes_differ: bool) -> np.ndarray:
    """The IoU of each component before chance and what is planted."""
    return rng.uniform(0.35, 0.75, len(CLASSES))[table.class_id] if classes_differ else np.full(len(table.iou), 0.55)


def with_chance(table: ComponentTable, mean: np.ndarray, rng: np.random.Generator) -> ComponentTable:
    """The same components with IoUs that scatter by image and component."""
    chance = rng.normal(0, 0.06, int(table.image.max()) + 1)[table.image] + rng.normal(0, 0.2, len(mean))
    return ComponentTable(np.clip(mean + chance, 0, 1), table.class_id, table.image, table.factors)


def planted_pairs(table: ComponentTable, part: str, count: int, *, dark_and_small: bool) -> Iterator[Pair]:
    """Pairs of ends that come together often enough to be judged."""
    rng = np.random.default_rng([SEED, count, list(PARTS).index(part), dark_and_small])
    ends = [one for one in slice_conditions(table, CLASS_NAMES) if one.value.endswith(part)]
    while count:
        if dark_and_small:
            first, second = (next(one for one in ends if one.name == name) for name, _ in DARK_AND_SMALL)
        else:
            first, second = (ends[place] for place in rng.choice(len(ends), 2, replace=False))
        if first.name != second.name and is_large(first.inside & second.inside, table.image):
            count -= 1
            yield first, second


def is_false(found: Slice, truth: ComponentTable) -> bool:
    """Whether a slice is not worse than the rest of one of its conditions by the expected IoUs."""
    everything = np.ones(len(truth.iou), bool)
    for place, condition in enumerate(found.conditions):
        others = [one.inside for number, one in enumerate(found.conditions) if number != place]
        parent = np.logical_and.reduce(others or [everything])
        lower = difference(truth, found.inside, parent, 0.95, of_classes=condition.name == CLASS)
        if lower is None or lower.value < NO_EFFECT:
            return True
    return False


def without_effect(table: ComponentTable, repetitions: int, *, classes_differ: bool) -> str:
    """How often a slice is told that has a factor in it, or any slice where classes are equal too."""
    claims = []
    for repetition in range(repetitions):
        rng = np.random.default_rng([SEED, classes_differ, repetition])
        made = with_chance(table, expected(table, rng, classes_differ=classes_differ), rng)
        found, looked_at = find_slices(made, CLASS_NAMES)
        claims.append(any(one.name != CLASS or not classes_differ for each in found for one in each.conditions))
    classes = "classes differ" if classes_differ else "classes are equal"
    return f"  {classes:18}: told in {np.mean(claims):.3f} of {repetitions}, {looked_at:,} slices looked at"


def with_effect(table: ComponentTable, part: str, repetitions: int, *, dark_and_small: bool) -> str:
    """How often a planted slice is found by its two ends, and how often another is told that is false."""
    cells = []
    for drop in DROPS:
        hits, false = [], []
        pairs = planted_pairs(table, part, repetitions, dark_and_small=dark_and_small)
        for repetition, (first, second) in enumerate(pairs):
            rng = np.random.default_rng([SEED, repetition, round(100 * drop), list(PARTS).index(part)])
            mean = expected(table, rng, classes_differ=True) - drop * (first.inside & second.inside)
            truth = ComponentTable(np.clip(mean, 0, 1), table.class_id, table.image, table.factors)
            found, _ = find_slices(with_chance(table, mean, rng), CLASS_NAMES)
            ends = {(first.name, first.value.split()[0]), (second.name, second.value.split()[0])}
            hits.append(any({(c.name, c.value.split()[0]) for c in one.conditions} == ends for one in found))
            false.append(any(is_false(one, truth) for one in found))
        cells.append(f"{np.mean(hits):>12.2f} ({np.mean(false):.2f})")
    what = "dark and small" if dark_and_small else "two at random"
    return f"  {what:15} {part}s{''.join(cells)}"


def main() -> None:
    """Prints and keeps the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scenes", type=lambda text: [int(one) for one in text.split(",")], default=[100, 300])
    parser.add_argument("--repetitions", type=int, default=100)
    options = parser.parse_args()
    every = natural(max(options.scenes), None)
    lines: list[str] = []
    for images in options.scenes:
        own = every.image < images
        table = ComponentTable(every.iou[own], every.class_id[own], every.image[own], every.factors[own])
        count = f"{options.repetitions} repetitions, {options.repetitions // 2} of each that is planted"
        lines.append(f"{len(table.iou)} components of {images} scenes, {count}")
        for classes_differ in (True, False):
            lines.append(without_effect(table, options.repetitions, classes_differ=classes_differ))
        drops = "".join(f"{f'drop {drop:.1f}':>19}" for drop in DROPS)
        lines.append(f"  found (a false slice told){drops}")
        for part in PARTS:
            for dark_and_small in (False, True):
                lines.append(with_effect(table, part, max(1, options.repetitions // 2), dark_and_small=dark_and_small))
        print("\n".join(lines[-8:]), flush=True)
    RESULTS.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
