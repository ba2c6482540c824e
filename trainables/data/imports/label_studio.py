"""Label Studio's JSON export: tasks with brush strokes, polygons, rectangles and ellipses."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import numpy as np

from trainables.data.base import Mask
from trainables.data.imports import shapes
from trainables.data.imports.base import (
    Finder,
    Import,
    absent_note,
    empty_mask,
    mask_of,
    numbered,
    places_of,
    thin_note,
)
from trainables.data.layouts.tree import MediaFile
from trainables.errors import DataError
from trainables.words import counted

FORMAT = "Label Studio JSON"
_AREAS = ("brushlabels", "polygonlabels", "rectanglelabels", "ellipselabels")
_UPLOADED = re.compile(r"[0-9a-f]{8}-")
"""What Label Studio puts before the name of a file that was uploaded."""


def is_label_studio(content: Any) -> bool:
    """Whether a JSON file is a list of tasks."""
    return (
        isinstance(content, list)
        and bool(content)
        and all(isinstance(one, dict) and isinstance(one.get("data"), dict) and "annotations" in one for one in content)
    )


def read_label_studio(root: Path, contents: Mapping[Path, Any], files: Sequence[MediaFile]) -> Import:
    """Reads the files of a data set together.

    Classes are the labels that are drawn, in alphabetical order; 0 is the background. Of a task with several
    annotations the last one that was not cancelled counts. Regions are drawn in its order, later ones over earlier
    ones. A task without an annotation is left out.

    Raises:
        DataError: If nothing has an area, or there are more labels than masks have room for.
    """
    tasks = [(path, task, _counted(task)) for path, content in contents.items() for task in content]
    regions = [region for _, _, annotation in tasks for region in _regions(annotation)]
    if not regions:
        raise DataError(f"{root}: its {FORMAT} cannot be drawn: no brush, polygon, rectangle or ellipse is in it")
    names = numbered({_label(region) for region in regions})
    place = places_of(names)
    finder, draw, absent = Finder(files), dict[MediaFile, Callable[[], Mask]](), list[str]()
    for path, task, annotation in tasks:
        if annotation is None:
            continue
        name = _image_name(task["data"])
        file = _found(finder, name, path.parent)
        if file is None:
            absent.append(name or f"task {task.get('id')}")
            continue
        draw[file] = partial(_mask, annotation, place, f"{path}: {name}", file)
    others = sum(len(one.get("annotations") or ()) > 1 for _, one, _ in tasks)
    thin = [str(r.get("type")) for _, _, a in tasks for r in (a or {}).get("result", ()) if r.get("type") not in _AREAS]
    notes = ["regions are drawn in their order, later ones over earlier ones", *absent_note(absent)]
    if others:
        notes.append(f"{counted(others, 'task')} with several annotations: the last one counts")
    notes += thin_note(thin, "region")
    return Import(FORMAT, tuple(contents), names, draw, tuple(notes))


def _counted(task: Any) -> Any:
    """The annotation of a task that counts; None if there is none."""
    kept = [one for one in task.get("annotations") or () if isinstance(one, dict) and not one.get("was_cancelled")]
    return kept[-1] if kept else None


def _regions(annotation: Any) -> Iterator[Any]:
    return (region for region in (annotation or {}).get("result", ()) if region.get("type") in _AREAS)


def _label(region: Any) -> str:
    """The first of a region's labels."""
    labels = region["value"].get(region["type"]) or [""]
    return str(labels[0])


def _image_name(data: Mapping[str, Any]) -> str:
    """The image of a task: what looks like a file among its data, without what stands before and behind its path."""
    for key in ("image", *data):
        text = data.get(key)
        if isinstance(text, str) and re.search(r"\.\w{2,5}($|[?&#])|[?&]d=", text):
            parts = urlsplit(text)
            return unquote(parse_qs(parts.query).get("d", [parts.path])[0])
    return ""


def _found(finder: Finder, name: str, near: Path) -> MediaFile | None:
    """The image of a name as it is, or as it was called before it was uploaded."""
    if not name:
        return None
    last = name.rpartition("/")[2]
    return finder.find(name, near=near) or (finder.find(last[9:], near=near) if _UPLOADED.match(last) else None)


def _mask(annotation: Any, place: Mapping[str, int], where: str, file: MediaFile) -> Mask:
    mask: Mask | None = None
    try:
        for region in _regions(annotation):
            size = int(region["original_height"]), int(region["original_width"])
            mask = empty_mask(*size, max(place.values())) if mask is None else mask
            mask[_pixels(region["value"], str(region["type"]), size)] = place[_label(region)]
    except (TypeError, ValueError, KeyError, IndexError) as error:
        raise DataError(f"{where}: a region cannot be drawn ({error}); put the annotation right") from None
    return mask_of(file.path, max(place.values())) if mask is None else mask


def _pixels(value: Any, kind: str, size: tuple[int, int]) -> shapes.Pixels:
    """The pixels of a region; lengths are per cent of the image, counted from the corner of the first pixel."""
    height, width = size
    if kind == "brushlabels":
        return _brush(value, size)
    if kind == "polygonlabels":
        corners = [(float(x) * width / 100 - 0.5, float(y) * height / 100 - 0.5) for x, y in value["points"]]
        return shapes.polygon(size, [corners])
    x, y = float(value["x"]) * width / 100, float(value["y"]) * height / 100
    turned = float(value.get("rotation") or 0)
    if kind == "ellipselabels":
        radii = float(value["radiusX"]) * width / 100, float(value["radiusY"]) * height / 100
        return shapes.ellipse(size, (x - 0.5, y - 0.5), radii, turned)
    along, down = float(value["width"]) * width / 100, float(value["height"]) * height / 100
    corner = x - 0.5, y - 0.5
    return shapes.turned_rectangle(size, (*corner, corner[0] + along, corner[1] + down), corner, turned)


def _brush(value: Any, size: tuple[int, int]) -> shapes.Pixels:
    """The pixels that a brush stroke covers: an RGBA image, packed as `thi.ng/rle-pack` packs bytes.

    32 bits hold the number of values, 5 the bits of a value less one, four times 4 the bits of a length less one. Then
    runs follow: a bit says whether one value is repeated or all are spelled out, 2 bits which of the four widths its
    length less one has, then that and the value or values.
    """
    if value.get("format") != "rle":
        raise ValueError(f"a brush of format {value.get('format')!r}; Label Studio exports 'rle'")
    bits = np.unpackbits(np.asarray(value["rle"], np.uint8)).tobytes()
    place = 0

    def read(count: int) -> int:
        nonlocal place
        if place + count > len(bits):
            raise ValueError("its run lengths end too early")
        number = 0
        for bit in bits[place : place + count]:
            number = number << 1 | bit
        place += count
        return number

    total, word = read(32), read(5) + 1
    widths = [read(4) + 1 for _ in range(4)]
    if total != 4 * size[0] * size[1]:
        raise ValueError(f"its run lengths are {total} values, 4 for each pixel are {4 * size[0] * size[1]}")
    values = np.zeros(total, np.uint32)
    done = 0
    while done < total:
        repeated = read(1)
        length = read(widths[read(2)]) + 1
        if done + length > total:
            raise ValueError("its run lengths are longer than the image")
        values[done : done + length] = read(word) if repeated else [read(word) for _ in range(length)]
        done += length
    return values.reshape(*size, 4)[..., 3] > 0
