"""Supervisely: one JSON file per image in `ann/`, the images in `img/`, classes in `meta.json`."""

from __future__ import annotations

import base64
import binascii
import io
import zlib
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from trainables.data.base import Mask
from trainables.data.imports import shapes
from trainables.data.imports.base import Finder, Import, absent_note, empty_mask, numbered, places_of, thin_note
from trainables.data.layouts.tree import MediaFile
from trainables.data.layouts.words import folder_name
from trainables.errors import DataError
from trainables.limits import opened_image

FORMAT = "Supervisely JSON"
_AREAS = ("polygon", "bitmap", "rectangle")
_LARGEST = 1 << 28
"""Bytes that a bitmap may unpack to; more is no mask."""


def is_supervisely(content: Any) -> bool:
    """Whether a JSON file holds the objects of one image."""
    return (
        isinstance(content, dict) and isinstance(content.get("objects"), list) and isinstance(content.get("size"), dict)
    )


def read_supervisely(root: Path, contents: Mapping[Path, Any], files: Sequence[MediaFile]) -> Import:
    """Reads the files of a data set together.

    Classes are the titles that are drawn, in alphabetical order; 0 is the background. Objects are drawn in the order of
    the file, later ones over earlier ones. Points and lines are left out. Folders called train, val or test are splits.

    Raises:
        DataError: If nothing has an area, or there are more classes than masks have room for.
    """
    objects = [thing for content in contents.values() for thing in content["objects"]]
    areas = [thing for thing in objects if _kind(thing) in _AREAS]
    if not areas:
        raise DataError(f"{root}: its {FORMAT} cannot be drawn: no polygon, bitmap or rectangle is in it")
    names = numbered({str(thing.get("classTitle")) for thing in areas})
    place = places_of(names)
    finder, draw, absent = Finder(files), dict[MediaFile, Callable[[], Mask]](), list[str]()
    parts: dict[MediaFile, str] = {}
    for path, content in contents.items():
        near = path.parent.parent if path.parent.name == "ann" else path.parent
        file = finder.find(path.name[: -len(".json")], near=near)
        if file is None:
            absent.append(path.name)
            continue
        if part := folder_name(near.name).part:
            parts[file] = part
        draw[file] = partial(_mask, content, place, path)
    thin = [_kind(thing) for thing in objects if _kind(thing) not in _AREAS]
    notes = ["objects are drawn in their order, later ones over earlier ones", *absent_note(absent)]
    notes += thin_note(thin, "object")
    return Import(FORMAT, tuple(contents), names, draw, tuple(notes), parts)


def _kind(thing: Any) -> str:
    """The geometry of an object; older files have none for bitmaps."""
    return str(thing.get("geometryType") or ("bitmap" if thing.get("bitmap") else "polygon"))


def _mask(content: Any, place: Mapping[str, int], path: Path) -> Mask:
    try:
        size = int(content["size"]["height"]), int(content["size"]["width"])
        mask = empty_mask(*size, max(place.values()))
        for thing in content["objects"]:
            if _kind(thing) in _AREAS:
                mask[_pixels(thing, size)] = place[str(thing.get("classTitle"))]
    except (TypeError, ValueError, KeyError, IndexError, OSError, zlib.error, binascii.Error) as error:
        raise DataError(f"{path}: an object cannot be drawn ({error}); put the annotation right") from None
    return mask


def _pixels(thing: Any, size: tuple[int, int]) -> shapes.Pixels:
    kind = _kind(thing)
    if kind == "bitmap":
        left, top = (int(value) for value in thing["bitmap"]["origin"])
        pixels = np.zeros(size, bool)
        shapes.paste(pixels, _bitmap(str(thing["bitmap"]["data"])), left, top)
        return pixels
    outer = [(float(x), float(y)) for x, y in thing["points"]["exterior"]]
    if kind == "rectangle":
        return shapes.rectangle(size, outer[0], outer[1])
    holes = [[(float(x), float(y)) for x, y in ring] for ring in thing["points"].get("interior") or []]
    return shapes.polygon(size, [outer, *holes])


def _bitmap(data: str) -> shapes.Pixels:
    """The pixels of a packed PNG: its alpha channel where it has one, else what is not 0."""
    unpacker = zlib.decompressobj()
    content = unpacker.decompress(base64.b64decode(data), _LARGEST)
    with opened_image(io.BytesIO(content), "a bitmap in an annotation", what="mask") as image:
        has_alpha = "A" in image.getbands() or "transparency" in image.info
        shown = image.convert("RGBA").getchannel("A") if has_alpha else image.convert("L")
        pixels: shapes.Pixels = np.asarray(shown) > 0
        return pixels
