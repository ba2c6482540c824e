"""How weights are updated: `OPTIMIZERS`, and `SCHEDULES` of the learning rate as pure functions of the step.

Parameter groups, clipping and averaging are in `updates.py`. Nothing here loads torch before an optimizer is built.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from dataclasses import KW_ONLY, dataclass
from typing import TYPE_CHECKING, Annotated, Any

from trainables.registry import Range, Registry

if TYPE_CHECKING:
    import torch

    Parameters = Iterable[torch.nn.Parameter] | Iterable[dict[str, Any]]

OPTIMIZERS: Registry[Callable[..., torch.optim.Optimizer]] = Registry("optimizer")
"""Factories `(parameters, *, lr, weight_decay, ...) -> torch.optim.Optimizer`."""

SCHEDULES: Registry[Callable[..., Schedule]] = Registry("schedule")
"""Subclasses of `Schedule`: `(total_steps, *, warmup, ...)`."""

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
    import torch

    return torch.optim.SGD(parameters, lr=lr, weight_decay=weight_decay, momentum=momentum)


@OPTIMIZERS.register("adamw")
def adamw(
    parameters: Parameters, *, lr: LearningRate = 3e-3, weight_decay: WeightDecay = 1e-2
) -> torch.optim.Optimizer:
    """Adam with decoupled weight decay (Loshchilov and Hutter, 2019), betas 0.9 and 0.999."""
    import torch

    return torch.optim.AdamW(parameters, lr=lr, weight_decay=weight_decay)


def applied_optimizer(optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """Reads back what an optimizer really uses.

    Returns:
        `name` (the lower-case name of its class) and `groups`: for each parameter group its options - among them `lr`
        (the base rate, also once a schedule has changed the current one) - and how many `tensors` and `weights` it has.
    """
    return {
        "name": type(optimizer).__name__.lower(),
        "groups": [_group_options(group) for group in optimizer.param_groups],
    }


def _group_options(group: dict[str, Any]) -> dict[str, Any]:
    options: dict[str, Any] = {"lr": float(group.get("initial_lr", group["lr"]))}
    for name, value in group.items():
        if isinstance(value, bool | int | float | str) and name not in ("lr", "initial_lr"):
            options[name] = value
        elif isinstance(value, tuple):
            options[name] = list(value)
    members = group["params"]
    return {**options, "tensors": len(members), "weights": sum(parameter.numel() for parameter in members)}


@dataclass(frozen=True)
class Schedule(ABC):
    """A multiplier of the base learning rates as a pure function of the optimizer step.

    Attributes:
        total_steps: Steps of the whole trial; the schedule ends there.
        warmup: Share of the steps over which the rate rises.
    """

    total_steps: int
    _: KW_ONLY
    warmup: WarmUp = 0.0

    def __call__(self, step: int) -> float:
        """The multiplier at `step`, 0 <= step < total_steps.

        Rises linearly over the first `warmup` of the steps (Goyal et al., "Accurate, Large Minibatch SGD", 2017), then
        follows `decay`. No step has a rate of zero.

        Raises:
            ValueError: If the step is outside the schedule.
        """
        self._check(step)
        rising = round(self.warmup * self.total_steps)
        if step < rising:
            return (step + 1) / (rising + 1)
        return self.decay((step - rising) / (self.total_steps - rising))

    @abstractmethod
    def decay(self, progress: float) -> float:
        """The multiplier at a progress of 0 .. <1 through the steps after the warm-up."""

    def _check(self, step: int) -> None:
        if not 0 <= step < self.total_steps:
            last = self.total_steps - 1
            raise ValueError(f"step {step} is outside the schedule's {self.total_steps} steps (0 .. {last})")


@SCHEDULES.register("constant")
@dataclass(frozen=True)
class Constant(Schedule):
    """The base rate throughout, after the warm-up."""

    def decay(self, progress: float) -> float:
        """Always 1."""
        return 1.0


@SCHEDULES.register("polynomial")
@dataclass(frozen=True)
class Polynomial(Schedule):
    """(1 - progress) ** power, the "poly" policy of DeepLab (Chen et al., 2017)."""

    _: KW_ONLY
    power: Annotated[float, Range(0, 5, exclusive_low=True)] = 0.9

    def decay(self, progress: float) -> float:
        """(1 - progress) ** power."""
        return float((1 - progress) ** self.power)


@SCHEDULES.register("cosine")
@dataclass(frozen=True)
class Cosine(Schedule):
    """Half a cosine from the base rate towards zero (Loshchilov and Hutter, "SGDR", 2017, without restarts)."""

    def decay(self, progress: float) -> float:
        """Half a cosine from 1 to 0."""
        return 0.5 * (1 + math.cos(math.pi * progress))


@SCHEDULES.register("one_cycle")
@dataclass(frozen=True)
class OneCycle(Schedule):
    """A cosine up from 1/25 to the base rate and a cosine down to 1/250,000 of it (Smith and Topin, 2018).

    The curve of `torch.optim.lr_scheduler.OneCycleLR` with `max_lr` the base rate and `pct_start` the warm-up; where
    the warm-up is less than one step, the first step has the base rate.
    """

    _: KW_ONLY
    warmup: WarmUp = 0.3

    def __call__(self, step: int) -> float:
        """The multiplier at `step`; see `Schedule`."""
        self._check(step)
        first = 1 / ONE_CYCLE_DIVISORS[0]
        peak_step = max(self.warmup * self.total_steps - 1, 0.0)
        if step < peak_step:
            return _cosine_between(first, 1.0, step / peak_step)
        remaining = self.total_steps - 1 - peak_step
        return self.decay((step - peak_step) / remaining) if remaining > 0 else 1.0

    def decay(self, progress: float) -> float:
        """A cosine from 1 down to the last rate."""
        return _cosine_between(1.0, 1 / ONE_CYCLE_DIVISORS[0] / ONE_CYCLE_DIVISORS[1], progress)


def _cosine_between(start: float, end: float, progress: float) -> float:
    return end + (start - end) * 0.5 * (1 + math.cos(math.pi * progress))
