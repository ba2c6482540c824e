"""What is said when a sweep ends before it is over: what is kept, and the command that goes on with it."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from rich.console import Console

from trainables import commands
from trainables.errors import INTERRUPTED
from trainables.guarded import ignoring_signals, say_error


@contextmanager
def signals_as_interrupts() -> Iterator[None]:
    """SIGTERM and SIGHUP (the terminal was closed) end the body as Ctrl-C does, unless they are ignored (`nohup`)."""

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    here = threading.current_thread() is threading.main_thread()
    default = [n for n in (signal.SIGTERM, signal.SIGHUP) if here and signal.getsignal(n) == signal.SIG_DFL]
    for number in default:
        signal.signal(number, interrupt)
    try:
        yield
    finally:
        for number in default:
            if signal.getsignal(number) == interrupt:
                signal.signal(number, signal.SIG_DFL)


def halted_text(run_dir: Path, fault: str) -> str:
    """Of a sweep that stops for a fault of the machine."""
    return (
        f"stopped by the machine, not by a configuration: {fault}\n"
        "all but the running epochs is kept, and no trial counts as failed for it. When it is mended:\n"
        f"  {commands.resume(run_dir)}"
    )


def end_halted(run_dir: Path, fault: str) -> None:
    """Ends this process, from any thread: its main thread may be waiting for what has died."""
    say_error(halted_text(run_dir, fault))
    sys.stderr.flush()
    os._exit(1)


def say_interrupted(console: Console, run_dir: Path, *, flush: Callable[[], bool] | None = None) -> int:
    """Says how to go on after a signal; returns the exit code. Further signals are ignored meanwhile.

    Args:
        console: Where to say it.
        run_dir: The run.
        flush: Gives W&B a moment and says whether all was written; otherwise this process ends here.
    """
    with ignoring_signals():
        flushed = flush is None or flush()
        console.print("\n[bold]interrupted[/bold]; all but the running epochs is kept. To go on:", soft_wrap=True)
        console.print(f"  {commands.resume(run_dir)}", markup=False, soft_wrap=True)
        if not flushed:
            sys.stdout.flush()
            os._exit(INTERRUPTED)  # W&B's exit hook may wait half an hour for a server
    return INTERRUPTED
