"""Models that have learnt nothing: one class everywhere, the floor, a loss that never fell. None is called a result."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from sweep.objectives import DEAD_MARGIN, SplitObjective
from trainables.metrics import summary

LOSS = "train/loss"
LEAST_FALL = 0.01
"""Share of the first epoch's training loss by which a later epoch's must be lower."""
LOSS_EPOCHS = 3
"""Fewer epochs say nothing about a loss."""


def never_fell(losses: Sequence[float]) -> tuple[float, float] | None:
    """The first epoch's training loss and the lowest one after it, if that is no lower by `LEAST_FALL` of the first.

    Args:
        losses: Mean of each epoch, in their order.
    """
    if len(losses) < LOSS_EPOCHS:
        return None
    first, lowest = losses[0], min(losses[1:])
    return (first, lowest) if first - lowest < LEAST_FALL * abs(first) else None


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
    losses: Sequence[float] = (),
    objective: SplitObjective,
    classes: Sequence[str],
    train_pixels: npt.NDArray[np.int64],
    val_pixels: npt.NDArray[np.int64],
) -> str:
    """Why a trial learnt nothing, in words; empty if it did learn.

    Args:
        metrics: Of its last epoch.
        losses: Training loss of each epoch.
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
    flat = never_fell(losses)
    if flat is not None:
        return f"has a training loss that never fell: {flat[0]:.4g} in epoch 1, {flat[1]:.4g} at the lowest after it"
    return ""
