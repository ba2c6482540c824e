"""Which true and predicted components share pixels, and which of them were found."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from analysis.failures.components import Components, Integers
from analysis.failures.kinds import Kinds
from trainables.data.void import void_id

# Limits; docs/METRICS.md has the reason of each.
FOUND_SHARE = 0.1
NAMED_SHARE = 0.5
PART_SHARE = 0.05

Flags = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Overlaps:
    """Pairs of a true and a predicted component that share pixels, P of them, and where.

    Attributes:
        truth: Component, shape (P,).
        predicted: Component, shape (P,).
        pixels: Shared, shape (P,).
        true_class: Shape (P,); void where the truth is not known.
        predicted_class: Shape (P,).
        image: Pair of each pixel, shape (H, W).
        void: In `true_class`.
    """

    truth: Integers
    predicted: Integers
    pixels: Integers
    true_class: Integers
    predicted_class: Integers
    image: npt.NDArray[np.int32]
    void: int

    @property
    def known(self) -> Flags:
        """Whether the truth of a pair is known, shape (P,)."""
        return np.asarray(self.true_class != self.void)

    @property
    def right(self) -> Flags:
        """Whether a pair's pixels are right, shape (P,)."""
        return np.asarray(self.true_class == self.predicted_class)

    def sums(self, which: Flags, components: Integers, count: int) -> Integers:
        """Pixels of each component in the pairs that are asked for."""
        return np.bincount(components[which], self.pixels[which], count).astype(np.int64)


@dataclass(frozen=True)
class States:
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


def find_overlaps(truth: Components, prediction: Components, void: int) -> Overlaps:
    """Finds the pairs of components that share pixels, by runs of pixels in a row.

    Args:
        truth: Components of the true mask, void among them.
        prediction: Components of the predicted mask of the same shape.
        void: Of the masks.
    """
    starts = np.ones(truth.labels.shape, bool)
    starts[:, 1:] = truth.labels[:, 1:] != truth.labels[:, :-1]
    starts[:, 1:] |= prediction.labels[:, 1:] != prediction.labels[:, :-1]
    first = np.flatnonzero(starts)
    lengths = np.diff(np.append(first, starts.size))
    keys = truth.labels.ravel()[first].astype(np.int64) * len(prediction) + prediction.labels.ravel()[first]
    pairs, of_run = np.unique(keys, return_inverse=True)
    of_truth, of_prediction = np.divmod(pairs, len(prediction))
    return Overlaps(
        truth=of_truth,
        predicted=of_prediction,
        pixels=np.bincount(of_run, lengths, len(pairs)).astype(np.int64),
        true_class=truth.values[of_truth],
        predicted_class=prediction.values[of_prediction],
        image=np.repeat(of_run.astype(np.int32), lengths).reshape(starts.shape),
        void=void,
    )


def find_states(overlaps: Overlaps, truth: Components, prediction: Components, kinds: Kinds) -> States:
    """Finds out which components were found and which have another name; void ones mean nothing.

    Args:
        overlaps: Of the components.
        truth: Components of the true mask.
        prediction: Components of the predicted mask.
        kinds: Of the classes.
    """
    same_kind = overlaps.known & ~overlaps.right
    same_kind &= kinds_of(overlaps.true_class, kinds) == kinds_of(overlaps.predicted_class, kinds)
    hit = overlaps.sums(overlaps.right, overlaps.truth, len(truth))
    found = hit >= FOUND_SHARE * truth.pixels
    renamed = overlaps.sums(same_kind, overlaps.truth, len(truth)) >= NAMED_SHARE * truth.pixels
    known = overlaps.sums(overlaps.known, overlaps.predicted, len(prediction))
    right = overlaps.sums(overlaps.right, overlaps.predicted, len(prediction))
    based = right >= FOUND_SHARE * known
    mistaken = overlaps.sums(same_kind, overlaps.predicted, len(prediction)) >= NAMED_SHARE * known
    return States(found, ~found & renamed, based, ~based & mistaken)


def kinds_of(class_ids: Integers, kinds: Kinds) -> Integers:
    """Kinds of classes; that of void means nothing."""
    return kinds[np.where(class_ids == void_id(len(kinds)), 0, class_ids)].astype(np.int64)
