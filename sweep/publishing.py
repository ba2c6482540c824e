"""The models of a run in `best/LABEL`: copied from the checkpoints of the trials that represent the labels."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from sweep.conductor import Conductor
from sweep.manifest import SweepManifest
from sweep.verify import published_event, published_labels
from trainables import commands
from trainables.checkpoint import (
    CHECKPOINTS,
    MODEL_FILE,
    MODEL_FILES,
    file_sha256,
    latest_checkpoint,
    publish,
    read_record,
)
from trainables.errors import SegsweepError
from trainables.paths import consists_of, remove_own, within
from trainables.run_folder import BEST_MODELS


def source_of(manifest: SweepManifest) -> dict[str, Any]:
    """Where the images of a model came from: what `trainables.record.TrialRecord.data` holds."""
    record = manifest.data
    splits = {"train": record.splits.train.hash, "val": record.splits.val.hash}
    how = {"ids": list(record.ids)} if record.ids else {}
    depth = {} if record.image_bits is None else {"image_bits": record.image_bits}
    bands = {} if record.bands is None else {"bands": record.bands.to_json()}
    return {"name": record.name, "root": record.root, "splits": splits, **how, **depth, **bands}


def publish_labels(
    run_dir: Path, manifest: SweepManifest, conductor: Conductor, *, warn: Callable[[str], None] = lambda text: None
) -> None:
    """Copies the model of every label to `best/LABEL`, and removes those of labels that no longer exist.

    A model that was published before, and is as it was then, needs no checkpoint.

    Args:
        run_dir: The run.
        manifest: Of the run.
        conductor: Of the sweep, whose trials have ended.
        warn: Told of each checkpoint that is gone or was altered, while its published model is whole.

    Raises:
        SegsweepError: If a label's checkpoint is gone or was altered, and its model was not published before.
    """
    labels = conductor.labels()
    before = published_labels(conductor.journal.others) or {}
    folders = {label: within(run_dir, BEST_MODELS, label) for label in labels}
    for label, trial in labels.items():
        checkpoint = latest_checkpoint(within(run_dir, CHECKPOINTS, trial.trial_id))
        told = before.get(label, {})
        altered = checkpoint is None or told.get(MODEL_FILE) != read_record(checkpoint).sha256
        if altered and told.get("trial_id") == trial.trial_id and _is_as_published(folders[label], told):
            place = run_dir / CHECKPOINTS / trial.trial_id
            warn(f"{place} is gone or was altered after training; the model of {label} in {folders[label]} is whole")
            continue
        if checkpoint is None:
            raise SegsweepError(
                f"{run_dir / CHECKPOINTS / trial.trial_id} holds no whole checkpoint of {label}: it was "
                "deleted or altered after training; restore it from a backup, then\n"
                f"  {commands.resume(run_dir)}"
            )
        if told.get("trial_id") == trial.trial_id and told[MODEL_FILE] != read_record(checkpoint).sha256:
            raise SegsweepError(
                f"{checkpoint} does not hold the model that was published from it before: it was altered after "
                "training; restore it from a backup"
            )
        publish(checkpoint, folders[label], label=label, data=source_of(manifest))
    best = run_dir / BEST_MODELS
    for stale in [entry for entry in best.iterdir() if entry.name not in labels] if best.is_dir() else []:
        if consists_of(stale, MODEL_FILES) and any(stale.iterdir()):
            remove_own(stale, MODEL_FILES)
    told_now = published_event(folders)
    conductor.on_publish({label: {"trial_id": labels[label].trial_id, **told_now[label]} for label in labels})


def _is_as_published(folder: Path, told: Mapping[str, str]) -> bool:
    return all((folder / name).is_file() and file_sha256(folder / name) == told[name] for name in MODEL_FILES)
