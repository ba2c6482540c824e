"""Which image belongs to which mask: roles of files, families of masks, ids."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from trainables.data.layouts.affixes import Family, families_of
from trainables.data.layouts.finding import Pair, Pairing, Question, Said, UndecidedError
from trainables.data.layouts.sides import Sides, key_by_split, sides_of
from trainables.data.layouts.tree import MediaFile
from trainables.data.reading.names import check_ids
from trainables.errors import DataError
from trainables.words import counted, some_of

_OF_TASKS = re.compile(r"task-\d+-annotation-\d+-")
"""What the names of Label Studio's brush PNGs begin with."""

_SHARE = 0.1
"""A family of masks that completes another has at least this share of its masks, or the very names of the images."""


def find_pairs(root: Path, files: Sequence[MediaFile], said: Said, looks_like_mask: Callable[[Path], bool]) -> Pairing:
    """Pairs of images and masks in a folder.

    Args:
        root: The folder.
        files: What `media_files` found in it.
        said: Perhaps where images and masks are.
        looks_like_mask: Whether the pixels of a file could be those of a mask; asked where no name tells.

    Raises:
        UndecidedError: If several files could be the mask of an image, or no name and no pixel tells images from masks.
        DataError: If there are no images, or no masks that belong to any.
    """
    sides = sides_of(root, files, said, looks_like_mask)
    images, families = _named_alike(root, sides)
    if not families:
        # Folders that say image and mask may say something else beside it that differs: 2_Ortho_RGB and 5_Labels_all.
        with contextlib.suppress(DataError):
            other = replace(sides, key=key_by_split)
            images, families = _named_alike(root, other)
            sides = other
    chosen, aside, notes = _chosen(root, families, said)
    pairs: dict[str, Pair] = {}
    for family in chosen:
        for key, mask in family.masks.items():
            image = images[key]
            part = _part(image) or _part(mask)
            pairs[_id(key)] = Pair(image.path, mask.path, part)
    if not pairs:
        if all(_OF_TASKS.match(mask.stem) for mask in sides.masks):
            raise DataError(
                f"{root}: {counted(len(sides.masks), 'mask')} such as {sides.masks[0].relative} name a task of Label "
                "Studio and not its image: export as JSON there, put that file into the folder instead of these masks, "
                "and segsweep init draws masks from it"
            )
        raise DataError(
            f"{root}: none of {counted(len(images), 'image')} in {sides.images_where} has a mask among "
            f"{counted(len(sides.masks), 'file')} in {sides.masks_where}: a mask has the name of its image, perhaps "
            f"with something constant before or after it (such as {_example(images, sides)})"
        )
    taken = {pair.mask for pair in pairs.values()} | {mask.path for family in aside for mask in family.masks.values()}
    lonely = {_id(sides.key(mask)): mask.path for mask in sides.masks if mask.path not in taken}
    check_ids(pairs, root)
    return Pairing(
        pairs=dict(sorted(pairs.items())),
        unlabelled={_id(key): file.path for key, file in images.items() if _id(key) not in pairs},
        lonely=lonely,
        images=sides.images_where,
        masks=sides.masks_where,
        notes=(*sides.notes, *notes),
    )


def _named_alike(root: Path, sides: Sides) -> tuple[dict[tuple[str, ...], MediaFile], list[Family]]:
    """The images by their key, and the masks that are named after them.

    Raises:
        DataError: If two images have one key.
    """
    images = _by_id(root, sides)
    return images, families_of({key: file.path for key, file in images.items()}, sides.masks, sides.key)


def _by_id(root: Path, sides: Sides) -> dict[tuple[str, ...], MediaFile]:
    """The images by their key: folders without the word for images, and the stem.

    Raises:
        DataError: If two images have one id.
    """
    found: dict[tuple[str, ...], MediaFile] = {}
    doubles = []
    for image in sides.images:
        key = sides.key(image)
        if key in found:
            doubles.append(f"{found[key].relative} and {image.relative}")
        found[key] = image
    if doubles:
        raise DataError(f"{root}: files share a name, keep one of each:\n  " + "\n  ".join(doubles))
    return found


def _chosen(root: Path, families: Sequence[Family], said: Said) -> tuple[list[Family], list[Family], list[str]]:
    """The families that give each image one mask, those left aside, and what has to be told.

    Raises:
        UndecidedError: If two of them give the same images masks, and nothing says which is meant.
    """
    ranked = sorted(families, key=lambda family: (family.copy, -len(family.masks), not family.exact, family.text))
    chosen: list[Family] = []
    aside: list[Family] = []
    notes: list[str] = []
    taken: set[tuple[str, ...]] = set()
    for family in ranked:
        shared = taken & family.masks.keys()
        if not shared and not (family.copy and chosen):
            if not chosen or family.exact or len(family.masks) >= max(2, _SHARE * len(chosen[0].masks)):
                chosen.append(family)
                taken |= family.masks.keys()
            continue
        rivals = [other for other in chosen if other.masks.keys() & shared] or chosen[:1]
        if not family.copy and not _answered(said, [*rivals, family]) and len(shared) > 1 + 0.02 * len(taken):
            raise UndecidedError(root, _which_masks([*rivals, family]))
        aside.append(family)
        notes.append(f"{counted(len(family.masks), 'mask')} like {family.text} left aside: {rivals[0].text} is read")
    if len({family.place for family in chosen}) > 1:
        notes.append(f"masks are in several places: {some_of([family.text for family in chosen])}")
    for family in chosen:
        if not family.exact:
            notes.append(f"paired by their common part: {family.example}")
    return chosen, aside, notes


def _answered(said: Said, rivals: Sequence[Family]) -> bool:
    return said.masks is not None and any(family.exact for family in rivals)


def _which_masks(rivals: Sequence[Family]) -> Question:
    shown = rivals[:4]
    kinds = " and ".join(f"{family.text} ({counted(len(family.masks), 'file')})" for family in shown)
    if all(re.search(r"\*[\W_]+\d+\.\w+$", family.text) for family in rivals):
        kinds += " (if each is one object, put those of each image into a folder called as the image is)"
    return Question(
        f"several files could be the mask of one image: {kinds}",
        tuple((("--masks", family.pattern), f"read {family.text}") for family in shown),
    )


def _part(file: MediaFile) -> str | None:
    return next((folder.part for folder in reversed(file.folders) if folder.part), None)


def _id(key: tuple[str, ...]) -> str:
    return "/".join(key)


def _example(images: Mapping[tuple[str, ...], MediaFile], sides: Sides) -> str:
    image = next(iter(images.values()))
    return f"{image.relative} and {sides.masks[0].relative}" if sides.masks else image.relative
