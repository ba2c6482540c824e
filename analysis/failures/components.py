"""Connected components of all classes of a mask at once, with their classes, sizes and boxes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

CONNECTIVITY = 8
"""Pixels that touch at a corner belong together (8), or only those that share a side (4)."""

Labels = npt.NDArray[np.int32]
Integers = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Components:
    """The connected components of a mask; the K components are numbered in the order of their first pixels.

    Attributes:
        labels: Component of each pixel, int32 of shape (H, W).
        values: What the mask holds there, shape (K,): a class, or void.
        pixels: Size, shape (K,).
        boxes: Top, left, bottom and right (the last two beyond the component), shape (K, 4).
    """

    labels: Labels
    values: Integers
    pixels: Integers
    boxes: Integers

    def __len__(self) -> int:
        return len(self.values)


def find_components(mask: npt.NDArray[np.integer], *, connectivity: int = CONNECTIVITY) -> Components:
    """Finds the connected components of equal values, all values in one pass.

    The mask is cut into runs of equal pixels in a row; runs of neighbouring rows that touch and are equal are the edges
    of a graph whose connected components are the mask's. Time and memory are those of a few passes over the pixels,
    however many values there are.

    Args:
        mask: Shape (H, W), at least one pixel.
        connectivity: 4 or 8.

    Raises:
        ValueError: If the connectivity is another one.
    """
    if connectivity not in (4, 8):
        raise ValueError(f"connectivity must be 4 or 8, not {connectivity}")
    height, width = mask.shape
    starts = np.ones(mask.shape, bool)
    np.not_equal(mask[:, 1:], mask[:, :-1], out=starts[:, 1:])
    first = np.flatnonzero(starts)
    lengths = np.diff(np.append(first, mask.size))
    run = np.repeat(np.arange(len(first), dtype=np.int32), lengths).reshape(mask.shape)
    edges = [_vertical(mask, run, starts)]
    if connectivity == 8:
        edges += _diagonal(mask, run, starts)
    upper, lower = (np.concatenate(side) for side in zip(*edges, strict=True))
    graph = coo_array((np.ones(len(upper), np.int8), (upper, lower)), shape=(len(first), len(first)))
    count, of_run = connected_components(graph, directed=False)
    # The search begins at the first run that has no component yet: components are numbered by their first pixels.
    values = np.zeros(count, np.int64)
    values[of_run] = mask.ravel()[first]
    return Components(
        labels=np.repeat(of_run.astype(np.int32), lengths).reshape(mask.shape),
        values=values,
        pixels=np.bincount(of_run, lengths, count).astype(np.int64),
        boxes=_boxes(of_run, count, first, lengths, height, width),
    )


def _vertical(mask: npt.NDArray[np.integer], run: Labels, starts: npt.NDArray[np.bool_]) -> tuple[Labels, Labels]:
    """Runs that touch by a side, each pair where it begins."""
    touch = (mask[1:] == mask[:-1]) & (starts[1:] | starts[:-1])
    return run[:-1][touch], run[1:][touch]


def _diagonal(mask: npt.NDArray[np.integer], run: Labels, starts: npt.NDArray[np.bool_]) -> list[tuple[Labels, Labels]]:
    """Runs that touch by corners only: where a run begins in both rows."""
    both = starts[1:, 1:] & starts[:-1, 1:]
    falling = both & (mask[:-1, :-1] == mask[1:, 1:])
    rising = both & (mask[:-1, 1:] == mask[1:, :-1])
    return [(run[:-1, :-1][falling], run[1:, 1:][falling]), (run[:-1, 1:][rising], run[1:, :-1][rising])]


def _boxes(of_run: Labels, count: int, first: Integers, lengths: Integers, height: int, width: int) -> Integers:
    rows, lefts = np.divmod(first, width)
    boxes = np.empty((count, 4), np.int64)
    boxes[:, 0], boxes[:, 1], boxes[:, 2:] = height, width, 0
    np.minimum.at(boxes[:, 0], of_run, rows)
    np.minimum.at(boxes[:, 1], of_run, lefts)
    np.maximum.at(boxes[:, 2], of_run, rows + 1)
    np.maximum.at(boxes[:, 3], of_run, lefts + lengths)
    return boxes
