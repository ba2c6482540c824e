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

from sweep.journal import JOURNAL_FILE, Journal
from sweep.manifest import SweepManifest
from sweep.objectives import recorded_objectives
from sweep.refitted import PROVENANCE
from sweep.refitting import Refit
from sweep.trials import TrialTable, TrialView
from sweep.verify import open_data, open_run, trial_data
from trainables import plugins
from trainables.data.flags import add_run_flags
from trainables.errors import UsageError
from trainables.flags import command_parser
from trainables.guarded import guarded
from trainables.labels import BEST
from trainables.run_folder import REFIT


def parser() -> argparse.ArgumentParser:
    """The flags."""
    flags = command_parser(
        "sweep.refit",
        "Train the winner of a sweep again on train and val together. The model is in RUN/refit/; it is "
        "measured on nothing, for the test split stays sealed.",
        epilog="Interrupted, the same command goes on. Exit codes: 0 done, 1 failed, 2 bad usage, 130 interrupted.",
    )
    add_run_flags(flags)
    flags.add_argument("--label", default=BEST, metavar="LABEL", help=f"which label (default: {BEST})")
    return flags


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; returns its exit code."""
    asked = parser().parse_args(arguments)
    console = Console(highlight=False)
    return guarded(lambda: _run(asked, console), interrupted="interrupted; the same command goes on")


def _run(asked: argparse.Namespace, console: Console) -> int:
    run_dir: Path = asked.run
    manifest = open_run(run_dir)
    plugins.load_recorded(manifest.plugins, asked.plugins, run=run_dir)
    with Journal(run_dir / JOURNAL_FILE) as journal:
        trial = _labelled(journal, asked.label, manifest)
        with console.status("comparing the data with what the sweep began with"):
            data = open_data(run_dir, manifest, root=asked.data_root)
        _refit(Refit.make(run_dir, trial, manifest, trial_data(run_dir, data, manifest)), journal, console)
    return 0


def _labelled(journal: Journal, label: str, manifest: SweepManifest) -> TrialView:
    labels = TrialTable.of(journal.read()).labels(*recorded_objectives(manifest))
    if label not in labels:
        raise UsageError(f"the run has no label {label!r} at full budget; it has {', '.join(labels) or 'none'}")
    return labels[label]


def _refit(refit: Refit, journal: Journal, console: Console) -> None:
    """Trains to the end, or goes on where it was interrupted, and publishes the model."""
    of = refit.of
    console.print(f"{of.label} ({of.trial_id}) on {refit.images} images: train and val", soft_wrap=True)
    if 0 < (before := refit.trained()) < refit.epochs:
        console.print(f"goes on after epoch {before}")
    for entry in refit.training.run():
        loss = entry["metrics"]["train/loss"]
        console.print(f"epoch {entry['epoch']}/{refit.epochs}  loss {loss:.4f}  {entry['seconds']:.1f} s")
    refit.publish(journal)
    console.print(f"model: {refit.run_dir / REFIT}", markup=False, soft_wrap=True)
    console.print(PROVENANCE.format(of=of.trial_id), soft_wrap=True)


if __name__ == "__main__":
    sys.exit(main())
