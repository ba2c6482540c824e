"""What a tracker is: the sweep as it sees it, and what it is told. `TRACKERS` names those that there are.

A tracker is one class in one module. It is told what happens by a thread of its own (`sweep.tracking.follower`), in the
order of the journal, and again from the beginning when the sweep is resumed. So it may be slow and it may fail, and it
has to know by itself what it holds already.
"""

from __future__ import annotations

import hashlib
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from sweep.journal import Event
from sweep.verdict import Verdict, named
from trainables.config import TrialConfig
from trainables.errors import UsageError
from trainables.redact import redacted
from trainables.registry import Registry
from trainables.run_folder import TABLES_FOLDER

if TYPE_CHECKING:
    import pandas as pd

Warn = Callable[[str], None]
TABLES = ("comparison", "pareto", "per_class", "iou_thresholds", "cost")
"""Tables of a report that trackers show."""


@dataclass(frozen=True)
class TrackedSweep:
    """A sweep as its trackers see it.

    Attributes:
        run_dir: Its run folder, absolute.
        name: Groups its trials.
        created: Tells sweeps of the same name apart.
        project: What sweeps are kept under where a tracker has projects.
    """

    run_dir: Path
    name: str
    created: str
    project: str

    def identity(self, name: str) -> str:
        """12 hexadecimal digits that stand for a trial, or something else of this sweep, and for nothing else."""
        return hashlib.sha256(f"{self.name} {self.created} {name}".encode()).hexdigest()[:12]


class Tracker(ABC):
    """Where the trials of a sweep can be followed. Made in the driver, called from one other thread.

    Args:
        sweep: What is followed.
        place: Where to, as `checked` returned it.
        warn: Shows the user one line.
    """

    title: ClassVar[str]
    """Its name for people."""
    later: ClassVar[str]
    """What can still be done about trials that it has not been told, with `{command}` for ours."""

    def __init__(self, sweep: TrackedSweep, place: str, *, warn: Warn) -> None:
        self.sweep = sweep
        self.place = place
        self.warn = warn

    @classmethod
    def checked(cls, place: str) -> str:
        """The place as the manifest keeps it, made sure of before a sweep begins; nothing is opened.

        Args:
            place: What stands behind the name in `--track NAME=PLACE`; empty without it.

        Raises:
            UsageError: If it can be no place, or a package is missing.
        """
        if place:
            raise UsageError(f"--track: {cls.title} takes no place, and {place!r} was given")
        return place

    @abstractmethod
    def begin(self, trial: Event) -> bool:
        """A trial begins, or is told again.

        Args:
            trial: The journal's event `suggested`.

        Returns:
            False if it is there already, to its end: nothing more is told of it then.
        """

    @abstractmethod
    def log(self, trial_id: str, result: Event) -> None:
        """An epoch of a trial has ended.

        Args:
            trial_id: Of the trial, which has begun.
            result: The journal's event `result`; of a trial that continues another one also those of its parent.
        """

    @abstractmethod
    def end(self, ended: Event) -> None:
        """A trial has ended, for the reason that the journal's event `ended` has."""

    @abstractmethod
    def report(self, folder: Path, verdict: Event | None) -> None:
        """A report was written.

        Args:
            folder: Of its page and tables.
            verdict: The journal's event; None without fresh seeds.
        """

    @abstractmethod
    def close(self) -> None:
        """Nothing more is told; trials that have begun may go on another time."""

    def step_down(self, error: Exception) -> str:
        """Goes over to another way of keeping trials, after a failure, and says which; empty where there is none.

        Trials that have begun and not ended begin again then.
        """
        return ""


TRACKERS: Registry[type[Tracker]] = Registry(
    "tracker", modules=("sweep.tracking.wandb_runs", "sweep.tracking.tensorboard", "sweep.tracking.mlflow_runs")
)
"""Classes of trackers."""
OF_ITS_OWN = "wandb"
"""The tracker that has flags of its own: it was there before `--track`, and a project is called after it."""


def described(trial: Event) -> dict[str, Any]:
    """What a tracker shows of a trial's configuration: its flat keys, and what is read off them."""
    policy = TrialConfig.from_flat(trial["config"]).augment.describe()
    return {**trial["config"], "policy": policy, "label": trial["label"], "phase": trial["phase"]}


def numbers(result: Event) -> dict[str, float]:
    """The metrics of an epoch that are numbers, and its seconds."""
    found = {"seconds": result["seconds"], **result["metrics"]}
    return {name: float(value) for name, value in found.items() if isinstance(value, int | float)}


def verdict_summary(event: Event | None) -> dict[str, Any]:
    """What is shown of a verdict beside the report; a candidate where there is none."""
    if event is None:
        return {"evidence": "candidate: one seed, chosen on val"}
    verdict = Verdict.from_json(event)
    leading = verdict.leading
    measured = {name: getattr(leading, name) for name in ("difference", "low", "high", "chance", "detectable", "seeds")}
    told = {"outcome": verdict.outcome.value, "configuration": named(verdict.of(leading.name)), "split": verdict.split}
    return {"evidence": "fresh seeds", **{f"verdict/{name}": value for name, value in {**told, **measured}.items()}}


def tables_of(folder: Path) -> dict[str, pd.DataFrame]:
    """Those of `TABLES` that a report has with rows in them, by name; with one objective there is no Pareto set.

    Args:
        folder: Of the report.
    """
    import pandas as pd

    paths = {name: folder / TABLES_FOLDER / f"{name}.csv" for name in TABLES}
    frames = {name: pd.read_csv(path) for name, path in paths.items() if path.is_file()}
    return {name: frame for name, frame in frames.items() if len(frame)}


def plain_name(name: str) -> str:
    """A metric's name in letters that every tracker takes: `val/iou[traffic light]` is `val/iou/traffic_light`.

    Example:
        >>> plain_name("val/iou[traffic light]")
        'val/iou/traffic_light'
    """
    return re.sub(r"[^\w./-]", "_", re.sub(r"\[(.*)\]", r"/\1", name))


def first_line(error: Exception) -> str:
    """What an error says first, without secrets."""
    return redacted((str(error).strip().splitlines() or [type(error).__name__])[0])


class Written:
    """A list, in a file, of what is written to its end; a resumed sweep leaves that out.

    Args:
        path: Of the file, one name a line.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            self._names = set(path.read_text(encoding="ascii").split())
        except (OSError, ValueError):
            self._names = set()

    def __contains__(self, name: object) -> bool:
        return name in self._names

    def add(self, name: str) -> None:
        """Notes one more."""
        self._names.add(name)
        with self._path.open("a", encoding="ascii") as file:
            file.write(f"{name}\n")


def chosen(wandb: str, others: Mapping[str, str]) -> dict[str, str]:
    """The place of each tracker that a sweep is followed by, by name."""
    return {**({} if wandb == "disabled" else {OF_ITS_OWN: wandb}), **others}
