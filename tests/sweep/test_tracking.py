"""W&B off the critical path: offline runs really written, and nothing it does can hurt a sweep."""

from __future__ import annotations

import json
import os
import shlex
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import wandb
from wandb.proto import wandb_internal_pb2

from sweep import tracking
from sweep.tracking import Followers
from sweep.tracking import __main__ as command
from sweep.tracking.wandb_runs import resolve_mode

from .followed import ended, followers, report_in, result, suggested

SECRET = "a-value-that-must-not-be-written-anywhere"
BLOCK = 32 * 1024
HEADER = 7
"""Of the file (`:W&B`, magic, version), and of each piece of a record (checksum, length, type)."""


def records(path: Path) -> Iterator[Any]:
    """The protobuf records of a `.wandb` file: LevelDB's log format behind a header of 7 bytes."""
    content = path.read_bytes()
    assert content[:4] in (b":W&B", b"")
    position, whole = HEADER, b""
    while position + HEADER <= len(content):
        left = BLOCK - position % BLOCK
        if left < HEADER:
            position += left
            continue
        _, length, kind = struct.unpack("<IHB", content[position : position + HEADER])
        whole += content[position + HEADER : position + HEADER + length]
        position += HEADER + length
        if kind in (1, 4):  # a whole record, or its last piece
            record = wandb_internal_pb2.Record()
            record.ParseFromString(whole)
            whole = b""
            yield record


def read_run(path: Path) -> dict[str, Any]:
    """Configuration, group, name and history of an offline run; its process writes the end a moment after `finish`."""
    for _ in range(200):
        if any(record.WhichOneof("record_type") == "exit" for record in records(path)):
            break
        time.sleep(0.05)
    run: dict[str, Any] = {"config": {}, "history": [], "summary": {}, "exit_code": None}
    for record in records(path):
        kind = record.WhichOneof("record_type")
        if kind == "run":
            run |= {"id": record.run.run_id, "group": record.run.run_group, "project": record.run.project,
                    "job_type": record.run.job_type, "name": record.run.display_name}  # fmt: skip
            run["config"] |= {item.key: json.loads(item.value_json) for item in record.run.config.update}
        elif kind == "config":
            run["config"] |= {item.key: json.loads(item.value_json) for item in record.config.update}
        elif kind == "history":
            row = {item.key or "/".join(item.nested_key): json.loads(item.value_json) for item in record.history.item}
            run["history"].append(row)
        elif kind == "summary":
            run["summary"] |= {
                item.key or "/".join(item.nested_key): json.loads(item.value_json) for item in record.summary.update
            }
        elif kind == "exit":
            run["exit_code"] = record.exit.exit_code
    return run


@pytest.fixture
def clean(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No account: neither a key in the environment nor one in a file of the user's."""
    for name in [name for name in os.environ if name.startswith("WANDB_") or name == "NETRC"]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    (tmp_path / "home").mkdir()


def make(run_dir: Path, warnings: list[str], *, mode: str = "offline") -> Followers:
    return followers(run_dir, warnings, wandb=mode)


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, dict[str, Any]], Path, list[str]]:
    """What a sweep of two trials, a continuation and a report leave: runs by name, their folder, the warnings."""
    patch = pytest.MonkeyPatch()
    for name in [name for name in os.environ if name.startswith("WANDB_")]:
        patch.delenv(name)
    run_dir = tmp_path_factory.mktemp("run")
    patch.setenv("HOME", str(tmp_path_factory.mktemp("home")))
    patch.setenv("WANDB_API_KEY", SECRET + "-key-40-characters-long")
    patch.setenv("SOME_TOKEN", SECRET)
    patch.setattr(sys, "argv", [*sys.argv, f"--api-key={SECRET}"])  # W&B keeps the command line, where it may
    warnings: list[str] = []
    tracker = make(run_dir, warnings)
    events = [
        suggested("t000"),
        *(result("t000", epoch, epoch / 10) for epoch in (1, 2)),
        ended("t000", "stopped", "asha: too low"),
        suggested("t001"),
        result("t001", 1, 0.4),
        ended("t001", "failed", "broken"),
        suggested("t000-finish", parent="t000", phase="finish"),
        result("t000-finish", 3, 0.35),
        ended("t000-finish"),
        {"event": "decision", "trial_id": "t000"},
    ]
    for event in events:
        tracker.on_event(event)
    tracker.report(report_in(run_dir))
    assert tracker.close(timeout=120)
    patch.undo()
    runs = [read_run(path) for path in run_dir.glob("wandb/offline-run-*/*.wandb")]
    return {run["name"]: run for run in runs}, run_dir, warnings


