"""A metric of a single class, such as `val/iou[person]`: by its key, before and after the classes are known."""

from __future__ import annotations

import difflib
import functools
import re
from collections.abc import Iterable, Sequence

import numpy as np

from trainables.errors import UsageError
from trainables.metrics.arrays import Floats
from trainables.metrics.registry import VAL, ConfusionsAlone, Measure, Metric, Replicates, all_metrics
from trainables.words import some_of

_KEY = re.compile(rf"{VAL}(?P<metric>[^\[]+)\[(?P<class_name>.+)\]", re.DOTALL)
"""A class's name may hold brackets itself: it ends at the last one."""
_NAMED = 12
"""How many classes a message names."""


def class_key(metric: Metric, class_name: str) -> str:
    """What a metric of one class is reported as, such as `val/iou[person]`."""
    return f"{VAL}{metric.name}[{class_name}]"


def has_classes(metric: Metric) -> bool:
    """Whether trials can report a metric's value for a single class."""
    return metric.key is not None and metric.of_classes is not None


def split_key(key: str) -> tuple[Metric, str] | None:
    """The metric and the class of a key such as `val/iou[person]`; None if it is no such key."""
    found = _KEY.fullmatch(key)
    named = [one for one in all_metrics() if has_classes(one) and found and one.name == found["metric"]]
    return (named[0], found["class_name"]) if found and named else None


def class_measure(metric: Metric, class_name: str) -> Measure:
    """What is known of a metric of one class before it is known which of the classes that is."""
    return Measure(
        name=f"{metric.name}[{class_name}]",
        words=f"{class_name} {_within_a_sentence(metric.class_words)}",
        definition=metric.definition,
        direction=metric.direction,
        bounds=metric.bounds,
        show=metric.show,
    )


def class_metric(metric: Metric, class_name: str, classes: Sequence[str]) -> Metric:
    """A metric that is the value of one class alone.

    A replicate of the split without a pixel of the class, where the split has some, has no value (NaN).

    Args:
        metric: With values of classes, which trials report.
        class_name: Of the class.
        classes: Names by class id.

    Raises:
        UsageError: If there is no such class; with the close ones.
    """
    if class_name not in classes:
        close = difflib.get_close_matches(class_name.lower(), {name.lower() for name in classes}, n=2, cutoff=0.5)
        meant = [name for name in classes if name.lower() in close]
        hint = f"did you mean {' or '.join(map(repr, meant))}?" if meant else f"it has: {some_of(classes, _NAMED)}"
        raise UsageError(f"{class_key(metric, class_name)}: the data set has no class {class_name!r}; {hint}")
    told = class_measure(metric, class_name)
    return Metric(
        name=told.name,
        words=told.words,
        definition=told.definition,
        direction=told.direction,
        bounds=told.bounds,
        show=told.show,
        needs=frozenset({"confusion"}),
        of_replicates=functools.partial(_of_class, metric, classes.index(class_name)),
        reported_as=told.name,
        of_predictions=metric.of_predictions,
        class_id=classes.index(class_name),
    )


def class_metrics(keys: Iterable[str], classes: Sequence[str]) -> list[Metric]:
    """The metrics of single classes among some keys.

    Args:
        keys: Of what trials report; those of other things are passed over.
        classes: Names by class id.

    Raises:
        UsageError: As `class_metric`.
    """
    found = [pair for key in keys if (pair := split_key(key)) is not None]
    return [class_metric(metric, class_name, classes) for metric, class_name in found]


def _within_a_sentence(words: str) -> str:
    """`Precision` as `precision`; `IoU` and `F1` stay."""
    return words.lower() if words[1:].islower() else words


def _of_class(metric: Metric, class_id: int, replicates: Replicates) -> Floats:
    of_classes = metric.of_classes
    assert of_classes is not None  # `split_key` finds no other
    found = []
    for matrices in replicates.blocks():
        values = np.array([of_classes(ConfusionsAlone(matrix[None]))[class_id] for matrix in matrices], np.float64)
        is_lost = (matrices[:, class_id].sum(axis=-1) == 0) & (replicates.split[class_id].sum() > 0)
        found.append(np.where(is_lost, np.nan, values))
    return np.concatenate(found)
