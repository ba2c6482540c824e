"""Images that show nearly the same: frames of one video, the same picture at another size, quality or brightness.

A test image that nearly is a training image is no test. Pictures are compared by 16x16 grey thumbnails: by the
correlation of their differences between neighbours, which brightness and contrast leave as it is. How far copies and
different pictures are apart is measured by `benchmarks/near_duplicates.py`. Mirrored and strongly cropped pictures are
not found.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from trainables.data.bands import Bands, grey_of
from trainables.data.base import Image

SIDE = 16
ALIKE = 0.85
"""The correlation from which on two pictures are told to be nearly the same."""
FLAT = 2.0
"""Grey levels: a thumbnail with a smaller standard deviation has nothing to be compared by."""
_ROWS = 2048


def thumbnail(image: Image, bands: Bands | None = None) -> str:
    """The picture in small, for `ImageRecord.thumbnail`: base64 of 16 x 16 grey levels.

    Args:
        image: uint8 of shape (H, W, C).
        bands: What its channels are; None: red, green and blue.
    """
    grey = grey_of(image, bands)
    small: npt.NDArray[np.uint8] = cv2.resize(grey, (SIDE, SIDE), interpolation=cv2.INTER_AREA).astype(np.uint8)
    return base64.b64encode(small.tobytes()).decode("ascii")


def likeness(thumbnails: Sequence[str], others: Sequence[str]) -> npt.NDArray[np.float32]:
    """The correlation of each picture with each of others, shape (N, M), -1 to 1; 0 for flat ones.

    Args:
        thumbnails: N of `thumbnail`.
        others: M of the same.
    """
    product: npt.NDArray[np.float32] = _features(thumbnails) @ _features(others).T
    return product


def near_duplicates(thumbnails: Mapping[str, str]) -> Iterator[tuple[str, str, float]]:
    """Pairs of images that are nearly the same, with their correlation.

    The time grows with the square of their number; `benchmarks/near_duplicates.py` prints it for 10,000 images.

    Args:
        thumbnails: By image id; empty ones (of images that cannot be read) are left out.
    """
    ids = [image_id for image_id, small in thumbnails.items() if small]
    features = _features([thumbnails[image_id] for image_id in ids])
    for first in range(0, len(ids), _ROWS):
        alike = features[first : first + _ROWS] @ features[first:].T
        for row, column in zip(*np.nonzero(alike >= ALIKE), strict=True):
            if column > row:
                yield ids[first + row], ids[first + column], float(min(1.0, alike[row, column]))


def grouped(ids: Sequence[str], thumbnails: Mapping[str, str]) -> dict[str, str]:
    """The group of each image: images that are connected by near-duplicates, called after the first of them.

    Args:
        ids: The images.
        thumbnails: By image id.
    """
    parent = {image_id: image_id for image_id in ids}

    def root(image_id: str) -> str:
        while parent[image_id] != image_id:
            parent[image_id] = parent[parent[image_id]]
            image_id = parent[image_id]
        return image_id

    place = {image_id: number for number, image_id in enumerate(ids)}
    for one, other, _ in near_duplicates({image_id: thumbnails[image_id] for image_id in ids}):
        first, second = sorted((root(one), root(other)), key=place.__getitem__)
        parent[second] = first
    return {image_id: root(image_id) for image_id in ids}


def _features(thumbnails: Sequence[str]) -> npt.NDArray[np.float32]:
    """Differences between neighbours, to the length 1: shape (N, 450)."""
    size = SIDE * SIDE
    content = np.frombuffer(b"".join(base64.b64decode(small) for small in thumbnails), np.uint8)
    pictures = content.reshape(len(thumbnails), SIDE, SIDE).astype(np.float32)
    across = np.diff(pictures, axis=2)[:, :-1].reshape(len(pictures), -1)
    down = np.diff(pictures, axis=1)[:, :, :-1].reshape(len(pictures), -1)
    features: npt.NDArray[Any] = np.concatenate([across, down], axis=1)
    flat = pictures.reshape(len(pictures), size).std(axis=1) < FLAT
    length = np.linalg.norm(features, axis=1, keepdims=True)
    features /= np.where(length > 0, length, 1)
    features[flat] = 0
    return features.astype(np.float32)
