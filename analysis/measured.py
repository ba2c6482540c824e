"""What one or more predictions did on the images of a split: what a sweep's results and the scores of masks share."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from analysis.failures.kinds import Kinds
from trainables.data.base import ClassInfo
from trainables.labels import BASELINE, BEST


@dataclass(frozen=True)
class Measured:
    """The tables of predictions by their labels.

    Attributes:
        split: What the images are called: `test`, `val`.
        classes: By class id.
        labels: The predictions; the values say more of each.
        kinds: Which classes are background, stuff and things.
        per_class: One row per label and class.
        iou_thresholds: One row per label and threshold.
        failures: One row per failing (label, image, class); columns `failures.measure.COLUMNS`.
        component_failures: One row per component that fails or is invented; columns `failures.split.COMPONENT_COLUMNS`.
        error_types: What each label loses to each type of error; columns `failures.split.TYPE_COLUMNS`.
        error_types_per_class: The same for each class; columns `failures.split.CLASS_TYPE_COLUMNS`.
        error_types_per_image: The same for each image; columns `failures.split.IMAGE_TYPE_COLUMNS`.
        factors: What goes with a low IoU of components; columns `failures.reasons.EFFECT_COLUMNS`.
        factor_curves: Mean IoU of components along each factor; columns `failures.reasons.CURVE_COLUMNS`.
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

    def told(self, label: str) -> str:
        """What sentences call a label."""
        return label
