"""`python -m sweep.status`: equal to what the journal says, whoever writes it; nothing is written or believed."""

from __future__ import annotations

import json
import os
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import sweep.status
from sweep.claims import Contrast
from sweep.driver import find_driver
from sweep.journal import Journal
from sweep.manifest import Budget
from sweep.notebook_view import rendered
from sweep.objectives import objective_of
from sweep.status import FINISHED, INTERRUPTED, RUNNING, STOPPED, Status, read_status
from sweep.tally_view import sparkline
from sweep.verdict import Confirmed, Verdict, sentence
from trainables import commands

from ..copies import copy_run
from ..manifests import make_manifest
from .simulated import BASE, OBJECTIVE, SPACE, Clock, drive, make, troubled

BUDGET = Budget(8, 4, time_budget=1000.0, confirm_top=1, confirm_seeds=3)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run whose trials have all ended, some of them badly; nothing was concluded yet."""
    run_dir = tmp_path_factory.mktemp("status") / "mine"
    run_dir.mkdir()
    make_manifest(space=SPACE, budget=BUDGET, base=BASE).save(run_dir)
    with Journal(run_dir / "journal.jsonl") as journal:
        clock = Clock()
        drive(make(journal, budget=BUDGET, clock=clock), outcome=troubled, clock=clock)
    return run_dir


@pytest.fixture
def run(whole: Path, tmp_path: Path) -> Path:
    """A copy of it that a test may change."""
    copy_run(whole, tmp_path / "mine")
    return tmp_path / "mine"


def told(status: Status) -> str:
    return "\n".join(line.plain for line in status.lines())


def lines_of(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "journal.jsonl").read_text().splitlines()]


def test_status_is_what_a_plain_reading_of_the_journal_gives(run: Path) -> None:
    status = read_status(run, patience=0.0)
    content = json.loads(json.dumps(status.to_json(), allow_nan=False))
    phase_of, states, epochs, seconds = {}, {}, Counter[str](), Counter[str]()
    scored = {}
    for event in lines_of(run):
        if event["event"] == "suggested":
            phase_of[event["trial_id"]] = event["phase"]
        elif event["event"] == "result":
            epochs[phase_of[event["trial_id"]]] += 1
            seconds[phase_of[event["trial_id"]]] += event["seconds"]
        elif event["event"] == "ended":
            states[event["trial_id"]] = event["state"]
            if phase_of[event["trial_id"]] == "search" and event["state"] in ("completed", "stopped"):
                scored[event["trial_id"]] = event["metrics"][OBJECTIVE]
    assert set(states.values()) > {"completed", "infeasible", "failed"}, "or this shows little"
    for phase in ("search", "finish", "confirm"):
        found = content["phases"][phase]
        assert found["trials"] == Counter(state for trial, state in states.items() if phase_of[trial] == phase)
        assert (found["epochs"], found["seconds"]) == (epochs[phase], seconds[phase])
    best = max(scored, key=lambda trial: (scored[trial], -list(scored).index(trial)))
    assert (content["best_so_far"]["trial_id"], content["best_so_far"]["value"]) == (best, scored[best])
    values = list(scored.values())
    assert content["curve"] == [max(values[: place + 1]) for place in range(len(values))]
    assert content["time"]["elapsed_seconds"] == max(event.get("spent_s", 0.0) for event in lines_of(run))
    assert content["time"]["left_seconds"] == 1000.0 - content["time"]["elapsed_seconds"]
    assert content["logs"] == str(run / "logs")
    tally = status.tally
    assert tally.candidates() == tally.table.candidates(tally.objective), "counted at once, and one by one"
    assert f"is {tally.candidates().best()}: a candidate, not confirmed" in told(status)


def test_verdict_takes_the_candidates_place_with_its_interval(run: Path) -> None:
    configurations = tuple(
        Confirmed(one, one, (f"{one}-s1", f"{one}-s2"), (1, 2), (0.5, 0.6)) for one in ("t000", "t001")
    )
    verdict = Verdict(
        "val", OBJECTIVE, configurations, (Contrast("t001", 0.021, 0.008, 0.034, 0.015, 0.024, 2),), "t001",
        "images", 9, 5,
    )  # fmt: skip
    with Journal(run / "journal.jsonl") as journal:
        journal.append("verdict", **verdict.to_json())
        journal.append("closed", spent_s=400.0)
    status = read_status(run)
    assert status.state == FINISHED and status.resume == ""
    assert f"on val, {sentence(verdict, objective_of(OBJECTIVE))}" in told(status)
    assert "[+0.008, +0.034]" in told(status) and "candidate" not in told(status)
    content = status.to_json()
    assert (content["verdict"]["contrasts"][0]["low"], content["candidate"], content["resume"]) == (0.008, None, None)


def test_while_the_driver_writes_nothing_is_locked_or_changed(run: Path) -> None:
    with Journal(run / "journal.jsonl") as journal:
        journal.append("ray", dashboard="http://127.0.0.1:8265")
        with (run / "journal.jsonl").open("ab") as file:
            file.write(b'{"seq":99,"time":"20')  # a line that is being written
        before = {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in sorted(run.rglob("*"))}
        status = read_status(run)
        assert {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in sorted(run.rglob("*"))} == before
        assert len(status.events) == len(journal.events)
        if status.driver.process is None:
            pytest.skip("this machine does not list its locks")
        assert (status.state, status.driver.process, status.resume) == (RUNNING, os.getpid(), "")
        assert "http://127.0.0.1:8265" in told(status)
    after = read_status(run, patience=0.0)
    assert after.state == STOPPED and commands.resume(run) in told(after)
    assert "http://127.0.0.1:8265" not in told(after), "nobody serves it any more"


def test_driver_elsewhere_is_known_by_what_it_writes(run: Path) -> None:
    beat = run / "spent.txt"

    def found(patience: float) -> bool:
        return find_driver(run, run / "journal.jsonl", locks=run / "none", patience=patience).alive

    assert not found(0.0), "no sign of life"
    beat.write_text("500.000\n")
    assert found(0.0), "it has just been written"
    assert read_status(run).elapsed == 500.0
    for seconds in (-3600, 3600):  # long ago; or by a clock that is ahead of ours
        moment = time.time() + seconds
        os.utime(beat, (moment, moment))
        assert not found(0.05)

        def write(moment: float = moment) -> None:
            beat.write_text("501.000\n")
            os.utime(beat, (moment + 1, moment + 1))

        timer = threading.Timer(0.05, write)
        timer.start()
        assert found(0.5)
        timer.join()


def test_interrupted_sweep_says_by_what_and_how_to_go_on(run: Path) -> None:
    with Journal(run / "journal.jsonl") as journal:
        journal.append("interrupted", reason="SIGTERM", spent_s=470.0)
    status = read_status(run, patience=0.0)
    assert (status.state, status.elapsed) == (INTERRUPTED, 470.0)
    assert "interrupted (SIGTERM" in told(status) and commands.resume(run) in told(status)


def test_trials_of_a_sweep_that_nobody_runs_do_not_run(run: Path) -> None:
    with Journal(run / "journal.jsonl") as journal:
        opened = {**journal.of("suggested")[0], "trial_id": "t099"}
        journal.append("suggested", **{key: opened[key] for key in opened.keys() - {"event", "time", "seq", "seal"}})
        running = read_status(run)
        if running.driver.process is not None:  # this machine lists its locks
            assert running.to_json()["phases"]["search"]["trials"]["running"] == 1
            assert "; running: t099" in told(running)
    status = read_status(run, patience=0.0)
    trials = status.to_json()["phases"]["search"]["trials"]
    assert (status.state, trials["interrupted"], trials.get("running")) == (STOPPED, 1, None)
    assert "; interrupted: t099" in told(status) and "running" not in told(status)


def test_run_without_a_trial_yet(run: Path) -> None:
    (run / "journal.jsonl").unlink()
    status = read_status(run, patience=0.0)
    assert "no event yet" in told(status)
    assert status.to_json()["phases"] == {}


def rewritten(run: Path, change: Callable[[dict[str, Any]], Any]) -> Path:
    """The journal with changed events, sealed as if a sweep had written them."""
    events = lines_of(run)
    (run / "journal.jsonl").unlink()
    with Journal(run / "journal.jsonl") as journal:
        for event in events:
            change(event)
            kind = event.pop("event")
            journal.append(kind, **{key: value for key, value in event.items() if key not in ("seq", "time", "seal")})
    return run


HARM: dict[str, Callable[[dict[str, Any]], Any]] = {
    "no phase": lambda event: event.pop("phase", None),
    "an unknown trial": lambda event: event.update(trial_id="t999") if event["event"] == "result" else None,
    "text for seconds": lambda event: event.update(seconds="x") if event["event"] == "result" else None,
    "endless seconds": lambda event: event.update(seconds="inf") if event["event"] == "result" else None,
    "a list of metrics": lambda event: event.update(metrics=[1]) if event["event"] == "result" else None,
    "no settings": lambda event: event.update(event="settings", changed=3) if event["event"] == "decision" else None,
    "a name that leads out": lambda event: event.update(label="../x") if event["event"] == "suggested" else None,
}


@pytest.mark.parametrize("what", HARM)
def test_journal_of_a_stranger_is_one_error(run: Path, what: str, capsys: pytest.CaptureFixture[str]) -> None:
    rewritten(run, HARM[what])
    for flags in ([], ["--json"]):
        assert sweep.status.main([str(run), *flags]) == 1
        printed = capsys.readouterr()
        assert "journal" in printed.err and "Traceback" not in printed.err and printed.out == ""


def test_words_of_a_stranger_do_not_move_the_cursor(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def change(event: dict[str, Any]) -> None:
        if event["event"] == "ended" and event["state"] == "failed":
            event["state"] = "\x1b[2J[bold]gone"
        if event["event"] == "suggested" and event["phase"] == "confirm":
            event["phase"] = "\u202econfirm\x07"
            event["label"] = "<script>alert(1)"

    rewritten(run, change)
    with Journal(run / "journal.jsonl") as journal:
        journal.append("interrupted", reason="\x1b[31m[red]x", spent_s=1.0)
    for flags in ([], ["--json"]):
        assert sweep.status.main([str(run), *flags]) == 0
        out = capsys.readouterr().out
        assert not {"\x1b", "\x07", "\u202e"} & set(out)
        assert "[bold]gone" in out
    notebook = rendered(read_status(run, patience=0.0))
    assert "&lt;script&gt;" in notebook["text/html"] and "<script" not in notebook["text/html"]
    assert not {"\x1b", "\x07", "\u202e"} & set("".join(notebook.values()))


@pytest.mark.parametrize("name", ["journal.jsonl", "manifest.json"])
def test_links_are_refused(run: Path, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    (run / name).rename(run.parent / "moved")
    (run / name).symlink_to(run.parent / "moved")
    assert sweep.status.main([str(run)]) == 1
    assert "is a symbolic link" in capsys.readouterr().err


@pytest.fixture
def pipe(run: Path) -> Iterator[Path]:
    os.mkfifo(run / "spent.txt")
    yield run


def test_pipe_in_the_place_of_the_time_is_not_waited_for(pipe: Path) -> None:
    assert read_status(pipe, patience=0.0).state in (RUNNING, STOPPED)


def test_folder_that_is_no_run_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert sweep.status.main([str(tmp_path)]) == 1
    assert "is not a run folder" in capsys.readouterr().err


def test_curve_in_marks() -> None:
    assert sparkline([1, 2, 3, 4, 5, 6, 7, 8]) == "▁▂▃▄▅▆▇█"
    assert sparkline([0.5]) == sparkline([]) == sparkline([2.0, 2.0]) == ""
    assert sparkline([5.0, 1.0], levels="_#") == "#_"
    long = sparkline([float(number) for number in range(5000)], width=8)
    assert long == "▁▂▃▄▅▆▇█"
