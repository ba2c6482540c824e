"""What the commands share that write a sweep down for a cluster's queue: its flags, checked here and now."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from sweep.config import SweepConfig, from_command_line
from trainables import commands
from trainables.errors import UsageError
from trainables.files import new_file
from trainables.redact import redacted_words

TEMPLATES = Path(__file__).parent / "templates"
_OWN = ("--address", "--resume", "--extend", "--check", "--show")


@dataclass(frozen=True)
class Sweep:
    """A sweep to be run elsewhere.

    Attributes:
        config: What is asked for.
        words: Its command line, with its name in it.
    """

    config: SweepConfig
    words: tuple[str, ...]


def read_sweep(words: Sequence[str]) -> Sweep:
    """The flags of a sweep, as `python -m sweep.run` reads them.

    Args:
        words: What stands behind `--`.

    Raises:
        UsageError: If they make no sense, hold a secret, which a file would keep, or say what the script says itself.
    """
    words = [word for place, word in enumerate(words) if (place, word) != (0, "--")]
    faults = [f"{flag}: leave it out, the script sees to it" for flag in _OWN if _has(words, flag)]
    if list(redacted_words(words)) != words:
        faults.append("they hold a key or a token, which the file would keep: put it into the environment of the job")
    if faults:
        raise UsageError("\n".join(f"flags of the sweep: {fault}" for fault in faults))
    config = from_command_line(words)
    if not isinstance(config, SweepConfig):
        raise UsageError("flags of the sweep: these go on with another one; leave --resume and --extend out")
    return Sweep(config, (*words, *(() if _has(words, "--name") else ("--name", str(config.name)))))


def add_sweep(p: argparse.ArgumentParser) -> None:
    """Adds what stands behind `--`, and where the file is written."""
    p.add_argument("--out", type=Path, metavar="FILE", help="where to write it (default: a file named as the run)")
    p.add_argument(
        "sweep", nargs="*", metavar="-- FLAGS", help=f"of the sweep; see {commands.prog('sweep.run')} --help"
    )


def write(text: str, path: Path) -> None:
    """Writes a new file.

    Raises:
        UsageError: If there is something already, or it cannot be written.
    """
    try:
        handle, temporary = new_file(path.parent, f".{path.name}.", ".tmp")
        with open(handle, "w", encoding="utf-8") as file:
            file.write(text)
        try:
            path.hardlink_to(temporary)
        finally:
            temporary.unlink()
    except FileExistsError:
        raise UsageError(f"{path} exists: remove it, or give another --out") from None
    except OSError as error:
        raise UsageError(f"{path} cannot be written ({error.strerror}): give another --out") from error


def _has(words: Sequence[str], flag: str) -> bool:
    return any(word == flag or word.startswith(f"{flag}=") for word in words)
