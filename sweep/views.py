"""The files of a run that its journal can rebuild: `trials.csv` and `study.db`."""

from __future__ import annotations

import time
from pathlib import Path

from sweep.conductor import Conductor
from sweep.study_db import STUDY_FILE, StudyFile
from sweep.trials import GpusOf
from sweep.trials_csv import TRIALS_FILE
from sweep.trials_file import TrialsFile

REFRESH_SECONDS = 5.0


class Views:
    """`trials.csv` and `study.db`, kept near the journal."""

    def __init__(self, conductor: Conductor, run_dir: Path, gpus: GpusOf) -> None:
        self._table = conductor.table
        self._trials = TrialsFile(conductor.table, run_dir / TRIALS_FILE, gpus=gpus, objective=conductor.objective)
        self._study = StudyFile(conductor.search.suggestions.study, run_dir / STUDY_FILE)
        self._next = 0.0
        self._changes = -1

    def refresh(self) -> None:
        """Writes what has changed, at most every few seconds."""
        if time.monotonic() >= self._next:
            self.write()

    def write(self) -> None:
        """Writes both; the study only when a trial has ended since."""
        self._trials.write()
        if self._table.changes != self._changes:
            self._study.write()
            self._changes = self._table.changes
        self._next = time.monotonic() + REFRESH_SECONDS
