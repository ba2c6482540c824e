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
from typing import Any, Literal

import yaml

from search_spaces import SPACES, find_space, space_name
from sweep.objectives import DEFAULT as DEFAULT_OBJECTIVE
from sweep.objectives import objective_of, objectives
from sweep.optuna_study import SAMPLERS
from sweep.schedulers import SCHEDULERS
from trainables import commands
from trainables.data import DATASETS
from trainables.data.flags import add_data_flags, add_data_root_flag
from trainables.data.reading.names import expanded
from trainables.errors import UsageError
from trainables.flags import add_execution_flags, add_workers_flag
from trainables.models import MODELS, WEIGHTS
from trainables.paths import LONGEST_NAME
from trainables.registry import Registry

DEFAULT_MODELS = ("lraspp_mobilenet_v3_large",)
DEFAULT_ARCHITECTURES = ("fcn_resnet50", "deeplabv3_mobilenet_v3_large", "lraspp_mobilenet_v3_large")

CHANGEABLE = ("concurrent", "cpus_per_trial", "workers", "wandb", "wandb_project", "time_budget")
"""What can change of a manifest when its sweep goes on; the journal keeps it."""

Mode = Literal["start", "resume", "extend"]


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
    changes: Mapping[str, Any]
    others: Mapping[str, Any]


def parser(mode: Mode = "start") -> argparse.ArgumentParser:
    """The flags of `python -m sweep.run` in one of its modes."""
    going_on = "What decides its trials stays as it was; these flags may change."
    descriptions = {
        "start": "Search for the best way to segment your images, and keep everything that proves it.",
        "resume": f"Go on with a sweep that was interrupted. {going_on}",
        "extend": f"Go on with a sweep and more trials. {going_on}",
    }
    p = argparse.ArgumentParser(
        prog=commands.prog("sweep.run"),
        description=descriptions[mode],
        epilog=f"Then: {commands.report(Path('runs/NAME'))}. Exit codes: 0 done, 1 failed, 2 bad usage, 130 "
        "interrupted.",
        formatter_class=lambda prog: argparse.HelpFormatter(prog, max_help_position=32, width=110),
        allow_abbrev=False,
    )
    if mode == "start":
        _add_what(p.add_argument_group("what to try"))
        add_data_flags(p.add_argument_group("on which images"))
    else:
        add_data_root_flag(p.add_argument_group("on which images"))
    _add_how(p.add_argument_group("how much and how"), mode)
    _add_where(p.add_argument_group("with which machines"), mode)
    _add_keep(p.add_argument_group("what to keep, and going on"), mode)
    return p


def _add_what(what: argparse._ActionsContainer) -> None:
    what.add_argument(
        "--space",
        metavar="NAME",
        default="augment",
        help=f"{', '.join(SPACES)} (default: augment), or your own: FILE.yaml or FILE.py:NAME",
    )
    what.add_argument(
        "--models",
        type=_names,
        metavar="A,B",
        help=f"from: {', '.join([*MODELS, *filter(None, [MODELS.pattern])])}",
    )
    what.add_argument(
        "--weights", metavar="WHICH", default="none", help=f"{' | '.join(WEIGHTS)} (default: none, from scratch)"
    )
    what.add_argument(
        "--set",
        dest="set_",
        action="append",
        type=_pair,
        default=[],
        metavar="KEY=VALUE",
        help="hold a key for all trials, such as image_size=144x192 or optimizer.lr=0.01",
    )
    what.add_argument("--objective", metavar="METRIC", default=DEFAULT_OBJECTIVE, help=f"{', '.join(objectives())}")


def _add_how(how: argparse._ActionsContainer, mode: Mode) -> None:
    if mode == "start":
        how.add_argument("--trials", type=_positive, default=5, metavar="N", help="search trials (default: 5)")
        how.add_argument(
            "--max-epochs", type=_positive, default=5, metavar="N", help="epochs of a full trial (default: 5)"
        )
    how.add_argument(
        "--time-budget",
        type=duration,
        metavar="30m",
        help="end the search then; the best of each label are still trained to full budget",
    )
    if mode != "start":
        return
    how.add_argument("--gpu-hours", type=_positive_float, metavar="H", help="end the search after so many GPU hours")
    how.add_argument("--sampler", metavar="NAME", default="tpe", help=f"{', '.join(SAMPLERS)} (default: tpe)")
    how.add_argument("--scheduler", metavar="NAME", default="asha", help=f"{', '.join(SCHEDULERS)} (default: asha)")
    how.add_argument("--seed", type=int, default=0, metavar="N", help="of the sampler and of every trial (default: 0)")


