"""What kind of error each wrong pixel is: exactly one type a pixel, decided by the components it lies in.

docs/METRICS.md has the definition in words. The boundary's band is that of Boundary IoU (Cheng et al., CVPR 2021),
asked of both sides as in Bernhard et al., "What's Outside the Intersection?" (WACV 2024); the IoU of a component is
that of Chan et al., "SegmentMeIfYouCan" (NeurIPS 2021 Datasets and Benchmarks), section 3.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

import cv2
import numpy as np
import numpy.typing as npt
from scipy import ndimage

from analysis.failures.components import CONNECTIVITY, Components, Integers
from analysis.failures.kinds import Kind, Kinds
from trainables.data.base import VOID

# Limits; docs/METRICS.md has the reason of each.
FOUND_SHARE = 0.1
NAMED_SHARE = 0.5
PART_SHARE = 0.05


class ErrorType(IntEnum):
    """What a wrong pixel is."""

    MISSED = 0
    WRONG_WHOLE = 1
    WRONG_PART = 2
    CONFUSED = 3
    BOUNDARY = 4
    UNDER = 5
    SPLIT = 6
    OVER = 7
    MERGED = 8
    INVENTED = 9

    @property
    def words(self) -> str:
        """As tables and sentences name it."""
        return _WORDS[self]


_WORDS = (
    "missed component",
    "wrong class, whole",
    "wrong class, part",
    "confused area",
    "boundary",
    "under-extent",
    "split",
    "over-extent",
    "merged",
    "invented component",
)
RIGHT = 255
"""In a map of types: pixels that are right, and void."""

_SLACK = 1e-3
"""Distances are roots of whole numbers in float32."""

Flags = npt.NDArray[np.bool_]


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


@dataclass(frozen=True)
class ImageErrors:
    """The errors of one prediction on one image.

    Attributes:
        types: `ErrorType` of each wrong pixel, `RIGHT` elsewhere; uint8 of shape (H, W).
        counts: Rows of type, true class, predicted class, pixels; shape (M, 4).
        components: What became of each component.
    """

    types: npt.NDArray[np.uint8]
    counts: Integers
    components: ComponentErrors


@dataclass(frozen=True)
class _Overlaps:
    """Pairs of a true and a predicted component that share pixels, P of them, and where.

    Attributes:
        truth: Component, shape (P,).
        predicted: Component, shape (P,).
        pixels: Shared, shape (P,).
        true_class: Shape (P,); void where the truth is not known.
        predicted_class: Shape (P,).
        image: Pair of each pixel, shape (H, W).
    """

    truth: Integers
    predicted: Integers
    pixels: Integers
    true_class: Integers
    predicted_class: Integers
    image: npt.NDArray[np.int32]

    @property
    def known(self) -> Flags:
        return np.asarray(self.true_class != VOID)

    @property
    def right(self) -> Flags:
        return np.asarray(self.true_class == self.predicted_class)

    def sums(self, which: Flags, components: Integers, count: int) -> Integers:
        """Pixels of each component in the pairs that are asked for."""
        return np.bincount(components[which], self.pixels[which], count).astype(np.int64)


@dataclass(frozen=True)
class _States:
    """Whether components were found, and named otherwise where not.

    Attributes:
        found: Of true components: enough of it is predicted as its class.
        renamed: Of true components: not found, and half of it predicted as classes of its own kind.
        based: Of predicted components: enough of it is truly of its class.
        mistaken: Of predicted components: not based, and half of it lies on classes of its own kind.
    """

    found: Flags
    renamed: Flags
    based: Flags
    mistaken: Flags


def classify_errors(
    truth: Components, prediction: Components, kinds: Kinds, *, width: int, connectivity: int = CONNECTIVITY
) -> ImageErrors:
    """Gives each wrong pixel of an image its type.

    Args:
        truth: Components of the true mask, void among them.
        prediction: Components of the predicted mask of the same shape, without void.
        kinds: Of the classes.
        width: Of the boundary's band, in pixels.
        connectivity: 4 or 8, as the components were found.

    Raises:
        ValueError: If the shapes differ or the prediction holds void.
    """
    if truth.labels.shape != prediction.labels.shape:
        raise ValueError(f"truth is {truth.labels.shape}, the prediction {prediction.labels.shape}")
    if (prediction.values == VOID).any():
        raise ValueError("the prediction holds void")
    overlaps = _overlaps(truth, prediction)
    states = _states(overlaps, truth, prediction, kinds)
    by_pair, may_be_boundary = _types_of_pairs(overlaps, states, kinds)
    types = by_pair[overlaps.image]
    types[_boundary_pixels(overlaps, may_be_boundary, width)] = ErrorType.BOUNDARY
    _mark_bridges(types, overlaps, truth, prediction, width, connectivity)
    entries, pixels = _count(types, overlaps)
    pair, kind = entries.T
    rows = np.stack([kind, overlaps.true_class[pair], overlaps.predicted_class[pair]], axis=1)
    grouped, place = np.unique(rows, axis=0, return_inverse=True)
    sums = np.bincount(place.ravel(), pixels, len(grouped)).astype(np.int64)
    components = _component_errors(overlaps, states, truth, prediction, kinds, entries, pixels)
    return ImageErrors(types, np.column_stack([grouped, sums]), components)


def _overlaps(truth: Components, prediction: Components) -> _Overlaps:
    starts = np.ones(truth.labels.shape, bool)
    starts[:, 1:] = truth.labels[:, 1:] != truth.labels[:, :-1]
    starts[:, 1:] |= prediction.labels[:, 1:] != prediction.labels[:, :-1]
    first = np.flatnonzero(starts)
    lengths = np.diff(np.append(first, starts.size))
    keys = truth.labels.ravel()[first].astype(np.int64) * len(prediction) + prediction.labels.ravel()[first]
    pairs, of_run = np.unique(keys, return_inverse=True)
    of_truth, of_prediction = np.divmod(pairs, len(prediction))
    return _Overlaps(
        truth=of_truth,
        predicted=of_prediction,
        pixels=np.bincount(of_run, lengths, len(pairs)).astype(np.int64),
        true_class=truth.values[of_truth],
        predicted_class=prediction.values[of_prediction],
        image=np.repeat(of_run.astype(np.int32), lengths).reshape(starts.shape),
    )


def _states(overlaps: _Overlaps, truth: Components, prediction: Components, kinds: Kinds) -> _States:
    same_kind = overlaps.known & ~overlaps.right
    same_kind &= _kinds_of(overlaps.true_class, kinds) == _kinds_of(overlaps.predicted_class, kinds)
    hit = overlaps.sums(overlaps.right, overlaps.truth, len(truth))
    found = hit >= FOUND_SHARE * truth.pixels
    renamed = overlaps.sums(same_kind, overlaps.truth, len(truth)) >= NAMED_SHARE * truth.pixels
    known = overlaps.sums(overlaps.known, overlaps.predicted, len(prediction))
    right = overlaps.sums(overlaps.right, overlaps.predicted, len(prediction))
    based = right >= FOUND_SHARE * known
    mistaken = overlaps.sums(same_kind, overlaps.predicted, len(prediction)) >= NAMED_SHARE * known
    return _States(found, ~found & renamed, based, ~based & mistaken)


def _kinds_of(class_ids: Integers, kinds: Kinds) -> Integers:
    """Kinds of classes; that of void means nothing."""
    return kinds[np.where(class_ids == VOID, 0, class_ids)].astype(np.int64)


def _types_of_pairs(overlaps: _Overlaps, states: _States, kinds: Kinds) -> tuple[npt.NDArray[np.uint8], Flags]:
    """The type that a pair's pixels have unless they lie on a boundary or a bridge; and whether they may."""
    wrong = overlaps.known & ~overlaps.right
    true_kind, predicted_kind = (_kinds_of(ids, kinds) for ids in (overlaps.true_class, overlaps.predicted_class))
    lost, extra, level = (
        wrong & (true_kind > predicted_kind),
        wrong & (true_kind < predicted_kind),
        wrong & (true_kind == predicted_kind),
    )
    found, renamed = states.found[overlaps.truth], states.renamed[overlaps.truth]
    based, mistaken = states.based[overlaps.predicted], states.mistaken[overlaps.predicted]
    types = np.full(len(wrong), RIGHT, np.uint8)
    types[lost] = ErrorType.UNDER
    types[lost & ~found & ~renamed] = ErrorType.MISSED
    types[extra] = ErrorType.OVER
    types[extra & ~based & ~mistaken] = ErrorType.INVENTED
    types[level] = ErrorType.WRONG_PART
    types[level & renamed] = ErrorType.WRONG_WHOLE
    types[level & found & based] = ErrorType.CONFUSED
    return types, (lost & found) | (extra & based) | (level & found & based)


