"""Checkpoints: written atomically, nothing pickled, and enough in them to rebuild the model anywhere.

A checkpoint is a folder of safetensors and JSON. It is written beside its place, its file of SHA-256 sums last, and
appears by one rename; a folder whose sums do not match is treated as if it were not there.

Only what reads or writes weights loads torch: who finds, checks and copies checkpoints has no use for it.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import secrets
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors import SafetensorError
from safetensors.numpy import load_file as load_arrays
from safetensors.numpy import save_file as save_arrays

from trainables import commands
from trainables.config import TrialConfig
from trainables.data.bands import MOST_CHANNELS, Bands, any_bands
from trainables.errors import CheckpointError
from trainables.files import write_json
from trainables.limits import check_file
from trainables.metrics import ImageCounts
from trainables.paths import UnsafePathError, remove_own
from trainables.record import TrialRecord

if TYPE_CHECKING:
    from torch import Tensor, nn
    from torch.optim import Optimizer

    from trainables.updates import Updater

MODEL_FILE = "model.safetensors"
TRAINED_FILE = "trained.safetensors"
"""The weights in training, where `model.safetensors` holds their moving average."""
OPTIMIZER_FILE = "optimizer.safetensors"
STATE_FILE = "state.json"
TRIAL_FILE = "trial.json"
VAL_FILE = "val.safetensors"
"""What the model of a finished trial did on each image of val (`ImageCounts`)."""
SUMS_FILE = "sha256.json"
CHECKPOINTS = "checkpoints"
"""Folder of a run that holds the checkpoint folder of each trial."""
CHECKPOINT_FILES = (MODEL_FILE, TRAINED_FILE, OPTIMIZER_FILE, VAL_FILE, STATE_FILE, SUMS_FILE)
"""All files of a checkpoint; a folder that holds any other file is left alone."""
MODEL_FILES = (MODEL_FILE, TRIAL_FILE)
"""All files of a published model (`best/LABEL`)."""
_ELSEWHERE = "train this one into a folder of its own, or ask for what is there"


def save_checkpoint(
    folder: Path,
    *,
    epoch: int,
    model: nn.Module,
    updater: Updater | None,
    record: TrialRecord,
    val_counts: ImageCounts | None = None,
) -> Path:
    """Writes `folder/epoch-NNNN` and removes older ones once the new one is whole.

    Args:
        folder: The trial's checkpoint folder.
        epoch: Epochs trained.
        model: What is evaluated; its state is stored contiguous and on the CPU.
        updater: What training continues from; None leaves it out (a trial that is done needs none).
        record: Stored with the hash of the written weights.
        val_counts: What it did on each image of val.

    Returns:
        The checkpoint's folder.

    Raises:
        CheckpointError: If it cannot be written (disk full, no permission); an older checkpoint stays as it was.
    """
    from safetensors.torch import save_file

    final = folder / f"epoch-{epoch:04d}"
    try:
        temporary = _temporary(final)
    except OSError as error:
        raise CheckpointError(f"cannot write the checkpoint {final}: {error}\nfree space there and resume") from error
    try:
        save_file(_portable(model.state_dict()), temporary / MODEL_FILE)
        sums = {MODEL_FILE: file_sha256(temporary / MODEL_FILE)}
        state = dataclasses.replace(record, sha256=sums[MODEL_FILE]).to_json()
        if updater is not None:
            tensors, state["optimizer"] = _flatten_optimizer(updater.optimizer.state_dict())
            state["updates"] = {"done": updater.done, "scaler": updater.scaler.state_dict()}
            save_file(tensors, temporary / OPTIMIZER_FILE)
            sums[OPTIMIZER_FILE] = file_sha256(temporary / OPTIMIZER_FILE)
        if updater is not None and updater.averaged is not None:
            save_file(_portable(updater.model.state_dict()), temporary / TRAINED_FILE)
            sums[TRAINED_FILE] = file_sha256(temporary / TRAINED_FILE)
        if val_counts is not None:
            save_arrays(val_counts.arrays(), temporary / VAL_FILE)
            sums[VAL_FILE] = file_sha256(temporary / VAL_FILE)
        write_json(temporary / STATE_FILE, state)
        sums[STATE_FILE] = file_sha256(temporary / STATE_FILE)
        write_json(temporary / SUMS_FILE, sums)
        _sync(temporary)
        if not remove_own(final, CHECKPOINT_FILES):
            raise CheckpointError(f"{final} holds files that this project did not write: move them away and resume")
        temporary.rename(final)
        _sync(folder, only_folder=True)
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"cannot write the checkpoint {final}: {error}\nfree space there and resume") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    for other in folder.iterdir():
        if other != final and other.name.lstrip(".").startswith("epoch-"):
            remove_own(other, CHECKPOINT_FILES)
    return final


def latest_checkpoint(folder: Path) -> Path | None:
    """The newest whole checkpoint of a trial, or None; torn and altered ones are skipped."""
    candidates = sorted(folder.glob("epoch-*"), reverse=True) if folder.is_dir() else []
    return next((candidate for candidate in candidates if is_whole(candidate)), None)


def is_whole(checkpoint: Path) -> bool:
    """Whether every file of a checkpoint matches the sum that was written last."""
    try:
        sums = json.loads((checkpoint / SUMS_FILE).read_text(encoding="utf-8"))
        known = STATE_FILE in sums and set(sums) <= set(CHECKPOINT_FILES)
        return known and all(file_sha256(checkpoint / name) == digest for name, digest in sums.items())
    except (OSError, ValueError, AttributeError, TypeError, RecursionError):
        return False


def restore_checkpoint(checkpoint: Path, *, expected: TrialRecord, updater: Updater) -> TrialRecord:
    """Loads weights, their average and the optimizer's state in place and returns what the trial was.

    Args:
        checkpoint: From `save_checkpoint`.
        expected: The record of the trial that is to go on: same configuration, classes and images.
        updater: Of that trial.

    Raises:
        CheckpointError: If it is torn, is of another trial than expected, or has no optimizer state; nothing is loaded.
    """
    from safetensors.torch import load_file

    if not is_whole(checkpoint):
        raise CheckpointError(f"{checkpoint} is torn or altered: its files do not match {SUMS_FILE}")
    state = json.loads((checkpoint / STATE_FILE).read_text(encoding="utf-8"))
    record = TrialRecord.from_json(state)
    if record.config != expected.config:
        difference = _difference(record.config, expected.config)
        raise CheckpointError(f"{checkpoint} belongs to another configuration: {difference}\n{_ELSEWHERE}")
    if record.classes != expected.classes:
        raise CheckpointError(f"{checkpoint} was trained on other classes: {_names(record)}\n{_ELSEWHERE}")
    if record.applied.get("images") != expected.applied["images"]:
        raise CheckpointError(f"{checkpoint} was trained on other images, or another split of them\n{_ELSEWHERE}")
    if _normalised(record) != _normalised(expected):
        raise CheckpointError(f"{checkpoint} was trained on other bands of its images\n{_ELSEWHERE}")
    if "optimizer" not in state:
        raise CheckpointError(f"{checkpoint} holds a finished trial: there is nothing to go on with")
    updater.evaluated.load_state_dict(load_file(checkpoint / MODEL_FILE))
    if updater.averaged is not None:
        updater.model.load_state_dict(load_file(checkpoint / TRAINED_FILE))
    updater.optimizer.load_state_dict(_unflatten_optimizer(load_file(checkpoint / OPTIMIZER_FILE), state["optimizer"]))
    _lay_out_as_weights(updater.optimizer)
    updater.done = state["updates"]["done"]
    if state["updates"]["scaler"]:  # empty where the trial began in another precision than float16
        updater.scaler.load_state_dict(state["updates"]["scaler"])
    return record


def read_record(checkpoint: Path) -> TrialRecord:
    """The record of a trial's own checkpoint, without its weights."""
    return TrialRecord.from_json(json.loads((checkpoint / STATE_FILE).read_text(encoding="utf-8")))


