"""What `python -m sweep.confirm` and `python -m sweep.ablate` share: more trials of a run that is there."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from sweep.config import CHANGEABLE, GoOnConfig
from sweep.flags import add_report_flags, add_where
from trainables.data.flags import add_run_flags
from trainables.errors import UsageError
from trainables.flags import command_parser, whole
from trainables.guarded import guarded

Ask = Callable[[argparse.Namespace], Mapping[str, Mapping[str, Any]]]
"""From the flags to the events that ask for more trials: their fields by their names."""


def parser(module: str, description: str) -> argparse.ArgumentParser:
    """The flags that both commands have: the run, seeds, machines, the report.

    Args:
        module: Such as `sweep.confirm`.
        description: What it does.
    """
    p = command_parser(
        module,
        description,
        epilog="It goes on in the run's own folder and journal; interrupted, the same command goes on where it was.",
        formatter_class=lambda prog: argparse.HelpFormatter(prog, max_help_position=32, width=110),
    )
    add_run_flags(p)
    p.add_argument("--seeds", type=whole, default=6, metavar="N", help="fresh seeds of each, in all (default: 6)")
    add_where(p, "resume")
    add_report_flags(p)
    return p


def ask_for_more(p: argparse.ArgumentParser, arguments: Sequence[str] | None, ask: Ask) -> int:
    """Reads the flags, writes down what is asked for and trains it; returns the exit code.

    Args:
        p: From `parser`, with flags of its own.
        arguments: Of the command line.
        ask: From the flags to the events.
    """
    started = time.monotonic()
    asked = p.parse_args(arguments)
    told = "interrupted before the first trial; nothing was changed"
    return guarded(lambda: _ask(asked, ask, started), interrupted=told)


def _ask(asked: argparse.Namespace, ask: Ask, started: float) -> int:
    if asked.seeds < 2:
        raise UsageError(f"--seeds {asked.seeds}: one seed cannot show how far a seed moves a score; give 2 or more")
    from sweep.go_on import go_on

    config = _going_on(asked)
    return go_on(config, Console(highlight=False), started=started, asked=ask(asked))


def _going_on(asked: argparse.Namespace) -> GoOnConfig:
    run: Path = asked.run.resolve() if asked.run.name in ("", "..") else asked.run
    given = {key: getattr(asked, key, None) for key in CHANGEABLE}
    return GoOnConfig(
        name=run.name,
        runs_dir=run.parent,
        extend=0,
        data_root=asked.data_root,
        address=asked.address,
        copy_data=asked.copy_data,
        dashboard=asked.dashboard,
        report=asked.report,
        pictures=asked.pictures,
        plugins=tuple(asked.plugins or ()),
        changes={key: value for key, value in given.items() if value is not None},
        others={},
    )
