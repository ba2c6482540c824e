"""YOLO segmentation: a text file an image, with a class and a polygon a line."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import yaml

from trainables.data.base import Mask
from trainables.data.imports.base import Import, mask_of
from trainables.data.layouts.sides import key_of
from trainables.data.layouts.tree import MediaFile
from trainables.data.layouts.words import folder_name, normal
from trainables.data.void import MOST_CLASSES
from trainables.errors import DataError
from trainables.words import counted, some_of

FORMAT = "YOLO segmentation"

_LINE = re.compile(r"\s*\d+(?:\s+-?\d+(?:\.\d*)?(?:[eE][-+]?\d+)?)+\s*")
_NAMES = ("data.yaml", "dataset.yaml", "data.yml")


def read_yolo(root: Path, texts: Mapping[Path, str], files: Sequence[MediaFile]) -> Import | None:
    """Reads a data set; None if no text file goes with an image.

    Class `i` of the files is `i + 1` of the masks; 0 is the background. Polygons are drawn in the order of the file,
    later ones over earlier ones. An image whose text file is empty is background.

    Raises:
        DataError: If the lines are boxes, or classes have no names while others do.
    """
    by_key = {key_of(file): file for file in files}
    pairs: dict[MediaFile, Path] = {}
    for path, text in texts.items():
        folders = [folder_name(name) for name in path.relative_to(root).parts[:-1]]
        file = by_key.get((*(folder.rest for folder in folders if folder.rest), normal(path.stem)))
        if file is not None and all(_LINE.fullmatch(line) for line in text.splitlines() if line.strip()):
            pairs[file] = path
    filled = {file: path for file, path in pairs.items() if texts[path].strip()}
    if not filled:
        return None
    lines = [line.split() for path in filled.values() for line in texts[path].splitlines() if line.strip()]
    boxes = [line for line in lines if len(line) == 5]
    broken = sorted(
        {p.name for p in filled.values() for line in texts[p].splitlines() if line.strip() and _odd(line.split())}
    )
    if broken or len(boxes) == len(lines):
        what = "boxes, not outlines" if not broken else f"not polygons in {some_of(broken, 3)}"
        raise DataError(f"{root}: its {FORMAT} cannot be drawn: the lines are {what}")
    last = max(int(line[0]) for line in lines)
    names = _names(root, last)
    draw: dict[MediaFile, Callable[[], Mask]] = {
        file: partial(_mask, file.path, texts[path], len(names)) for file, path in pairs.items()
    }
    notes = ["polygons are drawn in their order, later ones over earlier ones"]
    if boxes:
        notes.append(f"{counted(len(boxes), 'line')} with a box left out")
    return Import(FORMAT, tuple(pairs.values()), names, draw, tuple(notes))


def _odd(line: Sequence[str]) -> bool:
    """Whether a line is neither a box nor a polygon."""
    return len(line) != 5 and (len(line) < 7 or len(line) % 2 == 0)


def _names(root: Path, last: int) -> tuple[str, ...]:
    found: Any = None
    for name in _NAMES:
        try:
            content = yaml.safe_load((root / name).read_text("utf-8-sig"))
        except (OSError, ValueError, yaml.YAMLError):
            continue
        found = content.get("names") if isinstance(content, dict) else None
        if found:
            break
    if isinstance(found, dict):
        found = [str(found.get(number, f"class {number}")) for number in range(max(map(int, found)) + 1)]
    names = [str(name) for name in found] if isinstance(found, list) else [f"class {n}" for n in range(last + 1)]
    if last >= len(names):
        raise DataError(f"{root}: class {last} is drawn, and data.yaml names {len(names)} classes; add the names")
    if len(names) >= MOST_CLASSES or len(set(names)) < len(names):
        raise DataError(f"{root}: data.yaml names {len(names)} classes; {MOST_CLASSES - 1} with names of their own do")
    return tuple(names)


def _mask(image: Path, text: str, largest: int) -> Mask:
    mask = mask_of(image, largest)
    for line in text.splitlines():
        cells = line.split()
        if len(cells) > 5:
            points = np.array(cells[1:], float).reshape(-1, 2) * mask.shape[::-1]
            corners: npt.NDArray[np.int32] = points.astype(np.int32)
            cv2.fillPoly(mask, [corners], int(cells[0]) + 1)
    return mask