def _boundary_pixels(overlaps: _Overlaps, may_be: Flags, width: int) -> Flags:
    """Pixels that have right pixels both of their true and of their predicted class within `width`."""
    candidates = may_be[overlaps.image]
    hits = np.zeros(candidates.shape, np.uint8)
    classes = np.union1d(overlaps.true_class[may_be], overlaps.predicted_class[may_be])
    void = ~overlaps.known
    for class_id in classes:
        concerns = may_be & ((overlaps.true_class == class_id) | (overlaps.predicted_class == class_id))
        asked = concerns[overlaps.image]
        rows, columns = _box_of(asked, margin=2 * width + 1)
        pairs = overlaps.image[rows, columns]
        right = (overlaps.right & (overlaps.true_class == class_id))[pairs]
        hits[rows, columns] += asked[rows, columns] & _near(right, void[pairs], width)
    return np.asarray(hits == 2)


def _near(region: Flags, void: Flags, width: int) -> Flags:
    """Pixels within `width` of a region; void within `width` of it belongs to it, as far as is known."""
    if not region.any():
        return region
    near = _distance(region) <= width + _SLACK
    seam = near & void
    if seam.any():
        near = _distance(region | seam) <= width + _SLACK
    return np.asarray(near)


def _distance(region: Flags) -> npt.NDArray[np.float32]:
    """Euclidean distance of each pixel to a region that is not empty, between pixel centres."""
    outside = (~region).view(np.uint8)
    return np.asarray(cv2.distanceTransform(outside, cv2.DIST_L2, cv2.DIST_MASK_PRECISE), np.float32)


