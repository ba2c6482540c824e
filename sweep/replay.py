"""`python -m sweep.replay RUN TRIAL`: trains a trial of a sweep again, without Ray, and compares every digit.

On the machine, the packages and the code of the sweep the digits are the same: a trial depends on its configuration,
its seed and the images alone. Elsewhere they differ, and this says by how much and what else is different.
"""

from __future__ import annotations

import argparse
import contextlib
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from sweep.journal import JOURNAL_FILE, read_events
from sweep.manifest import SweepManifest
from sweep.objectives import Objective, recorded_objectives
from sweep.trials import TrialTable, TrialView
from sweep.verify import open_data, open_run, trial_data, version_changes
from trainables import plugins
from trainables.checkpoint import CHECKPOINTS, latest_checkpoint, read_record
from trainables.config import TrialConfig
from trainables.data.flags import add_run_flags
from trainables.errors import UsageError
from trainables.execution import TrialData
from trainables.flags import command_parser
from trainables.guarded import guarded
from trainables.metrics import LATENCY
from trainables.paths import within
from trainables.trial import Trial
from trainables.words import counted


@dataclass(frozen=True)
class Epoch:
    """An epoch of the sweep beside the same one trained again.

    Attributes:
        epoch: Its number, from 1.
        then: Metrics of the sweep.
        now: Metrics of the replay.
    """

    epoch: int
    then: Mapping[str, float]
    now: Mapping[str, float]

    @property
    def differing(self) -> dict[str, float]:
        """Now minus then, of the metrics whose digits differ."""
        return {key: self.now[key] - value for key, value in self.then.items() if self.now.get(key) != value}


@dataclass(frozen=True)
class Replay:
    """A trial trained again.

    Attributes:
        epochs: Each, in order.
        same_weights: Whether the model of the last epoch is the same to the bit; None if the sweep kept none of it.
    """

    epochs: tuple[Epoch, ...]
    same_weights: bool | None

    @property
    def is_equal(self) -> bool:
        """Whether nothing differs."""
        return self.same_weights is not False and not any(one.differing for one in self.epochs)


def history(table: TrialTable, trial: TrialView) -> list[Mapping[str, Any]]:
    """The results of a trial from its first epoch on, those of the trial that it continued first."""
    parent = table.trials.get(trial.parent or "")
    before = history(table, parent) if parent is not None else []
    own: dict[int, Mapping[str, Any]] = {result["epoch"]: result for result in (*before, *trial.results)}
    return [own[epoch] for epoch in sorted(own)]


def replay(
    run_dir: Path, trial: TrialView, results: Sequence[Mapping[str, Any]], data: TrialData, manifest: SweepManifest
) -> Replay:
    """Trains a trial again from its first epoch to the last that the sweep has of it.

    Args:
        run_dir: The run; nothing is written there.
        trial: Of the run.
        results: Its `history`.
        data: Train and val of the run.
        manifest: Of the run.

    Raises:
        SegsweepError: If the trial cannot be trained here.
    """
    with contextlib.closing(
        Trial(TrialConfig.from_flat(trial.config), data, trial_id=trial.trial_id, execution=manifest.execution)
    ) as again:
        epochs = []
        for result in results:
            entry = again.run_epoch()
            measured = {key: value for key, value in result["metrics"].items() if key != LATENCY.name}
            epochs.append(Epoch(result["epoch"], measured, entry["metrics"]))
        kept = latest_checkpoint(within(run_dir, CHECKPOINTS, trial.trial_id))
        if kept is None or read_record(kept).epochs != results[-1]["epoch"]:
            return Replay(tuple(epochs), None)
        with tempfile.TemporaryDirectory() as folder:
            made = again.save(Path(folder))
            return Replay(tuple(epochs), read_record(made).sha256 == read_record(kept).sha256)


def main(arguments: Sequence[str] | None = None) -> int:
    """Replays a trial.

    Returns:
        0 if every digit is the same; 1 if one differs, or it could not be done; 2 bad usage; 130 interrupted.
    """
    asked = parser().parse_args(arguments)
    console = Console(highlight=False)
    return guarded(lambda: _run(asked, console), interrupted="interrupted; nothing was kept")


def parser() -> argparse.ArgumentParser:
    """The flags."""
    flags = command_parser(
        "sweep.replay",
        "Train a trial of a sweep again, without Ray, and compare every digit with what the sweep has.",
        epilog="Exit codes: 0 the same digits, 1 others or failed, 2 bad usage, 130 interrupted.",
    )
    add_run_flags(flags)
    flags.add_argument("trial", metavar="TRIAL", help="its id in trials.csv, such as t003, or a label such as best")
    return flags


def _run(asked: argparse.Namespace, console: Console) -> int:
    run_dir = asked.run
    manifest = open_run(run_dir)
    plugins.load_recorded(manifest.plugins, asked.plugins, run=run_dir)
    table = TrialTable.of(read_events(run_dir / JOURNAL_FILE))
    objectives = recorded_objectives(manifest)
    trial = _find(table, asked.trial, objectives)
    results = history(table, trial)
    if not results:
        raise UsageError(f"{trial.trial_id} reported no epoch: {trial.state} {trial.reason}".rstrip())
    with console.status("comparing the data with what the sweep began with"):
        data = open_data(run_dir, manifest, root=asked.data_root)
    seen = trial_data(run_dir, data, manifest)
    with console.status(f"training {counted(len(results), 'epoch')} of {trial.trial_id} again"):
        found = replay(run_dir, trial, results, seen, manifest)
    _show(console, found, trial, objectives[0], version_changes(manifest))
    return 0 if found.is_equal else 1


def _find(table: TrialTable, name: str, objectives: Sequence[Objective]) -> TrialView:
    labels = table.labels(*objectives)
    trial = table.trials.get(name) or labels.get(name)
    if trial is None:
        raise UsageError(f"the run has no trial {name!r}; it has {', '.join([*table.trials, *labels])}")
    return trial


def _show(
    console: Console, found: Replay, trial: TrialView, objective: Objective, versions: Mapping[str, tuple[str, str]]
) -> None:
    key = objective.key
    shown = Table(box=None, padding=(0, 1), header_style="bold")
    for name in ("epoch", f"{key} then", f"{key} now", "difference", "metrics that differ"):
        shown.add_column(escape(name), justify="right")
    for one in found.epochs:
        then, now = one.then.get(key, float("nan")), one.now.get(key, float("nan"))
        difference = "0" if then == now else f"{now - then:+.2e}"
        shown.add_row(str(one.epoch), objective.show(then), objective.show(now), difference, str(len(one.differing)))
    console.print(shown)
    if found.is_equal:
        weights = ", and so are its weights" if found.same_weights else "; the sweep kept no weights of its last epoch"
        epochs = counted(len(found.epochs), "epoch")
        told = f"every metric of {trial.trial_id} is the same in all digits over {epochs}{weights}"
        console.print(f"[green]equal[/green]: {told}", soft_wrap=True)
        return
    first = next((one for one in found.epochs if one.differing), None)
    if first is None:
        console.print("[red]different[/red]: every metric is the same, but the weights are not")
    else:
        largest = max(abs(value) for one in found.epochs for value in one.differing.values())
        told = f"from epoch {first.epoch} on; the largest difference of any metric is {largest:.2e}"
        console.print(f"[red]different[/red] {told}", soft_wrap=True)
    for name, (before, after) in versions.items():
        console.print(f"  {name} was {before}, and is {after}", markup=False, soft_wrap=True)
    if not versions:
        console.print("  packages and code are those of the sweep: the machine is another, or computes otherwise")


if __name__ == "__main__":
    sys.exit(main())
