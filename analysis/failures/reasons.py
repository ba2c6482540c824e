"""Which measured factors go with a low IoU of components, each adjusted for the others, and how sure that is.

A linear model with class effects: the IoU of a component is that of its class plus the sum of what each factor adds,
factors as ranks among all components, so that outliers and units do not matter. Images are resampled, not components,
because those of one image are alike (Efron and Tibshirani, "An Introduction to the Bootstrap", 1993, chapter 8). It
finds what goes together; only a factor that is changed by itself shows a cause (`benchmarks/factors.py`, on `scenes`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import special, stats

from analysis.failures.class_frequency import LEAST_CLASSES, can_tell, effect_between_classes
from analysis.failures.components import Integers
from analysis.failures.factors import DISTANCE, FACTORS, FREQUENCY, Factor
from analysis.failures.split import SplitFailures
from analysis.failures.training_images import TrainingImages
from trainables.metrics import Units

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
        image: Place of the image, or of its group where images come in groups: what is drawn again, shape (K,).
        factors: Shape (K, F), NaN where one cannot be measured.
        of: What the columns are, length F.
        frequency: Share of the training images that have each class, by class id; None where it is not known.
    """

    iou: Floats
    class_id: Integers
    image: Integers
    factors: Floats
    of: tuple[Factor, ...] = FACTORS
    frequency: Floats | None = None


def component_table(
    split: SplitFailures,
    *,
    distances: Floats | None = None,
    frequency: Floats | None = None,
    units: Units | None = None,
) -> ComponentTable | None:
    """The components of a split; None where no image was measured (`measure_image` without an image).

    Args:
        split: Of N images.
        distances: How far each image is from the training images, shape (N,).
        frequency: As of `ComponentTable`.
        units: The images, or their groups; each image by itself without it.
    """
    measured = [place for place, one in enumerate(split.images) if one.factors is not None]
    if not measured:
        return None
    images = [split.images[place] for place in measured]
    own = [one.components.is_true for one in images]
    counts = [int(is_true.sum()) for is_true in own]
    factors = np.concatenate([one.factors for one in images if one.factors is not None])
    of: tuple[Factor, ...] = FACTORS
    if distances is not None:
        factors, of = np.column_stack([factors, np.repeat(distances[measured], counts)]), (*FACTORS, DISTANCE)
    return ComponentTable(
        iou=np.concatenate([one.components.iou[is_true] for one, is_true in zip(images, own, strict=True)]),
        class_id=np.concatenate([one.components.class_id[is_true] for one, is_true in zip(images, own, strict=True)]),
        image=np.repeat(np.arange(len(images)) if units is None else units.of_image[measured], counts),
        factors=factors,
        of=of,
        frequency=frequency,
    )


def component_tables(
    splits: Mapping[str, SplitFailures], training: TrainingImages | None = None, units: Units | None = None
) -> dict[str, ComponentTable]:
    """The components of each label that has factors.

    Args:
        splits: By label.
        training: What the training images say.
        units: As of `component_table`.
    """
    training = training or TrainingImages()
    found = {
        label: component_table(
            split, distances=training.distances.get(label), frequency=training.frequency, units=units
        )
        for label, split in splits.items()
    }
    return {label: table for label, table in found.items() if table is not None}


def factor_frame(tables: Mapping[str, ComponentTable], *, resamples: int = RESAMPLES, seed: int = 0) -> pd.DataFrame:
    """The table `factors`: a row per label and factor, columns `EFFECT_COLUMNS`; empty where there are no images.

    Args:
        tables: By label (`component_tables`).
        resamples: Replicates of the bootstrap.
        seed: Of its draws.
    """
    rows = [
        (label, *row)
        for label, table in tables.items()
        for row in factor_effects(table, resamples=resamples, seed=seed)
    ]
    return pd.DataFrame(rows, columns=list(EFFECT_COLUMNS))