def test_every_trial_and_the_report_are_offline_runs_of_one_group(written: Any) -> None:
    runs, _, warnings = written
    assert warnings == []
    assert set(runs) == {"mine/t000", "mine/t001", "mine/t000-finish", "mine/report"}
    assert {run["group"] for run in runs.values()} == {"mine"}
    assert {run["project"] for run in runs.values()} == {"segsweep"}
    assert len({run["id"] for run in runs.values()}) == 4
    assert [runs[f"mine/{name}"]["job_type"] for name in ("t000", "t000-finish", "report")] == [
        "search",
        "finish",
        "report",
    ]


def test_configuration_and_curve_are_in_the_file(written: Any) -> None:
    run = written[0]["mine/t000"]
    assert run["config"].items() >= {"optimizer.lr": 0.01, "augment.policy": "flip", "label": "flip"}.items()
    assert run["config"]["policy"] == "flip: hflip p=0.50"
    assert [(row["epoch"], row["val/miou"], row["seconds"]) for row in run["history"]] == [(1, 0.1, 1.5), (2, 0.2, 1.5)]
    assert run["summary"]["state"] == "stopped"
    assert run["summary"]["reason"] == "asha: too low"
    assert run["exit_code"] == 0
    assert written[0]["mine/t001"]["exit_code"] == 1


def test_continuation_shows_the_whole_curve(written: Any) -> None:
    assert [row["epoch"] for row in written[0]["mine/t000-finish"]["history"]] == [1, 2, 3]


def test_report_is_in_its_run(written: Any) -> None:
    run, folder = written[0]["mine/report"], written[1]
    assert run["summary"]["best/iou"] == 0.625
    logged = {key.split("/")[0] for row in run["history"] for key in row}
    assert logged >= {"comparison", "report"} and "pareto" not in logged
    pages = [path.read_text() for path in folder.rglob("media/html/*.html")]
    assert any("the report" in page for page in pages)


def test_neither_key_nor_environment_is_written(written: Any) -> None:
    files = [path for path in written[1].rglob("*") if path.is_file()]
    assert len(files) > 4
    assert [path for path in files if SECRET.encode() in path.read_bytes()] == []


def test_offline_runs_need_no_account(clean: None, tmp_path: Path) -> None:
    warnings: list[str] = []
    tracker = make(tmp_path / "run", warnings)
    tracker.on_event(suggested("t000"))
    tracker.on_event(ended("t000"))
    assert tracker.close(timeout=60)
    assert warnings == []
    assert len(list(tmp_path.glob("run/wandb/offline-run-*/*.wandb"))) == 1


def test_online_without_a_login_becomes_offline_with_one_warning(clean: None) -> None:
    """In a process of its own: W&B remembers the first key that it saw."""
    program = (
        "from sweep.tracking.wandb_runs import resolve_mode\n"
        "told = []\n"
        "print([resolve_mode(mode, warn=told.append) for mode in ('online', 'offline', 'disabled')], len(told), told)\n"
        "import wandb\n"
        "print('reports crashes:', wandb.env.error_reporting_enabled())"
    )
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=root, check=True)
    assert done.stdout.startswith("['offline', 'offline', 'disabled'] 1 ")
    assert "wandb login" in done.stdout
    assert "reports crashes: False" in done.stdout


