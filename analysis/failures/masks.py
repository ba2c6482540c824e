"""Masks of any program beside their truth: which files belong together, and what their values mean.

Both are decided for a whole folder, before anything is measured, and told: predictions may hold the ids of the truth,
the places 0 .. C - 1 of the classes, or their colours, and their names may have a prefix or a suffix.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from analysis.failures.mask_faults import MaskFaults
from trainables.data.base import Image, Mask
from trainables.data.layouts.describe import read_said, with_ids
from trainables.data.layouts.finding import Meaning
from trainables.data.layouts.meaning import meaning_of_said
from trainables.data.reading.files import class_ids
from trainables.data.reading.read import read_image, read_stored_mask
from trainables.data.reading.stored import (
    as_declared,
    count_stored,
    declared_values_of,
    is_color,
    pack_color,
    with_transparency,
)
from trainables.data.void import void_id
from trainables.errors import DataError, UsageError

IDS = ("auto", "stored", "positions")
"""What single values in predictions are: those of the truth's files, the places of the classes, or found out."""

_TRUTH, _IMAGES = "truth", "images"


@dataclass(frozen=True)
class ValueMeaning:
    """What the values of a folder's masks stand for.

    Attributes:
        declared: The class or void of each id and packed colour.
        classes: How many there are.
        known: The same for each value after `as_declared`: grey where it is an id, and transparent values, too.
    """

    declared: Mapping[int, int]
    classes: int
    known: Mapping[int, int]

    def meant(self, pixels: Mapping[int, int]) -> dict[int, int]:
        """Pixels of each value after `as_declared`, from those of the values that one file stores."""
        total: Counter[int] = Counter()
        for value, count in zip(declared_values_of(list(pixels), self.declared), pixels.values(), strict=True):
            total[value] += count
        return dict(total)


@dataclass(frozen=True)
class MaskFolder:
    """The masks of one folder.

    Attributes:
        folder: Where they are.
        files: By image id.
        meaning: What their values stand for.
    """

    folder: Path
    files: Mapping[str, Path]
    meaning: ValueMeaning

    def mask(self, image_id: str) -> Mask:
        """Class ids and void, `mask_type` of shape (H, W).

        Raises:
            DataError: If the file cannot be read any more, or has changed and holds values without a meaning.
        """
        stored = as_declared(read_stored_mask(self.files[image_id]), self.meaning.declared)
        ids, unknown = class_ids(stored, self.meaning.known, self.meaning.classes)
        if unknown.size:
            raise DataError(f"{self.files[image_id]}: has changed while it was measured; start again")
        return ids


@dataclass(frozen=True)
class MaskFolders:
    """The truth, one or more predictions of it, and the images where they are given.

    Attributes:
        image_ids: Sorted.
        truth: The true masks.
        predictions: By name, as tables call it.
        images: By image id; None where no images are given.
        truth_pixels: True pixels of each class, shape (C,).
        notes: What was taken for granted about names and values, one sentence each.
    """

    image_ids: tuple[str, ...]
    truth: MaskFolder
    predictions: Mapping[str, MaskFolder]
    images: Mapping[str, Path] | None
    truth_pixels: npt.NDArray[np.int64]
    notes: tuple[str, ...]

    def image(self, image_id: str) -> Image:
        """The RGB image, uint8 of shape (H, W, 3).

        Raises:
            DataError: If it cannot be read.
        """
        if self.images is None:
            raise ValueError("no images were given")
        return read_image(self.images[image_id])


