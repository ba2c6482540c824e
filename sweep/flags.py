"""The flags of `python -m sweep.run`: one parser per mode, made from the same groups."""

from __future__ import annotations

import argparse
import re
from pathlib import Path
from typing import Final, Literal

from search_spaces import SPACES
from sweep.objectives import DEFAULT as DEFAULT_OBJECTIVE
from sweep.objectives import forms
from sweep.samplers import SAMPLERS
from sweep.schedulers import SCHEDULERS
from sweep.tracking.flags import add_track_flag
from trainables import commands, plugins
from trainables.data.flags import add_data_flags, add_data_root_flag
from trainables.data.reading.names import expanded
from trainables.errors import WeightsError
from trainables.flags import MOST_PICTURES, add_execution_flags, add_tile_flag, add_workers_flag, command_parser, whole
from trainables.models import FILE, MODELS, WEIGHTS
from trainables.models.weight_files import looks_like_file, value_of

DEFAULT_MODELS = ("lraspp_mobilenet_v3_large",)
DEFAULT_ARCHITECTURES = ("fcn_resnet50", "deeplabv3_mobilenet_v3_large", "lraspp_mobilenet_v3_large")

DEFAULT_TRIALS, DEFAULT_EPOCHS = 5, 5
"""Where only the other of `--trials` and `--max-epochs` is given, and no time budget."""
AUTO: Final = "auto"
"""Of `--gpus-per-trial`: as many trials share a GPU as fit and pay (`sweep.packing`)."""
DEMO_SECONDS = 240.0
"""The time budget of a sweep on embedded images of which nothing else is said."""


Mode = Literal["start", "resume", "extend"]


