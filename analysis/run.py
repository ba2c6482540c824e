"""A run for Python: its trials, its verdict, its models and its report, read from the files of its folder."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from sweep.journal import JOURNAL_FILE, read_events
from sweep.manifest import SweepManifest
from sweep.status import WORK, Status, read_status
from sweep.verdict import Verdict, last_verdict
from trainables.child import run_command
from trainables.errors import DataError
from trainables.labels import BEST, in_order
from trainables.paths import within
from trainables.run_folder import BEST_MODELS, MANIFEST_FILE, REPORT_FILE, report_folder

if TYPE_CHECKING:
    import pandas as pd

    from analysis.model import TrainedModel
    from trainables.record import TrialRecord


@dataclass(frozen=True)
class Label:
    """A published model of a run.

    Attributes:
        name: `best`, `baseline`, a policy, a loss or a model.
        folder: `RUN/best/NAME`.
    """

    name: str
    folder: Path

    @property
    def record(self) -> TrialRecord:
        """Its `trial.json`: configuration, classes, scores on val.

        Raises:
            CheckpointError: If it is damaged.
        """
        from trainables.checkpoint import load_trial

        return load_trial(self.folder)

    def load_model(self) -> TrainedModel:
        """The trained model, on the CPU in evaluation mode, as `analysis.load_model` gives it.

        Raises:
            CheckpointError: If the weights are not those that its `trial.json` names.
            DataError: If the files of the run are not those that it wrote.
        """
        from analysis.model import load_model

        return load_model(self.folder)


@dataclass(frozen=True)
class Run:
    """A run that is there, finished or not. Everything is read anew when it is asked for.

    Attributes:
        folder: Of the run.
    """

    folder: Path

    @property
    def manifest(self) -> SweepManifest:
        """What the sweep was: data, space, budget, versions."""
        return SweepManifest.load(self.folder)

    @property
    def trials(self) -> pd.DataFrame:
        """`trials.csv`, one row per trial; while the sweep runs up to five seconds old.

        Raises:
            DataError: If it is not there yet, or damaged.
        """
        from analysis.load import load_trials

        return load_trials(self.folder)

    @property
    def verdict(self) -> Verdict | None:
        """What fresh seeds showed on val; None while there are none.

        Raises:
            DataError: If the journal was altered.
        """
        return last_verdict(read_events(within(self.folder, JOURNAL_FILE)))

    @property
    def labels(self) -> dict[str, Label]:
        """The published models by label, `baseline` and `best` first; empty until the last trial has ended."""
        folder = within(self.folder, BEST_MODELS)
        there = [path.name for path in sorted(folder.iterdir()) if path.is_dir()] if folder.is_dir() else []
        return {name: Label(name, within(folder, name)) for name in in_order(there)}

    @property
    def best(self) -> Label:
        """The winner.

        Raises:
            DataError: If nothing has been published yet.
        """
        labels = self.labels
        if BEST not in labels:
            raise DataError(f"{self.folder} has published no model yet: it does when its last trial has ended")
        return labels[BEST]

    def load_model(self) -> TrainedModel:
        """The model that the run gives to its user: the winner trained on train and val together, else `best`.

        Raises:
            CheckpointError: If the weights are not those that its `trial.json` names.
            DataError: If the files of the run are not those that it wrote.
        """
        from analysis.model import load_model

        return load_model(self.folder)

    def _worked(self) -> float:
        """When something of the sweep was done last that a report tells, in seconds since the epoch; 0 if nothing."""
        events = read_events(within(self.folder, JOURNAL_FILE))
        times = [event["time"] for event in events if event["event"] in WORK]
        return datetime.fromisoformat(times[-1]).timestamp() if times else 0.0

    def status(self) -> Status:
        """Where the sweep stands, as `python -m sweep.status` says it."""
        return read_status(self.folder)

    def report(self, split: Literal["val", "test"] = "val", *, progress: bool = True) -> Path:
        """The page of the report on a split; written if there is none yet, or only one from before the last trial.

        Writing one on test evaluates checkpoints on the test split, and that is written down.

        Args:
            split: On which images.
            progress: Whether to show how far it is.

        Raises:
            SegsweepError: If it cannot be written, with the cure.
        """
        page = report_folder(self.folder, split) / REPORT_FILE
        if not page.is_file() or page.stat().st_mtime < self._worked():
            run_command("analysis.report", [str(self.folder), "--split", split], progress=progress)
        return page


def load_run(place: Path | str) -> Run:
    """A run by its folder, finished or still running.

    Args:
        place: Such as `runs/NAME`.

    Raises:
        DataError: If it is no run folder.

    Example:
        >>> from segsweep import load_run
        >>> run = load_run("runs/small")
        >>> list(run.labels)
        ['baseline', 'best', 'flip']
        >>> run.trials[["trial_id", "state"]].values.tolist()[0]
        ['0000', 'completed']
        >>> run.best.load_model().size
        (32, 48)
    """
    folder = Path(place).expanduser()
    if not (folder / MANIFEST_FILE).is_file():
        SweepManifest.load(folder)
    return Run(folder)
