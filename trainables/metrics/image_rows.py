"""One array for the numbers of many images, which come one image at a time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

BLOCK_BYTES = 2**25
"""Of the rows that are allocated at once: 32 MiB."""

MOST_ROWS = 1024
"""That are allocated at once."""


class ImageRows:
    """Rows of one shape in blocks.

    An array of its own for each image would lie between the large ones that come and go with the images, and keep the
    allocator from using their place again: at 480x640 pixels and 20 classes a process grew by 2 MB an image that way.

    Args:
        shape: Of a row.
        dtype: Of the numbers.
    """

    def __init__(self, shape: Sequence[int], dtype: type) -> None:
        self._shape, self._dtype = tuple(shape), np.dtype(dtype)
        row_bytes = max(1, int(np.prod(self._shape)) * self._dtype.itemsize)
        self._rows = min(MOST_ROWS, max(1, BLOCK_BYTES // row_bytes))
        self._blocks: list[npt.NDArray[Any]] = []
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def append(self, row: npt.ArrayLike) -> None:
        """Adds an image's row."""
        place = self._count % self._rows
        if place == 0:
            self._blocks.append(np.empty((self._rows, *self._shape), self._dtype))
        self._blocks[-1][place] = row
        self._count += 1

    def value(self) -> npt.NDArray[Any]:
        """All rows so far, shape (N, ...)."""
        if not self._blocks:
            return np.zeros((0, *self._shape), self._dtype)
        last = self._blocks[-1][: self._count - self._rows * (len(self._blocks) - 1)]
        return last if len(self._blocks) == 1 else np.concatenate([*self._blocks[:-1], last])

    def take(self) -> npt.NDArray[Any]:
        """The same, which are then no longer held."""
        taken = self.value()
        self._blocks, self._count = [], 0
        return taken
