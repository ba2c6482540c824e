"""Any two folders of images and masks, described by a `classes.json`."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trainables.data.base import DATASETS, VOID, ClassInfo, Color, Offender, Splits
from trainables.data.reading.files import FileData, files_by_stem, read_list, require_root, unpaired
from trainables.data.reading.names import path_fault
from trainables.data.splits.groups import groups_by
from trainables.data.splits.stratified import FRACTIONS, draw
from trainables.errors import DataError

_LAYOUT = "images/, masks/ (same stems) and classes.json"
_CURE = 'write classes.json as {"classes": [{"id": 0, "name": "road", "color": [128, 64, 128]}, ...], "void": 255}'
_KEYS = ("classes", "void", "void_colors", "images", "masks", "groups")
_CLASS_KEYS = ("id", "name", "color")
_LISTS = ("train.txt", "val.txt", "test.txt")
_MASK_SUFFIXES = (".png", ".bmp", ".tif", ".tiff", ".gif", ".jpg", ".jpeg")
"""Masks in JPEG are listed, so that the check can say why they are refused."""


@dataclass(frozen=True)
class Description:
    """A checked `classes.json`."""

    classes: tuple[ClassInfo, ...]
    stored_ids: Mapping[int, int]
    """The class (its place in `classes`) or void of each id in the mask files."""
    assumed_void: int | None = None
    """The id that is void by default, where the file does not say what it is."""
    void_colors: tuple[Color, ...] = ()
    """The colours of RGB masks that are void."""
    images: str = "images"
    masks: str = "masks"
    groups: str | None = None
    """A regular expression on the stem (its first group, or the whole match), or the name of a CSV file `id,group`."""


def read_description(path: Path) -> Description:
    """Reads and checks a `classes.json`.

    Raises:
        DataError: Lists every fault of the file.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise DataError(f"{path} is missing; {_CURE}") from None
    except (OSError, ValueError) as error:
        raise DataError(f"{path} cannot be read ({error}); {_CURE}") from None
    faults = _faults(content)
    if faults:
        raise DataError(f"{path} is not valid:\n  " + "\n  ".join(faults) + f"\n{_CURE}")
    entries = sorted(content["classes"], key=lambda entry: int(entry["id"]))
    ids = {entry["id"]: index for index, entry in enumerate(entries)}
    void = _void_ids(content, ids)
    return Description(
        classes=tuple(ClassInfo(e["name"], (e["color"][0], e["color"][1], e["color"][2])) for e in entries),
        stored_ids={**ids, **{stored: VOID for stored in void}},
        assumed_void=VOID if void and "void" not in content else None,
        void_colors=tuple((red, green, blue) for red, green, blue in content.get("void_colors", [])),
        images=content.get("images", "images"),
        masks=content.get("masks", "masks"),
        groups=content.get("groups"),
    )


def _void_ids(content: Mapping[str, Any], class_ids: Collection[int]) -> list[Any]:
    """The ids that are void: those that the file names, otherwise 255, unless that is a class."""
    if "void" not in content:
        return [] if VOID in class_ids else [VOID]
    void = content["void"]
    return void if isinstance(void, list) else [void]


def _faults(content: Any) -> list[str]:
    if not isinstance(content, dict):
        return ["it must be one object { ... }"]
    faults = []
    unknown = sorted(set(content) - set(_KEYS))
    if unknown:
        faults.append(f"unknown keys: {', '.join(unknown)} (known: {', '.join(_KEYS)})")
    for key in ("images", "masks", "groups"):
        if key in content and not (isinstance(content[key], str) and content[key]):
            faults.append(f"{key}: must be text")
    faults += [
        f"{key}: {content[key]!r} {fault}; name a folder below the data root (it may be a link), or give --data-root "
        "the folder above both"
        for key in ("images", "masks")
        if isinstance(content.get(key), str) and (fault := path_fault(content[key]))
    ]
    entries = content.get("classes")
    if not isinstance(entries, list) or not 1 <= len(entries) <= VOID - 1:
        return [*faults, f"classes: must be a list of 1 to {VOID - 1} classes"]
    for index, entry in enumerate(entries):
        faults += [f"classes[{index}]: {fault}" for fault in _class_faults(entry)]
    ids = [entry["id"] for entry in entries if isinstance(entry, dict) and _is_byte(entry.get("id"))]
    names = [entry["name"] for entry in entries if isinstance(entry, dict) and isinstance(entry.get("name"), str)]
    faults += [f"id {number} is given to more than one class" for number in sorted(set(ids)) if ids.count(number) > 1]
    faults += [f"name {name!r} is given to more than one class" for name in sorted(set(names)) if names.count(name) > 1]
    colors = [tuple(entry["color"]) for entry in entries if isinstance(entry, dict) and _is_color(entry.get("color"))]
    faults += [f"color {c} is given to more than one class" for c in sorted(set(colors)) if colors.count(c) > 1]
    void_colors = content.get("void_colors", [])
    if not isinstance(void_colors, list) or not all(map(_is_color, void_colors)):
        faults.append("void_colors: must be a list of colours, such as [[0, 0, 0]]")
    else:
        faults += [f"void_colors: {c} is the color of a class, too" for c in map(tuple, void_colors) if c in colors]
    for number in _void_ids(content, ids):
        if not _is_byte(number):
            faults.append(f"void: {number!r} must be an integer 0..255, or a list of them ([] for none)")
        elif number in ids:
            faults.append(f"void: {number} is the id of a class, too")
    return faults


