"""What each label's checkpoint is good and bad at beside the baseline's: by class, and by the size of regions.

All classes and sizes of all labels are one family, and their intervals hold at once: among many classes some difference
is always large.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from analysis.kept import Evaluation
from analysis.scores import units_of, units_of_classes
from analysis.statistics import enough, paired_family
from trainables.labels import BASELINE, BEST
from trainables.metrics import Confusions, Counts, Floats, Replicates, Units, iou

MIN_UNITS = 10
"""Images or groups in which a class, or a region of a size, must occur to be compared."""
SIZES = (("small", 0.0, 0.01), ("medium", 0.01, 0.1), ("large", 0.1, 1.01))
"""Regions by their share of the image's known pixels: from, and to below."""
CLASS, SIZE = "class", "size"
COLUMNS = (
    *("name", "kind", "what", "units", BASELINE, "score", "difference", "difference_low", "difference_high"),
    *("chance", "outcome"),
)
"""Of the table `strengths`."""


@dataclass(frozen=True)
class Strength:
    """A label's checkpoint beside the baseline's on one class, or on regions of one size.

    Attributes:
        name: Of the label.
        kind: `class` or `size`.
        what: Name of the class, or `small`, `medium`, `large`.
        units: Images or groups in which it occurs.
        baseline: IoU of the class, or mean IoU of the regions, of the baseline's checkpoint.
        score: Of the label's.
        low: Lower bound of the difference's interval; all of them hold at once.
        high: Upper bound.
        chance: Of as large a difference among this many, if none differed.
    """

    name: str
    kind: str
    what: str
    units: int
    baseline: float
    score: float
    low: float
    high: float
    chance: float

    @property
    def difference(self) -> float:
        """Label minus baseline."""
        return self.score - self.baseline

    @property
    def outcome(self) -> str:
        """`higher`, `lower`, or `undecided` where the interval holds 0."""
        return "higher" if self.low > 0 else "lower" if self.high < 0 else "undecided"


def strengths(
    trial_ids: Mapping[str, str], evaluations: Mapping[str, Evaluation], class_names: Sequence[str]
) -> list[Strength]:
    """Compares every label's checkpoint with the baseline's, class by class and size by size.

    Args:
        trial_ids: Trial id of each label that learnt something; without the baseline nothing is compared.
        evaluations: By trial id, all on the same images.
        class_names: By class id.

    Returns:
        Label by label, classes before sizes. Nothing on val, which chose the labels, or where there are too few images.
    """
    if BASELINE not in trial_ids:
        return []
    fixed = trial_ids[BASELINE]
    names: dict[str, list[str]] = {}
    for label, trial_id in trial_ids.items():
        names.setdefault(trial_id, []).append(label)
    others = [trial_id for trial_id in names if trial_id != fixed]
    first = evaluations[fixed]
    units = units_of(first)
    if not others or first.split == "val" or not enough(units):
        return []
    parts = _parts(first, units, class_names)
    if not parts:
        return []
    classes = [part.place for part in parts if part.kind == CLASS]
    sizes = [part.place for part in parts if part.kind == SIZE]

    def scores(trial_id: str, weights: Floats) -> Floats:
        """Of the classes, then of the sizes, shape (P, R)."""
        evaluation = evaluations[trial_id]
        of_classes = iou(Replicates(evaluation, weights).margins)[:, classes]
        return np.concatenate([of_classes, _of_sizes(evaluation.confusions, weights)[:, sizes]], axis=1).T

    def differences(weights: Floats) -> Floats:
        reference = scores(fixed, weights)
        return np.concatenate([scores(trial_id, weights) - reference for trial_id in others])

    family = paired_family(differences, units)
    once = np.ones((1, len(first.image_ids)))
    values = {trial_id: scores(trial_id, once)[:, 0] for trial_id in (fixed, *others)}
    found = []
    for number, (trial_id, part) in enumerate((one, part) for one in others for part in range(len(parts))):
        told = parts[part]
        found.append(
            Strength(
                name=" = ".join([label for label in names[trial_id] if label != BEST] or names[trial_id]),
                kind=told.kind,
                what=told.what,
                units=told.units,
                baseline=float(values[fixed][part]),
                score=float(values[trial_id][part]),
                low=float(family.low[number]),
                high=float(family.high[number]),
                chance=float(family.chance[number]),
            )
        )
    return found


@dataclass(frozen=True)
class _Part:
    kind: str
    what: str
    place: int
    units: int


def _parts(evaluation: Evaluation, units: Units, class_names: Sequence[str]) -> list[_Part]:
    """The classes and sizes that occur in enough images or groups."""
    truth = evaluation.confusions.sum(axis=2)
    of_classes = units_of_classes(units, truth)
    of_sizes = units_of_classes(units, np.stack([_in_size(truth, size).sum(axis=1) for size in range(len(SIZES))], 1))
    found = [_Part(CLASS, name, place, int(of_classes[place])) for place, name in enumerate(class_names)]
    found += [_Part(SIZE, name, place, int(of_sizes[place])) for place, (name, _, _) in enumerate(SIZES)]
    return [part for part in found if part.units >= MIN_UNITS]


def _in_size(truth: Counts, size: int) -> npt.NDArray[np.bool_]:
    """Which (image, class) regions are of a size, shape (N, C)."""
    _, least, most = SIZES[size]
    share = truth / np.maximum(truth.sum(axis=1, keepdims=True), 1)
    return np.asarray((truth > 0) & (share >= least) & (share < most))


def _of_sizes(confusions: Confusions, weights: Floats) -> Floats:
    """Mean IoU of the true regions of each size, shape (R, 3)."""
    truth = confusions.sum(axis=2)
    of_regions = np.nan_to_num(iou(confusions))
    columns = []
    for size in range(len(SIZES)):
        inside = _in_size(truth, size)
        total, count = (weights @ np.where(inside, each, 0.0).sum(axis=1) for each in (of_regions, 1.0))
        columns.append(np.divide(total, count, out=np.full_like(total, math.nan), where=count > 0))
    return np.stack(columns, axis=1)


def strengths_frame(found: Sequence[Strength]) -> pd.DataFrame:
    """The table `strengths`, columns `COLUMNS`."""
    rows: list[list[object]] = []
    for one in found:
        numbers = [one.units, one.baseline, one.score, one.difference, one.low, one.high, one.chance]
        rows.append([one.name, one.kind, one.what, *numbers, one.outcome])
    return pd.DataFrame(rows, columns=list(COLUMNS))
