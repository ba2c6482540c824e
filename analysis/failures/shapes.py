"""Shapes of errors on a pixel grid; all distances are in rows and columns, as Boundary IoU is computed."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt
from scipy import ndimage

Flags = npt.NDArray[np.bool_]


def near(region: Flags, void: Flags, width: int) -> Flags:
    """Pixels within `width` rows and columns of a region; void that near belongs to it, as far as is known.

    Args:
        region: Shape (H, W).
        void: Where the truth is not known.
        width: In pixels.
    """
    found = grown(region, width)
    seam = found & void
    return grown(region | seam, width) if seam.any() else found


def grown(region: Flags, width: int) -> Flags:
    """Pixels within `width` rows and columns of a region."""
    kernel = np.ones((2 * width + 1, 2 * width + 1), np.uint8)
    return np.asarray(cv2.dilate(region.view(np.uint8), kernel) > 0)


def wide(errors: npt.NDArray[np.float32], width: int) -> Flags:
    """Pixels of an error that a square of `width + 1` pixels fits into: its opening (Serra, 1982).

    Args:
        errors: Number of each pixel's error, 0 where there is none; shape (H, W).
        width: Of what is not wide.
    """
    kernel = np.ones((width + 1, width + 1), np.uint8)
    anchor = (0, 0)
    # Beyond the image there is no error: what runs along its border is as wide as can be seen.
    least = cv2.erode(errors, kernel, anchor=anchor, borderType=cv2.BORDER_CONSTANT, borderValue=0)
    most = cv2.dilate(errors, kernel, anchor=anchor, borderType=cv2.BORDER_CONSTANT, borderValue=0)
    fits = ((least == most) & (least > 0)).astype(np.uint8)
    # A square that begins here covers the pixels that have it up to `width` rows above and columns to the left.
    back = (width, width)
    return np.asarray(cv2.dilate(fits, kernel, anchor=back, borderType=cv2.BORDER_CONSTANT, borderValue=0) > 0)


def between(parts: npt.NDArray[np.float32], void: Flags, width: int) -> Flags:
    """Pixels that have two different parts within `width` rows and columns.

    Args:
        parts: Numbers of the parts, from 1; 0 elsewhere.
        void: Where the truth is not known: what of it is within `width` of a part belongs to it, or to both.
        width: In pixels.
    """
    highest, lowest = _extremes(parts, void, width, width)
    return np.asarray(highest > lowest)


def joining(pieces: Flags, parts: npt.NDArray[np.float32], void: Flags, width: int, connectivity: int) -> Flags:
    """The connected pieces of a region that have two different parts within `width + 1` rows and columns.

    Args:
        pieces: Shape (H, W).
        parts: Numbers of the parts, from 1; 0 elsewhere.
        void: As of `between`.
        width: In pixels.
        connectivity: Of the pieces, 4 or 8.
    """
    labels, count = ndimage.label(pieces, np.ones((3, 3)) if connectivity == 8 else None)
    highest, lowest = _extremes(parts, void, width, width + 1)
    numbers = np.arange(1, count + 1)
    joins = ndimage.maximum(highest, labels, numbers) > ndimage.minimum(lowest, labels, numbers)
    return np.asarray(np.concatenate([[False], joins])[labels])


def box_of(region: Flags, *, margin: int) -> tuple[slice, slice]:
    """Rows and columns of a region that is not empty, and some around it."""
    rows, columns = np.flatnonzero(region.any(axis=1)), np.flatnonzero(region.any(axis=0))
    return (
        slice(max(0, rows[0] - margin), rows[-1] + 1 + margin),
        slice(max(0, columns[0] - margin), columns[-1] + 1 + margin),
    )


def _extremes(
    parts: npt.NDArray[np.float32], void: Flags, width: int, reach: int
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """Highest and lowest number of a part within `reach` of each pixel; 0 and one beyond all where there is none."""
    beyond = parts.max() + 1
    reversed_parts = np.where(parts > 0, beyond - parts, 0)
    highest, lowest = (_highest(numbers, void, width, reach) for numbers in (parts, reversed_parts))
    return highest, beyond - lowest


def _highest(numbers: npt.NDArray[np.float32], void: Flags, width: int, reach: int) -> npt.NDArray[np.float32]:
    kernel, wider = (np.ones((2 * size + 1, 2 * size + 1), np.uint8) for size in (width, reach))
    if void.any():
        numbers = np.where(void, cv2.dilate(numbers, kernel), numbers)
    return np.asarray(cv2.dilate(numbers, wider))
