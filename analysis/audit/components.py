"""Connected components found again with SciPy, one value of a mask at a time, and which of them share pixels."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from analysis.audit.pixels import VOID, Flags, Integers, Mask

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
        labels += np.where(own > 0, own + count, 0)
        count += found
    first = np.full(count + 1, mask.size)
    np.minimum.at(first, labels.ravel(), np.arange(mask.size))
    order = np.argsort(first[1:], kind="stable")
    number = np.empty(count, np.int64)
    number[order] = np.arange(count)
    labels = number[labels - 1]
    return Parts(labels, mask.ravel()[first[1:][order]].astype(np.int64), np.bincount(labels.ravel(), minlength=count))


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
    """

    truth: Parts
    prediction: Parts
    one: Integers
    other: Integers
    pixels: Integers
    image: Integers

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
        return np.asarray(self.true_class != VOID)

    @property
    def right(self) -> Flags:
        """Whether the pixels of a pair are right."""
        return np.asarray(self.true_class == self.predicted_class)


def meet(truth: Mask, prediction: Mask) -> Meeting:
    """Finds the components of both masks and what they share."""
    first, second = find_parts(truth), find_parts(prediction)
    keys, image, pixels = np.unique(
        first.labels * len(second) + second.labels, return_inverse=True, return_counts=True
    )
    return Meeting(first, second, keys // len(second), keys % len(second), pixels, image.reshape(truth.shape))


@dataclass(frozen=True)
class Verdicts:
    """What became of components: true ones found or renamed, predicted ones based or mistaken; known pixels alone."""

    found: Flags
    renamed: Flags
    based: Flags
    mistaken: Flags
    known: Integers


def judge(meeting: Meeting, kinds: npt.NDArray[np.integer]) -> Verdicts:
    """Applies FOUND_SHARE and NAMED_SHARE.

    Args:
        meeting: Of an image.
        kinds: Background 0, stuff 1 or thing 2 of each class.
    """
    kind_of = np.zeros(256, np.int64)
    kind_of[: len(kinds)] = kinds
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
