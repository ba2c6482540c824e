"""Where the project keeps what it can make again, and how it writes there."""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path

DEFAULT_LIMIT_BYTES = 8 * 2**30
"""What the cache folder may take by default."""


def cache_root() -> Path:
    """The cache folder: `SEGSWEEP_CACHE` where it is set, otherwise the platform's own place for caches."""
    chosen = os.environ.get("SEGSWEEP_CACHE")
    if chosen:
        return Path(chosen).expanduser().absolute()
    if sys.platform == "win32":
        base = Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")
    elif sys.platform == "darwin":
        base = Path.home() / "Library" / "Caches"
    else:
        base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return base / "segsweep"


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


def cores() -> int:
    """The processors that this process may use."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:
        return os.cpu_count() or 1
