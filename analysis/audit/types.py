"""The type of each wrong pixel, decided again by the table of docs/METRICS.md ("Types of error").

Distances are in rows and columns. What lies within one is counted with sums over rectangles, where the failure analysis
uses morphology.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from analysis.audit.components import TOUCHING, Meeting, Verdicts
from analysis.audit.pixels import Flags, Integers

# The limits of docs/METRICS.md.
PART_SHARE = 0.05
BOUNDARY_DIAGONAL = 0.0075
BOUNDARY_MIN_PX = 2

TYPES = (
    *("missed component", "wrong class, whole", "wrong class, part", "confused area", "boundary"),
    *("under-extent", "split", "over-extent", "merged", "invented component"),
)
"""In the order of the tables."""

MISSED, WHOLE, PART, CONFUSED, BOUNDARY, UNDER, SPLIT, OVER, MERGED, INVENTED = range(len(TYPES))
NOTHING = -1


def band_width(shape: tuple[int, ...]) -> int:
    """How far from a boundary an error still is one of the boundary, in pixels."""
    return max(BOUNDARY_MIN_PX, round(BOUNDARY_DIAGONAL * math.sqrt(shape[0] ** 2 + shape[1] ** 2)))


def type_pixels(meeting: Meeting, verdicts: Verdicts, kinds: npt.NDArray[np.integer]) -> Integers:
    """The type of each wrong pixel, a place in `TYPES`; `NOTHING` where it is right or void; shape (H, W).

    Args:
        meeting: Of an image.
        verdicts: On its components.
        kinds: Background 0, stuff 1 or thing 2 of each class.
    """
    of_pair, may_be = _types_of_pairs(meeting, verdicts, kinds)
    types = of_pair[meeting.image]
    width = band_width(types.shape)
    if may_be.any():
        band = may_be[meeting.image] & _between_right_pixels(meeting, may_be, width)
        types[band & ~wide(_errors(meeting, of_pair)[meeting.image], width)] = BOUNDARY
    _name_bridges(types, of_pair, meeting, width)
    return types


def _types_of_pairs(meeting: Meeting, verdicts: Verdicts, kinds: npt.NDArray[np.integer]) -> tuple[Integers, Flags]:
    """The type of each pair's pixels away from boundaries and bridges, and whether they may lie on a boundary."""
    types = np.full(len(meeting.pixels), NOTHING)
    may_be = np.zeros(len(types), bool)
    for pair in np.flatnonzero(meeting.known & ~meeting.right).tolist():
        one, other = meeting.one[pair], meeting.other[pair]
        in_front = int(kinds[meeting.true_class[pair]]) - int(kinds[meeting.predicted_class[pair]])
        found, based = verdicts.found[one], verdicts.based[other]
        if in_front > 0:
            types[pair] = UNDER if found or verdicts.renamed[one] else MISSED
            may_be[pair] = found
        elif in_front < 0:
            types[pair] = OVER if based or verdicts.mistaken[other] else INVENTED
            may_be[pair] = based
        else:
            types[pair] = WHOLE if verdicts.renamed[one] else CONFUSED if found and based else PART
            may_be[pair] = found and based
    return types, may_be


def _between_right_pixels(meeting: Meeting, may_be: Flags, width: int) -> Flags:
    """Pixels with a right pixel of their true class and one of their predicted class within `width`."""
    true, predicted = (classes[meeting.image] for classes in (meeting.true_class, meeting.predicted_class))
    void, right = ~meeting.known[meeting.image], meeting.right[meeting.image]
    both = np.ones(true.shape, bool)
    for class_id in np.union1d(meeting.true_class[may_be], meeting.predicted_class[may_be]).tolist():
        near = around(right & (true == class_id), void, width, width)
        both &= near | ((true != class_id) & (predicted != class_id))
    return both


