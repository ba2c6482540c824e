"""What a sweep is asked to do: from flags, or from a YAML file whose keys are the flags' names.

There are three modes, each with a parser of its own, made from the same groups of flags: start, resume and extend. What
decides the trials of a sweep stays as it was when the sweep goes on, so that the last two know fewer flags.
"""

from __future__ import annotations

import argparse
import difflib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import yaml

from search_spaces import find_space, space_name
from sweep.flags import DEFAULT_ARCHITECTURES, DEFAULT_MODELS, Mode, parser
from sweep.objectives import DEFAULT as DEFAULT_OBJECTIVE
from sweep.objectives import objective_faults
from sweep.samplers import SAMPLERS
from sweep.schedulers import SCHEDULERS
from sweep.tracking.flags import trackers_of
from trainables import plugins
from trainables.data import DATASETS
from trainables.data.reading.names import expanded
from trainables.errors import UsageError
from trainables.flags import tile_settings
from trainables.models import FILE, MODELS, WEIGHTS
from trainables.paths import LONGEST_NAME
from trainables.redact import secrets_in
from trainables.registry import Registry

CHANGEABLE = ("concurrent", "cpus_per_trial", "workers", "wandb", "wandb_project", "track", "time_budget")
"""What can change of a manifest when its sweep goes on; the journal keeps it."""
REPEATED = ("objective", "track")
"""Flags that may be given more than once; in a file they are lists."""


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
    trials: int | None
    max_epochs: int | None
    time_budget: float | None
    accept_plan: bool
    confirm: int | None
    refit: bool | None
    seeds: int | None
    gpu_hours: float | None
    sampler: str
    scheduler: str
    warm_start: Path | None
    objective: tuple[str, ...]
    cpus_per_trial: float | None
    gpus_per_trial: float | Literal["auto"] | None
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
    track: Mapping[str, str] | None
    address: str | None
    copy_data: bool
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
        copy_data: Whether its nodes are given the images where they do not see them.
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
    copy_data: bool
    dashboard: bool | None
    report: bool
    pictures: int
    plugins: tuple[Path, ...]
    changes: Mapping[str, Any]
    others: Mapping[str, Any]


def from_command_line(arguments: Sequence[str]) -> SweepConfig | GoOnConfig:
    """Reads flags and the file that `--config` names, whose lines come before them: the last word wins.

    Raises:
        UsageError: For unknown names (the close ones are listed) and combinations that make no sense.
    """
    first = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    first.add_argument("--config", type=expanded)
    first.add_argument("--resume", action="store_true")
    first.add_argument("--extend", nargs="?", const="")
    for flag in REPEATED:
        first.add_argument(f"--{flag}", action="append", nargs="?")
    given = first.parse_known_args(arguments)[0]
    of_file = _words_of_file(given.config) if given.config is not None else []
    for flag in REPEATED:
        if getattr(given, flag):  # the last word wins, but this flag would add to those of the file
            of_file = [word for word in of_file if not word.startswith(f"--{flag}=")]
    words = [*of_file, *arguments]
    seen = first.parse_known_args(words)[0]
    if seen.extend is not None:
        return _going_on("extend", words)
    if seen.resume:
        return _going_on("resume", words)
    plugins.load_given(words)
    return _starting(words)


def _starting(words: Sequence[str]) -> SweepConfig:
    read = vars(parser().parse_args(words))
    read["set_"] = dict(read["set_"])
    if read["tile"] is not None:
        read["set_"] |= tile_settings(read["tile"], read["set_"])
    if read["models"] is None:
        read["models"] = DEFAULT_ARCHITECTURES if read["space"] == "architecture" else DEFAULT_MODELS
    read["objective"] = tuple(read["objective"] or (DEFAULT_OBJECTIVE,))
    read["track"] = trackers_of(read["track"])
    if read["sampler"] is None:
        read["sampler"] = "tpe" if read["seeds"] is None else "grid"
    if read["name"] is None:
        read["name"] = f"{space_name(read['space'])}-{read['data']}-{datetime.now(UTC):%Y%m%d-%H%M%S}"
    config = SweepConfig(**{field.name: read[field.name] for field in fields(SweepConfig)})
    _validate(config)
    return config


def _going_on(mode: Mode, words: Sequence[str]) -> GoOnConfig:
    """Reads the flags of a mode that goes on; what only a start knows is collected, not refused yet."""
    defaults, start = vars(parser(mode).parse_args([])), parser()
    known, rest = parser(mode).parse_known_args(words, _blank(defaults))
    given, others = _given(known), _given(start.parse_args(rest, _blank(vars(start.parse_args([])))))
    read = {**defaults, **given}
    faults = [
        *_name_faults(read["name"]),
        *_worker_faults(read["workers"]),
        *_secret_faults(given.get("wandb_project")),
    ]
    if faults:
        raise UsageError("\n".join(faults))
    where = ("address", "copy_data", "dashboard")
    keys = ("name", "runs_dir", "extend", "data_root", *where, "report", "pictures", "plugins")
    changes = {key: given[key] for key in CHANGEABLE if key in given}
    if "track" in changes:
        changes["track"] = trackers_of(changes["track"])
    return GoOnConfig(**{key: read[key] for key in keys}, changes=changes, others=others)


def _blank(keys: Iterable[str]) -> argparse.Namespace:
    """What a parser fills without its defaults, which it sets only where a namespace lacks the key."""
    return argparse.Namespace(**dict.fromkeys(keys))


