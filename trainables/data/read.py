"""Reading one image or one mask from disk, strictly."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import PIL.Image

from trainables.data.base import Image, Mask
from trainables.errors import DataError

_DAMAGE = (OSError, SyntaxError, ValueError, EOFError, struct.error, PIL.Image.DecompressionBombError)
"""What PIL raises on files that are truncated, damaged or no images."""

_DEEP_MODES = ("I", "I;16", "I;16B", "I;16L", "F")


def read_image(path: Path) -> Image:
    """Reads an image as RGB.

    Args:
        path: A file in any format PIL reads with 8 bits a channel.

    Returns:
        uint8 of shape (H, W, 3).

    Raises:
        DataError: If the file is missing, truncated, no image, or deeper than 8 bits a channel.
    """
    image = _open(path, "image")
    if image.mode in _DEEP_MODES:
        raise DataError(f"{path}: image has mode {image.mode}, expected 8 bits a channel; convert it to 8-bit RGB")
    return np.asarray(image.convert("RGB"))


def read_mask(path: Path) -> Mask:
    """Reads a mask of class ids.

    PIL gives the ids of palette images (mode P) as they are stored; OpenCV would turn them into grey values.

    Args:
        path: A single-channel 8-bit file, with a palette (mode P) or without (mode L).

    Returns:
        uint8 of shape (H, W), the ids as stored.

    Raises:
        DataError: If the file is missing, truncated, no image, or not a single 8-bit channel.
    """
    image = _open(path, "mask")
    if image.mode not in ("P", "L"):
        raise DataError(
            f"{path}: mask has mode {image.mode}, expected one 8-bit channel of class ids (PIL mode P or L); "
            "convert it to a PNG whose pixel values are the class ids"
        )
    return np.asarray(image)


def _open(path: Path, what: str) -> PIL.Image.Image:
    try:
        with PIL.Image.open(path) as image:
            image.load()
            return image
    except FileNotFoundError:
        raise DataError(f"{path}: {what} is missing; restore the file or take its id out of the lists") from None
    except _DAMAGE as error:
        raise DataError(f"{path}: {what} cannot be decoded ({error}); replace it by a whole copy") from None
