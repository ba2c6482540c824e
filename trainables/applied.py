"""What a trial really built, read back from the built objects and compared with its configuration."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import nn
from torch.utils.data import DataLoader

from trainables.augmentations import verify_applied
from trainables.config import TrialConfig, format_size
from trainables.errors import WiringError
from trainables.loaders import EpochBatches, EvaluationSet, TrainingSet
from trainables.loops import is_channels_last
from trainables.losses import LOSSES, Loss
from trainables.models.bands import input_channels
from trainables.optimizers import SCHEDULES, Schedule, applied_optimizer
from trainables.registry import Scalar
from trainables.updates import BACKBONE, DTYPES, Updater, frozen_parameters
from trainables.words import some_of


@dataclass(frozen=True)
class Built:
    """What a trial has built and will train with.

    Attributes:
        model: On its device.
        loss: What is minimised.
        updater: Optimizer, schedule, and what happens around a step.
        samples: The training images behind `train_loader`.
        train_loader: Gives batches to train on.
        val_loader: Gives batches to validate on.
        device: Where the model is.
        steps_per_epoch: Optimizer steps.
    """

    model: nn.Module
    loss: Loss
    updater: Updater
    samples: TrainingSet
    train_loader: DataLoader[Any]
    val_loader: DataLoader[Any]
    device: torch.device
    steps_per_epoch: int


def read_back(built: Built) -> dict[str, Any]:
    """What a trial trains, as primitives for `trial.json`; nothing in it is copied from the configuration."""
    model, updater = cast(Any, built.model), built.updater
    weight = next(model.parameters())
    schedule = cast(Schedule, updater.schedule)
    train, val = cast(TrainingSet, built.train_loader.dataset), cast(EvaluationSet, built.val_loader.dataset)
    batches = cast(EpochBatches, built.train_loader.batch_sampler)
    return {
        "model": {
            "name": model.name,
            "weights": model.predefined,
            "aux_weight": model.aux_weight,
            "parameters": sum(p.numel() for p in model.parameters()),
            "trained": sum(p.numel() for p in model.parameters() if p.requires_grad),
            "inputs": input_channels(model),
            "outputs": _output_channels(model, train.policy.size, built.device),
        },
        "loss": {"name": LOSSES.name_of(built.loss), **built.loss.applied()},
        "optimizer": applied_optimizer(updater.optimizer),
        "schedule": {"name": SCHEDULES.name_of(schedule), **dataclasses.asdict(schedule)},
        "training": {
            **_rates(built),
            "clip_norm": updater.clip_norm,
            "accumulate": updater.accumulate,
            "ema": updater.averaged.decay if updater.averaged else 0.0,
            "freeze": _frozen(built),
            "loss_stride": updater.loss_stride,
            "class_tiles": train.class_tiles,
        },
        "augment": train.policy.applied(),
        "image_size": format_size(train.policy.size),
        "val_image_size": format_size(val.cache.size),
        "resize": _common((train.policy.resize, train.cache.resize, val.cache.resize)),
        "batch_size": batches.batch_size,
        "epochs": schedule.total_steps / built.steps_per_epoch,
        "seed": _common((train.seed, batches.seed)),
        "steps_per_epoch": built.steps_per_epoch,
        "train_images": len(train.ids),
        "train_samples": len(train),
        "val_images": len(val),
        "images": images_digest(train.ids, val.ids),
        "precision": next(name for name, dtype in DTYPES.items() if dtype is updater.dtype),
        "weights_precision": str(weight.dtype).removeprefix("torch."),
        "channels_last": is_channels_last(model),
        "compile": False,
        "device": str(weight.device),
        "threads": torch.get_num_threads(),
        "ranks": updater.ranks.size,
    }


def verify(config: TrialConfig, built: Built, applied: Mapping[str, Any]) -> None:
    """Compares what a trial built with what a configuration asks for, key by key.

    Args:
        config: What was asked for.
        built: What was built.
        applied: What was read back from it.

    Raises:
        WiringError: Listing every difference.
    """
    faults = [
        f"{key}: asked for {wanted}, built {found}"
        for key, wanted, found in _compared(config, applied)
        if not _same(wanted, found)
    ]
    faults += _weight_faults(config, built)
    try:
        verify_applied(config.augment, built.samples.policy)
    except WiringError as error:
        faults.append(str(error))
    if faults:
        raise WiringError("the trial does not train what its configuration says:\n  " + "\n  ".join(faults))


def _compared(config: TrialConfig, applied: Mapping[str, Any]) -> Iterator[tuple[str, Scalar, Any]]:
    """Each key with the value asked for and the value built; policy and optimizer groups are checked elsewhere."""
    for section in ("loss", "schedule"):
        component = getattr(config, section)
        yield f"{section}.name", component.name, applied[section]["name"]
        for key, value in component.params.items():
            yield f"{section}.{key}", value, applied[section].get(key)
    yield "model.name", config.model.name, applied["model"]["name"]
    asked = str(config.model.params["weights"]).partition(":")[0]
    yield "model.weights", asked, applied["model"]["weights"].partition(":")[0] or "none"
    if "aux_weight" in config.model.params:
        yield "model.aux_weight", config.model.params["aux_weight"], applied["model"]["aux_weight"]
    yield "optimizer.name", config.optimizer.name, applied["optimizer"]["name"]
    for key, value in config.optimizer.params.items():
        if key not in ("lr", "weight_decay"):
            yield f"optimizer.{key}", value, _common(group.get(key) for group in applied["optimizer"]["groups"])
    for key, value in dataclasses.asdict(config.training).items():
        if applied["training"][key] is not None:
            yield f"training.{key}", value, applied["training"][key]
    for key in ("image_size", "val_image_size"):
        yield key, format_size(config.image_size), applied[key]
    yield "resize", config.resize, applied["resize"]
    yield "batch_size", min(config.batch_size, applied["train_samples"]), applied["batch_size"]
    yield "epochs", config.epochs, applied["epochs"]
    yield "seed", config.seed, applied["seed"]


def _weight_faults(config: TrialConfig, built: Built) -> Iterator[str]:
    """Whether every trainable weight is in the optimizer once, with its rate and its decay."""
    options = config.training
    optimized: dict[int, list[dict[str, Any]]] = {}
    for group in built.updater.optimizer.param_groups:
        for parameter in group["params"]:
            optimized.setdefault(id(parameter), []).append(group)
    wrong: dict[str, list[str]] = {}
    for name, parameter in built.model.named_parameters():
        groups = optimized.pop(id(parameter), [])
        if len(groups) != int(parameter.requires_grad):
            wrong.setdefault(f"optimizer: a weight is in {len(groups)} groups", []).append(name)
            continue
        for group in groups:
            multiplier = options.backbone_lr if name.startswith(BACKBONE) else 1.0
            decays = options.decay_norms or parameter.ndim > 1
            wanted = {
                "lr": float(config.optimizer.params["lr"]) * multiplier,
                "weight_decay": float(config.optimizer.params["weight_decay"]) if decays else 0.0,
            }
            found = {"lr": group["initial_lr"], "weight_decay": group["weight_decay"]}
            for key, value in wanted.items():
                if not _same(value, found[key]):
                    fault = f"optimizer.{key}: asked for {value:g}, built {found[key]:g}"
                    wrong.setdefault(fault, []).append(name)
    if optimized:
        yield f"optimizer: {len(optimized)} of its tensors are not the model's"
    for fault, names in wrong.items():
        yield f"{fault} ({some_of(names, 1)})"


def images_digest(train: Sequence[str], val: Sequence[str]) -> str:
    """Tells two splits apart: hexadecimal text that depends on the ids of both parts and on their order."""
    return hashlib.blake2b(json.dumps([list(train), list(val)]).encode(), digest_size=8).hexdigest()


def _rates(built: Built) -> dict[str, Any]:
    """The backbone's multiplier and whether norms decay, as the groups show it; None where nothing shows it."""
    rates: dict[bool, set[float]] = {True: set(), False: set()}
    decays: dict[bool, set[bool]] = {True: set(), False: set()}
    groups = {id(p): group for group in built.updater.optimizer.param_groups for p in group["params"]}
    for name, parameter in built.model.named_parameters():
        group = groups.get(id(parameter))
        if group is not None:
            rates[name.startswith(BACKBONE)].add(group["initial_lr"])
            decays[parameter.ndim > 1].add(group["weight_decay"] > 0)
    shown = len(rates[True]) == 1 and len(rates[False]) == 1
    return {
        "backbone_lr": rates[True].pop() / rates[False].pop() if shown else None,
        "decay_norms": _common(decays[False]) if decays[True] == {True} else None,
    }


def _frozen(built: Built) -> str:
    """What is frozen: weights as they are, statistics as the updater will leave them."""
    weights = [p for name, p in built.model.named_parameters() if name.startswith(BACKBONE)]
    statistics = built.updater.frozen
    still = {id(p) for p in weights if not p.requires_grad}
    if still == {id(p) for p in frozen_parameters(built.model, statistics)}:
        return statistics
    return f"{len(still)} of {len(weights)} tensors of the backbone not trained, statistics of {statistics} kept"


def _common(values: Any) -> Any:
    """The value that all of them share, or None."""
    found = list(dict.fromkeys(values))
    return found[0] if len(found) == 1 else None


def _same(wanted: Scalar, found: Any) -> bool:
    if found is None or isinstance(wanted, str | bool) or isinstance(found, str | bool):
        return bool(wanted == found)
    return math.isclose(float(wanted), float(found), rel_tol=1e-9)


@torch.no_grad()
def _output_channels(model: nn.Module, size: tuple[int, int], device: torch.device) -> int:
    training = model.training
    model.eval()
    channels = int(model(torch.zeros(1, input_channels(model), *size, device=device))["out"].shape[1])
    model.train(training)
    return channels
