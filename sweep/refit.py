"""`python -m sweep.refit RUN`: trains the winner on train and val together, without Ray.

Val has done its work once the winner is chosen: its images are worth more as images to learn from. What comes out is
measured on nothing, since the test split stays sealed; the scores of the report are those of the model before.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.markup import escape

from sweep.journal import JOURNAL_FILE, Journal
from sweep.manifest import SweepManifest
from sweep.objectives import recorded_objectives
from sweep.trials import TrialTable, TrialView
from sweep.verify import open_data, open_run
from trainables import commands, plugins
from trainables.checkpoint import CHECKPOINTS, latest_checkpoint, publish
from trainables.config import TrialConfig
from trainables.data import SegmentationData
from trainables.data.flags import add_data_root_flag
from trainables.data.reading.names import expanded
from trainables.data.splits.frozen import load_split
from trainables.errors import INTERRUPTED, SegsweepError, UsageError
from trainables.execution import TrialData
from trainables.labels import BEST
from trainables.paths import within
from trainables.run_folder import REFIT
from trainables.trial import Trial


def parser() -> argparse.ArgumentParser:
    """The flags."""
    flags = argparse.ArgumentParser(
        prog=commands.prog("sweep.refit"),
        description="Train the winner of a sweep again on train and val together. The model is in RUN/refit/; it is "
        "measured on nothing, for the test split stays sealed.",
        epilog="Interrupted, the same command goes on. Exit codes: 0 done, 1 failed, 2 bad usage, 130 interrupted.",
    )
    flags.add_argument("run", type=expanded, metavar="RUN", help="folder of the run, such as runs/NAME")
    flags.add_argument("--label", default=BEST, metavar="LABEL", help=f"which label (default: {BEST})")
    add_data_root_flag(flags)
    plugins.add_flag(flags)
    return flags


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; returns its exit code."""
    asked = parser().parse_args(arguments)
    console = Console(highlight=False)
    try:
        return _run(asked, console)
    except SegsweepError as error:
        Console(stderr=True, highlight=False).print(f"[bold red]error[/bold red] {escape(str(error))}", soft_wrap=True)
        return error.exit_code
    except KeyboardInterrupt:
        Console(stderr=True).print("interrupted; the same command goes on")
        return INTERRUPTED


def _run(asked: argparse.Namespace, console: Console) -> int:
    run_dir: Path = asked.run
    manifest = open_run(run_dir)
    plugins.load_recorded(manifest.plugins, asked.plugins, run=run_dir)
    with Journal(run_dir / JOURNAL_FILE) as journal:
        trial = _labelled(journal, asked.label, manifest)
        with console.status("comparing the data with what the sweep began with"):
            data = open_data(run_dir, manifest, root=asked.data_root)
        _refit(run_dir, trial, manifest, data, journal, console)
    return 0


def _labelled(journal: Journal, label: str, manifest: SweepManifest) -> TrialView:
    labels = TrialTable.of(journal.events).labels(*recorded_objectives(manifest))
    if label not in labels:
        raise UsageError(f"the run has no label {label!r} at full budget; it has {', '.join(labels) or 'none'}")
    return labels[label]


def _refit(
    run_dir: Path,
    trial: TrialView,
    manifest: SweepManifest,
    data: SegmentationData,
    journal: Journal,
    console: Console,
) -> None:
    """Trains to the end, or goes on where it was interrupted, and publishes the model."""
    train, val = (load_split(run_dir, name) for name in ("train", "val"))
    name = f"refit-{trial.trial_id}"
    folder = within(run_dir, CHECKPOINTS, name)
    config = TrialConfig.from_flat(trial.config)
    both = TrialData(data, (*train.ids, *val.ids), ())
    again = Trial(config, both, trial_id=name, execution=manifest.execution)
    before = latest_checkpoint(folder)
    console.print(f"{trial.label} ({trial.trial_id}) on {len(both.train)} images: train and val", soft_wrap=True)
    done = before is not None and before.name == f"epoch-{config.epochs:04d}"
    if before is not None and not done:
        again.restore(before)
        console.print(f"goes on after epoch {again.epoch}")
    while not (done or again.done):
        entry = again.run_epoch()
        again.save(folder)
        loss = entry["metrics"]["train/loss"]
        console.print(f"epoch {entry['epoch']}/{config.epochs}  loss {loss:.4f}  {entry['seconds']:.1f} s")
    checkpoint = latest_checkpoint(folder)
    if checkpoint is None:
        raise SegsweepError(f"{folder} lost its checkpoint while training ended; run the command again")
    record = manifest.data
    source = {
        "name": record.name,
        "root": record.root,
        "splits": {"train": record.splits.train.hash, "val": record.splits.val.hash},
        "refit": {"of": trial.trial_id, "trained_on": ["train", "val"]},
    }
    made = publish(checkpoint, within(run_dir, REFIT), label=REFIT, data=source)
    told = {"trial_id": name, "of": trial.trial_id, "epochs": made.epochs, "sha256": made.sha256}
    if not any({key: event.get(key) for key in told} == told for event in journal.of("refitted")):
        journal.append("refitted", **told)
    console.print(f"model: {run_dir / REFIT}", markup=False, soft_wrap=True)
    console.print(
        "it is measured on nothing: it learnt from val, and the test split stays sealed; the report's scores are those "
        f"of {trial.trial_id}, which learnt from train alone",
        soft_wrap=True,
    )


if __name__ == "__main__":
    sys.exit(main())
