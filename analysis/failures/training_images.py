"""What the images that a model was trained on say of others: how many of them have a class, and how far an image is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

NEIGHBOURS = 5
LEAST_TRAINING = 20
"""Training images for a distance; of fewer the nearest ones say little."""

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class TrainingImages:
    """What is known of the training images beside a split.

    Attributes:
        frequency: Share of the training images that have each class, shape (C,); None where they cannot be read.
        distances: By label, how far each image of the split is from them to that label's model, shape (N,).
        missing: What could not be measured and why, one sentence each.
    """

    frequency: Floats | None = None
    distances: Mapping[str, Floats] = field(default_factory=dict)
    missing: tuple[str, ...] = ()


def unit_length(features: Floats) -> Floats:
    """Rows of shape (N, D) divided by their lengths; a row of zeros stays one."""
    lengths = np.linalg.norm(features, axis=1, keepdims=True)
    return np.asarray(features / np.where(lengths > 0, lengths, 1))


def mean_distance(features: Floats, training: Floats, *, own: bool = False) -> Floats:
    """Mean Euclidean distance of each image to its nearest training images, shape (N,).

    Distances of features of unit length tell images that a network has not seen the like of (Sun et al., "Out-of-
    Distribution Detection with Deep Nearest Neighbors", ICML 2022; there the one to the k-th neighbour).

    Args:
        features: Of unit length, shape (N, D).
        training: Of `NEIGHBOURS` + 1 training images at least, of unit length, shape (M, D).
        own: Whether `features` are the training images themselves: each is left out of its own neighbours.
    """
    squares = 2 - 2 * features @ training.T
    if own:
        np.fill_diagonal(squares, np.inf)
    nearest = np.partition(squares, NEIGHBOURS - 1, axis=1)[:, :NEIGHBOURS]
    return np.asarray(np.sqrt(np.maximum(nearest, 0)).mean(axis=1))
