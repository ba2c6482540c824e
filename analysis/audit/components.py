"""Connected components found again with SciPy, one value of a mask at a time, and which of them share pixels."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from analysis.audit.pixels import Flags, Integers

# The limits of docs/METRICS.md.
FOUND_SHARE = 0.1
NAMED_SHARE = 0.5

TOUCHING = np.ones((3, 3), bool)
"""Pixels that touch at a corner belong together."""


@dataclass(frozen=True)
class Parts:
    """The K components of a mask, numbered by their first pixels, row by row.

    Attributes:
        labels: Component of each pixel, shape (H, W).
        values: Class or void of each, shape (K,).
        pixels: Size, shape (K,).
    """

    labels: Integers
    values: Integers
    pixels: Integers

    def __len__(self) -> int:
        return len(self.values)

    def places(self) -> list[tuple[slice, slice]]:
        """Rows and columns of each."""
        return list(ndimage.find_objects(self.labels + 1))


def find_parts(mask: npt.NDArray[np.integer]) -> Parts:
    """Finds the 8-connected components of equal values."""
    labels = np.zeros(mask.shape, np.int64)
    count = 0
    for value in np.unique(mask).tolist():
        own, found = ndimage.label(mask == value, TOUCHING)
        labels[own > 0] = own[own > 0] + count
        count += found
    flat = labels.ravel() - 1
    first = np.zeros(count, np.int64)
    # Written from the last pixel to the first, so that the first stays.
    first[flat[::-1]] = np.arange(mask.size - 1, -1, -1)
    order = np.argsort(first)
    number = np.empty(count, np.int64)
    number[order] = np.arange(count)
    flat = number[flat]
    return Parts(
        flat.reshape(mask.shape), mask.ravel()[first[order]].astype(np.int64), np.bincount(flat, minlength=count)
    )


@dataclass(frozen=True)
class Meeting:
    """Components of the truth and of the prediction of an image, and where they meet, M pairs of them.

    Attributes:
        truth: Of the true mask, void among them.
        prediction: Of the predicted one.
        one: True component of each pair, shape (M,).
        other: Predicted component, shape (M,).
        pixels: Shared, shape (M,).
        image: Pair of each pixel, shape (H, W).
        classes: How many there are; void is none of them.
    """

    truth: Parts
    prediction: Parts
    one: Integers
    other: Integers
    pixels: Integers
    image: Integers
    classes: int

    @property
    def true_class(self) -> Integers:
        """Of each pair; void where the truth is not known."""
        return self.truth.values[self.one]

    @property
    def predicted_class(self) -> Integers:
        """Of each pair."""
        return self.prediction.values[self.other]

    @property
    def known(self) -> Flags:
        """Whether the truth of a pair is known."""
        return np.asarray(self.true_class < self.classes)

    @property
    def right(self) -> Flags:
        """Whether the pixels of a pair are right."""
        return np.asarray(self.true_class == self.predicted_class)


def meet(truth: Parts, prediction: Parts, classes: int) -> Meeting:
    """Finds what the components of a true and a predicted mask of so many classes share."""
    keys = truth.labels * len(prediction) + prediction.labels
    counts = np.bincount(keys.ravel())
    pairs = np.flatnonzero(counts)
    number = np.zeros(len(counts), np.int64)
    number[pairs] = np.arange(len(pairs))
    one, other = np.divmod(pairs, len(prediction))
    return Meeting(truth, prediction, one, other, counts[pairs], number[keys], classes)


@dataclass(frozen=True)
class Verdicts:
    """What became of components: true ones found or renamed, predicted ones based or mistaken; known pixels alone."""

    found: Flags
    renamed: Flags
    based: Flags
    mistaken: Flags
    known: Integers


def by_value(kinds: npt.NDArray[np.integer]) -> Integers:
    """The kind of each value of a mask, 0 for those that are no class."""
    return np.append(kinds, np.zeros(2**16 - len(kinds), np.int64))


def judge(meeting: Meeting, kinds: npt.NDArray[np.integer]) -> Verdicts:
    """Applies FOUND_SHARE and NAMED_SHARE.

    Args:
        meeting: Of an image.
        kinds: Background 0, stuff 1 or thing 2 of each class.
    """
    kind_of = by_value(kinds)
    named = meeting.known & ~meeting.right & (kind_of[meeting.true_class] == kind_of[meeting.predicted_class])

    def of(place: Integers, which: Flags, count: int) -> Integers:
        total = np.zeros(count, np.int64)
        np.add.at(total, place[which], meeting.pixels[which])
        return total

    ones, others = len(meeting.truth), len(meeting.prediction)
    found = of(meeting.one, meeting.right, ones) >= FOUND_SHARE * meeting.truth.pixels
    renamed = ~found & (of(meeting.one, named, ones) >= NAMED_SHARE * meeting.truth.pixels)
    known = of(meeting.other, meeting.known, others)
    based = of(meeting.other, meeting.right, others) >= FOUND_SHARE * known
    mistaken = ~based & (of(meeting.other, named, others) >= NAMED_SHARE * known)
    return Verdicts(found, renamed, based, mistaken, known)
