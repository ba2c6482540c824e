"""What a sweep ranked its trials by, as the report computes and names it."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from trainables.errors import DataError

if TYPE_CHECKING:
    from sweep.manifest import SweepManifest


@dataclass(frozen=True)
class Objective:
    """The metric that ranks.

    Attributes:
        key: Name in the manifest and among a trial's metrics, such as `val/miou`.
        column: The same metric in the table `comparison`.
        words: What sentences call it.
        class_column: Its column in the table `per_class`; IoU where the metric has no value for a single class.
        class_words: What that is called, at the start of a sentence.
        mode: `max` or `min`.
    """

    key: str
    column: str
    words: str
    class_column: str
    class_words: str
    mode: str = "max"

    def ranks(self, values: Mapping[str, float]) -> dict[str, int]:
        """Rank of each name, 1 is first; equal values share theirs, NaN has none."""
        sign = 1.0 if self.mode == "max" else -1.0
        numbers = {name: sign * value for name, value in values.items() if not math.isnan(value)}
        return {name: 1 + len({other for other in numbers.values() if other > own}) for name, own in numbers.items()}


OBJECTIVES: Mapping[str, Objective] = {
    objective.key: objective
    for objective in (
        Objective("val/miou", "iou", "mIoU", "iou", "IoU"),
        Objective("val/f1", "f1", "mean F1", "f1", "F1"),
        Objective("val/pixel_accuracy", "pixel_accuracy", "pixel accuracy", "iou", "IoU"),
        Objective("val/precision", "precision", "mean precision", "precision", "Precision"),
        Objective("val/recall", "recall", "mean recall", "recall", "Recall"),
    )
}
"""By name: everything that `--objective` takes."""


def objective_of(manifest: SweepManifest) -> Objective:
    """The objective of a sweep.

    Raises:
        DataError: If the report knows no such metric.
    """
    if manifest.objective not in OBJECTIVES:
        raise DataError(
            f"the sweep {manifest.name} was ranked by {manifest.objective}, which this report does not know; it knows "
            f"{', '.join(OBJECTIVES)}: read the run with the version that wrote it"
        )
    return dataclasses.replace(OBJECTIVES[manifest.objective], mode=manifest.mode)
