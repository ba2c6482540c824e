"""One mask file an object: `ID/masks/*.png` (Data Science Bowl 2018), `masks/ID/*.png` or `masks/ID_NUMBER.png`."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt

from trainables.data.base import Mask
from trainables.data.imports.base import Import, mask_of
from trainables.data.layouts.affixes import Key
from trainables.data.layouts.finding import Question, Said, UndecidedError
from trainables.data.layouts.sides import key_of, role_of
from trainables.data.layouts.tree import DRAWN_FOLDER, MediaFile
from trainables.data.layouts.words import MASK_WORDS, PARTS
from trainables.data.reading.read import read_stored_mask
from trainables.data.reading.stored import color_of, count_stored, is_color, is_transparent, stored_text
from trainables.errors import DataError
from trainables.words import counted, some_of

FORMAT = "masks of single objects"

_SHARE = 0.9
"""Of the masks at least this share lies in a folder that belongs to one image; the others have lost theirs."""

_OBJECT = ("objects", "object", "obj", "instances", "instance", "inst")

_NO_CLASS = MASK_WORDS.union(_OBJECT)
"""Words in names of masks that say nothing of a class."""

Objects = Mapping[MediaFile, Sequence[MediaFile]]
"""The masks of each image."""


def objects_in(files: Sequence[MediaFile]) -> Objects:
    """The masks of each image where a folder of masks belongs to one image, or masks are numbered; otherwise none.

    Either the folder is called as the image is, or it and a folder with nothing but the image lie in one folder, which
    is not that of a split, or the masks are called as the image is, with a number behind it.
    Masks that are named after their images, in the same ways everywhere, are no objects but kinds of masks.
    """
    images = [file for file in files if role_of(file) == "image"]
    masks = _masks(files)
    named = {key_of(image): image for image in images}
    inside: dict[tuple[str, ...], list[MediaFile]] = defaultdict(list)
    for image in images:
        inside[key_of(image)[:-1]].append(image)
    found: dict[MediaFile, list[MediaFile]] = defaultdict(list)
    for mask in masks:
        place = key_of(mask)[:-1]
        alone = inside[place] if place and place[-1] not in PARTS else []
        owner = named.get(place) or (alone[0] if len(alone) == 1 else _numbered_after(mask, named))
        if owner is not None:
            found[owner].append(mask)
    belonging = sum(map(len, found.values()))
    if len(found) < 2 or belonging < _SHARE * len(masks) or _kinds_of_masks(found):
        return {}
    return found


def _numbered_after(mask: MediaFile, images: Mapping[Key, MediaFile]) -> MediaFile | None:
    """The image whose name a mask has, with a number behind it; None where it is the mask of a whole image."""
    *folders, stem = key_of(mask)
    match = re.fullmatch(rf"(.*[^\W_])[\W_]+(?:(?:{'|'.join(_OBJECT)})[\W_]*)?\d+", stem, re.IGNORECASE)
    return images.get((*folders, match[1])) if match and (*folders, stem) not in images else None


def _masks(files: Sequence[MediaFile]) -> list[MediaFile]:
    return [file for file in files if role_of(file) == "mask" and file.below[:1] != (DRAWN_FOLDER,)]


def are_several(found: Objects) -> bool:
    """Whether an image has more than one mask, so that files of the same names cannot be all that counts."""
    return any(len(masks) > 1 for masks in found.values())


def read_objects(root: Path, files: Sequence[MediaFile], said: Said | None) -> Import | None:
    """Reads a data set; None if there is none.

    What no mask covers is the background. Where the names of masks recur from image to image they may be classes, which
    is asked.

    Args:
        root: Of the data set.
        files: What `media_files` found in it.
        said: Perhaps with the names of classes, which decide whether names of masks are classes; None: does not matter.

    Raises:
        UndecidedError: If nothing says whether the names of masks are classes.
        DataError: If only some of them are.
    """
    found = objects_in(files)
    if not found:
        return None
    labels = _labels(found)
    classes = {} if said is None else _classes(root, labels, said)
    drawing = _Drawing(found, classes)
    one = set(labels.values()) if len(set(labels.values())) == 1 else {"object"}
    masks = [mask for of_image in found.values() for mask in of_image]
    lost = len(_masks(files)) - len(masks)
    notes = [f"{counted(len(masks), 'mask')} of single objects became the masks of {counted(len(found), 'image')}"]
    notes += [f"{counted(lost, 'mask')} without an image left out"] if lost else []
    return Import(
        FORMAT,
        tuple(mask.path for mask in masks),
        tuple(classes or one),
        {image: partial(drawing.draw, image) for image in found},
        tuple(notes),
        told=drawing.told,
    )


class _Drawing:
    """Draws masks, and remembers what all of them have in common.

    Args:
        found: The masks of each image.
        classes: The number of each class that names of masks say; empty where all objects are of one.
    """

    def __init__(self, found: Objects, classes: Mapping[str, int]) -> None:
        self._found = found
        self._classes = classes
        self._values: dict[int, Path] = {}
        self._overlaps: list[int] = []

    def draw(self, image: MediaFile) -> Mask:
        """The union of the objects of an image, those of a later class over those of an earlier one."""
        mask = mask_of(image.path, max(self._classes.values(), default=1))
        number = {file: self._classes.get(_label(image, file), 1) for file in self._found[image]}
        overlap = np.zeros(mask.shape, bool)
        for file in sorted(self._found[image], key=lambda file: number[file]):
            covered = self._covered(file.path)
            if covered.shape != mask.shape:
                sizes = [f"{height}x{width}" for height, width in (covered.shape, mask.shape)]
                raise DataError(
                    f"{file.path}: size mismatch: the mask of an object is {sizes[0]}, its image {sizes[1]}"
                )
            overlap |= covered & (mask > 0) & (mask != number[file])
            mask[covered] = number[file]
        self._overlaps += [int(overlap.sum())] if overlap.any() else []
        return mask

    def told(self) -> list[str]:
        """Overlaps of different classes, once all masks are drawn."""
        if not self._overlaps:
            return []
        where = f"{counted(sum(self._overlaps), 'pixel')} of {counted(len(self._overlaps), 'image')}"
        return [f"masks of different classes overlap in {where}: the class that stands later in the list counts"]

    def _covered(self, path: Path) -> npt.NDArray[np.bool_]:
        """Where an object is.

        Raises:
            DataError: If the file holds more than an object and what is around it, or another value than others.
        """
        stored = read_stored_mask(path)
        values = [value for value in count_stored(stored) if not _is_ground(value)]
        for value in values:
            self._values.setdefault(value, path)
        if len(self._values) > 1:
            (first, a), (second, b) = list(self._values.items())[:2]
            raise DataError(
                f"{path.name}: the mask of an object holds 0 and one other value, the same in all files, and here are "
                f"{stored_text(first)} ({a}) and {stored_text(second)} ({b}), which may be classes or smoothed edges: "
                "save one mask an image with the id of a class in each pixel"
            )
        return np.isin(stored, values)


def _is_ground(value: int) -> bool:
    return is_transparent(value) or (not any(color_of(value)) if is_color(value) else value == 0)


def _kinds_of_masks(found: Objects) -> bool:
    """Whether masks are named after their images, and not numbered: kinds of masks, of which one counts.

    Numbers are no kinds where images have different ones, nor in folders that are called as their images.
    """
    ways = [frozenset(_addition(image, mask) for mask in masks) for image, masks in found.items()]
    additions: frozenset[str] = frozenset().union(*ways)
    in_folders = all(key_of(mask)[:-1] == key_of(image) for image, masks in found.items() for mask in masks)
    if in_folders and all(re.fullmatch(r"\*[\W_]+\d+", text) for text in additions):
        return False
    return "" not in additions and (len(set(ways)) == 1 or not any(re.search(r"\d", text) for text in additions))


def _addition(image: MediaFile, mask: MediaFile) -> str:
    """The name of a mask with a star in place of that of its image; empty if that is not part of it."""
    starred, times = re.subn(rf"(?<![^\W_]){re.escape(image.stem)}(?![^\W_])", "*", mask.stem, count=1)
    return starred if times else ""


def _label(image: MediaFile, mask: MediaFile) -> str:
    """The class that the name of a mask may say: what is left without the image's, numbers and words for masks.

    Empty where nothing is left, and for digits among letters, as in a hash.
    """
    words = []
    for part in re.split(r"[\W_]+", _addition(image, mask) or mask.stem):
        match = re.fullmatch(r"(\D*)\d*", part)
        if match is None:
            return ""
        words.append(match[1].lower())
    return "_".join(word for word in words if word and word not in _NO_CLASS)


def _labels(found: Objects) -> dict[MediaFile, str]:
    """Of each mask, where all of them have one and each recurs in several images; else empty."""
    labels = {mask: _label(image, mask) for image, masks in found.items() for mask in masks}
    images = Counter(label for image, masks in found.items() for label in {labels[mask] for mask in masks})
    return labels if labels and "" not in images and min(images.values()) > 1 else {}


def _classes(root: Path, labels: Mapping[MediaFile, str], said: Said) -> dict[str, int]:
    """The number of each class that names of masks say; empty where all objects are of one."""
    found = sorted(set(labels.values()))
    if len(found) < 2:
        return {}
    if said.classes is None:
        raise UndecidedError(
            root,
            Question(
                f"each object has a mask of its own, called {some_of(found, 4)} in several images, and nothing says "
                "whether these are classes",
                (
                    (("--classes", ",".join(["background", *found])), "they are"),
                    (("--classes", "background,object"), "all objects are of one class"),
                ),
            ),
        )
    numbers = {entry.name: place if entry.id is None else entry.id for place, entry in enumerate(said.classes)}
    missing = [label for label in found if label not in numbers]
    if len(missing) == len(found) and len(numbers) == 2:
        return {}
    if missing or min(numbers[label] for label in found) < 1:
        raise DataError(
            f"{root}: the names of masks are {some_of(found, 8)}, and --classes names {some_of(list(numbers), 8)}: "
            "begin with a name for what no mask covers, then give each of these"
        )
    return {label: numbers[label] for label in sorted(found, key=numbers.__getitem__)}
