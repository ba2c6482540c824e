"""`python -m sweep.status RUN`: where a sweep stands, while it runs or afterwards, from any terminal or machine.

It reads the manifest, the journal and `spent.txt`, and of other files at most whether they are there. It writes
nothing, takes no lock and loads neither torch nor Ray.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.text import Text

from sweep.candidate import chief_keys
from sweep.driver import PATIENCE, Driver, find_driver
from sweep.heartbeat import spent_seconds
from sweep.journal import JOURNAL_FILE, Event, read_events
from sweep.manifest import SweepManifest
from sweep.objectives import recorded_objective
from sweep.phase_kinds import CONFIRM
from sweep.refitted import refit_text
from sweep.tally import Spent, Tally, foreseen
from sweep.tally_view import best_text, found_lines, hanging, kept_text, line, phase_lines
from sweep.trials import TrialTable
from sweep.verdict import Verdict, last_verdict, sentence, why_unconfirmed
from trainables import commands
from trainables.data.flags import add_run
from trainables.errors import DataError
from trainables.flags import command_parser
from trainables.guarded import guarded
from trainables.labels import BEST
from trainables.paths import within
from trainables.run_folder import REPORT_FILE, report_folder
from trainables.words import some_of, time_text

RUNNING, FINISHED, INTERRUPTED, STOPPED = "running", "finished", "interrupted", "stopped"
"""States of a sweep: a driver is at work; it came to its end; it was ended from outside; it ended without a word."""
WORK = (
    "suggested",
    "result",
    "ended",
    "refit_epoch",
    "refitted",
    "refit_over",
    "confirm_asked",
    "ablate_asked",
    "extended",
)
"""Events after which there is something to do until the sweep is closed again."""
_LOGS_TOLD = 4


@dataclass(frozen=True)
class Status:
    """Where a sweep stands.

    Attributes:
        run_dir: The run.
        manifest: As it holds now.
        events: Of the journal so far.
        tally: Of its trials.
        driver: Whether somebody runs it.
        state: `RUNNING`, `FINISHED`, `INTERRUPTED` or `STOPPED`.
        elapsed: Seconds of its time spent so far, over all resumes.
        now: When it was looked at.
    """

    run_dir: Path
    manifest: SweepManifest
    events: Sequence[Event]
    tally: Tally
    driver: Driver
    state: str
    elapsed: float
    now: datetime

    @property
    def verdict(self) -> Verdict | None:
        """What fresh seeds showed; None while there are none."""
        return last_verdict(self.events)

    @property
    def last_event(self) -> tuple[str, float] | None:
        """What the journal has last, and how many seconds ago that was."""
        if not self.events:
            return None
        told = datetime.fromisoformat(self.events[-1]["time"])
        return str(self.events[-1]["event"]), max(0.0, (self.now - told).total_seconds())

    @property
    def resume(self) -> str:
        """The command that goes on with it; empty while it runs and once it has come to its end."""
        return commands.resume(self.run_dir) if self.state in (INTERRUPTED, STOPPED) else ""

    @property
    def report(self) -> Path | None:
        """The newest report that there is: on test, else on val."""
        pages = (report_folder(self.run_dir, split) / REPORT_FILE for split in ("test", "val"))
        return next((page for page in pages if page.is_file()), None)

    @property
    def dashboard(self) -> str | None:
        """Where Ray's dashboard is; None where it is not known, or nobody runs the sweep."""
        told = [event.get("dashboard") for event in self.events if event["event"] == "ray"]
        return str(told[-1]) if told and told[-1] and self.state == RUNNING else None

    def kept(self) -> list[tuple[float, str]]:
        """Seconds that the plan keeps for what has not begun yet, and what for."""
        plan, kinds = self.manifest.plan, {event["event"] for event in self.events}
        if plan is None or self.state == FINISHED:
            return []
        confirmed = bool(self.tally.table.of_phase(CONFIRM.name)) or "confirm_over" in kinds
        refitted = kinds & {"refit_epoch", "refitted", "refit_over"}
        return [
            (0.0 if confirmed else plan.confirm_seconds, "to confirm the best"),
            (0.0 if refitted else plan.refit_seconds, "to train it again on train and val"),
            (plan.report_seconds, plan.end),
        ]

    def lines(self, *, ascii_only: bool = False) -> list[Text]:
        """For a terminal: what is shown while it runs, and what only somebody elsewhere must be told."""
        manifest, events = self.manifest, self.events
        unconfirmed = why_unconfirmed(events)
        about = manifest.budget.open_ended
        shown = [line("sweep", f"{manifest.name}: {self._state_text()}")]
        shown += phase_lines(self.tally, self._foreseen(), about=about)
        if best := best_text(self.tally, ascii_only=ascii_only):
            shown.append(line(manifest.objective, best))
        chief = chief_keys(manifest.space)
        shown += found_lines(self.tally, verdict=self.verdict, chief=chief, unconfirmed=unconfirmed)
        labels = self.tally.table.labels(self.tally.objective)
        if BEST in labels and (told := refit_text(events, labels[BEST].trial_id, self.run_dir)):
            shown.append(line("refit", told))
        shown.append(line("time", self._time_text()))
        shown.append(line("logs", self._logs_text(), whole=True))
        if self.dashboard:
            shown.append(line("dashboard", f"{self.dashboard} (on the machine of the sweep)"))
        shown.append(line("trackers", self._tracking_text()))
        if self.report is not None:
            shown.append(line("report", str(self.report), whole=True))
        if self.resume:
            shown.append(line("resume", self.resume, whole=True))
        return shown

    def _state_text(self) -> str:
        last = self.last_event
        ago = f"the last event, {last[0]}, is {time_text(last[1])} old" if last is not None else "no event yet"
        if self.state == RUNNING:
            return f"running ({self.driver.evidence}; {ago})"
        if self.state == FINISHED:
            return f"finished ({ago})"
        if self.state == INTERRUPTED:
            return f"interrupted ({self.events[-1].get('reason', '')}; {ago})"
        seen = f", last seen {time_text(self.driver.age)} ago" if self.driver.age is not None else ""
        return f"no driver seems to run it ({self.driver.evidence}{seen}; {ago})"

    def _time_text(self) -> str:
        budget, plan = self.manifest.budget, self.manifest.plan
        told = time_text(self.elapsed)
        if budget.time_budget is not None:
            told += f" of {time_text(budget.time_budget)}"
            told += f", {time_text(self.left or 0.0)} left" if self.state != FINISHED else ""
        elif plan is not None and self.state != FINISHED and plan.trials == budget.trials:
            told += f" of about {time_text(plan.seconds)} foreseen"
        if budget.gpu_hours is not None:
            used = self.tally.spent.get("search", Spent()).gpu_seconds / 3600
            told += f", {used:.2f} of {budget.gpu_hours:g} GPU hours"
        kept = kept_text(self.kept(), head="kept of it" if budget.time_budget is not None else "still to come")
        return f"{told}, {kept}" if kept else told

    @property
    def left(self) -> float | None:
        """Seconds of the time budget that are left; None where there is none."""
        budget = self.manifest.budget.time_budget
        return None if budget is None else max(0.0, budget - self.elapsed)

    def _logs_text(self) -> str:
        trials = self.tally.table.trials.values()
        told = f"{self.run_dir / 'logs'}/TRIAL.log, one for each trial"
        for state, ids in (
            ("running" if self.state == RUNNING else "interrupted", [one.trial_id for one in self.tally.table.open()]),
            ("failed", [trial.trial_id for trial in trials if trial.state == "failed"]),
        ):
            told += f"; {state}: {some_of(ids, _LOGS_TOLD)}" if ids else ""
        return told

    def _tracking_text(self) -> str:
        tracking, told = self.manifest.tracking, []
        if tracking.wandb != "disabled":
            told.append(f"W&B {tracking.wandb} (project {tracking.project}), {self.run_dir / 'wandb'}")
        told += [f"{name}, {place or self.run_dir / name}" for name, place in tracking.others.items()]
        return "; ".join(told) or "none"

    def _foreseen(self) -> Mapping[str, Any]:
        asked = any(event["event"] == "confirm_asked" for event in self.events)
        return foreseen(self.manifest.budget, self.manifest.plan, asked_for_more=asked)

    def to_json(self) -> dict[str, Any]:
        """The same as primitives; docs/RUNS.md has the keys."""
        tally, objective, manifest = self.tally, self.tally.objective, self.manifest
        expected, best, verdict = self._foreseen(), tally.leader(), self.verdict
        phases = {}
        for phase, states in tally.states().items():
            spent, planned = tally.spent.get(phase, Spent()), expected.get(phase)
            phases[phase] = {
                "trials": dict(states),
                "planned_trials": planned.trials if planned is not None else None,
                "epochs": spent.epochs,
                "planned_epochs": planned.epochs if planned is not None else None,
                "seconds": spent.seconds,
                "gpu_seconds": spent.gpu_seconds,
            }
        last = self.last_event
        labels, candidate = tally.table.labels(objective), tally.candidate()
        report = self.report
        content = {
            "run": str(self.run_dir),
            "name": manifest.name,
            "state": self.state,
            "driver": {"alive": self.driver.alive, "evidence": self.driver.evidence, "process": self.driver.process,
                       "age_seconds": self.driver.age},
            "last_event": None if last is None else {"event": last[0], "age_seconds": last[1]},
            "objective": objective.key,
            "direction": objective.metric.direction,
            "phases": phases,
            "best_so_far": None if best is None else _trial(best.trial_id, best.label, best.epochs,
                                                           best.metrics[objective.key]),
            "curve": tally.curve,
            "labels": {label: _trial(one.trial_id, one.label, one.epochs, one.metrics[objective.key])
                       for label, one in labels.items()},
            "candidate": None
            if verdict is not None or candidate is None
            else _trial(
                candidate.trial_id, candidate.label, candidate.epochs, candidate.metrics[objective.key]
            ),
            "verdict": None if verdict is None else {**verdict.to_json(), "outcome": verdict.outcome.value,
                                                     "sentence": sentence(verdict, objective)},
            "time": {"elapsed_seconds": self.elapsed, "budget_seconds": manifest.budget.time_budget,
                     "left_seconds": self.left,
                     "kept_seconds": {purpose: seconds for seconds, purpose in self.kept()}},
            "logs": str(self.run_dir / "logs"),
            "dashboard": self.dashboard,
            "wandb": {"mode": manifest.tracking.wandb, "project": manifest.tracking.project},
            "trackers": dict(manifest.tracking.others),
            "report": None if report is None else str(report),
            "resume": self.resume or None,
        }  # fmt: skip
        return dict(_finite(content))


