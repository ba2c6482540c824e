"""Files that are brought to the nodes of a cluster: a folder of images, in parts, and files of weights."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np
import numpy.typing as npt

from trainables.errors import DataError
from trainables.places import cache_root

PART_BYTES = 64 * 2**20
"""Of the files that travel together."""

Bytes = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Listing:
    """The files below a folder.

    Attributes:
        root: The folder.
        files: Their paths relative to it, with `/`, and their bytes; sorted.
        copy: The name of a copy: it changes when a file's name, size or time does.
    """

    root: Path
    files: tuple[tuple[str, int], ...]
    copy: str

    @property
    def bytes(self) -> int:
        """Of all files."""
        return sum(size for _, size in self.files)


@dataclass(frozen=True)
class Piece:
    """A part of a file: its path relative to the root, where the part begins, and its bytes of shape (N,)."""

    path: str
    offset: int
    content: Bytes


def listing_of(root: Path) -> Listing:
    """Lists the files below a folder, links followed; hidden ones are left out.

    Raises:
        DataError: If the folder cannot be read.
    """
    files, digest = [], hashlib.sha256()
    try:
        for folder, names, found in os.walk(root, followlinks=True):
            names[:] = sorted(name for name in names if not name.startswith("."))
            for name in sorted(found):
                path = Path(folder, name)
                if name.startswith(".") or not path.is_file():
                    continue
                relative, status = path.relative_to(root).as_posix(), path.stat()
                files.append((relative, status.st_size))
                digest.update(f"{relative}\0{status.st_size}\0{status.st_mtime_ns}\n".encode(errors="surrogateescape"))
    except OSError as error:
        raise DataError(f"the data under {root} cannot be listed: {error}") from error
    return Listing(root, tuple(sorted(files)), digest.hexdigest()[:16])


def parts_of(listing: Listing) -> Iterator[list[Piece]]:
    """The content of all files in parts of about `PART_BYTES`, each read when it is asked for.

    Raises:
        DataError: If a file cannot be read, or is shorter than it was listed.
    """
    part: list[Piece] = []
    taken = 0
    for path, size in listing.files:
        offset = 0
        while offset < size or (size == 0 and offset == 0):
            count = min(size - offset, PART_BYTES - taken)
            try:
                content = np.fromfile(listing.root / path, np.uint8, count=count, offset=offset)
            except OSError as error:
                raise DataError(f"{listing.root / path} cannot be read: {error}") from error
            if len(content) != count:
                raise DataError(f"{listing.root / path} changed while it was copied; run the command again")
            part.append(Piece(path, offset, content))
            offset, taken = offset + max(1, count), taken + count
            if taken >= PART_BYTES:
                yield part
                part, taken = [], 0
    if part:
        yield part


def copy_folder(copy: str) -> Path:
    """Where a node keeps a copy of a data set; it is there once the copy is whole."""
    return cache_root() / "data" / copy


def write_part(copy: str, node: str, part: list[Piece]) -> None:
    """Writes a part of a copy that is in the making.

    Raises:
        DataError: If it cannot be written, or a path leads out of the copy.
    """
    folder = _unfinished(copy, node)
    for piece in part:
        relative = PurePosixPath(piece.path)
        if relative.is_absolute() or ".." in relative.parts:
            raise DataError(f"{piece.path} leads out of the data set")
        try:
            path = folder / relative
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("r+b" if piece.offset else "wb") as file:
                file.seek(piece.offset)
                piece.content.tofile(file)
        except OSError as error:
            raise DataError(f"the copy of the data cannot be written: {error}; free space there") from error


def finish_copy(copy: str, node: str) -> None:
    """Puts a copy in its place, now that all parts are written; where another process was faster, its copy stays.

    Raises:
        DataError: If that is not possible.
    """
    unfinished, final = _unfinished(copy, node), copy_folder(copy)
    try:
        unfinished.rename(final)
    except OSError as error:
        shutil.rmtree(unfinished, ignore_errors=True)
        if not final.is_dir():
            raise DataError(f"the copy of the data cannot be put in its place: {error}") from error


def _unfinished(copy: str, node: str) -> Path:
    return cache_root() / "data" / f".{copy}.{node}.tmp"
