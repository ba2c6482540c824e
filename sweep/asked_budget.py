"""The budget that a command asks for, what it buys, and whether the disk has room for that."""

from __future__ import annotations

from rich.console import Console

from sweep import plan_view
from sweep.compiled import values_of
from sweep.config import SweepConfig
from sweep.flags import DEFAULT_EPOCHS, DEFAULT_TRIALS, DEMO_SECONDS
from sweep.measuring import processes
from sweep.places import Place
from sweep.plan import Plan
from sweep.planning import Asked, make_plan, propose
from sweep.predicting import Setting
from sweep.preflight import check_disk, checkpoint_bytes
from sweep.resources import Resources
from sweep.schedulers import comparison_note
from trainables.errors import UsageError
from trainables.words import time_text


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
    told = (config.time_budget, config.trials, config.max_epochs, config.seeds)
    return _is_demo(config) or config.accept_plan or any(one is not None for one in told)


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
    if _is_demo(config):
        return Asked(None, None, DEMO_SECONDS, confirm, refit)
    proposed = Asked(None, None, propose(setting), confirm, refit)
    if says_its_budget(config):
        return proposed
    plan = make_plan(setting, proposed)
    time_budget = time_text(proposed.time_budget or 0.0)
    raise UsageError(
        f"say how long this sweep may take. Proposed: --time-budget {time_budget}, which has room for about "
        f"{plan.trials} trials of up to {plan.max_epochs} epochs ({plan.starting_points} starting points first) and "
        f"the report on val\nto accept it: --accept-plan; or give another --time-budget, or --trials and --max-epochs"
    )


def _is_demo(config: SweepConfig) -> bool:
    """Whether the data are embedded: a first look, for which nobody has to say how long."""
    return config.data_root is None and not config.download


def _check_disk(config: SweepConfig, plan: Plan, setting: Setting) -> None:
    """Refuses a sweep whose checkpoints cannot fit; counted from the models where they were not measured.

    Raises:
        DataError: With the bytes needed and free.
    """
    models = [str(model) for model in values_of(setting.space, setting.base, "model.name")]
    trials = plan.trials + (plan.confirm_top + 1) * plan.confirm_seeds + setting.labels(plan.trials)
    trials += 2 * bool(plan.refit_seconds)
    check_disk(plan.disk_bytes or checkpoint_bytes(models) * trials, trials=trials, runs_dir=config.runs_dir)
