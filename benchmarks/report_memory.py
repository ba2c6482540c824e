"""Memory and time of what grows with a report's images and classes: scores, their intervals, and what is collected.

    python benchmarks/report_memory.py [--only intervals,collecting,kept,classes] [--images 250,2000]
                                       [--classes 21,150,1000] [--out FILE]

intervals: scores with intervals of splits of some images and 21 classes, each image or block of images left out once;
the rival is the plain computation, all histograms in memory and all replicates in one product.

collecting: the score histograms of one image of 375x500 and one of 1080x1920 pixels; the rival works on all pixels and
classes at once.

kept: confusion matrices of 500 images, each of which shows six classes and is predicted as up to nine, written into a
file as an evaluation's are, and read again; the rival is whole matrices.

classes: from these matrices every metric that needs nothing else, in as many replicates as are worked on at once, and
the regions' scores; the rival is whole matrices. `crowded`: each image shows every class.

Each measurement has a process of its own, with one thread. Peak memory is what it holds beyond what was there when it
began, file mappings left out. Both must give the same numbers.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from paired import machine
from scipy import stats

from analysis.kept import HISTOGRAM_COMPRESSION, RESULTS_FILE, Evaluation, kept_confusions
from analysis.scores import score_labels
from analysis.statistics import MOST_BLOCKS
from trainables import metrics
from trainables.logits import predicted_class
from trainables.metrics import (
    IGNORE,
    SCORE_CELLS,
    SCORE_LEVELS,
    ImageCounts,
    ScoreHistogram,
    leave_out_weights,
    mean_over_classes,
    mean_over_split_classes,
    sampling_units,
    score_cells,
)
from trainables.metrics.registry import MATRIX_VALUES

CLASSES = 21
IMAGE_SIZES = ("375x500", "1080x1920")
COUNTED = 500
"""Images whose confusion matrices are kept and scored."""

Values = npt.NDArray[Any]


def make_evaluation(folder: Path, images: int) -> None:
    """Writes made-up results of a split in the format of a kept evaluation; each image shows a few classes."""
    rng = np.random.default_rng(images)
    present = rng.random((images, CLASSES)) < 0.15
    present[:, 0] = True
    confusions = rng.poisson(30, (images, CLASSES, CLASSES)) * present[:, :, None] * present[:, None, :]
    confusions[:, range(CLASSES), range(CLASSES)] *= 40
    confidence = np.where(confusions.sum(axis=1) > 0, rng.random((images, CLASSES)), np.nan)
    arrays: dict[str, Values] = {"confusions": confusions, "confidence": confidence}
    levels = np.arange(SCORE_LEVELS)
    for class_id in range(CLASSES):
        shares = [np.exp(-(((levels - centre) / 320) ** 2)) for centre in (1300, 500)]
        counts = [rng.multinomial(20_000, share / share.sum(), images) for share in shares]
        counts[0] *= present[:, class_id, None]
        arrays[f"histograms/{class_id}/0"] = np.stack(counts, axis=1).astype(np.int32)
        totals = np.zeros((2, SCORE_LEVELS, SCORE_CELLS // SCORE_LEVELS), dtype=np.int64)
        totals[..., 0] = np.stack(counts, axis=1).sum(axis=0)
        arrays[f"totals/{class_id}"] = totals.reshape(2, SCORE_CELLS)
    np.savez_compressed(folder / RESULTS_FILE, **arrays)


def read_evaluation(folder: Path) -> Evaluation:
    """What `make_evaluation` wrote."""
    with np.load(folder / RESULTS_FILE) as arrays:
        confusions, confidence = kept_confusions(arrays), arrays["confidence"]
    names = tuple(map(str, range(len(confusions))))
    return Evaluation("t000", "val", names, (None,) * len(names), confusions, confidence, 1.0, folder)


def our_scores(evaluation: Evaluation) -> Values:
    """Values, lower and upper bounds of the seven metrics, shape (3, 7)."""
    scores = score_labels({"t000": evaluation})["t000"]
    return np.array([(score.value, score.low, score.high) for score in scores.values()]).T


def plain_scores(evaluation: Evaluation) -> Values:
    """The same from arrays that hold every histogram and every replicate."""
    images = len(evaluation.image_ids)
    confusions = np.asarray(evaluation.confusions)
    histograms = np.stack([evaluation.histograms(class_id) for class_id in range(CLASSES)], axis=1)
    split = confusions.sum(axis=0)

    def of_weights(weights: Values) -> Values:
        matrix = np.tensordot(weights, confusions, axes=1)
        held, in_truth = matrix.sum(axis=-1) > 0, split.sum(axis=1) > 0
        functions = (metrics.iou, metrics.f1, metrics.precision, metrics.recall)
        ap = metrics.average_precision(np.tensordot(weights, histograms, axes=1))
        regions = metrics.region_average_precision(confusions, evaluation.confidence, weights=weights)
        return np.stack(
            [
                metrics.pixel_accuracy(matrix),
                *(mean_over_split_classes(f(matrix), held, in_truth, f(split)) for f in functions),
                mean_over_classes(ap),
                mean_over_classes(np.moveaxis(regions, -1, 0)).mean(axis=0),
            ]
        )

    units = sampling_units([None] * images)
    without = of_weights(np.concatenate(list(leave_out_weights(units, most=MOST_BLOCKS))))
    blocks = without.shape[1]
    estimate, mean = of_weights(np.ones((1, images)))[:, 0], without.mean(axis=1)
    moves = without - mean[:, None]
    kurtosis = blocks * (moves**4).sum(axis=1) / (moves**2).sum(axis=1) ** 2
    reach = stats.t.ppf(0.975, np.clip(2 * blocks / (kurtosis - 1), 1, blocks - 1))
    reach *= np.sqrt((blocks - 1) / blocks * (moves**2).sum(axis=1))
    centre = estimate - (blocks - 1) * (mean - estimate)
    return np.stack([estimate, np.clip(centre - reach, 0, 1), np.clip(centre + reach, 0, 1)])


def made_image(size: tuple[int, int]) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits (C, H, W) and a target with some void."""
    generator = torch.Generator().manual_seed(0)
    coarse = torch.randn(1, CLASSES, size[0] // 8, size[1] // 8, generator=generator) * 3
    target = torch.randint(0, CLASSES, size, generator=generator, dtype=torch.uint8)
    target[:, :10] = IGNORE
    return torch.nn.functional.interpolate(coarse, size=size, mode="bilinear")[0], target


def our_histogram(logits: torch.Tensor, target: torch.Tensor) -> Values:
    """Counts of shape (C, 2, SCORE_CELLS)."""
    collector = ScoreHistogram(CLASSES)
    collector.process("image", logits, predicted_class(logits), target)
    return collector.totals()


def plain_histogram(logits: torch.Tensor, target: torch.Tensor) -> Values:
    """The same from one index array over all pixels and classes."""
    known = target.reshape(-1) != IGNORE
    cells = score_cells(logits.reshape(CLASSES, -1)[:, known])
    classes = torch.arange(CLASSES)[:, None]
    negative = (target.reshape(-1)[known][None] != classes).long()
    place = (classes * 2 + negative) * SCORE_CELLS + cells
    counts = torch.bincount(place.reshape(-1), minlength=CLASSES * 2 * SCORE_CELLS)
    return np.asarray(counts.reshape(CLASSES, 2, SCORE_CELLS).numpy())


def made_counts(classes: int, *, crowded: bool) -> ImageCounts:
    """Counts of `COUNTED` images: each shows six classes, predicted as these and three others, or all of them."""
    rng = np.random.default_rng(classes)
    image, pair = [], []
    for place in range(COUNTED):
        shown = np.arange(classes) if crowded else rng.choice(classes, 6, replace=False)
        guessed = shown if crowded else np.union1d(shown, rng.integers(0, classes, 3))
        own = np.sort((shown[:, None] * classes + guessed).ravel())
        pair.append(own)
        image.append(np.full(len(own), place))
    images, pairs = (np.concatenate(one).astype(np.int32) for one in (image, pair))
    return ImageCounts(COUNTED, classes, images, pairs, rng.integers(1, 5000, len(pairs)))


def keep_counts(arrays: dict[str, Values], folder: Path) -> dict[str, Values]:
    """The arrays after they were in a file."""
    path = folder / RESULTS_FILE
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=HISTOGRAM_COMPRESSION) as results:
        for name, array in arrays.items():
            with results.open(f"{name}.npy", "w", force_zip64=True) as member:
                np.lib.format.write_array(member, array, allow_pickle=False)
    with np.load(path) as kept:
        return {name: kept[name] for name in kept.files}


