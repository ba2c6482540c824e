"""The types of masks, and the id of void in each: the one place that knows them.

Masks are bytes where the classes and void fit into 0 .. 255, else they have 16 bits. Void is the largest number of the
type, so that an array of ids tells by itself which of its ids is void.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

MOST_IN_BYTES = 254
"""How many classes masks of 8 bits have room for beside void."""

MOST_CLASSES = 65534
"""How many classes masks of 16 bits have room for beside void."""

MaskType = np.dtype[np.uint8 | np.uint16]

VOID = 255
"""`void_id` of data sets that are known to have few classes."""


def mask_type(classes: int) -> MaskType:
    """The type of the masks of a data set with so many classes."""
    return np.dtype(np.uint8) if classes <= MOST_IN_BYTES else np.dtype(np.uint16)


def void_id(classes: int) -> int:
    """The id of pixels that count in no loss and no metric, in masks and targets of a data set of so many classes.

    Example:
        >>> void_id(21), void_id(254), void_id(255)
        (255, 255, 65535)
    """
    return int(np.iinfo(mask_type(classes)).max)


def void_of(mask: npt.NDArray[np.uint8 | np.uint16]) -> int:
    """The same id, told by the type of a mask."""
    return int(np.iinfo(mask.dtype).max)
