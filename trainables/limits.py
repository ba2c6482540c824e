"""What may be decoded: a small file can unpack to more than the machine holds, so sizes are looked at before pixels.

Pictures are opened here and nowhere else. `SEGSWEEP_MAX_PIXELS` raises the limit of pictures, `SEGSWEEP_MAX_FILE` that
of tables, texts and packed arrays.
"""

from __future__ import annotations

import contextlib
import os
import re
import stat
import zipfile
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from trainables.errors import DataError, UsageError

if TYPE_CHECKING:
    import PIL.Image

MAX_PIXELS = "SEGSWEEP_MAX_PIXELS"
"""Environment variable: most pixels of one picture, such as 400M."""
MAX_FILE = "SEGSWEEP_MAX_FILE"
"""Environment variable: most bytes of a table or a text of a run, and of one array in an archive, such as 2G."""
_PIXELS = 89_478_485
"""From here on Pillow warns of a decompression bomb; as RGB a quarter of a gigabyte."""
_BYTES = 512 * 2**20
_VALUE_BYTES = 64
"""About what a small value of JSON, an empty list or a cell takes in Python's memory; in the file two bytes can do."""
_PER_BYTE = 4
"""Bytes of memory that the values of a text may take for each byte that it may have."""
_COUNTED_FROM = 2**22
"""Bytes of a text from which on its values are counted: a smaller one cannot fill the memory."""
_MOST_COLUMNS = 20_000
"""Of a CSV file: of so many pandas takes seconds, of five times as many minutes."""
_SPECIAL = (stat.S_ISFIFO, stat.S_ISSOCK, stat.S_ISCHR, stat.S_ISBLK)
_LEAST_OF_A_BOMB = 20
"""Times that a bomb is larger unpacked; pictures and weights do not compress so far, empty bytes a thousand times."""
_RUNS_PROGRAMS = ("EPS", "WMF")
"""Formats that Pillow hands to another program (Ghostscript, Windows)."""


@contextlib.contextmanager
def opened_image(
    source: Path | BinaryIO, where: object = None, *, what: str = "image", head: bool = False
) -> Iterator[PIL.Image.Image]:
    """Opens a picture whose pixels may be decoded; nothing is decoded yet.

    Args:
        source: A path or an open file.
        where: What messages call it; the path by default.
        what: It is, for messages.
        head: Only its head is looked at, whatever its size.

    Raises:
        DataError: If it has more pixels than the limit, or a format that other programs decode.
        OSError: And what else Pillow raises for files that it cannot read.
    """
    import PIL.Image

    # Pillow's own limit warns on the screen, and knows no cure.
    PIL.Image.MAX_IMAGE_PIXELS = None
    where = source if where is None else where
    with PIL.Image.open(source) as image:
        if image.format in _RUNS_PROGRAMS:
            raise DataError(f"{where}: {what} is a drawing ({image.format}), not pixels; save it as PNG")
        if not head:
            check_pixels(image.height, image.width, where, what=what)
        yield image


def check_pixels(height: int, width: int, where: object, *, what: str = "image") -> None:
    """Refuses what has more pixels than the limit.

    Args:
        height: In pixels.
        width: In pixels.
        where: What messages call it.
        what: It is, for messages.

    Raises:
        DataError: With the size and how to raise the limit.
    """
    most = max_pixels()
    if height * width > most:
        raise DataError(
            f"{where}: {what} has {height} x {width} pixels, and more than {most / 1e6:.0f} million are not decoded: "
            f"a small file can fill the memory so. Cut it into tiles; or, if it is meant to be so large, set "
            f"{MAX_PIXELS}={-(-height * width // 10**6)}M"
        )


def max_pixels() -> int:
    """Most pixels of a picture.

    Raises:
        UsageError: If the variable holds no size.
    """
    return _limit(MAX_PIXELS, _PIXELS, 1000)


def check_unpacked(packed: int, unpacked: int, where: Path, what: str) -> None:
    """Refuses what unpacks to more than the limit, unless it is about as large as it is packed.

    Args:
        packed: Bytes.
        unpacked: Bytes.
        where: The file.
        what: Of it, for messages.

    Raises:
        DataError: With the size and how to raise the limit.
    """
    if unpacked > _LEAST_OF_A_BOMB * packed:
        _check_bytes(unpacked, where, what)


