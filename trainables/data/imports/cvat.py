"""CVAT for images 1.1: one XML file with polygons, masks, rectangles and ellipses."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from xml.etree import ElementTree

import numpy as np

from trainables.data.base import Mask
from trainables.data.imports import shapes
from trainables.data.imports.base import Finder, Import, absent_note, empty_mask, numbered, places_of, thin_note
from trainables.data.layouts.tree import MediaFile
from trainables.data.layouts.words import folder_name
from trainables.errors import DataError

FORMAT = "CVAT XML"
_AREAS = ("polygon", "mask", "box", "ellipse")
_THIN = ("polyline", "points", "cuboid", "skeleton")


def load_cvat(path: Path) -> ElementTree.Element | None:
    """The root of a file if it is one of CVAT's, else None; one with entities of its own is not read."""
    try:
        text = path.read_bytes()
        if b"<annotations" not in text[:4096] or b"<!ENTITY" in text or b"<!DOCTYPE" in text:
            return None
        root = ElementTree.fromstring(text)
    except (OSError, ValueError, ElementTree.ParseError):
        return None
    return root if root.tag == "annotations" and root.find("version") is not None else None


def read_cvat(root: Path, contents: Mapping[Path, ElementTree.Element], files: Sequence[MediaFile]) -> Import:
    """Reads the files of a data set together.

    Classes are the labels that are drawn, in alphabetical order; 0 is the background. Shapes are drawn from the lowest
    `z_order` to the highest, those of one `z_order` in the order of the file; rectangles are areas, too. Points and
    lines are left out.

    Raises:
        DataError: If the file is of a video, has no area, or more labels than masks have room for.
    """
    for path, content in contents.items():
        if content.find("track") is not None:
            raise DataError(f"{path}: tracks of a video; export the task from CVAT as 'CVAT for images 1.1'")
    images = [(path, image) for path, content in contents.items() for image in content.iter("image")]
    drawn = [shape for _, image in images for shape in image if shape.tag in _AREAS]
    if not drawn:
        raise DataError(f"{root}: its {FORMAT} cannot be drawn: no polygon, mask, rectangle or ellipse is in it")
    names = numbered({_label(shape) for shape in drawn})
    place = places_of(names)
    finder, draw, absent = Finder(files), dict[MediaFile, Callable[[], Mask]](), list[str]()
    parts: dict[MediaFile, str] = {}
    for path, image in images:
        name = str(image.get("name"))
        file = finder.find(name, near=path.parent)
        if file is None:
            absent.append(name)
            continue
        if part := folder_name(str(image.get("subset", ""))).part:
            parts[file] = part
        draw[file] = partial(_mask, image, place, f"{path}: {name}")
    thin = [shape.tag for _, image in images for shape in image if shape.tag in _THIN]
    notes = ["shapes are drawn by their z_order, then in the order of the file", *absent_note(absent)]
    notes += thin_note(thin, "shape")
    return Import(FORMAT, tuple(contents), names, draw, tuple(notes), parts)


def _label(shape: ElementTree.Element) -> str:
    return str(shape.get("label"))


def _mask(image: ElementTree.Element, place: Mapping[str, int], where: str) -> Mask:
    try:
        size = int(image.attrib["height"]), int(image.attrib["width"])
        mask = empty_mask(*size, max(place.values()))
        areas = [shape for shape in image if shape.tag in _AREAS]
        for shape in sorted(areas, key=lambda one: int(one.get("z_order", 0))):
            mask[_pixels(shape, size)] = place[_label(shape)]
    except (KeyError, ValueError) as error:
        raise DataError(f"{where}: a shape cannot be drawn ({error}); put the annotation right") from None
    return mask


def _pixels(shape: ElementTree.Element, size: tuple[int, int]) -> shapes.Pixels:
    """The pixels of a shape. CVAT counts from the corner of the first pixel, so that its middle is at 0.5."""
    if shape.tag == "mask":
        return _run_lengths(shape, size)
    if shape.tag == "polygon":
        corners = [
            (float(x) - 0.5, float(y) - 0.5) for x, y in (p.split(",") for p in shape.attrib["points"].split(";"))
        ]
        return shapes.polygon(size, [corners])
    number = {key: float(value) for key, value in shape.attrib.items() if key in _NUMBERS}
    turned = number.get("rotation", 0.0)
    if shape.tag == "ellipse":
        centre = number["cx"] - 0.5, number["cy"] - 0.5
        return shapes.ellipse(size, centre, (number["rx"], number["ry"]), turned)
    left, top, right, bottom = (number[key] - 0.5 for key in ("xtl", "ytl", "xbr", "ybr"))
    middle = (left + right) / 2, (top + bottom) / 2
    return shapes.turned_rectangle(size, (left, top, right, bottom), middle, turned)


_NUMBERS = ("xtl", "ytl", "xbr", "ybr", "cx", "cy", "rx", "ry", "rotation")


def _run_lengths(shape: ElementTree.Element, size: tuple[int, int]) -> shapes.Pixels:
    """Run lengths row by row over a box; the first run is outside the shape."""
    width, height = int(shape.attrib["width"]), int(shape.attrib["height"])
    runs = [int(run) for run in shape.attrib["rle"].replace(",", " ").split()]
    if sum(runs) != width * height or min(runs, default=0) < 0:
        raise ValueError(f"its run lengths are {sum(runs)} pixels, its box {width * height}")
    inside = np.repeat(np.arange(len(runs)) % 2 == 1, runs).reshape(height, width)
    pixels = np.zeros(size, bool)
    shapes.paste(pixels, inside, int(shape.attrib["left"]), int(shape.attrib["top"]))
    return pixels
