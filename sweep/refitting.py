"""The refit: the winner of a sweep is trained again on train and val together, once its last trial has ended."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from sweep.conductor import Conductor
from sweep.ended_early import halted_text
from sweep.forecast import TimeLimit
from sweep.journal import Journal
from sweep.manifest import SweepManifest
from sweep.publishing import source_of
from sweep.refitted import BY_ERROR, BY_MACHINE, BY_TIME, last_refit, refit_id
from sweep.trials import TrialView
from trainables.apart import Training, started
from trainables.checkpoint import CHECKPOINTS, latest_checkpoint, publish
from trainables.errors import MachineError, SegsweepError
from trainables.execution import TrialData
from trainables.labels import BEST
from trainables.paths import within
from trainables.run_folder import REFIT
from trainables.words import counted


@dataclass(frozen=True)
class Refit:
    """A trial's configuration, to be trained on train and val.

    Attributes:
        run_dir: The run.
        of: The trial.
        manifest: Of the run.
        training: All images of both splits, none of val to measure on.
    """

    run_dir: Path
    of: TrialView
    manifest: SweepManifest
    training: Training

    @classmethod
    def make(cls, run_dir: Path, of: TrialView, manifest: SweepManifest, data: TrialData) -> Refit:
        """From the train and val splits of a sweep.

        Raises:
            UnsafePathError: If the folder of its checkpoints is a link.
        """
        both, name = TrialData(data.data, (*data.train, *data.val), ()), refit_id(of.trial_id)
        folder = within(run_dir, CHECKPOINTS, name)
        training = Training(of.config, both, manifest.data.root, folder, name, manifest.execution)
        return cls(run_dir, of, manifest, training)

    @property
    def images(self) -> int:
        """Of train and val."""
        return len(self.training.data.train)

    @property
    def epochs(self) -> int:
        """Of the whole training."""
        return int(self.of.config["epochs"])

    def trained(self) -> int:
        """Epochs that are there already."""
        checkpoint = latest_checkpoint(self.training.folder)
        return int(checkpoint.name.rpartition("-")[2]) if checkpoint is not None else 0

    def publish(self, journal: Journal) -> None:
        """Copies the trained model to `RUN/refit` and writes that down, unless it was there before.

        Raises:
            SegsweepError: If its last checkpoint is gone, or the model cannot be copied.
        """
        checkpoint = latest_checkpoint(self.training.folder)
        if checkpoint is None:
            folder = self.training.folder
            raise SegsweepError(f"{folder} lost its checkpoint while training ended; run the command again")
        source = {
            **source_of(self.manifest),
            "refit": {"of": self.of.trial_id, "trained_on": ["train", "val"]},
        }
        made = publish(checkpoint, within(self.run_dir, REFIT), label=REFIT, data=source)
        told = {"trial_id": made.trial_id, "of": self.of.trial_id, "epochs": made.epochs, "sha256": made.sha256}
        last = last_refit(journal.others) or {}
        if last.get("event") != "refitted" or {key: last.get(key) for key in told} != told:
            journal.append("refitted", **told, images=self.images)


def refit_winner(
    run_dir: Path,
    manifest: SweepManifest,
    data: TrialData,
    conductor: Conductor,
    console: Console,
    *,
    on_tick: Callable[[], None],
) -> None:
    """Trains the best configuration again on train and val, if the sweep is to and there is time.

    It is the one with the best mean over fresh seeds where there are any, the baseline among them: the model that a
    user takes. What came of it is in the journal: `refit_epoch` for each epoch, then `refitted`, or `refit_over` with
    the reason.

    Args:
        run_dir: The run.
        manifest: Of the run.
        data: Its train and val.
        conductor: Of the sweep, whose trials have ended.
        console: Where to say things.
        on_tick: Called about every second.

    Raises:
        KeyboardInterrupt: On SIGINT and SIGTERM; the epochs that ended are kept, and the same call goes on.
        MachineError: If the machine failed, as full disks do; it is the same then.
    """
    best, journal = conductor.labels().get(BEST), conductor.journal
    if not manifest.budget.refit or best is None or last_refit(journal.others, best.trial_id) is not None:
        return
    refit = Refit.make(run_dir, best, manifest, data)
    over = None
    try:
        if refit.trained() < refit.epochs:
            over = _why_not(refit, conductor) or _train(refit, conductor, console, on_tick)
        if over is None:
            refit.publish(journal)
    except MachineError as error:
        raise MachineError(halted_text(run_dir, f"{refit.training.name}: {error}")) from error
    except SegsweepError as error:
        over = {"by": BY_ERROR, "reason": str(error)}
    if over is not None:
        journal.append("refit_over", of=best.trial_id, **over, spent_s=conductor.elapsed())


Over = Mapping[str, str]
"""Why a refit was given up: fields of the event `refit_over`."""


def _limit(conductor: Conductor) -> TimeLimit | None:
    """What bounds the refit: the time budget, unless seeds were asked for after the sweep."""
    return None if conductor.confirm.was_asked_for else conductor.limit


def _why_not(refit: Refit, conductor: Conductor) -> Over | None:
    """Why it is not begun; None if it can be."""
    if not refit.manifest.execution.is_possible_here:
        device, ranks = refit.manifest.execution.device, refit.manifest.execution.ranks
        many = "none" if ranks == 1 else f"fewer than {ranks}"
        return {"by": BY_MACHINE, "reason": f"the trials ran on {device}, and this machine has {many}"}
    limit = _limit(conductor)
    seconds = conductor.refit_seconds(refit.of, trained=refit.trained())
    if limit is None or limit.fits(seconds):
        return None
    left = max(0, int(limit.left()))
    return {"by": BY_TIME, "reason": f"it would take {math.ceil(seconds)} s, and {left} s are left"}


def _train(refit: Refit, conductor: Conductor, console: Console, on_tick: Callable[[], None]) -> Over | None:
    """Trains in a process of its own until the end, or until it could not end in time; says why it did not."""
    limit, epoch = _limit(conductor), refit.trained()
    took: list[float] = []
    who = f"{refit.of.label} ({refit.of.trial_id})"
    told = f"refit: {who} again on train and val, {counted(refit.images, 'image')}"
    console.print(told + (f", after epoch {epoch}" if epoch else ""), markup=False, highlight=False, soft_wrap=True)
    with console.status(f"epoch {epoch + 1} of {refit.epochs}") as status, started(refit.training) as process:
        for entry in process.epochs():
            on_tick()
            to_go = 0.0
            if entry is not None:
                epoch = entry["epoch"]
                took.append(entry["seconds"])
                to_go = (refit.epochs - epoch) * statistics.fmean(took)
                _note(refit, entry, conductor)
                status.update(f"epoch {min(epoch + 1, refit.epochs)} of {refit.epochs}")
            late = limit.overrun(to_go) if limit is not None else 0.0
            if late > 0 and epoch < refit.epochs:
                reason = f"it would end {math.ceil(late)} s too late; {epoch} of {refit.epochs} epochs are kept"
                return {"by": BY_TIME, "reason": reason}
        fault = process.fault()
    return {"by": BY_ERROR, "reason": fault} if fault else None


def _note(refit: Refit, entry: Mapping[str, object], conductor: Conductor) -> None:
    names = {"trial_id": refit.training.name, "of": refit.of.trial_id}
    conductor.journal.append("refit_epoch", **names, **entry, spent_s=conductor.elapsed())
