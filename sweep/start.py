"""`python -m sweep.run`: everything from the flags of a new sweep to its first trial."""

from __future__ import annotations

import dataclasses
import math
import os
import shutil
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from rich.console import Console
from rich.markup import escape

from sweep import answer, plan_view, short_budget
from sweep.compiled import values_of
from sweep.config import SweepConfig
from sweep.flags import AUTO, DEFAULT_EPOCHS, DEFAULT_TRIALS, DEMO_SECONDS
from sweep.inputs_view import bands_text, inputs_text, lost_text
from sweep.latencies import MeasuredLatency
from sweep.manifest import Budget, ObjectiveRecord, SearchRecord, SweepManifest, TrackingRecord
from sweep.measuring import (
    Meter,
    measure_everything,
    measure_known,
    measure_latencies,
    measure_models,
    measure_sharing,
    processes,
)
from sweep.packing import pack, share_of
from sweep.places import HERE, Place
from sweep.plan import MeasuredCost, Plan
from sweep.planning import Asked, make_plan, propose
from sweep.predicting import Setting
from sweep.preflight import Prepared, check_disk, checkpoint_bytes, prepare
from sweep.ray_folder import place_for_ray
from sweep.resources import Machines, Resources, available, plan_execution, plan_resources
from sweep.schedulers import comparison_note, scheduler_for
from sweep.session import Options, Session, open_journal, trial_data
from sweep.verify import describe_data
from sweep.versions import describe_hardware, memory_bytes, package_versions
from sweep.warm_start import warm_start
from trainables import commands, plugins, shared_memory
from trainables.cost import Cost
from trainables.data.splits.frozen import freeze_splits
from trainables.errors import UsageError
from trainables.execution import Execution
from trainables.metrics import sampling_units
from trainables.redact import redacted_words
from trainables.words import time_text


def start(config: SweepConfig, console: Console, *, started: float | None = None) -> int:
    """Checks everything, makes the run folder and runs the sweep; returns the exit code.

    Args:
        config: What is asked for.
        console: Where to say things.
        started: When the command started, on the monotonic clock; now by default.
    """
    started = time.monotonic() if started is None else started
    run_dir = config.run_dir
    if os.path.lexists(run_dir):
        raise UsageError(f"{run_dir} exists: go on with it ({commands.resume(run_dir)}) or give another --name")
    machines = available(config.address)
    if config.address is None and not config.check:
        place_for_ray()
    with console.status("checking the data") as status:
        ready = prepare(config, progress=lambda done, total: status.update(f"checking the data: {done}/{total} images"))
    given = config.gpus_per_trial
    resources, execution = _machines_for(config, machines, None if given == AUTO else given)
    with _measuring_place(config, ready, machines, resources, console) as place:
        if config.precision is None and execution.device != "cpu":
            config = dataclasses.replace(config, precision=place.precision(execution.device))
            execution = dataclasses.replace(execution, precision=str(config.precision))
        found = _measured(config, ready, machines, resources, execution, place, console, started)
    if isinstance(found, int):
        return found
    run_dir.mkdir(parents=True)
    try:
        freeze_splits(found.ready.data, found.ready.splits, run_dir, hashes=found.ready.checked.hashes)
        manifest = _manifest(found)
        manifest.save(run_dir)
    except BaseException:
        shutil.rmtree(run_dir, ignore_errors=True)
        raise
    options = Options(config.address, config.copy_data, config.dashboard, config.report, config.pictures)
    with open_journal(run_dir) as journal:
        data = trial_data(run_dir, found.ready.data, manifest)
        try:
            return Session(run_dir, manifest, journal, data, machines, options, console, started=started).conduct()
        except BaseException:
            if len(journal.events) == len(journal.of("ray")):  # no trial: there is nothing to go on with
                shutil.rmtree(run_dir, ignore_errors=True)
            raise


@dataclass(frozen=True)
class _Measured:
    """A sweep with its plan, ready for its run folder."""

    config: SweepConfig
    ready: Prepared
    resources: Resources
    execution: Execution
    latencies: tuple[MeasuredLatency, ...]
    plan: Plan
    asked: Asked


@contextmanager
def _measuring_place(
    config: SweepConfig, ready: Prepared, machines: Machines, resources: Resources, console: Console
) -> Iterator[Place]:
    """This machine, or a node of the cluster once all its nodes are found to be ready."""
    if config.address is None:
        yield HERE
        return
    from sweep.cluster import measuring_place

    with measuring_place(config, ready, machines, resources, console) as node:
        yield node


