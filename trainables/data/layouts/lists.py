"""Lists of splits that lie in a folder, and names in lists that lead to images."""

from __future__ import annotations

import os
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

from trainables.data.layouts.tree import DRAWN_FOLDER, MASK_SUFFIXES
from trainables.data.layouts.words import folder_name, normal
from trainables.data.reading.files import read_lines

PLACES = ("", "ImageSets/Segmentation", "ImageSets", "splits", "split", "lists", DRAWN_FOLDER)
"""Folders in which lists are looked for, in this order."""

_NAMES = {"train": ("train.txt",), "val": ("val.txt", "valid.txt", "validation.txt"), "test": ("test.txt",)}


def lists_in(root: Path) -> dict[str, Path]:
    """The lists of splits in the first place that has any, by split."""
    for place in PLACES:
        folder = root / place if place else root
        found = {part: folder / name for part, names in _NAMES.items() for name in names if (folder / name).is_file()}
        if found:
            return found
    return {}


def read_names(path: Path, images: Mapping[str, Path]) -> tuple[str, ...]:
    """The ids that a list names, in its order; see `ids_of`.

    A line may have the mask behind the image.
    """
    return ids_of(read_lines(path), images)


def ids_of(names: Sequence[str], images: Mapping[str, Path]) -> tuple[str, ...]:
    """The image ids that names in a list stand for; a name that stands for none stays as it is.

    A name may have an extension, and folders before it, down to those that tell images apart. Case of extensions and
    Unicode forms do not matter.

    Args:
        names: Lines of a list.
        images: The file of each image id.
    """
    by_tail: dict[str, set[str]] = defaultdict(set)
    for image_id, path in images.items():
        parts = normal(path.as_posix()).split("/")
        stem = "/".join([*parts[:-1], os.path.splitext(parts[-1])[0]])
        for whole in (stem, normal(image_id)):
            pieces = whole.split("/")
            for length in range(1, min(len(pieces), 6) + 1):
                by_tail["/".join(pieces[-length:])].add(image_id)
    ids = {normal(image_id): image_id for image_id in images}
    return tuple(_id_of(name, ids, by_tail) for name in names)


def _id_of(name: str, ids: Mapping[str, str], by_tail: Mapping[str, set[str]]) -> str:
    whole = normal(name.strip().strip("\"'").replace("\\", "/"))
    first = re.split(r"[\t,; ]+", whole)[0]
    for text in (whole, first):
        if text in ids:
            return ids[text]
        pieces = [piece for piece in _bare(text).split("/") if piece not in ("", ".")]
        if not pieces:
            continue
        for length in range(len(pieces), 0, -1):
            found = by_tail.get("/".join(pieces[-length:]), set())
            if len(found) == 1 and not _of_another_part(pieces[:-length], image_id := next(iter(found))):
                return image_id
            if found:
                break
    return name


def _of_another_part(before: Sequence[str], image_id: str) -> bool:
    """Whether a path names a split that an id names otherwise: `train/a` is not `val/a`."""
    named = {part for piece in before if (part := folder_name(piece).part)}
    own = {part for piece in image_id.split("/")[:-1] if (part := folder_name(piece).part)}
    return bool(named and own and not named & own)


def _bare(name: str) -> str:
    stem, suffix = os.path.splitext(name)
    return stem if suffix.lower() in MASK_SUFFIXES else name
