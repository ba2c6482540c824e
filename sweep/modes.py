"""What `python -m sweep.run` does: start a sweep, or go on with one; `sweep.show` shows its space."""

from __future__ import annotations

import dataclasses
import os
import shutil
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape

from sweep import answer
from sweep.again import space_fault, splits_fault
from sweep.config import CHANGEABLE, GoOnConfig, SweepConfig
from sweep.manifest import Budget, SearchRecord, SweepManifest, TrackingRecord
from sweep.objectives import objective_of, recorded_objective
from sweep.preflight import Plan, prepare
from sweep.resources import Machines, Resources, available, plan_execution, plan_resources
from sweep.schedulers import comparison_note, scheduler_for
from sweep.session import Options, Session, open_journal, trial_data, with_settings
from sweep.verify import describe_data, open_data, open_run, version_changes
from sweep.versions import describe_hardware, package_versions
from trainables import commands, plugins
from trainables.config import parse_value
from trainables.data import SegmentationData
from trainables.data.splits.frozen import freeze_splits
from trainables.errors import DataError, UsageError
from trainables.execution import Execution
from trainables.run_folder import MANIFEST_FILE

_OF_SPLITS = ("splits", "group_by")
"""Flags that are compared when the data are open."""


def start(config: SweepConfig, console: Console) -> int:
    """Checks everything, makes the run folder and runs the sweep; returns the exit code."""
    run_dir = config.run_dir
    if os.path.lexists(run_dir):
        raise UsageError(f"{run_dir} exists: go on with it ({commands.resume(run_dir)}) or give another --name")
    machines = available(config.address)
    with console.status("checking the data") as status:
        plan = prepare(config, progress=lambda done, total: status.update(f"checking the data: {done}/{total} images"))
    resources = plan_resources(
        machines,
        cpus_per_trial=config.cpus_per_trial,
        gpus_per_trial=config.gpus_per_trial,
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
    scheduler = scheduler_for(plan.space, config.scheduler)
    answer.show_plan(
        console,
        plan.space,
        plan.base,
        plan.data,
        plan.splits,
        trials=config.trials,
        max_epochs=config.max_epochs,
        how=f"{config.sampler}, {scheduler}, {resources.concurrent} at once",
        execution=execution,
        note=comparison_note(scheduler, config.max_epochs),
    )
    for offender in plan.checked.warnings:
        console.print(f"[yellow]warning[/yellow] {escape(str(offender))}", soft_wrap=True)
    if config.check:
        console.print("[green]checked[/green]: data, weights, space and resources; this sweep can start")
        return 0
    run_dir.mkdir(parents=True)
    try:
        freeze_splits(plan.data, plan.splits, run_dir, hashes=plan.checked.hashes)
        manifest = _manifest(config, plan, resources, execution)
        manifest.save(run_dir)
    except BaseException:
        shutil.rmtree(run_dir, ignore_errors=True)
        raise
    options = Options(config.address, config.dashboard, config.report, config.pictures)
    with open_journal(run_dir) as journal:
        data = trial_data(run_dir, plan.data)
        return Session(run_dir, manifest, journal, data, machines, options, console).conduct()


def go_on(config: GoOnConfig, console: Console) -> int:
    """Compares a run with what it began with, applies what may change, and runs what is left; returns the exit code."""
    run_dir = config.runs_dir / config.name if config.name else _latest_run(config.runs_dir)
    written = open_run(run_dir)
    own = plugins.load_recorded(written.plugins, config.plugins, run=run_dir)
    with open_journal(run_dir) as journal:
        manifest = with_settings(written, journal)
        _refuse_what_cannot_run(manifest, run_dir)
        _refuse_what_cannot_change(config, manifest, run_dir)
        with console.status("comparing the data with what the sweep began with"):
            data = open_data(run_dir, manifest, root=config.data_root)
            _refuse_other_splits(config, data, run_dir)
        machines = available(config.address)
        changed = _changes(config.changes, manifest, machines)
        console.print(f"going on with [bold]{escape(str(run_dir))}[/bold]")
        versions = version_changes(manifest)
        for name, (then, now) in versions.items():
            console.print(f"{name} is {now} now; the sweep began with {then}", style="yellow", markup=False)
        if versions:
            journal.append("versions", changed={name: list(pair) for name, pair in versions.items()})
        if changed:
            journal.append("settings", changed=changed)
        chosen = {"address": config.address, "dashboard": config.dashboard}
        if any(value is not None for value in chosen.values()):
            journal.append("options", **{key: value for key, value in chosen.items() if value is not None})
        if config.extend:
            trials = manifest.budget.trials + config.extend
            journal.append("extended", trials=trials)
            written = dataclasses.replace(written, budget=dataclasses.replace(written.budget, trials=trials))
        if config.data_root is not None:
            data_now = dataclasses.replace(written.data, root=str(config.data_root.resolve()))
            written = dataclasses.replace(written, data=data_now)
        if config.plugins:
            written = dataclasses.replace(written, plugins=tuple(plugin.record() for plugin in own))
        if config.extend or config.data_root is not None or config.plugins:
            written.save(run_dir)
        manifest = with_settings(written, journal)
        options = Options(config.address, config.dashboard, config.report, config.pictures)
        return Session(run_dir, manifest, journal, trial_data(run_dir, data), machines, options, console).conduct()


def _changes(asked: Mapping[str, Any], manifest: SweepManifest, machines: Machines) -> dict[str, dict[str, Any]]:
    """What differs from the manifest, by its sections: what was asked for, and what the machines have no room for.

    Raises:
        UsageError: If a trial asks for more than there is.
    """
    before, execution = manifest.resources, manifest.execution
    resources = plan_resources(
        machines,
        cpus_per_trial=asked.get("cpus_per_trial", before.cpus_per_trial),
        gpus_per_trial=before.gpus_per_trial,
        concurrent=asked.get("concurrent", before.concurrent),
    )
    if {"cpus_per_trial", "workers"} & set(asked):
        execution = plan_execution(
            resources,
            precision=execution.precision,
            channels_last=execution.channels_last,
            compile=execution.compile,
            workers=asked.get("workers", execution.workers),
            cache_bytes=execution.cache_bytes,
        )
    now: dict[str, dict[str, Any]] = {
        "resources": dataclasses.asdict(resources),
        "execution": dataclasses.asdict(execution),
        "budget": {"time_budget": asked["time_budget"]} if "time_budget" in asked else {},
        "tracking": {
            key: asked[flag] for flag, key in (("wandb", "wandb"), ("wandb_project", "project")) if flag in asked
        },
    }
    differing = {
        section: {key: value for key, value in values.items() if getattr(getattr(manifest, section), key) != value}
        for section, values in now.items()
    }
    return {section: values for section, values in differing.items() if values}


def _refuse_what_cannot_run(manifest: SweepManifest, run_dir: Path) -> None:
    """Refuses a manifest whose parts are sound, but of which no trial can be made.

    Raises:
        DataError: If the objective is not known, or the first trial is no valid configuration.
    """
    recorded_objective(manifest)
    try:
        for point in manifest.space.start[:1]:
            manifest.space.trial_config(manifest.base, point)
    except UsageError as error:
        raise DataError(
            f"{run_dir / MANIFEST_FILE} is damaged (its first trial: {error}); restore it from a backup of the run "
            "folder"
        ) from error


def _refuse_what_cannot_change(config: GoOnConfig, manifest: SweepManifest, run_dir: Path) -> None:
    """Refuses flags that would change what the sweep's trials are; those that agree with the manifest are fine.

    Raises:
        UsageError: Naming each with what the manifest says, and what to do instead.
    """
    held = _held(manifest)
    space = manifest.space
    keys = {**manifest.base, **space.fixed, **space.held()}
    faults = []
    for key, value in config.others.items():
        if key == "set_":
            asked = {name: parse_value(name, text) for name, text in dict(value).items()}
            faults += [
                f"--set {name}={text} (it is {keys.get(name, 'searched, or the default')})"
                for name, text in asked.items()
                if keys.get(name) != text
            ]
        elif key == "space":
            if why := space_fault(value, space, held["models"], held["weights"]):
                faults.append(f"--space {value} ({why})")
        elif key not in _OF_SPLITS and (key not in held or held[key] != value):
            flag = "--" + key.replace("_", "-")
            shown = "" if value is True else f" {','.join(value) if isinstance(value, tuple) else value}"
            faults.append(flag + shown + (f" (it is {_shown(held[key])})" if key in held else ""))
    _refuse(faults, run_dir)


def _refuse_other_splits(config: GoOnConfig, data: SegmentationData, run_dir: Path) -> None:
    """Refuses `--splits` and `--group-by` if they do not make the frozen splits of the run.

    Raises:
        UsageError: With what differs.
    """
    asked = {key: config.others[key] for key in _OF_SPLITS if key in config.others}
    if asked and (why := splits_fault(asked, data, run_dir)):
        flags = " ".join(f"--{key.replace('_', '-')} {value}" for key, value in asked.items())
        _refuse([f"{flags} ({why})"], run_dir)


def _refuse(faults: Sequence[str], run_dir: Path) -> None:
    if not faults:
        return
    may = ", ".join(
        "--" + key.replace("_", "-") for key in (*CHANGEABLE, "address", "dashboard", "data_root", "plugins")
    )
    raise UsageError(
        f"{run_dir} goes on as it began; this cannot change: {', '.join(faults)}\n"
        f"what may change: {may}; more trials: {commands.extend(run_dir, 4)}\n"
        f"anything else is another sweep: {commands.start_sweep('--name', 'ANOTHER')} with those flags"
    )


def _held(manifest: SweepManifest) -> dict[str, Any]:
    """What a manifest says of the flags that a sweep cannot change, by their keys."""
    budget, execution = manifest.budget, manifest.execution
    searched = {parameter.key: parameter.choices for parameter in manifest.space.parameters if parameter.choices}
    return {
        "models": searched.get("model.name", (manifest.base.get("model.name"),)),
        "data": manifest.data.name,
        "download": True,  # the data are there, and compared
        "weights": manifest.base.get("model.weights"),
        "trials": budget.trials,
        "max_epochs": budget.max_epochs,
        "gpu_hours": budget.gpu_hours,
        "sampler": manifest.search.sampler,
        "scheduler": manifest.search.scheduler,
        "seed": manifest.seed,
        "objective": manifest.objective,
        "gpus_per_trial": manifest.resources.gpus_per_trial,
        "precision": execution.precision,
        "channels_last": execution.channels_last,
        "compile": execution.compile,
        "cache_limit": execution.cache_bytes,
    }


def _shown(value: Any) -> str:
    return "not set" if value is None else str(value)


def _manifest(config: SweepConfig, plan: Plan, resources: Resources, execution: Execution) -> SweepManifest:
    return SweepManifest(
        name=config.run_dir.name,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        command=("python", "-m", "sweep.run", *sys.argv[1:]),
        seed=config.seed,
        data=describe_data(
            plan.data,
            config.data_root,
            config.run_dir,
            origin=plan.splits.origin,
            warnings=[*plan.splits.warnings, *map(str, plan.checked.warnings)],
        ),
        space=plan.space,
        base=plan.base,
        budget=Budget(config.trials, config.max_epochs, config.time_budget, config.gpu_hours),
        search=SearchRecord(config.sampler, config.scheduler),
        objective=config.objective,
        direction=objective_of(config.objective).metric.direction,
        resources=resources,
        hardware=describe_hardware(),
        versions=package_versions(),
        execution=execution,
        tracking=TrackingRecord(config.wandb or TrackingRecord.wandb, config.wandb_project or TrackingRecord.project),
        plugins=tuple(plugin.record() for plugin in plugins.loaded()),
    )


def _latest_run(runs_dir: Path) -> Path:
    runs = [path.parent for path in runs_dir.glob(f"*/{MANIFEST_FILE}")] if runs_dir.is_dir() else []
    if not runs:
        raise UsageError(f"{runs_dir} holds no run to go on with: start one, or give --name and --runs-dir")
    return max(runs, key=lambda run: SweepManifest.load(run).created)
