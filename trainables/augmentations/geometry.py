"""Where the camera stands: resizing, zoom, rotation and shift of image and mask in step."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from typing import Any, cast

import albumentations as A
import cv2
import numpy as np
import numpy.typing as npt

from trainables.data.base import Image, Mask
from trainables.data.resizing import (
    Frame,
    Size,
    content_size,
    fill_image,
    fill_mask,
    frame_image,
    frame_mask,
    in_fours,
    resize_image,
    resize_mask,
)
from trainables.data.void import void_of
from trainables.options import CUTTING, STRETCH, way_of

Cut = tuple[slice, slice]
"""Rows and columns that stay."""
EVERYTHING: Cut = (slice(None), slice(None))
AROUND = "around"
"""What Albumentations hands through to the transformations: row and column of a pixel that the part has to show."""


def resize(image: Image, mask: Mask, size: Size) -> tuple[Image, Mask]:
    """Stretches image and mask to `size`: averaging or bilinear for the image, nearest pixel centre for the mask."""
    return resize_image(image, size), resize_mask(mask, size)


def part_start(generator: random.Random, side: int, part: int, pixel: int | None) -> int:
    """Where a part of a side begins: uniform, of the parts in which a pixel lies where one is given.

    Args:
        generator: Draws it.
        side: Pixels of the side.
        part: Pixels of the part, at most as many.
        pixel: Place along the side; None: any part will do.
    """
    if pixel is None:
        return generator.randint(0, side - part)
    return generator.randint(max(0, pixel - part + 1), min(side - part, pixel))


def as_uint8(array: Any) -> Image:
    """What OpenCV returns for a uint8 array; its stubs do not know."""
    return cast("Image", array)


class Fit(A.DualTransform):  # type: ignore[misc]
    """Brings an image that is not of the policy's size yet (no zoom did so) to it.

    By stretching, with void beside it, or by cutting a part out at a uniform position, as `resize` says.

    Args:
        size: Height and width of the result in pixels.
        resize: One of `RESIZES`, or `tile@SCALE`: then the image has that scale already.
    """

    def __init__(self, size: Size, resize: str = STRETCH) -> None:
        super().__init__(p=1.0)
        self.size = size
        self.resize = resize

    def get_params_dependent_on_data(self, params: dict[str, Any], data: dict[str, Any]) -> dict[str, Any]:
        """Draws the part of the image that becomes the result, and how large it is there."""
        source, way = params["shape"][:2], way_of(self.resize)
        if way not in CUTTING:
            return {"cut": EVERYTHING, "content": content_size(source, self.size, way)}
        full = content_size(source, self.size, way)
        content = tuple(min(side, most) for side, most in zip(full, self.size, strict=True))
        # Of the image as it is only this part is read and resized: it may lie in a mapped file.
        window = [max(1, round(side * part / whole)) for side, part, whole in zip(source, content, full, strict=True)]
        # Nothing is drawn where there is no choice: an image that fills the result is augmented as with other ways.
        corner = [
            part_start(self.py_random, side, part, pixel) if side > part else 0
            for side, part, pixel in zip(source, window, _pixel(data), strict=True)
        ]
        rows, columns = (slice(first, first + part) for first, part in zip(corner, window, strict=True))
        return {"cut": (rows, columns), "content": content}

    def apply(self, img: Image, cut: Cut, content: Size, **params: Any) -> Image:
        """Cuts and resizes the image; what it does not fill is its reflection."""
        return fill_image(resize_image(img[cut], content), self.size)

    def apply_to_mask(self, mask: Mask, cut: Cut, content: Size, **params: Any) -> Mask:
        """Cuts and resizes the mask without inventing ids; what it does not fill is void."""
        return fill_mask(resize_mask(mask[cut], content), self.size)


class ScaleCrop(A.DualTransform):  # type: ignore[misc]
    """Zooms by a log-uniform factor in [1 / limit, limit] and crops or pads to `size`, at a uniform position.

    The factor is relative to the image as `Fit` makes it. Zooming in cuts the window out of the original image and
    resizes only that; zooming out shrinks the image and pads it. An image that keeps its aspect, or of which the result
    shows a part, is cut along the sides on which it then is longer than the result, and padded along the others.

    Args:
        size: Height and width of the result in pixels.
        limit: Largest factor.
        p: Probability.

    Attributes:
        resize: One of `RESIZES`, as of the policy it is part of.
    """

    resize = STRETCH

    def __init__(self, size: Size, limit: float, p: float) -> None:
        super().__init__(p=p)
        self.size = size
        self.limit = limit

    def get_params_dependent_on_data(self, params: dict[str, Any], data: dict[str, Any]) -> dict[str, Any]:
        """Draws the window that is cut out of the image, and the frame that is put around the result."""
        scale = math.exp(self.py_random.uniform(-1, 1) * math.log(self.limit))
        source = params["shape"][:2]
        content = content_size(source, self.size, way_of(self.resize))
        over = [max(scale * (part / side), 1.0) for part, side in zip(content, self.size, strict=True)]
        window = [max(1, round(side / by)) for side, by in zip(source, over, strict=True)]
        inner = [
            side if by > 1 else max(1, round(part * scale))
            for side, part, by in zip(self.size, content, over, strict=True)
        ]
        corner = [
            part_start(self.py_random, side, part, pixel)
            for side, part, pixel in zip(source, window, _pixel(data), strict=True)
        ]
        before = [self.py_random.randint(0, side - part) for side, part in zip(self.size, inner, strict=True)]
        after = [side - part - first for side, part, first in zip(self.size, inner, before, strict=True)]
        rows, columns = (slice(first, first + part) for first, part in zip(corner, window, strict=True))
        return {"cut": (rows, columns), "inner": tuple(inner), "frame": (before[0], after[0], before[1], after[1])}

    def apply(self, img: Image, cut: Cut, inner: Size, frame: Frame, **params: Any) -> Image:
        """Cuts, resizes and pads the image by reflection."""
        return frame_image(resize_image(img[cut], inner), frame)

    def apply_to_mask(self, mask: Mask, cut: Cut, inner: Size, frame: Frame, **params: Any) -> Mask:
        """Cuts, resizes and pads the mask with void."""
        return frame_mask(resize_mask(mask[cut], inner), frame)


def _pixel(data: dict[str, Any]) -> Sequence[int | None]:
    """Row and column of the pixel that the part has to show, as `Policy` passes them; None and None for any part."""
    return data.get(AROUND) or (None, None)


class Rotate(A.DualTransform):  # type: ignore[misc]
    """Rotates about the centre; the image is filled by reflection, the mask with void.

    `albumentations.Affine` has one border mode for both, so that under reflection it labels the mirror image.

    Args:
        limit: Largest angle in degrees, either way.
        p: Probability.
    """

    def __init__(self, limit: float, p: float) -> None:
        super().__init__(p=p)
        self.limit = limit

    def get_params_dependent_on_data(self, params: dict[str, Any], data: dict[str, Any]) -> dict[str, Any]:
        """Draws the angle, as a matrix from source to result in (x, y) pixel coordinates."""
        height, width = params["shape"][:2]
        angle = self.py_random.uniform(-self.limit, self.limit)
        return {"matrix": cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), angle, 1.0)}

    def apply(self, img: Image, matrix: npt.NDArray[np.float64], **params: Any) -> Image:
        """Warps the image bilinearly."""
        size = img.shape[1::-1]
        how = {"flags": cv2.INTER_LINEAR, "borderMode": cv2.BORDER_REFLECT_101}
        return in_fours(lambda part: as_uint8(cv2.warpAffine(part, matrix, size, **how)), img)

    def apply_to_mask(self, mask: Mask, matrix: npt.NDArray[np.float64], **params: Any) -> Mask:
        """Warps the mask by nearest neighbour."""
        how = {"flags": cv2.INTER_NEAREST, "borderMode": cv2.BORDER_CONSTANT, "borderValue": void_of(mask)}
        return cast("Mask", cv2.warpAffine(mask, matrix, mask.shape[1::-1], **how))


class Shift(A.DualTransform):  # type: ignore[misc]
    """Shifts by whole pixels; the image is filled by reflection, the mask with void.

    Args:
        limit: Largest shift as a fraction of the width and of the height, either way.
        p: Probability.
    """

    def __init__(self, limit: float, p: float) -> None:
        super().__init__(p=p)
        self.limit = limit

    def get_params_dependent_on_data(self, params: dict[str, Any], data: dict[str, Any]) -> dict[str, Any]:
        """Draws both shifts: the part that stays in view, and the frame that is put around it."""
        sides = params["shape"][:2]
        down, right = (round(self.py_random.uniform(-self.limit, self.limit) * side) for side in sides)
        cut = tuple(slice(max(-by, 0), side - max(by, 0)) for by, side in zip((down, right), sides, strict=True))
        return {"cut": cut, "frame": (max(down, 0), max(-down, 0), max(right, 0), max(-right, 0))}

    def apply(self, img: Image, cut: Cut, frame: Frame, **params: Any) -> Image:
        """Cuts and pads the image by reflection."""
        return frame_image(img[cut], frame)

    def apply_to_mask(self, mask: Mask, cut: Cut, frame: Frame, **params: Any) -> Mask:
        """Cuts and pads the mask with void."""
        return frame_mask(mask[cut], frame)
