"""CPU time of a command with every process that it starts, those included that outlive it."""

from __future__ import annotations

import ctypes
import os
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

SAMPLE_SECONDS = 0.25
"""A process that lives shorter may be missed; of one that ends, so much of its CPU time."""
_SUBREAPER = 36
"""PR_SET_CHILD_SUBREAPER: processes whose parent has ended become this one's, and stay in its tree."""
_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Took:
    """What a command took.

    Attributes:
        began: When it was started, in seconds since 1970.
        wall: Seconds until it ended.
        cpu: CPU seconds of all its processes.
        output: What it wrote to the standard output.
    """

    began: float
    wall: float
    cpu: float
    output: str


def timed(command: Sequence[str], *, env: Mapping[str, str] | None = None, stdin: str | None = None) -> Took:
    """Runs a command to its end (Linux).

    Raises:
        SystemExit: If it fails, with the end of what it wrote.
    """
    ctypes.CDLL(None).prctl(_SUBREAPER, 1, 0, 0, 0)
    before = set(_tree(os.getpid()))
    seen: dict[tuple[int, int], float] = {}
    over = threading.Event()

    def sample() -> None:
        while not over.wait(SAMPLE_SECONDS):
            for process, seconds in _tree(os.getpid()).items():
                if process not in before:
                    seen[process] = max(seconds, seen.get(process, 0.0))

    thread = threading.Thread(target=sample, daemon=True)
    thread.start()
    began, started = time.time(), time.monotonic()
    done = subprocess.run(command, env=env, input=stdin, capture_output=True, text=True)
    wall = time.monotonic() - started
    over.set()
    thread.join()
    if done.returncode != 0:
        told = f"{done.stdout[-2000:]}\n{done.stderr[-2000:]}"
        raise SystemExit(f"{' '.join(command[:6])} ... failed with {done.returncode}:\n{told}")
    return Took(began, wall, sum(seen.values()), done.stdout)


def _tree(root: int) -> dict[tuple[int, int], float]:
    """CPU seconds of every process below one, by its number and when it began."""
    parents: dict[int, tuple[int, tuple[int, int], float]] = {}
    for entry in os.listdir("/proc"):
        if not entry.isdigit():
            continue
        try:
            fields = Path("/proc", entry, "stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        pid = int(entry)
        parents[pid] = (int(fields[1]), (pid, int(fields[19])), (int(fields[11]) + int(fields[12])) / _TICKS)
    children: dict[int, list[int]] = {}
    for pid, (parent, _, _) in parents.items():
        children.setdefault(parent, []).append(pid)
    found, waiting = {}, list(children.get(root, []))
    while waiting:
        pid = waiting.pop()
        _, process, seconds = parents[pid]
        found[process] = seconds
        waiting += children.get(pid, [])
    return found