def _measured(
    config: SweepConfig,
    ready: Prepared,
    machines: Machines,
    resources: Resources,
    execution: Execution,
    place: Place,
    console: Console,
    started: float,
) -> _Measured | int:
    """Shows what is asked, measures what it costs, and plans; with `--check` the exit code of that."""
    shares_gpus = config.gpus_per_trial == AUTO
    if shares_gpus and not place.has(execution):
        raise UsageError(
            f"--gpus-per-trial {AUTO} measures on this machine how many trials fit into a GPU, and it has none: give a "
            "number, such as 0.25, or start the sweep where there is one"
        )
    config, ready = _for_the_budget(config, ready, resources, execution, started, console, place)
    if config.warm_start is not None:
        warm = warm_start(ready.space, ready.base, config.warm_start, ready.objectives[0])
        ready = dataclasses.replace(ready, space=warm.space)
        for line in warm.lines(config.warm_start):
            console.print(line, markup=False, soft_wrap=True)
    scheduler = scheduler_for(ready.space, config.scheduler)
    answer.show_question(
        console,
        ready.space,
        ready.base,
        ready.data,
        ready.splits,
        how=f"{config.sampler}, {scheduler}, "
        + ("GPUs shared as measured" if shares_gpus else f"{resources.concurrent} at once"),
        execution=execution,
        objectives=ready.objectives,
        weights=ready.weights,
        inputs=inputs_text(ready.space, ready.base, ready.usual) + bands_text(ready.data, ready.left_out),
    )
    if lost := lost_text(ready.space, ready.base, ready.data, ready.splits.train):
        console.print(lost, style="yellow", markup=False, soft_wrap=True)
    warnings = ready.checked.warning_paragraphs
    for one in warnings:
        console.print(f"[yellow]warning[/yellow] {escape(one.line)}", soft_wrap=True)
    if all_are := ready.checked.where_all_are(warnings):
        console.print(escape(all_are), soft_wrap=True, style="dim")
    setting = Setting(
        space=ready.space,
        base=ready.base,
        costs=(),
        scheduler=scheduler,
        slots=resources.concurrent,
        gpus_per_trial=resources.gpus_per_trial,
        spent=time.monotonic() - started,
        report=config.report,
        train_images=len(ready.splits.train),
        val_images=len(ready.splits.val),
        val_pixels=_mean_pixels(ready),
        val_units=sampling_units([ready.splits.group(ready.data, image_id) for image_id in ready.splits.val]).count,
    )
    meter = Meter(ready, resources, execution, config.data_root, console, place)
    latencies = measure_latencies(ready, execution, console=console, place=place)
    plan_view.show_latencies(console, latencies)
    if config.check:
        rows, costs = measure_everything(meter)
        costs, resources, execution = _packed(config, costs, machines, meter)
        return _check(config, rows, _on(setting, costs, resources), resources, place, console)
    costs = measure_models(meter)
    costs, resources, execution = _packed(config, costs, machines, meter)
    setting = dataclasses.replace(_on(setting, costs, resources), spent=time.monotonic() - started)
    plan, asked = _planned(config, setting, resources, place, console)
    of_here = (memory_warning(plan, resources), shared_memory.note(execution.workers))
    for warning in of_here if config.address is None else ():
        if warning:
            console.print(warning, style="yellow", soft_wrap=True)
    return _Measured(config, ready, resources, execution, latencies, plan, asked)


def _machines_for(config: SweepConfig, machines: Machines, gpus_per_trial: float | None) -> tuple[Resources, Execution]:
    """What each trial gets, and how it is run."""
    resources = plan_resources(
        machines,
        cpus_per_trial=config.cpus_per_trial,
        gpus_per_trial=gpus_per_trial,
        concurrent=config.concurrent,
    )
    execution = plan_execution(
        resources,
        precision=config.precision,
        channels_last=config.channels_last,
        compile=config.compile,
        workers=config.workers,
        cache_bytes=config.cache_limit,
    )
    return resources, execution


def _on(setting: Setting, costs: tuple[MeasuredCost, ...], resources: Resources) -> Setting:
    """The setting with what was measured, and with what trials are given after that."""
    return dataclasses.replace(
        setting, costs=costs, slots=resources.concurrent, gpus_per_trial=resources.gpus_per_trial
    )


def _packed(
    config: SweepConfig,
    costs: tuple[MeasuredCost, ...],
    machines: Machines,
    meter: Meter,
) -> tuple[tuple[MeasuredCost, ...], Resources, Execution]:
    """With `--gpus-per-trial auto`, as many trials on each GPU as fit and pay; otherwise what there was."""
    if config.gpus_per_trial != AUTO or not meter.resources.gpus_per_trial or not costs:
        return costs, meter.resources, meter.execution

    def measure(settings: Mapping[str, Any], at_once: int) -> Cost:
        _, shared = _machines_for(config, machines, share_of(at_once))
        return measure_sharing(dataclasses.replace(meter, execution=shared), settings, at_once)

    room = int(machines.cpus / (config.cpus_per_trial or 1)) // machines.gpus
    if config.concurrent is not None:
        room = min(room, math.ceil(config.concurrent / machines.gpus))
    packing = pack(costs, room=room, measure=measure)
    meter.console.print(packing.text(), markup=False, highlight=False, soft_wrap=True)
    return packing.costs, *_machines_for(config, machines, packing.share)


