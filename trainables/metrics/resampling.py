"""A split again with other images: drawn with replacement, or some left out, as weights of its images.

A replicate is a vector of weights: how often each image counts. Where images come in groups (frames of a video, slices
of a patient) whole groups are drawn or left out, and all images of a group share its weight.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from trainables.metrics.arrays import Floats

BATCH_WEIGHTS = 2**21
"""Weights (replicates times images) that are handed out at once: 16 MiB, however many images there are."""


@dataclass(frozen=True)
class Units:
    """What is drawn, or left out, in a replicate.

    Attributes:
        of_image: Unit of each image, integers 0 .. count - 1 of shape (N,).
        count: Number of units.
        grouped: Whether units are groups of images.
    """

    of_image: npt.NDArray[np.intp]
    count: int
    grouped: bool

    @property
    def name(self) -> str:
        """`images` or `groups`."""
        return "groups" if self.grouped else "images"


def sampling_units(groups: Sequence[str | None]) -> Units:
    """The units of images: their groups, or the images themselves where they have none.

    Args:
        groups: Group of each image, None for an image of its own.
    """
    names = [("image", str(place)) if group is None else ("group", group) for place, group in enumerate(groups)]
    numbers = {name: number for number, name in enumerate(dict.fromkeys(names))}
    of_image = np.array([numbers[name] for name in names], dtype=np.intp)
    return Units(of_image, len(numbers), grouped=any(group is not None for group in groups))


def replicate_weights(units: Units, *, resamples: int, seed: int) -> Iterator[Floats]:
    """Weights of shape (R, N), some replicates at a time until there are `resamples` of them.

    Args:
        units: What is drawn.
        resamples: Number of replicates in all.
        seed: Of the draws; the same seed gives the same draws.
    """
    rng = np.random.default_rng(seed)
    batch = max(1, BATCH_WEIGHTS // len(units.of_image))
    for start in range(0, resamples, batch):
        draws = rng.integers(0, units.count, (min(batch, resamples - start), units.count))
        yield draw_counts(draws, units.count)[:, units.of_image]


def leave_out_weights(units: Units, *, most: int) -> Iterator[Floats]:
    """Weights of shape (R, N), some at a time, each without one block of units; every unit is in one block.

    Args:
        units: What is left out.
        most: Blocks at most: with more units than that, each block has several, dealt out at random.
    """
    blocks = min(most, units.count)
    order = np.arange(units.count) if blocks == units.count else np.random.default_rng(0).permutation(units.count)
    block = np.empty(units.count, dtype=np.intp)
    block[order] = np.arange(units.count) % blocks
    of_image = block[units.of_image]
    batch = max(1, BATCH_WEIGHTS // len(of_image))
    for start in range(0, blocks, batch):
        left_out = np.arange(start, min(start + batch, blocks))
        yield (of_image[None, :] != left_out[:, None]).astype(np.float64)


def draw_counts(draws: npt.NDArray[np.intp], count: int) -> Floats:
    """How often each unit was drawn: draws of shape (R, D) with entries below `count` to counts of shape (R, count)."""
    offsets = np.arange(len(draws))[:, None] * count
    counts = np.bincount((draws + offsets).ravel(), minlength=len(draws) * count)
    return counts.reshape(len(draws), count).astype(np.float64)
