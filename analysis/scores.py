"""What each checkpoint scores on a split by every metric, and how sure that is."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from analysis.kept import Evaluation, OnStep
from analysis.statistics import MIN_GROUPS, MIN_IMAGES, Statistic, confidence_interval, enough
from trainables.metrics import (
    Confusions,
    Counts,
    Floats,
    Metric,
    Replicates,
    Units,
    all_metrics,
    margins,
    sampling_units,
)
from trainables.words import some_of


@dataclass(frozen=True)
class Score:
    """A metric of one checkpoint on a split, with its 95% interval; the bounds are NaN where none can be given."""

    value: float
    low: float
    high: float


Scores = Mapping[str, Score]
"""By name of the metric, in the order of the columns."""


MIN_CLASS_UNITS = 2
"""Images or groups that a class must occur in: where one holds all of it, how it varies is not known."""
MIN_IMAGES_OF_CLASSES = 40
"""Images that a mean over classes needs."""
MIN_UNITS_OF_PREDICTIONS = 150
"""Images or groups that a metric of what is predicted needs: a class that is seldom predicted has few that decide."""
MIN_UNITS_OF_ONE_CLASS = 20
"""Images or groups in which a class must be found for an interval of its own value."""


@dataclass(frozen=True)
class Classes:
    """What is known of a data set's classes.

    Attributes:
        names: By class id.
        learnt: Whether each occurs in train, booleans of shape (C,): other images of the same kind will show it.
    """

    names: Sequence[str]
    learnt: npt.NDArray[np.bool_]


def metric_statistic(evaluation: Evaluation, metric: Metric) -> Statistic:
    """A metric as a function of image weights of shape (R, N), giving shape (R,)."""
    return lambda weights: metric(Replicates(evaluation, weights))


def score_statistic(evaluation: Evaluation, further: Sequence[Metric] = ()) -> Statistic:
    """Every metric as a function of image weights of shape (R, N), giving shape (K, R) in the order of the columns."""

    def of_weights(weights: Floats) -> Floats:
        replicates = Replicates(evaluation, weights)
        return np.stack([metric(replicates) for metric in (*all_metrics(), *further)])

    return of_weights


def score_labels(
    evaluations: Mapping[str, Evaluation],
    *,
    further: Sequence[Metric] = (),
    classes: Classes | None = None,
    picked: Collection[str] = (),
    progress: OnStep | None = None,
) -> dict[str, Scores]:
    """Scores and intervals of every trial id.

    Args:
        evaluations: By trial id.
        further: Metrics beside those of the registry: those of one class that a sweep ranks by.
        classes: Of the data set; None where nothing is known of them.
        picked: Trials that were chosen by their scores on these images, which have no interval: it would not hold.
        progress: Told how many trials are scored.
    """
    metrics = (*all_metrics(), *further)
    scores: dict[str, Scores] = {}
    for trial_id, evaluation in evaluations.items():
        statistic = score_statistic(evaluation, further)
        values = statistic(np.ones((1, len(evaluation.image_ids))))[:, 0]
        low = high = np.full(len(values), np.nan)
        if trial_id not in picked:
            interval = confidence_interval(statistic, units_of(evaluation))
            given = [not why_no_interval(metric, evaluation, classes=classes) for metric in metrics]
            bounds = np.array([metric.bounds for metric in metrics])
            low, high = (
                np.where(given, np.clip(side, bounds[:, 0], bounds[:, 1]), np.nan)
                for side in (interval.low, interval.high)
            )
        numbers = zip(values, low, high, strict=True)
        scores[trial_id] = {
            metric.name: Score(*map(float, of_metric)) for metric, of_metric in zip(metrics, numbers, strict=True)
        }
        if progress:
            progress("intervals", len(scores), len(evaluations))
    return scores


class Measured(Protocol):
    """Confusion matrices of images, shape (N, C, C), and the group of each image, if it has one."""

    @property
    def confusions(self) -> Confusions: ...  # noqa: D102

    @property
    def groups(self) -> Sequence[str | None]: ...  # noqa: D102


def units_of(evaluation: Measured) -> Units:
    """What the intervals of an evaluation leave out: its images, or their groups."""
    return sampling_units(evaluation.groups)


def why_no_interval(metric: Metric, *evaluations: Measured, classes: Classes | None = None) -> str:
    """Why no interval of a metric, or of the difference of two checkpoints by it, can be given; empty if one can.

    Args:
        metric: Of the checkpoints.
        evaluations: Of the checkpoints, all on the same images.
        classes: Of the data set; without them classes have numbers, and none is known to be missing.
    """
    units = units_of(evaluations[0])
    if not enough(units):
        return f"{units.count} {units.name} are too few: {MIN_GROUPS if units.grouped else MIN_IMAGES} are needed"
    if not metric.over_classes:
        return ""
    needed = 0 if units.grouped else MIN_IMAGES_OF_CLASSES
    needed = MIN_UNITS_OF_PREDICTIONS if metric.of_predictions else needed
    if units.count < needed:
        return f"{units.count} {units.name} are too few for it: {needed} are needed"
    occurs = units_of_classes(units, evaluations[0].confusions.sum(axis=2))
    expected = occurs > 0 if classes is None else (occurs > 0) | classes.learnt
    few = np.flatnonzero(expected & (occurs < MIN_CLASS_UNITS)).tolist()
    if not few:
        return _why_none_of_class(metric.class_id, units, evaluations, classes)
    told = some_of([f"class {one}" if classes is None else classes.names[one] for one in few], 2)
    return f"{told} {'occurs' if len(few) == 1 else 'occur'} in fewer than {MIN_CLASS_UNITS} {units.name}"


def _why_none_of_class(
    class_id: int | None, units: Units, evaluations: Sequence[Measured], classes: Classes | None
) -> str:
    """Why the value of a class alone has no interval: the few images in which it was found decide.

    Of several checkpoints the one that finds it most often decides how sure their difference is.
    """
    if class_id is None:
        return ""
    found = max(int(units_of_classes(units, margins(one.confusions)[0])[class_id]) for one in evaluations)
    if found >= MIN_UNITS_OF_ONE_CLASS:
        return ""
    name = f"class {class_id}" if classes is None else classes.names[class_id]
    return f"{name} is found in {found} {units.name}: {MIN_UNITS_OF_ONE_CLASS} are needed"


def units_of_classes(units: Units, pixels: Counts) -> npt.NDArray[np.intp]:
    """In how many images or groups each class has pixels.

    Args:
        units: Images or groups.
        pixels: Of each class in each image, shape (N, C).
    """
    seen = np.zeros((units.count, pixels.shape[1]), dtype=bool)
    np.logical_or.at(seen, units.of_image, pixels > 0)
    return np.asarray(seen.sum(axis=0), dtype=np.intp)
