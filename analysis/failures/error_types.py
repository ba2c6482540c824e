"""What kind of error each wrong pixel is: exactly one type a pixel, decided by the components it lies in.

docs/METRICS.md has the definition in words. The boundary's band is that of Boundary IoU (Cheng et al., CVPR 2021),
asked of both sides as in Bernhard et al., "What's Outside the Intersection?" (WACV 2024); what is
wider than the band is found by an opening (Serra, "Image Analysis and Mathematical Morphology", 1982).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from analysis.failures import shapes
from analysis.failures.component_errors import ComponentErrors, component_errors
from analysis.failures.components import CONNECTIVITY, Components, Integers
from analysis.failures.kinds import Kinds
from analysis.failures.names import ErrorType
from analysis.failures.overlaps import PART_SHARE, Flags, Overlaps, States, find_overlaps, find_states, kinds_of
from trainables.data.void import void_id

RIGHT = 255
"""In a map of types: pixels that are right, and void."""


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
    void = void_id(len(kinds))
    if (prediction.values == void).any():
        raise ValueError("the prediction holds void")
    overlaps = find_overlaps(truth, prediction, void)
    states = find_states(overlaps, truth, prediction, kinds)
    by_pair, may_be_boundary = _types_of_pairs(overlaps, states, kinds)
    types = by_pair[overlaps.image]
    types[_boundary_pixels(overlaps, by_pair, may_be_boundary, width)] = ErrorType.BOUNDARY
    _mark_bridges(types, by_pair, overlaps, truth, prediction, width, connectivity)
    entries, pixels = _count(types, overlaps)
    pair, kind = entries.T
    rows = np.stack([kind, overlaps.true_class[pair], overlaps.predicted_class[pair]], axis=1)
    grouped, place = np.unique(rows, axis=0, return_inverse=True)
    sums = np.bincount(place.ravel(), pixels, len(grouped)).astype(np.int64)
    components = component_errors(overlaps, states, truth, prediction, kinds, entries, pixels)
    return ImageErrors(types, np.column_stack([grouped, sums]), components)


def _types_of_pairs(overlaps: Overlaps, states: States, kinds: Kinds) -> tuple[npt.NDArray[np.uint8], Flags]:
    """The type that a pair's pixels have unless they lie on a boundary or a bridge; and whether they may."""
    wrong = overlaps.known & ~overlaps.right
    true_kind, predicted_kind = (kinds_of(ids, kinds) for ids in (overlaps.true_class, overlaps.predicted_class))
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


def _boundary_pixels(overlaps: Overlaps, types: npt.NDArray[np.uint8], may_be: Flags, width: int) -> Flags:
    """Pixels that lie in the band of the boundary, where the error is nowhere wider than `width`.

    In the band are those with right pixels both of their true and of their predicted class within `width` rows and
    columns, which is the distance that Boundary IoU is computed with.
    """
    boundary = np.zeros(overlaps.image.shape, bool)
    candidates = may_be[overlaps.image]
    if not candidates.any():
        return boundary
    rows, columns = shapes.box_of(candidates, margin=2 * width + 1)
    pairs, asked = overlaps.image[rows, columns], candidates[rows, columns]
    hits = np.zeros(pairs.shape, np.uint8)
    kind = np.min_scalar_type(overlaps.void)
    true, predicted = (ids.astype(kind)[pairs] for ids in (overlaps.true_class, overlaps.predicted_class))
    right, void = true == predicted, true == overlaps.void
    for class_id in np.union1d(overlaps.true_class[may_be], overlaps.predicted_class[may_be]):
        is_true = true == class_id
        hits += (is_true | (predicted == class_id)) & shapes.near(is_true & right, void, width)
    boundary[rows, columns] = asked & (hits == 2) & ~shapes.wide(_sides(overlaps, types)[pairs], width)
    return boundary


def _sides(overlaps: Overlaps, types: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    """What error each pair's wrong pixels are part of, as numbers from 1; 0 for right pixels and void.

    Pixels that a true component lost to what is behind it are one error, so are those that a predicted component has
    too many, and those of a pair between two classes of the same kind.
    """
    numbers = np.arange(len(types)) + 1
    one_each = len(types) + 1
    numbers = np.where(types == ErrorType.UNDER, one_each + overlaps.truth, numbers)
    one_each += int(overlaps.truth.max()) + 1
    numbers = np.where(types == ErrorType.OVER, one_each + overlaps.predicted, numbers)
    return np.where(types == RIGHT, 0, numbers).astype(np.float32)


def _mark_bridges(
    types: npt.NDArray[np.uint8],
    by_pair: npt.NDArray[np.uint8],
    overlaps: Overlaps,
    truth: Components,
    prediction: Components,
    width: int,
    connectivity: int,
) -> None:
    """Names what cuts a true component `SPLIT`, and what joins true components `MERGED`."""
    parts = overlaps.right & (overlaps.pixels >= PART_SHARE * truth.pixels[overlaps.truth])
    for kind, bridge, own, others, components in (
        (ErrorType.UNDER, ErrorType.SPLIT, overlaps.truth, overlaps.predicted, truth),
        (ErrorType.OVER, ErrorType.MERGED, overlaps.predicted, overlaps.truth, prediction),
    ):
        several = np.bincount(own[parts], minlength=len(components)) >= 2
        wrong = np.bincount(own[by_pair == kind], minlength=len(components)) > 0
        for component in np.flatnonzero(several & wrong):
            box = components.boxes[component]
            rows, columns = (slice(max(0, box[i] - 2 * width - 1), box[i + 2] + 2 * width + 1) for i in (0, 1))
            pairs, mine = overlaps.image[rows, columns], own == component
            error = (mine & (by_pair == kind))[pairs]
            of_pair = np.where(mine & parts, others + 1, 0).astype(np.float32)
            void = ~overlaps.known[pairs]
            bridges = _bridges(error, types[rows, columns] == kind, of_pair[pairs], void, width, connectivity)
            types[rows, columns][bridges] = bridge


def _bridges(
    error: Flags, beyond: Flags, parts: npt.NDArray[np.float32], void: Flags, width: int, connectivity: int
) -> Flags:
    """The pixels of an error that lie between two parts, and what of the error is within `width` of these.

    Between two parts are pixels that have both within `width` rows and columns, and whole connected pieces of what is
    no boundary that have both within one more, since what lies between piece and part may be boundary.

    Args:
        error: All of it, shape (H, W).
        beyond: What is no boundary; others' errors may be among it.
        parts: Numbers of the parts, from 1; 0 elsewhere.
        void: Where the truth is not known.
        width: Of the boundary's band.
        connectivity: Of pieces, 4 or 8.
    """
    found = error & shapes.between(parts, void, width)
    pieces = error & beyond
    if pieces.any():
        found |= shapes.joining(pieces, parts, void, width, connectivity)
    return np.asarray(error & shapes.grown(found, width) & (found | ~beyond)) if found.any() else found


def _count(types: npt.NDArray[np.uint8], overlaps: Overlaps) -> tuple[Integers, Integers]:
    """Pairs with their types, shape (M, 2), and the pixels of each, shape (M,)."""
    wrong = types != RIGHT
    keys = overlaps.image[wrong].astype(np.int64) * len(ErrorType) + types[wrong]
    counts = np.bincount(keys, minlength=1)
    there = np.flatnonzero(counts)
    return np.stack(np.divmod(there, len(ErrorType)), axis=1), counts[there]
