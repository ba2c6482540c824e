"""What a sweep writes and computes per trial: the same as anew, and no more of it the more trials there are."""

from __future__ import annotations

import io
import itertools
import os
import sqlite3
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import pytest
from rich.console import Console

import sweep
from sweep.conductor import Conductor
from sweep.journal import Journal
from sweep.manifest import Budget
from sweep.objectives import objective_of
from sweep.plan import Plan
from sweep.progress import LiveView
from sweep.study_db import STUDY_FILE, StudyFile, mirror
from sweep.trials import TrialTable
from sweep.trials_csv import TRIALS_FILE
from sweep.trials_file import TrialsFile
from sweep.views import Views

from .simulated import OBJECTIVE, Clock, Worker, drive, make, scores, troubled
from .test_refitting import PLAN

SWEEP = str(Path(sweep.__file__).parent)


def dump(path: Path) -> dict[str, list[tuple[Any, ...]]]:
    """Every row of a study's file."""
    with closing(sqlite3.connect(path)) as connection:
        names = [name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        return {name: sorted(connection.execute(f"SELECT * FROM {name}").fetchall(), key=repr) for name in names}


def after_each_result(conductor: Conductor, then: Callable[[], object]) -> None:
    """Calls a function after each result that a conductor hears."""
    real = conductor.on_trial_result

    def heard(trial_id: str, result: Any) -> bool:
        stop = real(trial_id, result)
        then()
        return stop

    conductor.on_trial_result = heard  # type: ignore[method-assign]


def test_files_written_by_difference_are_those_written_at_once(tmp_path: Path) -> None:
    with Journal(tmp_path / "journal.jsonl") as journal:
        conductor = make(journal, sampler="random", budget=Budget(16, 4, confirm_top=1, confirm_seeds=2))
        views = Views(conductor, tmp_path, lambda config: 0.5)
        heard = itertools.count()
        after_each_result(conductor, lambda: None if next(heard) % 5 else views.write())
        drive(conductor, slots=4, outcome=troubled, rng=np.random.default_rng(2), deaths=0.1)
        views.write()
    (tmp_path / "anew").mkdir()
    mirror(conductor.search.suggestions.study, tmp_path / "anew" / STUDY_FILE)
    assert dump(tmp_path / STUDY_FILE) == dump(tmp_path / "anew" / STUDY_FILE)
    anew = TrialsFile(
        TrialTable.of(journal.events), tmp_path / "anew" / TRIALS_FILE,
        gpus=lambda config: 0.5, objective=objective_of(OBJECTIVE),
    )  # fmt: skip
    assert anew.write() == len(conductor.table.trials)
    assert (tmp_path / TRIALS_FILE).read_bytes() == (tmp_path / "anew" / TRIALS_FILE).read_bytes()


def test_each_end_writes_one_trial_to_the_study_and_renders_the_rows_that_may_have_changed(tmp_path: Path) -> None:
    with Journal(tmp_path / "journal.jsonl") as journal:
        conductor = make(journal, sampler="random", budget=Budget(10, 4), scheduler="none")
        study = StudyFile(conductor.search.suggestions.study, tmp_path / STUDY_FILE)
        rows = TrialsFile(
            conductor.table, tmp_path / TRIALS_FILE, gpus=lambda config: 0.0, objective=objective_of(OBJECTIVE)
        )
        written: list[tuple[int, int]] = []
        after_each_result(conductor, lambda: written.append((study.write(), rows.write())))
        drive(conductor)
    assert [trials for trials, _ in written] == [0, 0, 0, 1] * 10
    steady = [of_csv for _, of_csv in written[4 * 8 :]]
    assert max(steady) <= 1, "columns are known, and the trials before have ended"


@pytest.mark.parametrize("harm", ["removed", "changed", "locked", "read"])
def test_study_that_others_touched_is_made_anew(tmp_path: Path, harm: str) -> None:
    path, held = tmp_path / STUDY_FILE, None
    with Journal(tmp_path / "journal.jsonl") as journal:
        conductor = make(journal, sampler="random", budget=Budget(6, 4), scheduler="none")
        study = StudyFile(conductor.search.suggestions.study, path)
        drive(conductor, until=12)
        study.write()
        if harm == "removed":
            path.unlink()
        elif harm == "changed":
            with closing(sqlite3.connect(path)) as connection, connection:
                connection.execute("DELETE FROM trials WHERE number = 1")
        else:
            held = sqlite3.connect(path)
            held.execute("BEGIN EXCLUSIVE" if harm == "locked" else "BEGIN")
            held.execute("SELECT * FROM trials").fetchone()  # and more to come: a dashboard that is slow
        if held is None:
            (tmp_path / f"{STUDY_FILE}-journal").write_bytes(b"of a driver that was killed")
        drive_on(conductor)
        started = time.monotonic()
        study.write()
        assert time.monotonic() - started < 4.0, "the driver waits for no reader; SQLite alone would, for 5 seconds"
        if held is not None:
            held.close()
    mirror(conductor.search.suggestions.study, tmp_path / "anew.db")
    assert dump(path) == dump(tmp_path / "anew.db")


def drive_on(conductor: Conductor) -> None:
    """One more trial to its end."""
    task = conductor.next()
    assert task is not None
    worker = Worker(task, scores, {})
    while not conductor.on_trial_result(task.trial_id, worker.step()):
        pass


@contextmanager
def counted() -> Iterator[list[int]]:
    """Counts the bytecodes that the files of `sweep/` run; in one item of a list."""
    count, before = [0], sys.gettrace()

    def trace(frame: FrameType, event: str, argument: object) -> Any:
        if not frame.f_code.co_filename.startswith(SWEEP):
            return None
        frame.f_trace_opcodes = True
        count[0] += event == "opcode"
        return trace

    sys.settrace(trace)
    try:
        yield count
    finally:
        sys.settrace(before)


@pytest.mark.parametrize("plan", [None, PLAN], ids=["without_limit", "time_budget"])
def test_a_trial_costs_the_driver_no_more_after_many(tmp_path: Path, plan: Plan | None) -> None:
    budget = Budget(400, 4) if plan is None else Budget(400, 4, time_budget=1e6, open_ended=True, confirm_top=2,
                                                        confirm_seeds=2, refit=True)  # fmt: skip
    costs: dict[Any, float] = {}
    with Journal(tmp_path / "journal.jsonl") as journal:
        conductor = make(journal, sampler="random", budget=budget, plan=plan, slots=2, clock=Clock())
        view = LiveView(Console(file=io.StringIO()), conductor, concurrent=2)
        conductor.start()
        for last in (20, 100):
            drive_trials(conductor, last)
            before = len(journal.events)
            with counted() as count:
                drive_trials(conductor, last + 6)
            costs[last] = count[0] / (len(journal.events) - before)
            view.render()
            with counted() as count:
                view.render()
            costs["view", last] = count[0]
    assert costs[100] <= 1.2 * costs[20]
    assert costs["view", 100] <= 1.2 * costs["view", 20]


def drive_trials(conductor: Conductor, count: int) -> None:
    """Trials one after the other, until so many were begun; of three the last is the best, and is not stopped."""
    while len(conductor.table.trials) < count:
        task = conductor.next()
        assert task is not None
        score = 0.3 + 0.1 * (len(conductor.table.trials) % 3)
        worker = Worker(task, lambda config, epoch, score=score: {"metrics": {OBJECTIVE: score}}, {})
        while not conductor.on_trial_result(task.trial_id, worker.step()):
            pass


def test_what_follows_from_a_result_is_written_with_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced = []
    real = os.fsync
    monkeypatch.setattr(os, "fsync", lambda handle: synced.append(real(handle)))
    with Journal(tmp_path / "journal.jsonl") as journal:
        conductor = make(journal, sampler="random", budget=Budget(12, 4))
        drive(conductor)
        ends, suggested = len(journal.of("ended")), len(journal.of("suggested"))
        results, stops = len(journal.of("result")), len(journal.of("decision"))
    assert stops > 0
    assert len(synced) == suggested + results
    assert len(journal.events) == suggested + results + ends + stops
