"""Weights & Biases: one run per trial, grouped by sweep, and one for the report. Offline needs no account."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from sweep.journal import Event
from sweep.tracking.base import (
    TRACKERS,
    TrackedSweep,
    Tracker,
    Warn,
    Written,
    described,
    first_line,
    tables_of,
    verdict_summary,
)
from trainables.errors import UsageError
from trainables.run_folder import REPORT_FILE

# Read when W&B is imported: its own crash reports go to a server of theirs, offline too.
os.environ.setdefault("WANDB_ERROR_REPORTING", "false")

OFFLINE = " offline"
"""Ends the name of a run from which its id is made, where W&B was left for offline runs."""
WRITTEN_FILE = "segsweep-written.txt"
"""In a run's `wandb/`: ids of the W&B runs of trials that are written to their end."""


@TRACKERS.register("wandb")
class WandbTracker(Tracker):
    """Follows a sweep into W&B; its place is the mode, `offline` or `online`."""

    title: ClassVar[str] = "W&B"
    later: ClassVar[str] = "what is offline can be sent later with `wandb sync`; what is missing: {command}"

    def __init__(self, sweep: TrackedSweep, place: str, *, warn: Warn) -> None:
        super().__init__(sweep, place, warn=warn)
        self._folder = sweep.run_dir.resolve() / "wandb"
        self._mode = ""
        self._suffix = ""
        self._runs: dict[str, Any] = {}
        self._written = Written(self._folder / WRITTEN_FILE)

    @classmethod
    def checked(cls, place: str) -> str:
        """It has a flag of its own.

        Raises:
            UsageError: Always.
        """
        raise UsageError("--track wandb: W&B has a flag of its own, --wandb offline, online or disabled")

    def begin(self, trial: Event) -> bool:
        """Starts a run, unless there is one that has the trial to its end."""
        trial_id = trial["trial_id"]
        if any(identity in self._written for identity in self._identities(trial_id)):
            return False
        self._runs[trial_id] = self._start(trial_id, described(trial), job_type=trial["phase"])
        return True

    def log(self, trial_id: str, result: Event) -> None:
        """A row of the run's history."""
        row = {"epoch": result["epoch"], "seconds": result["seconds"], **result["metrics"]}
        self._runs[trial_id].log(row, step=result["epoch"])

    def end(self, ended: Event) -> None:
        """Finishes the run."""
        trial_id = ended["trial_id"]
        run = self._runs.pop(trial_id)
        run.summary["state"] = ended["state"]
        run.summary["reason"] = ended["reason"]
        run.finish(exit_code=1 if ended["state"] == "failed" else 0)
        self._written.add(self._identity(trial_id))

    def report(self, folder: Path, verdict: Event | None) -> None:
        """One more run, with the page and the tables."""
        import wandb

        run = self._start("report", {}, job_type="report")
        tables = tables_of(folder)
        for name, frame in tables.items():
            run.log({name: wandb.Table(dataframe=frame)})
        page = folder / REPORT_FILE
        if page.is_file():
            run.log({"report": wandb.Html(page.read_text(encoding="utf-8"), inject=False)})
        if "comparison" in tables:
            for row in tables["comparison"].to_dict("records"):
                run.summary[f"{row['label']}/iou"] = row["iou"]
        run.summary.update(verdict_summary(verdict))
        run.finish()

    def close(self) -> None:
        """Finishes the runs of trials that have not ended."""
        for run in self._runs.values():
            run.finish()

    def step_down(self, error: Exception) -> str:
        """From online to offline."""
        if self._mode != "online":
            return ""
        self._mode = "offline"
        self._suffix = OFFLINE  # W&B holds on to the id of the run that it could not start
        self._runs.clear()
        return f"W&B cannot be reached ({first_line(error)}); runs are kept offline from here"

    def _start(self, name: str, config: Mapping[str, Any], *, job_type: str) -> Any:
        import wandb

        self._mode = self._mode or resolve_mode(self.place, warn=self.warn)
        if self._mode != "online":
            self._remove_cut(name)
        run = wandb.init(
            reinit="create_new",
            mode="online" if self._mode == "online" else "offline",
            dir=str(self._folder.parent),
            project=self.sweep.project,
            group=self.sweep.name,
            job_type=job_type,
            name=f"{self.sweep.name}/{name}",
            id=self._identity(name),
            resume="allow" if self._mode == "online" else None,
            config=dict(config),
            settings=wandb.Settings(
                console="off",
                silent=True,
                disable_git=True,
                save_code=False,
                x_disable_stats=True,
                x_disable_meta=True,  # the command line, as it was typed
                init_timeout=30,
            ),
        )
        run.define_metric("epoch")
        run.define_metric("*", step_metric="epoch")
        return run

    def _identity(self, name: str) -> str:
        return self.sweep.identity(f"{name}{self._suffix}")

    def _identities(self, name: str) -> list[str]:
        """All that a run of that name may have."""
        return [self.sweep.identity(f"{name}{suffix}") for suffix in ("", OFFLINE)]

    def _remove_cut(self, name: str) -> None:
        """Removes an offline run that was cut off and is now written again, whole; one that was sent stays."""
        for identity in self._identities(name):
            for old in self._folder.glob(f"offline-run-*-{identity}"):
                if not old.is_symlink() and not list(old.glob("*.synced")):
                    shutil.rmtree(old, ignore_errors=True)


def resolve_mode(asked: str, *, warn: Warn) -> str:
    """The mode that can be had: `online` needs a login.

    Args:
        asked: `offline` or `online`.
        warn: Called once if the mode differs.
    """
    if asked != "online" or os.environ.get("WANDB_API_KEY"):
        return asked
    try:
        import wandb

        if wandb.api.api_key:
            return asked
    except Exception as error:  # whatever W&B raises on the user's settings, it costs one warning
        warn(f"W&B cannot be used online ({first_line(error)}), so runs are kept offline")
        return "offline"
    warn("W&B: not logged in, so runs are kept offline; `wandb login`, then `wandb sync RUN_DIR/wandb/offline-run-*`")
    return "offline"
