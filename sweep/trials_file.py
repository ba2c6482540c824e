"""Writes `trials.csv`: a view of the journal, of which each writing renders only what may have changed."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from sweep.objectives import Objective
from sweep.trials import GpusOf, TrialTable, TrialView
from sweep.trials_csv import CONFIG, PARENT, ordered
from trainables.files import write_atomically
from trainables.spreadsheets import safe_text


class TrialsFile:
    """The file of a table of trials.

    The rows of the first trials that have all ended are kept as they were written, as long as the columns are the same.

    Args:
        table: All trials so far.
        path: The file.
        gpus: Of a trial, by its configuration: for the account of GPU time.
        objective: The first of the metrics.
    """

    def __init__(self, table: TrialTable, path: Path, *, gpus: GpusOf, objective: Objective) -> None:
        self._table = table
        self._path = path
        self._gpus = gpus
        self._objective = objective
        self._columns: list[str] = []
        self._order = table.order
        self._kept = bytearray()
        self._kept_rows = 0
        self._kept_names: dict[str, None] = {}

    def write(self) -> int:
        """Writes the file atomically.

        Returns:
            How many rows were rendered.

        Raises:
            OSError: If it cannot be written.
        """
        trials = list(self._table.trials.values())
        if self._order != self._table.order:
            self._forget()
            self._order = self._table.order
        rows = [self._row(trial) for trial in trials[self._kept_rows :]]
        names = dict.fromkeys((*self._kept_names, *(name for row in rows for name in row)))
        columns = ordered(names, self._objective.key)
        if columns != self._columns:
            self._forget()
            self._columns = columns
            rows = [self._row(trial) for trial in trials]
        header = _rendered([dict(zip(columns, columns, strict=True))], columns)
        later = trials[self._kept_rows :]
        ended = next((at for at, trial in enumerate(later) if trial.is_open), len(later))
        self._kept += _rendered(rows[:ended], columns)
        self._kept_rows += ended
        self._kept_names |= dict.fromkeys(name for row in rows[:ended] for name in row)
        write_atomically(self._path, b"".join((header, self._kept, _rendered(rows[ended:], columns))))
        return len(rows)

    def _forget(self) -> None:
        self._kept, self._kept_rows, self._kept_names = bytearray(), 0, {}

    def _row(self, trial: TrialView) -> dict[str, Any]:
        return trial_row(trial, self._gpus(trial.config))


def trial_row(trial: TrialView, gpus: float) -> dict[str, Any]:
    """A row of `trials.csv`, of a trial that was given so many GPUs."""
    return {
        "trial_id": trial.trial_id,
        "label": trial.label,
        "phase": trial.phase,
        "seed": trial.config["seed"],
        "state": trial.state,
        "reason": trial.reason,
        "epochs": trial.epochs,
        "seconds": round(trial.seconds, 3),
        "gpu_seconds": round(trial.seconds * gpus, 3),
        **trial.metrics,
        **{f"{CONFIG}{key}": value for key, value in trial.config.items()},
        PARENT: trial.parent or "",
    }


def _rendered(rows: Iterable[dict[str, Any]], columns: Sequence[str]) -> bytes:
    stream = io.StringIO(newline="")
    # No label or reason is a formula to a spreadsheet; `analysis.load` reads it back as it was.
    safe = ({column: safe_text(value) for column, value in row.items()} for row in rows)
    csv.DictWriter(stream, columns).writerows(safe)
    return stream.getvalue().encode()
