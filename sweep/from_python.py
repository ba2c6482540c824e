"""A sweep that Python starts: keyword arguments are read and checked as flags are, then `sweep.run` runs."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sweep.config import GoOnConfig, SweepConfig, from_command_line, words_of_settings
from sweep.notebook_view import NotebookView, in_notebook
from sweep.tally_view import SHOWN_ELSEWHERE
from trainables import commands
from trainables.child import CommandError, run_command
from trainables.errors import UsageError

OF_THE_TERMINAL = ("show", "check", "as_yaml")
"""Flags that print something and start no sweep."""


def words_of(settings: Mapping[str, Any]) -> tuple[list[str], SweepConfig | GoOnConfig]:
    """The command line of keyword arguments, and what it asks for.

    Args:
        settings: Flags by their names with underscores: `time_budget="30m"`, `set={"optimizer.lr": 0.01}`,
            `config="sweep.yaml"`. None stands for a flag that is not given.

    Raises:
        UsageError: As the command line would say it.
    """
    given = {key.rstrip("_"): value for key, value in settings.items() if value is not None}
    faults = [
        f"{key}: belongs to the terminal: {commands.start_sweep('--help')}" for key in OF_THE_TERMINAL if key in given
    ]
    if faults:
        raise UsageError("\n".join(faults))
    file = [f"--config={given.pop('config')}"] if "config" in given else []
    words = [*file, *words_of_settings(given, "run_sweep")]
    try:
        config = from_command_line(words)
    except SystemExit as stop:  # of a parser, which has said why
        raise UsageError(f"run_sweep: {' '.join(words)} cannot be read") from stop
    if config.name is None:
        raise UsageError("run_sweep: give name, the run to go on with")
    named = [] if f"--name={config.name}" in words else [f"--name={config.name}"]
    return [*words, *named], config


def conduct(settings: Mapping[str, Any], *, progress: bool) -> Path:
    """Runs a sweep in a process of its own until it ends; returns its folder.

    Args:
        settings: As for `words_of`.
        progress: Whether to show what it says.

    Raises:
        UsageError: If the settings make no sense.
        SegsweepError: If the sweep cannot start or go on, with the cure.
        KeyboardInterrupt: On an interrupt; the sweep can be resumed.
    """
    words, config = words_of(settings)
    run_dir = config.runs_dir / str(config.name)
    try:
        if progress and in_notebook():
            _run_in_notebook(run_dir, words)
        else:
            run_command("sweep.run", words, progress=progress)
    except CommandError as error:
        if str(error):
            raise
        warnings.warn(f"{run_dir}: some trials failed, or the report on val did; see trials and status()", stacklevel=3)
    return run_dir


def _run_in_notebook(run_dir: Path, words: Sequence[str]) -> None:
    """Runs a sweep whose trials are shown in one place, between what it says before and after them."""
    view = NotebookView(run_dir)
    try:
        run_command("sweep.run", words, progress=True, environment={SHOWN_ELSEWHERE: "1"}, meanwhile=view.refresh)
    finally:
        view.refresh(last=True)
