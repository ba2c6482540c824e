"""COCO JSON: polygons and run lengths, drawn by pycocotools."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from trainables import commands
from trainables.data.base import Mask
from trainables.data.imports.base import Finder, Import, absent_note, empty_mask
from trainables.data.layouts.tree import MediaFile
from trainables.data.layouts.words import folder_name
from trainables.data.void import MOST_CLASSES, void_id
from trainables.errors import DataError
from trainables.words import counted

FORMAT = "COCO JSON"

_KEYS = {"images", "annotations", "categories"}


def is_coco(content: Any) -> bool:
    """Whether a JSON file is one of COCO's with instances in it."""
    return isinstance(content, dict) and content.keys() >= _KEYS and isinstance(content["annotations"], list)


def read_coco(root: Path, contents: Mapping[Path, Any], files: Sequence[MediaFile]) -> Import:
    """Reads the files of a data set together.

    Classes are the categories that occur, by their id; 0 is the background. Objects are drawn from large to small, so
    that small ones stay visible; crowds (`iscrowd`) are void. A listed image without objects is background.

    Raises:
        DataError: If files contradict each other, or hold boxes only.
    """
    categories: dict[int, str] = {}
    faults = []
    for path, content in contents.items():
        for entry in content["categories"]:
            number, name = int(entry["id"]), str(entry["name"])
            if categories.setdefault(number, name) != name:
                faults.append(f"{path}: category {number} is {name}, and {categories[number]} elsewhere")
    used = {int(a["category_id"]) for content in contents.values() for a in content["annotations"]}
    faults += [f"category {number} has no name" for number in sorted(used - set(categories))]
    kept = [number for number in sorted(categories) if number in used]
    if len(kept) >= MOST_CLASSES:
        faults.append(f"{len(kept)} categories, and {MOST_CLASSES - 1} beside the background is the most")
    outlined = any(a.get("segmentation") for content in contents.values() for a in content["annotations"])
    if not outlined:
        faults.append("no annotation has a segmentation: they are boxes, not masks")
    if faults:
        raise DataError(f"{root}: its {FORMAT} cannot be drawn:\n  " + "\n  ".join(faults))
    place, void = {number: index for index, number in enumerate(kept, 1)}, void_id(len(kept) + 1)
    finder, draw, absent, boxes = Finder(files), dict[MediaFile, Callable[[], Mask]](), list[str](), 0
    parts: dict[MediaFile, str] = {}
    for path, content in contents.items():
        of_image: dict[Any, list[Any]] = defaultdict(list)
        for annotation in content["annotations"]:
            if annotation.get("segmentation"):
                of_image[annotation["image_id"]].append(annotation)
            else:
                boxes += 1
        for image in content["images"]:
            file = finder.find(str(image["file_name"]), near=path.parent)
            if file is None:
                absent.append(str(image["file_name"]))
                continue
            if part := folder_name(path.stem).part or folder_name(path.parent.name).part:
                parts[file] = part
            size = int(image["height"]), int(image["width"])
            draw[file] = partial(_mask, size, of_image[image["id"]], place, void, f"{path}: {image['file_name']}")
    notes = ["objects are drawn from large to small, crowds are void", *absent_note(absent)]
    if boxes:
        notes.append(f"{counted(boxes, 'annotation')} without a segmentation left out: they are boxes")
    names = tuple(categories[number] for number in kept)
    return Import(FORMAT, tuple(contents), names, draw, tuple(notes), parts)


def _mask(size: tuple[int, int], annotations: Sequence[Any], place: Mapping[int, int], void: int, where: str) -> Mask:
    drawn = []
    for annotation in annotations:
        shape = _shape(annotation["segmentation"], size, where)
        drawn.append((int(shape.sum()), annotation, shape))
    mask = empty_mask(*size, void)
    # Equal areas in the order of the file.
    for _, annotation, shape in sorted(drawn, key=lambda item: -item[0]):
        mask[shape] = void if annotation.get("iscrowd") else place[int(annotation["category_id"])]
    return mask


def _shape(segmentation: Any, size: tuple[int, int], where: str) -> npt.NDArray[np.bool_]:
    """The pixels of one object, shape (H, W)."""
    try:
        from pycocotools import mask as coco_mask
    except ImportError:
        raise DataError(f"{FORMAT} is drawn by pycocotools, which is not installed: {commands.EXTRA_COCO}") from None
    try:
        if isinstance(segmentation, list):
            runs = coco_mask.merge(coco_mask.frPyObjects(segmentation, *size))
        elif isinstance(segmentation["counts"], list):
            runs = coco_mask.frPyObjects(segmentation, *size)
        else:
            runs = segmentation
        shape: npt.NDArray[np.bool_] = coco_mask.decode(runs).astype(bool)
    except (TypeError, ValueError, KeyError, IndexError) as error:
        raise DataError(f"{where}: a segmentation cannot be drawn ({error}); put the annotation right") from None
    if shape.shape != size:
        raise DataError(f"{where}: a segmentation is {shape.shape[0]}x{shape.shape[1]}, the image {size[0]}x{size[1]}")
    return shape


def load_json(path: Path) -> Any:
    """The content of a JSON file; None if it is none."""
    try:
        return json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return None
