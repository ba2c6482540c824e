"""Reading one image or one mask from disk, strictly."""

from __future__ import annotations

import math
import struct
import tokenize
import warnings
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, NoReturn, TypedDict

import cv2
import numpy as np
import numpy.typing as npt
import PIL.Image

from trainables.data.base import Image, Mask, StoredMask
from trainables.data.reading.lossy import lossy_format
from trainables.data.reading.stored import LARGEST_ID, TRANSPARENT, pack_channels
from trainables.errors import DataError
from trainables.limits import check_pixels, opened_image

PaletteUse = Literal["ids", "colours"]
"""What a mask with a palette says: the places in its palette, or the colours that stand there."""


class ImageReading(TypedDict, total=False):
    """Options of `read_image`."""

    bits: int | None
    page: int
    turned: bool


class MaskReading(TypedDict, total=False):
    """Options of `read_stored_mask`."""

    page: int
    palette: PaletteUse


DAMAGE = (
    *(OSError, SyntaxError, ValueError, EOFError, TypeError, LookupError, ArithmeticError, struct.error, zlib.error),
    *(tokenize.TokenError, MemoryError),
)
"""What PIL and NumPy raise on files that are truncated, damaged or not images."""

_ORIENTATION = 0x0112
"""The EXIF tag."""

_TURNS = {
    2: PIL.Image.Transpose.FLIP_LEFT_RIGHT,
    3: PIL.Image.Transpose.ROTATE_180,
    4: PIL.Image.Transpose.FLIP_TOP_BOTTOM,
    5: PIL.Image.Transpose.TRANSPOSE,
    6: PIL.Image.Transpose.ROTATE_270,
    7: PIL.Image.Transpose.TRANSVERSE,
    8: PIL.Image.Transpose.ROTATE_90,
}
"""How a viewer turns the stored pixels (EXIF 2.3, 4.6.4, tag 274)."""

DEEP_BITS = (8, 10, 12, 14, 16)
"""Depths of cameras and microscopes, whose values files keep in 16 bits."""

_FEW_BITS = {"L;2": 85, "L;4": 17}
"""By what decoders multiply grey of few bits, so that it fills 0..255."""

# What PIL warns of is either an error here, or told in our own words.
warnings.filterwarnings("ignore", module=r"PIL\.")


def read_image(path: Path, *, bits: int | None = None, page: int = 0, turned: bool = False) -> Image:
    """Reads an image as RGB, the pixels as they are stored.

    Grey, palette, CMYK and Lab images are converted; an alpha channel is dropped, which leaves the colours beneath it;
    the orientation that a camera notes in EXIF is applied only where that is asked for.

    Args:
        path: A file in any format PIL reads.
        bits: How many bits the values of images deeper than 8 bits have; they are divided so that 8 are left (floating
            point numbers: 0 stands for 0..1). None refuses such images.
        page: Which page of a file of several.
        turned: Turn the picture as its EXIF orientation says.

    Returns:
        uint8 of shape (H, W, 3).

    Raises:
        DataError: If the file is missing, truncated, not an image, or deeper than 8 bits while `bits` is None.
    """
    image, raw = _open(path, "image", page)
    if is_deep(image.mode, raw):
        if bits is None:
            raise DataError(
                f"{path}: image has mode {raw or image.mode}, not 8 bits per channel; convert it to 8-bit RGB"
            )
        pixels = _scaled(path, _deep_pixels(path, image, raw, page), bits)
    else:
        pixels = np.asarray(_rgb(image))
    turn = _TURNS.get(exif_orientation(path)) if turned else None
    return pixels if turn is None else np.asarray(PIL.Image.fromarray(pixels).transpose(turn))


