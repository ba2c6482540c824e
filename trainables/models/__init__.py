"""Segmentation models by name: `MODELS`, `build_model`, and what must be known before building one."""

from __future__ import annotations

from trainables.models.architectures import MODELS
from trainables.models.base import WEIGHTS, SegmentationModel
from trainables.models.build import (
    build_model,
    ensure_weights,
    min_train_batch,
    parameter_count,
    predefined_categories,
)
from trainables.models.heads import HEADS, Head

__all__ = [
    "HEADS",
    "MODELS",
    "WEIGHTS",
    "Head",
    "SegmentationModel",
    "build_model",
    "ensure_weights",
    "min_train_batch",
    "parameter_count",
    "predefined_categories",
]
