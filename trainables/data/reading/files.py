"""Data sets whose images and masks are files that a table of ids leads to."""

from __future__ import annotations

import csv
import os
from abc import abstractmethod
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np
import numpy.typing as npt

from trainables.data.base import Color, Image, Mask, Offender, SegmentationData, StoredMask
from trainables.data.reading.names import check_ids, expanded
from trainables.data.reading.read import ImageReading, MaskReading, read_image, read_stored_mask
from trainables.data.reading.stored import (
    as_declared,
    count_stored,
    declared_values_of,
    is_color,
    is_transparent,
    pack_color,
    stored_text,
    with_transparency,
)
from trainables.data.void import mask_type
from trainables.errors import DataError
from trainables.limits import check_file
from trainables.words import counted

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp")

_SHOWN = 16
"""How many strange values of a mask are named one by one; smoothed edges make thousands of colours."""
_RUNS = 16
"""How many ids, or runs of them, a message names."""


class FileData(SegmentationData):
    """Decodes files; a subclass says where they are and what their ids mean.

    A mask is one channel of ids, or RGB in the colours of the classes; three equal channels may hold the ids.
    """

    void_colors: tuple[Color, ...] = ()
    """The colours in RGB masks that count in no loss and no metric."""

    @abstractmethod
    def paths(self, image_id: str) -> tuple[Path, Path]:
        """The files of an image and of its mask."""

    def image(self, image_id: str) -> Image:
        """The RGB image, uint8 of shape (H, W, 3)."""
        return read_image(self.paths(image_id)[0], **self.image_reading(image_id))

    def image_reading(self, image_id: str) -> ImageReading:
        """How its image file is read, where that is not a matter of course."""
        return {}

    def mask_reading(self, image_id: str) -> MaskReading:
        """How its mask file is read, where that is not a matter of course."""
        return {}

    def stored_mask(self, image_id: str) -> StoredMask:
        """The ids (uint8, or int32 above 255) or packed colours (int32) that the mask file stores, shape (H, W)."""
        return as_declared(self.file_mask(image_id), self.declared_values())

    def file_mask(self, image_id: str) -> StoredMask:
        """What `read_stored_mask` gives for the mask file."""
        return read_stored_mask(self.paths(image_id)[1], **self.mask_reading(image_id))

    def stored_counts(self, counts: Mapping[int, int]) -> dict[int, int]:
        """Pixels of each value of a `stored_mask`, from those of its `file_mask`."""
        if all(value <= 255 for value in counts):
            return dict(counts)
        total: Counter[int] = Counter()
        for meant, pixels in zip(
            declared_values_of(list(counts), self.declared_values()), counts.values(), strict=True
        ):
            total[meant] += pixels
        return dict(total)

    def declared_values(self) -> Mapping[int, int]:
        """The class or void of each id, and of each packed colour of the classes and of void."""
        colors = {pack_color(info.color): class_id for class_id, info in enumerate(self.classes)}
        return {**self.stored_ids(), **{pack_color(color): self.void for color in self.void_colors}, **colors}

    def stored_values(self) -> Mapping[int, int]:
        """`declared_values`, and what transparent pixels over them stand for."""
        return with_transparency(self.declared_values(), self.void)

    def mask(self, image_id: str) -> Mask:
        """Class ids and void, `mask_type` of shape (H, W).

        Raises:
            DataError: If the file cannot be read or has ids or colours outside the class list.
        """
        ids, unknown = class_ids(self.stored_mask(image_id), self.stored_values(), len(self.classes))
        if unknown.size:
            strange = count_stored(unknown)
            raise DataError(
                f"{self.paths(image_id)[1]}: {strange_kind(strange)} of {self.name}: "
                f"{strange_text(strange, self.stored_values())}"
            )
        return ids


def class_ids(stored: StoredMask, meanings: Mapping[int, int], classes: int) -> tuple[Mask, StoredMask]:
    """A mask's class ids, `mask_type` of shape (H, W), and the values, shape (N,), that stand for nothing.

    Args:
        stored: Shape (H, W).
        meanings: The class or void of each value.
        classes: How many there are.
    """
    values, ids = _tables(tuple(sorted(meanings.items())), classes)
    places = np.searchsorted(values, stored).clip(max=len(values) - 1)
    known = values[places] == stored
    return ids[places], stored[~known]


@lru_cache(maxsize=16)
def _tables(pairs: tuple[tuple[int, int], ...], classes: int) -> tuple[npt.NDArray[np.int32], Mask]:
    """The stored values in ascending order, and what each stands for."""
    stored, meanings = zip(*pairs, strict=True)
    return np.array(stored, np.int32), np.array(meanings, mask_type(classes))


def strange_kind(strange: Mapping[int, int]) -> str:
    """What to call stored values that are neither a class nor void."""
    return f"{'colours' if is_color(next(iter(strange))) else 'ids'} outside the class list"