def read_mask(path: Path) -> Mask:
    """Reads a mask of class ids.

    PIL gives the ids of palette images (mode P) as they are stored; OpenCV would turn them into grey values.

    Args:
        path: A file for `read_stored_mask` of one channel, ids up to 255.

    Returns:
        uint8 of shape (H, W), the ids as stored.

    Raises:
        DataError: If the file is missing, truncated, not an image, lossy, or not a single channel of such ids.
    """
    stored = read_stored_mask(path)
    if stored.dtype != np.uint8:
        what = "colours or transparent pixels" if stored.max(initial=0) > LARGEST_ID else "ids above 255"
        raise DataError(
            f"{path}: mask holds {what}, expected one channel of class ids 0..255; convert it to a PNG whose pixel "
            "values are the class ids"
        )
    return np.asarray(stored, np.uint8)


def read_stored_mask(path: Path, *, page: int = 0, palette: PaletteUse = "ids") -> StoredMask:
    """Reads a mask of class ids, or of colours where the file is RGB.

    Ids may have 1, 2, 4, 8, 16 or 32 bits, or be whole numbers in floating point. A GIF is read by its colours, because
    programs renumber its palette as they like.

    Args:
        path: Any lossless file that PIL reads, or an array in a `.npy` file.
        page: Which page of a file of several.
        palette: What files with a palette say.

    Returns:
        Shape (H, W): ids as uint8, or as int32 where one is above 255; or colours as int32, packed by
        `stored.pack_color`. `stored.TRANSPARENT` is set in transparent pixels, which makes int32, too.

    Raises:
        DataError: If the file is missing, truncated, not an image, lossy, or of another mode.
    """
    if path.suffix.lower() == ".npy":
        return _narrow(path, _array(path))
    image, raw = _open_mask(path, page)
    if image.mode in ("P", "PA") and (palette == "colours" or image.format == "GIF"):
        image = image.convert("RGBA" if image.mode == "PA" or "transparency" in image.info else "RGB")
    if image.mode in ("RGB", "RGBA"):
        pixels = _wide_colors(path, page) if ";16" in raw else np.asarray(image)
        packed = pack_channels(pixels)
        return packed if pixels.shape[-1] == 3 else _with_alpha(packed, pixels[..., 3])
    if image.mode in ("LA", "PA"):
        alpha = np.asarray(image.getchannel("A"))
        return _with_alpha(np.asarray(image.getchannel(0)), alpha)
    return _ids(path, image, raw)


def exif_orientation(path: Path) -> int:
    """How a camera held the picture: 1 upright (or nothing noted), 2 to 8 mirrored or turned.

    Viewers turn such pictures, decoders do not, so that a mask may fit one or the other.
    """
    try:
        with opened_image(path, head=True) as image:
            return _orientation(image)
    except (*DAMAGE, DataError):
        return 1


def stored_size(path: Path, page: int = 0) -> tuple[int, int] | None:
    """Height and width in pixels by the head of a file, nothing turned; None where it cannot be read."""
    try:
        if path.suffix.lower() == ".npy":
            shape = _one_channel(np.load(path, mmap_mode="r", allow_pickle=False)).shape
            return (shape[0], shape[1]) if len(shape) == 2 else None
        with opened_image(path, head=True) as image:
            image.seek(page)
            return image.height, image.width
    except (*DAMAGE, DataError):
        return None


def is_deep(mode: str, raw: str) -> bool:
    """Whether an image of this mode has more than 8 bits a channel.

    PIL reads three channels of 16 bits as mode RGB and keeps the high bytes: 12 bits in 16 would turn black.
    """
    return mode.startswith(("I", "F")) or ";16" in raw