def factor_effects(table: ComponentTable, *, resamples: int = RESAMPLES, seed: int = 0) -> list[tuple[object, ...]]:
    """What each factor adds to the IoU from its 10th percentile to its 90th, adjusted for class and other factors.

    How a component looks is adjusted for where it is and how its image was taken, not the other way round: a dark image
    makes dark components, and would have no effect beside them (`Factor.stage`). The frequency of the class in training
    is compared between classes (`class_frequency`).

    Args:
        table: Of one prediction.
        resamples: Replicates of the bootstrap over images, and over classes.
        seed: Of its draws.

    Returns:
        Rows of `EFFECT_COLUMNS` without the label, one for each factor that varies; none where there are too few images
        or components.
    """
    ranks, spans = mid_ranks(table.factors)
    used = np.flatnonzero(spans > 0)
    classes, class_ids = _class_columns(table.class_id)
    count, images = len(table.iou), int(table.image.max()) + 1 if len(table.image) else 0
    terms = classes.shape[1] + len(used)
    if images < LEAST_IMAGES or count < LEAST_PER_TERM * terms or not len(used):
        return []
    design = np.concatenate([classes, ranks[:, used]], axis=1)
    grams, moments = _per_image(design, table.iou, table.image, images)
    generator = np.random.default_rng(seed)
    draws = generator.multinomial(images, np.full(images, 1 / images), resamples)
    draws = np.concatenate([np.ones((1, images), draws.dtype), draws])
    grams, moments = np.tensordot(draws, grams, 1), np.tensordot(draws, moments, 1)
    slopes = np.zeros((len(draws), len(used)))
    stages = np.array([table.of[place].stage for place in used])
    for stage in sorted(set(stages.tolist()), reverse=True):
        kept = np.concatenate([np.ones(classes.shape[1], bool), stages <= stage])
        found = _solve(grams, moments, kept)
        slopes[:, stages <= stage] = found[:, classes.shape[1] :]
    slopes *= spans[used]
    of_all, replicates = slopes[0], slopes[1:]
    frequency = np.array([]) if table.frequency is None else table.frequency[class_ids]
    between = can_tell(frequency)
    level = 1 - (1 - FAMILY_LEVEL) / (len(used) + between)
    half = special.stdtrit(max(1, images - 1), (1 + level) / 2) * replicates.std(axis=0, ddof=1)
    rows: list[tuple[object, ...]] = []
    for place, factor in enumerate(used.tolist()):
        effect, own = float(of_all[place]), replicates[:, place]
        stable = float(np.mean((np.sign(own) == np.sign(effect)) & (np.abs(own) >= abs(effect) / 2)))
        values = np.nanquantile(table.factors[:, factor], (0.1, 0.9))
        alone = _alone(classes, ranks[:, factor], table.iou) * spans[factor]
        numbers = (*_with_interval(effect, float(half[place])), alone, stable)
        rows.append((table.of[factor].name, *values.tolist(), *numbers, _is_reason(*numbers), count, images))
    if between:
        chosen = generator.multinomial(len(class_ids), np.full(len(class_ids), 1 / len(class_ids)), resamples)
        levels = found[0, : len(class_ids)]
        effect, width, stable = effect_between_classes(frequency, levels, level=level, draws=chosen)
        means = np.asarray(np.linalg.lstsq(classes, table.iou, rcond=None)[0], np.float64)[: len(class_ids)]
        alone = effect_between_classes(frequency, means, level=level, draws=chosen)[0]
        numbers = (*_with_interval(effect, width), alone, stable)
        values = np.quantile(frequency, (0.1, 0.9))
        rows.append((FREQUENCY.name, *values.tolist(), *numbers, _is_reason(*numbers), count, images))
    return rows


def _with_interval(effect: float, half: float) -> tuple[float, float, float]:
    return effect, effect - half, effect + half


def _is_reason(effect: float, low: float, high: float, alone: float, stable: float) -> bool:
    """Whether an effect is large, beyond chance and stable at once."""
    return bool(abs(effect) >= LEAST_EFFECT and (low > 0 or high < 0) and stable >= STABLE_SHARE)


def why_no_frequency(table: ComponentTable | None) -> tuple[str, ...]:
    """Why the frequency of classes, which is known, is not compared, as one sentence; nothing where it is."""
    if table is None or table.frequency is None or can_tell(table.frequency[_class_columns(table.class_id)[1]]):
        return ()
    return (
        f"The frequency of the class in training is not compared: it takes {LEAST_CLASSES} classes of different "
        f"frequency with {LEAST_OF_CLASS} components each.",
    )


def curve_frame(tables: Mapping[str, ComponentTable], *, resamples: int = RESAMPLES, seed: int = 0) -> pd.DataFrame:
    """The table `factor_curves`: mean IoU of the components in each fifth of a factor, with 95% intervals over images.

    Args:
        tables: By label (`component_tables`).
        resamples: Replicates of the bootstrap.
        seed: Of its draws.
    """
    rows = [(label, *row) for label, table in tables.items() for row in _curves(table, resamples=resamples, seed=seed)]
    return pd.DataFrame(rows, columns=list(CURVE_COLUMNS))


def _curves(table: ComponentTable, *, resamples: int, seed: int) -> list[tuple[object, ...]]:
    images = int(table.image.max()) + 1 if len(table.image) else 0
    if images < LEAST_IMAGES:
        return []
    draws = np.random.default_rng(seed).multinomial(images, np.full(images, 1 / images), resamples)
    rows: list[tuple[object, ...]] = []
    for place, factor in enumerate(table.of):
        values = table.factors[:, place]
        if not np.isfinite(values).any():
            continue  # nobody knows which bands are red, green and blue
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


def mid_ranks(factors: Floats) -> tuple[Floats, Floats]:
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


def _class_columns(class_id: Integers) -> tuple[Floats, Integers]:
    """One column of ones for each class, and which these are; rare ones share the last column."""
    present, place, counts = np.unique(class_id, return_inverse=True, return_counts=True)
    common = counts >= LEAST_OF_CLASS
    column = np.where(common, np.cumsum(common) - 1, common.sum())
    of_row = column[place]
    columns = np.zeros((len(class_id), int(of_row.max(initial=-1)) + 1))
    columns[np.arange(len(class_id)), of_row] = 1
    return columns[:, columns.any(axis=0)], present[common]


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
