"""How often 95% intervals hold the truth: the table in docs/METRICS.md.

    python -m benchmarks.interval_coverage [DATA_ROOT] [--splits 600] [--only WORD] [--columns WORD]

Splits are drawn from populations whose metrics are known (`benchmarks/populations.py`): simulated ones, whose rare
classes are spread over groups of frames or stand together in some; two small models on 1,500 scenes, alone and in
groups, equal and unequal; and with DATA_ROOT, which holds `VOCdevkit`, two models on 435 VOC images. Every metric that
can be computed there has the interval that a report gives, or none where a report gives none; so has the IoU of single
classes, the one in the most images, the one in the middle and the one in the fewest. Of mIoU and of precision the
percentile bootstrap stands beside it, plain and shifted by twice its bias.

What two checkpoints lose to each type of error (`type_changes`) has intervals that should hold for all types at once.

Prints, and keeps in benchmarks/results/interval_coverage.txt, for each population and number of images or groups the
share of intervals that hold the truth, and behind it the share of splits that had one.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np

from analysis.failures.changes import type_changes
from analysis.failures.names import ErrorType
from analysis.failures.split import SplitFailures
from analysis.scores import Classes, why_no_interval
from analysis.statistics import Statistic, confidence_interval, paired_interval
from benchmarks.populations import EPOCHS, Finite, Images, Population, Simulated, clustered, failures, real, subset
from trainables.metrics import METRICS, Floats, Metric, Replicates, class_metric, replicate_weights, sampling_units

RESULTS = Path(__file__).parent / "results" / "interval_coverage.txt"
RESAMPLES = 400
RIVALS = ("iou", "precision")
SINGLE = {"commonest": 0.0, "middle": 0.5, "rarest": 1.0}
"""Classes whose own IoU is looked at, by their place among all, from the one in the most images to the rarest."""
FRAMES, GROUP_OF_SCENES, GROUP_OF_VOC = 25, 25, 8
IMAGES, GROUPS = (20, 40, 50, 100, 150), (8, 12, 20, 30)

Held = dict[str, list[bool | None]]
"""By column: whether the interval of each split held the truth; None where there was none."""


def statistic(images: Images, metric: Metric) -> Statistic:
    """A metric of some images, of weights of shape (R, N)."""
    return lambda weights: metric(Replicates(images, weights))


def value(images: Images, metric: Metric) -> float:
    """Of all images, once each."""
    return float(statistic(images, metric)(np.ones((1, len(images.confusions))))[0])


def known(population: Images) -> Classes:
    """The classes of a population, all of which a model has learnt."""
    seen = population.confusions.sum(axis=(0, 2)) > 0
    return Classes([str(one) for one in range(len(seen))], seen)


def populations(data_root: Path | None) -> Iterator[tuple[str, Population, tuple[int, ...]]]:
    """What is drawn from, and how many images or groups of it."""
    yield "simulated images", Simulated(), IMAGES
    yield "simulated groups", Simulated(FRAMES, alike=0.3), GROUPS
    yield "simulated groups, rare classes together", Simulated(FRAMES, alike=0.3, clustering=0.8), GROUPS
    for name in EPOCHS:
        is_voc = name.startswith("voc")
        if is_voc and not data_root:
            continue
        images = real(name, data_root)
        size = GROUP_OF_VOC if is_voc else GROUP_OF_SCENES
        yield name, Finite(images), (*IMAGES, 300)[3 if is_voc else 0 :]
        for unequal in (False, True):
            kind = f"{name}, {'unequal' if unequal else 'equal'} groups"
            yield kind, Finite(clustered(images, size, unequal=unequal)), GROUPS


def single(images: Images) -> dict[str, Metric]:
    """The IoU of some classes of a population, by column."""
    seen = (images.confusions.sum(axis=2) > 0).sum(axis=0)
    order = [place for place in np.argsort(-seen, kind="stable") if seen[place]]
    names = [str(one) for one in range(len(seen))]
    chosen = {kind: names[order[round(share * (len(order) - 1))]] for kind, share in SINGLE.items()}
    return {f"iou[{kind}]": class_metric(METRICS.get("iou"), name, names) for kind, name in chosen.items()}


def percentiles(of_images: Statistic, images: Images, seed: int) -> tuple[tuple[float, float], tuple[float, float]]:
    """The percentile bootstrap's interval, and the same shifted by twice the bootstrap's bias."""
    units = sampling_units(images.groups)
    once = np.ones((1, len(images.confusions)))
    drawn = np.concatenate([of_images(w) for w in replicate_weights(units, resamples=RESAMPLES, seed=seed)])
    shift = 2 * (drawn.mean() - of_images(once)[0])
    low, high = np.quantile(drawn, (0.025, 0.975))
    return (low, high), (low - shift, high - shift)


def coverage(population: Population, units: int, splits: int, columns: str = "") -> Held:
    """What the intervals of splits hold, by metric and by rival; of those alone whose column has a word."""
    whole = population.images
    metrics = {**{metric.name: metric for metric in whole.metrics}, **single(whole)}
    metrics = {name: metric for name, metric in metrics.items() if columns in name}
    truth, classes = {name: value(whole, metric) for name, metric in metrics.items()}, known(whole)
    held: Held = {}
    for seed in range(splits):
        split = population.draw(seed, units)
        of_split = sampling_units(split.groups)

        def values(weights: Floats, split: Images = split) -> Floats:
            return np.stack([statistic(split, metric)(weights) for metric in metrics.values()])

        interval = confidence_interval(values, of_split)
        for place, (name, metric) in enumerate(metrics.items()):
            low, high = interval.low[place], interval.high[place]
            none = why_no_interval(metric, split, classes=classes) or not np.isfinite(low)  # type: ignore[arg-type]
            held.setdefault(name, []).append(None if none else bool(low <= truth[name] <= high))
        for name in RIVALS if not columns else ():
            found = percentiles(statistic(split, METRICS.get(name)), split, seed)
            for kind, (low, high) in zip(("percentile", "shifted"), found, strict=True):
                held.setdefault(f"{name}, {kind}", []).append(bool(low <= truth[name] <= high))
    return held


def differences(first: Images, second: Images, units: int, splits: int) -> Held:
    """What the intervals of the differences of two checkpoints hold, on the same images."""
    held: Held = {}
    truth = {metric.name: value(first, metric) - value(second, metric) for metric in first.metrics}
    classes = known(first)
    for seed in range(splits):
        places = np.random.default_rng([seed, units]).integers(0, len(first.confusions), units)
        one, other = (images.take(places, np.arange(units), grouped=False) for images in (first, second))
        for metric in one.metrics:
            interval = paired_interval(statistic(one, metric), statistic(other, metric), sampling_units(one.groups))
            none = why_no_interval(metric, one, other, classes=classes)  # type: ignore[arg-type]
            inside = bool(interval.low <= truth[metric.name] <= interval.high)
            held.setdefault(metric.name, []).append(None if none else inside)
    return held


def changes(before: SplitFailures, after: SplitFailures, images: int, splits: int) -> Held:
    """What the intervals of `type_changes` hold, by type and all at once."""
    truth = type_changes(before, after, None)["difference"]
    held: Held = {}
    for seed in range(splits):
        places = np.random.default_rng([seed, images]).integers(0, len(before.images), images)
        told = type_changes(subset(before, places), subset(after, places), sampling_units([None] * images))
        inside = (told["difference_low"] <= truth) & (truth <= told["difference_high"])
        given = told["difference_low"].notna()
        for kind, one, has in zip(told["type"], inside, given, strict=True):
            held.setdefault(str(kind), []).append(bool(one) if has else None)
        held.setdefault("all at once", []).append(bool(inside[given].all()) if given.any() else None)
    return held


def row(held: Held, columns: list[str]) -> str:
    """Coverage by column, and the share of splits with an interval where not all have one."""
    cells = []
    for column in columns:
        given = [one for one in held.get(column, []) if one is not None]
        share = len(given) / max(1, len(held.get(column, [])))
        shown = f"{np.mean(given):.3f}" if len(given) >= 30 else "-"
        cells.append(f"{shown} {'' if share == 1 or shown == '-' else f'({share:.2f})':<6}")
    return "  ".join(cells)


def main() -> None:
    """Prints a row for each population and number of images or groups."""
    flags = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    flags.add_argument("data_root", type=Path, nargs="?", metavar="DATA_ROOT")
    flags.add_argument("--splits", type=int, default=600, metavar="N", help="a row (default: 600)")
    flags.add_argument("--only", default="", metavar="WORD", help="populations whose name holds it; nothing is kept")
    flags.add_argument("--columns", default="", metavar="WORD", help="metrics whose name holds it; nothing is kept")
    asked = flags.parse_args()
    columns = [*METRICS, *(f"iou[{kind}]" for kind in SINGLE)]
    columns += [f"{name}, {kind}" for name in RIVALS for kind in ("percentile", "shifted")]
    lines = [f"Share of 95% intervals that hold the truth, {asked.splits} splits a row; (share of splits with one)"]
    lines.append(f"{'':<48}" + "  ".join(f"{column[:13]:<13}" for column in columns))
    print("\n".join(lines), flush=True)

    def add(name: str, units: int, measure: Callable[[], Held], columns: list[str]) -> None:
        lines.append(f"{name:<42}{units:>4}  " + row(measure(), columns))
        print(lines[-1], flush=True)

    for name, population, sizes in populations(asked.data_root):
        for units in sizes if asked.only in name else ():
            measure = partial(coverage, population, units, asked.splits, asked.columns)
            add(name, units, measure, columns)
    pairs = [
        (kind, *(name for name in EPOCHS if name.startswith(kind)))
        for kind in ("scenes", *(["voc"] if asked.data_root else []))
    ]
    for kind, first, second in pairs:
        if asked.only in (name := f"{kind}, difference of the two models"):
            both = real(first, asked.data_root), real(second, asked.data_root)
            for units in (40, 50, 150):
                add(name, units, partial(differences, *both, units, asked.splits), columns)
    types = [*(error.words for error in ErrorType), "all at once"]
    lines.append(f"{'':<48}" + "  ".join(f"{column[:13]:<13}" for column in types))
    print(lines[-1], flush=True)
    for kind, first, second in pairs:
        if asked.only in (name := f"{kind}, change of types"):
            wrong = failures(first, second, asked.data_root)
            for units in (50, 150):
                add(name, units, partial(changes, *wrong, units, asked.splits), types)
    if not asked.only and not asked.columns:
        RESULTS.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
