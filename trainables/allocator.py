"""Memory that one training step frees is kept for the next, where the C library is glibc.

glibc hands blocks above a threshold (32 MiB at most by its own rule) and the free end of its heap back to the system at
once. A step that frees its activations and allocates them again then has the kernel map and clear the same pages in
every step. The thresholds are those of `mallopt(3)`.
"""

from __future__ import annotations

import ctypes
import functools
from typing import Any

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
"""Parameters of `mallopt`, as `malloc.h` numbers them."""
LARGEST_BLOCK = 2**30
"""Bytes; blocks up to it are taken from the heap and stay there when they are freed."""
KEPT_BYTES = 2**31 - 1
"""The most free memory at the end of the heap that is kept: the largest number that `mallopt` takes."""


def keep_freed_memory() -> bool:
    """From now on this process keeps what it frees; says whether it can."""
    library = _glibc()
    if library is None:
        return False
    return bool(library.mallopt(_MMAP_THRESHOLD, LARGEST_BLOCK) and library.mallopt(_TRIM_THRESHOLD, KEPT_BYTES))


def return_freed_memory() -> None:
    """Gives back what this process has freed and kept: when a training is over."""
    library = _glibc()
    if library is not None:
        library.malloc_trim(0)


@functools.cache
def _glibc() -> Any:
    """The C library of this process, if it is glibc; None otherwise."""
    try:
        library = ctypes.CDLL(None)
    except (OSError, TypeError):  # TypeError: Windows
        return None
    return library if hasattr(library, "gnu_get_libc_version") else None
