"""Weights & Biases, off the critical path: a thread follows the journal, and nothing it does can hurt a sweep.

One run per trial, grouped by sweep, and one for the report. Offline unless asked otherwise and logged in.
`python -m sweep.tracking RUN` writes a finished run's report to W&B again, such as after the test split was opened.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import queue
import shutil
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from sweep.journal import JOURNAL_FILE, Event, read_events
from sweep.verdict import Verdict, named
from sweep.verify import open_run
from trainables import commands
from trainables.config import TrialConfig
from trainables.data.flags import add_run
from trainables.errors import DataError
from trainables.flags import command_parser
from trainables.guarded import guarded
from trainables.redact import redacted
from trainables.run_folder import REPORT_FILE, TABLES_FOLDER, report_folder

# Read when W&B is imported: its own crash reports go to a server of theirs, offline too.
os.environ.setdefault("WANDB_ERROR_REPORTING", "false")

FLUSH_SECONDS = 5.0
OFFLINE = " offline"
"""Ends the name of a run from which its id is made, where W&B was left for offline runs."""
WRITTEN_FILE = "segsweep-written.txt"
"""In a run's `wandb/`: ids of the W&B runs of trials that are written to their end; a resumed sweep leaves them out."""
TABLES = ("comparison", "pareto", "per_class", "iou_thresholds", "cost")


def resolve_mode(asked: str, *, warn: Callable[[str], None]) -> str:
    """The mode that can be had: `online` needs a login.

    Args:
        asked: `offline`, `online` or `disabled`.
        warn: Called once if the mode differs.
    """
    if asked != "online" or os.environ.get("WANDB_API_KEY"):
        return asked
    try:
        import wandb

        if wandb.api.api_key:
            return asked
    except Exception as error:  # whatever W&B raises on the user's settings, it costs one warning
        warn(f"W&B cannot be used online ({_first_line(error)}), so runs are kept offline")
        return "offline"
    warn("W&B: not logged in, so runs are kept offline; `wandb login`, then `wandb sync RUN_DIR/wandb/offline-run-*`")
    return "offline"


