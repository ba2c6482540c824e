"""Images and masks decoded once and kept in memory."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from trainables.data.base import Image, Mask, SegmentationData
from trainables.data.scan import pixels_by_class, scan

# OpenCV would start a thread a core in every process, beside torch's own.
cv2.setNumThreads(0)


def resize_image(image: Image, size: tuple[int, int]) -> Image:
    """Resizes an RGB image, antialiased: mean over the source area when shrinking, bilinear when enlarging.

    Args:
        image: uint8 of shape (H, W, 3).
        size: Height and width wanted.
    """
    height, width = size
    if image.shape[:2] == size:
        return image
    shrinks = height <= image.shape[0] and width <= image.shape[1]
    method = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(image, (width, height), interpolation=method), np.uint8)


def resize_mask(mask: Mask, size: tuple[int, int]) -> Mask:
    """Resizes a mask to the nearest pixel centre, so that no id appears that was not there.

    `INTER_NEAREST_EXACT` shares its pixel centres with the image's resizing; `INTER_NEAREST` lies up to half a pixel
    off.

    Args:
        mask: uint8 of shape (H, W).
        size: Height and width wanted.
    """
    if mask.shape == size:
        return mask
    return np.asarray(cv2.resize(mask, (size[1], size[0]), interpolation=cv2.INTER_NEAREST_EXACT), np.uint8)


class DecodedCache:
    """A data set's arrays at one training size, decoded at first use and kept up to a limit of memory.

    Beyond the limit images are decoded at each use. Callers get arrays of their own, so that an augmentation that
    works in place cannot reach what is kept. Sent to another process, the cache travels empty.

    Args:
        data: The data set.
        size: Height and width that images are resized to.
        limit_bytes: Upper bound of the memory kept, in bytes.
    """

    def __init__(self, data: SegmentationData, size: tuple[int, int], *, limit_bytes: int) -> None:
        self.data = data
        self.size = (int(size[0]), int(size[1]))
        self.limit_bytes = limit_bytes
        self._reset()

    def train_arrays(self, image_id: str) -> tuple[Image, Mask]:
        """Image (H, W, 3) and mask (H, W), both at the training size."""
        image = self._image(image_id)
        mask = self._kept("small mask", image_id, lambda: resize_mask(self.data.mask(image_id), self.size))
        return image, mask

    def eval_arrays(self, image_id: str) -> tuple[Image, Mask]:
        """Image (H, W, 3) at the training size and mask (h, w) at its original size."""
        return self._image(image_id), self._kept("mask", image_id, lambda: self.data.mask(image_id))

    @property
    def used_bytes(self) -> int:
        """Memory kept now, in bytes."""
        return self._used

    def _image(self, image_id: str) -> Image:
        return self._kept("image", image_id, lambda: resize_image(self.data.image(image_id), self.size))

    def _kept(self, kind: str, image_id: str, decode: Callable[[], Image]) -> Image:
        key = (kind, image_id)
        kept = self._arrays.get(key)
        if kept is not None:
            return kept.copy()
        array = np.ascontiguousarray(decode())
        with self._lock:
            if key not in self._arrays and self._used + array.nbytes <= self.limit_bytes:
                self._arrays[key] = array
                self._used += array.nbytes
        return array.copy()

    def _reset(self) -> None:
        self._arrays: dict[tuple[str, str], Image] = {}
        self._used = 0
        self._lock = threading.Lock()

    def __getstate__(self) -> dict[str, Any]:
        return {"data": self.data, "size": self.size, "limit_bytes": self.limit_bytes}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._reset()


def class_pixels(data: SegmentationData, ids: Sequence[str]) -> npt.NDArray[np.int64]:
    """Pixels of each class over masks at their original size, shape (C,); void is left out."""
    counts = np.zeros(len(data.classes), np.int64)
    for record in scan(data, ids).values():
        counts += pixels_by_class(data, record)
    return counts
