"""Labels that learnt nothing: no result of theirs is compared."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from analysis.kept import Evaluation
from sweep.objectives import DEAD_MARGIN
from trainables.labels import MAJORITY
from trainables.metrics import iou, mean_over_classes


@dataclass(frozen=True)
class Dead:
    """Why a label is dead on a split.

    Attributes:
        only_class: Id of the class that it predicts everywhere, or None if it predicts several.
        iou: Its mIoU.
        floor: That of `majority`.
    """

    only_class: int | None
    iou: float
    floor: float


def find_dead(confusion: npt.NDArray[np.integer], floor: float) -> Dead | None:
    """Whether a model learnt nothing: it predicts one class everywhere, or stands at the floor.

    Args:
        confusion: Of the whole split, shape (C, C), rows truth.
        floor: mIoU of `majority` on the split.
    """
    score = float(mean_over_classes(iou(confusion)))
    predicted = np.flatnonzero(confusion.sum(axis=0))
    if len(predicted) == 1:
        return Dead(int(predicted[0]), score, floor)
    return Dead(None, score, floor) if score - floor <= DEAD_MARGIN else None


def dead_labels(trial_ids: Mapping[str, str], evaluations: Mapping[str, Evaluation]) -> dict[str, Dead]:
    """The labels that learnt nothing, and why.

    Args:
        trial_ids: Trial id of each label.
        evaluations: By trial id, and `majority`.
    """
    floor = float(mean_over_classes(iou(evaluations[MAJORITY].confusions.sum(axis=0))))
    found = {label: find_dead(evaluations[one].confusions.sum(axis=0), floor) for label, one in trial_ids.items()}
    return {label: dead for label, dead in found.items() if dead is not None}
