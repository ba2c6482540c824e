"""What became of each component of an image: how much of it was found, and what its wrong pixels are.

The IoU of a component is that of Chan et al., "SegmentMeIfYouCan" (NeurIPS 2021 Datasets and Benchmarks), section 3.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from analysis.failures.components import Components, Integers
from analysis.failures.kinds import Kind, Kinds
from analysis.failures.names import ErrorType
from analysis.failures.overlaps import Flags, Overlaps, States, kinds_of


@dataclass(frozen=True)
class ComponentErrors:
    """The components of one image and what became of them, K entries each.

    True components of all classes but background, in the order of their numbers, then the predicted components that are
    invented.

    Attributes:
        is_true: Whether it is a component of the truth.
        number: Of the component among those of its mask.
        class_id: Its class.
        boxes: Top, left, bottom and right, shape (K, 4).
        pixels: Size; of a predicted one without void.
        iou: Of a true component with the predicted components of its class that touch it; 0 for an invented one.
        recall: Share of a true component that is predicted as its class; NaN for an invented one.
        type_pixels: Wrong pixels by `ErrorType`, shape (K, 10): those of the component, and the wrong ones of the
            predicted components of its class that touch it.
        taken_for: The other class that most of the component is predicted as; -1 where it is all right or invented.
        taken_share: That class's share of the component.
    """

    is_true: Flags
    number: Integers
    class_id: Integers
    boxes: Integers
    pixels: Integers
    iou: npt.NDArray[np.float64]
    recall: npt.NDArray[np.float64]
    type_pixels: Integers
    taken_for: Integers
    taken_share: npt.NDArray[np.float64]


def component_errors(
    overlaps: Overlaps,
    states: States,
    truth: Components,
    prediction: Components,
    kinds: Kinds,
    entries: Integers,
    pixels: Integers,
) -> ComponentErrors:
    """What became of each component.

    Args:
        overlaps: Of the components.
        states: Of the components.
        truth: Components of the true mask.
        prediction: Components of the predicted mask.
        kinds: Of the classes.
        entries: Rows of pair and type, shape (M, 2).
        pixels: Of each row, shape (M,).
    """
    pair, kind = entries.T
    of_truth = np.zeros((len(truth), len(ErrorType)), np.int64)
    np.add.at(of_truth, (overlaps.truth[pair], kind), pixels)
    of_prediction = np.zeros((len(prediction), len(ErrorType)), np.int64)
    np.add.at(of_prediction, (overlaps.predicted[pair], kind), pixels)
    right = overlaps.right
    np.add.at(of_truth, overlaps.truth[right], of_prediction[overlaps.predicted[right]])
    hit = overlaps.sums(right, overlaps.truth, len(truth))
    known = overlaps.sums(overlaps.known, overlaps.predicted, len(prediction))
    wrong = np.zeros(len(truth), np.int64)
    extra = known - overlaps.sums(right, overlaps.predicted, len(prediction))
    np.add.at(wrong, overlaps.truth[right], extra[overlaps.predicted[right]])
    taken_for, taken = _taken_for(overlaps, len(truth))

    own = np.flatnonzero((truth.values != overlaps.void) & (kinds_of(truth.values, kinds) > Kind.BACKGROUND))
    invented = ~states.based & ~states.mistaken & (known > 0)
    new = np.flatnonzero(invented & (kinds_of(prediction.values, kinds) > Kind.BACKGROUND))
    nothing = np.zeros(len(new))
    return ComponentErrors(
        is_true=np.repeat([True, False], [len(own), len(new)]),
        number=np.concatenate([own, new]),
        class_id=np.concatenate([truth.values[own], prediction.values[new]]),
        boxes=np.concatenate([truth.boxes[own], prediction.boxes[new]]),
        pixels=np.concatenate([truth.pixels[own], known[new]]),
        iou=np.concatenate([hit[own] / (truth.pixels + wrong)[own], nothing]),
        recall=np.concatenate([hit[own] / truth.pixels[own], nothing + np.nan]),
        type_pixels=np.concatenate([of_truth[own], of_prediction[new]]),
        taken_for=np.concatenate([taken_for[own], nothing.astype(np.int64) - 1]),
        taken_share=np.concatenate([taken[own] / truth.pixels[own], nothing]),
    )


def _taken_for(overlaps: Overlaps, count: int) -> tuple[Integers, Integers]:
    """The other class that most of each true component is predicted as (-1: none), and on how many pixels."""
    wrong = overlaps.known & ~overlaps.right
    each = overlaps.void + 1
    keys, place = np.unique(overlaps.truth[wrong] * each + overlaps.predicted_class[wrong], return_inverse=True)
    sums = np.bincount(place, overlaps.pixels[wrong], len(keys)).astype(np.int64)
    order = np.argsort(sums, kind="stable")
    taken_for, taken = np.full(count, -1, np.int64), np.zeros(count, np.int64)
    # Of several for one component the last one written stays: the largest.
    taken_for[keys[order] // each], taken[keys[order] // each] = keys[order] % each, sums[order]
    return taken_for, taken
