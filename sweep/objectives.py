"""What a sweep ranks its trials by: a metric, its direction, and where it comes from."""

from __future__ import annotations

import dataclasses
import difflib
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from trainables.errors import DataError, UsageError
from trainables.metrics import METRICS, Metric, all_metrics

if TYPE_CHECKING:
    from sweep.manifest import SweepManifest

Source = Literal["val", "model"]


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


DEFAULT = METRICS.get("iou").key
DEAD_MARGIN = 0.001
"""A score no more than this above that of the commonest class everywhere shows that nothing was learnt."""


def objectives() -> dict[str, Objective]:
    """By name, the default first: everything that `--objective` takes, which is every metric that trials report."""
    found = {one.key: one for one in all_metrics() if one.key is not None}
    return {key: Objective(key, found[key]) for key in sorted(found, key=lambda key: key != DEFAULT)}


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


def recorded_objective(manifest: SweepManifest) -> Objective:
    """The objective that a sweep ranked its trials by, in the direction that it ranked them.

    Raises:
        DataError: If no such metric is known.
    """
    known = objectives()
    if manifest.objective not in known:
        raise DataError(
            f"the sweep {manifest.name} was ranked by {manifest.objective}, which this version does not know; it knows "
            f"{', '.join(known)}: read the run with the version that wrote it"
        )
    objective = known[manifest.objective]
    return dataclasses.replace(objective, metric=dataclasses.replace(objective.metric, direction=manifest.direction))