def strange_text(strange: Mapping[int, int], allowed: Mapping[int, int]) -> str:
    """Stored values that are neither a class nor void, with their pixels, and those that would be.

    Args:
        strange: Pixels of each such value; all ids, or all colours.
        allowed: `SegmentationData.stored_values`.
    """
    colors = is_color(next(iter(strange)))
    commonest = sorted(strange, key=lambda value: (-strange[value], value))
    shown = sorted(commonest[:_SHOWN])
    found = ", ".join(f"{stored_text(value)} ({counted(strange[value], 'pixel')})" for value in shown)
    if len(strange) > _SHOWN:
        rest = sum(strange[value] for value in commonest[_SHOWN:])
        found += f" and {len(strange) - _SHOWN} more ({counted(rest, 'pixel')})"
    legal = [value for value in allowed if is_color(value) == colors and not is_transparent(value)]
    return f"{found}; allowed: {', '.join(map(stored_text, legal)) if colors else span(legal)}"


def span(ids: Mapping[int, int] | Sequence[int]) -> str:
    """Ids as short text: neighbours together, and of many only the first and the last.

    Example:
        >>> span([0, 1, 2, 5, 255]), span(range(0, 900, 3))
        ('0..2, 5, 255', '0, 3, 6, 9, 12, 15, 18, 21 ... 897 (300 ids)')
    """
    runs: list[list[int]] = []
    for number in sorted(ids):
        if runs and number == runs[-1][1] + 1:
            runs[-1][1] = number
        else:
            runs.append([number, number])
    texts = [str(low) if low == high else f"{low}..{high}" for low, high in runs]
    if len(texts) <= _RUNS:
        return ", ".join(texts)
    return f"{', '.join(texts[: _RUNS // 2])} ... {texts[-1]} ({len(ids)} ids)"


def files_by_stem(folder: Path, suffixes: Sequence[str] = IMAGE_SUFFIXES) -> dict[str, Path]:
    """The image files of a folder by their stem, sorted.

    Raises:
        DataError: If two files share a stem, because the id is then ambiguous, or a name holds control characters.
    """
    found: dict[str, Path] = {}
    doubles: list[str] = []
    for path in sorted(folder.iterdir()):
        if path.suffix.lower() not in suffixes or path.name.startswith("."):
            continue
        if path.stem in found:
            doubles.append(f"{found[path.stem].name} and {path.name}")
        found[path.stem] = path
    if doubles:
        raise DataError(f"{folder}: files share a name, keep one of each:\n  " + "\n  ".join(doubles))
    check_ids(found, folder)
    return found


def unpaired(images: Mapping[str, Path], masks: Mapping[str, Path]) -> list[Offender]:
    """The images without a mask and the masks without an image."""
    lonely_images = [
        Offender("image without mask", stem, path, f"no mask named {stem}.*")
        for stem, path in images.items()
        if stem not in masks
    ]
    lonely_masks = [
        Offender("mask without image", stem, path, f"no image named {stem}.*")
        for stem, path in masks.items()
        if stem not in images
    ]
    return lonely_images + lonely_masks


def require_root(root: Path | None, name: str, layout: str, cure: str) -> Path:
    """The data root, or one message that says what was expected there.

    Raises:
        DataError: If no root was given or it is not a folder.
    """
    if root is None:
        raise DataError(f"data set {name} needs --data-root, a folder with {layout}; {cure}")
    root = Path(os.path.abspath(expanded(root)))
    if not root.is_dir():
        fault = "is a file" if root.exists() else "does not exist"
        raise DataError(f"data root {root} {fault}; {name} expects a folder with {layout}; {cure}")
    return root


def read_list(path: Path) -> tuple[str, ...]:
    """The ids in a text file, one per line, in the file's order.

    Raises:
        DataError: If the file cannot be read, is empty, names an id twice, or one that leads out of the root.
    """
    ids = read_lines(path)
    check_ids(ids, path)
    if len(set(ids)) < len(ids):
        doubles = [image_id for image_id, count in sorted(Counter(ids).items()) if count > 1]
        raise DataError(f"{path}: ids named more than once: {', '.join(doubles)}")
    return ids


def read_lines(path: Path) -> tuple[str, ...]:
    """The lines of a text file that are not blank, stripped.

    Raises:
        DataError: If the file cannot be read or is empty.
    """
    check_file(path, what="list of ids")
    try:
        lines = tuple(line.strip() for line in path.read_text(encoding="utf-8-sig").splitlines() if line.strip())
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: list of ids cannot be read ({error})") from None
    if not lines:
        raise DataError(f"{path}: list of ids is empty; write one image id per line")
    return lines


def read_table(path: Path, columns: Sequence[str], what: str, *, optional: Sequence[str] = ()) -> list[dict[str, str]]:
    """The rows of a CSV file with a header.

    Args:
        path: The file, in UTF-8, separated by commas.
        columns: Those that must be there.
        what: What the table says, for messages ("table of groups").
        optional: Columns to read where they are there; empty text where not.

    Raises:
        DataError: If the file cannot be read, has no rows, lacks a column, or has a row that is too short.
    """
    check_file(path, what=what)
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            rows = list(csv.DictReader(file))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path}: {what} cannot be read ({error})") from None
    found = [name for name in rows[0] if name] if rows else []
    if not set(columns) <= set(found):
        raise DataError(f"{path}: {what} needs the columns {','.join(columns)}; found: {','.join(found) or 'no rows'}")
    short = [str(number) for number, row in enumerate(rows, 2) if any(row[name] is None for name in columns)]
    if short:
        raise DataError(f"{path}: {what} has too few columns in line {', '.join(short[:10])}")
    return [{name: (row.get(name) or "").strip() for name in (*columns, *optional)} for row in rows]