def _class_faults(entry: Any) -> list[str]:
    if not isinstance(entry, dict):
        return ["must be an object with id, name and color"]
    faults = []
    unknown = sorted(set(entry) - set(_CLASS_KEYS))
    if unknown:
        faults.append(f"unknown keys: {', '.join(unknown)} (known: {', '.join(_CLASS_KEYS)})")
    if not _is_byte(entry.get("id")):
        faults.append("id must be an integer 0..255, the value in the masks")
    if not isinstance(entry.get("name"), str) or not entry.get("name"):
        faults.append("name must be text")
    if not _is_color(entry.get("color")):
        faults.append("color must be three integers 0..255")
    return faults


def _is_byte(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= 255


def _is_color(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 3 and all(map(_is_byte, value))


class Folder(FileData):
    """Images and masks of the same stem, classes from `classes.json`, splits from text files or drawn.

    Masks hold ids, or, where they are RGB, the colours of the classes.
    """

    name = "folder"
    default_image_size = (256, 256)

    def __init__(self, root: Path) -> None:
        self.root = root
        self._description = read_description(root / "classes.json")
        self.classes = self._description.classes
        self.void_colors = self._description.void_colors
        self.assumed_void = self._description.assumed_void
        folders = [root / self._description.images, root / self._description.masks]
        absent = [str(folder) for folder in folders if not folder.is_dir()]
        if absent:
            raise DataError(
                f"data root {root}: no folder {', '.join(absent)}; folder expects {_LAYOUT}, or the names of the two "
                'folders in classes.json ("images", "masks")'
            )
        images, masks = files_by_stem(folders[0]), files_by_stem(folders[1], _MASK_SUFFIXES)
        self._paths = {stem: (path, masks[stem]) for stem, path in images.items() if stem in masks}
        self._orphans = unpaired(images, masks)
        if not images and not masks:
            raise DataError(f"data root {root}: {folders[0]} and {folders[1]} hold no images; folder expects {_LAYOUT}")
        self._lists = self._read_lists()
        self._groups = self._read_groups()

    def ids(self) -> Sequence[str]:
        """The stems that have both an image and a mask, sorted."""
        return sorted(self._paths)

    def paths(self, image_id: str) -> tuple[Path, Path]:
        """The files of an image and of its mask; where a list names an id that is not there, where they should be."""
        if image_id in self._paths:
            return self._paths[image_id]
        description = self._description
        return self.root / description.images / f"{image_id}.png", self.root / description.masks / f"{image_id}.png"

    def orphans(self) -> Sequence[Offender]:
        """Images without a mask and masks without an image."""
        return self._orphans

    def stored_ids(self) -> Mapping[int, int]:
        """The ids of `classes.json`, mapped to 0 .. C - 1 in ascending order."""
        return self._description.stored_ids

    def group(self, image_id: str) -> str | None:
        """The group that `classes.json` gives to the image, if it defines groups."""
        return self._groups.get(image_id)

    def splits(self, *, seed: int = 0) -> Splits:
        """The lists in the root where they are there, otherwise drawn 60/20/20."""
        if self._lists:
            train, val, test = (self._lists[name] for name in _LISTS)
            return Splits(train, val, test, origin=f"the lists {', '.join(_LISTS)} in {self.root}")
        ids = list(self.ids())
        groups = [self.group(image_id) for image_id in ids] if self._groups else None
        train, val, test = draw(self, ids, FRACTIONS, seed=seed, groups=groups)
        together = ", groups kept together" if groups else ""
        return Splits(train, val, test, origin=f"drawn 60/20/20, stratified by class with seed {seed}{together}")

    def _read_lists(self) -> dict[str, tuple[str, ...]]:
        there = [name for name in _LISTS if (self.root / name).is_file()]
        if there and len(there) < len(_LISTS):
            missing = ", ".join(name for name in _LISTS if name not in there)
            raise DataError(f"{self.root}: {', '.join(there)} without {missing}; give all three lists, or none")
        return {name: read_list(self.root / name) for name in there}

    def _read_groups(self) -> dict[str, str]:
        rule = self._description.groups
        if rule is None:
            return {}
        return groups_by(rule, self.ids(), source=str(self.root / "classes.json"), folder=self.root)


@DATASETS.register("folder")
def folder(*, root: Path | None = None, download: bool = False) -> Folder:
    """Two folders of images and masks with the same stems, and `classes.json`.

    Args:
        root: The folder that holds them.
        download: Not offered.

    Raises:
        DataError: If it is not there or not as described.
    """
    if download:
        raise DataError(f"folder cannot be downloaded; give --data-root a folder with {_LAYOUT}")
    return Folder(require_root(root, "folder", _LAYOUT, _CURE))
