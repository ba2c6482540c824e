"""How gradients become weights: parameter groups, accumulation, clipping, mixed precision, averaged weights."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from trainables.errors import ConfigError
from trainables.options import PRECISIONS, TrainingOptions
from trainables.ranks import ALONE, Ranks

DTYPES: Mapping[str, torch.dtype] = {name: getattr(torch, dtype) for name, dtype in PRECISIONS.items()}
"""By precision."""

BACKBONE = "backbone."


def freeze(model: nn.Module, what: str) -> None:
    """Takes weights out of training where `what` (one of `FREEZE`) asks for it; see `training_mode` for statistics.

    Raises:
        ConfigError: If the model has no backbone.
    """
    for parameter in frozen_parameters(model, what):
        parameter.requires_grad_(False)


def frozen_parameters(model: nn.Module, what: str) -> list[nn.Parameter]:
    """The weights that `freeze` takes out of training: those of the backbone, or of the first half of its layers.

    A half is counted in layers with matrices or kernels, in the order in which they are run; the norms between them
    belong to the layer before. It holds a tenth or less of the weights and most of what a step computes.

    Raises:
        ConfigError: If the model has no backbone.
    """
    if what not in ("backbone", "stages"):
        return []
    if what == "backbone":
        return list(_backbone(model).parameters())
    layers = [list(module.parameters(recurse=False)) for module in _backbone(model).modules()]
    kernels = [place for place, weights in enumerate(layers) if any(weight.ndim > 1 for weight in weights)]
    middle = kernels[len(kernels) // 2] if kernels else 0
    return [weight for weights in layers[:middle] for weight in weights]


def training_mode(model: nn.Module, frozen: str) -> None:
    """`model.train()`, except for what is frozen (one of `FREEZE`)."""
    model.train()
    if frozen == "backbone":
        _backbone(model).eval()
    elif frozen in ("batch_norm", "stages"):
        for module in model.modules():
            if isinstance(module, _BatchNorm):
                module.eval()


def parameter_groups(
    model: nn.Module, *, lr: float, weight_decay: float, backbone_lr: float, decay_norms: bool
) -> list[dict[str, Any]]:
    """The trainable weights in up to four groups for an optimizer: backbone or head, with weight decay or without.

    Args:
        model: Weights of its backbone have names that begin with "backbone.".
        lr: Base learning rate.
        weight_decay: Of the weights that decay.
        backbone_lr: Multiplier for the backbone.
        decay_norms: Whether biases and normalisation layers (weights of one dimension) decay, too.

    Returns:
        Groups with `name`, `params`, `lr` and `weight_decay`, none of them empty; those of the head come first.

    Raises:
        ConfigError: If the backbone gets a rate of its own and there is none.
    """
    if backbone_lr != 1.0:
        _backbone(model)
    members: dict[tuple[bool, bool], list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            key = (name.startswith(BACKBONE), decay_norms or parameter.ndim > 1)
            members.setdefault(key, []).append(parameter)
    return [
        {
            "name": f"{'backbone' if backbone else 'head'}, {'decay' if decays else 'no decay'}",
            "params": members[backbone, decays],
            "lr": lr * backbone_lr if backbone else lr,
            "weight_decay": weight_decay if decays else 0.0,
        }
        for backbone, decays in sorted(members)
    ]


class MovingAverage:
    """An exponential moving average of a model's weights and BatchNorm statistics.

    The decay after n steps is min(decay, (1 + n) / (10 + n)), the warm-up of TensorFlow's
    `ExponentialMovingAverage`, so that the average of a short trial does not remember the initial weights.

    Args:
        model: Whose tensors are followed; they must stay the same objects.
        decay: 0 .. <1.

    Attributes:
        module: A copy of the model with the averaged tensors.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.decay = decay
        self.module = copy.deepcopy(model).requires_grad_(False)
        pairs = list(zip(self.module.state_dict().values(), model.state_dict().values(), strict=True))
        self._averaged, self._followed = (list(side) for side in zip(*filter(_is_real, pairs), strict=True))
        self._counters = [pair for pair in pairs if not _is_real(pair)]

    @torch.no_grad()
    def update(self, steps: int) -> None:
        """Moves the average towards the model as it is after `steps` optimizer steps (from 1)."""
        kept = min(self.decay, (1 + steps) / (10 + steps))
        torch._foreach_lerp_(self._averaged, self._followed, 1 - kept)
        for average, counter in self._counters:
            average.copy_(counter)


def _is_real(pair: tuple[Tensor, Tensor]) -> bool:
    return pair[0].is_floating_point()


class Updater:
    """Applies gradients: one `step` after the backward passes of `accumulate` batches.

    Args:
        model: In training.
        optimizer: Over the model's parameters; the rates at construction are the base rates.
        schedule: Multiplier of the base rates at an optimizer step counted from 0.
        options: Of which all but the rates are used, `freeze` and `loss_stride` by the loop.
        precision: One of `PRECISIONS`.
        ranks: That train the model together.

    Attributes:
        averaged: The moving average of the model, or None.
        scaler: Keeps small float16 gradients from vanishing; does nothing for the other precisions.
        done: Steps done.
    """

    def __init__(
        self,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        schedule: Callable[[int], float],
        options: TrainingOptions,
        *,
        precision: str = "fp32",
        ranks: Ranks = ALONE,
    ) -> None:
        self.model = model
        self.ranks = ranks
        self.optimizer = optimizer
        self.schedule = schedule
        self.clip_norm = options.clip_norm
        self.accumulate = options.accumulate
        self.frozen = options.freeze
        self.loss_stride = options.loss_stride
        self.dtype = DTYPES[precision]
        self.device_type = next(model.parameters()).device.type
        self.scaler = torch.amp.GradScaler(self.device_type, enabled=precision == "fp16")
        self.averaged = MovingAverage(model, options.ema) if options.ema else None
        self.done = 0
        for group in optimizer.param_groups:
            group["initial_lr"] = group["lr"]

    @property
    def evaluated(self) -> nn.Module:
        """The model whose weights are validated and saved."""
        return self.model if self.averaged is None else self.averaged.module

    def autocast(self) -> AbstractContextManager[Any]:
        """The context of a forward pass."""
        return autocast(self.device_type, self.dtype)

    def backward(self, loss: Tensor) -> None:
        """Adds a loss's gradients to those collected for the next step."""
        self.scaler.scale(loss).backward()

    def step(self) -> None:
        """Applies the gradients that all ranks collected, at the schedule's rate."""
        self.ranks.sum_gradients(self.model.parameters())
        multiplier = self.schedule(self.done)
        for group in self.optimizer.param_groups:
            group["lr"] = group["initial_lr"] * multiplier
        if self.clip_norm > 0:
            self.scaler.unscale_(self.optimizer)
            nn.utils.clip_grad_norm_(self.model.parameters(), self.clip_norm)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.optimizer.zero_grad(set_to_none=True)
        self.done += 1
        if self.averaged is not None:
            self.averaged.update(self.done)


def autocast(device_type: str, dtype: torch.dtype) -> AbstractContextManager[Any]:
    """Mixed precision where `dtype` is not float32."""
    return torch.autocast(device_type, dtype=dtype, enabled=dtype is not torch.float32)


def _backbone(model: nn.Module) -> nn.Module:
    backbone = getattr(model, "backbone", None)
    if not isinstance(backbone, nn.Module):
        raise ConfigError(f"{type(model).__name__} has no backbone to freeze or to train at another rate")
    return backbone