def _trial(trial_id: str, label: str, epochs: int, value: float) -> dict[str, Any]:
    return {"trial_id": trial_id, "label": label, "epochs": epochs, "value": value}


def _finite(content: Any) -> Any:
    """JSON has no NaN and no infinity; null takes their place."""
    if isinstance(content, float) and not math.isfinite(content):
        return None
    if isinstance(content, Mapping):
        return {key: _finite(value) for key, value in content.items()}
    if isinstance(content, list | tuple):
        return [_finite(value) for value in content]
    return content


def read_status(run_dir: Path | str, *, patience: float = PATIENCE) -> Status:
    """Looks where a sweep stands; also while its driver writes.

    Args:
        run_dir: The run, such as `runs/NAME`.
        patience: Seconds to wait for a sign of the driver where nothing else shows whether it is alive.

    Raises:
        DataError: If it is no run folder, or its manifest or journal was altered.

    Example:
        >>> from sweep.status import read_status
        >>> read_status("runs/NAME").state  # doctest: +SKIP
        'running'
    """
    run_dir = Path(run_dir)
    journal = within(run_dir, JOURNAL_FILE)
    manifest = SweepManifest.load(run_dir)
    events = read_events(journal)
    try:
        manifest = manifest.as_of(events, journal)
        table = TrialTable()
        tally = Tally(table, recorded_objective(manifest), manifest.gpus_of)
        for event in events:
            table.apply(event)
            tally.on_event(event)
        extended = [event["trials"] for event in events if event["event"] == "extended"]
        if extended and extended[-1] < manifest.budget.trials:
            raise ValueError("the manifest has more trials than the journal")
        spent = max([0.0, *(float(event.get("spent_s", 0.0)) for event in events)])
    except (KeyError, TypeError, ValueError, AttributeError, ArithmeticError) as error:
        raise _damaged(journal, error) from error
    is_closed = _is_closed(events)
    driver = find_driver(run_dir, journal, patience=0.0 if is_closed else patience)
    state = (
        FINISHED
        if is_closed and driver.process is None
        else RUNNING
        if driver.alive
        else INTERRUPTED
        if events and events[-1]["event"] == "interrupted"
        else STOPPED
    )
    if state == STOPPED:
        table.apply({"event": "interrupted", "reason": "nobody runs the sweep"})
    elapsed = max(spent, spent_seconds(run_dir))
    return Status(run_dir, manifest, events, tally, driver, state, elapsed, datetime.now(UTC))


