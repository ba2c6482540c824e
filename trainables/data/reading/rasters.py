"""Files of any number of bands: GeoTIFF and other TIFF, arrays in `.npy`, and pictures taken as the channels they have.

PIL reads some of them without a word as something else: of four bands of 16 bits in planes it gives the first, of two
bands the first, of RGB with a fourth band the first three. So TIFFs are looked at and decoded by tifffile.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from trainables.data.bands import MOST_CHANNELS, Bands
from trainables.data.reading.opening import DAMAGE, damaged, missing
from trainables.data.reading.read import DEEP_BITS, picture_channels, to_bytes
from trainables.errors import DataError
from trainables.limits import check_pixels

TIFFS = (".tif", ".tiff")
ARRAYS = (".npy",)

ALPHA_SHARE = 0.9
"""Of the values of a band of transparency, that are the least or the greatest which its type can have, at least."""
_RGB, _PALETTE, _CMYK, _YCBCR = 2, 3, 5, 6
_LAB = (8, 9, 10)
_ALPHA = (1, 2)
"""TIFF 6.0, PhotometricInterpretation, and ExtraSamples: associated and unassociated alpha."""
_NODATA = 42113
"""The tag in which GDAL keeps the value that stands for no data, as text."""

Values = npt.NDArray[Any]


@dataclass(frozen=True)
class Raster:
    """What the head and the values of a file of several bands say.

    Attributes:
        bands: How many.
        size: Height and width.
        dtype: Of NumPy, such as `uint16`.
        rgb: Whether the file says that the first three are red, green and blue.
        alpha: The band that the file says is transparency; 0 where it says so of none.
        alike: Whether the last band looks like transparency: see `ALPHA_SHARE`.
        low: Least value that is data.
        high: Greatest.
        nodata: Whether some pixels are marked as no data.
    """

    bands: int
    size: tuple[int, int]
    dtype: str
    rgb: bool = False
    alpha: int = 0
    alike: bool = False
    low: float = 0.0
    high: float = 0.0
    nodata: bool = False

    @property
    def colours(self) -> tuple[int, ...]:
        """The bands but transparency."""
        return tuple(number for number in range(1, self.bands + 1) if number != self.alpha)


def is_raster(path: Path) -> bool:
    """Whether a file is one that PIL would not read as it is meant: see the module; by its head alone."""
    if path.suffix.lower() in ARRAYS:
        return True
    if path.suffix.lower() not in TIFFS:
        return False
    try:
        with _tiff(path) as tif:
            page = tif.pages[0]
            samples, photometric = int(page.samplesperpixel), int(page.photometric)
            depth = page.dtype is not None and page.dtype.kind in "ui" and page.dtype.itemsize <= 2
            extra = tuple(map(int, page.extrasamples or ()))
    except DataError:
        return False
    if samples == 1 or photometric in (_PALETTE, _CMYK, _YCBCR, *_LAB):
        return False
    if photometric == _RGB:
        return not (depth and samples == 3)
    return not (samples == 2 and extra and extra[0] in _ALPHA)


def raster_of(path: Path, *, pages: bool = False) -> Raster | None:
    """What a file of several bands holds; None for an ordinary picture, and for a file that cannot be read.

    A TIFF of red, green, blue and transparency that looks like it is an ordinary picture.

    Args:
        path: The file.
        pages: Whether each page of it is a band.
    """
    if not (pages or is_raster(path)):
        return None
    try:
        values, shown = read_raster(path, pages=pages)
        rgb, alpha = (False, 0) if path.suffix.lower() not in TIFFS or pages else _declared(path)
    except DataError:
        return None
    if values.shape[-1] == 1 and path.suffix.lower() not in ARRAYS:
        return None
    alike = _looks_like_alpha(values[..., -1])
    if rgb and values.shape[-1] == 4 == alpha and alike and values.dtype in (np.uint8, np.uint16):
        return None
    seen = [place for place in range(values.shape[-1]) if place + 1 != alpha or not alike]
    known = values[..., seen][shown[..., seen]]
    known = known[np.isfinite(known)]
    low, high = (float(known.min()), float(known.max())) if known.size else (0.0, 0.0)
    size = (values.shape[0], values.shape[1])
    return Raster(values.shape[-1], size, str(values.dtype), rgb, alpha, alike, low, high, not bool(shown.all()))


def pages_of(path: Path) -> int:
    """Pages of a TIFF of the size of its first that are not marked as smaller copies, at least one."""
    if path.suffix.lower() not in TIFFS:
        return 1
    try:
        with _tiff(path) as tif:
            size = tif.pages[0].shape
            whole = [page.shape == size and not (place and page.is_reduced) for place, page in enumerate(tif.pages)]
            return max(1, sum(map(bool, whole)))
    except DataError:
        return 1


def raster_size(path: Path) -> tuple[int, int] | None:
    """Height and width of a TIFF, or of an array in `.npy`, by its head; None for other files and damaged ones."""
    if path.suffix.lower() in TIFFS:
        try:
            with _tiff(path) as tif:
                return int(tif.pages[0].imagelength), int(tif.pages[0].imagewidth)
        except DataError:
            return None
    if path.suffix.lower() not in ARRAYS:
        return None
    try:
        shape = np.load(path, mmap_mode="r", allow_pickle=False).shape
    except DAMAGE:
        return None
    if len(shape) == 3 and bands_first(shape):
        return shape[1], shape[2]
    return (shape[0], shape[1]) if len(shape) in (2, 3) else None


def bands_first(shape: tuple[int, ...]) -> bool:
    """Whether an array of three axes is (bands, H, W): its first axis is the shortest, and alone so."""
    return shape[0] < min(shape[1:])


def fitting_bits(low: float, high: float, dtype: str) -> int | None:
    """How many bits hold values of a raster: 8 and less for 8 bits, of `DEEP_BITS`, 0 for 0..1 in floats, else None."""
    if dtype.startswith("float") and low >= 0 and high <= 1:
        return 0
    return next((bits for bits in DEEP_BITS if low >= 0 and high < 1 << bits), None)


def read_bands(path: Path, bands: Bands, *, bits: int | None = None, page: int = 0) -> npt.NDArray[np.uint8]:
    """The bands of a file that a model sees, in its order.

    Values of 8 bits stay as they are. Others are scaled linearly by `Bands.scale`, or where there is none divided so
    that 8 bits are left of `bits`, all bands alike. What the file marks as no data, and what is no number, becomes 0.

    Args:
        path: A TIFF, a `.npy` file, or a picture, whose channels are its bands.
        bands: Which.
        bits: How many bits the values of files deeper than 8 bits have; 0: floating point numbers of 0..1.
        page: Which page of a file of several, unless pages are bands.

    Returns:
        uint8 of shape (H, W, C).

    Raises:
        DataError: If the file is missing or damaged, lacks a band, or has values outside the range.
    """
    values, shown = read_raster(path, page=page, pages=bands.pages)
    if max(bands.numbers) > values.shape[-1]:
        raise DataError(
            f"{path}: image has {values.shape[-1]} bands, and band {max(bands.numbers)} is wanted: give it the bands "
            "of the others, or choose bands that all images have"
        )
    chosen = np.ascontiguousarray(values[..., [number - 1 for number in bands.numbers]])
    hidden = ~shown[..., [number - 1 for number in bands.numbers]]
    if chosen.dtype.kind == "f":
        hidden |= ~np.isfinite(chosen)
    chosen[hidden] = 0
    if bands.scale is not None:
        low, high = bands.scale
        scaled = np.rint((chosen.astype(np.float64) - low) * (255 / (high - low))).clip(0, 255).astype(np.uint8)
    elif chosen.dtype == np.uint8:
        scaled = chosen.copy()
    elif bits is None:
        raise DataError(f"{path}: image has values of type {chosen.dtype}, not 8 bits; the others have 8 bits")
    else:
        scaled = to_bytes(path, chosen, bits)
    scaled[hidden] = 0
    return scaled


def read_raster(path: Path, *, page: int = 0, pages: bool = False) -> tuple[Values, npt.NDArray[np.bool_]]:
    """All bands of a file as they are stored.

    An array of three axes is (bands, H, W) where its first axis is the shortest and alone so, else (H, W, bands).

    Returns:
        Values of shape (H, W, B), and where they are data, bool of the same shape: not where they have the value that
        GDAL's tag names.

    Raises:
        DataError: If the file is missing, damaged, or holds no numbers.
    """
    if path.suffix.lower() in ARRAYS:
        values, nodata = _array(path), None
    elif path.suffix.lower() in TIFFS:
        values, nodata = _tiff_values(path, page, pages)
    else:
        values, nodata = picture_channels(path, page), None
    if values.dtype.kind not in "uif" or not values.size:
        raise DataError(f"{path}: image is an array of shape {values.shape} and type {values.dtype}, not of numbers")
    if values.shape[-1] > MOST_CHANNELS:
        raise DataError(f"{path}: image of shape {values.shape} would have {values.shape[-1]} bands")
    if nodata is None:
        return values, np.ones(values.shape, bool)
    return values, ~np.isnan(values) if math.isnan(nodata) else values != np.asarray(nodata, np.float64)


def _tiff_values(path: Path, page: int, pages: bool) -> tuple[Values, float | None]:
    with _tiff(path) as tif:
        chosen: Sequence[Any] = list(tif.pages) if pages else [tif.pages[page]]
        for one in chosen:
            check_pixels(one.imagelength, one.imagewidth, path)
        tag = chosen[0].tags.get(_NODATA)
        found = [_bands_last(one.asarray(), one.axes) for one in chosen]
        if pages:
            size = found[0].shape
            found = [one for one in found if one.shape == size]
        values = np.concatenate(found, axis=-1)
        if pages and values.shape[1] <= 16 < values.shape[2]:
            # tifffile writes an array (H, W, C) of which it was told nothing as H pages of size (W, C).
            values = np.ascontiguousarray(np.moveaxis(values, 2, 0))
        return values, None if tag is None else _number(tag.value)


def _bands_last(values: Values, axes: str) -> Values:
    if axes == "YX":
        return values[..., None]
    if axes == "SYX":
        return np.moveaxis(values, 0, -1)
    if axes == "YXS":
        return values
    raise ValueError(f"axes {axes}")


def _number(text: Any) -> float | None:
    try:
        return float(str(text).strip().strip("\0"))
    except ValueError:
        return None


def _array(path: Path) -> Values:
    try:
        stored = np.load(path, mmap_mode="r", allow_pickle=False)
        height, width = sorted((1, 1, *stored.shape))[-2:]
        check_pixels(height, width, path)
        values: Values = np.array(stored)
    except FileNotFoundError:
        missing(path, "image")
    except DAMAGE as error:
        raise damaged(path, "image", error) from None
    if values.ndim == 2:
        return values[..., None]
    if values.ndim != 3:
        raise DataError(f"{path}: image is an array of shape {values.shape}; (H, W, bands) or (bands, H, W) is read")
    return np.ascontiguousarray(np.moveaxis(values, 0, -1)) if bands_first(values.shape) else values


def _declared(path: Path) -> tuple[bool, int]:
    """Whether a TIFF says that its first bands are red, green and blue, and which band is transparency, or 0."""
    with _tiff(path) as tif:
        page = tif.pages[0]
        extra = tuple(map(int, page.extrasamples or ()))
        samples = int(page.samplesperpixel)
        alphas = [samples - len(extra) + place + 1 for place, kind in enumerate(extra) if kind in _ALPHA]
        return int(page.photometric) == _RGB, alphas[-1] if alphas else 0


def _looks_like_alpha(values: Values) -> bool:
    top = 1.0 if values.dtype.kind == "f" else float(np.iinfo(values.dtype).max)
    return bool(((values == 0) | (values == top)).mean() >= ALPHA_SHARE and (values == top).any())


@contextmanager
def _tiff(path: Path) -> Iterator[Any]:
    """A TIFF, open.

    Raises:
        DataError: If it is missing, or damaged; whatever goes wrong inside, too.
    """
    import logging

    import tifffile

    logging.getLogger("tifffile").setLevel(logging.CRITICAL)  # what it warns of is an error here or does not matter
    try:
        with tifffile.TiffFile(path) as tif:
            if not len(tif.pages):
                raise ValueError("no pages")
            yield tif
    except DataError:
        raise
    except FileNotFoundError:
        missing(path, "image")
    except Exception as error:  # each codec fails in a way of its own
        raise damaged(path, "image", error) from None