def read_val_counts(checkpoint: Path) -> ImageCounts | None:
    """What the model of a whole checkpoint did on each image of val; None in runs that did not keep it."""
    path = checkpoint / VAL_FILE
    return ImageCounts.of(load_arrays(path)) if path.is_file() else None


def publish(checkpoint: Path, folder: Path, *, label: str, data: Mapping[str, Any] | None = None) -> TrialRecord:
    """Copies a checkpoint's model to `folder` (`best/LABEL`) as `model.safetensors` and `trial.json`.

    Args:
        checkpoint: Whole.
        folder: Made, or replaced; other files in it stay.
        label: The label that the trial represents.
        data: Where its images came from; see `TrialRecord.data`.

    Raises:
        CheckpointError: If the checkpoint is torn, the copy differs from it, or the folder is not ours.
    """
    if not is_whole(checkpoint):
        raise CheckpointError(f"{checkpoint} is torn or altered: its files do not match {SUMS_FILE}")
    record = dataclasses.replace(read_record(checkpoint), label=label, data=data or {})
    try:
        temporary = _temporary(folder)
        try:
            shutil.copyfile(checkpoint / MODEL_FILE, temporary / MODEL_FILE)
            if file_sha256(temporary / MODEL_FILE) != record.sha256:
                raise CheckpointError(f"the copy of {checkpoint / MODEL_FILE} to {folder} differs from it")
            write_json(temporary / TRIAL_FILE, record.to_json())
            _sync(temporary)
            _put_in_place(temporary, folder)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
    except OSError as error:
        raise CheckpointError(f"cannot write {folder}: {error}") from error
    return record