def _given(read: argparse.Namespace) -> dict[str, Any]:
    return {key: value for key, value in vars(read).items() if value is not None}


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
    faults += objective_faults(config.objective)
    if config.weights not in WEIGHTS and not config.weights.startswith(FILE):
        close = difflib.get_close_matches(config.weights, WEIGHTS, n=2, cutoff=0.4)
        hint = f"did you mean {close[0]}?" if close else f"known: {', '.join(WEIGHTS)}"
        faults.append(f"unknown weights {config.weights!r}; {hint}")
    if len(set(config.models)) != len(config.models):
        faults.append(f"--models names a model twice: {','.join(config.models)}")
    faults += [*_name_faults(config.name), *_worker_faults(config.workers), *_secret_faults(config.wandb_project)]
    if config.check and config.show:
        faults.append("--check and --show are two commands: give one of them")
    if config.as_yaml and not config.show:
        faults.append("--as-yaml goes with --show")
    if config.confirm == 1:
        faults.append("--confirm 1: one seed cannot show how far a seed moves a score; give 0, or 2 and more")
    if config.seeds is not None:
        faults += _seeds_faults(config)
    if not 0 <= config.seed < 2**31:
        faults.append(f"--seed {config.seed}: must be between 0 and {2**31 - 1}")
    if faults:
        raise UsageError("\n".join(faults))


def _seeds_faults(config: SweepConfig) -> list[str]:
    faults = []
    if config.seeds == 1:
        faults.append("--seeds 1: one seed cannot show how far a seed moves a score; leave it out, or give 2 and more")
    if config.sampler != "grid":
        faults.append(f"--seeds goes with --sampler grid, not {config.sampler}: it trains every configuration")
    if config.confirm:
        faults.append("--seeds and --confirm are two ways to the same: every configuration has its seeds already")
    return faults


def _name_faults(name: str | None) -> list[str]:
    if name is None or (re.fullmatch(r"[\w.-]+", name) and not name.startswith(".") and len(name) <= LONGEST_NAME):
        return []
    return [f"--name {name!r}: use letters, digits, '-', '_' and '.' only; it becomes a folder"]


def _worker_faults(workers: int | None) -> list[str]:
    return [f"--workers {workers}: must be 0 or more"] if workers is not None and workers < 0 else []


def _secret_faults(project: str | None) -> list[str]:
    if project is None or not secrets_in({"wandb_project": project}):
        return []
    return ["--wandb-project looks like a key or a token, and run folders keep it: put keys into WANDB_API_KEY"]


def _words_of_file(path: Path) -> list[str]:
    """The command line that says the same as a YAML file.

    Raises:
        UsageError: With every fault of the file.
    """
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise UsageError(f"--config {path} cannot be read: {error}") from error
    if not isinstance(content, dict):
        raise UsageError(f"--config {path}: expected lines such as 'space: augment'")
    return words_of_settings(content, f"--config {path}")


def words_of_settings(content: Mapping[str, Any], where: str) -> list[str]:
    """The command line that says the same as settings whose keys are the flags' names, with `-` or `_`.

    Args:
        content: Values as YAML or Python has them.
        where: They stand, for messages.

    Raises:
        UsageError: With every fault.
    """
    flags = parser(exit_on_error=False)
    defaults = {key.rstrip("_"): value for key, value in vars(flags.parse_args([])).items() if key != "config"}
    words: list[str] = []
    faults: list[str] = []
    for key, value in content.items():
        name = str(key).replace("-", "_")
        if name not in defaults:
            close = difflib.get_close_matches(str(key), defaults, n=2, cutoff=0.5)
            faults.append(f"unknown key {key!r}" + (f"; did you mean {' or '.join(close)}?" if close else ""))
        elif value is not None or defaults[name] is not None:
            try:
                line = _words_of_line(name.replace("_", "-"), value, flags)
                flags.parse_args(line)
                words += line
            except argparse.ArgumentError as error:
                faults.append(f"{key}: {error.message}")
    if faults:
        raise UsageError(f"{where}:\n" + "\n".join(f"  {fault}" for fault in faults))
    return words


def _words_of_line(flag: str, value: Any, flags: argparse.ArgumentParser) -> list[str]:
    """The words that say the same as one setting.

    Raises:
        argparse.ArgumentError: If the value is of a kind that the flag cannot have.
    """
    value = list(value) if isinstance(value, tuple) else value
    if flag == "set":
        if not isinstance(value, dict):
            raise argparse.ArgumentError(None, "write one line 'key: value' for each below it")
        return [f"--set={key}={_text(item)}" for key, item in value.items()]
    if flag in REPEATED and isinstance(value, list):
        return [f"--{flag}={_text(item)}" for item in value]
    if _takes(flags, f"--{flag}"):  # a switch
        if not isinstance(value, bool):
            raise argparse.ArgumentError(None, "must be true or false")
        return [word for word in (f"--{flag}" if value else f"--no-{flag}",) if _takes(flags, word)]
    if value is None or isinstance(value, dict):
        raise argparse.ArgumentError(None, "needs a value; without the line it has its default")
    return [f"--{flag}={','.join(map(_text, value)) if isinstance(value, list) else _text(value)}"]


def _takes(flags: argparse.ArgumentParser, word: str) -> bool:
    """Whether a parser knows a word that stands alone."""
    try:
        return not flags.parse_known_args([word])[1]
    except argparse.ArgumentError:
        return False


def _text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
