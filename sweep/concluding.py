"""What the scores of a run mean, written down when its trials are done: verdict, ablation, trade-off, all on val."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sweep.conductor import Conductor
from sweep.deciding import decide
from sweep.manifest import SweepManifest
from sweep.objectives import SplitObjective, recorded_objective
from sweep.phases.confirm import confirming
from sweep.verdict import Confirmed, Verdict, last_verdict
from trainables.checkpoint import CHECKPOINTS, latest_checkpoint, read_val_counts
from trainables.data.splits.frozen import load_split
from trainables.metrics import Collected, ConfusionsAlone, sampling_units
from trainables.paths import within


def conclude(run_dir: Path, manifest: SweepManifest, conductor: Conductor) -> None:
    """Writes down what fresh seeds showed on val, where there are any, and what the objectives cost one another.

    Where a checkpoint is gone of which a conclusion was drawn before, what was concluded with it stays.
    """
    events = conductor.journal.others
    choice, objective = confirming(events), recorded_objective(manifest)
    if _has_lost_checkpoints(run_dir, conductor):
        return
    if choice is not None or conductor.gives_seeds:
        chosen_from = int(choice["chosen_from"]) if choice is not None else None
        found = conductor.confirmed()
        looks = conductor.looks(found)
        conductor.on_verdict(_decide(run_dir, found, objective, chosen_from=chosen_from, looks=looks))
    if choice is not None:
        picked = (int(choice["chosen_from"]), len(choice["trials"]) - 1)
        conductor.on_ablation(_decide(run_dir, conductor.ablated(), objective, chosen_from=None, picked=picked))
    conductor.on_trade_off(conductor.trade_off())


def _has_lost_checkpoints(run_dir: Path, conductor: Conductor) -> bool:
    """Whether a conclusion was drawn before of which a checkpoint is gone now."""
    events = conductor.journal.others
    trials = {trial for one in (*conductor.confirmed(), *conductor.ablated()) for trial in one.trials}
    told = last_verdict(events) or last_verdict(events, "ablation")
    known = {trial for one in told.configurations for trial in one.trials} if told is not None else set()
    return any(latest_checkpoint(within(run_dir, CHECKPOINTS, trial)) is None for trial in trials & known)


def _decide(
    run_dir: Path, configurations: Sequence[Confirmed], objective: SplitObjective, **design: Any
) -> Verdict | None:
    """`sweep.deciding.decide` on val, with what the trials' checkpoints kept of each image."""
    if not configurations:
        return None

    def collected(trial_id: str) -> Collected | None:
        checkpoint = latest_checkpoint(within(run_dir, CHECKPOINTS, trial_id))
        counts = None if checkpoint is None else read_val_counts(checkpoint)
        return None if counts is None else ConfusionsAlone(counts)

    units = sampling_units(load_split(run_dir, "val").groups)
    return decide(configurations, objective, split="val", collected=collected, units=units, **design)