def open_masks(
    truth: Path,
    predictions: Mapping[str, Path],
    description: Meaning,
    *,
    images: Path | None = None,
    ids: str = "auto",
) -> MaskFolders:
    """Pairs the files of the folders, reads every mask once, and decides what its values mean.

    Args:
        truth: Folder of the true masks.
        predictions: Folders of predicted masks, by the name that tables call them.
        description: The classes.
        images: Folder of the images.
        ids: What single values in predictions are, one of `IDS`.

    Raises:
        UsageError: If a folder does not exist.
        DataError: If files have no partner, sizes differ, or values have no meaning; tells every fault by its kind.
    """
    folders = {_TRUTH: truth, **{_key(name): folder for name, folder in predictions.items()}}
    if images is not None:
        folders[_IMAGES] = images
    absent = [str(folder) for folder in folders.values() if not folder.is_dir()]
    if absent:
        raise UsageError(f"no such folder: {', '.join(absent)}")
    faults = MaskFaults(folders.values())
    files, notes = _paired(folders, faults)
    scanned = {name: _scan(own, faults) for name, own in files.items() if name != _IMAGES}
    void = void_id(len(description.classes))
    meanings = {_TRUTH: _truth_meaning(description)}
    for name, folder in predictions.items():
        scans = scanned[_key(name)].values()
        meanings[_key(name)], note = _prediction_meaning(scans, description, folder, ids)
        notes += [note] if note else []
    sizes = {image_id: scan.size for image_id, scan in scanned[_TRUTH].items()}
    for name, own in scanned.items():
        for image_id, scan in own.items():
            path, meaning = files[name][image_id], meanings[name]
            faults.values(image_id, path, meaning.meant(scan.pixels), meaning.known, void, is_truth=name == _TRUTH)
            faults.size(image_id, path, scan.size, sizes.get(image_id))
    for image_id, path in files.get(_IMAGES, {}).items():
        faults.image(image_id, path, sizes.get(image_id))
    faults.raise_for_any()
    opened = {name: MaskFolder(folders[name], files[name], meanings[name]) for name in scanned}
    return MaskFolders(
        image_ids=tuple(files[_TRUTH]),
        truth=opened[_TRUTH],
        predictions={name: opened[_key(name)] for name in predictions},
        images=files.get(_IMAGES),
        truth_pixels=_class_pixels(scanned[_TRUTH].values(), meanings[_TRUTH], len(description.classes)),
        notes=tuple(notes),
    )


def read_classes(path: Path) -> Meaning:
    """The classes in a `classes.json` or `dataset.yaml`; those that are only named get the ids from 0 on.

    Raises:
        DataError: Lists every fault of the file.
    """
    return meaning_of_said(with_ids(read_said(path)))


@dataclass(frozen=True)
class _Scan:
    """What one mask holds: its size and the pixels of each stored value."""

    size: tuple[int, int]
    pixels: Mapping[int, int]


def _scan(files: Mapping[str, Path], faults: MaskFaults) -> dict[str, _Scan]:
    found = {}
    for image_id, path in files.items():
        try:
            stored = read_stored_mask(path)
        except DataError as error:
            faults.add("unreadable mask", image_id, path, str(error).removeprefix(f"{path}: "))
            continue
        found[image_id] = _Scan((stored.shape[0], stored.shape[1]), count_stored(stored))
    return found


def _truth_meaning(description: Meaning) -> ValueMeaning:
    """Of ids, of declared colours, and of grey ones that are no class's as the ids that they show."""
    return _meaning(description.ids, description.colors, len(description.classes))


def _meaning(ids: Mapping[int, int], colors: Mapping[int, int], classes: int) -> ValueMeaning:
    declared = {**ids, **colors}
    grey = {pack_color((number, number, number)): class_id for number, class_id in ids.items() if 0 <= number <= 255}
    # Where a class's own colour is the grey of another's id, grey is a colour.
    is_clear = all(colors.get(value, class_id) == class_id for value, class_id in grey.items())
    known = {**(grey if is_clear else {}), **with_transparency(declared, void_id(classes))}
    return ValueMeaning(declared, classes, known)


def _prediction_meaning(
    scans: Iterable[_Scan], description: Meaning, folder: Path, ids: str
) -> tuple[ValueMeaning, str]:
    """The meaning of a folder's values, and what was found out about it."""
    found = [scan.pixels for scan in scans]
    as_truth = _truth_meaning(description)
    places = {place: place for place in range(len(description.classes))}
    positions = _meaning(places, {}, len(places))
    if ids == "positions" or (ids == "auto" and not _fits(found, as_truth) and _fits(found, positions)):
        return positions, f"{folder}: values are the places 0..{len(places) - 1} of the classes, not their ids"
    used_colors = any(is_color(value) for pixels in found for value in pixels)
    return as_truth, f"{folder}: values are colours; grey ones that are no class are ids" if used_colors else ""


def _fits(found: Iterable[Mapping[int, int]], meaning: ValueMeaning) -> bool:
    return all(meaning.meant(pixels).keys() <= meaning.known.keys() for pixels in found)


