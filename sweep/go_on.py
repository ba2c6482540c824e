"""`python -m sweep.run --resume` and `--extend`: what may change of a sweep that goes on, and what may not."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape

from sweep.again import space_fault, splits_fault
from sweep.config import CHANGEABLE, GoOnConfig
from sweep.flags import AUTO
from sweep.journal import JOURNAL_FILE, Journal
from sweep.manifest import SweepManifest
from sweep.objectives import recorded_objective
from sweep.ray_address import driver_address
from sweep.ray_folder import place_for_ray
from sweep.resources import Machines, available, plan_execution, plan_resources
from sweep.session import Options, Session
from sweep.verify import open_data, open_run, trial_data, version_changes
from trainables import commands, plugins
from trainables.config import parse_value
from trainables.data import SegmentationData
from trainables.errors import DataError, UsageError
from trainables.run_folder import MANIFEST_FILE
from trainables.words import time_text

_OF_SPLITS = ("splits", "group_by")
"""Flags that are compared when the data are open."""
_TRACKING = {"wandb": "wandb", "wandb_project": "project", "track": "others"}
"""Flags of trackers, and what a manifest calls them."""


def go_on(
    config: GoOnConfig,
    console: Console,
    *,
    started: float | None = None,
    asked: Mapping[str, Mapping[str, Any]] | None = None,
) -> int:
    """Compares a run with what it began with, applies what may change, and runs what is left; returns the exit code.

    Args:
        config: What is asked for.
        console: Where to say things.
        started: When the command started, on the monotonic clock; now by default.
        asked: Events that ask for more trials, by name, with their fields; those of the last time are not repeated.
    """
    started = time.monotonic() if started is None else started
    run_dir = config.runs_dir / config.name if config.name else _latest_run(config.runs_dir)
    written = open_run(run_dir)
    own = plugins.load_recorded(written.plugins, config.plugins, run=run_dir)
    with Journal(run_dir / JOURNAL_FILE) as journal:
        manifest = written.as_of(journal.events, journal.path)
        _refuse_what_cannot_run(manifest, run_dir)
        _refuse_what_cannot_change(config, manifest, run_dir)
        with console.status("comparing the data with what the sweep began with"):
            data = open_data(run_dir, manifest, root=config.data_root)
            _refuse_other_splits(config, data, run_dir)
        _refuse_more_without_time(config, manifest)
        config = dataclasses.replace(config, address=driver_address(config.address))
        machines = available(config.address)
        if config.address is None:
            place_for_ray()
        changed = _changes(config.changes, manifest, machines)
        console.print(f"going on with [bold]{escape(str(run_dir))}[/bold]")
        versions = version_changes(manifest)
        for name, (then, now) in versions.items():
            console.print(f"{name} is {now} now; the sweep began with {then}", style="yellow", markup=False)
        if versions:
            journal.append("versions", changed={name: list(pair) for name, pair in versions.items()})
        if changed:
            journal.append("settings", changed=changed)
        for name, told in (asked or {}).items():
            before = journal.of(name)
            if not before or {key: before[-1].get(key) for key in told} != dict(told):
                journal.append(name, **told)
        chosen = {"address": config.address, "dashboard": config.dashboard}
        if any(value is not None for value in chosen.values()):
            journal.append("options", **{key: value for key, value in chosen.items() if value is not None})
        if config.data_root is not None:
            data_now = dataclasses.replace(written.data, root=str(config.data_root.resolve()))
            written = dataclasses.replace(written, data=data_now)
        if config.plugins:
            written = dataclasses.replace(written, plugins=tuple(plugin.record() for plugin in own))
        if config.data_root is not None or config.plugins:
            written.save(run_dir)
        extended = None
        if config.extend:
            trials = manifest.budget.trials + config.extend
            written = dataclasses.replace(written, budget=dataclasses.replace(written.budget, trials=trials))
            extended = written
        manifest = written.as_of(journal.events, journal.path)
        options = Options(config.address, config.copy_data, config.dashboard, config.report, config.pictures)
        seen = trial_data(run_dir, data, manifest)
        session = Session(
            run_dir, manifest, journal, seen, machines, options, console, started=started, extended=extended
        )
        return session.conduct()


def _refuse_more_without_time(config: GoOnConfig, manifest: SweepManifest) -> None:
    """Refuses more trials of a sweep that is bounded by a time budget, unless it is given more time.

    Raises:
        UsageError: With the budget, and what to type.
    """
    budget = manifest.budget.time_budget
    if config.extend and manifest.plan is not None and budget is not None and "time_budget" not in config.changes:
        more = time_text(2 * budget)
        raise UsageError(
            f"this sweep tries what its time budget of {time_text(budget)} has room for: give it more, in all, "
            f"with --time-budget {more} or another"
        )


def _changes(asked: Mapping[str, Any], manifest: SweepManifest, machines: Machines) -> dict[str, dict[str, Any]]:
    """What differs from the manifest, by its sections: what was asked for, and what the machines have no room for.

    Raises:
        UsageError: If a trial asks for more than there is.
    """
    before, execution = manifest.resources, manifest.execution
    if before.gpus_per_trial > machines.gpus:
        raise UsageError(
            f"each trial of this sweep trains on {before.gpus_per_trial:g} GPU{'s' * (before.gpus_per_trial > 1)}, and "
            f"here are {machines.gpus}: go on where there are as many, or with --address on a cluster that has them"
        )
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
        execution = dataclasses.replace(execution, ranks=manifest.execution.ranks)  # 1 in manifests without it
    now: dict[str, dict[str, Any]] = {
        "resources": dataclasses.asdict(resources),
        "execution": dataclasses.asdict(execution),
        "budget": {"time_budget": asked["time_budget"]} if "time_budget" in asked else {},
        "tracking": {key: asked[flag] for flag, key in _TRACKING.items() if flag in asked},
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
    if not manifest.budget.confirm_seeds:  # there was no room for what was asked for
        held["confirm"] = config.others.get("confirm")
    for key, value in config.others.items():
        if key == "set_":
            asked = {name: parse_value(name, text) for name, text in dict(value).items()}
            faults += [
                f"--set {name}={text} (it is {keys.get(name, 'searched, or the default')})"
                for name, text in asked.items()
                if keys.get(name) != text
            ]
        elif key == "space":
            size = str(manifest.base["image_size"])
            if why := space_fault(value, space, held["models"], held["weights"], size):
                faults.append(f"--space {value} ({why})")
        elif key not in _OF_SPLITS and (key not in held or held[key] != value):
            flag = ("--no-" if value is False else "--") + key.replace("_", "-")
            shown = "" if isinstance(value, bool) else f" {_shown(value)}"
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
        "--" + key.replace("_", "-")
        for key in (*CHANGEABLE, "address", "copy_data", "dashboard", "data_root", "plugins")
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
        "seeds": _seeds_given(manifest),
        "confirm": budget.confirm_seeds,
        "refit": budget.refit,
        "sampler": manifest.search.sampler,
        "scheduler": manifest.search.scheduler,
        "seed": manifest.seed,
        "objective": [manifest.objective, *(one.key for one in manifest.further_objectives)],
        "gpus_per_trial": AUTO if _packed(manifest) else manifest.resources.gpus_per_trial,
        "precision": execution.precision,
        "channels_last": execution.channels_last,
        "compile": execution.compile,
        "cache_limit": execution.cache_bytes,
    }


def _packed(manifest: SweepManifest) -> bool:
    """Whether trials share GPUs as measured."""
    return manifest.plan is not None and any(one.gpus for one in manifest.plan.costs)


def _seeds_given(manifest: SweepManifest) -> int | None:
    """The number that `--seeds` had; None where it was not given."""
    parameter = manifest.space.parameter("seed")
    return len(parameter.choices) if parameter is not None and parameter.kind == "choice" else None


def _shown(value: Any) -> str:
    if isinstance(value, tuple | list):
        return ",".join(value)
    return "not set" if value is None else str(value)


def _latest_run(runs_dir: Path) -> Path:
    runs = [path.parent for path in runs_dir.glob(f"*/{MANIFEST_FILE}")] if runs_dir.is_dir() else []
    if not runs:
        raise UsageError(f"{runs_dir} holds no run to go on with: start one, or give --name and --runs-dir")
    return max(runs, key=lambda run: SweepManifest.load(run).created)
