"""What a sweep ranks its trials by: measures, which way is better, and where they come from."""

from __future__ import annotations

import dataclasses
import difflib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from trainables.errors import DataError, UsageError
from trainables.metrics import (
    METRICS,
    OF_MODEL,
    Direction,
    Measure,
    Metric,
    all_metrics,
    class_key,
    class_measure,
    class_metric,
    has_classes,
    split_key,
)

if TYPE_CHECKING:
    from sweep.manifest import SweepManifest


@dataclass(frozen=True)
class Objective:
    """A measure that ranks.

    Attributes:
        key: Name on the command line, in the manifest and among a trial's metrics, such as `val/miou` or `params`.
        metric: What is measured and how it is written.
    """

    key: str
    metric: Measure

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

    def turned(self, direction: Direction) -> Objective:
        """The same, ranked in a direction."""
        return dataclasses.replace(self, metric=dataclasses.replace(self.metric, direction=direction))


@dataclass(frozen=True)
class SplitObjective(Objective):
    """An objective that can be measured on any split, on images that are drawn again as well."""

    metric: Metric


DEFAULT = str(METRICS.get("iou").key)
DEAD_MARGIN = 0.001
"""A score no more than this above that of the commonest class everywhere shows that nothing was learnt."""
CLASS = "CLASS"
"""Stands for a class in messages and help."""


def objectives() -> dict[str, SplitObjective]:
    """By name, the default first: every metric of all classes that trials report."""
    found = {one.key: one for one in all_metrics() if one.key is not None}
    return {key: SplitObjective(key, found[key]) for key in sorted(found, key=lambda key: key != DEFAULT)}


def model_objectives() -> dict[str, Objective]:
    """By name: what a model costs, whatever it predicts."""
    return {measure.name: Objective(measure.name, measure) for measure in OF_MODEL}


def forms() -> list[str]:
    """Everything that `--objective` takes, as messages and help write it."""
    return [*objectives(), *class_forms(), *model_objectives()]


def class_forms(class_name: str = CLASS) -> list[str]:
    """How metrics of a single class are written, such as `val/iou[CLASS]`."""
    return [class_key(metric, class_name) for metric in all_metrics() if has_classes(metric)]


def objective_of(key: str) -> Objective:
    """The objective of this name; of which class it is, in `val/iou[person]`, stays open until `on_classes`.

    Raises:
        UsageError: If there is none; with the close ones.
    """
    known: dict[str, Objective] = {**objectives(), **model_objectives()}
    if key in known:
        return known[key]
    of_class = split_key(key)
    if of_class is not None:
        return Objective(key, class_measure(*of_class))
    meant = key.partition("[")[2].removesuffix("]")
    names = class_forms(meant) if meant else forms()
    close = difflib.get_close_matches(key, names, n=2, cutoff=0.4)
    told = f"did you mean {close[0]}?" if close else f"known: {', '.join(names)}"
    raise UsageError(f"unknown objective {key!r}; {told}")


def on_classes(objective: Objective, classes: Sequence[str]) -> Objective:
    """An objective on a data set: a metric of one class finds it, any other stays as it is.

    Args:
        objective: By its name.
        classes: Of the data set, by class id.

    Raises:
        UsageError: If it is about a class that the data set has not; with the close ones.
    """
    of_class = split_key(objective.key)
    return objective if of_class is None else SplitObjective(objective.key, class_metric(*of_class, classes))


def objective_faults(keys: Sequence[str]) -> list[str]:
    """What is wrong with the objectives of a command, each in a sentence."""
    faults = [f"--objective {key} is given twice" for key in dict.fromkeys(keys) if keys.count(key) > 1]
    for key in dict.fromkeys(keys):
        try:
            objective_of(key)
        except UsageError as error:
            faults.append(str(error))
    if keys and keys[0] in model_objectives():
        faults.append(
            f"--objective {keys[0]} does not depend on training, so that it cannot come first: trials are stopped and "
            f"confirmed by the first objective; give --objective {DEFAULT} --objective {keys[0]}"
        )
    return faults


def recorded_objective(manifest: SweepManifest) -> SplitObjective:
    """The objective that a sweep ranked its trials by, in the direction that it ranked them.

    Raises:
        DataError: If no such metric is known.
    """
    first = recorded_objectives(manifest)[0]
    if not isinstance(first, SplitObjective):
        raise DataError(f"the sweep {manifest.name} was ranked by {first.key}, which is not measured on images")
    return first


def recorded_objectives(manifest: SweepManifest) -> tuple[Objective, ...]:
    """All objectives of a sweep; the first is the one that trials were stopped and confirmed by.

    Raises:
        DataError: If one is not known.
    """
    classes = [info.name for info in manifest.data.classes]
    recorded = [(manifest.objective, manifest.direction)]
    recorded += [(one.key, one.direction) for one in manifest.further_objectives]
    found = []
    for key, direction in recorded:
        try:
            found.append(on_classes(objective_of(key), classes).turned(direction))
        except UsageError as error:
            raise DataError(
                f"the sweep {manifest.name} was ranked by {key}, which this version does not know ({error}): read the "
                "run with the version that wrote it"
            ) from error
    return tuple(found)
