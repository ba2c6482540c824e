"""Everything that the tables say of one prediction on one image, recomputed from its two masks."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from analysis.audit.components import Meeting, Parts, Verdicts, find_parts, judge, meet
from analysis.audit.pixels import Integers, Mask, count_pairs, first_of_ties
from analysis.audit.types import NOTHING, TYPES, type_pixels

BACKGROUND = 0


@dataclass(frozen=True)
class Component:
    """A true component, or a predicted one that is invented, and what became of it.

    Attributes:
        is_true: Whether it is a component of the truth.
        number: Among those of its mask.
        class_id: Its class.
        box: Top, left, bottom and right, the last two beyond it.
        pixels: Size; of a predicted one without void.
        iou: See docs/METRICS.md; 0 for an invented one.
        recall: Share that is predicted as its class; NaN for an invented one.
        types: Wrong pixels of each of `TYPES` in its own union, shape (10,).
        taken: Pixels that are predicted as each other class, by class id.
    """

    is_true: bool
    number: int
    class_id: int
    box: tuple[int, int, int, int]
    pixels: int
    iou: float
    recall: float
    types: Integers
    taken: dict[int, int]

    def fails(self, iou_limit: float) -> bool:
        """Whether the tables list it."""
        return self.iou <= iou_limit and self.iou < 1

    def type(self, written: str) -> str:
        """The type of most of its wrong pixels; of equal ones that which a table holds; empty without any."""
        return first_of_ties({name: int(count) for name, count in zip(TYPES, self.types, strict=True)}, written)


@dataclass(frozen=True)
class Found:
    """What one prediction did on one image.

    Attributes:
        pairs: Pixels by true and predicted class, shape (C, C).
        types: Wrong pixels by type, true class and predicted class: rows of four numbers, shape (M, 4).
        components: True ones in the order of their numbers, then invented ones; none of background.
    """

    pairs: Integers
    types: Integers
    components: list[Component]


def look_at(truth: Mask, parts: Parts, prediction: Mask, kinds: npt.NDArray[np.integer]) -> Found:
    """Compares two masks of an image.

    Args:
        truth: Class ids and void, shape (H, W).
        parts: Its components.
        prediction: Class ids.
        kinds: Background 0, stuff 1 or thing 2 of each class.
    """
    meeting = meet(parts, find_parts(prediction), len(kinds))
    verdicts = judge(meeting, kinds)
    types = type_pixels(meeting, verdicts, kinds)
    wrong = types != NOTHING
    each = len(kinds)
    keys, counts = np.unique((types[wrong] * each + truth[wrong]) * each + prediction[wrong], return_counts=True)
    rows = np.stack([keys // each**2, keys // each % each, keys % each, counts], axis=1)
    typed = np.bincount(meeting.image[wrong] * len(TYPES) + types[wrong], minlength=len(meeting.pixels) * len(TYPES))
    by_pair = typed.reshape(-1, len(TYPES))
    components = [*_true(meeting, kinds, by_pair), *_invented(meeting, verdicts, kinds, by_pair)]
    return Found(count_pairs(truth, prediction, len(kinds)), rows, components)


def _true(meeting: Meeting, kinds: npt.NDArray[np.integer], by_pair: Integers) -> list[Component]:
    found = []
    for number, place in enumerate(meeting.truth.places()):
        class_id = int(meeting.truth.values[number])
        if class_id >= len(kinds) or kinds[class_id] == BACKGROUND:
            continue
        mine = meeting.one == number
        touching = np.isin(meeting.other, meeting.other[mine & meeting.right])
        # The union of the component and of what touches it, without the pixels of other components of the class.
        union = mine | (touching & meeting.known & ~meeting.right)
        size, hit = int(meeting.truth.pixels[number]), int(meeting.pixels[mine & meeting.right].sum())
        taken: dict[int, int] = {}
        for pair in np.flatnonzero(mine & ~meeting.right).tolist():
            other = int(meeting.predicted_class[pair])
            taken[other] = taken.get(other, 0) + int(meeting.pixels[pair])
        found.append(
            Component(
                is_true=True,
                number=number,
                class_id=class_id,
                box=_box(place),
                pixels=size,
                iou=hit / int(meeting.pixels[union].sum()),
                recall=hit / size,
                types=by_pair[union].sum(axis=0),
                taken=taken,
            )
        )
    return found


def _invented(
    meeting: Meeting, verdicts: Verdicts, kinds: npt.NDArray[np.integer], by_pair: Integers
) -> list[Component]:
    found = []
    for number, place in enumerate(meeting.prediction.places()):
        class_id = int(meeting.prediction.values[number])
        is_based = verdicts.based[number] or verdicts.mistaken[number] or not verdicts.known[number]
        if is_based or kinds[class_id] == BACKGROUND:
            continue
        types = by_pair[meeting.other == number].sum(axis=0)
        pixels = int(verdicts.known[number])
        found.append(Component(False, number, class_id, _box(place), pixels, 0.0, math.nan, types, {}))
    return found


def _box(place: tuple[slice, slice]) -> tuple[int, int, int, int]:
    return place[0].start, place[1].start, place[0].stop, place[1].stop
