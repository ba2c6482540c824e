"""The files below a folder that may be images or masks."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from trainables.data.layouts.words import FolderName, folder_name, normal
from trainables.data.reading.files import IMAGE_SUFFIXES

MASK_SUFFIXES = (*IMAGE_SUFFIXES, ".gif", ".npy")
"""Masks in JPEG are listed, so that the check can say why they are refused."""

DRAWN_FOLDER = "segsweep_masks"
"""Below the data root: masks that `segsweep init` drew from annotations in another format."""

UNPACKED_FOLDER = "segsweep_unpacked"
"""Below the data root: images and masks that `segsweep init` took out of tables."""

SHEET_FILE = "contact_sheet.png"
"""What `segsweep init` draws into the folder; no image of it."""


@dataclass(frozen=True)
class MediaFile:
    """A file, and what its folders below the root say."""

    path: Path
    below: tuple[str, ...]
    """Names of its folders from the root."""
    folders: tuple[FolderName, ...]

    @property
    def stem(self) -> str:
        """The name without its last suffix, in one Unicode form."""
        return normal(self.path.stem)

    @property
    def suffix(self) -> str:
        """In lower case."""
        return self.path.suffix.lower()

    @property
    def relative(self) -> str:
        """From the root, with slashes."""
        return normal("/".join((*self.below, self.path.name)))


def media_files(root: Path) -> list[MediaFile]:
    """All files below a folder that may be images or masks, sorted; links are followed, but not in circles.

    Hidden files and folders, and those that an unpacked archive of a Mac leaves behind, are passed over. A link that
    leads nowhere is listed, so that it is missed.
    """
    return sorted(_walk(root, (), ()), key=lambda file: (file.below, file.path.name))


def files_below(root: Path, suffix: str) -> list[Path]:
    """Files below a folder with a suffix, in whatever case.

    Hidden ones, those behind links and those that `segsweep init` wrote are passed over.
    """
    found = []
    for folder, below, names in os.walk(root, followlinks=False):
        own = {DRAWN_FOLDER, UNPACKED_FOLDER}
        below[:] = sorted(name for name in below if not name.startswith(".") and name not in own)
        fitting = [name for name in sorted(names) if name.lower().endswith(suffix) and name[0] != "."]
        found += [path for path in (Path(folder, name) for name in fitting) if path.is_file()]
    return found


def _walk(folder: Path, below: tuple[str, ...], above: tuple[str, ...]) -> Iterator[MediaFile]:
    here = os.path.realpath(folder)
    if here in above:
        return
    try:
        entries = list(os.scandir(folder))
    except OSError:
        return
    meanings = tuple(folder_name(name) for name in below)
    for entry in entries:
        if entry.name.startswith(".") or entry.name == "__MACOSX":
            continue
        if entry.is_dir():
            yield from _walk(folder / entry.name, (*below, entry.name), (*above, here))
        elif os.path.splitext(entry.name)[1].lower() in MASK_SUFFIXES and (below or entry.name != SHEET_FILE):
            if not entry.is_file() and os.path.exists(entry):
                continue  # a pipe or a device, for which a reader would wait for ever
            yield MediaFile(folder / entry.name, below, meanings)
