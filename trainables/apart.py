"""Training in a process of its own, which tells its epochs and ends with the one that started it.

What it does to the memory ends with it, and a training that does not fit ends it and not its parent.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import queue
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from trainables import commands, plugins
from trainables.allocator import keep_freed_memory
from trainables.data import DATASETS
from trainables.errors import MachineError, SegsweepError
from trainables.execution import Execution, TrialData
from trainables.machine_faults import machine_fault

_MACHINE = 75
"""Exit code of a training that the machine failed (`EX_TEMPFAIL` of sysexits.h: try again later)."""
TICK_SECONDS = 1.0
"""How often a parent that waits for an epoch hears that there is none yet."""


@dataclass(frozen=True)
class Training:
    """One configuration on some images.

    Attributes:
        config: Flat configuration.
        data: What it sees.
        root: Where the data set was opened; None for an embedded one.
        folder: Of its checkpoints.
        name: Of the trial in them.
        execution: How it is trained.
    """

    config: Mapping[str, Any]
    data: TrialData
    root: str | None
    folder: Path
    name: str
    execution: Execution

    def run(self) -> Iterator[dict[str, Any]]:
        """Trains to the end, or goes on after the last checkpoint, in this process.

        Returns:
            Each epoch as `trainables.trial.Trial.run_epoch` tells it, once its checkpoint is written.

        Raises:
            SegsweepError: If it cannot be trained, or the checkpoint is of another configuration or other images.
        """
        from trainables.checkpoint import latest_checkpoint
        from trainables.config import TrialConfig
        from trainables.trial import Trial

        config = TrialConfig.from_flat(self.config)
        before = latest_checkpoint(self.folder)
        if before is not None and before.name == f"epoch-{config.epochs:04d}":
            return
        with contextlib.closing(Trial(config, self.data, trial_id=self.name, execution=self.execution)) as trial:
            if before is not None:
                trial.restore(before)
            while not trial.done:
                entry = trial.run_epoch()
                trial.save(self.folder)
                yield entry

    def to_json(self) -> str:
        """One line."""
        content = {
            "config": dict(self.config),
            "data": {"name": self.data.data.name, "root": self.root},
            "train": self.data.train,
            "val": self.data.val,
            "folder": str(self.folder.absolute()),
            "name": self.name,
            "execution": dataclasses.asdict(self.execution),
        }
        return json.dumps(content)

    @classmethod
    def from_json(cls, line: str) -> Training:
        """From `to_json`; opens the data set.

        Raises:
            SegsweepError: If there is none.
        """
        content = json.loads(line)
        name, root = content["data"]["name"], content["data"]["root"]
        data = DATASETS.get(name)(root=None if root is None else Path(root))
        seen = TrialData(data, tuple(content["train"]), tuple(content["val"]))
        execution = Execution(**content["execution"])
        return cls(content["config"], seen, root, Path(content["folder"]), content["name"], execution)


class Process:
    """A training in another process, as its parent sees it."""

    def __init__(self, process: subprocess.Popen[str], errors: IO[str]) -> None:
        self._process, self._errors = process, errors
        self._lines: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        for line in self._process.stdout or ():
            self._lines.put(line)
        self._lines.put(None)

    def epochs(self) -> Iterator[dict[str, Any] | None]:
        """Its epochs until it ends: `epoch`, `seconds`, `metrics`; None about every second while there is none."""
        while True:
            try:
                line = self._lines.get(timeout=TICK_SECONDS)
            except queue.Empty:
                yield None
                continue
            if line is None:
                return
            yield json.loads(line)

    def fault(self) -> str:
        """Why it failed, in one line, once it has ended; empty if it came to its end.

        Raises:
            MachineError: If the machine failed.
        """
        code = self._process.wait()
        if code == 0:
            return ""
        if code < 0:
            return f"its process was ended by signal {-code}: most likely it ran out of memory"
        self._errors.seek(0)
        told = self._errors.read().strip().splitlines()
        reason = told[-1] if told else f"its process ended with exit code {code}"
        if code == _MACHINE:
            raise MachineError(reason)
        return reason


@contextlib.contextmanager
def started(training: Training) -> Iterator[Process]:
    """A process that trains, or goes on; it does not outlive the block, nor this process.

    Raises:
        KeyboardInterrupt: In the block, on SIGTERM as on SIGINT.
    """

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    command = commands.subprocess_command("trainables.apart", *plugins.flags())
    with tempfile.TemporaryFile("w+", errors="replace") as errors:
        before = signal.signal(signal.SIGTERM, interrupt)
        try:
            with subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, text=True
            ) as process:
                try:
                    if process.stdin is not None:
                        process.stdin.write(training.to_json() + "\n")
                        process.stdin.flush()
                    yield Process(process, errors)
                finally:
                    process.kill()
        finally:
            signal.signal(signal.SIGTERM, before)


def end_with_parent() -> None:
    """Ends this process when its standard input is closed: when the process that writes to it has ended."""

    def wait() -> None:
        while os.read(0, 4096):
            pass
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()


def main() -> int:
    """Trains what a line of the standard input asks for; prints one line of JSON per epoch."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the parent too, which ends this process
    line = sys.stdin.readline()
    end_with_parent()
    keep_freed_memory()
    places: list[Path] = []
    try:
        plugins.load_given(sys.argv[1:])
        training = Training.from_json(line)
        places = [training.data.data.root, training.folder]
        for entry in training.run():
            print(json.dumps(entry), flush=True)
    except Exception as error:
        if fault := machine_fault(error, places):
            print(" ".join(fault.split()), file=sys.stderr)
            return _MACHINE
        if not isinstance(error, SegsweepError):
            raise
        print(" ".join(str(error).split()), file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
