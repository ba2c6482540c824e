"""Runs a command of ours from Python, in a process of its own: its output is passed on, its error is raised.

A sweep in a process of its own needs no main thread and no signal handlers of its caller, leaves neither Ray nor torch
in it, and ends no notebook where Ray dies.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import IO, TextIO

from trainables import commands
from trainables.errors import INTERRUPTED, SegsweepError, UsageError
from trainables.guarded import ERROR

TERMINAL_FORCED = ("FORCE_COLOR", "CLICOLOR_FORCE", "TTY_COMPATIBLE", "TTY_INTERACTIVE")
"""Environment variables by which a pipe is taken for a terminal, with spinners; a Jupyter kernel sets some."""


def run_command(
    module: str,
    words: Sequence[str],
    *,
    progress: bool,
    environment: Mapping[str, str] | None = None,
    meanwhile: Callable[[], None] | None = None,
) -> None:
    """Runs a command until it ends.

    On a terminal it shows its own live screen; elsewhere, in a notebook say, its lines are printed as they come. An
    interrupt of the caller ends the command as Ctrl-C does, and goes on when it has ended.

    Args:
        module: Such as `sweep.run`.
        words: Of its command line.
        progress: Whether to show what it says.
        environment: Variables that it is given beside those of this process.
        meanwhile: Called about once a second until it has ended, by the caller's thread.

    Raises:
        UsageError: If it ended with exit code 2.
        SegsweepError: If it failed, with what it said.
        KeyboardInterrupt: If the caller was interrupted.
    """
    screen = sys.__stdout__
    on_terminal = progress and screen is not None and sys.stdout is screen and screen.isatty()
    errors: list[str] = []
    with subprocess.Popen(
        commands.subprocess_command(module, *words),
        stdin=subprocess.DEVNULL,
        stdout=None if on_terminal else subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
        env=_environment(environment or {}, on_terminal=on_terminal),
    ) as process:
        readers = [_passed_on(process.stderr, sys.stderr if progress else None, errors)]
        if process.stdout is not None:
            readers.append(_passed_on(process.stdout, sys.stdout if progress else None, []))
        try:
            code = _waited(process, meanwhile)
        except KeyboardInterrupt:
            process.send_signal(signal.SIGINT)  # a notebook's interrupt is not sent to its children
            process.wait()
            raise
        finally:
            for reader in readers:
                reader.join(5)
    if code:
        raise _error(module, code, errors)


def _environment(more: Mapping[str, str], *, on_terminal: bool) -> dict[str, str]:
    """What a command is given: where it writes to a pipe nothing makes it believe that this is a terminal."""
    kept = {name: value for name, value in os.environ.items() if on_terminal or name not in TERMINAL_FORCED}
    return {**kept, **more}


def _waited(process: subprocess.Popen[str], meanwhile: Callable[[], None] | None) -> int:
    """The exit code of a process, once it has one."""
    while meanwhile is not None:
        try:
            return process.wait(timeout=1.0)
        except subprocess.TimeoutExpired:
            meanwhile()
    return process.wait()


def _passed_on(source: IO[str] | None, target: TextIO | None, kept: list[str]) -> threading.Thread:
    """Reads lines in a thread, so that the command never waits for a reader."""

    def read() -> None:
        for line in source or ():
            kept.append(line.rstrip("\n"))
            if target is not None:
                target.write(line)
                target.flush()

    thread = threading.Thread(target=read, name="output", daemon=True)
    thread.start()
    return thread


def _error(module: str, code: int, lines: Sequence[str]) -> SegsweepError:
    starts = [place for place, line in enumerate(lines) if line.startswith(f"{ERROR}: ")]
    if starts:
        told = "\n".join(lines[starts[-1] :]).removeprefix(f"{ERROR}: ")
    elif code < 0:
        told = f"{commands.prog(module)} was ended by {signal.Signals(-code).name}"
    elif code == INTERRUPTED:
        told = f"{commands.prog(module)} was interrupted"
    else:
        told = ""
    return UsageError(told) if code == UsageError.exit_code else CommandError(told)


class CommandError(SegsweepError):
    """A command failed; its text is empty where it came to its end, and what failed in it is told by what it wrote."""
