"""Data sets whose images and masks are files that a table of ids leads to."""

from __future__ import annotations

import os
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np
import numpy.typing as npt

from trainables.data.base import Image, Mask, Offender, SegmentationData
from trainables.data.read import read_image, read_mask
from trainables.errors import DataError

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp")


class FileData(SegmentationData):
    """Decodes files; a subclass says where they are and what their ids mean."""

    @abstractmethod
    def paths(self, image_id: str) -> tuple[Path, Path]:
        """The files of an image and of its mask."""

    def image(self, image_id: str) -> Image:
        """The RGB image, uint8 of shape (H, W, 3)."""
        return read_image(self.paths(image_id)[0])

    def stored_mask(self, image_id: str) -> Mask:
        """The ids as the mask file stores them, uint8 of shape (H, W)."""
        return read_mask(self.paths(image_id)[1])

    def mask(self, image_id: str) -> Mask:
        """Class ids and void, uint8 of shape (H, W).

        Raises:
            DataError: If the file cannot be read or has ids outside the class list.
        """
        stored = self.stored_mask(image_id)
        table, allowed = _tables(tuple(sorted(self.stored_ids().items())))
        if not allowed[stored].all():
            ids = np.unique(stored[~allowed[stored]])
            raise DataError(
                f"{self.paths(image_id)[1]}: ids outside the class list of {self.name}: {', '.join(map(str, ids))}; "
                f"allowed: {span(self.stored_ids())}"
            )
        return table[stored]


@lru_cache(maxsize=16)
def _tables(pairs: tuple[tuple[int, int], ...]) -> tuple[Mask, npt.NDArray[np.bool_]]:
    table, allowed = np.zeros(256, np.uint8), np.zeros(256, bool)
    for stored, meaning in pairs:
        table[stored], allowed[stored] = meaning, True
    return table, allowed


def span(ids: Mapping[int, int] | Sequence[int]) -> str:
    """Ids as short text.

    Example:
        >>> span([0, 1, 2, 5, 255])
        '0..2, 5, 255'
    """
    runs: list[list[int]] = []
    for number in sorted(ids):
        if runs and number == runs[-1][1] + 1:
            runs[-1][1] = number
        else:
            runs.append([number, number])
    return ", ".join(str(low) if low == high else f"{low}..{high}" for low, high in runs)


def files_by_stem(folder: Path, suffixes: Sequence[str] = IMAGE_SUFFIXES) -> dict[str, Path]:
    """The image files of a folder by their stem, sorted.

    Raises:
        DataError: If two files share a stem, for then the id is ambiguous.
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
        DataError: If no root was given or it is no folder.
    """
    if root is None:
        raise DataError(f"data set {name} needs --data-root, a folder with {layout}; {cure}")
    root = Path(os.path.abspath(Path(root).expanduser()))
    if not root.is_dir():
        raise DataError(f"data root {root} does not exist; {name} expects a folder with {layout}; {cure}")
    return root


def read_list(path: Path) -> tuple[str, ...]:
    """The ids in a text file, one a line, in the file's order.

    Raises:
        DataError: If the file cannot be read, is empty or names an id twice.
    """
    try:
        ids = tuple(line.strip() for line in path.read_text(encoding="utf-8").splitlines() if line.strip())
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: list of ids cannot be read ({error})") from None
    if not ids:
        raise DataError(f"{path}: list of ids is empty; write one image id a line")
    if len(set(ids)) < len(ids):
        doubles = sorted({image_id for image_id in ids if ids.count(image_id) > 1})
        raise DataError(f"{path}: ids named more than once: {', '.join(doubles)}")
    return ids
