"""`trials.csv`: its name and its columns, for `sweep.trials`, which writes it, and for `analysis`, which reads it."""

from __future__ import annotations

from collections.abc import Hashable, Iterable

TRIALS_FILE = "trials.csv"
COLUMNS = ("trial_id", "label", "phase", "seed", "state", "reason", "epochs", "seconds", "gpu_seconds")
"""Always there and always first; metrics, the configuration and `PARENT` follow as the run has them."""
CONFIG = "config/"
"""Prefix of the columns that hold a trial's configuration."""
PARENT = "parent"
"""The column of the trial that one continued; empty where it began anew."""
TEXTS = ("trial_id", "label", "phase", "state", "reason", PARENT)
"""Columns that hold text: `007` is not 7, and an empty one is no missing number."""


def config_columns(columns: Iterable[Hashable]) -> list[str]:
    """The columns of the configuration among those of the file."""
    return [column for column in map(str, columns) if column.startswith(CONFIG)]


def ordered(columns: Iterable[str], objective: str) -> list[str]:
    """Columns as the file has them: the fixed ones, metrics (the objective's first), the configuration, the parent.

    Args:
        columns: Of all rows, without repetition.
        objective: Key of the metric that ranks the trials, such as `val/miou`.
    """
    others = [column for column in columns if column not in (*COLUMNS, PARENT)]
    config = config_columns(others)
    metrics = sorted(set(others) - set(config), key=lambda column: (column != objective, column))
    return [*COLUMNS, *metrics, *config, PARENT]