def _box_of(region: Flags, *, margin: int) -> tuple[slice, slice]:
    rows, columns = np.flatnonzero(region.any(axis=1)), np.flatnonzero(region.any(axis=0))
    return (
        slice(max(0, rows[0] - margin), rows[-1] + 1 + margin),
        slice(max(0, columns[0] - margin), columns[-1] + 1 + margin),
    )


def _mark_bridges(
    types: npt.NDArray[np.uint8],
    overlaps: _Overlaps,
    truth: Components,
    prediction: Components,
    width: int,
    connectivity: int,
) -> None:
    """Names under-extent that cuts a component `SPLIT`, and over-extent that joins components `MERGED`."""
    parts = overlaps.right & (overlaps.pixels >= PART_SHARE * truth.pixels[overlaps.truth])
    for kind, bridge, own, others, components in (
        (ErrorType.UNDER, ErrorType.SPLIT, overlaps.truth, overlaps.predicted, truth),
        (ErrorType.OVER, ErrorType.MERGED, overlaps.predicted, overlaps.truth, prediction),
    ):
        several = np.bincount(own[parts], minlength=len(components)) >= 2
        for component in np.flatnonzero(several):
            box = components.boxes[component]
            rows, columns = (slice(max(0, box[i] - width - 1), box[i + 2] + width + 1) for i in (0, 1))
            pairs, own_types = overlaps.image[rows, columns], types[rows, columns]
            mine = own == component
            cut = mine[pairs] & (own_types == kind)
            if cut.any():
                of_pair = np.where(mine & parts, others + 1, 0).astype(np.float32)
                own_types[cut & _joins(cut, of_pair[pairs], width, connectivity)] = bridge


def _joins(cut: Flags, parts: npt.NDArray[np.float32], width: int, connectivity: int) -> Flags:
    """The connected pieces of `cut` that have two different parts within `width + 1` rows and columns.

    Args:
        cut: Shape (H, W).
        parts: Numbers of the parts, from 1; 0 elsewhere.
        width: Of the boundary's band: what lies between a piece and a part may be boundary.
        connectivity: Of the pieces.
    """
    pieces, count = ndimage.label(cut, np.ones((3, 3)) if connectivity == 8 else None)
    kernel = np.ones((2 * width + 3, 2 * width + 3), np.uint8)
    beyond = parts.max() + 1
    highest = cv2.dilate(parts, kernel)
    lowest = beyond - cv2.dilate(np.where(parts > 0, beyond - parts, 0), kernel)
    numbers = np.arange(1, count + 1)
    joins = np.concatenate(
        [[False], ndimage.maximum(highest, pieces, numbers) > ndimage.minimum(lowest, pieces, numbers)]
    )
    return np.asarray(joins[pieces])


def _count(types: npt.NDArray[np.uint8], overlaps: _Overlaps) -> tuple[Integers, Integers]:
    """Pairs with their types, shape (M, 2), and the pixels of each, shape (M,)."""
    wrong = types != RIGHT
    keys = overlaps.image[wrong].astype(np.int64) * len(ErrorType) + types[wrong]
    counts = np.bincount(keys, minlength=1)
    there = np.flatnonzero(counts)
    return np.stack(np.divmod(there, len(ErrorType)), axis=1), counts[there]


def _component_errors(
    overlaps: _Overlaps,
    states: _States,
    truth: Components,
    prediction: Components,
    kinds: Kinds,
    entries: Integers,
    pixels: Integers,
) -> ComponentErrors:
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

    own = np.flatnonzero((truth.values != VOID) & (_kinds_of(truth.values, kinds) > Kind.BACKGROUND))
    invented = ~states.based & ~states.mistaken & (known > 0)
    new = np.flatnonzero(invented & (_kinds_of(prediction.values, kinds) > Kind.BACKGROUND))
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


def _taken_for(overlaps: _Overlaps, count: int) -> tuple[Integers, Integers]:
    """The other class that most of each true component is predicted as (-1: none), and on how many pixels."""
    wrong = overlaps.known & ~overlaps.right
    keys, place = np.unique(overlaps.truth[wrong] * 256 + overlaps.predicted_class[wrong], return_inverse=True)
    sums = np.bincount(place, overlaps.pixels[wrong], len(keys)).astype(np.int64)
    order = np.argsort(sums, kind="stable")
    taken_for, taken = np.full(count, -1, np.int64), np.zeros(count, np.int64)
    # Of several for one component the last one written stays: the largest.
    taken_for[keys[order] // 256], taken[keys[order] // 256] = keys[order] % 256, sums[order]
    return taken_for, taken
