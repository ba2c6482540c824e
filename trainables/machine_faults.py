"""Faults of the machine, which say nothing about a configuration: a full disk, data that is away, too little memory.

A trial that meets one has not failed: the sweep stops, says what to mend, and goes on with the same trial when it is
resumed.
"""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from trainables.errors import DataError

CURES = {
    errno.ENOSPC: "free disk space",
    errno.EDQUOT: "free space within the quota",
    errno.EROFS: "make it writable again",
    errno.EIO: "look after the disk",
    errno.ESTALE: "bring the shared folder back",
    errno.ENOTCONN: "bring the shared folder back",
    errno.EHOSTDOWN: "bring the shared folder back",
    errno.ETIMEDOUT: "bring the shared folder back",
    errno.ENODEV: "bring the disk back",
    errno.ENXIO: "bring the disk back",
    errno.EMFILE: "allow more open files (ulimit -n)",
    errno.ENFILE: "allow more open files",
}
"""Of errors of the operating system that are no configuration's, whatever file they name."""
_AWAY = "bring it back, or make it readable"
_NUMBER = re.compile(r"\(os error (\d+)\)|\[Errno (\d+)\]")
"""How libraries that raise errors of their own tell the number: Rust's, and Python's as text."""
_SHARED_MEMORY = re.compile(
    r"unable to (allocate|open|mmap|write to) .*(shm|shared memory)|killed by signal: Bus error"
)
"""How torch tells that /dev/shm is full."""
_NODE = re.compile(r"[Rr]aylet|NodeDied|node (has )?died|was dead", re.ASCII)
"""How Ray tells that a node is the reason why a worker died."""
_NODE_DIED = re.compile(
    r"node (has )?died|NodeDied|node was (dead|terminated)|raylet (has )?died|actor \S+ is unavailable", re.IGNORECASE
)
"""How it tells that the whole node is gone. An actor is "unavailable" whose worker does not answer and is not known to
have died: a node tells of a worker's death within a second, and of its own death not at all."""
_MEMORY_KILL = "killed due to the node running low on memory"
_MEMORY_USED = re.compile(r"was ([\d.]+)GB used / ([\d.]+)GB")
_MEMORY_LIMIT = re.compile(r"\(([\d.]+%) of \d+B limit\)")
"""What Ray's memory monitor tells; its GB are 2**30 bytes."""


def machine_fault(error: BaseException, places: Sequence[Path] = ()) -> str:
    """What failed of the machine, with the cure; empty where the configuration may be the reason.

    Args:
        error: With what it came from.
        places: Folders that were there when the sweep began: any error about a file below them is the machine's.
    """
    for one in _chain(error):
        if isinstance(one, DataError):
            away = [place for place in places if str(place) in str(one) and not os.path.exists(place)]
            return f"{away[0]} is not there any more; {_AWAY}" if away else str(one)
        number = one.errno if isinstance(one, OSError) else None
        if number is None and (found := _NUMBER.search(str(one))):
            number = int(found[1] or found[2])
        if _SHARED_MEMORY.search(str(one)):
            return f"{_told(one)}; free /dev/shm, give it more (docker run --shm-size=2g), or resume with --workers 0"
        if number in CURES:
            return f"{_told(one)}; {CURES[number]}"
        if isinstance(one, OSError) and one.filename is not None and _is_below(Path(str(one.filename)), places):
            return f"{_told(one)}; {_AWAY}"
    return ""


def node_fault(words: str) -> str:
    """The same of what Ray says about a worker that died."""
    return f"{words}; if memory is short, lower --concurrent or batch_size" if _NODE.search(words) else ""


def memory_kill(text: str) -> str:
    """What became of a worker that Ray's memory monitor killed, and the cure, as one sentence without its subject.

    Args:
        text: All that Ray says about a worker that died.

    Returns:
        Empty where it died of something else.
    """
    if _MEMORY_KILL not in text:
        return ""
    used, limit = _MEMORY_USED.search(text), _MEMORY_LIMIT.search(text)
    told = f": {float(used[1]):.1f} of {float(used[2]):.1f} GiB were used" if used else ""
    told += f", and Ray's limit is {limit[1]}" if used and limit else ""
    return (
        f"killed because the machine was short of memory{told}; lower --concurrent (in a new sweep batch_size), end "
        "other programs, or raise Ray's limit (the environment variable RAY_memory_usage_threshold, such as 0.98)"
    )


def node_died(words: str) -> bool:
    """Whether Ray says that a worker died with its node, or cannot be reached there; other nodes of a cluster live."""
    return _NODE_DIED.search(words) is not None


def _chain(error: BaseException) -> Iterator[BaseException]:
    seen: set[int] = set()
    one: BaseException | None = error
    while one is not None and id(one) not in seen:
        seen.add(id(one))
        yield one
        one = one.__cause__ or one.__context__


def _told(error: BaseException) -> str:
    return " ".join(str(error).split())


def _is_below(path: Path, places: Sequence[Path]) -> bool:
    return any(path.is_relative_to(place) for place in places)