def parser(mode: Mode = "start", *, exit_on_error: bool = True) -> argparse.ArgumentParser:
    """The flags of `python -m sweep.run` in one of its modes; without `exit_on_error` a bad value is raised."""
    going_on = "What decides its trials stays as it was; these flags may change."
    descriptions = {
        "start": "Search for the best way to segment your images, and keep everything that proves it.",
        "resume": f"Go on with a sweep that was interrupted. {going_on}",
        "extend": f"Go on with a sweep and more trials. {going_on}",
    }
    p = command_parser(
        "sweep.run",
        descriptions[mode],
        epilog=f"Then: {commands.report(Path('runs/NAME'))}. Exit codes: 0 done, 1 failed, 2 bad usage, 130 "
        "interrupted.",
        formatter_class=lambda prog: argparse.HelpFormatter(prog, max_help_position=32, width=110),
        exit_on_error=exit_on_error,
    )
    if mode == "start":
        _add_what(p.add_argument_group("what to try"))
        add_data_flags(p.add_argument_group("on which images"))
    else:
        add_data_root_flag(p.add_argument_group("on which images"))
    _add_how(p.add_argument_group("how much and how"), mode)
    add_where(p.add_argument_group("with which machines"), mode)
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
        help=f"from: {', '.join([*MODELS, MODELS.pattern])}",
    )
    what.add_argument(
        "--weights",
        type=_weights,
        metavar="WHICH",
        default="none",
        help=f"{' | '.join(WEIGHTS)}, or a file: safetensors or a state dict (default: none, from scratch)",
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
    add_tile_flag(what)
    what.add_argument(
        "--warm-start",
        type=expanded,
        metavar="RUN",
        help="try the best points of an earlier run too, after the space's own",
    )
    what.add_argument(
        "--objective",
        action="append",
        metavar="METRIC",
        help=f"{', '.join(forms())} (default: {DEFAULT_OBJECTIVE}); again for a trade-off: the "
        "first stops and confirms trials",
    )


def _weights(text: str) -> str:
    """A kind of weights as it is, a file by its place and content."""
    if text in WEIGHTS or text.startswith(FILE) or not looks_like_file(text):
        return text
    try:
        return value_of(Path(text))
    except WeightsError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _add_how(how: argparse._ActionsContainer, mode: Mode) -> None:
    if mode == "start":
        how.add_argument(
            "--trials", type=_positive, metavar="N", help="search trials (default: what the time budget has room for)"
        )
        how.add_argument(
            "--max-epochs", type=_positive, metavar="N", help="epochs of a full trial (default: from the time budget)"
        )
    how.add_argument(
        "--time-budget",
        type=duration,
        metavar="30m",
        help="of the whole command, its report on val included (default: 4m on embedded images without --trials and "
        "--max-epochs; on your own a plan is proposed)",
    )
    if mode != "start":
        return
    how.add_argument("--accept-plan", action="store_true", help="start with the time budget that is proposed")
    how.add_argument(
        "--confirm",
        type=whole,
        metavar="SEEDS",
        help="train the best few and the baseline again with so many fresh seeds (default: as many as the plan has "
        "room for; 0: none)",
    )
    how.add_argument(
        "--refit",
        action=argparse.BooleanOptionalAction,
        help="train the winner again on train and val together (default: where it takes at most a tenth of the time "
        "budget, after a confirmation)",
    )
    how.add_argument("--gpu-hours", type=_positive_float, metavar="H", help="end the search after so many GPU hours")
    how.add_argument(
        "--seeds",
        type=_positive,
        metavar="N",
        help="train every configuration with N seeds; for spaces whose configurations can be counted",
    )
    how.add_argument("--sampler", metavar="NAME", help=f"{', '.join(SAMPLERS)} (default: tpe; with --seeds grid)")
    how.add_argument("--scheduler", metavar="NAME", default="asha", help=f"{', '.join(SCHEDULERS)} (default: asha)")
    how.add_argument("--seed", type=int, default=0, metavar="N", help="of the sampler and of every trial (default: 0)")


def add_where(where: argparse._ActionsContainer, mode: Mode) -> None:
    """Flags of the machines that trials run on."""
    where.add_argument(
        "--cpus-per-trial", type=float, metavar="N", help="default: 1, or all CPUs shared among the GPUs"
    )
    if mode == "start":
        where.add_argument(
            "--gpus-per-trial",
            type=_gpus,
            metavar="N",
            help="may be a fraction; 2 or more train each trial together; auto: as many trials share a GPU as fit and "
            "pay, measured first (default: 1 where there is a GPU)",
        )
    where.add_argument("--concurrent", type=int, metavar="N", help="trials at once (default: as many as fit)")
    if mode == "start":
        add_execution_flags(where)
    else:
        add_workers_flag(where)
    where.add_argument(
        "--address",
        metavar="HOST:PORT",
        help="of a running Ray cluster that this machine belongs to, also as ray://HOST:PORT (Ray Client), or auto "
        "(default: start Ray here)",
    )
    where.add_argument(
        "--copy-data",
        action="store_true",
        help="bring the images to nodes of the cluster that do not see them at the same path, once, into their caches",
    )
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
    add_report_flags(keep)
    plugins.add_flag(keep)
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


def add_report_flags(keep: argparse._ActionsContainer) -> None:
    """Flags of the report on val at the end, and of the trackers that follow the trials."""
    keep.add_argument(
        "--report", action=argparse.BooleanOptionalAction, default=True, help="the report on val at the end (default)"
    )
    keep.add_argument(
        "--pictures",
        type=whole,
        default=MOST_PICTURES,
        metavar="N",
        help=f"most failures pictured there (default: {MOST_PICTURES})",
    )
    keep.add_argument(
        "--wandb",
        choices=("offline", "online", "disabled"),
        help="Weights & Biases (default: offline, no account needed)",
    )
    keep.add_argument("--wandb-project", metavar="NAME", help="default: segsweep; MLflow's experiment, too")
    add_track_flag(keep)


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


def _gpus(text: str) -> float | Literal["auto"]:
    if text == AUTO:
        return AUTO
    try:
        return float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} must be a number, or {AUTO}") from None


def _positive_float(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not value > 0:
        raise argparse.ArgumentTypeError(f"{text!r} must be a number above 0")
    return value
