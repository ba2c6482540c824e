"""How an image becomes as large as a model's input: void beside it, stretched, or larger, for parts to be cut from."""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

import cv2
import numpy as np

from trainables.data.base import Image, Mask
from trainables.data.void import void_of
from trainables.options import LETTERBOX, STRETCH, TILE, scale_of, way_of

# OpenCV would start one thread per core in every process, beside torch's own.
cv2.setNumThreads(0)

Size = tuple[int, int]
"""Height and width in pixels."""

Frame = tuple[int, int, int, int]
"""Pixels added at the top, bottom, left and right."""


def content_size(image: Size, canvas: Size, resize: str) -> Size:
    """How large an image is when it comes to a model's input; with `crop` and `tile` it may be larger than that.

    Args:
        image: Size of the image, or of its mask.
        canvas: Size of the input.
        resize: `stretch`: that of the input. `letterbox`: the largest size of the image's aspect, to the nearest pixel,
            that fits; one side is that of the input. `crop`: the smallest size of its aspect that covers the input; one
            side is that of the input. `tile`: its own, or the scale of it that `tile@SCALE` says.

    Example:
        >>> content_size((300, 400), (96, 96), "letterbox"), content_size((300, 400), (96, 96), "stretch")
        ((72, 96), (96, 96))
        >>> content_size((300, 400), (96, 96), "crop"), content_size((300, 400), (96, 96), "tile")
        ((96, 128), (300, 400))
    """
    if resize == STRETCH:
        return canvas
    if way_of(resize) == TILE:
        scale = scale_of(resize)
        return max(1, round(scale * image[0])), max(1, round(scale * image[1]))
    (height, width), (rows, columns) = image, canvas
    height_decides = rows * width <= columns * height
    if height_decides == (resize == LETTERBOX):
        return rows, max(1, _nearest(width * rows, height))
    return max(1, _nearest(height * columns, width)), columns


def _nearest(numerator: int, denominator: int) -> int:
    """The whole number nearest to a ratio, exactly; the larger of two."""
    return (2 * numerator + denominator) // (2 * denominator)


def in_fours(change: Callable[[Image], Image], image: Image) -> Image:
    """What a function of OpenCV makes of an image with any number of channels, four of them at a time.

    With more, some of its functions refuse and others compute something else; of one channel they drop the axis.

    Args:
        change: Treats every channel by itself and alike.
        image: uint8 of shape (H, W, C).
    """
    channels = image.shape[2]
    if 2 <= channels <= 4:
        return change(image)
    parts = [change(np.ascontiguousarray(image[..., first : first + 4])) for first in range(0, channels, 4)]
    return np.concatenate([part[..., None] if part.ndim == 2 else part for part in parts], axis=-1)


def resize_image(image: Image, size: Size) -> Image:
    """Resizes an image, antialiased: mean over the source area when shrinking, bilinear when enlarging.

    Args:
        image: uint8 of shape (H, W, C).
        size: Height and width wanted.
    """
    height, width = size
    if image.shape[:2] == size:
        return image
    shrinks = height <= image.shape[0] and width <= image.shape[1]
    method = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    return in_fours(lambda part: np.asarray(cv2.resize(part, (width, height), interpolation=method), np.uint8), image)


def resize_mask(mask: Mask, size: Size) -> Mask:
    """Resizes a mask to the nearest pixel centre, so that no id appears that was not there.

    `INTER_NEAREST_EXACT` shares its pixel centres with the image's resizing; `INTER_NEAREST` lies up to half a pixel
    off.

    Args:
        mask: Shape (H, W).
        size: Height and width wanted.
    """
    if mask.shape == size:
        return mask
    return cast("Mask", cv2.resize(mask, (size[1], size[0]), interpolation=cv2.INTER_NEAREST_EXACT))


def frame_image(image: Image, frame: Frame) -> Image:
    """An image with a frame of its own reflection around it."""
    if not any(frame):
        return image
    return in_fours(lambda part: cast("Image", cv2.copyMakeBorder(part, *frame, cv2.BORDER_REFLECT_101)), image)


def frame_mask(mask: Mask, frame: Frame) -> Mask:
    """A mask with a frame of void around it."""
    if not any(frame):
        return mask
    return cast("Mask", cv2.copyMakeBorder(mask, *frame, cv2.BORDER_CONSTANT, value=void_of(mask)))


def fit_image(image: Image, canvas: Size, resize: str) -> Image:
    """An image as a model's input: resized to its `content_size`, the rest of the input filled by its reflection.

    Args:
        image: uint8 of shape (h, w, C).
        canvas: Height and width of the input.
        resize: One of `RESIZES`.

    Returns:
        uint8 of shape (*canvas, C); larger where the image's content is.
    """
    return fill_image(resize_image(image, content_size((image.shape[0], image.shape[1]), canvas, resize)), canvas)


def fit_mask(mask: Mask, canvas: Size, resize: str) -> Mask:
    """A mask in step with `fit_image`: the rest of the input is void. Shape (h, w) to `canvas` or larger."""
    content = resize_mask(mask, content_size((mask.shape[0], mask.shape[1]), canvas, resize))
    return fill_mask(content, canvas)


def fill_image(content: Image, canvas: Size) -> Image:
    """An image that was resized to its `content_size`, with its reflection below and to the right up to `canvas`."""
    return frame_image(content, _rest(content, canvas))


def fill_mask(content: Mask, canvas: Size) -> Mask:
    """A mask that was resized to its `content_size`, with void below and to the right up to `canvas`."""
    return frame_mask(content, _rest(content, canvas))


def _rest(content: Image | Mask, canvas: Size) -> Frame:
    return 0, max(0, canvas[0] - content.shape[0]), 0, max(0, canvas[1] - content.shape[1])
