"""What resizing whole images to a model's input would lose: connected parts that become smaller than a pixel."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from trainables.data.base import Mask, SegmentationData
from trainables.data.resizing import Size, content_size
from trainables.errors import DataError
from trainables.words import counted

SAMPLE = 12
"""Most masks that are looked at, spread over the data set."""
SPECKS = 16
"""Parts of fewer pixels in the mask itself are not counted: as often as not they are slips of whoever drew it."""
MUCH = 0.1
"""Share of lost parts from which tiles are proposed."""
TILE_SIDE = 512
STEP = 32


@dataclass(frozen=True)
class Lost:
    """Parts of masks that resizing would make smaller than a pixel.

    Attributes:
        parts: Connected parts of a class (8 neighbours) of `SPECKS` pixels and more, in the masks looked at.
        lost: Those of them of which less than a pixel would be left.
        masks: How many were looked at.
        size: The input's.
        tile: Side of the tiles that are proposed, in pixels.
    """

    parts: int
    lost: int
    masks: int
    size: Size
    tile: int

    @property
    def much(self) -> bool:
        """Whether tiles are to be proposed."""
        return self.lost >= MUCH * self.parts > 0

    def __str__(self) -> str:
        height, width = self.size
        return (
            f"with images resized to {height}x{width}, {self.lost} of {self.parts} connected parts of classes (in "
            f"{counted(self.masks, 'mask')}) would be smaller than a pixel: --tile {self.tile} trains on parts of the "
            "images as they are"
        )


def lost_parts(data: SegmentationData, ids: Sequence[str], size: Size, resize: str) -> Lost:
    """Counts, in a few masks, what resizing images to a model's input would lose.

    Args:
        data: The data set; masks that cannot be read are passed over.
        ids: Images.
        size: Height and width of the input.
        resize: One of `RESIZES`.
    """
    chosen = ids if len(ids) <= SAMPLE else [ids[place * len(ids) // SAMPLE] for place in range(SAMPLE)]
    parts, lost, sides, masks = 0, 0, [TILE_SIDE], 0
    for image_id in chosen:
        try:
            mask = data.mask(image_id)
        except DataError:
            continue
        whole = (mask.shape[0], mask.shape[1])
        kept = math.prod(content_size(whole, size, resize)) / math.prod(whole)
        masks += 1
        sides.append(min(whole))
        areas = np.concatenate([*_areas(mask, len(data.classes)), np.zeros(0, np.int64)])
        areas = areas[areas >= SPECKS]
        parts += len(areas)
        lost += int((areas * kept < 1).sum())
    return Lost(parts, lost, masks, size, max(STEP, min(sides) // STEP * STEP))


def _areas(mask: Mask, classes: int) -> Iterator[npt.NDArray[np.int64]]:
    """Pixels of the connected parts of each class."""
    for class_id in np.unique(mask):
        if class_id < classes:
            _, _, told, _ = cv2.connectedComponentsWithStats((mask == class_id).astype(np.uint8), connectivity=8)
            yield told[1:, cv2.CC_STAT_AREA].astype(np.int64)
