"""What one or more predictions did on the images of a split: what a sweep's results and the scores of masks share."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from analysis.failures.kinds import Kinds
from trainables.data.base import ClassInfo
from trainables.labels import BASELINE, BEST
from trainables.metrics import METRICS, Metric


class Evidence(Enum):
    """What a statement rests on."""

    RECORD = "on record"
    """What the run wrote down: no inference."""
    ONE_CHECKPOINT = "one checkpoint each"
    """Holds for these weights; another seed may reverse it."""
    FRESH_SEEDS = "fresh seeds"
    """Holds for configurations: several seeds of each, and the images, are accounted for."""
    ABLATION = "ablation"
    """Holds for a component of a configuration."""
    MASKS = "these masks"
    """Holds for these masks on images like these; how they were made is not known."""


@dataclass(frozen=True)
class Measured:
    """The tables of predictions by their labels.

    Attributes:
        split: What the images are called: `test`, `val`.
        classes: By class id.
        labels: The predictions; the values say more of each.
        kinds: Which classes are background, stuff and things.
        per_class: One row per label and class; of a sweep, columns `comparison.per_class_columns()`.
        iou_thresholds: One row per label and threshold; of a sweep, columns `comparison.THRESHOLD_COLUMNS`.
        failures: One row per failing (label, image, class); columns `failures.measure.COLUMNS`.
        component_failures: One row per component that fails or is invented; columns `failures.split.COMPONENT_COLUMNS`.
        error_types: What each label loses to each type of error; columns `failures.split.TYPE_COLUMNS`.
        error_types_per_class: The same for each class; columns `failures.split.CLASS_TYPE_COLUMNS`.
        error_types_per_image: The same for each image; columns `failures.split.IMAGE_TYPE_COLUMNS`.
        factors: What goes with a low IoU of components; columns `failures.reasons.EFFECT_COLUMNS`.
        factor_curves: Mean IoU of components along each factor; columns `failures.reasons.CURVE_COLUMNS`.
        unmeasured: Which factors could not be measured and why, one sentence each.
        slices: Components with things in common that lose more than their share; columns
            `failures.slices.SLICE_COLUMNS`.
        component_changes: Components that fail under one of the pair; columns `failures.changes.CHANGE_COLUMNS`.
        type_changes: mIoU that the pair loses to each type; columns `failures.changes.TYPE_CHANGE_COLUMNS`.
    """

    split: str
    classes: tuple[ClassInfo, ...]
    labels: Mapping[str, Any]
    kinds: Kinds
    per_class: pd.DataFrame
    iou_thresholds: pd.DataFrame
    failures: pd.DataFrame
    component_failures: pd.DataFrame
    error_types: pd.DataFrame
    error_types_per_class: pd.DataFrame
    error_types_per_image: pd.DataFrame
    factors: pd.DataFrame
    factor_curves: pd.DataFrame
    unmeasured: tuple[str, ...]
    slices: pd.DataFrame
    component_changes: pd.DataFrame
    type_changes: pd.DataFrame

    @property
    def chief(self) -> str:
        """The label that sentences are about: the winner where there is one."""
        return BEST if BEST in self.labels else next(iter(self.labels))

    @property
    def pair(self) -> tuple[str, str]:
        """The labels that the tables of changes compare: before and after."""
        return BASELINE, BEST

    @property
    def prediction_keys(self) -> dict[str, str]:
        """Which prediction each label is; two labels may be one."""
        return {label: label for label in self.labels}

    @property
    def evidence(self) -> Evidence:
        """What sentences about single predictions rest on."""
        return Evidence.ONE_CHECKPOINT

    @property
    def prediction_word(self) -> str:
        """What one prediction is."""
        return "checkpoint"

    @property
    def names(self) -> str:
        """All names that figures hold, as one text: their letters decide which fonts are needed."""
        return " ".join((*self.labels, *map(self.told, self.labels), *(info.name for info in self.classes)))

    @property
    def images_word(self) -> str:
        """What the images are called that it was measured on."""
        return f"{self.split} images"

    @property
    def units(self) -> str:
        """What intervals leave out or draw again: `images`, or `groups` where images come in groups."""
        return "images"

    @property
    def class_metric(self) -> Metric:
        """What classes are compared by."""
        return METRICS.get("iou")

    def confusion(self, label: str) -> npt.NDArray[np.int64]:
        """The confusion matrix of a label over all images: rows truth, columns prediction, shape (C, C)."""
        raise NotImplementedError

    def told(self, label: str) -> str:
        """What sentences call a label."""
        return label
