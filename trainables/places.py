"""Where the project keeps what it can make again."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path

from trainables.machine import cores

OnProgress = Callable[[int, int], None]
"""Is called with (done, total) while something is made there; from any thread, one call at a time."""

DEFAULT_LIMIT_BYTES = 8 * 2**30
"""What the cache folder may take by default."""
DECODING_BYTES = 2**30
"""What images that are decoded at once may take of the memory, about."""
COPIES = 5
"""Times its own bytes that an image takes while it is decoded, turned to RGB, resized and written (measured: 5)."""


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


def decoding_threads(image_bytes: int) -> int:
    """How many images may be decoded at once: 16 at most, one per processor, and as many as `DECODING_BYTES` hold.

    Args:
        image_bytes: Of the largest image with its mask, decoded.
    """
    return max(1, min(16, cores(), DECODING_BYTES // max(1, COPIES * image_bytes)))
