"""How weights are updated: `OPTIMIZERS`, and `SCHEDULES` of the learning rate as pure functions of the step."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Annotated, Any

import torch

from trainables.registry import Range, Registry, Scalar

Schedule = Callable[[int], float]
"""`step -> multiplier` of the base learning rate at optimizer step `step`, 0 <= step < total_steps."""

OPTIMIZERS: Registry[Callable[..., torch.optim.Optimizer]] = Registry("optimizer")
"""Factories `(parameters, *, lr, weight_decay, ...) -> torch.optim.Optimizer`."""

SCHEDULES: Registry[Callable[..., Schedule]] = Registry("schedule")
"""Factories `(total_steps, *, warmup, ...) -> Schedule`."""

Parameters = Iterable[torch.nn.Parameter] | Iterable[dict[str, Any]]
LearningRate = Annotated[float, Range(0, 10, exclusive_low=True)]
WeightDecay = Annotated[float, Range(0, 1)]
WarmUp = Annotated[float, Range(0, 0.5)]

ONE_CYCLE_DIVISORS = (25.0, 1e4)
"""Peak over first, and first over last learning rate: torch's defaults of `div_factor` and `final_div_factor`."""


@OPTIMIZERS.register("sgd")
def sgd(
    parameters: Parameters,
    *,
    lr: LearningRate = 0.01,
    weight_decay: WeightDecay = 1e-4,
    momentum: Annotated[float, Range(0, 0.999)] = 0.9,
) -> torch.optim.Optimizer:
    """Stochastic gradient descent with heavy-ball momentum; weight decay is added to the gradient."""
    return torch.optim.SGD(parameters, lr=lr, weight_decay=weight_decay, momentum=momentum)


@OPTIMIZERS.register("adamw")
def adamw(
    parameters: Parameters, *, lr: LearningRate = 3e-3, weight_decay: WeightDecay = 1e-2
) -> torch.optim.Optimizer:
    """Adam with decoupled weight decay (Loshchilov and Hutter, 2019), betas 0.9 and 0.999."""
    return torch.optim.AdamW(parameters, lr=lr, weight_decay=weight_decay)


def applied_optimizer(optimizer: torch.optim.Optimizer) -> dict[str, Scalar | list[Scalar]]:
    """Reads back what an optimizer really uses, from its parameter groups.

    Returns:
        `class`, `lr` (the base rate, also once a schedule has changed the current one) and every other numeric option
        of the groups, e.g. `weight_decay`, `momentum`, `betas`; a list with one value a group where they differ.
    """
    groups = [_group_options(group) for group in optimizer.param_groups]
    applied: dict[str, Scalar | list[Scalar]] = {"class": type(optimizer).__name__}
    for name in groups[0]:
        values = [group[name] for group in groups]
        applied[name] = values[0] if all(value == values[0] for value in values) else values
    return applied


def _group_options(group: dict[str, Any]) -> dict[str, Any]:
    options: dict[str, Any] = {"lr": float(group.get("initial_lr", group["lr"]))}
    for name, value in group.items():
        if name in ("params", "lr", "initial_lr", "param_names"):
            continue
        if isinstance(value, bool | int | float):
            options[name] = value
        elif isinstance(value, tuple):
            options[name] = list(value)
    return options


@SCHEDULES.register("constant")
def constant(total_steps: int, *, warmup: WarmUp = 0.0) -> Schedule:
    """The base rate throughout, after the warm-up."""
    return _after_warm_up(total_steps, warmup, lambda progress: 1.0)


@SCHEDULES.register("polynomial")
def polynomial(
    total_steps: int, *, warmup: WarmUp = 0.0, power: Annotated[float, Range(0, 5, exclusive_low=True)] = 0.9
) -> Schedule:
    """(1 - progress) ** power, the "poly" policy of DeepLab (Chen et al., 2017)."""
    return _after_warm_up(total_steps, warmup, lambda progress: (1 - progress) ** power)


@SCHEDULES.register("cosine")
def cosine(total_steps: int, *, warmup: WarmUp = 0.0) -> Schedule:
    """Half a cosine from the base rate towards zero (Loshchilov and Hutter, "SGDR", 2017, without restarts)."""
    return _after_warm_up(total_steps, warmup, lambda progress: 0.5 * (1 + math.cos(math.pi * progress)))


@SCHEDULES.register("one_cycle")
def one_cycle(total_steps: int, *, warmup: Annotated[float, Range(0, 0.5)] = 0.3) -> Schedule:
    """A cosine up from 1/25 to the base rate and a cosine down to 1/250,000 of it (Smith and Topin, 2018).

    The curve of `torch.optim.lr_scheduler.OneCycleLR` with `max_lr` the base rate and `pct_start` the warm-up; where
    the warm-up is less than one step, the first step has the base rate.
    """
    first = 1 / ONE_CYCLE_DIVISORS[0]
    last = first / ONE_CYCLE_DIVISORS[1]
    peak_step = max(warmup * total_steps - 1, 0.0)

    def multiplier(step: int) -> float:
        _check_step(step, total_steps)
        if step < peak_step:
            return _cosine_between(first, 1.0, step / peak_step)
        remaining = total_steps - 1 - peak_step
        return _cosine_between(1.0, last, (step - peak_step) / remaining) if remaining > 0 else 1.0

    return multiplier


def _cosine_between(start: float, end: float, progress: float) -> float:
    return end + (start - end) * 0.5 * (1 + math.cos(math.pi * progress))


def _after_warm_up(total_steps: int, warmup: float, decay: Callable[[float], float]) -> Schedule:
    """Rises linearly over the first `warmup` of the steps, then follows `decay` of the progress (0 .. <1) of the rest.

    Linear warm-up after Goyal et al., "Accurate, Large Minibatch SGD", 2017. No step has a rate of zero.
    """
    warm_up_steps = round(warmup * total_steps)

    def multiplier(step: int) -> float:
        _check_step(step, total_steps)
        if step < warm_up_steps:
            return (step + 1) / (warm_up_steps + 1)
        return decay((step - warm_up_steps) / (total_steps - warm_up_steps))

    return multiplier


def _check_step(step: int, total_steps: int) -> None:
    if not 0 <= step < total_steps:
        raise ValueError(f"step {step} is outside the schedule's {total_steps} steps (0 .. {total_steps - 1})")
