"""What the heads of image files say, looked at once and remembered: pages, depth, size, EXIF orientation."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import PIL.Image

from trainables.data.reading.memory import recall, remember
from trainables.data.reading.opening import DAMAGE
from trainables.data.reading.rasters import TIFFS, Raster, is_raster, pages_of, raster_of
from trainables.data.reading.read import deep_bits, exif_orientation
from trainables.errors import DataError
from trainables.limits import opened_image
from trainables.machine import cores
from trainables.places import cache_root

_KIND = "files"
_FORMAT = 2

_PAGED = (".tif", ".tiff", ".gif")
_REDUCED = 254
"""The TIFF tag NewSubfileType; its lowest bit marks a smaller copy of another page."""


@dataclass(frozen=True)
class Head:
    """One file."""

    pages: int = 1
    """Full-size pages, at least one."""
    bits: int | None = None
    """`deep_bits` of the deepest page."""
    size: tuple[int, int] | None = None
    """Height and width as stored, of the first page."""
    orientation: int = 1
    channels: int = 0
    """How many a picture has that PIL reads, transparency among them."""
    raster: Raster | None = None
    """What a file of several bands holds; None for an ordinary picture."""

    @property
    def bands(self) -> int:
        """How many bands the file has; 0 where it cannot be read."""
        return self.channels if self.raster is None else self.raster.bands


def heads(root: Path, paths: Sequence[Path], *, pages_are_bands: bool = False) -> dict[Path, Head]:
    """The heads of files; those that cannot be read have none of it.

    Args:
        root: The data root, under which they are remembered.
        paths: The files.
        pages_are_bands: Whether each page of a file is a band of it.
    """
    place = cache_root() / "heads" / f"{hashlib.sha256(str(root.resolve()).encode()).hexdigest()[:16]}.json"
    known = recall(place, _KIND, version=_FORMAT)
    keys = {path: _key(path) + ("|bands" if pages_are_bands else "") for path in paths}
    fresh = [path for path in paths if keys[path] not in known]
    with ThreadPoolExecutor(max_workers=min(16, cores())) as pool:
        found = dict(
            zip(fresh, pool.map(lambda path: head_of(path, pages_are_bands=pages_are_bands), fresh), strict=True)
        )
    if found:
        kept = {key: known[key] for key in keys.values() if key in known}
        remember(place, _KIND, {**kept, **{keys[path]: asdict(head) for path, head in found.items()}}, version=_FORMAT)
    return {path: found[path] if path in found else _from_json(known[keys[path]]) for path in paths}


def head_of(path: Path, *, pages_are_bands: bool = False) -> Head:
    """The head of one file."""
    if (pages_are_bands and path.suffix.lower() in TIFFS) or is_raster(path):
        raster = raster_of(path, pages=pages_are_bands)
        if raster is not None:
            pages = 1 if pages_are_bands else pages_of(path)
            return Head(pages, None, raster.size, channels=raster.bands, raster=raster)
    if path.suffix.lower() == ".npy":
        return Head()
    try:
        with opened_image(path, head=True) as image:
            size = image.height, image.width
            channels = len(image.getbands()) if image.mode in ("L", "LA", "RGB", "RGBA") else 3
            pages = _pages(image) if path.suffix.lower() in _PAGED else 1
    except (*DAMAGE, DataError):
        return Head()
    return Head(pages, _bits(path, pages), size, exif_orientation(path), channels)


def _pages(image: PIL.Image.Image) -> int:
    """Pages of the size of the first that are not marked as smaller copies."""
    count, size = 0, image.size
    for page in range(getattr(image, "n_frames", 1)):
        image.seek(page)
        reduced = int(getattr(image, "tag_v2", {}).get(_REDUCED, 0)) & 1
        if image.size == size and not (page and reduced):
            count += 1
    return max(1, count)


def _bits(path: Path, pages: int) -> int | None:
    found = []
    for page in range(pages):
        try:
            bits = deep_bits(path, page)
        except DataError:
            # The check reads the file again and says what is wrong with it.
            continue
        if bits is None:
            break
        found.append(bits)
    return max(found, default=None)


def _key(path: Path) -> str:
    try:
        status = path.stat()
        return f"{path}|{status.st_size}|{status.st_mtime_ns}"
    except OSError:
        return f"{path}|-1|-1"


def _from_json(entry: Mapping[str, Any]) -> Head:
    size, raster = entry["size"], entry["raster"]
    found = None if raster is None else Raster(**{**raster, "size": (raster["size"][0], raster["size"][1])})
    where = (size[0], size[1]) if size else None
    return Head(entry["pages"], entry["bits"], where, entry["orientation"], entry["channels"], found)
