"""`python -m sweep.run`: everything from the flags of a new sweep to its first trial."""

from __future__ import annotations

import dataclasses
import os
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from rich.console import Console
from rich.markup import escape

from sweep import answer, plan_view, short_budget
from sweep.asked_budget import says_its_budget, show_planned
from sweep.config import SweepConfig
from sweep.ended_early import signals_as_interrupts
from sweep.flags import AUTO
from sweep.inputs_view import bands_text, inputs_text, lost_text
from sweep.journal import JOURNAL_FILE, Journal
from sweep.local_ray import LocalRay
from sweep.measuring import Meter, measure_everything, measure_known, measure_latencies, measure_models
from sweep.memory_room import leaves_room, memory_warning, within_memory
from sweep.new_manifest import MeasuredSweep, new_manifest
from sweep.per_trial import per_trial, share_as_measured
from sweep.places import Here, Place
from sweep.plan import MeasuredCost
from sweep.predicting import Setting
from sweep.preflight import Prepared, prepare
from sweep.ray_address import driver_address
from sweep.ray_folder import place_for_ray
from sweep.resources import Machines, Resources, available
from sweep.schedulers import scheduler_for
from sweep.session import Options, Session
from sweep.verify import trial_data
from sweep.warm_start import warm_start
from trainables import commands, shared_memory
from trainables.cost import Cost
from trainables.data.splits.frozen import freeze_splits
from trainables.errors import UsageError
from trainables.execution import Execution
from trainables.metrics import sampling_units


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
    config = dataclasses.replace(config, address=driver_address(config.address))
    machines = available(config.address)
    with signals_as_interrupts(), LocalRay(machines, config.dashboard) as ray:
        return _start(config, machines, ray, console, started)


def _start(config: SweepConfig, machines: Machines, ray: LocalRay, console: Console, started: float) -> int:
    run_dir = config.run_dir
    if config.address is None and not config.check:
        place_for_ray()
    with console.status("checking the data") as status:
        ready = prepare(config, progress=lambda done, total: status.update(f"checking the data: {done}/{total} images"))
    given = config.gpus_per_trial
    resources, execution = per_trial(config, machines, None if given == AUTO else given)
    with _measuring_place(config, ready, machines, resources, ray, console) as place:
        if config.precision is None and execution.device != "cpu":
            config = dataclasses.replace(config, precision=place.precision(execution.device))
            execution = dataclasses.replace(execution, precision=str(config.precision))
        found = _measured(config, ready, machines, resources, execution, place, console, started)
    if isinstance(found, int):
        return found
    run_dir.mkdir(parents=True)
    try:
        freeze_splits(found.ready.data, found.ready.splits, run_dir, hashes=found.ready.checked.hashes)
        manifest = new_manifest(found)
        manifest.save(run_dir)
    except BaseException:
        shutil.rmtree(run_dir, ignore_errors=True)
        raise
    options = Options(config.address, config.copy_data, config.dashboard, config.report, config.pictures)
    with Journal(run_dir / JOURNAL_FILE) as journal:
        data = trial_data(run_dir, found.ready.data, manifest)
        try:
            session = Session(run_dir, manifest, journal, data, machines, options, console, started=started, ray=ray)
            return session.conduct()
        except BaseException:
            if len(journal.events) == len(journal.of("ray")):  # no trial: there is nothing to go on with
                shutil.rmtree(run_dir, ignore_errors=True)
            raise


@contextmanager
def _measuring_place(
    config: SweepConfig, ready: Prepared, machines: Machines, resources: Resources, ray: LocalRay, console: Console
) -> Iterator[Place]:
    """This machine, where Ray starts meanwhile if there is room, or a node of the cluster once all nodes are ready."""
    if config.address is None:
        early = says_its_budget(config) and not config.check and leaves_room(ready, resources.concurrent)
        yield Here(ray.start if early else None)
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
) -> MeasuredSweep | int:
    """Shows what is asked, measures what it costs, and plans; with `--check` the exit code of that."""
    shares_gpus = config.gpus_per_trial == AUTO
    if shares_gpus and not place.has(execution):
        raise UsageError(
            f"--gpus-per-trial {AUTO} measures on this machine how many trials fit into a GPU, and it has none: give a "
            "number, such as 0.25, or start the sweep where there is one"
        )
    meter = within_memory(config, machines, Meter(ready, resources, execution, config.data_root, console, place))
    resources, execution = meter.resources, meter.execution
    config, ready = _for_the_budget(config, meter, started)
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
    meter = dataclasses.replace(meter, ready=ready)
    latencies = measure_latencies(ready, execution, console=console, place=place)
    plan_view.show_latencies(console, latencies)
    if config.check:
        rows, costs = measure_everything(meter)
        costs, resources, execution = share_as_measured(config, costs, machines, meter)
        return _check(config, rows, _on(setting, costs, resources), resources, place, console)
    costs = measure_models(meter)
    costs, resources, execution = share_as_measured(config, costs, machines, meter)
    setting = dataclasses.replace(_on(setting, costs, resources), spent=time.monotonic() - started)
    plan, asked = show_planned(config, setting, resources, place, console)
    of_here = (memory_warning(plan, resources), shared_memory.note(execution.workers))
    for warning in of_here if config.address is None else ():
        if warning:
            console.print(warning, style="yellow", soft_wrap=True)
    return MeasuredSweep(config, ready, resources, execution, latencies, plan, asked)


def _on(setting: Setting, costs: tuple[MeasuredCost, ...], resources: Resources) -> Setting:
    """The setting with what was measured, and with what trials are given after that."""
    return dataclasses.replace(
        setting, costs=costs, slots=resources.concurrent, gpus_per_trial=resources.gpus_per_trial
    )


def _for_the_budget(config: SweepConfig, meter: Meter, started: float) -> tuple[SweepConfig, Prepared]:
    """The sweep as asked for, or over the shorter space where there is one and the budget has no room for the other."""
    ready, slots = meter.ready, meter.resources.concurrent
    if not short_budget.may_be_shortened(config):
        return config, ready
    known = measure_known(meter)
    points, left = len(ready.space.start), (config.time_budget or 0.0) - (time.monotonic() - started)
    if known is None or short_budget.needed_seconds(known, points, slots) <= left:
        return config, ready
    meter.console.print(short_budget.told(config, known, points, slots), style="yellow", soft_wrap=True)
    return short_budget.shortened(config, ready)


def _mean_pixels(ready: Prepared) -> float:
    """Of a mask of val, from a few of them."""
    some = ready.splits.val[:: max(1, len(ready.splits.val) // 5)]
    return sum(ready.data.mask(image_id).size for image_id in some) / len(some)


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
    show_planned(dataclasses.replace(config, accept_plan=True), setting, resources, place, console)
    console.print("[green]checked[/green]: data, weights, space, resources and costs; this sweep can start")
    return 0
