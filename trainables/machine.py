"""What this process may use of its machine: the processors and the memory, as far as a container or job leaves them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

_CGROUPS = Path("/sys/fs/cgroup")
_OWN = Path("/proc/self/cgroup")


def cores() -> int:
    """The processors that this process may use, one at least.

    Of a limit on time, as `docker run --cpus 2.5` sets it, whole processors count, as for Ray.
    """
    try:
        usable = len(os.sched_getaffinity(0))
    except AttributeError:
        usable = os.cpu_count() or 1
    return max(1, int(min([usable, *_processor_limits()])))


def memory_bytes() -> int | None:
    """The memory that this process may use; None where nobody says."""
    if not hasattr(os, "sysconf"):
        return None
    return min([os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"), *_memory_limits()])


def _processor_limits() -> Iterator[float]:
    """In processors, of each control group that limits the time."""
    for group in _groups(""):
        yield from _quotient(_numbers(group / "cpu.max"))
    for group in _groups("cpu"):
        yield from _quotient([*_numbers(group / "cpu.cfs_quota_us"), *_numbers(group / "cpu.cfs_period_us")])


def _memory_limits() -> Iterator[int]:
    """In bytes, of each control group that limits the memory."""
    for group in _groups(""):
        yield from _numbers(group / "memory.max")
    for group in _groups("memory"):
        yield from _numbers(group / "memory.limit_in_bytes")


def _groups(controller: str) -> Iterator[Path]:
    """The folders of this process's control group and of those that it is in, as far as they are visible here.

    See `man 7 cgroups`: version 1 has a tree for each controller, version 2 has one, whose controllers have no name.
    """
    try:
        lines = _OWN.read_text(encoding="utf-8").splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controller in controllers.split(","):
            own = Path(path.lstrip("/"))
            yield from (_CGROUPS / controller / one for one in (own, *own.parents))
            return


def _numbers(path: Path) -> list[int]:
    """Those of a file; none where there is no limit, no such file, or it says something else."""
    try:
        found = [int(word) for word in path.read_text(encoding="ascii").split()]
    except (OSError, ValueError):
        return []
    return found if all(number > 0 for number in found) else []


def _quotient(numbers: list[int]) -> list[float]:
    return [numbers[0] / numbers[1]] if len(numbers) == 2 else []
