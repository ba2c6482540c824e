"""The files of a run that its journal can rebuild: `trials.csv` and `study.db`."""

from __future__ import annotations

import time
from pathlib import Path

from sweep.conductor import Conductor
from sweep.optuna_study import STUDY_FILE, mirror
from sweep.trials import GpusOf
from sweep.trials_csv import TRIALS_FILE

REFRESH_SECONDS = 5.0


class Views:
    """`trials.csv` and `study.db`, kept near the journal."""

    def __init__(self, conductor: Conductor, run_dir: Path, gpus: GpusOf) -> None:
        self._conductor = conductor
        self._run_dir = run_dir
        self._gpus = gpus
        self._next = 0.0
        self._ended = -1

    def refresh(self) -> None:
        """Writes what has changed, at most every few seconds."""
        if time.monotonic() >= self._next:
            self.write()

    def write(self) -> None:
        """Writes both; the study only when a trial has ended since."""
        conductor = self._conductor
        conductor.table.write_csv(self._run_dir / TRIALS_FILE, gpus=self._gpus, objective=conductor.objective)
        ended = len(conductor.journal.of("ended"))
        if ended != self._ended:
            mirror(conductor.search.suggestions.study, self._run_dir / STUDY_FILE)
            self._ended = ended
        self._next = time.monotonic() + REFRESH_SECONDS
