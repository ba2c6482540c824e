"""Reading one image or one mask from disk, strictly."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, Literal, TypedDict

import numpy as np
import numpy.typing as npt
import PIL.Image

from trainables.data.bands import Bands
from trainables.data.base import Image, Mask, StoredMask
from trainables.data.reading.lossy import lossy_format
from trainables.data.reading.opening import DAMAGE, damaged, missing, opened, raw_mode, wide_channels
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
    bands: Bands | None


class MaskReading(TypedDict, total=False):
    """Options of `read_stored_mask`."""

    page: int
    palette: PaletteUse


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


def read_image(
    path: Path, *, bits: int | None = None, page: int = 0, turned: bool = False, bands: Bands | None = None
) -> Image:
    """Reads an image as RGB, the pixels as they are stored, or certain bands of it.

    Grey, palette, CMYK and Lab images are converted; an alpha channel is dropped, which leaves the colours beneath it;
    the orientation that a camera notes in EXIF is applied only where that is asked for.

    Args:
        path: A file in any format PIL reads.
        bits: How many bits the values of images deeper than 8 bits have; they are divided so that 8 are left (floating
            point numbers: 0 stands for 0..1). None refuses such images.
        page: Which page of a file of several.
        turned: Turn the picture as its EXIF orientation says; files read by their bands have none.
        bands: Which bands to read instead of red, green and blue (`trainables.data.reading.rasters.read_bands`).

    Returns:
        uint8 of shape (H, W, 3), or (H, W, C) with C bands.

    Raises:
        DataError: If the file is missing, truncated, not an image, or deeper than 8 bits while `bits` is None.
    """
    if bands is not None:
        from trainables.data.reading.rasters import read_bands

        return read_bands(path, bands, bits=bits, page=page)
    image, raw = opened(path, "image", page)
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
            return (shape[0], shape[1]) if len(shape) == 2 else _raster_size(path)
        with opened_image(path, head=True) as image:
            image.seek(page)
            return image.height, image.width
    except (*DAMAGE, DataError):
        return _raster_size(path)


def _raster_size(path: Path) -> tuple[int, int] | None:
    from trainables.data.reading.rasters import raster_size

    return raster_size(path)


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
        image, raw = opened(path, "image", page)
    except (*DAMAGE, DataError):
        return None
    pixels = _deep_pixels(path, image, raw, page)
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
        return wide_channels(path, page)[..., :3]
    return np.asarray(image)


def _scaled(path: Path, pixels: npt.NDArray[Any], bits: int) -> Image:
    grey = to_bytes(path, pixels, bits)
    return np.ascontiguousarray(np.repeat(grey[..., None], 3, axis=-1) if grey.ndim == 2 else grey)


def to_bytes(path: Path, pixels: npt.NDArray[Any], bits: int) -> Image:
    """Values of so many bits divided so that 8 are left; with 0 those of 0..1 times 255. Any shape.

    Raises:
        DataError: If some are outside that range; names the file.
    """
    if bits == 0:
        scaled = np.rint(pixels.astype(np.float64) * 255)
    else:
        scaled = np.floor(pixels.astype(np.float64) / 2 ** (bits - 8))
    if not (np.isfinite(scaled).all() and scaled.min(initial=0) >= 0 and scaled.max(initial=0) <= 255):
        top = "1" if bits == 0 else str((1 << bits) - 1)
        raise DataError(f"{path}: image has values outside 0..{top}, the range of the others; save it with 8 bits")
    return np.asarray(scaled.astype(np.uint8))


def picture_channels(path: Path, page: int = 0) -> npt.NDArray[Any]:
    """The channels of a picture as its file keeps them, shape (H, W, B): grey, RGB, each perhaps with transparency.

    Raises:
        DataError: If the file is missing or damaged.
    """
    image, raw = opened(path, "image", page)
    if image.mode in ("RGB", "RGBA") and ";16" in raw:
        return wide_channels(path, page)
    if image.mode not in ("L", "LA", "RGB", "RGBA") and not image.mode.startswith(("I", "F")):
        image = _rgb(image)
    pixels: npt.NDArray[Any] = np.asarray(image)
    return pixels[..., None] if pixels.ndim == 2 else pixels


def _wide_colors(path: Path, page: int) -> npt.NDArray[np.uint8]:
    """Colours of 16 bits a channel as the 8 bits that they were made from."""
    pixels = wide_channels(path, page)
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
        missing(path, "mask")
    except DAMAGE as error:
        raise damaged(path, "mask", error) from None
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
    image, raw = opened(path, "mask", page)
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
