"""Where the time of a sweep goes: what its driver does before, between and after the trials, and what its slots do.

    python -m benchmarks.timeline [--slots 2] [--runs DIR] [-- FLAGS OF sweep.run]

Runs a sweep of the embedded images (without flags the one that `python -m sweep.run` makes of nothing) on a terminal of
its own and notes when each of its status lines appears. What its slots did is from its journal, from the first step of
training to the end of the last trial: slot-seconds in epochs (training and validation), between the epochs of a trial
(checkpoint, the result's way to the driver and back), at the start of trials (suggestion to first step) and without a
trial. The share in epochs is the efficiency.
"""

from __future__ import annotations

import argparse
import os
import pty
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise
from pathlib import Path

from sweep.journal import JOURNAL_FILE, Event, read_events

STATUSES = (
    "checking the data",
    "measuring what an epoch costs",
    "decoded cache",
    "starting Ray",
    "writing the report on val",
)
"""What the driver says while it does something, in order."""


@dataclass(frozen=True)
class Slots:
    """Slot-seconds from the first step to the end of the last trial.

    Attributes:
        first: When the first epoch began, in seconds since 1970.
        last: When the last trial ended.
        in_epochs: Training and validation.
        between_epochs: Of trials, from one epoch to the next.
        at_start: Of trials, from the suggestion to the first epoch, but for those before the first step of all.
        in_all: Of all slots.
    """

    first: float
    last: float
    in_epochs: float
    between_epochs: float
    at_start: float
    in_all: float

    @property
    def without_trial(self) -> float:
        """Slots that had no trial."""
        return self.in_all - self.in_epochs - self.between_epochs - self.at_start


def moment(event: Event) -> float:
    """When an event was written, in seconds since 1970."""
    return datetime.fromisoformat(event["time"]).timestamp()


def slots_of(events: Sequence[Event], slots: int) -> Slots:
    """What the slots of a sweep did that was not interrupted."""
    began = {event["trial_id"]: moment(event) for event in events if event["event"] == "suggested"}
    results: dict[str, list[tuple[float, float]]] = {}
    for event in events:
        if event["event"] == "result":
            results.setdefault(event["trial_id"], []).append((moment(event) - event["seconds"], moment(event)))
    first = min(start for epochs in results.values() for start, _ in epochs)
    last = max(moment(event) for event in events if event["event"] == "ended")
    pairs = [(one, other) for epochs in results.values() for one, other in pairwise(epochs)]
    return Slots(
        first=first,
        last=last,
        in_epochs=sum(end - start for epochs in results.values() for start, end in epochs),
        between_epochs=sum(other[0] - one[1] for one, other in pairs),
        at_start=sum(epochs[0][0] - max(first, min(began[trial], epochs[0][0])) for trial, epochs in results.items()),
        in_all=(last - first) * slots,
    )


def watched(command: Sequence[str]) -> tuple[float, float, dict[str, float]]:
    """Runs a command on a terminal of its own.

    Returns:
        When it began and ended, in seconds since 1970, and when each status was first seen.
    """
    master, terminal = pty.openpty()
    began = time.time()
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=terminal, stderr=terminal) as process:
        os.close(terminal)
        seen: dict[str, float] = {}
        text = ""
        while True:
            try:
                part = os.read(master, 65536)
            except OSError:  # the other side is closed
                break
            if not part:
                break
            text += re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", part.decode(errors="replace"))
            for status in STATUSES:
                if status not in seen and status in text:
                    seen[status] = time.time()
    os.close(master)
    if process.returncode:
        raise SystemExit(f"the sweep failed with {process.returncode}:\n{text[-3000:]}")
    return began, time.time(), seen


def show(began: float, ended: float, seen: dict[str, float], events: Sequence[Event], slots: int) -> None:
    """Prints both tables."""
    took = slots_of(events, slots)
    suggested = min(moment(event) for event in events if event["event"] == "suggested")
    marks = [(began, "imports and flags"), *((when, status) for status, when in seen.items())]
    marks += [(suggested, "the first worker starts"), (took.first, "trials"), (took.last, "publishing, Ray ends")]
    marks.sort()
    print(f"{'from, s':>8} {'s':>7}  what")
    for (start, what), (end, _) in zip(marks, [*marks[1:], (ended, "")], strict=True):
        print(f"{start - began:>8.1f} {end - start:>7.1f}  {what}")
    print(f"{ended - began:>8.1f}")
    print(f"\nslot-seconds of {slots} slots, first step to the end of the last trial: {took.in_all:.1f}")
    for name, seconds in (
        ("in epochs: efficiency", took.in_epochs),
        ("between epochs", took.between_epochs),
        ("at the start of trials", took.at_start),
        ("without a trial", took.without_trial),
    ):
        print(f"{seconds:>8.1f} {seconds / took.in_all:>7.3f}  {name}")
    print(f"efficiency of the whole command: {took.in_epochs / ((ended - began) * slots):.3f}")


def main() -> None:
    """Runs a sweep and prints where its time went."""
    flags = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    flags.add_argument("--slots", type=int, default=2, metavar="N")
    flags.add_argument("--runs", type=Path, help="where to keep the run; default: a temporary folder")
    flags.add_argument("further", nargs="*", metavar="FLAG", help="of sweep.run, after --")
    asked = flags.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        runs = asked.runs or Path(temporary)
        command = [
            sys.executable, "-m", "sweep.run", "--concurrent", str(asked.slots), "--wandb", "disabled",
            "--runs-dir", str(runs), "--name", "timeline", *asked.further,
        ]  # fmt: skip
        began, ended, seen = watched(command)
        show(began, ended, seen, read_events(runs / "timeline" / JOURNAL_FILE), asked.slots)


if __name__ == "__main__":
    main()
