"""What a sweep is asked to do: from flags, or from a YAML file whose keys are the flags' names."""

from __future__ import annotations

import argparse
import difflib
import re
from collections.abc import Sequence
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import yaml

from search_spaces import SPACES, find_space, space_name
from sweep.schedulers import SCHEDULERS
from sweep.search import SAMPLERS
from trainables.data import DATASETS
from trainables.data.flags import add_data_flags
from trainables.errors import UsageError
from trainables.flags import add_execution_flags
from trainables.models import MODELS, WEIGHTS
from trainables.registry import Registry

OBJECTIVES = ("val/miou", "val/f1", "val/pixel_accuracy", "val/precision", "val/recall")
DEFAULT_MODELS = ("lraspp_mobilenet_v3_large",)
DEFAULT_ARCHITECTURES = ("fcn_resnet50", "deeplabv3_mobilenet_v3_large", "lraspp_mobilenet_v3_large")


@dataclass(frozen=True)
class SweepConfig:
    """One sweep. Field names are the flags' names with underscores; `set_` holds the `--set` pairs."""

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
    dashboard: bool
    set_: dict[str, str]
    resume: bool
    extend: int
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


def parser() -> argparse.ArgumentParser:
    """The flags of `python -m sweep.run`."""
    p = argparse.ArgumentParser(
        prog="python -m sweep.run",
        description="Search for the best way to segment your images, and keep everything that proves it.",
        epilog="Then: python -m analysis.report runs/NAME. Exit codes: 0 done, 1 failed, 2 bad usage, 130 interrupted.",
        formatter_class=lambda prog: argparse.HelpFormatter(prog, max_help_position=32, width=110),
    )
    what = p.add_argument_group("what to try")
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
    what.add_argument("--objective", metavar="METRIC", default="val/miou", help=f"{', '.join(OBJECTIVES)}")
    add_data_flags(p.add_argument_group("on which images"))
    how = p.add_argument_group("how much and how")
    how.add_argument("--trials", type=_positive, default=5, metavar="N", help="search trials (default: 5)")
    how.add_argument("--max-epochs", type=_positive, default=5, metavar="N", help="epochs of a full trial (default: 5)")
    how.add_argument(
        "--time-budget",
        type=duration,
        metavar="30m",
        help="end the search then; the best of each label are still trained to full budget",
    )
    how.add_argument("--gpu-hours", type=_positive_float, metavar="H", help="end the search after so many GPU hours")
    how.add_argument("--sampler", metavar="NAME", default="tpe", help=f"{', '.join(SAMPLERS)} (default: tpe)")
    how.add_argument("--scheduler", metavar="NAME", default="asha", help=f"{', '.join(SCHEDULERS)} (default: asha)")
    how.add_argument("--seed", type=int, default=0, metavar="N", help="of the sampler and of every trial (default: 0)")
    where = p.add_argument_group("with which machines")
    where.add_argument(
        "--cpus-per-trial", type=float, metavar="N", help="default: 1, or all CPUs shared among the GPUs"
    )
    where.add_argument(
        "--gpus-per-trial", type=float, metavar="N", help="may be a fraction (default: 1 where there is a GPU)"
    )
    where.add_argument("--concurrent", type=int, metavar="N", help="trials at once (default: as many as fit)")
    add_execution_flags(where)
    where.add_argument("--address", metavar="ADDRESS", help="of a running Ray cluster (default: start Ray here)")
    where.add_argument(
        "--dashboard",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="the Ray dashboard on loopback (default: on)",
    )
    keep = p.add_argument_group("what to keep, and going on")
    keep.add_argument("--name", metavar="NAME", help="of the run (default: space, data and time)")
    keep.add_argument(
        "--runs-dir", type=Path, default=Path("runs"), metavar="DIR", help="where runs are kept (default: runs)"
    )
    keep.add_argument(
        "--wandb",
        choices=("offline", "online", "disabled"),
        help="Weights & Biases (default: offline, no account needed)",
    )
    keep.add_argument("--wandb-project", metavar="NAME", help="default: segsweep")
    keep.add_argument("--config", type=Path, metavar="FILE.yaml", help="flags from a file; the command line wins")
    keep.add_argument(
        "--resume", action="store_true", help="go on with an interrupted sweep (--name, or the latest run)"
    )
    keep.add_argument("--extend", type=_positive, default=0, metavar="N", help="go on with a sweep and N more trials")
    keep.add_argument("--check", action="store_true", help="check data, weights and resources, then stop")
    keep.add_argument("--show", action="store_true", help="show what would be tried, then stop")
    keep.add_argument(
        "--as-yaml", action="store_true", help="with --show: as YAML, to be edited and given back as --space FILE.yaml"
    )
    return p


def from_command_line(arguments: Sequence[str]) -> SweepConfig:
    """Reads flags and the file that `--config` names.

    Raises:
        UsageError: For unknown names (the close ones are listed) and combinations that make no sense.
    """
    flags = parser()
    first = flags.parse_args(arguments)
    if first.config is not None:
        flags.set_defaults(**_from_yaml(first.config, flags))
    read = vars(flags.parse_args(arguments))
    read["set_"] = dict(read["set_"])
    read.pop("config")
    if read["models"] is None:
        read["models"] = DEFAULT_ARCHITECTURES if read["space"] == "architecture" else DEFAULT_MODELS
    if read["name"] is None and not (read["resume"] or read["extend"]):
        read["name"] = f"{space_name(read['space'])}-{read['data']}-{datetime.now(UTC):%Y%m%d-%H%M%S}"
    config = SweepConfig(**{field.name: read[field.name] for field in fields(SweepConfig)})
    _validate(config)
    return config


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
    for kind, name, known in (("weights", config.weights, WEIGHTS), ("objective", config.objective, OBJECTIVES)):
        if name not in known:
            close = difflib.get_close_matches(name, known, n=2, cutoff=0.4)
            faults.append(
                f"unknown {kind} {name!r}; " + (f"did you mean {close[0]}?" if close else f"known: {', '.join(known)}")
            )
    if len(set(config.models)) != len(config.models):
        faults.append(f"--models names a model twice: {','.join(config.models)}")
    if config.name is not None and (not re.fullmatch(r"[\w.-]+", config.name) or config.name.startswith(".")):
        faults.append(f"--name {config.name!r}: use letters, digits, '-', '_' and '.' only; it becomes a folder")
    if config.workers is not None and config.workers < 0:
        faults.append(f"--workers {config.workers}: must be 0 or more")
    if config.as_yaml and not config.show:
        faults.append("--as-yaml goes with --show")
    if not 0 <= config.seed < 2**31:
        faults.append(f"--seed {config.seed}: must be between 0 and {2**31 - 1}")
    if faults:
        raise UsageError("\n".join(faults))


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
            raise ValueError("write one 'key: value' a line below it")
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


def _positive_float(text: str) -> float:
    value = float(text)
    if not value > 0:
        raise argparse.ArgumentTypeError(f"{text!r} must be above 0")
    return value