def _is_closed(events: Iterable[Event]) -> bool:
    """Whether the command that trained last came to its end, its report included."""
    kinds = [event["event"] for event in events if event["event"] in ("closed", *WORK)]
    return bool(kinds) and kinds[-1] == "closed"


def _damaged(journal: Path, error: Exception) -> DataError:
    what = f"{type(error).__name__}: {error}"
    return DataError(
        f"{journal} holds an event that no sweep writes ({what}); restore it from a backup of the run folder"
    )


def parser() -> argparse.ArgumentParser:
    """The flags."""
    p = command_parser(
        "sweep.status",
        "Say where a sweep stands, while it runs or afterwards, from any terminal or machine that sees its "
        "folder. Nothing is written and nothing is locked.",
    )
    add_run(p)
    p.add_argument("--json", action="store_true", help="print it as JSON (docs/RUNS.md has the keys)")
    return p


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; returns its exit code: 0 whatever the state of the sweep, 1 if that cannot be read."""
    asked = parser().parse_args(arguments)
    return guarded(lambda: _show(asked.run, as_json=asked.json), interrupted="interrupted")


def _show(run_dir: Path, *, as_json: bool) -> int:
    status = read_status(run_dir)
    console = Console(highlight=False)
    try:
        content = json.dumps(status.to_json(), indent=2, allow_nan=False)
        lines = status.lines(ascii_only=console.options.ascii_only)
    except (KeyError, TypeError, ValueError, AttributeError, ArithmeticError) as error:
        raise _damaged(run_dir / JOURNAL_FILE, error) from error
    try:
        if as_json:
            print(content, flush=True)
        for one in [] if as_json else lines:
            console.print(hanging(one, console), soft_wrap=True)
    except BrokenPipeError:  # the reader, such as `head`, has enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0


if __name__ == "__main__":
    sys.exit(main())