def _for_the_budget(
    config: SweepConfig,
    ready: Prepared,
    resources: Resources,
    execution: Execution,
    started: float,
    console: Console,
    place: Place,
) -> tuple[SweepConfig, Prepared]:
    """The sweep as asked for, or over the shorter space where there is one and the budget has no room for the other."""
    if not short_budget.may_be_shortened(config):
        return config, ready
    known = measure_known(Meter(ready, resources, execution, config.data_root, console, place))
    points, left = len(ready.space.start), (config.time_budget or 0.0) - (time.monotonic() - started)
    if known is None or short_budget.needed_seconds(known, points, resources.concurrent) <= left:
        return config, ready
    console.print(short_budget.told(config, known, points, resources.concurrent), style="yellow", soft_wrap=True)
    return short_budget.shortened(config, ready)


def _mean_pixels(ready: Prepared) -> float:
    """Of a mask of val, from a few of them."""
    some = ready.splits.val[:: max(1, len(ready.splits.val) // 5)]
    return sum(ready.data.mask(image_id).size for image_id in some) / len(some)


def _planned(
    config: SweepConfig, setting: Setting, resources: Resources, place: Place, console: Console
) -> tuple[Plan, Asked]:
    """Makes the plan and shows it.

    Raises:
        UsageError: As `_asked` and `make_plan`.
        DataError: As `_check_disk`.
    """
    asked = _asked(config, setting)
    plan = make_plan(setting, asked)
    note = comparison_note(setting.scheduler, plan.max_epochs)
    shares_gpus = any(one.gpus for one in setting.costs)
    at_once = int(1 / resources.gpus_per_trial) if shares_gpus else processes(resources, place)
    plan_view.show_plan(console, plan, asked, at_once=at_once, note=note, seeds=config.seeds)
    _check_disk(config, plan, setting)
    return plan, asked


def _check(
    config: SweepConfig,
    rows: Sequence[tuple[str, Cost]],
    setting: Setting,
    resources: Resources,
    place: Place,
    console: Console,
) -> int:
    """Shows what was measured for `--check`, and the plan; returns the exit code."""
    if rows:
        plan_view.show_costs(console, rows)
    else:
        told = "the trials will run on GPUs, and this machine has none: costs are not measured"
        console.print(told, style="yellow", soft_wrap=True)
    faulty = sum(bool(cost.fault) for _, cost in rows)
    if faulty:
        console.print(f"[red]this sweep cannot start[/red]: {faulty} of {len(rows)} cannot be trained here")
        return 1
    _planned(dataclasses.replace(config, accept_plan=True), setting, resources, place, console)
    console.print("[green]checked[/green]: data, weights, space, resources and costs; this sweep can start")
    return 0


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


def _manifest(found: _Measured) -> SweepManifest:
    config, ready, plan, asked = found.config, found.ready, found.plan, found.asked
    first, *further = ready.objectives
    return SweepManifest(
        name=config.run_dir.name,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        command=("python", "-m", "sweep.run", *redacted_words(sys.argv[1:])),
        seed=config.seed,
        data=describe_data(
            ready.data,
            config.data_root,
            config.run_dir,
            origin=ready.splits.origin,
            warnings=[*ready.splits.warnings, *(one.line for one in ready.checked.warning_paragraphs)],
        ),
        space=ready.space,
        base={**ready.base, "epochs": plan.max_epochs},
        budget=Budget(
            plan.trials,
            plan.max_epochs,
            time_budget=asked.time_budget,
            gpu_hours=config.gpu_hours,
            open_ended=asked.time_budget is not None and asked.trials is None,
            confirm_top=plan.confirm_top,
            confirm_seeds=plan.confirm_seeds,
            refit=plan.refit_seconds > 0 or bool(asked.refit),
        ),
        search=SearchRecord(config.sampler, config.scheduler),
        objective=first.key,
        direction=first.metric.direction,
        resources=found.resources,
        hardware=describe_hardware(),
        versions=package_versions(),
        execution=found.execution,
        tracking=TrackingRecord(
            config.wandb or TrackingRecord.wandb,
            config.wandb_project or TrackingRecord.project,
            config.track or {},
        ),
        plugins=tuple(plugin.record() for plugin in plugins.loaded()),
        plan=plan,
        further_objectives=tuple(ObjectiveRecord(one.key, one.metric.direction) for one in further),
        latencies=found.latencies,
    )


def _asked(config: SweepConfig, setting: Setting) -> Asked:
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
