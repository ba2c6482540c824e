"""Checkpoints on a split, each evaluated once: the one place that opens the test split."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from analysis.kept import Evaluation, NewEvaluation, OnStep, inputs_of, key_of_weights, load_evaluation, place_of
from trainables.checkpoint import TRIAL_FILE, load_trial, rebuild_model
from trainables.config import format_size
from trainables.data.base import SegmentationData
from trainables.data.cache.decoded import class_pixels
from trainables.data.cache.scan import scan
from trainables.data.splits.frozen import Split, split_hash
from trainables.data.splits.openings import record_opening
from trainables.errors import DataError, DivergedError
from trainables.labels import MAJORITY
from trainables.latency import measure_latency
from trainables.loaders import evaluation_loader
from trainables.loops import evaluate
from trainables.record import TrialRecord
from trainables.words import some_of


def evaluate_checkpoints(
    run_dir: Path,
    folders: Mapping[str, Path],
    data: SegmentationData,
    split: Split,
    *,
    device: str = "cpu",
    workers: int = 0,
    progress: OnStep | None = None,
) -> dict[str, Evaluation]:
    """Evaluates the checkpoints of labels on a split, each trial once; what is kept and valid is only read.

    If the split is test and no line of the list says that a checkpoint among them was evaluated on it, that is an
    opening, and it is written down before the first image is looked at.

    Args:
        run_dir: The run.
        folders: `best/LABEL` folder of each label.
        data: The data set.
        split: Where to evaluate.
        device: `cpu` or `cuda`.
        workers: Loader processes.
        progress: Called with how far it is.

    Returns:
        Evaluation of each trial id.

    Raises:
        CheckpointError: If a checkpoint is missing or damaged.
        DataError: If the data set's files are no longer those of the split, or its classes not those of the model.
        DivergedError: If a model's outputs are not finite.
    """
    records = {label: load_trial(folder) for label, folder in folders.items()}
    for label, record in records.items():
        if record.trial_id == MAJORITY:
            raise DataError(f"{folders[label] / TRIAL_FILE}: {MAJORITY} is not a trial id, it names the floor")
        _check_classes(folders[label], record, data)
    kept: dict[str, Evaluation] = {}
    missing: dict[str, str] = {}
    for label, record in records.items():
        if record.trial_id in kept or record.trial_id in missing:
            continue
        evaluation = load_evaluation(place_of(run_dir, split, record.trial_id), _key_of(record, split))
        if evaluation is None:
            missing[record.trial_id] = label
        else:
            kept[record.trial_id] = evaluation
    if missing:
        _check_files(data, split)
    if split.name == "test":
        for label in missing.values():
            rebuild_model(folders[label])  # what cannot be rebuilt is refused before anything is opened
        record_opening(run_dir, split, records)
    for trial_id, label in missing.items():
        place = place_of(run_dir, split, trial_id)
        kept[trial_id] = _evaluate_model(folders[label], data, split, place, device, workers, progress)
    return {trial_id: kept[trial_id] for trial_id in dict.fromkeys(record.trial_id for record in records.values())}


def evaluate_majority(
    run_dir: Path, data: SegmentationData, split: Split, train_ids: Sequence[str], *, progress: OnStep | None = None
) -> Evaluation:
    """Evaluates the floor: every pixel predicted as the commonest class of train, scores as the classes' shares there.

    It has no parameters to choose by, so evaluating it on test is not an opening.
    """
    counts = class_pixels(data, train_ids)
    digest = hashlib.sha256(json.dumps(counts.tolist()).encode()).hexdigest()
    key = key_of_weights(digest, "constant", split)
    folder = place_of(run_dir, split, MAJORITY)
    kept = load_evaluation(folder, key)
    if kept is not None:
        return kept
    _check_files(data, split)
    scores = torch.from_numpy(np.log(np.maximum(counts, 1) / counts.sum())).float()
    winner = int(counts.argmax())
    with NewEvaluation(folder, len(data.classes), MAJORITY, split, progress) as new:
        for image_id in split.ids:
            target = torch.from_numpy(data.mask(image_id).astype(np.int64))
            new.process(
                image_id, scores[:, None, None].expand(-1, *target.shape), torch.full_like(target, winner), target
            )
        return new.keep(key, {"ms": None})


def _evaluate_model(
    checkpoint: Path,
    data: SegmentationData,
    split: Split,
    folder: Path,
    device: str,
    workers: int,
    progress: OnStep | None,
) -> Evaluation:
    # Loaded here, so that one model is in memory at a time.
    model, record = rebuild_model(checkpoint)
    size = record.config.image_size
    model = model.to(device)
    loader = evaluation_loader(
        data,
        split.ids,
        size=size,
        batch_size=record.config.batch_size,
        resize=record.config.resize,
        normalisation=record.normalisation,
        workers=workers,
    )
    with NewEvaluation(folder, len(data.classes), record.trial_id, split, progress) as new:
        try:
            evaluate(model, loader, [new], device=device)
        except DivergedError as error:
            raise DivergedError(f"trial {record.trial_id} cannot be evaluated on {split.name}: {error}") from error
        found = measure_latency(model, size, device=device)
        latency = {"ms": found.ms, "spread": found.spread, "device": found.device, "input": format_size(size)}
        return new.keep(_key_of(record, split), latency)


def _check_files(data: SegmentationData, split: Split) -> None:
    records = scan(data, split.ids)
    missing = [i for i, found in records.items() if not (found.image.sha256 and found.mask.sha256)]
    if not missing:
        hashes = {i: (found.image.sha256, found.mask.sha256) for i, found in records.items()}
        if split_hash(split.ids, hashes) == split.hash:
            return
    named = f": {some_of(missing)} cannot be read" if missing else ""
    raise DataError(
        f"the files under {data.root} are not those of the run's {split.name} split any more{named}\n"
        "restore them as they were during the sweep, or start a new sweep on the data as it is"
    )


def _check_classes(folder: Path, record: TrialRecord, data: SegmentationData) -> None:
    trained, present = [c.name for c in record.classes], [c.name for c in data.classes]
    if trained != present:
        raise DataError(
            f"{folder} was trained on the classes {', '.join(trained)}, but {data.name} under {data.root} has "
            f"{', '.join(present)}: give the data root that the sweep used"
        )


def _key_of(record: TrialRecord, split: Split) -> dict[str, Any]:
    return key_of_weights(record.sha256, inputs_of(record.config), split)