def test_key_in_the_environment_is_a_login(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_API_KEY", "x" * 40)
    assert resolve_mode("online", warn=pytest.fail) == "online"


def test_broken_wandb_costs_one_warning_and_no_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(**options: Any) -> None:
        time.sleep(0.2)
        raise wandb.errors.CommError("cannot be reached\nsecond line")

    monkeypatch.setattr(wandb, "init", broken)
    warnings: list[str] = []
    tracker = make(tmp_path, warnings)
    started = time.perf_counter()
    for number in range(50):
        tracker.on_event(suggested(f"t{number:03d}"))
        tracker.on_event(result(f"t{number:03d}", 1, 0.1))
    assert time.perf_counter() - started < 0.15
    tracker.close(timeout=20)
    (told,) = warnings
    assert told.startswith("W&B is off for the rest of this sweep: cannot be reached; ")
    asked = command.parser().parse_args(shlex.split(told[told.index("-m sweep.tracking") :])[2:])
    assert (asked.run, asked.wandb) == (tmp_path, "offline"), "the command that writes what is missing"


def test_server_out_of_reach_turns_online_runs_offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The one that runs then, too, with what it has so far."""
    real = wandb.init
    tried: set[str] = set()
    monkeypatch.setenv("WANDB_API_KEY", "x" * 40)

    def no_server(**options: Any) -> Any:
        if options["mode"] == "online":
            tried.add(options["id"])
            if len(tried) == 1:
                return FakeRun()
            raise wandb.errors.CommError("no route to host")
        assert options["id"] not in tried, "W&B says of such an id that it is in use"
        return real(**options)

    monkeypatch.setattr(wandb, "init", no_server)
    warnings: list[str] = []
    tracker = make(tmp_path, warnings, mode="online")
    before = [suggested("t000"), result("t000", 1, 0.25), suggested("t001")]
    for event in [*before, result("t001", 1, 0.5), result("t000", 2, 0.75), ended("t000"), ended("t001")]:
        tracker.on_event(event)
    assert tracker.close(timeout=60)
    assert warnings == ["W&B cannot be reached (no route to host); runs are kept offline from here"]
    runs = [read_run(path) for path in tmp_path.glob("wandb/offline-run-*/*.wandb")]
    curves = {run["name"]: [row["val/miou"] for row in run["history"]] for run in runs}
    assert curves == {"mine/t000": [0.25, 0.75], "mine/t001": [0.5]}


def test_resumed_sweep_writes_no_run_a_second_time(tmp_path: Path, clean: None) -> None:
    before = [suggested("t000"), result("t000", 1, 0.25), ended("t000"), suggested("t001"), result("t001", 1, 0.5)]
    for events in (before, [*before, result("t001", 2, 0.75), ended("t001")]):
        warnings: list[str] = []
        tracker = make(tmp_path, warnings)
        for event in events:
            tracker.on_event(event)
        assert tracker.close(timeout=60) and not warnings
    runs = [read_run(path) for path in tmp_path.glob("wandb/offline-run-*/*.wandb")]
    curves = {run["name"]: [row["val/miou"] for row in run["history"]] for run in runs}
    assert len(runs) == 2 and curves == {"mine/t000": [0.25], "mine/t001": [0.5, 0.75]}


class FakeRun:
    """A run that W&B would have started, whose calls can be made to hang or fail."""

    def __init__(self, *, finish: Any = lambda: None) -> None:
        self.summary: dict[str, Any] = {}
        self._finish = finish

    def log(self, *args: Any, **options: Any) -> None: ...

    def define_metric(self, *args: Any, **options: Any) -> None: ...

    def finish(self, **options: Any) -> None:
        self._finish()


def test_close_returns_in_time_when_wandb_hangs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    released = threading.Event()
    monkeypatch.setattr(wandb, "init", lambda **options: FakeRun(finish=lambda: released.wait(60)))
    warnings: list[str] = []
    tracker = make(tmp_path, warnings)
    tracker.on_event(suggested("t000"))
    started = time.perf_counter()
    assert tracker.close(timeout=0.3) is False
    assert time.perf_counter() - started < 2
    assert len(warnings) == 1
    assert "wandb sync" in warnings[0]
    released.set()


def test_runs_that_cannot_be_finished_cost_one_warning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def breaks() -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(wandb, "init", lambda **options: FakeRun(finish=breaks))
    crashes: list[Any] = []
    monkeypatch.setattr(threading, "excepthook", crashes.append)
    warnings: list[str] = []
    tracker = make(tmp_path, warnings)
    tracker.on_event(suggested("t000"))
    tracker.on_event(suggested("t001"))
    tracker.close(timeout=10)
    assert crashes == [], "a traceback in the user's terminal"
    assert len(warnings) == 1
    assert "No space left on device" in warnings[0]


def test_disabled_tracking_writes_and_starts_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wandb, "init", lambda **options: pytest.fail("must not be called"))
    tracker = make(tmp_path, [], mode="disabled")
    tracker.on_event(suggested("t000"))
    tracker.report(tmp_path)
    assert tracker.close()
    assert list(tmp_path.iterdir()) == []


def test_report_command_needs_a_run_with_a_report(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert tracking.main([str(tmp_path / "nowhere")]) == 1
    assert "is not a run folder" in capsys.readouterr().err
