"""Which of the formats a folder without masks holds."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from trainables.data.imports.base import Import
from trainables.data.imports.coco import is_coco, load_json, read_coco
from trainables.data.imports.cvat import load_cvat, read_cvat
from trainables.data.imports.label_studio import is_label_studio, read_label_studio
from trainables.data.imports.labelme import is_labelme, read_labelme
from trainables.data.imports.objects import read_objects
from trainables.data.imports.supervisely import is_supervisely, read_supervisely
from trainables.data.imports.yolo import read_yolo
from trainables.data.layouts.finding import Said
from trainables.data.layouts.tree import DRAWN_FOLDER, MediaFile, files_below, media_files
from trainables.errors import DataError
from trainables.words import some_of

_JSON: Sequence[tuple[Callable[[Any], bool], Callable[[Path, Mapping[Path, Any], Sequence[MediaFile]], Import]]] = (
    (is_coco, read_coco),
    (is_labelme, read_labelme),
    (is_supervisely, read_supervisely),
    (is_label_studio, read_label_studio),
)
"""Whether a JSON file is one of the format, and what reads those of a folder together."""
_LARGEST_TEXT = 1 << 20
"""Bytes; a longer text file holds no polygons of one image."""


def detect(root: Path, said: Said | None = None) -> Import | None:
    """The annotations of a folder in one of the formats; None if there are none.

    Args:
        root: The folder.
        said: What is said of it; None: nothing is drawn, only the files matter.

    Raises:
        UndecidedError: If something about them cannot be known; with the question.
        DataError: If there are, and they cannot be drawn.
    """
    files = [file for file in media_files(root) if file.below[:1] != (DRAWN_FOLDER,)]
    contents = {path: load_json(path) for path in files_below(root, ".json")}
    for is_one, read in _JSON:
        own = {path: content for path, content in contents.items() if is_one(content)}
        if own:
            try:
                return read(root, own, files)
            except (LookupError, TypeError, ValueError, AttributeError) as error:
                which = some_of([str(path) for path in own], 3)
                what = f"{type(error).__name__}: {error}"
                raise DataError(
                    f"{which}: annotations are not as their format has them ({what}); export them again"
                ) from error
    cvat = {path: content for path in files_below(root, ".xml") if (content := load_cvat(path)) is not None}
    if cvat:
        return read_cvat(root, cvat, files)
    return read_yolo(root, dict(_texts(root)), files) or read_objects(root, files, said)


def _texts(root: Path) -> Iterator[tuple[Path, str]]:
    for path in files_below(root, ".txt"):
        try:
            if path.stat().st_size <= _LARGEST_TEXT:
                yield path, path.read_text("utf-8-sig")
        except (OSError, UnicodeDecodeError):
            continue
