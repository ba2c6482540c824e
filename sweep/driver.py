"""Whether the driver of a sweep seems to be alive, seen from elsewhere: without its lock, and without writing."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path

from sweep.heartbeat import BEAT_SECONDS, Beat, last_beat

LOCKS = Path("/proc/locks")
"""Where Linux lists the locks of this machine: of each the process, the device and the file's number on it."""
FRESH_SECONDS = 5.0
"""A sign of life that is no older needs no second look."""
PATIENCE = 2.2 * BEAT_SECONDS
"""Seconds until the second look, where clocks cannot be compared or a disk is slow to show what was written."""


@dataclass(frozen=True)
class Driver:
    """What is known of the process that runs a sweep.

    Attributes:
        alive: Whether it seems to be.
        evidence: What shows that, in a few words.
        process: Its id, where it runs on this machine; else None.
        age: Seconds since its last sign; None where there is none, or where clocks disagree.
    """

    alive: bool
    evidence: str
    process: int | None = None
    age: float | None = None


def find_driver(run_dir: Path, journal: Path, *, locks: Path = LOCKS, patience: float = PATIENCE) -> Driver:
    """Looks for the driver of a run: who holds the lock of its journal on this machine, then when it last wrote.

    Args:
        run_dir: The run.
        journal: Its journal.
        locks: Where the machine lists its locks.
        patience: Seconds until the second look at the sign of life; 0 for none.
    """
    process = _holder(journal, locks)
    beat = last_beat(run_dir)
    age = _age(beat)
    if process is not None:
        return Driver(True, f"process {process} on this machine holds the journal", process, age)
    if beat is None:
        return Driver(False, "it left no sign of life")
    if age is not None and age <= FRESH_SECONDS:
        return Driver(True, f"it wrote {age:.0f} s ago", age=age)
    if patience:
        time.sleep(patience)
        again = last_beat(run_dir)
        if again is not None and again != beat:
            return Driver(True, "it is writing", age=_age(again))
    return Driver(False, "nothing is being written, and nobody on this machine holds the journal", age=_age(beat))


def _age(beat: Beat | None) -> float | None:
    age = time.time() - beat.time if beat is not None else -1.0
    return age if age >= 0 else None


def _holder(path: Path, locks: Path) -> int | None:
    """The process that holds a file's lock, as far as this machine shows it."""
    try:
        about = path.stat()
        lines = locks.read_text(encoding="ascii").splitlines()
    except (OSError, ValueError):
        return None
    file = f"{os.major(about.st_dev):02x}:{os.minor(about.st_dev):02x}:{about.st_ino}"
    for words in map(str.split, lines):
        # 1: FLOCK  ADVISORY  WRITE 1234 fd:01:5678 0 EOF; one that waits has an arrow behind the number
        if len(words) > 5 and words[1] == "FLOCK" and words[5] == file and words[4].isdigit() and words[4] != "0":
            return int(words[4])
    return None
