"""The frame of a command's `main`: what a user can mend is one error on stderr and an exit code, never a traceback."""

from __future__ import annotations

from collections.abc import Callable

from rich.console import Console
from rich.markup import escape

from trainables.errors import INTERRUPTED, SegsweepError
from trainables.redact import redacted


def guarded(body: Callable[[], int], *, interrupted: str) -> int:
    """Runs a command.

    Args:
        body: Does the work and returns its exit code.
        interrupted: What is said after Ctrl-C: what is kept, and how to go on.

    Returns:
        The exit code: the body's own, that of a `SegsweepError`, 1 if a file could not be written, 130 after Ctrl-C.
    """
    try:
        return body()
    except SegsweepError as error:
        say_error(str(error))
        return error.exit_code
    except OSError as error:
        say_error(f"{error}: free space, or move what is in its place; nothing that was written before is lost")
        return 1
    except KeyboardInterrupt:
        Console(stderr=True).print(interrupted, markup=False, soft_wrap=True)
        return INTERRUPTED


def say_error(text: str) -> None:
    """Shows an error on stderr."""
    Console(stderr=True, highlight=False).print(f"[bold red]error[/bold red] {escape(redacted(text))}", soft_wrap=True)
