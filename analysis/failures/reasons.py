"""Which measured factors go with a low IoU of components, each adjusted for the others, and how sure that is.

A linear model with class effects: the IoU of a component is that of its class plus the sum of what each factor adds,
factors as ranks among all components, so that outliers and units do not matter. Images are resampled, not components,
because those of one image are alike (Efron and Tibshirani, "An Introduction to the Bootstrap", 1993, chapter 8). It
finds what goes together; only a factor that is changed by itself shows a cause (`benchmarks/factors.py`, on `scenes`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import special, stats

from analysis.failures.components import Integers
from analysis.failures.factors import FACTORS
from analysis.failures.split import SplitFailures

# Limits; docs/METRICS.md has the reason of each.
LEAST_EFFECT = 0.03
STABLE_SHARE = 0.95
FAMILY_LEVEL = 0.95
LEAST_IMAGES = 20
LEAST_PER_TERM = 10
LEAST_OF_CLASS = 5

RESAMPLES = 500
BINS = 5

EFFECT_COLUMNS = (
    *("label", "factor", "low", "high", "effect", "effect_low", "effect_high", "alone", "stable", "reason"),
    *("components", "images"),
)
"""Of the table `factors`."""

CURVE_COLUMNS = ("label", "factor", "low", "high", "components", "iou", "iou_low", "iou_high")
"""Of the table `factor_curves`."""

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class ComponentTable:
    """The true components of a split, K of them, and what one prediction made of them.

    Attributes:
        iou: Shape (K,).
        class_id: Shape (K,).
        image: Place of the image, shape (K,).
        factors: Shape (K, F), NaN where one cannot be measured.
    """

    iou: Floats
    class_id: Integers
    image: Integers
    factors: Floats


def component_table(split: SplitFailures) -> ComponentTable | None:
    """The components of a split; None where no image was measured (`measure_image` without an image)."""
    images = [one for one in split.images if one.factors is not None]
    if not images:
        return None
    own = [one.components.is_true for one in images]
    counts = [int(is_true.sum()) for is_true in own]
    return ComponentTable(
        iou=np.concatenate([one.components.iou[is_true] for one, is_true in zip(images, own, strict=True)]),
        class_id=np.concatenate([one.components.class_id[is_true] for one, is_true in zip(images, own, strict=True)]),
        image=np.repeat(np.arange(len(images)), counts),
        factors=np.concatenate([one.factors for one in images if one.factors is not None]),
    )


def factor_frame(splits: Mapping[str, SplitFailures], *, resamples: int = RESAMPLES, seed: int = 0) -> pd.DataFrame:
    """The table `factors`: a row per label and factor, columns `EFFECT_COLUMNS`; empty where there are no images.

    Args:
        splits: By label.
        resamples: Replicates of the bootstrap.
        seed: Of its draws.
    """
    rows = _of_labels(splits, lambda table: factor_effects(table, resamples=resamples, seed=seed))
    return pd.DataFrame(rows, columns=list(EFFECT_COLUMNS))


def _of_labels(
    splits: Mapping[str, SplitFailures], rows_of: Callable[[ComponentTable], Iterable[tuple[object, ...]]]
) -> list[tuple[object, ...]]:
    """Rows of each label that has factors, the label first."""
    tables = {label: component_table(split) for label, split in splits.items()}
    return [(label, *row) for label, table in tables.items() if table is not None for row in rows_of(table)]


def factor_effects(table: ComponentTable, *, resamples: int = RESAMPLES, seed: int = 0) -> list[tuple[object, ...]]:
    """What each factor adds to the IoU from its 10th percentile to its 90th, adjusted for class and other factors.

    How a component looks is adjusted for everything; where it is and how its image was taken, for each other alone: a
    dark image makes dark components, and would have no effect beside them.

    Args:
        table: Of one prediction.
        resamples: Replicates of the bootstrap over images.
        seed: Of its draws.

    Returns:
        Rows of `EFFECT_COLUMNS` without the label, one for each factor that varies; none where there are too few images
        or components.
    """
    names = [factor.name for factor in FACTORS]
    ranks, spans = _ranks(table.factors)
    used = np.flatnonzero(spans > 0)
    classes = _class_columns(table.class_id)
    count, images = len(table.iou), int(table.image.max()) + 1 if len(table.image) else 0
    terms = classes.shape[1] + len(used)
    if images < LEAST_IMAGES or count < LEAST_PER_TERM * terms or not len(used):
        return []
    design = np.concatenate([classes, ranks[:, used]], axis=1)
    grams, moments = _per_image(design, table.iou, table.image, images)
    draws = np.random.default_rng(seed).multinomial(images, np.full(images, 1 / images), resamples)
    draws = np.concatenate([np.ones((1, images), draws.dtype), draws])
    grams, moments = np.tensordot(draws, grams, 1), np.tensordot(draws, moments, 1)
    slopes = np.zeros((len(draws), len(used)))
    is_looks = np.array([FACTORS[place].is_looks for place in used])
    for shown in (True, False):
        # Last, what does not follow from the others: adjusted for what is its equal alone.
        kept = np.concatenate([np.ones(classes.shape[1], bool), is_looks | ~is_looks if shown else ~is_looks])
        found = _solve(grams, moments, kept)[:, classes.shape[1] :]
        slopes[:, is_looks if shown else ~is_looks] = found[:, is_looks] if shown else found
    slopes *= spans[used]
    of_all, replicates = slopes[0], slopes[1:]
    level = 1 - (1 - FAMILY_LEVEL) / len(used)
    half = special.stdtrit(max(1, images - 1), (1 + level) / 2) * replicates.std(axis=0, ddof=1)
    rows: list[tuple[object, ...]] = []
    for place, factor in enumerate(used.tolist()):
        effect, own = float(of_all[place]), replicates[:, place]
        stable = float(np.mean((np.sign(own) == np.sign(effect)) & (np.abs(own) >= abs(effect) / 2)))
        low, high = effect - half[place], effect + half[place]
        is_reason = bool(abs(effect) >= LEAST_EFFECT and (low > 0 or high < 0) and stable >= STABLE_SHARE)
        values = np.nanquantile(table.factors[:, factor], (0.1, 0.9))
        alone = _alone(classes, ranks[:, factor], table.iou) * spans[factor]
        numbers = (float(values[0]), float(values[1]), effect, float(low), float(high), alone, stable)
        rows.append((names[factor], *numbers, is_reason, count, images))
    return rows


def curve_frame(splits: Mapping[str, SplitFailures], *, resamples: int = RESAMPLES, seed: int = 0) -> pd.DataFrame:
    """The table `factor_curves`: mean IoU of the components in each fifth of a factor, with 95% intervals over images.

    Args:
        splits: By label.
        resamples: Replicates of the bootstrap.
        seed: Of its draws.
    """
    rows = _of_labels(splits, lambda table: _curves(table, resamples=resamples, seed=seed))
    return pd.DataFrame(rows, columns=list(CURVE_COLUMNS))


def _curves(table: ComponentTable, *, resamples: int, seed: int) -> list[tuple[object, ...]]:
    images = int(table.image.max()) + 1 if len(table.image) else 0
    if images < LEAST_IMAGES:
        return []
    draws = np.random.default_rng(seed).multinomial(images, np.full(images, 1 / images), resamples)
    rows: list[tuple[object, ...]] = []
    for place, factor in enumerate(FACTORS):
        values = table.factors[:, place]
        edges = np.unique(np.nanquantile(values, np.linspace(0, 1, BINS + 1)))
        bins = np.clip(np.searchsorted(edges, values, side="right") - 1, 0, max(0, len(edges) - 2))
        for number in range(len(edges) - 1):
            inside = (bins == number) & np.isfinite(values)
            counts = np.bincount(table.image[inside], minlength=images)
            sums = np.bincount(table.image[inside], table.iou[inside], images)
            drawn = draws @ counts
            means = (draws @ sums)[drawn > 0] / drawn[drawn > 0]
            low, high = np.quantile(means, (0.025, 0.975)) if len(means) else (np.nan, np.nan)
            mean = float(sums.sum() / counts.sum()) if counts.sum() else float("nan")
            ends = (float(edges[number]), float(edges[number + 1]))
            rows.append((factor.name, *ends, int(counts.sum()), mean, float(low), float(high)))
    return rows


def _ranks(factors: Floats) -> tuple[Floats, Floats]:
    """Each factor as mid-ranks in -0.5 .. 0.5, missing values in the middle, and how far its 10th is from its 90th."""
    ranks = np.zeros_like(factors)
    spans = np.zeros(factors.shape[1])
    for place in range(factors.shape[1]):
        known = np.isfinite(factors[:, place])
        if known.sum() < 2:
            continue
        own = (stats.rankdata(factors[known, place]) - 0.5) / known.sum() - 0.5
        ranks[known, place] = own
        spans[place] = np.quantile(own, 0.9) - np.quantile(own, 0.1)
    return ranks, spans


def _class_columns(class_id: Integers) -> Floats:
    """One column of ones for each class; rare ones share one."""
    _, place, counts = np.unique(class_id, return_inverse=True, return_counts=True)
    common = counts >= LEAST_OF_CLASS
    column = np.where(common, np.cumsum(common) - 1, common.sum())
    of_row = column[place]
    columns = np.zeros((len(class_id), int(of_row.max(initial=-1)) + 1))
    columns[np.arange(len(class_id)), of_row] = 1
    return columns[:, columns.any(axis=0)]


def _per_image(design: Floats, outcome: Floats, image: Integers, images: int) -> tuple[Floats, Floats]:
    """X'X and X'y of each image, shapes (N, P, P) and (N, P)."""
    terms = design.shape[1]
    grams, moments = np.zeros((images, terms, terms)), np.zeros((images, terms))
    np.add.at(moments, image, design * outcome[:, None])
    for place in range(terms):
        np.add.at(grams[:, place], image, design * design[:, place, None])
    return grams, moments


def _solve(grams: Floats, moments: Floats, kept: npt.NDArray[np.bool_]) -> Floats:
    """Least squares from sums, for some of the terms; a class that no drawn image shows has no say."""
    grams, moments = grams[:, kept][:, :, kept], moments[:, kept]
    ridge = 1e-9 * np.eye(grams.shape[-1]) * np.trace(grams, axis1=1, axis2=2)[:, None, None]
    return np.asarray(np.linalg.solve(grams + ridge, moments[..., None])[..., 0])


def _alone(classes: Floats, rank: Floats, outcome: Floats) -> float:
    """The slope of one factor adjusted for class only."""
    design = np.concatenate([classes, rank[:, None]], axis=1)
    return float(np.linalg.lstsq(design, outcome, rcond=None)[0][-1])
