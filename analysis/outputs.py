"""Where a command may write its files: files that this project did not write are never overwritten."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from trainables.paths import UnsafePathError, WrittenFiles
from trainables.words import some_of

Names = tuple[str, ...]
"""A file's name and those of the folders around it, outermost first."""


def reserve(written: WrittenFiles, names: Iterable[Names], *, later: WrittenFiles | None = None) -> dict[Names, Path]:
    """Where to write files, after `written.clear()`.

    They are listed before they are written, so that what a killed command leaves is known as ours.

    Args:
        written: Of the folder.
        names: Of the files, relative to it.
        later: Of the folder that they will be moved to.

    Raises:
        UnsafePathError: If a file that this project did not write is in one of the places.
    """
    files = {name: written.path(*name) for name in names}
    taken = [str(path) for path in files.values() if os.path.lexists(path)]
    taken += [] if later is None else map(str, later.in_the_way(files))
    if taken:
        raise UnsafePathError(
            f"{some_of(taken, 3)}: there already, and not written by this command; move such files away and try again"
        )
    written.close()
    return files
