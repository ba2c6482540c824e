"""The frame of a command's `main`: what a user can mend is one error on stderr and an exit code, never a traceback."""

from __future__ import annotations

import io
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import NoReturn

from rich.console import Console
from rich.markup import escape

from trainables.errors import INTERRUPTED, SegsweepError
from trainables.machine_faults import CURES
from trainables.redact import redacted

ERROR = "error"
"""Begins what is said of an error on stderr."""


def guarded(body: Callable[[], int], *, interrupted: str, elsewhere: str = "") -> int:
    """Runs a command.

    Args:
        body: Does the work and returns its exit code.
        interrupted: What is said after Ctrl-C: what is kept, and how to go on.
        elsewhere: The flag that writes to another place, such as `--out DIR`, where the command has one.

    Returns:
        The exit code: the body's own, that of a `SegsweepError`, 1 if a file could not be read or written, 130 after
        Ctrl-C.
    """
    _print_whatever_comes()
    try:
        return body()
    except SegsweepError as error:
        say_error(str(error))
        return error.exit_code
    except OSError as error:
        say_error(_file_error(error) + (f", or give {elsewhere}" if elsewhere else ""))
        return 1
    except KeyboardInterrupt:
        Console(stderr=True).print(interrupted, markup=False, soft_wrap=True)
        return INTERRUPTED


def _file_error(error: OSError) -> str:
    """Which file could not be read or written, why, and what to do about it."""
    what = str(error) if error.filename is None else f"{error.filename} cannot be read or written ({error.strerror})"
    if isinstance(error, PermissionError):
        return f"{what}: let yourself read and write there (chmod, chown)"
    return f"{what}: {CURES.get(error.errno or 0, 'free space, or move what is in its place')}"


def _print_whatever_comes() -> None:
    """A character that a terminal cannot show, such as one of a class name, is printed as `?` instead of a crash."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper) and stream.errors == "strict":
            stream.reconfigure(errors="replace")


@contextmanager
def ignoring_signals() -> Iterator[None]:
    """Nothing interrupts the body: what ends already is not ended again."""
    here = threading.current_thread() is threading.main_thread()
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP) if here else ()
    before = {number: signal.signal(number, signal.SIG_IGN) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def holding_signals() -> Iterator[None]:
    """Ctrl-C and what else interrupts this process is heard after the body: what the body does is done as a whole."""
    here = threading.current_thread() is threading.main_thread()
    heard: list[tuple[int, FrameType | None]] = []
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP) if here else ()
    handlers = {number: handler for number in numbers if callable(handler := signal.getsignal(number))}
    for number in handlers:
        signal.signal(number, lambda *signalled: heard.append(signalled))
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
        for caught, frame in heard:
            handlers[signal.Signals(caught)](caught, frame)


def leave(code: int) -> NoReturn:
    """Ends this process with an exit code, which a second Ctrl-C does not change.

    Raises:
        SystemExit: Always.
    """
    if code == INTERRUPTED:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
    sys.exit(code)


def say_error(text: str) -> None:
    """Shows an error on stderr."""
    Console(stderr=True, highlight=False).print(
        f"[bold red]{ERROR}[/bold red]: {escape(redacted(text))}", soft_wrap=True
    )
