"""Labels that learnt nothing, which are compared with nothing; and how far the others stand above the floor."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from analysis.kept import Evaluation
from analysis.scores import Classes, metric_statistic, units_of, why_no_interval
from analysis.statistics import paired_interval
from sweep.floor import LOSS, never_fell
from sweep.objectives import DEAD_MARGIN, SplitObjective
from trainables.labels import MAJORITY
from trainables.metrics import iou, mean_over_classes
from trainables.record import TrialRecord


@dataclass(frozen=True)
class Dead:
    """Why a label is dead on a split.

    Attributes:
        only_class: Id of the class that it predicts everywhere, or None if it predicts several.
        iou: Its mIoU.
        floor: That of `majority`.
        losses: The first epoch's training loss and the lowest one after it, where it never fell; else None.
    """

    only_class: int | None
    iou: float
    floor: float
    losses: tuple[float, float] | None = None


def find_dead(confusion: npt.NDArray[np.integer], floor: float, losses: Sequence[float] = ()) -> Dead | None:
    """Whether a model learnt nothing: it predicts one class everywhere, stands at the floor, or its loss never fell.

    Args:
        confusion: Of the whole split, shape (C, C), rows truth.
        floor: mIoU of `majority` on the split.
        losses: Training loss of each epoch.
    """
    score = float(mean_over_classes(iou(confusion)))
    predicted = np.flatnonzero(confusion.sum(axis=0))
    if len(predicted) == 1:
        return Dead(int(predicted[0]), score, floor)
    if score - floor <= DEAD_MARGIN:
        return Dead(None, score, floor)
    flat = never_fell(losses)
    return None if flat is None else Dead(None, score, floor, flat)


def dead_labels(
    trial_ids: Mapping[str, str],
    evaluations: Mapping[str, Evaluation],
    losses: Mapping[str, Sequence[float]] | None = None,
) -> dict[str, Dead]:
    """The labels that learnt nothing, and why.

    Args:
        trial_ids: Trial id of each label.
        evaluations: By trial id, and `majority`.
        losses: Training loss of each epoch, by label.
    """
    floor = float(mean_over_classes(iou(evaluations[MAJORITY].confusions.sum(axis=0))))
    found = {
        label: find_dead(evaluations[one].confusions.sum(axis=0), floor, (losses or {}).get(label, ()))
        for label, one in trial_ids.items()
    }
    return {label: dead for label, dead in found.items() if dead is not None}


def epoch_losses(record: TrialRecord) -> list[float]:
    """Training loss of each epoch of a checkpoint, the epochs of the trial that it continued included."""
    return [float(entry["metrics"][LOSS]) for entry in record.history if LOSS in entry["metrics"]]


@dataclass(frozen=True)
class AboveFloor:
    """A checkpoint beside `majority`, by the sweep's objective.

    Attributes:
        label: Of the checkpoint.
        score: Of it.
        floor: Of `majority`.
        low: Lower bound of the 95% interval of their difference, on the same images; NaN where none is given.
        high: Upper bound.
    """

    label: str
    score: float
    floor: float
    low: float = math.nan
    high: float = math.nan


def above_floor(
    label: str,
    evaluation: Evaluation,
    floor: Evaluation,
    objective: SplitObjective,
    *,
    picked: bool,
    classes: Classes | None = None,
) -> AboveFloor:
    """How far a checkpoint stands above the commonest class everywhere.

    Args:
        label: Of the checkpoint.
        evaluation: Of it.
        floor: Of `majority`, on the same images.
        objective: What is compared.
        picked: Whether the checkpoint was chosen by its score on these images: then there is no interval.
        classes: Of the data set.
    """
    first, second = (metric_statistic(one, objective.metric) for one in (evaluation, floor))
    once = np.ones((1, len(evaluation.image_ids)))
    told = AboveFloor(label, float(first(once)[0]), float(second(once)[0]))
    if picked or why_no_interval(objective.metric, evaluation, classes=classes):
        return told
    interval = paired_interval(first, second, units_of(evaluation))
    return replace(told, low=float(interval.low), high=float(interval.high))