def _temporary(place: Path) -> Path:
    """A new folder beside a place, under a random name that cannot be taken already."""
    made = place.with_name(f".{place.name}.{secrets.token_hex(4)}.tmp")
    made.mkdir(parents=True)
    return made


def _put_in_place(made: Path, folder: Path) -> None:
    """Moves a published model to its folder by one rename; if it holds other files, file by file beside them.

    Raises:
        CheckpointError: If what is there was not published by this project.
    """
    if folder.is_symlink() or (os.path.lexists(folder) and not folder.is_dir()):
        raise CheckpointError(f"{folder} is not a real folder (it is a link or a file): move it away")
    if remove_own(folder, MODEL_FILES):
        made.rename(folder)
        return
    if not (folder / TRIAL_FILE).is_file():
        raise CheckpointError(f"{folder} holds files that are not of a published model: move them away")
    for name in MODEL_FILES:
        (made / name).replace(folder / name)


def load_trial(folder: Path) -> TrialRecord:
    """Reads `best/LABEL/trial.json`.

    Raises:
        CheckpointError: If it is missing or damaged, or needs a plugin that is not loaded.
    """
    path = folder / TRIAL_FILE
    check_file(path, what="record of a trial")
    try:
        return TrialRecord.from_json(json.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError as error:
        raise CheckpointError(
            f"{path} does not exist: finish the sweep first ({commands.resume(folder.parent.parent)})"
        ) from error
    except CheckpointError as error:
        raise CheckpointError(f"{path}: {error}") from error
    except UnsafePathError as error:
        raise CheckpointError(f"{path}: {error}; it was not written by a sweep") from error
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise CheckpointError(f"{path} is damaged ({error})") from error


_HEADER_BYTES = 2**24
"""More than the names of a model's tensors take in a file of safetensors."""


def rebuild_model(folder: Path) -> tuple[nn.Module, TrialRecord]:
    """Rebuilds the model of `best/LABEL` with its weights, in evaluation mode on the CPU.

    Raises:
        CheckpointError: If a file is missing, the weights are not those that `trial.json` names, or they are of a model
            that is built in another way here.
    """
    from safetensors.torch import load_file

    record = load_trial(folder)
    path = folder / MODEL_FILE
    if not path.is_file() or file_sha256(path) != record.sha256:
        raise CheckpointError(f"{path} is missing or not the file that {TRIAL_FILE} names")
    params = {**record.config.model.params, "weights": "none"}
    name, names = record.config.model.name, [c.name for c in record.classes]
    bands = any_bands(_channels(folder, record))
    model = build_model(name, names, **params) if bands is None else build_for_bands(name, names, bands, **params)
    needed = sum(tensor.numel() * tensor.element_size() for tensor in model.state_dict().values())
    if path.stat().st_size > 2 * needed + _HEADER_BYTES:
        raise CheckpointError(f"{path} is larger than the weights of {record.config.model.name}: it is not its file")
    try:
        model.load_state_dict(load_file(path))
    except SafetensorError as error:
        raise CheckpointError(f"{path} is no safetensors file ({error}): restore it from a backup") from error
    except RuntimeError as error:
        raise CheckpointError(
            f"{path} does not fit {name} as this project and its packages build it here: they are of other versions "
            "than those that trained it, which manifest.json of its run names; use these"
        ) from error
    normalisation: Any = {key: tuple(values) for key, values in record.normalisation.items()}
    model.normalisation = normalisation
    return model.eval(), record


def build_for_bands(name: str, classes: Sequence[str], bands: Bands, **params: Any) -> nn.Module:
    """`trainables.models.build_for_bands`, which loads torchvision."""
    from trainables import models

    return models.build_for_bands(name, classes, bands, **params)


def build_model(name: str, classes: Sequence[str], **params: Any) -> nn.Module:
    """`trainables.models.build_model`, which loads torchvision."""
    from trainables import models

    return models.build_model(name, classes, **params)


def file_sha256(path: Path) -> str:
    """SHA-256 of a file as hexadecimal text."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _portable(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    # A clone where storage is shared: safetensors refuses aliases.
    return {key: value.detach().to("cpu", copy=True).contiguous() for key, value in state.items()}


def _flatten_optimizer(state: Mapping[str, Any]) -> tuple[dict[str, Tensor], dict[str, Any]]:
    from torch import Tensor

    tensors: dict[str, Tensor] = {}
    scalars: dict[str, dict[str, Any]] = {}
    for index, entries in state["state"].items():
        for key, value in entries.items():
            if isinstance(value, Tensor):
                tensors[f"{index}.{key}"] = value.detach().to("cpu", copy=True).contiguous()
            else:
                scalars.setdefault(str(index), {})[key] = value
    return tensors, {"param_groups": state["param_groups"], "scalars": scalars}


def _unflatten_optimizer(tensors: Mapping[str, Tensor], rest: Mapping[str, Any]) -> dict[str, Any]:
    state: dict[int, dict[str, Any]] = {int(index): dict(entries) for index, entries in rest["scalars"].items()}
    for name, tensor in tensors.items():
        index, key = name.split(".", 1)
        state.setdefault(int(index), {})[key] = tensor
    groups = [
        {key: tuple(value) if key == "betas" else value for key, value in group.items()}
        for group in rest["param_groups"]
    ]
    return {"state": state, "param_groups": groups}


def _lay_out_as_weights(optimizer: Optimizer) -> None:
    """Gives each state the memory format of its weight, as in a run without interruption; files hold plain ones."""
    import torch

    for weight, entries in optimizer.state.items():
        for key, value in entries.items():
            if isinstance(value, torch.Tensor) and value.shape == weight.shape:
                entries[key] = torch.empty_like(weight, dtype=value.dtype).copy_(value)


def _channels(folder: Path, record: TrialRecord) -> int:
    """Of the images that a model takes, by its normalisation."""
    told: Any = record.normalisation
    counts = {len(told[key]) for key in ("mean", "std") if isinstance(told, dict) and isinstance(told.get(key), list)}
    if len(counts) != 1 or not 1 <= min(counts) <= MOST_CHANNELS:
        raise CheckpointError(f"{folder / TRIAL_FILE}: the normalisation is not a mean and a deviation of each channel")
    return counts.pop()


def _normalised(record: TrialRecord) -> dict[str, list[float]]:
    return {key: list(values) for key, values in record.normalisation.items()}


def _names(record: TrialRecord) -> str:
    return ", ".join(info.name for info in record.classes)


def _difference(stored: TrialConfig, asked: TrialConfig) -> str:
    left, right = stored.flat(), asked.flat()
    keys = [key for key in {**left, **right} if left.get(key) != right.get(key)]
    return ", ".join(f"{key} is {left.get(key)} there and {right.get(key)} here" for key in keys)


def _sync(folder: Path, *, only_folder: bool = False) -> None:
    for path in [] if only_folder else [entry for entry in folder.iterdir() if entry.is_file()]:
        with path.open("rb") as stream:
            os.fsync(stream.fileno())
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
