"""The budget that a command asks for, what it buys, and whether disk and memory have room for that."""

from __future__ import annotations

import math

from rich.console import Console

from sweep import plan_view
from sweep.compiled import values_of
from sweep.config import SweepConfig
from sweep.flags import DEFAULT_EPOCHS, DEFAULT_TRIALS, DEMO_SECONDS
from sweep.measuring import probes, processes
from sweep.places import Place
from sweep.plan import Plan
from sweep.planning import Asked, make_plan, propose
from sweep.predicting import Setting
from sweep.preflight import Prepared, check_disk, checkpoint_bytes
from sweep.resources import Resources
from sweep.schedulers import comparison_note
from sweep.versions import memory_bytes
from trainables.config import parse_size
from trainables.errors import UsageError
from trainables.words import time_text

PIXEL_BYTES = 4096
"""Assumed of the memory that training takes per pixel of a batch; larger models may take more."""


def show_planned(
    config: SweepConfig, setting: Setting, resources: Resources, place: Place, console: Console
) -> tuple[Plan, Asked]:
    """Makes the plan for what a command asks and shows it.

    Args:
        config: What is asked for.
        setting: With what was measured.
        resources: Per trial.
        place: Where trials run.
        console: Where to show it.

    Raises:
        UsageError: As `asked_budget` and `make_plan`.
        DataError: If the checkpoints cannot fit on the disk.
    """
    asked = asked_budget(config, setting)
    plan = make_plan(setting, asked)
    note = comparison_note(setting.scheduler, plan.max_epochs)
    shares_gpus = any(one.gpus for one in setting.costs)
    at_once = int(1 / resources.gpus_per_trial) if shares_gpus else processes(resources, place)
    plan_view.show_plan(console, plan, asked, at_once=at_once, note=note, seeds=config.seeds)
    _check_disk(config, plan, setting)
    return plan, asked


def says_its_budget(config: SweepConfig) -> bool:
    """Whether a command says how long its sweep may take, or leaves it to us: `asked_budget` will not refuse it."""
    embedded = config.data_root is None and not config.download
    told = (config.time_budget, config.trials, config.max_epochs, config.seeds)
    return embedded or config.accept_plan or any(one is not None for one in told)


def asked_budget(config: SweepConfig, setting: Setting) -> Asked:
    """The budget that a command asks for, or that it leaves to us.

    Raises:
        UsageError: If it asks for none on a user's own data, with a proposal and what it would buy.
    """
    trials, epochs, confirm, refit = config.trials, config.max_epochs, config.confirm, config.refit
    if config.seeds is not None and trials is None:
        trials = sum(1 for _ in setting.space.grid())
    if config.time_budget is not None:
        return Asked(trials, epochs, config.time_budget, confirm, refit)
    if trials is not None or epochs is not None:
        return Asked(trials or DEFAULT_TRIALS, epochs or DEFAULT_EPOCHS, None, confirm, refit)
    if config.data_root is None and not config.download:
        return Asked(None, None, DEMO_SECONDS, confirm, refit)
    proposed = Asked(None, None, propose(setting), confirm, refit)
    if config.accept_plan:
        return proposed
    plan = make_plan(setting, proposed)
    time_budget = time_text(proposed.time_budget or 0.0)
    raise UsageError(
        f"say how long this sweep may take. Proposed: --time-budget {time_budget}, which has room for about "
        f"{plan.trials} trials of up to {plan.max_epochs} epochs ({plan.starting_points} starting points first) and "
        f"the report on val\nto accept it: --accept-plan; or give another --time-budget, or --trials and --max-epochs"
    )


def leaves_room(ready: Prepared, at_once: int) -> bool:
    """Whether this machine has, by an estimate, memory for what measures so many trials and for Ray beside it.

    Half of the memory is taken as the limit, and `PIXEL_BYTES` per pixel of a batch as the measure.
    """
    there = memory_bytes()
    configs = [config for _, config in probes(ready.space, ready.base)]
    pixels = max(math.prod(parse_size(str(one["image_size"]))) * int(one["batch_size"]) for one in configs)
    return there is not None and at_once * pixels * PIXEL_BYTES <= there / 2


def memory_warning(plan: Plan, resources: Resources) -> str:
    """Says that the trials which run at once may not fit into this machine's memory; empty if they do, or on GPUs."""
    there = memory_bytes()
    if resources.gpus_per_trial or there is None or plan.memory_bytes <= 0.9 * there:
        return ""
    fit = max(1, int(0.9 * there * resources.concurrent / plan.memory_bytes))
    return (
        f"{resources.concurrent} trials at once may hold {plan.memory_bytes / 2**30:.0f} GiB, and this machine has "
        f"{there / 2**30:.0f} GiB: --concurrent {fit} is safe"
    )


def _check_disk(config: SweepConfig, plan: Plan, setting: Setting) -> None:
    """Refuses a sweep whose checkpoints cannot fit; counted from the models where they were not measured.

    Raises:
        DataError: With the bytes needed and free.
    """
    models = [str(model) for model in values_of(setting.space, setting.base, "model.name")]
    trials = plan.trials + (plan.confirm_top + 1) * plan.confirm_seeds + setting.labels(plan.trials)
    trials += 2 * bool(plan.refit_seconds)
    check_disk(plan.disk_bytes or checkpoint_bytes(models) * trials, trials=trials, runs_dir=config.runs_dir)
