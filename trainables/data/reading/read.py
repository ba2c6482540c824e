"""Reading one image or one mask from disk, strictly."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import PIL.Image

from trainables.data.base import Color, Image, Mask, StoredMask
from trainables.errors import DataError

_DAMAGE = (OSError, SyntaxError, ValueError, EOFError, struct.error, PIL.Image.DecompressionBombError)
"""What PIL raises on files that are truncated, damaged or not images."""

_ORIENTATION = 0x0112
"""The EXIF tag."""

_COLOR = 1 << 24
"""Set in a packed colour, so that no colour is taken for an id."""


def read_image(path: Path) -> Image:
    """Reads an image as RGB, the pixels as they are stored.

    Grey, palette and CMYK images are converted; an alpha channel is dropped, which leaves the colours beneath it; the
    orientation that a camera notes in EXIF is not applied (see `exif_orientation`).

    Args:
        path: A file in any format PIL reads with 8 bits per channel.

    Returns:
        uint8 of shape (H, W, 3).

    Raises:
        DataError: If the file is missing, truncated, not an image, or deeper than 8 bits per channel.
    """
    image, raw = _open(path, "image")
    # PIL reads three channels of 16 bits as mode RGB and keeps the high bytes: 12 bits in 16 would turn black.
    if image.mode.startswith(("I", "F")) or ";16" in raw:
        raise DataError(f"{path}: image has mode {raw or image.mode}, not 8 bits per channel; convert it to 8-bit RGB")
    return np.asarray(image.convert("RGB"))


def read_mask(path: Path) -> Mask:
    """Reads a mask of class ids.

    PIL gives the ids of palette images (mode P) as they are stored; OpenCV would turn them into grey values.

    Args:
        path: A single-channel 8-bit file, with a palette (mode P) or without (mode L).

    Returns:
        uint8 of shape (H, W), the ids as stored.

    Raises:
        DataError: If the file is missing, truncated, not an image, lossy, or not a single 8-bit channel.
    """
    return _ids(path, *_open_mask(path))


def read_stored_mask(path: Path) -> StoredMask:
    """Reads a mask of class ids, or of colours where the file is RGB.

    Args:
        path: A file for `read_mask`, or one of mode RGB (or RGBA, all opaque).

    Returns:
        Shape (H, W): ids as uint8, or colours as int32, packed by `pack_color`.

    Raises:
        DataError: If the file is missing, truncated, not an image, lossy, or of another mode.
    """
    image, raw = _open_mask(path)
    if image.mode not in ("RGB", "RGBA") or ";16" in raw:
        return _ids(path, image, raw)
    if image.mode == "RGBA" and image.getchannel("A").getextrema() != (255, 255):
        raise DataError(f"{path}: mask has transparent pixels, which have no class; save it opaque, or as class ids")
    channels = np.asarray(image.convert("RGB")).astype(np.int32)
    return np.asarray(_COLOR | channels[..., 0] << 16 | channels[..., 1] << 8 | channels[..., 2], np.int32)


def pack_color(color: Color) -> int:
    """The value of an RGB colour in a mask that `read_stored_mask` gives; no id equals it.

    Example:
        >>> hex(pack_color((128, 64, 1)))
        '0x1804001'
    """
    return _COLOR | color[0] << 16 | color[1] << 8 | color[2]


def is_color(value: int) -> bool:
    """Whether a stored value is a packed colour, not an id."""
    return value >= _COLOR


def stored_text(value: int) -> str:
    """A stored value as users write it: the id, or the colour as (R, G, B).

    Example:
        >>> stored_text(7), stored_text(pack_color((128, 64, 1)))
        ('7', '(128, 64, 1)')
    """
    return str((value >> 16 & 255, value >> 8 & 255, value & 255)) if is_color(value) else str(value)


def count_stored(stored: StoredMask) -> dict[int, int]:
    """Pixels of each value in a mask that `read_stored_mask` gave."""
    if stored.dtype == np.uint8:
        # A tenth of the time that sorting takes.
        everything = np.bincount(stored.ravel(), minlength=256)
        return {int(value): int(everything[value]) for value in np.flatnonzero(everything)}
    values, counts = np.unique(stored, return_counts=True)
    return dict(zip(values.tolist(), counts.tolist(), strict=True))


def exif_orientation(path: Path) -> int:
    """How a camera held the picture: 1 upright (or nothing noted), 2 to 8 mirrored or turned.

    Viewers turn such pictures, decoders do not, so that a mask may fit one or the other.
    """
    try:
        with PIL.Image.open(path) as image:
            noted = image.getexif().get(_ORIENTATION, 1)
    except _DAMAGE:
        return 1
    return noted if noted in range(2, 9) else 1


def _ids(path: Path, image: PIL.Image.Image, raw: str) -> Mask:
    if image.mode not in ("P", "L"):
        raise DataError(
            f"{path}: mask has mode {image.mode}, expected one 8-bit channel of class ids (PIL mode P or L); "
            "convert it to a PNG whose pixel values are the class ids"
        )
    # Grey of 2 or 4 bits is stretched to 0..255 on decoding: 3 of 2 bits would become 255, void.
    if raw in ("L;2", "L;4"):
        raise DataError(
            f"{path}: mask is grey of {raw[-1]} bits, whose ids decoders stretch to 0..255; save it with 8 bits"
        )
    return np.asarray(image)


def _open_mask(path: Path) -> tuple[PIL.Image.Image, str]:
    image, raw = _open(path, "mask")
    if image.format in ("JPEG", "MPO"):
        raise DataError(f"{path}: mask is a JPEG, which changes ids and colours; export it from its source as PNG")
    return image, raw


def _open(path: Path, what: str) -> tuple[PIL.Image.Image, str]:
    """The decoded file, and the layout of its pixels in the file (PIL's raw mode) where PIL tells it."""
    try:
        with PIL.Image.open(path) as image:
            raw = _raw_mode(image)
            image.load()
            return image, raw
    except FileNotFoundError:
        raise DataError(f"{path}: {what} is missing; restore the file or take its id out of the lists") from None
    except _DAMAGE as error:
        raise DataError(f"{path}: {what} cannot be decoded ({error}); replace it by a whole copy") from None


def _raw_mode(image: PIL.Image.Image) -> str:
    for tile in getattr(image, "tile", ()):
        arguments = tile[3]
        first = arguments[0] if isinstance(arguments, Sequence) and not isinstance(arguments, str) else arguments
        if isinstance(first, str):
            return first
    return ""