def our_kept(counts: ImageCounts) -> Values:
    """Pixels of each class in the whole split after a file."""
    with tempfile.TemporaryDirectory() as folder:
        return ImageCounts.of(keep_counts(counts.arrays(), Path(folder))).sum(axis=(0, 2))


def plain_kept(counts: ImageCounts) -> Values:
    """The same by whole matrices."""
    with tempfile.TemporaryDirectory() as folder:
        kept = keep_counts({"confusions": np.asarray(counts)}, Path(folder))
        return np.asarray(kept["confusions"].sum(axis=(0, 2)))


def replicates_of(counts: metrics.Confusions) -> Values:
    """Weights of as many replicates as whole matrices are worked on at once."""
    most = min(MOST_BLOCKS, MATRIX_VALUES // counts.shape[1] ** 2)
    units = sampling_units([None] * len(counts))
    return np.concatenate(list(leave_out_weights(units, most=MOST_BLOCKS)))[:most]


def our_classes(counts: ImageCounts) -> Values:
    """Means over replicates of the metrics of matrices alone, and of the scores of regions."""
    replicates = metrics.Replicates(metrics.ConfusionsAlone(counts), replicates_of(counts))
    found = [metric(replicates).mean() for metric in metrics.all_metrics() if metric.needs == {"confusion"}]
    return np.array([*found, *(np.nanmean(values) for values in metrics.region_scores(counts).values())])


def plain_classes(counts: ImageCounts) -> Values:
    """The same from the whole matrices of images and of replicates."""
    whole = np.asarray(counts)
    matrices, split = metrics.weighted_sum(replicates_of(whole), whole), whole.sum(axis=0)
    held, in_truth = matrices.sum(axis=-1) > 0, split.sum(axis=1) > 0
    found = [metrics.pixel_accuracy(matrices).mean()]
    for of_classes in (metrics.iou, metrics.f1, metrics.precision, metrics.recall):
        means = mean_over_split_classes(of_classes(matrices), held, in_truth, of_classes(split))
        found.append(means.mean())
    return np.array([*found, *(np.nanmean(values) for values in metrics.region_scores(whole).values())])


def held_bytes() -> int:
    """Memory of this process that is its own, from Linux."""
    resident, shared = (int(pages) for pages in Path("/proc/self/statm").read_text().split()[1:3])
    return (resident - shared) * os.sysconf("SC_PAGE_SIZE")


def measure(work: Callable[[], Values]) -> dict[str, Any]:
    """Seconds and peak memory (MiB) of some work, and what it gives."""
    peak, done = 0, threading.Event()

    def watch() -> None:
        nonlocal peak
        while not done.wait(0.002):
            peak = max(peak, held_bytes())

    before = held_bytes()
    watcher = threading.Thread(target=watch)
    watcher.start()
    start = time.perf_counter()
    result = work()
    seconds = time.perf_counter() - start
    done.set()
    watcher.join()
    return {"seconds": seconds, "MiB": max(0, peak - before) / 2**20, "result": result.tolist()}


def in_a_process(kind: str, rival: str, argument: str) -> dict[str, Any]:
    """What `measure` says in a process of its own."""
    threads = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    command = [sys.executable, __file__, "--measure", kind, rival, argument]
    done = subprocess.run(command, env={**os.environ, **threads}, capture_output=True, text=True, check=True)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def measured(kind: str, rival: str, argument: str) -> dict[str, Any]:
    """One measurement; what it needs is there before it begins."""
    torch.set_num_threads(1)
    place = ("plain", "ours").index(rival)
    if kind == "intervals":
        evaluation = read_evaluation(Path(argument))
        scores = (plain_scores, our_scores)[place]
        return measure(lambda: scores(evaluation))
    if kind == "collecting":
        height, width = map(int, argument.split("x"))
        logits, target = made_image((height, width))
        histogram = (plain_histogram, our_histogram)[place]
        return measure(lambda: histogram(logits, target))
    classes, _, crowded = argument.partition(", ")
    counts = made_counts(int(classes), crowded=bool(crowded))
    work = ((plain_kept, our_kept) if kind == "kept" else (plain_classes, our_classes))[place]
    return measure(lambda: work(counts))


def compare(kind: str, sizes: dict[str, str], tell: Callable[[str], None]) -> None:
    """Prints a row for each size and rival, and how each grew from the first size to the last."""
    tell(f"{'':<14}{'rival':<8}{'seconds':>9}{'peak MiB':>10}")
    found: dict[tuple[str, str], dict[str, Any]] = {}
    for size, argument in sizes.items():
        for rival in ("plain", "ours"):
            one = found[size, rival] = in_a_process(kind, rival, argument)
            tell(f"{size:<14}{rival:<8}{one['seconds']:9.2f}{one['MiB']:10.0f}")
        plain, ours = found[size, "plain"], found[size, "ours"]
        difference = np.nanmax(np.abs(np.subtract(plain["result"], ours["result"])))
        tell(
            f"{'':<14}plain / ours: time {plain['seconds'] / ours['seconds']:.1f}, memory "
            f"{plain['MiB'] / max(ours['MiB'], 1):.1f}; largest difference of a number {difference:.1e}"
        )
    first, *_, last = sizes
    for rival in ("plain", "ours"):
        growth = found[last, rival]["MiB"] / max(found[first, rival]["MiB"], 1)
        tell(f"{rival}: memory grew {growth:.1f}-fold from {first} to {last}")


def main() -> None:
    """Prints the comparisons."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="intervals,collecting,kept,classes")
    parser.add_argument("--images", default="250,2000")
    parser.add_argument("--classes", default="21,150,1000")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--measure", nargs=3, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.measure:
        print(json.dumps(measured(*asked.measure)))
        return
    lines: list[str] = []

    def tell(line: str) -> None:
        print(line, flush=True)
        lines.append(line)

    parts, images, classes = (text.split(",") for text in (asked.only, asked.images, asked.classes))
    of_classes = {f"{classes[0]}, crowded": f"{classes[0]}, crowded"} | {one: one for one in classes}
    tell(machine())
    if "intervals" in parts:
        with tempfile.TemporaryDirectory() as folder:
            places = {f"{count} images": str(Path(folder) / count) for count in images}
            for count, place in zip(images, places.values(), strict=True):
                Path(place).mkdir()
                make_evaluation(Path(place), int(count))
            tell(f"\nscores with intervals: {CLASSES} classes, at most {MOST_BLOCKS} replicates")
            compare("intervals", places, tell)
    if "collecting" in parts:
        tell(f"\ncollecting an image's score histograms: {CLASSES} classes")
        compare("collecting", {size: size for size in IMAGE_SIZES}, tell)
    if "kept" in parts:
        tell(f"\nconfusion matrices of {COUNTED} images in a file and back, by classes")
        compare("kept", of_classes, tell)
    if "classes" in parts:
        tell(f"\nmetrics of confusion matrices of {COUNTED} images in replicates, by classes")
        compare("classes", of_classes, tell)
    if asked.out:
        asked.out.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
