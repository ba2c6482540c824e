"""Where the project keeps what it can make again."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path

OnProgress = Callable[[int, int], None]
"""Is called with (done, total) while something is made there; from any thread, one call at a time."""

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


def cores() -> int:
    """The processors that this process may use."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:
        return os.cpu_count() or 1
