"""What a metric is, and the registry that columns, intervals, tables, objectives and conformance tests read.

Adding a metric is one registered function: it is then a column of `comparison` with its interval, a column of
`per_class` if it has values of single classes, and an objective if trials report it.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol, TypeVar

import numpy as np

from trainables.metrics.arrays import (
    Confusions,
    Counts,
    Floats,
    Margins,
    margins,
    mean_over_split_classes,
    weighted_sum,
)
from trainables.registry import Registry

MATRIX_VALUES = 2**25
"""Of replicates' confusion matrices that are worked on at once: 256 MiB."""

Needs = Literal["confusion", "scores", "regions"]
"""A collector: `PerImageConfusion`, `ScoreHistogram`, `RegionConfidence`."""

Direction = Literal["max", "min"]

VAL = "val/"
"""Begins the names of what trials report of the val split."""

MatrixFunction = TypeVar("MatrixFunction", bound=Callable[[Any], Floats])


class Collected(Protocol):
    """What the collectors kept of a split of N images and C classes."""

    @property
    def confusions(self) -> Confusions:
        """Confusion matrices of shape (N, C, C)."""

    @property
    def confidence(self) -> Floats:
        """Confidences of predicted regions, shape (N, C)."""

    def histograms(self, class_id: int) -> Counts:
        """Score histograms of one class in each image, shape (N, 2, SCORE_LEVELS)."""

    def histogram_blocks(self, class_id: int) -> Iterable[Counts]:
        """The same, some images at a time in their order: those of all images need not be in memory at once."""

    def score_totals(self, class_id: int) -> Counts:
        """Score histogram of one class over all images, shape (2, SCORE_CELLS)."""


