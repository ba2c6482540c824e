"""Paths that users give, and names in their files that become paths below a data root."""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Iterable
from pathlib import Path, PurePosixPath

from trainables.errors import DataError

_CONTROL = ("Cc", "Cs", "Zl", "Zp")
"""Unicode categories: control characters, bytes that are not UTF-8, line and paragraph separators."""


def expanded(path: str | Path) -> Path:
    """The path with `~` or `~user` at its beginning replaced by the home folder.

    A shell leaves `--data-root=~/x` alone, and nothing expands a YAML file. A user that does not exist is left as it is
    written, so that the message about the missing file shows it.
    """
    return Path(os.path.expanduser(path))


def path_fault(name: str) -> str:
    """Why a name cannot be that of a file below a folder, as the rest of a sentence; empty where it can.

    Subfolders are allowed: some data sets have them in their ids.

    Example:
        >>> path_fault("aachen/000000"), path_fault("../x"), path_fault("/etc/passwd")
        ('', 'leads out of the folder', 'is an absolute path')
    """
    if any(unicodedata.category(character) in _CONTROL for character in name):
        return "holds a control character, or bytes that are not UTF-8"
    if PurePosixPath(name).is_absolute():
        return "is an absolute path"
    return "leads out of the folder" if ".." in PurePosixPath(name).parts else ""


def check_ids(ids: Iterable[str], source: Path) -> None:
    """Refuses image ids that no file below a data root can have.

    Args:
        ids: Image ids that become part of paths.
        source: The list, or the folder, that they were read from.

    Raises:
        DataError: Lists every such id.
    """
    faults = [f"{printable(image_id)} {fault}" for image_id in ids if (fault := path_fault(image_id))]
    if faults:
        raise DataError(
            f"{source}: an image id is the name of a file below the data root; rename or take out:\n  "
            + "\n  ".join(faults)
        )


def printable(text: str) -> str:
    """The text, or where it would upset a terminal its Python notation."""
    return text if text.isprintable() else repr(text)
