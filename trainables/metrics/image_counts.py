"""Confusion matrices of many images without their zeros.

Few of the pairs of classes meet in one image: 500 images of 1,000 classes are a megabyte here, 4 GB as full
matrices.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import numpy as np
import numpy.typing as npt

SUMMED_VALUES = 2**21
"""Values of images that are turned into float64 at once where they are summed: 16 MiB."""


@dataclass(frozen=True)
class ImageCounts:
    """Pixels of each image by true and predicted class, where there are any.

    It stands for an array of int64 of shape (N, C, C) and has of it what metrics ask for: `shape`, `len`, sums over
    axes, the matrix of an image. `np.asarray` gives all of it, 8 bytes for each pair of classes in each image.

    Attributes:
        images: Number of images N, in the split's order.
        classes: Number of classes C.
        image: Place of an image, int32 of shape (M,), in rising order.
        pair: True class times C plus predicted class, int32 of shape (M,); each once in an image.
        pixels: How many, int64 of shape (M,).
    """

    NAMES: ClassVar = ("shape", "image", "pair", "pixels")
    """Of the arrays that a file keeps."""

    images: int
    classes: int
    image: npt.NDArray[np.int32]
    pair: npt.NDArray[np.int32]
    pixels: npt.NDArray[np.int64]

    @property
    def shape(self) -> tuple[int, int, int]:
        """N, C, C."""
        return self.images, self.classes, self.classes

    def __len__(self) -> int:
        return self.images

    def __array__(self, dtype: npt.DTypeLike | None = None, copy: bool | None = None) -> npt.NDArray[Any]:
        matrices = np.zeros((self.images, self.classes**2), dtype=np.int64)
        matrices[self.image, self.pair] = self.pixels
        return matrices.reshape(self.shape).astype(dtype or np.int64, copy=False)

    def __getitem__(self, place: Any) -> npt.NDArray[np.int64]:
        """Confusion matrix of one image, shape (C, C); by another index than a number what the whole array gives."""
        if not isinstance(place, int | np.integer):
            return np.asarray(np.asarray(self)[place])
        first, end = np.searchsorted(self.image, (range(self.images)[place], range(self.images)[place] + 1))
        matrix = np.zeros(self.classes**2, dtype=np.int64)
        matrix[self.pair[first:end]] = self.pixels[first:end]
        return matrix.reshape(self.classes, self.classes)

    def sum(self, axis: int | tuple[int, ...]) -> npt.NDArray[np.int64]:
        """Sums over axes: over 0 that of the split, over 2 each image's truth, over 1 what is predicted in it.

        Args:
            axis: One or two of the three.
        """
        summed = {one % 3 for one in ((axis,) if isinstance(axis, int) else axis)}
        kept = [one for one in range(3) if one not in summed]
        index = np.zeros(len(self.image), dtype=np.int64)
        for one in kept:
            index = index * self.shape[one] + self._places[one]
        return _counted(index, self.pixels, tuple(self.shape[one] for one in kept))

    def margins(self) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """Right pixels, pixels in the truth and predicted pixels of each class in each image, each of shape (N, C)."""
        image, true, predicted = self._places
        is_right = true == predicted
        index = image[is_right].astype(np.int64) * self.classes + true[is_right]
        return _counted(index, self.pixels[is_right], self.shape[:2]), self.sum(axis=2), self.sum(axis=1)

    def weighted(self, weights: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """Sums over images: weights of shape (R, N) give matrices of shape (R, C, C)."""
        total = np.zeros((len(weights), self.classes**2))
        for block in self._blocks:
            counts = np.zeros((block.images.stop - block.images.start, block.width))
            counts.reshape(-1)[block.cells] = self.pixels[block.places]
            total[:, block.pairs] += weights[:, block.images] @ counts
        return total.reshape(-1, self.classes, self.classes)

    def arrays(self) -> dict[str, npt.NDArray[np.generic]]:
        """What a file keeps of it."""
        shape = np.array([self.images, self.classes], dtype=np.int64)
        return dict(zip(self.NAMES, (shape, self.image, self.pair, self.pixels), strict=True))

    @classmethod
    def of(cls, arrays: Mapping[str, npt.NDArray[np.generic]]) -> ImageCounts:
        """From the arrays of a file."""
        images, classes = (int(number) for number in arrays["shape"])
        image, pair = (np.asarray(arrays[name], dtype=np.int32) for name in ("image", "pair"))
        return cls(images, classes, image, pair, np.asarray(arrays["pixels"], dtype=np.int64))

    @classmethod
    def of_matrices(cls, matrices: npt.NDArray[np.integer]) -> ImageCounts:
        """From full matrices, shape (N, C, C)."""
        images, classes = matrices.shape[:2]
        image, true, predicted = np.nonzero(matrices)
        pair = (true * classes + predicted).astype(np.int32)
        pixels = matrices[image, true, predicted].astype(np.int64)
        return cls(images, classes, image.astype(np.int32), pair, pixels)

    @classmethod
    def joined(cls, parts: Sequence[ImageCounts]) -> ImageCounts:
        """The images of several, one after the other; at least one, all of as many classes."""
        starts = np.cumsum([0, *(part.images for part in parts)])
        image = np.concatenate([part.image + start for part, start in zip(parts, starts[:-1], strict=True)])
        pair, pixels = (np.concatenate([getattr(part, name) for part in parts]) for name in ("pair", "pixels"))
        return cls(int(starts[-1]), parts[0].classes, image.astype(np.int32), pair, pixels)

    @classmethod
    def dealt(cls, parts: Sequence[ImageCounts]) -> ImageCounts:
        """Of images that were dealt out in turn: image k of part r is image k * len(parts) + r."""
        image = np.concatenate([part.image * np.int32(len(parts)) + np.int32(r) for r, part in enumerate(parts)])
        order, all_of = np.argsort(image, kind="stable"), cls.joined(parts)
        return cls(all_of.images, all_of.classes, image[order], all_of.pair[order], all_of.pixels[order])

    @functools.cached_property
    def _places(self) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int32], npt.NDArray[np.int32]]:
        """Along each axis, of every pair: image, true class, predicted class."""
        true, predicted = np.divmod(self.pair, np.int32(self.classes))
        return self.image, true, predicted

    @functools.cached_property
    def _blocks(self) -> list[_Block]:
        """Images that are `SUMMED_VALUES` numbers at most, or single ones, as tables of all pairs or of those there."""
        crowded = max(1, int(np.bincount(self.image, minlength=1).max()))
        whole, found = SUMMED_VALUES // self.classes**2, math.isqrt(SUMMED_VALUES // crowded)
        step = max(1, whole, found)
        blocks = []
        for start in range(0, self.images, step):
            images = slice(start, min(start + step, self.images))
            places = slice(*np.searchsorted(self.image, (images.start, images.stop)).tolist())
            pairs: npt.NDArray[np.int32] | slice = slice(None)
            columns, width = self.pair[places].astype(np.intp), self.classes**2
            if whole < min(found, self.images):
                pairs, columns = np.unique(self.pair[places], return_inverse=True)
                width = len(pairs)
            rows = self.image[places].astype(np.intp) - start
            blocks.append(_Block(images, places, pairs, rows * width + columns, width))
        return blocks


class _Block(NamedTuple):
    """Some images as a table.

    Attributes:
        images: Its rows, of all images.
        places: Of their counts.
        pairs: Which pairs of classes its columns are.
        cells: Where each count stands in the table, row by row.
        width: Number of columns.
    """

    images: slice
    places: slice
    pairs: npt.NDArray[np.int32] | slice
    cells: npt.NDArray[np.intp]
    width: int


def _counted(
    index: npt.NDArray[np.int64], pixels: npt.NDArray[np.int64], shape: tuple[int, ...]
) -> npt.NDArray[np.int64]:
    """Sums of pixels by an index into an array of some shape; float64 holds every count below 2**53 as it is."""
    summed = np.bincount(index, weights=pixels, minlength=math.prod(shape))
    return summed.astype(np.int64).reshape(shape)