def deep_bits(path: Path, page: int = 0) -> int | None:
    """How many bits hold the largest value of an image deeper than 8 bits: of `DEEP_BITS`, 0 for 0..1 in floats.

    None for an image of 8 bits, and for one that cannot be read.

    Raises:
        DataError: If its values fit none of them.
    """
    try:
        with opened_image(path, head=True) as image:
            if not is_deep(image.mode, raw_mode(image)):
                return None
        opened, raw = _open(path, "image", page)
    except (*DAMAGE, DataError):
        return None
    pixels = _deep_pixels(path, opened, raw, page)
    low, high = float(np.min(pixels)), float(np.max(pixels))
    if pixels.dtype.kind == "f" and low >= 0 and high <= 1:
        return 0
    fitting = [bits for bits in DEEP_BITS if high < 1 << bits]
    if not (low >= 0 and fitting):
        raise DataError(
            f"{path}: image has values from {low:g} to {high:g}, which fit neither 0..1 nor 16 bits; save it with 8 or "
            "16 bits per channel"
        )
    return fitting[0]


def raw_mode(image: PIL.Image.Image) -> str:
    """The layout of the pixels in the file (PIL's raw mode), where PIL tells it."""
    for tile in getattr(image, "tile", ()):
        arguments = tile[3]
        first = arguments[0] if isinstance(arguments, Sequence) and not isinstance(arguments, str) else arguments
        if isinstance(first, str):
            return first
    return ""


def _rgb(image: PIL.Image.Image) -> PIL.Image.Image:
    if image.mode == "LAB":
        from PIL import ImageCms

        lab, srgb = ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB")
        return ImageCms.profileToProfile(image, lab, srgb, outputMode="RGB") or image
    if image.mode in ("P", "PA"):
        # Directly to RGB it warns of transparency, and gives the same colours.
        image = image.convert("RGBA") if "transparency" in image.info or image.mode == "PA" else image
    return image.convert("RGB")


def _deep_pixels(path: Path, image: PIL.Image.Image, raw: str, page: int) -> npt.NDArray[Any]:
    """Values of an image deeper than 8 bits, shape (H, W) or (H, W, 3)."""
    if image.mode in ("RGB", "RGBA"):
        return _wide_channels(path, page)[..., :3]
    return np.asarray(image)


def _scaled(path: Path, pixels: npt.NDArray[Any], bits: int) -> Image:
    if bits == 0:
        scaled = np.rint(pixels.astype(np.float64) * 255)
    else:
        scaled = np.floor(pixels.astype(np.float64) / 2 ** (bits - 8))
    if not (np.isfinite(scaled).all() and scaled.min(initial=0) >= 0 and scaled.max(initial=0) <= 255):
        top = "1" if bits == 0 else str((1 << bits) - 1)
        raise DataError(f"{path}: image has values outside 0..{top}, the range of the others; save it with 8 bits")
    grey = scaled.astype(np.uint8)
    return np.ascontiguousarray(np.repeat(grey[..., None], 3, axis=-1) if grey.ndim == 2 else grey)


def _wide_channels(path: Path, page: int) -> npt.NDArray[Any]:
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


def _wide_colors(path: Path, page: int) -> npt.NDArray[np.uint8]:
    """Colours of 16 bits a channel as the 8 bits that they were made from."""
    pixels = _wide_channels(path, page)
    largest = int(pixels.max(initial=0))
    if largest <= 255:
        narrow = pixels
    elif not (pixels % 257).any():
        narrow = pixels // 257
    elif not (pixels % 256).any():
        narrow = pixels // 256
    else:
        raise DataError(
            f"{path}: mask has mode RGB of 16 bits, and its values are no colours of 8 bits; save it with 8 bits per "
            "channel, or as class ids"
        )
    return np.asarray(narrow, np.uint8)


def _with_alpha(stored: npt.NDArray[Any], alpha: npt.NDArray[Any]) -> StoredMask:
    clear = alpha == 0
    if not clear.any():
        return np.asarray(stored)
    wide: npt.NDArray[np.int32] = stored.astype(np.int32)
    wide[clear] |= TRANSPARENT
    return wide


