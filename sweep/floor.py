"""The score of a model that has learnt nothing: one class everywhere. No label below it is called a result."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from sweep.objectives import DEAD_MARGIN, SplitObjective
from trainables.metrics import summary


def constant_scores(
    pixels: npt.NDArray[np.int64], class_id: int, objective: SplitObjective | None = None
) -> dict[str, float]:
    """Metrics of predicting one class everywhere.

    Args:
        pixels: Of each class in the truth of a split, shape (C,), void left out.
        class_id: The class that is predicted.
        objective: What a sweep ranks by, which may be a metric of one class.

    Returns:
        `val/miou` and the others that a trial reports.
    """
    confusion = np.zeros((len(pixels), len(pixels)), np.int64)
    confusion[:, class_id] = pixels
    return summary(confusion, [objective.metric] if objective is not None else [])


def why_dead(
    metrics: Mapping[str, float],
    *,
    objective: SplitObjective,
    classes: Sequence[str],
    train_pixels: npt.NDArray[np.int64],
    val_pixels: npt.NDArray[np.int64],
) -> str:
    """Why a trial learnt nothing, in words; empty if it did learn.

    Args:
        metrics: Of its last epoch.
        objective: What it is ranked by.
        classes: Names by class id.
        train_pixels: Of each class in train, shape (C,).
        val_pixels: Of each class in val, shape (C,).
    """
    for class_id, name in enumerate(classes):
        scores = constant_scores(val_pixels, class_id)
        if all(abs(metrics.get(key, np.inf) - value) < 1e-9 for key, value in scores.items()):
            return f"predicts {name} everywhere"
    commonest = int(np.argmax(train_pixels))
    constant = constant_scores(val_pixels, commonest, objective)
    floor, score = (objective.value(each) for each in (constant, metrics))
    if floor is not None and (score is None or objective.goodness(score) <= objective.goodness(floor) + DEAD_MARGIN):
        return f"stands at the floor: {classes[commonest]} everywhere scores {floor:.4f}"
    return ""
