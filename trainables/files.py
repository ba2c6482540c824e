"""Files written whole or not at all."""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path
from typing import Any


def write_atomically(path: Path, content: bytes) -> None:
    """Writes a file atomically: whole or not at all, even if the process or the machine dies half-way.

    Raises:
        OSError: If the folder cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


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
