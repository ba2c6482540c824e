"""In a notebook: where a sweep stands, in one place of the cell's output that is written anew every few seconds."""

from __future__ import annotations

import io
import sys
import time
from pathlib import Path
from typing import Any

from rich.console import Console

from sweep.objectives import recorded_objectives
from sweep.status import Status, read_status
from sweep.trials_view import ROWS, trials_table
from trainables.errors import SegsweepError

REFRESH_SECONDS = 2.0
SHARE = 0.1
"""Most of the time that may go into looking; a long journal is looked at less often."""
WIDTH = 118
"""Columns."""
_PAGE = '<pre style="font-family: monospace; line-height: 1.3; white-space: pre-wrap; margin: 0">{code}</pre>'


def in_notebook() -> bool:
    """Whether this process is a Jupyter kernel, whose front end shows HTML and replaces what it showed."""
    find = getattr(sys.modules.get("IPython"), "get_ipython", None)
    return hasattr(find() if find is not None else None, "kernel")


class NotebookView:
    """Shows a sweep that another process runs, once there is a trial.

    Args:
        run_dir: The run, which may not be there yet.
    """

    def __init__(self, run_dir: Path) -> None:
        self._run_dir = run_dir
        self._handle: Any = None
        self._next = 0.0

    def refresh(self, *, last: bool = False) -> None:
        """Looks, and writes the view anew, if it is time to.

        Args:
            last: Whether the sweep has ended, so that it is time in any case.
        """
        started = time.monotonic()
        if started < self._next and not last:
            return
        try:
            status = read_status(self._run_dir, patience=0.0)
        except SegsweepError:  # nothing is there yet
            return
        if status.tally.table.trials:
            self._show(status)
        self._next = started + max(REFRESH_SECONDS, (time.monotonic() - started) / SHARE)

    def _show(self, status: Status) -> None:
        from IPython.display import display

        if self._handle is None:
            self._handle = display(rendered(status), raw=True, display_id=True)
        else:
            self._handle.update(rendered(status), raw=True)


def rendered(status: Status) -> dict[str, str]:
    """The view as a notebook's front end takes it: by MIME type, HTML and plain text."""
    console = Console(file=io.StringIO(), record=True, width=WIDTH, force_jupyter=False, highlight=False)
    trials = list(status.tally.table.trials.values())
    if len(trials) > ROWS:
        console.print(f"... {len(trials) - ROWS} earlier trials", style="dim")
    console.print(trials_table(trials[-ROWS:], recorded_objectives(status.manifest), width=WIDTH))
    for line in status.lines():
        console.print(line, soft_wrap=True)
    page = console.export_html(inline_styles=True, code_format=_PAGE, clear=False)
    return {"text/html": page, "text/plain": console.export_text()}