def rows_that_fit(row: int, *, most: int) -> int:
    """How many rows are read at once, if each may have that many bytes: at least one.

    Args:
        row: Bytes.
        most: Rows.
    """
    return max(1, min(most, _limit(MAX_FILE, _BYTES, 1024) // max(1, row)))


def check_file(path: Path, *, what: str = "file") -> None:
    """Refuses a table or a text that would fill the memory or never ends; one that is not there passes.

    Its bytes count, and from 4 MiB on the memory that its values would take, 64 bytes each.

    Raises:
        DataError: With the size and how to raise the limit; or if it is a pipe, a socket or a device.
    """
    try:
        about = path.stat()
    except OSError:
        return
    if any(is_so(about.st_mode) for is_so in _SPECIAL):
        raise DataError(f"{path}: {what} is a pipe, a socket or a device, not a file: put the file itself there")
    _check_bytes(about.st_size, path, what)
    if about.st_size >= _COUNTED_FROM and path.is_file():
        values, columns = _count_values(path)
        needed, most = values * _VALUE_BYTES, _PER_BYTE * _limit(MAX_FILE, _BYTES, 1024)
        if needed > most:
            raise DataError(
                f"{path}: {what} holds about {values} values, which would take {needed / 2**20:.0f} MB of memory, and "
                f"more than {most / 2**20:.0f} MB are not given to it. If it is yours and meant to be so, set "
                f"{MAX_FILE}={-(-needed // _PER_BYTE // 2**20)}M"
            )
        if path.suffix == ".csv" and columns > _MOST_COLUMNS:
            raise DataError(f"{path}: {what} has more than {_MOST_COLUMNS} columns: no table of ours has so many")


def _count_values(path: Path) -> tuple[int, int]:
    """About how many values a text of JSON or CSV holds, and how many cells its first line has."""
    values, columns, first = 0, 1, True
    with path.open("rb") as file:
        while block := file.read(2**20):
            values += sum(map(block.count, (b",", b"[", b"{", b"\n")))
            if first:
                head, end, _ = block.partition(b"\n")
                columns, first = columns + head.count(b","), not end
    return values, columns


def check_texts(folder: Path, *, but_not_below: Collection[str] = ()) -> None:
    """`check_file` of every table and text below a folder, such as a run's, before any of them is read.

    Args:
        folder: Perhaps of somebody else.
        but_not_below: Names of its subfolders in which nothing is read.

    Raises:
        DataError: With the first that is too large.
    """
    for parent, folders, files in os.walk(folder):
        if parent == str(folder):
            folders[:] = [name for name in folders if name not in but_not_below]
        for name in files:
            if name.endswith((".csv", ".json", ".jsonl", ".yaml")):
                check_file(Path(parent, name))


def check_archive(path: Path, *, together: bool = False) -> None:
    """Refuses an archive (`.npz`, a file of torch) of which one member unpacks to more than the limit.

    Args:
        path: The archive.
        together: All members will be held at once, and are looked at together (`check_unpacked`).

    Raises:
        DataError: With the member, its size and how to raise the limit.
        OSError: If it cannot be read.
        ValueError: If it is no archive.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            for member in archive.infolist():
                _check_bytes(member.file_size, path, member.filename)
            unpacked = sum(member.file_size for member in archive.infolist())
            if together:
                check_unpacked(path.stat().st_size, unpacked, path, "what it unpacks to")
    except zipfile.BadZipFile as error:
        raise ValueError(str(error)) from error


def _check_bytes(size: int, where: Path, what: str) -> None:
    most = _limit(MAX_FILE, _BYTES, 1024)
    if size > most:
        raise DataError(
            f"{where}: {what} has {size / 2**20:.0f} MB, and more than {most / 2**20:.0f} MB are not read: it could "
            f"fill the memory. If it is yours and meant to be so large, set {MAX_FILE}={-(-size // 2**20)}M"
        )


def _limit(variable: str, usual: int, base: int) -> int:
    """Raises UsageError if the variable holds no size."""
    told = os.environ.get(variable, "").strip()
    if not told:
        return usual
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([KMGT]?)B?", told, re.IGNORECASE)
    if found is None:
        raise UsageError(f"{variable}={told}: write a size such as 400M or 2G")
    return int(float(found[1]) * base ** ("KMGT".index(found[2].upper()) + 1 if found[2] else 0))
