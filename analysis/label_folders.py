"""Where the checkpoints that a report evaluates are: those of the labels, and of further configurations."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from analysis.candidates import configurations
from sweep.manifest import SweepManifest
from sweep.objectives import recorded_objective
from sweep.phase_kinds import kind_of
from sweep.verify import published
from trainables import commands
from trainables.checkpoint import CHECKPOINTS, TRIAL_FILE, latest_checkpoint, load_trial, publish
from trainables.errors import CheckpointError
from trainables.labels import in_order
from trainables.paths import within
from trainables.run_folder import BEST_MODELS, REPORT


def label_folders(run_dir: Path) -> dict[str, Path]:
    """The checkpoint folder of each label: baseline first, then best, then the others by name."""
    found = {path.parent.name: path.parent for path in (run_dir / BEST_MODELS).glob(f"*/{TRIAL_FILE}")}
    told = published(run_dir)
    if told is not None:  # other folders there are not the sweep's
        found = {label: folder for label, folder in found.items() if label in told}
    if not found:
        raise CheckpointError(
            f"{run_dir / BEST_MODELS} holds no checkpoint: no trial was trained to its full budget\n"
            f"finish the sweep first: {commands.resume(run_dir)}"
        )
    return {label: found[label] for label in in_order(sorted(found))}


def top_folders(
    run_dir: Path, manifest: SweepManifest, trials: pd.DataFrame, folders: Mapping[str, Path], count: int
) -> tuple[dict[str, Path], list[str]]:
    """Folders of the best configurations on val that no label holds, and what could not be added.

    A configuration ranks by its mean over its seeds, and its first trial at full budget represents it.
    """
    if count == 0:
        return {}, []
    trials = trials.assign(configuration=configurations(trials))
    held = {load_trial(folder).trial_id for folder in folders.values()}
    shown = set(trials.loc[trials["trial_id"].isin(held), "configuration"])
    may_be_best = trials["phase"].map(lambda phase: kind_of(phase).may_be_best)
    complete = trials[(trials["state"] == "completed") & trials[manifest.objective].notna() & may_be_best]
    others = complete[~complete["configuration"].isin(shown)].groupby("configuration", sort=False)
    ranked = others.agg(trial_id=("trial_id", "first"), score=(manifest.objective, "mean"))
    lowest_first = recorded_objective(manifest).metric.direction == "min"
    ranked = ranked.sort_values("score", ascending=lowest_first, kind="stable")
    added: dict[str, Path] = {}
    for trial_id in ranked["trial_id"]:
        checkpoint = latest_checkpoint(within(run_dir, CHECKPOINTS, trial_id))
        if checkpoint is None or len(added) == count:
            continue
        label = f"trial-{trial_id}"
        folder = within(run_dir, REPORT, "checkpoints", label)
        publish(checkpoint, folder, label=label)
        added[label] = folder
    missing = count - len(added)
    note = (
        f"{missing} of the {count} best configurations asked for could not be added: no other that was trained to full "
        "budget has a whole checkpoint"
    )
    return added, [note] if missing else []
