"""Files written whole or not at all."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import stat
from pathlib import Path
from typing import Any


def write_atomically(path: Path, content: bytes) -> None:
    """Writes a file atomically: whole or not at all, even if the process or the machine dies half-way.

    Who may read it is what the user's umask says, but nobody who could not read it before: a private one stays private.

    Raises:
        OSError: If the folder cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = new_file(path.parent, f".{path.name}.", ".tmp")
    try:
        with os.fdopen(handle, "wb") as file:
            with contextlib.suppress(FileNotFoundError):
                os.fchmod(handle, stat.S_IMODE(os.fstat(handle).st_mode & path.stat().st_mode))
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def new_file(folder: Path, prefix: str, suffix: str) -> tuple[int, Path]:
    """Makes a file of a name that no other has, for this user's umask to say who may read it.

    `tempfile.mkstemp` makes files for their owner alone, whatever the umask says.

    Returns:
        Its descriptor, for reading and writing, and its path.

    Raises:
        OSError: If the folder cannot be written.
    """
    while True:
        path = folder / f"{prefix}{secrets.token_hex(8)}{suffix}"
        with contextlib.suppress(FileExistsError):
            return os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666), path


def json_bytes(content: Any, *, indent: int | None = 1) -> bytes:
    """JSON as files of this project hold it, with a line end.

    Args:
        content: JSON primitives, lists and mappings of texts; NaN is refused.
        indent: Of each level; None gives one line.

    Raises:
        ValueError: If it holds NaN or an infinity.
    """
    return json.dumps(content, indent=indent, allow_nan=False).encode() + b"\n"


def write_json(path: Path, content: Any, *, indent: int | None = 1) -> None:
    """Writes the `json_bytes` of some content atomically.

    Raises:
        ValueError: If it holds NaN or an infinity.
        OSError: If the folder cannot be written.
    """
    write_atomically(path, json_bytes(content, indent=indent))
