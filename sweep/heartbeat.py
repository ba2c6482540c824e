"""How much of its time a sweep has spent, written every second, so that a driver that is killed loses none of it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

SPENT_FILE = "spent.txt"
BEAT_SECONDS = 1.0
_LONGEST = 64
"""Bytes of the file that are read."""


@contextmanager
def heartbeat(run_dir: Path, elapsed: Callable[[], float]) -> Iterator[None]:
    """Writes the seconds spent into the run folder while the body runs; without room on the disk it goes without.

    Args:
        run_dir: Of the run.
        elapsed: Seconds spent so far, over all resumes.
    """
    over = threading.Event()

    def beat() -> None:
        while not over.wait(BEAT_SECONDS):
            _write(run_dir, elapsed())

    thread = threading.Thread(target=beat, name="heartbeat", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
        _write(run_dir, elapsed())


def spent_seconds(run_dir: Path) -> float:
    """What was written last; 0 where there is nothing that can be read."""
    try:
        seconds = float(_read(run_dir))
    except ValueError:
        return 0.0
    return seconds if 0 <= seconds < float("inf") else 0.0


@dataclass(frozen=True)
class Beat:
    """The last sign of a driver.

    Attributes:
        text: As it was written.
        time: Of the writing, in seconds since 1970 by the clock of the disk.
    """

    text: str
    time: float


def last_beat(run_dir: Path) -> Beat | None:
    """The last sign of a driver; None where there is none."""
    try:
        return Beat(_read(run_dir), (run_dir / SPENT_FILE).lstat().st_mtime)
    except OSError:
        return None


def _read(run_dir: Path) -> str:
    """The file's text, which is short; empty where there is none that can be read, or something else in its place."""
    path = run_dir / SPENT_FILE
    try:
        if path.is_symlink() or not path.is_file():
            return ""
        with path.open("rb") as file:
            return file.read(_LONGEST).decode("ascii")
    except (OSError, ValueError):
        return ""


def _write(run_dir: Path, seconds: float) -> None:
    with suppress(OSError):
        (run_dir / SPENT_FILE).write_text(f"{seconds:.3f}\n", encoding="ascii")
