"""Parts of large images: how many training draws from one, and the windows that an evaluation slides over it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from trainables.data.base import Mask
from trainables.data.resizing import Size
from trainables.data.void import void_of

OVERLAP = 0.25
"""The least share of a window that the next one covers in an evaluation."""
MOST_TILES = 16
"""Most tiles that training draws from one image in an epoch."""
CLASS_PIXELS = 256
"""Most pixels of a class in an image among which one is drawn for a part to show; nnU-Net keeps such a list, too."""

Weights = npt.NDArray[np.float32]


def tiles_per_epoch(image: Size, tile: Size) -> int:
    """How many tiles training draws from an image in an epoch: as many as its pixels are tiles, 1 to `MOST_TILES`.

    Example:
        >>> [tiles_per_epoch(size, (512, 512)) for size in ((300, 400), (600, 1000), (4000, 6000))]
        [1, 3, 16]
    """
    return min(MOST_TILES, max(1, math.ceil(math.prod(image) / math.prod(tile))))


def pixels_of_classes(mask: Mask, *, seed: int, most: int = CLASS_PIXELS) -> dict[int, npt.NDArray[np.int64]]:
    """Pixels of each class in a mask, drawn uniformly and with replacement.

    Args:
        mask: Class ids or void of shape (H, W).
        seed: Decides which.
        most: Of a class; of a class with fewer pixels there are as many as it has.

    Returns:
        For each class in the mask rows and columns, shape (n, 2).
    """
    generator = np.random.default_rng(seed)
    found = {}
    for class_id in np.unique(mask):
        if class_id == void_of(mask):
            continue
        same = mask == class_id
        ends = np.cumsum(np.count_nonzero(same, axis=1))
        ranks = np.sort(generator.integers(0, ends[-1], min(most, int(ends[-1]))))
        rows = np.searchsorted(ends, ranks, side="right")
        before = ranks - (ends[rows] - np.count_nonzero(same[rows], axis=1))
        columns = [np.flatnonzero(same[row])[rank] for row, rank in zip(rows, before, strict=True)]
        found[int(class_id)] = np.stack([rows, np.asarray(columns, np.int64)], axis=1)
    return found


@dataclass(frozen=True)
class Side:
    """Windows along one side of an image.

    Attributes:
        starts: Where they begin: the first at 0, the last ends with the side, evenly spaced between.
        window: Pixels of each.
        length: Pixels of the side.
    """

    starts: tuple[int, ...]
    window: int
    length: int

    @classmethod
    def covered(cls, length: int, window: int, overlap: float = OVERLAP) -> Side:
        """As few windows as cover a side.

        Args:
            length: Pixels of the side.
            window: Pixels of a window; on a shorter side there is one, as long as the side.
            overlap: The least share of a window that the next one covers.

        Example:
            >>> Side.covered(1000, 400, 0.25).starts, Side.covered(300, 400, 0.25)
            ((0, 300, 600), Side(starts=(0,), window=300, length=300))
        """
        window = min(length, window)
        step = max(1, math.floor(window * (1 - overlap)))
        count = 1 + math.ceil((length - window) / step)
        starts = (round(place * (length - window) / max(1, count - 1)) for place in range(count))
        return cls(tuple(starts), window, length)

    def weights(self) -> list[Weights]:
        """What each window counts along the side, shape (window,): 1 in its middle, 0 at a border inside the image.

        Of the pixels that two neighbours share, the quarter at a window's border does not count, as the model sees it
        without what is behind; over the half between them the weight rises linearly, so that nothing jumps. A border of
        the image is no such border.
        """
        found = []
        for place, start in enumerate(self.starts):
            weight = np.ones(self.window, np.float32)
            if place > 0:
                weight *= _ramp(self.window, self.starts[place - 1] + self.window - start)
            if place < len(self.starts) - 1:
                weight *= _ramp(self.window, start + self.window - self.starts[place + 1])[::-1]
            found.append(weight)
        return found

    def done(self, place: int) -> int:
        """Up to which pixel no window after the one at a place reaches back."""
        return self.starts[place + 1] if place + 1 < len(self.starts) else self.length


def _ramp(window: int, shared: int) -> Weights:
    """From 0 to 1 over the middle half of the first `shared` pixels."""
    if shared <= 0:
        return np.ones(window, np.float32)
    centres = np.arange(window, dtype=np.float32) + 0.5
    return np.asarray(np.clip((centres - shared / 4) / (shared / 2), 0, 1), np.float32)


def windows(image: Size, window: Size, overlap: float = OVERLAP) -> tuple[Side, Side]:
    """The rows and the columns of windows that cover an image."""
    rows, columns = (Side.covered(length, side, overlap) for length, side in zip(image, window, strict=True))
    return rows, columns


def window_count(image: Size, window: Size, overlap: float = OVERLAP) -> int:
    """How many windows cover an image.

    Example:
        >>> window_count((4000, 6000), (512, 512)), window_count((300, 400), (512, 512))
        (176, 1)
    """
    rows, columns = windows(image, window, overlap)
    return len(rows.starts) * len(columns.starts)


def in_runs(sizes: Sequence[Size], most: int) -> Iterator[list[int]]:
    """Places of neighbours of one size, at most so many at a time.

    Example:
        >>> list(in_runs([(4, 4), (4, 4), (4, 4), (2, 4), (4, 4)], 2))
        [[0, 1], [2], [3], [4]]
    """
    run: list[int] = []
    for place, size in enumerate(sizes):
        if run and (len(run) == most or size != sizes[run[-1]]):
            yield run
            run = []
        run.append(place)
    if run:
        yield run


def counted_tiles(images: Iterable[Size], tile: Size) -> int:
    """Tiles of an epoch over images."""
    return sum(tiles_per_epoch(image, tile) for image in images)
