"""Opening a file with PIL: what it raises on damaged ones, how they are told, and how a file keeps its pixels."""

from __future__ import annotations

import logging
import struct
import tokenize
import warnings
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

import cv2
import numpy as np
import numpy.typing as npt
import PIL.Image

from trainables.errors import DataError
from trainables.limits import check_pixels, opened_image

DAMAGE = (
    *(OSError, SyntaxError, ValueError, EOFError, TypeError, LookupError, ArithmeticError, struct.error, zlib.error),
    *(tokenize.TokenError, MemoryError),
)
"""What PIL and NumPy raise on files that are truncated, damaged or not images."""

# What PIL warns of, or logs, is either an error here, or told in our own words.
warnings.filterwarnings("ignore", module=r"PIL\.")
logging.getLogger("PIL").setLevel(logging.CRITICAL)


def raw_mode(image: PIL.Image.Image) -> str:
    """The layout of the pixels in the file (PIL's raw mode), where PIL tells it."""
    for tile in getattr(image, "tile", ()):
        arguments = tile[3]
        first = arguments[0] if isinstance(arguments, Sequence) and not isinstance(arguments, str) else arguments
        if isinstance(first, str):
            return first
    return ""


def opened(path: Path, what: str, page: int = 0) -> tuple[PIL.Image.Image, str]:
    """The decoded file, and the layout of its pixels in the file."""
    try:
        with opened_image(path, what=what, head=True) as image:
            image.seek(page)
            check_pixels(image.height, image.width, path, what=what)
            raw = raw_mode(image)
            image.load()
            return image, raw
    except FileNotFoundError:
        missing(path, what)
    except DAMAGE as error:
        raise damaged(path, what, error) from None


def damaged(path: Path, what: str, error: Exception) -> DataError:
    """The error of a file that cannot be decoded."""
    # Readers name the path again, which stands before it anyway.
    reason = str(error).replace(repr(str(path)), "").strip().removesuffix(":") or type(error).__name__
    return DataError(f"{path}: {what} cannot be decoded ({reason}); replace it by a whole copy")


def missing(path: Path, what: str) -> NoReturn:
    """Raises the error of a file that is not there."""
    raise DataError(f"{path}: {what} is missing; restore the file or take its id out of the lists") from None


def wide_channels(path: Path, page: int) -> npt.NDArray[Any]:
    """Channels of 16 bits in the order red, green, blue(, alpha); PIL would keep the high bytes only."""
    content = np.frombuffer(path.read_bytes(), np.uint8)
    flags = cv2.IMREAD_UNCHANGED
    if page:
        _, pages = cv2.imdecodemulti(content, flags, range=(page, page + 1))
        pixels = pages[0] if pages else None
    else:
        pixels = cv2.imdecode(content, flags)
    if pixels is None or pixels.ndim != 3 or pixels.shape[-1] not in (3, 4):
        raise DataError(f"{path}: its channels of 16 bits cannot be decoded; save it with 8 bits per channel")
    order = [2, 1, 0, 3][: pixels.shape[-1]]
    return np.asarray(pixels[..., order])
