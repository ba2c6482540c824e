"""How much of its time a sweep has spent, written every second, so that a driver that is killed loses none of it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

SPENT_FILE = "spent.txt"
BEAT_SECONDS = 1.0


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
        seconds = float((run_dir / SPENT_FILE).read_text(encoding="ascii"))
    except (OSError, ValueError):
        return 0.0
    return seconds if 0 <= seconds < float("inf") else 0.0


def _write(run_dir: Path, seconds: float) -> None:
    with suppress(OSError):
        (run_dir / SPENT_FILE).write_text(f"{seconds:.3f}\n", encoding="ascii")
