"""How often nominal 95% intervals of mIoU hold the truth: the table in docs/METRICS.md.

    python benchmarks/interval_coverage.py [SPLITS]

SPLITS simulated test splits per row (default 1000, about half an hour; 200 gives the picture in minutes). Confusion
matrices of images are drawn from a model whose true mIoU is known, with 9 classes, the rarest in 6% of the images, and
for groups a correlation of 0.3 within 25 frames. The rivals are the bootstrap intervals that one would write first.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import stats

from analysis.statistics import bootstrap_interval
from trainables.metrics import (
    draw_counts,
    iou,
    mean_over_classes,
    mean_over_split_classes,
    sampling_units,
    weighted_sum,
)

PRESENCE = np.array([1, 1, 0.9, 0.7, 0.5, 0.3, 0.2, 0.1, 0.06])
RECALL = np.array([0.95, 0.9, 0.85, 0.8, 0.7, 0.65, 0.5, 0.6, 0.5])
SIZE = np.array([8, 6, 3, 2, 1, 0.7, 0.4, 0.5, 0.5])
CLASSES = len(PRESENCE)
FRAMES, CORRELATION = 25, 0.3
RESAMPLES = 1000

Statistic = Callable[[npt.NDArray[np.float64]], npt.NDArray[np.float64]]


def draw_split(rng: np.random.Generator, groups: npt.NDArray[np.intp]) -> npt.NDArray[np.int64]:
    """Confusion matrices (N, C, C) of N images; images of one group are alike."""
    n = len(groups)
    shared = rng.standard_normal((groups.max() + 1, 1))[groups]
    alike = CORRELATION if groups.max() + 1 < n else 0.0
    quality = np.sqrt(alike) * shared + np.sqrt(1 - alike) * rng.standard_normal((n, 1))
    present = rng.random((n, CLASSES)) < PRESENCE
    area = np.where(present, SIZE * np.exp(0.7 * rng.standard_normal((n, CLASSES))), 0)
    pixels = area / area.sum(1, keepdims=True) * 10000
    logit = np.log(RECALL / (1 - RECALL)) + 0.7 * quality + 0.9 * rng.standard_normal((n, CLASSES))
    hit = pixels / (1 + np.exp(-logit))
    attracts = area + 0.15 * (rng.random((n, CLASSES)) < 0.15)
    to_others = attracts[:, None, :] * (1 - np.eye(CLASSES))
    total = to_others.sum(2, keepdims=True)
    matrix = np.where(total > 0, (pixels - hit)[:, :, None] * to_others / np.maximum(total, 1e-12), 0)
    matrix[:, np.arange(CLASSES), np.arange(CLASSES)] = hit
    return np.round(matrix).astype(np.int64)


def absent_is_zero(confusions: npt.NDArray[np.int64]) -> Statistic:
    """MIoU by the rule of one split, applied inside replicates."""
    return lambda weights: mean_over_classes(iou(weighted_sum(weights, confusions)))


def class_set_kept(confusions: npt.NDArray[np.int64]) -> Statistic:
    """MIoU over the split's class set, as the report has it."""
    full = confusions.sum(0)
    values, in_truth = iou(full), full.sum(1) > 0

    def statistic(weights: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        matrix = weighted_sum(weights, confusions)
        return mean_over_split_classes(iou(matrix), matrix.sum(-1) > 0, in_truth, values)

    return statistic


def plain(statistic: Statistic, groups: npt.NDArray[np.intp], method: str, seed: int) -> tuple[float, float]:
    """Scipy's interval without widening."""
    count = int(groups.max()) + 1

    def of_draws(draws: npt.NDArray[np.intp], axis: int = -1) -> npt.NDArray[np.float64]:
        flat = np.moveaxis(np.asarray(draws), axis, -1).reshape(-1, draws.shape[axis])
        return statistic(draw_counts(flat, count)[:, groups]).reshape(draws.shape[:-1])

    options: dict[str, Any] = {"n_resamples": RESAMPLES, "batch": 250, "vectorized": True, "method": method}
    found = stats.bootstrap((np.arange(count),), of_draws, **options, rng=np.random.default_rng(seed))
    return found.confidence_interval.low, found.confidence_interval.high


def coverage(groups: npt.NDArray[np.intp], truth: float, splits: int) -> dict[str, float]:
    """Share of simulated splits whose interval holds the truth, by method."""
    rng = np.random.default_rng(int(groups.max()))
    grouped = groups.max() + 1 < len(groups)
    units = sampling_units([str(group) if grouped else None for group in groups])
    held: dict[str, list[bool]] = {}
    for seed in range(splits):
        confusions = draw_split(rng, groups)
        kept = class_set_kept(confusions)
        used = bootstrap_interval(kept, units, resamples=RESAMPLES, seed=seed)
        intervals = {
            "percentile, absent 0": plain(absent_is_zero(confusions), groups, "percentile", seed),
            "BCa, kept": plain(kept, groups, "BCa", seed),
            "percentile, kept": plain(kept, groups, "percentile", seed),
            "as used": (float(used.low), float(used.high)),
        }
        for name, (low, high) in intervals.items():
            held.setdefault(name, []).append(low <= truth <= high)
    return {name: float(np.mean(values)) for name, values in held.items()}


def main() -> None:
    """Prints one row for each number of images and of groups."""
    splits = int(sys.argv[1]) if len(sys.argv) > 1 else 1000
    rng = np.random.default_rng(99)
    total = sum(draw_split(rng, np.arange(20000)).sum(0) for _ in range(10))
    truth = float(mean_over_classes(iou(np.asarray(total))))
    print(f"true mIoU {truth:.4f}, {splits} splits per row; 'as used' gives none below 20 images or 5 groups")
    for images in (20, 30, 50, 75, 150):
        print(f"{images:>4} images", coverage(np.arange(images), truth, splits), flush=True)
    for count in (5, 8, 20):
        print(f"{count:>4} groups", coverage(np.repeat(np.arange(count), FRAMES), truth, splits), flush=True)


if __name__ == "__main__":
    main()