def _ids(path: Path, image: PIL.Image.Image, raw: str) -> StoredMask:
    if image.mode == "1":
        return np.asarray(image).astype(np.uint8)
    if image.mode in ("P", "L"):
        pixels = np.asarray(image)
        step = _FEW_BITS.get(raw.rstrip("IR"), 1)
        # TIFF may store black as the largest value (PhotometricInterpretation 0); decoders turn the ids round.
        inverted = image.mode == "L" and "I" in raw.partition(";")[2]
        return np.asarray((255 - pixels if inverted else pixels) // step)
    if image.mode.startswith(("I", "F")):
        return _narrow(path, np.asarray(image))
    raise DataError(
        f"{path}: mask has mode {image.mode}, expected one channel of class ids, or RGB in the colours of the classes; "
        "convert it to a PNG whose pixel values are the class ids"
    )


def _array(path: Path) -> npt.NDArray[Any]:
    """The one channel of a `.npy` file."""
    try:
        stored = np.load(path, mmap_mode="r", allow_pickle=False)
        if stored.ndim:
            check_pixels(math.prod(stored.shape[:-1]), stored.shape[-1], path, what="mask")
        array: npt.NDArray[Any] = np.array(stored)
    except FileNotFoundError:
        _missing(path, "mask")
    except DAMAGE as error:
        raise _damaged(path, "mask", error) from None
    channel = _one_channel(array)
    if channel.ndim != 2 or channel.dtype.kind not in "biuf":
        raise DataError(
            f"{path}: mask is an array of shape {array.shape} and type {array.dtype}, expected class ids of shape "
            "(height, width)"
        )
    return channel


def _one_channel(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Without the axis of a single channel, before or behind."""
    if array.ndim == 3 and 1 in (array.shape[0], array.shape[-1]):
        return array[0] if array.shape[0] == 1 else array[..., 0]
    return array


def _narrow(path: Path, values: npt.NDArray[Any]) -> StoredMask:
    """Ids as uint8 where they fit, else as int32."""
    if values.dtype.kind == "f" and not (np.isfinite(values).all() and (values == np.floor(values)).all()):
        raise DataError(f"{path}: mask has values that are not whole numbers; save it as class ids")
    low, high = int(values.min(initial=0)), int(values.max(initial=0))
    if low < -LARGEST_ID or high > LARGEST_ID:
        raise DataError(f"{path}: mask has values from {low} to {high}; ids reach from {-LARGEST_ID} to {LARGEST_ID}")
    return values.astype(np.uint8) if low >= 0 and high <= 255 else values.astype(np.int32)


def _open_mask(path: Path, page: int) -> tuple[PIL.Image.Image, str]:
    image, raw = _open(path, "mask", page)
    lossy = lossy_format(image, path)
    if lossy:
        raise DataError(f"{path}: mask is {lossy}, which changes ids and colours; export it from its source as PNG")
    return image, raw


def _orientation(image: PIL.Image.Image) -> int:
    try:
        noted = image.getexif().get(_ORIENTATION, 1)
    except DAMAGE:
        return 1
    return int(noted) if noted in range(2, 9) else 1


def _open(path: Path, what: str, page: int = 0) -> tuple[PIL.Image.Image, str]:
    """The decoded file, and the layout of its pixels in the file."""
    try:
        with opened_image(path, what=what, head=True) as image:
            image.seek(page)
            check_pixels(image.height, image.width, path, what=what)
            raw = raw_mode(image)
            image.load()
            return image, raw
    except FileNotFoundError:
        _missing(path, what)
    except DAMAGE as error:
        raise _damaged(path, what, error) from None


def _damaged(path: Path, what: str, error: Exception) -> DataError:
    # Readers name the path again, which stands before it anyway.
    reason = str(error).replace(repr(str(path)), "").strip().removesuffix(":") or type(error).__name__
    return DataError(f"{path}: {what} cannot be decoded ({reason}); replace it by a whole copy")


def _missing(path: Path, what: str) -> NoReturn:
    raise DataError(f"{path}: {what} is missing; restore the file or take its id out of the lists") from None
