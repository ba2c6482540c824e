"""Errors that a user can act on: what was wrong, where, and the cure."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable
from typing import Any

from trainables.redact import redacted
from trainables.words import visible

INTERRUPTED = 130
"""Exit code of a command that Ctrl-C ended."""


class SegsweepError(Exception):
    """Something failed that the user can fix; commands print it in one block and exit with `exit_code`.

    Its text has no secrets in it (`trainables.redact`), and nothing that moves a terminal's cursor or turns its words
    round, whatever name of somebody else's file the message was made from.
    """

    exit_code = 1

    def __str__(self) -> str:
        return visible(redacted(super().__str__()))

    def __reduce__(self) -> tuple[Callable[..., SegsweepError], tuple[Any, ...], dict[str, Any]]:
        """In another process it has the same class and message, whatever the class makes of its arguments."""
        return remade, (type(self), super().__str__()), dict(vars(self))


def remade(kind: type[SegsweepError], message: str) -> SegsweepError:
    """The error of a class with a message that is complete."""
    error = kind.__new__(kind)
    SegsweepError.__init__(error, message)
    return error


class UsageError(SegsweepError):
    """The command asks for something that does not exist or cannot be combined (exit code 2)."""

    exit_code = 2


class ConfigError(UsageError):
    """A configuration is invalid; the message lists every independent fault."""


class UnknownNameError(UsageError):
    """A name is not in a registry; the message lists the close ones."""

    def __init__(self, kind: str, name: str, known: Iterable[str], *, pattern: str = "") -> None:
        known = sorted(known)
        close = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
        hint = f"did you mean {' or '.join(close)}?" if close else f"known: {', '.join(known)}"
        super().__init__(f"unknown {kind} {name!r}; {hint}" + (f" Or: {pattern}." if pattern else ""))


class DataError(SegsweepError):
    """A data set cannot be used as it is; the message lists every offender."""


class WeightsError(SegsweepError):
    """Predefined weights are neither in the local cache nor downloadable, or the cached file is damaged."""


class CheckpointError(SegsweepError):
    """A checkpoint is missing, torn, or does not belong to the configuration that asks for it."""


class InfeasibleError(SegsweepError):
    """The configuration cannot be trained here; a result of it, not a crash."""


class DivergedError(InfeasibleError):
    """Training gave NaN or infinite values."""


class MemoryExhaustedError(InfeasibleError):
    """The device or the machine has too little memory for the configuration."""


class MachineError(SegsweepError):
    """The machine failed, and no configuration: the same command goes on when that is mended."""


class ProcessDiedError(SegsweepError):
    """A process that works for a trial was killed from outside: the trial goes on in others."""


class LoaderDiedError(ProcessDiedError):
    """One that loads images."""


class RankDiedError(ProcessDiedError):
    """One of those that train the trial together."""


class WiringError(SegsweepError):
    """What was built differs from what the configuration asked for."""