def _class_pixels(scans: Iterable[_Scan], meaning: ValueMeaning, count: int) -> npt.NDArray[np.int64]:
    pixels = np.zeros(count + 1, np.int64)
    for scan in scans:
        for value, number in meaning.meant(scan.pixels).items():
            pixels[min(meaning.known[value], count)] += number
    return pixels[:-1]


def _key(name: str) -> str:
    """Of a folder of predictions among all folders; it may be called like one of the others."""
    return f"prediction {name}"


def _paired(folders: Mapping[str, Path], faults: MaskFaults) -> tuple[dict[str, dict[str, Path]], list[str]]:
    """Files of each folder by image id, the same ids in each, and how names were made to fit."""
    files = {name: _files(folder, faults) for name, folder in folders.items()}
    faults.raise_for_any()
    if not files[_TRUTH]:
        raise DataError(f"{folders[_TRUTH]} is empty: expected masks as PNG")
    truth, note = _core_ids(files[_TRUTH], [own for name, own in files.items() if name != _TRUTH])
    notes = [f"{folders[_TRUTH]}: {note}"] if note else []
    paired = {_TRUTH: truth}
    for name, own in files.items():
        if name == _TRUTH:
            continue
        fitted, note = _fitted(own, truth.keys())
        if fitted is None:
            faults.partners("image" if name == _IMAGES else "prediction", own, truth)
            continue
        paired[name] = fitted
        notes += [f"{folders[name]}: {note}"] if note else []
    faults.raise_for_any()
    return paired, notes


def _files(folder: Path, faults: MaskFaults) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        if path.is_file() and not path.name.startswith("."):
            if path.stem in found:
                faults.add("two files of one name", path.stem, path, f"beside {found[path.stem].name}")
            found[path.stem] = path
    return found


def _core_ids(truth: Mapping[str, Path], others: Iterable[Mapping[str, Path]]) -> tuple[dict[str, Path], str]:
    """The image ids: the truth's names, without what only they have in common (`a_mask` beside `a` or `a_pred`)."""
    if all(_fitted(other, truth.keys())[0] is not None for other in others):
        return dict(truth), ""
    prefix, suffix = _common_affixes(truth)
    if not prefix and not suffix:
        return dict(truth), ""
    return (
        {stem[len(prefix) : len(stem) - len(suffix)]: path for stem, path in truth.items()},
        f"names are paired without {_affix_text(prefix, suffix)}",
    )


def _fitted(files: Mapping[str, Path], ids: Iterable[str]) -> tuple[dict[str, Path] | None, str]:
    """The files by these ids, if their names are the ids, perhaps within one prefix and suffix."""
    wanted = sorted(ids)
    if set(files) == set(wanted):
        return {image_id: files[image_id] for image_id in wanted}, ""
    first = max(wanted, key=len)
    for stem in files if len(files) == len(wanted) else ():
        for place in _places(first, stem):
            prefix, suffix = stem[:place], stem[place + len(first) :]
            if all(f"{prefix}{image_id}{suffix}" in files for image_id in wanted):
                fitted = {image_id: files[f"{prefix}{image_id}{suffix}"] for image_id in wanted}
                return fitted, f"names are paired without {_affix_text(prefix, suffix)}"
    return None, ""


def _places(part: str, text: str) -> list[int]:
    return [place for place in range(len(text) - len(part) + 1) if text.startswith(part, place)]


def _common_affixes(stems: Iterable[str]) -> tuple[str, str]:
    """What all names begin and end with, up to a separator: `mask_` and `_gt`, but not the 1 of `a1` and `b1`."""
    names = list(stems)
    prefix = _common_beginning(names) if len(names) > 1 else ""
    suffix = _common_beginning([name[::-1] for name in names])[::-1] if len(names) > 1 else ""
    begins, ends = re.match(r".*[-_. ]", prefix), re.search(r"[-_. ].*", suffix)
    begin, end = begins.group() if begins else "", ends.group() if ends else ""
    return (begin, end) if all(len(name) > len(begin) + len(end) for name in names) else ("", "")


def _common_beginning(texts: Sequence[str]) -> str:
    # What the first and the last in order have in common, all have.
    first, last = min(texts), max(texts)
    differs = (place for place, (one, other) in enumerate(zip(first, last, strict=False)) if one != other)
    return first[: next(differs, len(first))]


def _affix_text(prefix: str, suffix: str) -> str:
    parts = [f"the {what} {text}" for what, text in (("prefix", prefix), ("suffix", suffix)) if text]
    return " and ".join(parts)
