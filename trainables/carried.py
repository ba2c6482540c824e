"""Checkpoints as arrays of bytes, to be carried between a trial on another machine and the run folder."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from trainables.checkpoint import CHECKPOINT_FILES, is_whole, latest_checkpoint
from trainables.errors import CheckpointError
from trainables.paths import check_name, remove_own

Bytes = npt.NDArray[np.uint8]


class Carried(NamedTuple):
    """A whole checkpoint.

    Attributes:
        name: Of its folder, such as `epoch-0003`.
        files: Their bytes by their names, each of shape (size,).
    """

    name: str
    files: Mapping[str, Bytes]


class Keeper(Protocol):
    """Who writes into the run folder for trials that do not see it."""

    def fetch(self, trial_id: str) -> Carried | None:
        """The newest whole checkpoint of a trial, if there is one."""

    def store(self, trial_id: str, checkpoint: Carried) -> None:
        """Keeps a checkpoint, durably; older ones of the trial go."""

    def log(self, trial_id: str, lines: bytes) -> None:
        """Adds lines to the trial's log."""


def packed(folder: Path) -> Carried | None:
    """The newest whole checkpoint in a trial's folder; None where there is none."""
    checkpoint = latest_checkpoint(folder)
    if checkpoint is None:
        return None
    files = {path.name: np.fromfile(path, np.uint8) for path in sorted(checkpoint.iterdir())}
    return Carried(checkpoint.name, {name: content for name, content in files.items() if name in CHECKPOINT_FILES})


def unpacked(carried: Carried, folder: Path) -> Path:
    """Writes a checkpoint into a trial's folder, whole or not at all, and removes older ones; gives its folder.

    Raises:
        CheckpointError: If it came torn, holds files that no checkpoint has, or cannot be written.
    """
    check_name(carried.name, "a checkpoint")
    foreign = set(carried.files) - set(CHECKPOINT_FILES)
    final = folder / carried.name
    temporary = folder / f".{carried.name}.{os.getpid()}.carried.tmp"
    try:
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir(parents=True)
        for name, content in carried.files.items() if not foreign else ():
            with (temporary / name).open("wb") as file:
                content.tofile(file)
                file.flush()
                os.fsync(file.fileno())
        if foreign or not is_whole(temporary):
            raise CheckpointError(
                f"the checkpoint {carried.name} came torn from another machine; run the command again"
            )
        if not remove_own(final, CHECKPOINT_FILES):
            raise CheckpointError(f"{final} holds files that this project did not write: move them away and resume")
        temporary.rename(final)
    except OSError as error:
        raise CheckpointError(f"cannot write the checkpoint {final}: {error}\nfree space there and resume") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    for other in folder.iterdir():
        if other != final and other.name.startswith("epoch-"):
            remove_own(other, CHECKPOINT_FILES)
    return final