@dataclass(frozen=True)
class Replicates:
    """A split R times, each time with other weights of its images.

    Attributes:
        collected: Of the split.
        weights: How often each image counts, shape (R, N); once each is the split itself.
    """

    collected: Collected
    weights: Floats

    @functools.cached_property
    def split(self) -> Counts:
        """Confusion matrix of the split, every image once, shape (C, C)."""
        return np.asarray(self.collected.confusions.sum(axis=0))

    @functools.cached_property
    def matrices(self) -> Floats:
        """Confusion matrices of the replicates, shape (R, C, C)."""
        return weighted_sum(self.weights, self.collected.confusions)

    @functools.cached_property
    def margins(self) -> Margins:
        """Those of the replicates' matrices, each of shape (R, C): they need no matrix of a replicate."""
        return Margins(*(weighted_sum(self.weights, of_images) for of_images in margins(self.collected.confusions)))

    def blocks(self) -> Iterator[Floats]:
        """The matrices of the replicates, so many at a time that they fit into `MATRIX_VALUES`."""
        most = max(1, MATRIX_VALUES // max(1, math.prod(self.collected.confusions.shape[1:])))
        if len(self.weights) <= most:
            yield self.matrices
            return
        for start in range(0, len(self.weights), most):
            yield weighted_sum(self.weights[start : start + most], self.collected.confusions)


def show_proportion(value: float) -> str:
    """A number in 0 .. 1 as tables show it."""
    return f"{value:.4f}"


@dataclass(frozen=True, kw_only=True)
class Measure:
    """A number by which models are told apart.

    Attributes:
        name: Its column in the table `comparison`.
        words: What sentences call it.
        definition: Where it is defined: a file of the repository and an anchor in it, or an address.
        direction: `max`: the higher the better, or `min`.
        bounds: Its lowest and its highest value.
        show: Writes a value in a table or on a terminal.
    """

    name: str
    words: str
    definition: str
    direction: Direction = "max"
    bounds: tuple[float, float] = (0.0, 1.0)
    show: Callable[[float], str] = show_proportion

    @property
    def best(self) -> float:
        """The best value that there is."""
        return self.bounds[1] if self.direction == "max" else self.bounds[0]


@dataclass(frozen=True, kw_only=True)
class Metric(Measure):
    """A measure of what a model predicts on a split; its best value is that of a perfect prediction.

    Attributes:
        needs: The collectors that it needs. Trials run the one of `confusion` alone.
        of_replicates: Its value in each replicate, shape (R,). A class of the split that a replicate lost is left out
            of a mean over classes (`mean_over_split_classes`).
        of_classes: Its value for each class of the split, shape (C,), NaN where a class has none; None for a metric
            that has one number for all classes.
        class_words: What the value of a class is called, at the start of a sentence.
        reported_as: Its name among what trials report, behind `val/`; None if they do not report it.
        over_classes: Whether it is a mean over classes, so that a class that few images have decides how sure it is.
        of_predictions: Whether what is predicted as a class is what its value is a share of, as in precision.
        class_id: Of the class that it is about alone; None where it is about all.
    """

    needs: frozenset[Needs]
    of_replicates: Callable[[Replicates], Floats]
    of_classes: Callable[[Collected], Floats] | None = None
    class_words: str = ""
    reported_as: str | None = None
    over_classes: bool = True
    of_predictions: bool = False
    class_id: int | None = None

    def __post_init__(self) -> None:
        """Refuses what cannot be computed or written.

        Raises:
            ValueError: If trials cannot report it, or the value of a class has no words.
        """
        if self.reported_as and self.needs != {"confusion"}:
            raise ValueError(f"metric {self.name}: trials collect the confusion matrix alone, so it has no reported_as")
        if (self.of_classes is None) != (not self.class_words):
            raise ValueError(f"metric {self.name}: of_classes and class_words go together")

    def __call__(self, replicates: Replicates) -> Floats:
        """Its value in each replicate, shape (R,)."""
        return self.of_replicates(replicates)

    @property
    def key(self) -> str | None:
        """What trials report it as, such as `val/miou`; None if they do not."""
        return None if self.reported_as is None else f"{VAL}{self.reported_as}"


METRICS: Registry[Metric] = Registry("metric")
"""Every metric, in the order of the columns."""


def register(metric: Metric) -> Metric:
    """Registers a metric under its name.

    Raises:
        ValueError: If the name is taken.
    """
    return METRICS.register(metric.name)(metric)


def all_metrics() -> list[Metric]:
    """Every registered metric, in the order of the columns."""
    return [METRICS.get(name) for name in METRICS]


def confusion_metric(
    name: str,
    *,
    words: str,
    definition: str,
    class_words: str = "",
    reported_as: str | None = None,
    direction: Direction = "max",
    bounds: tuple[float, float] = (0.0, 1.0),
    show: Callable[[float], str] = show_proportion,
    of_predictions: bool = False,
    of_margins: bool = False,
) -> Callable[[MatrixFunction], MatrixFunction]:
    """Registers a function of confusion matrices, shape (..., C, C), as a metric; see `Metric` for the arguments.

    With `class_words` the function gives one value per class, shape (..., C), and the metric is their mean; without,
    it gives one number for all classes, shape (...). With `of_margins` it takes `Margins` as well, as all do that read
    a matrix by `margins` alone: with many classes that is much less memory and time.
    """

    def decorate(function: MatrixFunction) -> MatrixFunction:
        register(
            Metric(
                name=name,
                words=words,
                definition=definition,
                needs=frozenset({"confusion"}),
                of_replicates=functools.partial(_class_mean if class_words else _whole, function, of_margins),
                of_classes=functools.partial(_of_classes, function) if class_words else None,
                class_words=class_words,
                reported_as=reported_as,
                direction=direction,
                bounds=bounds,
                show=show,
                over_classes=bool(class_words),
                of_predictions=of_predictions,
            )
        )
        return function

    return decorate


def _whole(function: Callable[[Any], Floats], of_margins: bool, replicates: Replicates) -> Floats:
    if of_margins:
        return function(replicates.margins)
    return np.concatenate([function(matrices) for matrices in replicates.blocks()])


def _class_mean(function: Callable[[Any], Floats], of_margins: bool, replicates: Replicates) -> Floats:
    split = replicates.split
    in_split, of_split = split.sum(axis=1) > 0, function(split)
    if of_margins:
        own = replicates.margins
        return mean_over_split_classes(function(own), own.truth > 0, in_split, of_split)
    means = [
        mean_over_split_classes(function(matrices), matrices.sum(axis=-1) > 0, in_split, of_split)
        for matrices in replicates.blocks()
    ]
    return np.concatenate(means)


def _of_classes(function: Callable[[Any], Floats], collected: Collected) -> Floats:
    return function(collected.confusions.sum(axis=0))


@dataclass(frozen=True)
class ConfusionsAlone:
    """What a trial collects, shape (N, C, C); asking for more is a fault of the metric, whose `needs` say otherwise."""

    confusions: Confusions

    @property
    def confidence(self) -> Floats:
        """Not collected."""
        raise TypeError("a trial collects the confusion matrix alone: a metric with reported_as cannot need regions")

    def histograms(self, class_id: int) -> Counts:
        """Not collected."""
        raise TypeError("a trial collects the confusion matrix alone: a metric with reported_as cannot need scores")

    def histogram_blocks(self, class_id: int) -> Iterable[Counts]:
        """Not collected."""
        return [self.histograms(class_id)]

    def score_totals(self, class_id: int) -> Counts:
        """Not collected."""
        return self.histograms(class_id)


def summary(matrix: Counts, further: Sequence[Metric] = ()) -> dict[str, float]:
    """What a trial reports: every metric that has a `key`, by it.

    Args:
        matrix: One confusion matrix over the whole split, shape (C, C).
        further: Metrics beside those of the registry, such as those of one class.
    """
    split = Replicates(ConfusionsAlone(np.asarray(matrix)[None]), np.ones((1, 1)))
    metrics = (*all_metrics(), *further)
    return {metric.key: float(metric(split)[0]) for metric in metrics if metric.key is not None}