def _errors(meeting: Meeting, of_pair: Integers) -> Integers:
    """The error that each pair is part of: what a true component lost, what a predicted one has too much, a pair."""
    numbers = np.arange(len(of_pair)) * 3 + 1
    numbers[of_pair == UNDER] = meeting.one[of_pair == UNDER] * 3 + 2
    numbers[of_pair == OVER] = meeting.other[of_pair == OVER] * 3 + 3
    return np.where(of_pair == NOTHING, 0, numbers)


def wide(errors: Integers, width: int) -> Flags:
    """Pixels that a square of `width + 1` pixels of one error covers."""
    height, across = errors.shape
    side = width + 1
    if height < side or across < side:
        return np.zeros(errors.shape, bool)
    # A square is of one error if none of its pixels differs from its neighbours there, and one is wrong.
    broken_across = _any_of_run(errors[:, 1:] != errors[:, :-1], 1, width)
    broken_down = _any_of_run(errors[1:] != errors[:-1], 0, width)
    fits = ~_any_of_run(broken_across, 0, side) & ~_any_of_run(broken_down, 1, side)
    fits &= errors[: height - width, : across - width] > 0
    # A pixel is covered if a square begins up to `width` rows above it and columns to its left.
    return _any_of_run(_any_of_run(np.pad(fits, width), 0, side), 1, side)


def within(region: Flags, reach: int) -> Flags:
    """Pixels with one of a region within `reach` rows and columns."""
    side = 2 * reach + 1
    return _any_of_run(_any_of_run(np.pad(region, reach), 0, side), 1, side)


def _any_of_run(flags: Flags, axis: int, length: int) -> Flags:
    """Whether any of so many flags in a row or column holds, by the first of them; shorter by `length` - 1."""
    turned = np.moveaxis(flags, axis, 0)
    size, done = turned.shape[0] - length + 1, 1
    while done < length:
        # Runs of twice the length, or what is left of it.
        step = min(done, length - done)
        turned = turned[:-step] | turned[step:]
        done += step
    return np.ascontiguousarray(np.moveaxis(turned[:size], 0, axis))


def around(region: Flags, void: Flags, width: int, reach: int) -> Flags:
    """The same, void within `width` of the region counting as part of it."""
    if void.any():
        region = region | (void & within(region, width))
    return within(region, reach)


def _name_bridges(types: Integers, of_pair: Integers, meeting: Meeting, width: int) -> None:
    """What cuts a true component is `SPLIT`, what joins true components is `MERGED`."""
    is_part = meeting.right & (meeting.pixels >= PART_SHARE * meeting.truth.pixels[meeting.one])
    for kind, bridge, own, others, components in (
        (UNDER, SPLIT, meeting.one, meeting.other, meeting.truth),
        (OVER, MERGED, meeting.other, meeting.one, meeting.prediction),
    ):
        places = components.places()
        for component in np.unique(own[of_pair == kind]).tolist():
            parts = others[is_part & (own == component)]
            if len(parts) < 2:
                continue
            area = tuple(
                slice(max(0, side.start - 2 * width - 2), side.stop + 2 * width + 2) for side in places[component]
            )
            pairs = meeting.image[area]
            error = ((own == component) & (of_pair == kind))[pairs]
            regions = [((own == component) & (others == part) & meeting.right)[pairs] for part in parts.tolist()]
            void = ~meeting.known[pairs]
            beyond = types[area] == kind
            found = error & _several(regions, void, width, width)
            pieces, count = ndimage.label(error & beyond, TOUCHING)
            reached = np.zeros(count + 1, np.int64)
            for region in regions:
                reached[np.unique(pieces[around(region, void, width, width + 1)])] += 1
            reached[0] = 0
            found |= (reached >= 2)[pieces]
            types[area][error & within(found, width) & (found | ~beyond)] = bridge


def _several(regions: list[Flags], void: Flags, width: int, reach: int) -> Flags:
    """Pixels with two of some regions within `reach`."""
    count = np.zeros(void.shape, np.int64)
    for region in regions:
        count += around(region, void, width, reach)
    return np.asarray(count >= 2)
