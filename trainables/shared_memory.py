"""Whether loader processes have the shared memory that torch passes batches through: containers often have 64 MB.

Where it runs out torch's loader waits for ever, so with little of it batches are sent through pipes, which copies them
once more.
"""

from __future__ import annotations

import os
from pathlib import Path

SHARED_MEMORY = Path("/dev/shm")
LEAST_BYTES = 2**30
"""Free shared memory below which batches take the pipe, whatever their size."""
_TRIALS = 4
"""What must be free is that many times what one trial's loaders may hold: others run beside it."""


def is_short(batch_bytes: int = 0, workers: int = 1) -> bool:
    """Whether batches should not go through shared memory.

    Args:
        batch_bytes: Of one batch.
        workers: Loader processes; each prepares two batches ahead.
    """
    free = free_bytes()
    return free is not None and free < max(LEAST_BYTES, _TRIALS * 2 * (2 * workers + 2) * batch_bytes)


def has_room(batch_bytes: int) -> bool:
    """Whether a batch can go through shared memory now, beside others that are written at the same time."""
    free = free_bytes()
    return free is None or free >= 2 * _TRIALS * batch_bytes


def free_bytes() -> int | None:
    """Free bytes of shared memory; None where the system has no such folder."""
    try:
        status = os.statvfs(SHARED_MEMORY)
    except (OSError, AttributeError):
        return None
    return status.f_bavail * status.f_frsize


def note(workers: int) -> str:
    """What a user should know about it; empty without loader processes, or with enough."""
    free = free_bytes()
    if workers == 0 or free is None or not is_short():
        return ""
    return (
        f"{SHARED_MEMORY} has {free / 2**20:.0f} MB free: batches of the loader processes go through pipes instead, "
        "which costs a copy each; in Docker, --shm-size=2g gives more"
    )
