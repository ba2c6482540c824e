"""What a sweep allows to conclude: evaluation, statistics, comparison, causes of failure, report; and its models."""

from __future__ import annotations

from typing import TYPE_CHECKING

from trainables import lazy

if TYPE_CHECKING:
    from analysis.model import TrainedModel, load_model

__all__ = ["TrainedModel", "load_model"]

__getattr__ = lazy.attributes(__name__, {"model": ["TrainedModel", "load_model"]})
