"""Which of the formats a folder without masks holds."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from trainables.data.imports.base import Import
from trainables.data.imports.coco import is_coco, load_json, read_coco
from trainables.data.imports.labelme import is_labelme, read_labelme
from trainables.data.imports.yolo import read_yolo
from trainables.data.layouts.tree import DRAWN_FOLDER, media_files

_LARGEST_TEXT = 1 << 20
"""Bytes; a longer text file holds no polygons of one image."""


def detect(root: Path) -> Import | None:
    """The annotations of a folder in one of the formats; None if there are none.

    Raises:
        DataError: If there are, and they cannot be drawn.
    """
    files = [file for file in media_files(root) if file.below[:1] != (DRAWN_FOLDER,)]
    contents = {path: load_json(path) for path in _files(root, ".json")}
    coco = {path: content for path, content in contents.items() if is_coco(content)}
    if coco:
        return read_coco(root, coco, files)
    labelme = {path: content for path, content in contents.items() if is_labelme(content)}
    if labelme:
        return read_labelme(root, labelme, files)
    return read_yolo(root, dict(_texts(root)), files)


def _files(root: Path, suffix: str) -> Sequence[Path]:
    found = []
    for folder, below, names in os.walk(root, followlinks=False):
        below[:] = sorted(name for name in below if not name.startswith(".") and name != DRAWN_FOLDER)
        found += [Path(folder, name) for name in sorted(names) if name.lower().endswith(suffix) and name[0] != "."]
    return found


def _texts(root: Path) -> Iterator[tuple[Path, str]]:
    for path in _files(root, ".txt"):
        try:
            if path.stat().st_size <= _LARGEST_TEXT:
                yield path, path.read_text("utf-8-sig")
        except (OSError, UnicodeDecodeError):
            continue
