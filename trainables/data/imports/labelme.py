"""Labelme JSON: one file an image, with polygons, rectangles, circles and masks."""

from __future__ import annotations

import base64
import binascii
import io
import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import PIL.Image
import PIL.ImageDraw

from trainables.data.base import Mask
from trainables.data.imports.base import Finder, Import, absent_note, empty_mask, numbered, places_of, thin_note
from trainables.data.layouts.tree import MediaFile
from trainables.data.void import void_id
from trainables.errors import DataError
from trainables.limits import opened_image
from trainables.words import counted

FORMAT = "Labelme JSON"

_IGNORE = "__ignore__"
_AREAS = ("polygon", "rectangle", "circle", "mask")


def is_labelme(content: Any) -> bool:
    """Whether a JSON file is one of Labelme's."""
    return isinstance(content, dict) and isinstance(content.get("shapes"), list) and "imagePath" in content


def read_labelme(root: Path, contents: Mapping[Path, Any], files: Sequence[MediaFile]) -> Import:
    """Reads the files of a data set together.

    Classes are the labels in alphabetical order; 0 is the background, `__ignore__` is void. Shapes are drawn in the
    order of the file, later ones over earlier ones, as Labelme's own export does; points and lines are left out.

    Raises:
        DataError: If there are more labels than masks have room for.
    """
    labels = {str(shape["label"]) for content in contents.values() for shape in content["shapes"]}
    names = numbered(labels - {_IGNORE})
    place = places_of(names) | {_IGNORE: void_id(len(names) + 1)}
    finder, draw, absent, thin = Finder(files), dict[MediaFile, Callable[[], Mask]](), list[str](), list[str]()
    for path, content in contents.items():
        file = finder.find(str(content["imagePath"]), near=path.parent)
        if file is None:
            absent.append(str(content["imagePath"]))
            continue
        kinds = [str(shape.get("shape_type") or "polygon") for shape in content["shapes"]]
        thin += [kind for kind in kinds if kind not in _AREAS]
        draw[file] = partial(_mask, content, place, path, file.path)
    notes = ["shapes are drawn in their order, later ones over earlier ones", *absent_note(absent)]
    notes += thin_note(thin, "shape")
    return Import(FORMAT, tuple(contents), names, draw, tuple(notes))


def _mask(content: Any, place: Mapping[str, int], path: Path, image: Path) -> Mask:
    height, width = content.get("imageHeight"), content.get("imageWidth")
    if not (isinstance(height, int) and isinstance(width, int)):
        with opened_image(image, head=True) as opened:
            width, height = opened.size
    mask = empty_mask(height, width, max(place.values()))
    for shape in content["shapes"]:
        kind = str(shape.get("shape_type") or "polygon")
        if kind in _AREAS:
            try:
                mask[_pixels(shape, kind, (height, width))] = place[str(shape["label"])]
            except (TypeError, ValueError, KeyError, IndexError, OSError, binascii.Error) as error:
                raise DataError(f"{path}: a {kind} cannot be drawn ({error}); put the annotation right") from None
    return mask


def _pixels(shape: Any, kind: str, size: tuple[int, int]) -> npt.NDArray[np.bool_]:
    """The pixels of a shape, shape (H, W), as `labelme.utils.shape_to_mask` draws them."""
    points = [(float(x), float(y)) for x, y in shape["points"]]
    if kind == "mask":
        pixels = np.zeros(size, bool)
        with opened_image(io.BytesIO(base64.b64decode(shape["mask"])), "a mask in an annotation", what="mask") as image:
            part = np.asarray(image.convert("L")) > 0
        left, top = (round(value) for value in points[0])
        height, width = min(part.shape[0], size[0] - top), min(part.shape[1], size[1] - left)
        pixels[top : top + height, left : left + width] = part[:height, :width]
        return pixels
    canvas = PIL.Image.new("L", (size[1], size[0]))
    draw = PIL.ImageDraw.Draw(canvas)
    if kind == "circle":
        (x, y), (rim_x, rim_y) = points
        radius = math.hypot(x - rim_x, y - rim_y)
        draw.ellipse((x - radius, y - radius, x + radius, y + radius), outline=1, fill=1)
    elif kind == "rectangle":
        (x, y), (other_x, other_y) = points
        draw.rectangle((min(x, other_x), min(y, other_y), max(x, other_x), max(y, other_y)), outline=1, fill=1)
    else:
        if len(points) < 3:
            raise ValueError(f"{counted(len(points), 'point')} make no polygon")
        draw.polygon(points, outline=1, fill=1)
    return np.asarray(canvas, bool)
