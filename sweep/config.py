"""What a sweep is asked to do: from flags, or from a YAML file whose keys are the flags' names.

There are three modes, each with a parser of its own, made from the same groups of flags: start, resume and extend. What
decides the trials of a sweep stays as it was when the sweep goes on, so that the last two know fewer flags.
"""

from __future__ import annotations

import argparse
import difflib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import yaml

from search_spaces import find_space, space_name
from sweep.flags import DEFAULT_ARCHITECTURES, DEFAULT_MODELS, Mode, parser
from sweep.objectives import objective_of
from sweep.samplers import SAMPLERS
from sweep.schedulers import SCHEDULERS
from trainables import plugins
from trainables.data import DATASETS
from trainables.data.reading.names import expanded
from trainables.errors import UsageError
from trainables.models import MODELS, WEIGHTS
from trainables.paths import LONGEST_NAME
from trainables.registry import Registry

SWITCHES = ("check", "show", "as_yaml", "download")
"""Flags that say nothing when they are off."""
CHANGEABLE = ("concurrent", "cpus_per_trial", "workers", "wandb", "wandb_project", "time_budget")
"""What can change of a manifest when its sweep goes on; the journal keeps it."""


@dataclass(frozen=True)
class SweepConfig:
    """One sweep to start. Field names are the flags' names with underscores; `set_` holds the `--set` pairs."""

    space: str
    data: str
    data_root: Path | None
    download: bool
    splits: Path | None
    group_by: str | None
    models: tuple[str, ...]
    weights: str
    trials: int
    max_epochs: int
    time_budget: float | None
    gpu_hours: float | None
    sampler: str
    scheduler: str
    objective: str
    cpus_per_trial: float | None
    gpus_per_trial: float | None
    concurrent: int | None
    precision: str | None
    channels_last: bool
    compile: bool
    workers: int | None
    cache_limit: int
    name: str | None
    runs_dir: Path
    seed: int
    wandb: str | None
    wandb_project: str | None
    address: str | None
    dashboard: bool | None
    set_: dict[str, str]
    report: bool
    pictures: int
    check: bool
    show: bool
    as_yaml: bool
    plugins: tuple[Path, ...]

    @property
    def run_dir(self) -> Path:
        """Where the run is or will be.

        Raises:
            UsageError: If no run is named.
        """
        if self.name is None:
            raise UsageError("give --name")
        return self.runs_dir / self.name


@dataclass(frozen=True)
class GoOnConfig:
    """A sweep to go on with.

    Attributes:
        name: Of the run; None for the latest.
        runs_dir: Where it is.
        extend: Trials more than before; 0 only resumes.
        data_root: Where its data is now; None: where it was.
        address: Of a Ray cluster; None starts Ray here.
        dashboard: Whether to serve the Ray dashboard; None where Ray's token protects it.
        report: Whether to write the report on val at the end.
        pictures: Most pictures of failures in it.
        plugins: Where the plugins that it began with are now; empty: where they were.
        changes: What is to change of the manifest, by the keys of `CHANGEABLE`.
        others: Every other flag that was given, by its key: what a sweep that goes on cannot change.
    """

    name: str | None
    runs_dir: Path
    extend: int
    data_root: Path | None
    address: str | None
    dashboard: bool | None
    report: bool
    pictures: int
    plugins: tuple[Path, ...]
    changes: Mapping[str, Any]
    others: Mapping[str, Any]


def from_command_line(arguments: Sequence[str]) -> SweepConfig | GoOnConfig:
    """Reads flags and the file that `--config` names.

    Raises:
        UsageError: For unknown names (the close ones are listed) and combinations that make no sense.
    """
    first = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    first.add_argument("--config", type=expanded)
    first.add_argument("--resume", action="store_true")
    first.add_argument("--extend", nargs="?", const="")
    seen, _ = first.parse_known_args(arguments)
    in_file = _from_yaml(seen.config, parser()) if seen.config is not None else {}
    if seen.extend is not None or in_file.get("extend"):
        return _going_on("extend", arguments, in_file)
    if seen.resume or in_file.get("resume"):
        return _going_on("resume", arguments, in_file)
    plugins.load_installed()
    plugins.load(plugins.given(arguments) or in_file.get("plugins", ()))
    return _starting(arguments, in_file)


def _starting(arguments: Sequence[str], in_file: Mapping[str, Any]) -> SweepConfig:
    flags = parser()
    flags.set_defaults(**in_file)
    read = vars(flags.parse_args(arguments))
    read["set_"] = dict(read["set_"])
    if read["models"] is None:
        read["models"] = DEFAULT_ARCHITECTURES if read["space"] == "architecture" else DEFAULT_MODELS
    if read["name"] is None:
        read["name"] = f"{space_name(read['space'])}-{read['data']}-{datetime.now(UTC):%Y%m%d-%H%M%S}"
    config = SweepConfig(**{field.name: read[field.name] for field in fields(SweepConfig)})
    _validate(config)
    return config


