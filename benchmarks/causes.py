"""Whether errors are called what they are: planted errors of known kinds against the types that are claimed.

    python -m benchmarks.causes [--data-root DATA_ROOT] [--images 150] [--tuning]

Plants (`benchmarks/planted.py`) go into the true masks of the test split of `scenes` and, with --data-root, of VOC;
once with perfect edges and once with all edges rough. A type is claimed for a plant from a quarter of its wrong pixels
on, and likewise for the components that no plant touched, whose only true type is `boundary`. Prints, and keeps in
benchmarks/results/causes.txt, for each kind how often an expected type is claimed (recall) and the share of claims that
are false, and how often the IoU of regions alone would have shown the plant (a region with IoU <= 0.5).
"""

from __future__ import annotations

import argparse
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from analysis.failures.components import find_components
from analysis.failures.error_types import RIGHT, classify_errors
from analysis.failures.kinds import Kinds, class_kinds
from analysis.failures.measure import boundary_width, failing_regions
from analysis.failures.names import ErrorType
from benchmarks.planted import (
    EVALUATION_SEEDS,
    FALSE_GOAL,
    NAMED_FROM,
    PLANTERS,
    RECALL_GOAL,
    TUNING_SEEDS,
    Planted,
    plant,
)
from trainables.data.base import Mask, SegmentationData
from trainables.data.scenes import scenes
from trainables.data.voc2012 import voc2012

RESULTS = Path(__file__).parent / "results" / "causes.txt"
VOC_IMAGES = 150
"""Images of VOC, spread evenly over the list."""


@dataclass
class Tally:
    """What was claimed about the plants of one kind."""

    plants: int = 0
    found: int = 0
    right: int = 0
    false: Counter[str] = field(default_factory=Counter)
    shown: int = 0

    @property
    def recall(self) -> float:
        """Share of plants for which an expected type was claimed."""
        return self.found / self.plants if self.plants else float("nan")

    @property
    def false_share(self) -> float:
        """Share of claims that name a type that was not planted."""
        claims = self.right + self.false.total()
        return self.false.total() / claims if claims else 0.0


def evaluate(planted: Planted, kinds: Kinds, names: Sequence[str], tallies: dict[str, Tally]) -> None:
    """Adds what is claimed about one image."""
    width = boundary_width((planted.truth.shape[0], planted.truth.shape[1]))
    truth, prediction = find_components(planted.truth), find_components(planted.prediction)
    types = classify_errors(truth, prediction, kinds, width=width).types
    failing = {region.class_id for region in failing_regions(planted.truth, planted.prediction, names, kinds=kinds)}
    for one in planted.plants:
        tally = tallies[one.kind]
        wrong = one.changed & (types != RIGHT)
        claimed = set(named(types[wrong]))
        tally.plants += 1
        tally.found += bool(claimed & one.expected)
        tally.right += len(claimed & one.expected)
        tally.false.update(kind.words for kind in claimed - one.expected - one.allowed)
        involved = {*planted.truth[wrong].tolist(), *planted.prediction[wrong].tolist()}
        tally.shown += bool(involved & failing)
    rest = tallies["(no plant)"]
    for number in planted.untouched:
        of_component = types[(truth.labels == number) & (types != RIGHT)]
        if len(of_component):
            claimed = set(named(of_component))
            rest.plants += 1
            rest.found += ErrorType.BOUNDARY in claimed
            rest.right += ErrorType.BOUNDARY in claimed
            rest.false.update(kind.words for kind in claimed - {ErrorType.BOUNDARY})


def named(types: np.ndarray) -> Iterator[ErrorType]:
    """The types that are claimed for some wrong pixels."""
    counts = np.bincount(types, minlength=len(ErrorType))
    for kind in ErrorType:
        if counts[kind] >= NAMED_FROM * len(types):
            yield kind


def masks_of(data: SegmentationData, ids: Sequence[str]) -> Iterator[Mask]:
    """True masks."""
    for image_id in ids:
        yield data.mask(image_id)


def tables(name: str, data: SegmentationData, ids: Sequence[str], seeds: Sequence[int]) -> list[str]:
    """The rows of one data set, with perfect and with rough edges."""
    names = [info.name for info in data.classes]
    kinds = class_kinds(names)
    lines = []
    for rough in (False, True):
        tallies: dict[str, Tally] = defaultdict(Tally)
        for place, truth in enumerate(masks_of(data, ids)):
            for seed in seeds:
                wanted = np.random.default_rng([seed, place]).permutation(sorted(PLANTERS)).tolist()
                planted = plant(truth, kinds, tuple(wanted), seed=(seed, place, rough), rough=rough)
                evaluate(planted, kinds, names, tallies)
        lines += [f"{name}, {'rough' if rough else 'perfect'} edges", *rows(tallies), ""]
    return lines


def rows(tallies: dict[str, Tally]) -> list[str]:
    """A line for each kind of plant, for components without one, and for all plants together."""
    lines = [f"  {'':26}{'plants':>7}{'recall':>8}{'false':>8}{'IoU alone':>11}"]
    total = Tally()
    for kind in (*PLANTERS, "(no plant)"):
        tally = tallies[kind]
        if kind in PLANTERS:
            total.plants, total.found, total.right = (
                total.plants + tally.plants, total.found + tally.found, total.right + tally.right,
            )  # fmt: skip
            total.shown += tally.shown
        total.false += tally.false
        lines.append(row(kind, tally))
    return [*lines, row("all", total)]


def row(kind: str, tally: Tally) -> str:
    """One line; a star marks what misses a goal."""
    low = "*" if tally.plants and tally.recall < RECALL_GOAL else " "
    high = "*" if tally.false_share > FALSE_GOAL else " "
    shown = f"{tally.shown / tally.plants:11.2f}" if tally.plants and kind != "(no plant)" else f"{'':11}"
    most = ", ".join(f"{words} {count}" for words, count in tally.false.most_common(3))
    return f"  {kind:26}{tally.plants:7d}{tally.recall:7.3f}{low}{tally.false_share:7.3f}{high}{shown}  {most}".rstrip()


def main() -> None:
    """Prints and keeps the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data-root", type=Path, help="folder that holds VOCdevkit")
    parser.add_argument("--images", type=int, default=150)
    parser.add_argument("--tuning", action="store_true", help="the seeds for looking at; nothing is kept")
    options = parser.parse_args()
    seeds = TUNING_SEEDS if options.tuning else EVALUATION_SEEDS
    data = scenes()
    lines = tables("scenes", data, data.splits().test[: options.images], seeds)
    if options.data_root:
        voc = voc2012(root=options.data_root)
        ids = list(voc.ids())
        step = max(1, len(ids) // VOC_IMAGES)
        lines += tables("VOC", voc, ids[::step][: options.images], seeds[:2])
    text = "\n".join(lines)
    print(text)
    if not options.tuning:
        RESULTS.write_text(text + "\n")


if __name__ == "__main__":
    main()
