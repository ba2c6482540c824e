"""Confusion matrices of single images without their zeros: what a finished trial keeps of val.

From them any metric that trials report can be computed on any images again, so that it is known how far a score would
move on other images. Few of the pairs of classes meet in one image: 2,000 images of 150 classes are some megabytes
here, 360 as full matrices.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from trainables.metrics.arrays import Counts
from trainables.metrics.registry import ConfusionsAlone


@dataclass(frozen=True)
class ImageCounts:
    """Pixels of each image by true and predicted class, where there are any.

    Attributes:
        images: Number of images N, in the split's order.
        classes: Number of classes C.
        image: Place of an image, int32 of shape (M,).
        pair: True class times C plus predicted class, int32 of shape (M,).
        pixels: How many, int64 of shape (M,).
    """

    images: int
    classes: int
    image: npt.NDArray[np.int32]
    pair: npt.NDArray[np.int32]
    pixels: npt.NDArray[np.int64]

    def collected(self) -> ConfusionsAlone:
        """Full matrices, shape (N, C, C), as metrics take them."""
        matrices = np.zeros((self.images, self.classes * self.classes), dtype=np.int64)
        matrices[self.image, self.pair] = self.pixels
        return ConfusionsAlone(matrices.reshape(self.images, self.classes, self.classes))

    def total(self) -> Counts:
        """Confusion matrix of the split, shape (C, C)."""
        summed = np.bincount(self.pair, weights=self.pixels, minlength=self.classes * self.classes)
        return summed.astype(np.int64).reshape(self.classes, self.classes)

    def arrays(self) -> dict[str, npt.NDArray[np.generic]]:
        """What a file keeps of it."""
        shape = np.array([self.images, self.classes], dtype=np.int64)
        return {"shape": shape, "image": self.image, "pair": self.pair, "pixels": self.pixels}

    @classmethod
    def dealt(cls, parts: Sequence[ImageCounts]) -> ImageCounts:
        """Of a split whose images were dealt out in turn: image k of part r is image k * len(parts) + r of it."""
        image = np.concatenate([one.image * len(parts) + rank for rank, one in enumerate(parts)])
        order = np.argsort(image, kind="stable")
        pair, pixels = (np.concatenate([getattr(one, name) for one in parts])[order] for name in ("pair", "pixels"))
        return cls(sum(one.images for one in parts), parts[0].classes, image[order].astype(np.int32), pair, pixels)

    @classmethod
    def of(cls, arrays: Mapping[str, npt.NDArray[np.generic]]) -> ImageCounts:
        """From the arrays of a file."""
        images, classes = (int(number) for number in arrays["shape"])
        image, pair = (np.asarray(arrays[name], dtype=np.int32) for name in ("image", "pair"))
        return cls(images, classes, image, pair, np.asarray(arrays["pixels"], dtype=np.int64))