def _add_where(where: argparse._ActionsContainer, mode: Mode) -> None:
    where.add_argument(
        "--cpus-per-trial", type=float, metavar="N", help="default: 1, or all CPUs shared among the GPUs"
    )
    if mode == "start":
        where.add_argument(
            "--gpus-per-trial", type=float, metavar="N", help="may be a fraction (default: 1 where there is a GPU)"
        )
    where.add_argument("--concurrent", type=int, metavar="N", help="trials at once (default: as many as fit)")
    if mode == "start":
        add_execution_flags(where)
    else:
        add_workers_flag(where)
    where.add_argument("--address", metavar="ADDRESS", help="of a running Ray cluster (default: start Ray here)")
    where.add_argument(
        "--dashboard",
        action=argparse.BooleanOptionalAction,
        help="the Ray dashboard on loopback (default: on, unless Ray's token authentication is off)",
    )


def _add_keep(keep: argparse._ActionsContainer, mode: Mode) -> None:
    default = "space, data and time" if mode == "start" else "the latest"
    keep.add_argument("--name", metavar="NAME", help=f"of the run (default: {default})")
    keep.add_argument(
        "--runs-dir", type=expanded, default=Path("runs"), metavar="DIR", help="where runs are kept (default: runs)"
    )
    keep.add_argument(
        "--report", action=argparse.BooleanOptionalAction, default=True, help="the report on val at the end (default)"
    )
    keep.add_argument(
        "--pictures", type=_whole, default=100, metavar="N", help="most failures pictured there (default: 100)"
    )
    keep.add_argument(
        "--wandb",
        choices=("offline", "online", "disabled"),
        help="Weights & Biases (default: offline, no account needed)",
    )
    keep.add_argument("--wandb-project", metavar="NAME", help="default: segsweep")
    keep.add_argument("--config", type=expanded, metavar="FILE.yaml", help="flags from a file; the command line wins")
    more = "; --resume --help lists what may change then" if mode == "start" else ""
    keep.add_argument(
        "--resume",
        action="store_true",
        help=f"go on with an interrupted sweep (--name, or the latest run){more}",
    )
    keep.add_argument("--extend", type=_positive, default=0, metavar="N", help="go on with a sweep and N more trials")
    if mode != "start":
        return
    keep.add_argument("--check", action="store_true", help="check data, weights and resources, then stop")
    keep.add_argument("--show", action="store_true", help="show what would be tried, then stop")
    keep.add_argument(
        "--as-yaml", action="store_true", help="with --show: as YAML, to be edited and given back as --space FILE.yaml"
    )


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
        (given if key in defaults else others).setdefault(key, value)
    read = {**defaults, **given}
    faults = [*_name_faults(read["name"]), *_worker_faults(read["workers"])]
    if faults:
        raise UsageError("\n".join(faults))
    keys = ("name", "runs_dir", "extend", "data_root", "address", "dashboard", "report", "pictures")
    changes = {key: given[key] for key in CHANGEABLE if key in given}
    return GoOnConfig(**{key: read[key] for key in keys}, changes=changes, others=others)


def _only_given(flags: argparse.ArgumentParser) -> argparse.ArgumentParser:
    """The same flags without defaults: what is parsed holds only what was given."""
    for action in flags._actions:
        action.default = argparse.SUPPRESS
    return flags


def duration(text: str) -> float:
    """Seconds of a time such as 90s, 30m, 2h or 1h30m.

    Raises:
        argparse.ArgumentTypeError: If it is no time.
    """
    units = {"d": 86400, "h": 3600, "m": 60, "s": 1}
    parts = re.findall(r"(\d+(?:\.\d+)?)([dhms])", text)
    if not parts or "".join(number + unit for number, unit in parts) != text:
        raise argparse.ArgumentTypeError(f"{text!r} is no time; write 90s, 30m, 2h or 1h30m")
    seconds = sum(float(number) * units[unit] for number, unit in parts)
    if seconds <= 0:
        raise argparse.ArgumentTypeError("must be longer than 0")
    return seconds


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
            registry.get(name)
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
    except (OSError, yaml.YAMLError) as error:
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


def _names(text: str) -> tuple[str, ...]:
    names = tuple(part.strip() for part in text.split(",") if part.strip())
    if not names:
        raise argparse.ArgumentTypeError("name at least one")
    return names


def _pair(text: str) -> tuple[str, str]:
    key, sign, value = text.partition("=")
    if not sign or not key:
        raise argparse.ArgumentTypeError(f"{text!r}: write KEY=VALUE")
    return key.strip(), value.strip()


def _positive(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} must be a whole number above 0")
    return int(text)


def _whole(text: str) -> int:
    if not text.isdigit():
        raise argparse.ArgumentTypeError(f"{text!r} must be a whole number, 0 or more")
    return int(text)


def _positive_float(text: str) -> float:
    value = float(text)
    if not value > 0:
        raise argparse.ArgumentTypeError(f"{text!r} must be above 0")
    return value
