"""`study.db`: the finished trials of the sweep's Optuna study for optuna-dashboard; a view, written by difference."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, distribution_to_json
from optuna.trial import FrozenTrial

STUDY_FILE = "study.db"
_TABLES = {
    "trials": "trial_id, number, study_id, state, datetime_start, datetime_complete",
    "trial_params": "trial_id, param_name, param_value, distribution_json",
    "trial_values": "trial_id, objective, value, value_type",
    "trial_intermediate_values": "trial_id, step, intermediate_value, intermediate_value_type",
    "trial_user_attributes": "trial_id, key, value_json",
    "trial_system_attributes": "trial_id, key, value_json",
}
"""Tables of Optuna that hold trials, with the columns that are written."""
BUSY_SECONDS = 0.2
"""How long a reader of the file is waited for; the driver must not stand still for it."""
Rows = dict[str, list[tuple[Any, ...]]]


class StudyFile:
    """The file of a study in memory.

    Optuna makes it, without trials, at the first writing of a process. From then on each writing adds what has
    finished since, in one transaction of SQLite. A file that was removed or changed by others in between is made anew.
    Into tables of another Optuna, which are not known here, Optuna writes all trials itself, each time.

    Trials stand in the order in which they were suggested; those after one that finishes late are written again.

    Args:
        study: In memory.
        path: The file.
    """

    def __init__(self, study: optuna.Study, path: Path) -> None:
        self._study = study
        self._path = path
        self._left: tuple[int, int, int] | None = None
        self._distributions: dict[tuple[str, BaseDistribution], str] = {}
        self._forget()

    def _forget(self) -> None:
        self._seen = 0
        self._settled = 0
        self._later: list[int] = []

    def write(self) -> int:
        """Brings the file up to date.

        Returns:
            How many trials were written.

        Raises:
            OSError: If the folder cannot be written.
        """
        if self._left is None or self._left != _identity(self._path):
            return self._make()
        try:
            count = self._update(self._path)
        except sqlite3.Error:  # locked or damaged by others
            return self._make()
        self._left = _identity(self._path)
        return count

    def _make(self) -> int:
        self._left = None
        self._forget()
        temporary = self._path.with_name(f".{self._path.name}.tmp")
        temporary.unlink(missing_ok=True)
        storage = optuna.storages.RDBStorage(f"sqlite:///{temporary}")
        try:
            made = optuna.create_study(
                study_name=self._study.study_name, storage=storage, directions=self._study.directions
            )
            known = _has_known_tables(temporary)
            ended = [] if known else [trial for trial in self._study.get_trials(deepcopy=False) if _is_told(trial)]
            made.add_trials(ended)
        finally:
            storage.remove_session()
            storage.engine.dispose()
        try:
            count = self._update(temporary) if known else len(ended)
        except sqlite3.Error as error:
            raise OSError(f"{self._path} cannot be written: {error}") from error
        # SQLite would play back into the new file what a driver that was killed was about to do to the old one.
        self._path.with_name(f"{self._path.name}-journal").unlink(missing_ok=True)
        temporary.replace(self._path)
        self._left = _identity(self._path) if known else None
        return count

    def _update(self, path: Path) -> int:
        """Writes the difference; what the file holds is known afterwards, or nothing has changed."""
        trials = self._study.get_trials(deepcopy=False)
        pending = trials[self._seen :]
        later = [trial for trial in pending if _is_told(trial)]
        same = next(
            (at for at, (old, new) in enumerate(zip(self._later, later, strict=False)) if old != new.number),
            min(len(self._later), len(later)),
        )
        rows = _rows(later[same:], self._settled + same, self._distributions)
        with closing(sqlite3.connect(path, timeout=BUSY_SECONDS)) as connection, connection:
            if same < len(self._later):
                for table in _TABLES:
                    connection.execute(f"DELETE FROM {table} WHERE trial_id > ?", (self._settled + same,))
            for table, of_table in rows.items():
                columns = _TABLES[table]
                marks = ", ".join("?" * len(columns.split(",")))
                connection.executemany(f"INSERT INTO {table} ({columns}) VALUES ({marks})", of_table)
        whole = next((at for at, trial in enumerate(pending) if not trial.state.is_finished()), len(pending))
        ended = sum("trial_id" in trial.user_attrs for trial in pending[:whole])
        self._seen += whole
        self._settled += ended
        self._later = [trial.number for trial in later[ended:]]
        return len(later) - same


def mirror(study: optuna.Study, path: Path) -> None:
    """Writes the finished trials of a study to a file, whatever was there."""
    StudyFile(study, path).write()


def _is_told(trial: FrozenTrial) -> bool:
    """Whether a trial of the study in memory stands in the file: points of earlier runs do not."""
    return trial.state.is_finished() and "trial_id" in trial.user_attrs


def _has_known_tables(path: Path) -> bool:
    """Whether Optuna's tables have the columns that are written here, and ask for no others."""
    with closing(sqlite3.connect(path)) as connection:
        for table, columns in _TABLES.items():
            ours = set(columns.split(", "))
            found = connection.execute(f"PRAGMA table_info({table})").fetchall()
            asked = {name for _, name, _, needed, default, key in found if needed and default is None and not key}
            if not asked <= ours <= {name for _, name, *_ in found}:
                return False
    return True


def _rows(trials: Sequence[FrozenTrial], before: int, texts: dict[tuple[str, BaseDistribution], str]) -> Rows:
    """The rows of trials that follow others, by table; the first study of a file has the id 1, and so has its trial."""
    rows: Rows = {table: [] for table in _TABLES}
    for number, trial in enumerate(trials, start=before):
        row = number + 1
        times = [_utc(time) for time in (trial.datetime_start, trial.datetime_complete)]
        rows["trials"].append((row, number, 1, trial.state.name, *times))
        rows["trial_params"] += [(row, *of_param) for of_param in _params(trial, texts)]
        rows["trial_values"] += [(row, at, *_stored(value)) for at, value in enumerate(trial.values or ())]
        reported = trial.intermediate_values.items()
        rows["trial_intermediate_values"] += [(row, step, *_stored(value)) for step, value in reported]
        rows["trial_user_attributes"] += [(row, key, json.dumps(value)) for key, value in trial.user_attrs.items()]
        rows["trial_system_attributes"] += [(row, key, json.dumps(value)) for key, value in trial.system_attrs.items()]
    return rows


def _params(trial: FrozenTrial, texts: dict[tuple[str, BaseDistribution], str]) -> Iterator[tuple[str, float, str]]:
    for name, value in trial.params.items():
        distribution = trial.distributions[name]
        text = texts.get((name, distribution))
        if text is None:
            text = texts[name, distribution] = distribution_to_json(distribution)
        yield name, distribution.to_internal_repr(value), text


def _stored(value: float) -> tuple[float, str]:
    """A finite number as Optuna's tables hold it; others are never told to a study."""
    return float(value), "FINITE"


def _utc(time: datetime | None) -> str | None:
    """A time as SQLAlchemy writes it; Optuna keeps local times in memory, and UTC in tables."""
    return None if time is None else time.astimezone(UTC).replace(tzinfo=None).isoformat(" ", timespec="microseconds")


def _identity(path: Path) -> tuple[int, int, int] | None:
    """Changes when others write to the file, replace or remove it."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_ino, found.st_size, found.st_mtime_ns
