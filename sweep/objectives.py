"""What a sweep ranks its trials by: a metric, its direction, and where it comes from."""

from __future__ import annotations

import difflib
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from trainables.errors import UsageError

Source = Literal["val", "model"]


@dataclass(frozen=True)
class Metric:
    """How a metric is called and written.

    Attributes:
        column: In the table `comparison`.
        words: What sentences call it.
        class_column: Its column in the table `per_class`; IoU where the metric has no value for a single class.
        class_words: What that is called, at the start of a sentence.
        direction: `max`: the higher the better, or `min`.
    """

    column: str
    words: str
    class_column: str
    class_words: str
    direction: Literal["max", "min"] = "max"

    def show(self, value: float) -> str:
        """The value as people read it."""
        return f"{value:.4f}"


_METRICS = {
    "miou": Metric("iou", "mIoU", "iou", "IoU"),
    "f1": Metric("f1", "mean F1", "f1", "F1"),
    "pixel_accuracy": Metric("pixel_accuracy", "pixel accuracy", "iou", "IoU"),
    "precision": Metric("precision", "mean precision", "precision", "Precision"),
    "recall": Metric("recall", "mean recall", "recall", "Recall"),
}


@dataclass(frozen=True)
class Objective:
    """The metric that ranks.

    Attributes:
        key: Name on the command line, in the manifest and among a trial's metrics, such as `val/miou`.
        metric: What is computed and how it is written.
        source: `val`: measured on the val split; `model`: of the model alone.
    """

    key: str
    metric: Metric
    source: Source = "val"

    def value(self, metrics: Mapping[str, float]) -> float | None:
        """Its value among the metrics of a trial; None if it was not reported or is not finite."""
        value = metrics.get(self.key)
        return value if value is not None and math.isfinite(value) else None

    def goodness(self, value: float) -> float:
        """The value turned so that higher is better."""
        return value if self.metric.direction == "max" else -value

    def ranks(self, values: Mapping[str, float]) -> dict[str, int]:
        """Rank of each name, 1 is first; equal values share theirs, NaN has none."""
        numbers = {name: self.goodness(value) for name, value in values.items() if not math.isnan(value)}
        return {name: 1 + len({other for other in numbers.values() if other > own}) for name, own in numbers.items()}

    def show(self, value: float) -> str:
        """The value as people read it."""
        return self.metric.show(value)


DEFAULT = "val/miou"


def objectives() -> dict[str, Objective]:
    """By name: everything that `--objective` takes, which is every metric that trials report."""
    return {f"val/{name}": Objective(f"val/{name}", metric) for name, metric in _METRICS.items()}


def objective_of(key: str) -> Objective:
    """The objective of this name.

    Raises:
        UsageError: If there is none; with the close ones.
    """
    known = objectives()
    if key not in known:
        close = difflib.get_close_matches(key, known, n=2, cutoff=0.4)
        told = f"did you mean {close[0]}?" if close else f"known: {', '.join(known)}"
        raise UsageError(f"unknown objective {key!r}; {told}")
    return known[key]
