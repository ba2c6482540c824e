"""MLflow: one run per trial below one run of the sweep, which has the report; on a server or in a folder.

What a run holds already is asked of MLflow itself, so that a resumed sweep, or one that is written later, adds what is
missing and nothing twice, whoever wrote before.
"""

from __future__ import annotations

import importlib.util
import logging
import os
from collections.abc import Mapping
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from sweep.journal import Event
from sweep.tracking.base import (
    TRACKERS,
    TrackedSweep,
    Tracker,
    Warn,
    described,
    numbers,
    plain_name,
    verdict_summary,
)
from trainables import commands
from trainables.errors import UsageError
from trainables.redact import redacted
from trainables.run_folder import REPORT_FILE, TABLES_FOLDER

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient

# Read when MLflow is imported. Usage statistics go to a server of theirs; a request is tried seven times otherwise.
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "20")

DATABASE_FILE = "mlflow.db"
"""Of a folder that was given as the place; its artifacts lie beside it."""
IDENTITY, PARENT, NAME = "segsweep.id", "mlflow.parentRunId", "mlflow.runName"
"""Tags of a run: which trial of which sweep it is, the run of the sweep, what it is called."""
OVER = ("FINISHED", "FAILED")
LONGEST = 500
"""Letters of a parameter that every server takes."""


@TRACKERS.register("mlflow")
class MlflowTracker(Tracker):
    """Writes runs into an experiment that has the name of the project; its place is a server's or a database's URI."""

    title: ClassVar[str] = "MLflow"
    later: ClassVar[str] = "what is missing: {command}"

    def __init__(self, sweep: TrackedSweep, place: str, *, warn: Warn) -> None:
        super().__init__(sweep, place, warn=warn)
        self._runs: dict[str, str] = {}
        self._last: dict[str, int] = {}

    @classmethod
    def checked(cls, place: str) -> str:
        """A URI as it is; a folder as that of a database in it.

        Raises:
            UsageError: Without a place, with a password in it, or where MLflow is not installed.
        """
        if not place:
            raise UsageError("--track mlflow: say where, as in --track mlflow=http://127.0.0.1:5000 or mlflow=FOLDER")
        if redacted(place) != place:
            raise UsageError(
                "--track mlflow: the address holds a name and a password, and run folders keep it: put them into "
                "MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD"
            )
        if importlib.util.find_spec("mlflow") is None:
            raise UsageError(f"--track mlflow: MLflow is not installed: {commands.EXTRA_MLFLOW}")
        if "://" in place:
            return place
        return f"sqlite:///{Path(place).expanduser().resolve() / DATABASE_FILE}"

    def begin(self, trial: Event) -> bool:
        """Starts a run, or goes on with one that was cut off; none if there is one that is over."""
        trial_id = trial["trial_id"]
        found = self._find(trial_id)
        if found is not None and found.info.status in OVER:
            return False
        if found is None:
            self._runs[trial_id] = self._create(trial_id, trial, parent=self._sweep_run)
            params = {plain_name(key): str(value)[:LONGEST] for key, value in described(trial).items()}
            self._log(trial_id, params=params)
        else:
            self._runs[trial_id] = found.info.run_id
            self._last[trial_id] = int(found.data.metrics.get("epoch", 0))
        return True

    def log(self, trial_id: str, result: Event) -> None:
        """The metrics of an epoch, at the time that the journal has; none that the run holds already."""
        if result["epoch"] <= self._last.get(trial_id, 0):
            return
        told = {"epoch": float(result["epoch"]), **numbers(result)}
        self._log(trial_id, told, step=result["epoch"], time=_milliseconds(result))

    def end(self, ended: Event) -> None:
        """Says how it ended."""
        run_id = self._runs.pop(ended["trial_id"])
        self._client.set_tag(run_id, "state", ended["state"])
        if ended["reason"]:
            self._client.set_tag(run_id, "reason", ended["reason"])
        status = "FAILED" if ended["state"] == "failed" else "FINISHED"
        self._client.set_terminated(run_id, status, end_time=_milliseconds(ended))

    def report(self, folder: Path, verdict: Event | None) -> None:
        """Page, tables and verdict in the run of the sweep."""
        run_id = self._sweep_run
        for name, value in verdict_summary(verdict).items():
            self._client.set_tag(run_id, name, str(value))
        page = folder / REPORT_FILE
        if page.is_file():
            self._client.log_artifact(run_id, str(page), f"report-{_split(folder)}")
        for table in sorted((folder / TABLES_FOLDER).glob("*.csv")):
            self._client.log_artifact(run_id, str(table), f"report-{_split(folder)}/{TABLES_FOLDER}")
        self._client.set_terminated(run_id)

    def close(self) -> None:
        """Nothing to do: whatever was told is there, and a trial that was cut off stays RUNNING."""

    @cached_property
    def _client(self) -> MlflowClient:
        from mlflow.tracking import MlflowClient

        for name in ("mlflow", "alembic"):  # they tell of every table that they make
            logging.getLogger(name).setLevel(logging.WARNING)
        if self.place.startswith("sqlite:///"):
            Path(self.place.removeprefix("sqlite:///")).parent.mkdir(parents=True, exist_ok=True)
        return MlflowClient(tracking_uri=self.place)

    @cached_property
    def _experiment(self) -> str:
        found = self._client.get_experiment_by_name(self.sweep.project)
        if found is not None:
            return str(found.experiment_id)
        database = self.place.removeprefix("sqlite:///")
        artifacts = None if database == self.place else (Path(database).parent / "artifacts").as_uri()
        return str(self._client.create_experiment(self.sweep.project, artifact_location=artifacts))

    @cached_property
    def _sweep_run(self) -> str:
        found = self._find("")
        return str(found.info.run_id) if found is not None else self._create("", None, parent=None)

    def _find(self, trial_id: str) -> Any:
        """The run of a trial, or of the sweep where the id is empty; None if there is none."""
        asked = f"tags.`{IDENTITY}` = '{self.sweep.identity(trial_id)}'"
        return next(iter(self._client.search_runs([self._experiment], asked, max_results=1)), None)

    def _create(self, trial_id: str, trial: Event | None, *, parent: str | None) -> str:
        tags = {IDENTITY: self.sweep.identity(trial_id), "sweep": self.sweep.name}
        if parent is not None:
            tags[PARENT] = parent
        name = f"{self.sweep.name}/{trial_id}" if trial_id else self.sweep.name
        started = None if trial is None else _milliseconds(trial)
        run = self._client.create_run(self._experiment, started, tags={**tags, NAME: name})
        return str(run.info.run_id)

    def _log(
        self,
        trial_id: str,
        metrics: Mapping[str, float] | None = None,
        *,
        params: Mapping[str, str] | None = None,
        step: int = 0,
        time: int = 0,
    ) -> None:
        from mlflow.entities import Metric, Param

        self._client.log_batch(
            self._runs[trial_id],
            metrics=[Metric(plain_name(name), value, time, step) for name, value in (metrics or {}).items()],
            params=[Param(name, value) for name, value in (params or {}).items()],
        )


def _milliseconds(event: Event) -> int:
    """When an event was, as MLflow counts time."""
    return int(datetime.fromisoformat(event["time"]).timestamp() * 1000)


def _split(folder: Path) -> str:
    return "val" if folder.name == "val" else "test"
