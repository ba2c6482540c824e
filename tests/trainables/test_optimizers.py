"""Optimizers by the parameters that they really use, schedules against torch's own schedulers."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch.optim import lr_scheduler

from trainables.optimizers import OPTIMIZERS, SCHEDULES, applied_optimizer


def torch_multipliers(total: int, build: Callable[[torch.optim.Optimizer], Any]) -> list[float]:
    """The learning rates that torch's scheduler gives an optimizer with base rate 1."""
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    scheduler = build(optimizer)
    rates = []
    for step in range(total):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        if step + 1 < total:
            scheduler.step()
    return rates


def multipliers(name: str, total: int, **params: float) -> list[float]:
    schedule = SCHEDULES.get(name)(total, **params)
    return [schedule(step) for step in range(total)]


@pytest.mark.parametrize(("total", "power"), [(1, 0.9), (37, 0.9), (100, 2.0)])
def test_polynomial_is_torchs(total: int, power: float) -> None:
    expected = torch_multipliers(total, lambda o: lr_scheduler.PolynomialLR(o, total_iters=total, power=power))
    assert multipliers("polynomial", total, power=power) == pytest.approx(expected)


@pytest.mark.parametrize("total", [1, 2, 37])
def test_cosine_is_torchs(total: int) -> None:
    expected = torch_multipliers(total, lambda o: lr_scheduler.CosineAnnealingLR(o, T_max=total))
    assert multipliers("cosine", total) == pytest.approx(expected)


@pytest.mark.parametrize(("total", "warmup"), [(10, 0.3), (37, 0.3), (200, 0.05), (200, 0.5)])
def test_one_cycle_is_torchs(total: int, warmup: float) -> None:
    expected = torch_multipliers(
        total, lambda o: lr_scheduler.OneCycleLR(o, max_lr=1.0, total_steps=total, pct_start=warmup)
    )
    assert multipliers("one_cycle", total, warmup=warmup) == pytest.approx(expected)
    assert expected[-1] == pytest.approx(1 / 25 / 1e4)


@pytest.mark.parametrize("name", ["constant", "polynomial", "cosine"])
def test_warm_up_rises_linearly_and_the_rest_decays_as_if_it_were_alone(name: str) -> None:
    values = multipliers(name, 50, warmup=0.2)
    assert values[:10] == pytest.approx([(step + 1) / 11 for step in range(10)])
    assert values[10:] == pytest.approx(multipliers(name, 40))


@pytest.mark.parametrize("name", SCHEDULES.names())
@pytest.mark.parametrize(("total", "warmup"), [(1, 0.0), (1, 0.5), (3, 0.3), (7, 0.0), (60, 0.5)])
def test_every_schedule_is_a_pure_function_within_its_steps(name: str, total: int, warmup: float) -> None:
    schedule = SCHEDULES.get(name)(total, warmup=warmup)
    forwards = [schedule(step) for step in range(total)]
    backwards = [schedule(step) for step in reversed(range(total))][::-1]
    assert forwards == backwards
    assert all(0 < value <= 1 for value in forwards)
    for outside in (-1, total):
        with pytest.raises(ValueError, match=f"step {outside} is outside"):
            schedule(outside)


def one_step(name: str, **params: float) -> float:
    """Where a weight of 2 with gradient 3 is after one step."""
    weight = torch.nn.Parameter(torch.tensor([2.0], dtype=torch.float64))
    optimizer = OPTIMIZERS.get(name)([weight], **params)
    weight.grad = torch.tensor([3.0], dtype=torch.float64)
    optimizer.step()
    return weight.item()


def test_sgd_steps_as_worked_out_by_hand() -> None:
    assert one_step("sgd", lr=0.1, weight_decay=0.5, momentum=0.9) == pytest.approx(2 - 0.1 * (3 + 0.5 * 2))


def test_adamw_steps_as_worked_out_by_hand() -> None:
    # The first bias-corrected step is lr * g / (|g| + eps); decay is taken from the weight, not the gradient.
    assert one_step("adamw", lr=0.1, weight_decay=0.5) == pytest.approx(2 - 0.1 * 0.5 * 2 - 0.1, rel=1e-8)


def test_momentum_remembers_the_last_gradient() -> None:
    weight = torch.nn.Parameter(torch.zeros(1, dtype=torch.float64))
    optimizer = OPTIMIZERS.get("sgd")([weight], lr=1.0, weight_decay=0.0, momentum=0.5)
    for gradient in (1.0, 0.0):
        weight.grad = torch.tensor([gradient], dtype=torch.float64)
        optimizer.step()
    assert weight.item() == -1.5


@pytest.mark.parametrize(
    ("name", "parameter"), [(name, parameter) for name in OPTIMIZERS for parameter in OPTIMIZERS.parameters(name)]
)
def test_every_hyperparameter_reaches_the_optimizer(name: str, parameter: str) -> None:
    default = OPTIMIZERS.parameters(name)[parameter].default
    other = 0.123
    assert other != default
    optimizer = OPTIMIZERS.get(name)([torch.nn.Parameter(torch.zeros(1))], **{parameter: other})
    (applied,) = applied_optimizer(optimizer)["groups"]
    assert applied[parameter] == other
    for rest, description in OPTIMIZERS.parameters(name).items():
        if rest != parameter:
            assert applied[rest] == description.default


def test_applied_rate_is_the_base_rate_after_a_schedule_changed_it() -> None:
    optimizer = OPTIMIZERS.get("adamw")([torch.nn.Parameter(torch.zeros(1))], lr=0.5)
    lr_scheduler.LambdaLR(optimizer, lambda step: 0.1)
    assert math.isclose(optimizer.param_groups[0]["lr"], 0.05)
    assert applied_optimizer(optimizer)["groups"][0]["lr"] == 0.5
    assert applied_optimizer(optimizer)["name"] == "adamw"


def test_groups_that_differ_are_all_told() -> None:
    groups = [{"params": [torch.nn.Parameter(torch.zeros(1))], "lr": lr} for lr in (0.1, 0.2)]
    applied = applied_optimizer(OPTIMIZERS.get("sgd")(groups))["groups"]
    assert [(group["lr"], group["tensors"], group["weights"]) for group in applied] == [(0.1, 1, 1), (0.2, 1, 1)]