def _going_on(mode: Mode, arguments: Sequence[str], in_file: Mapping[str, Any]) -> GoOnConfig:
    """Reads the flags of a mode that goes on; what only a start knows is collected, not refused yet."""
    own = parser(mode)
    defaults = {action.dest: action.default for action in own._actions}
    known, rest = _only_given(own).parse_known_args(arguments)
    others = vars(_only_given(parser()).parse_args(rest))
    given = vars(known)
    for key, value in in_file.items():
        if key in SWITCHES and value is False:
            continue
        (given if key in defaults else others).setdefault(key, value)
    read = {**defaults, **given}
    faults = [*_name_faults(read["name"]), *_worker_faults(read["workers"])]
    if faults:
        raise UsageError("\n".join(faults))
    keys = ("name", "runs_dir", "extend", "data_root", "address", "dashboard", "report", "pictures", "plugins")
    changes = {key: given[key] for key in CHANGEABLE if key in given}
    return GoOnConfig(**{key: read[key] for key in keys}, changes=changes, others=others)


def _only_given(flags: argparse.ArgumentParser) -> argparse.ArgumentParser:
    """The same flags without defaults: what is parsed holds only what was given."""
    for action in flags._actions:
        action.default = argparse.SUPPRESS
    return flags


def _validate(config: SweepConfig) -> None:
    faults: list[str] = []
    try:
        find_space(config.space)
    except UsageError as error:
        faults.append(str(error))
    named: list[tuple[Registry[Any], str]] = [
        (DATASETS, config.data),
        (SAMPLERS, config.sampler),
        (SCHEDULERS, config.scheduler),
        *((MODELS, model) for model in config.models),
    ]
    for registry, name in named:
        try:
            registry.check(name)
        except UsageError as error:
            faults.append(str(error))
    try:
        objective_of(config.objective)
    except UsageError as error:
        faults.append(str(error))
    if config.weights not in WEIGHTS:
        close = difflib.get_close_matches(config.weights, WEIGHTS, n=2, cutoff=0.4)
        hint = f"did you mean {close[0]}?" if close else f"known: {', '.join(WEIGHTS)}"
        faults.append(f"unknown weights {config.weights!r}; {hint}")
    if len(set(config.models)) != len(config.models):
        faults.append(f"--models names a model twice: {','.join(config.models)}")
    faults += [*_name_faults(config.name), *_worker_faults(config.workers)]
    if config.check and config.show:
        faults.append("--check and --show are two commands: give one of them")
    if config.as_yaml and not config.show:
        faults.append("--as-yaml goes with --show")
    if not 0 <= config.seed < 2**31:
        faults.append(f"--seed {config.seed}: must be between 0 and {2**31 - 1}")
    if faults:
        raise UsageError("\n".join(faults))


def _name_faults(name: str | None) -> list[str]:
    if name is None or (re.fullmatch(r"[\w.-]+", name) and not name.startswith(".") and len(name) <= LONGEST_NAME):
        return []
    return [f"--name {name!r}: use letters, digits, '-', '_' and '.' only; it becomes a folder"]


def _worker_faults(workers: int | None) -> list[str]:
    return [f"--workers {workers}: must be 0 or more"] if workers is not None and workers < 0 else []


def _from_yaml(path: Path, flags: argparse.ArgumentParser) -> dict[str, Any]:
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise UsageError(f"--config {path} cannot be read: {error}") from error
    if not isinstance(content, dict):
        raise UsageError(f"--config {path}: expected lines such as 'space: augment'")
    actions = {action.dest.rstrip("_"): action for action in flags._actions if action.dest not in ("help", "config")}
    values: dict[str, Any] = {}
    faults: list[str] = []
    for key, value in content.items():
        action = actions.get(str(key).replace("-", "_"))
        if action is None:
            close = difflib.get_close_matches(str(key), actions, n=2, cutoff=0.5)
            faults.append(f"unknown key {key!r}" + (f"; did you mean {' or '.join(close)}?" if close else ""))
            continue
        try:
            values[action.dest] = _yaml_value(action, value)
        except (argparse.ArgumentTypeError, ValueError) as error:
            faults.append(f"{key}: {error}")
    if faults:
        raise UsageError(f"--config {path}:\n" + "\n".join(f"  {fault}" for fault in faults))
    return values


def _yaml_value(action: argparse.Action, value: Any) -> Any:
    if action.dest == "set_":
        if not isinstance(value, dict):
            raise ValueError("write one line 'key: value' for each below it")
        return [(str(key), str(item)) for key, item in value.items()]
    if isinstance(value, list):
        value = ",".join(map(str, value))
    if action.nargs == 0:  # a switch
        if not isinstance(value, bool):
            raise ValueError("must be true or false")
        return value
    if value is None and action.default is None:
        return None
    convert = action.type if callable(action.type) else str
    converted = convert(str(value))
    if action.choices is not None and converted not in action.choices:
        raise ValueError(f"must be one of {', '.join(map(str, action.choices))}")
    return converted