class Tracker:
    """Follows a journal into W&B.

    Args:
        run_dir: Runs are written below it.
        sweep: Name of the sweep; groups its runs.
        created: Tells sweeps of the same name apart.
        project: W&B project.
        mode: `offline`, `online` or `disabled`.
        warn: Called once when W&B fails.
    """

    def __init__(
        self, run_dir: Path, *, sweep: str, created: str, project: str, mode: str, warn: Callable[[str], None]
    ) -> None:
        self._run_dir = run_dir.resolve()
        self._sweep = sweep
        self._created = created
        self._project = project
        self._mode = mode
        self._warn = warn
        self._runs: dict[str, Any] = {}
        self._results: dict[str, list[Event]] = {}
        self._verdict: Event | None = None
        self._written = frozenset(_lines(self._run_dir / "wandb" / WRITTEN_FILE))
        self._suffix = ""
        self._queue: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        if mode != "disabled":
            self._thread = threading.Thread(target=self._work, name="tracking", daemon=True)
            self._thread.start()

    def on_event(self, event: Event) -> None:
        """Queues an event; returns at once."""
        if event["event"] == "verdict":
            self._verdict = event
        if self._thread is not None and event["event"] in ("suggested", "result", "ended"):
            self._queue.put(lambda: self._log(event))

    def report(self, report_dir: Path) -> None:
        """Queues the report as one more run."""
        if self._thread is not None:
            self._queue.put(lambda: self._log_report(report_dir))

    def close(self, timeout: float = FLUSH_SECONDS) -> bool:
        """Flushes what it can within `timeout` seconds; returns whether all was written."""
        if self._thread is None:
            return True
        self._queue.put(None)
        self._thread.join(timeout)
        if self._thread.is_alive():
            self._warn("W&B has not written everything yet; what is offline can be sent later with `wandb sync`")
            return False
        return True

    def _work(self) -> None:
        while (job := self._queue.get()) is not None:
            try:
                job()
            except Exception as error:
                if not self._step_down(error):
                    return
                try:
                    job()
                except Exception as again:
                    self._warn(f"W&B is off for the rest of this sweep: {_first_line(again)}")
                    return
        try:
            for run in self._runs.values():
                run.finish()
        except Exception as error:
            self._warn(f"W&B could not close its runs: {_first_line(error)}")

    def _step_down(self, error: Exception) -> bool:
        """From online to offline, from offline to nothing."""
        if self._mode == "online":
            self._warn(f"W&B cannot be reached ({_first_line(error)}); runs are kept offline from here")
            self._mode = "offline"
            self._suffix = OFFLINE  # W&B holds on to the id of the run that it could not start
            self._runs.clear()
            return True
        self._warn(f"W&B is off for the rest of this sweep: {_first_line(error)}")
        return False

    def _log(self, event: Event) -> None:
        trial_id = event["trial_id"]
        if event["event"] == "suggested":
            if not self._written.isdisjoint(self._identities(trial_id)):
                return
            policy = TrialConfig.from_flat(event["config"]).augment.describe()
            config = {**event["config"], "policy": policy, "label": event["label"], "phase": event["phase"]}
            self._runs[trial_id] = self._start(trial_id, config, job_type=event["phase"])
            for result in self._results.get(event.get("parent") or "", []):
                self._log_result(trial_id, result)
        elif event["event"] == "result":
            self._results.setdefault(trial_id, []).append(event)
            self._log_result(trial_id, event)
        else:
            run = self._runs.pop(trial_id, None)
            if run is not None:
                run.summary["state"] = event["state"]
                run.summary["reason"] = event["reason"]
                run.finish(exit_code=1 if event["state"] == "failed" else 0)
                with (self._run_dir / "wandb" / WRITTEN_FILE).open("a", encoding="ascii") as file:
                    file.write(f"{self._identity(trial_id)}\n")

    def _log_result(self, trial_id: str, event: Event) -> None:
        run = self._runs.get(trial_id)
        if run is not None:
            run.log({"epoch": event["epoch"], "seconds": event["seconds"], **event["metrics"]}, step=event["epoch"])

    def _log_report(self, report_dir: Path) -> None:
        import pandas as pd
        import wandb

        run = self._start("report", {}, job_type="report")
        for name in TABLES:
            path = report_dir / TABLES_FOLDER / f"{name}.csv"
            if path.is_file() and len(frame := pd.read_csv(path)):  # without rows: one objective has no Pareto set
                run.log({name: wandb.Table(dataframe=frame)})
        page = report_dir / REPORT_FILE
        if page.is_file():
            run.log({"report": wandb.Html(page.read_text(encoding="utf-8"), inject=False)})
        comparison = report_dir / TABLES_FOLDER / "comparison.csv"
        if comparison.is_file():
            for row in pd.read_csv(comparison).to_dict("records"):
                run.summary[f"{row['label']}/iou"] = row["iou"]
        run.summary.update(verdict_summary(self._verdict))
        run.finish()

    def _start(self, name: str, config: Mapping[str, Any], *, job_type: str) -> Any:
        import wandb

        identity = self._identity(name)
        if self._mode != "online":
            self._remove_cut(name)
        run = wandb.init(
            reinit="create_new",
            mode="online" if self._mode == "online" else "offline",
            dir=str(self._run_dir),
            project=self._project,
            group=self._sweep,
            job_type=job_type,
            name=f"{self._sweep}/{name}",
            id=identity,
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

    def _identity(self, name: str, suffix: str | None = None) -> str:
        what = f"{self._sweep} {self._created} {name}{self._suffix if suffix is None else suffix}"
        return hashlib.sha256(what.encode()).hexdigest()[:12]

    def _identities(self, name: str) -> list[str]:
        """All that a run of that name may have."""
        return [self._identity(name, suffix) for suffix in ("", OFFLINE)]

    def _remove_cut(self, name: str) -> None:
        """Removes an offline run that was cut off and is now written again, whole; one that was sent stays."""
        for identity in self._identities(name):
            for old in (self._run_dir / "wandb").glob(f"offline-run-*-{identity}"):
                if not old.is_symlink() and not list(old.glob("*.synced")):
                    shutil.rmtree(old, ignore_errors=True)


def verdict_summary(event: Event | None) -> dict[str, Any]:
    """What W&B shows of a verdict in the summary of the report's run; a candidate where there is none."""
    if event is None:
        return {"evidence": "candidate: one seed, chosen on val"}
    verdict = Verdict.from_json(event)
    leading = verdict.leading
    numbers = {name: getattr(leading, name) for name in ("difference", "low", "high", "chance", "detectable", "seeds")}
    told = {"outcome": verdict.outcome.value, "configuration": named(verdict.of(leading.name)), "split": verdict.split}
    return {"evidence": "fresh seeds", **{f"verdict/{name}": value for name, value in {**told, **numbers}.items()}}


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; returns its exit code."""
    flags = command_parser(
        "sweep.tracking", "Write a run's report to W&B: that on test, or where there is none that on val."
    )
    add_run(flags)
    flags.add_argument("--wandb", choices=("offline", "online"), default="offline")
    flags.add_argument("--wandb-project", metavar="NAME", help="default: the sweep's own")
    asked = flags.parse_args(arguments)
    return guarded(lambda: _write_report(asked), interrupted="interrupted")


def _write_report(asked: argparse.Namespace) -> int:
    def warn(text: str) -> None:
        print(text, file=sys.stderr)

    manifest = open_run(asked.run)
    reports = [report_folder(asked.run, split) for split in ("test", "val")]
    report = next((one for one in reports if (one / REPORT_FILE).is_file()), None)
    if report is None:
        raise DataError(f"{reports[0]} holds no report yet: {commands.report(asked.run)}")
    tracker = Tracker(
        asked.run,
        sweep=manifest.name,
        created=manifest.created,
        project=asked.wandb_project or manifest.tracking.project,
        mode=resolve_mode(asked.wandb, warn=warn),
        warn=warn,
    )
    for event in read_events(asked.run / JOURNAL_FILE):
        if event["event"] == "verdict":
            tracker.on_event(event)
    tracker.report(report)
    return 0 if tracker.close(timeout=120) else 1


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="ascii").split()
    except (OSError, ValueError):
        return []


def _first_line(error: Exception) -> str:
    return redacted((str(error).strip().splitlines() or [type(error).__name__])[0])


if __name__ == "__main__":
    sys.exit(main())
