"""Each fault at each moment of a sweep, in real processes: the end is that of a sweep to which nothing happened.

One run is hit by the same fault at one moment after the other, resumed each time, and compared with its twin once.
"""

from __future__ import annotations

import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from ..command import REPO, Started, environment, events, ray_processes, run, wait_until
from .twin import NAME, Twin, below, flags_of, leftovers, of_ray, resume_of

pytestmark = pytest.mark.ray


def _phase(name: str) -> Callable[[Path, int], bool]:
    return lambda run_dir, pid: any(event["phase"] == name for event in events(run_dir, "suggested"))


def _reporting(run_dir: Path, pid: int) -> bool:
    draft = any((run_dir / "report").glob(".unfinished-*")) or any((run_dir / "report").glob("evaluations/*/*"))
    return draft and any("analysis.report" in command for command in below(pid).values())


MOMENTS: dict[str, Callable[[Path, int], bool]] = {
    "before the first result": lambda run_dir, pid: len(events(run_dir, "suggested")) == 1,
    "in an epoch": lambda run_dir, pid: len(events(run_dir, "result")) >= 1,
    "while saving": lambda run_dir, pid: any((run_dir / "checkpoints" / "t001").glob(".epoch*.tmp")),
    "between trials": lambda run_dir, pid: len(events(run_dir, "ended")) >= 2,
    "finishing": _phase("finish"),
    "confirming": _phase("confirm"),
    "refitting": lambda run_dir, pid: len(events(run_dir, "refit_epoch")) >= 1,
    "reporting": _reporting,
}
"""In the order of a sweep: each comes after the sweep was resumed from the one before."""


def _double_interrupt(driver: Started) -> None:
    driver.signal_group(signal.SIGINT)
    time.sleep(0.3)
    driver.signal_group(signal.SIGINT)


def _kill(kind: str) -> Callable[[Started], None]:
    def kill(driver: Started) -> None:
        victims = of_ray(driver.process.pid)[kind]
        assert victims, f"no {kind} to kill"
        for pid in victims:
            os.kill(pid, signal.SIGKILL)

    return kill


SIGNALS: tuple[Callable[[Started], None], ...] = (
    lambda driver: driver.process.terminate(),
    lambda driver: driver.signal_group(signal.SIGHUP),
    _double_interrupt,
)
STOPPING: dict[str, tuple[tuple[Callable[[Started], None], ...], int]] = {
    "driver killed": ((lambda driver: driver.process.kill(),), -signal.SIGKILL),
    "SIGTERM, SIGHUP, SIGINT twice": (SIGNALS, 130),
    "raylet killed": ((_kill("raylet"),), 1),
    "GCS killed": ((_kill("gcs"),), 1),
    "node killed": ((_kill("node"),), 1),
}
"""What ends the command, where there are several in turn, and the exit code that says so."""
NO_RAY_WHILE = ("refitting", "reporting")


def hit(
    command: list[str], run_dir: Path, moment: str, strike: Callable[[Started], None], log: Path
) -> tuple[int, float, str]:
    """Starts a sweep and strikes at a moment: exit code, seconds until the end, output."""
    with Started("sweep.run", *command, log=log) as driver:
        pid = driver.process.pid
        deadline = time.monotonic() + 180
        while not MOMENTS[moment](run_dir, pid):
            assert driver.process.poll() is None, f"over before {moment}: {log.read_text()}"
            assert time.monotonic() < deadline, f"never {moment}: {log.read_text()}"
            time.sleep(0.002 if moment == "while saving" else 0.03)  # a checkpoint is saved in 20 ms and more
        strike(driver)
        code, seconds = driver.wait(120)
        wait_until(lambda: not ray_processes(), timeout=15, what="the end of Ray's processes")
    return code, seconds, log.read_text()


@pytest.mark.parametrize("fault", list(STOPPING))
def test_what_ends_a_sweep_changes_nothing_of_it(fault: str, twin: Twin, mini_root: Path, tmp_path: Path) -> None:
    strikes, expected = STOPPING[fault]
    run_dir, command = tmp_path / NAME, flags_of(mini_root, tmp_path)
    for strike, moment in zip(itertools.cycle(strikes), MOMENTS, strict=False):
        if moment in NO_RAY_WHILE and expected == 1:
            continue
        code, seconds, output = hit(command, run_dir, moment, strike, tmp_path / "log")
        assert code == expected, f"{moment}: {output}"
        assert seconds < 20, f"{moment}: took {seconds:.0f} s to end"
        if expected > 0 and moment != "reporting":
            assert f"--resume --name {NAME}" in output, moment
        assert "Traceback" not in output, f"{moment}: {output}"
        wait_until(lambda: not leftovers(), timeout=15, what="an empty temp folder of Ray")
        command = resume_of(tmp_path)
    last = run("sweep.run", *command)
    assert last.returncode == 0, last.stdout + last.stderr
    assert Twin(run_dir) == twin


def test_killed_workers_are_replaced(twin: Twin, mini_root: Path, tmp_path: Path) -> None:
    run_dir = tmp_path / NAME
    with Started("sweep.run", *flags_of(mini_root, tmp_path), log=tmp_path / "log") as driver:
        for moment, comes in MOMENTS.items():
            if moment in NO_RAY_WHILE:
                continue
            before = len(events(run_dir, "restarted"))
            wait_until(lambda: comes(run_dir, driver.process.pid), timeout=120, what=moment)  # noqa: B023
            wait_until(lambda: of_ray(driver.process.pid)["worker"], timeout=60, what="a worker")
            _kill("worker")(driver)
            wait_until(lambda: len(events(run_dir, "restarted")) > before, timeout=60, what="a restart")  # noqa: B023
        code, _ = driver.wait(300)
        assert code == 0, driver.log.read_text()
    assert Twin(run_dir) == twin


def test_data_that_is_away_stops_the_sweep_and_costs_no_trial(twin: Twin, mini_root: Path, tmp_path: Path) -> None:
    """All of it, a folder of it, one image; images are read in every epoch, since nothing is decoded before."""
    root = shutil.copytree(mini_root, tmp_path / "data")
    run_dir, command, away = tmp_path / NAME, [*flags_of(root, tmp_path), "--cache-limit", "0"], tmp_path / "away"
    seen = json.loads((twin.run_dir / "splits.json").read_text())["val"]["ids"]
    for moment, place in (
        ("in an epoch", root),
        ("between trials", root / "masks"),
        ("confirming", root / "images" / f"{seen[0]}.png"),
    ):
        code, seconds, output = hit(command, run_dir, moment, lambda _: place.rename(away), tmp_path / "log")  # noqa: B023
        assert code == 1 and seconds < 20, f"{moment}: {output}"
        cure = "bring it back" if place == root else "restore the file"
        assert place.name in output and cure in output and f"--resume --name {NAME}" in output, output
        assert "Traceback" not in output, f"{moment}: {output}"
        command = resume_of(tmp_path)
        before = events(run_dir)
        refused = run("sweep.run", *command)
        assert refused.returncode == 1 and place.stem in refused.stderr and "Traceback" not in refused.stderr
        assert events(run_dir) == before
        away.rename(place)
    last = run("sweep.run", *command)
    assert last.returncode == 0, last.stdout + last.stderr
    assert Twin(run_dir) == twin


CLOCK = """
import datetime, time
real = time.time
time.time = lambda: real() - 400 * 86400
class Earlier(datetime.datetime):
    @classmethod
    def now(cls, tz=None):
        return datetime.datetime.fromtimestamp(time.time(), tz)
import sweep.journal
sweep.journal.datetime = Earlier
from sweep.run import main
raise SystemExit(main())
"""
"""The command on a machine whose clock is 400 days behind."""


def test_what_happens_to_files_between_two_commands_changes_nothing(
    twin: Twin, mini_root: Path, tmp_path: Path
) -> None:
    """Torn and lost files, a moved run folder, another working directory, two resumes at once, an earlier clock."""
    runs = tmp_path / "runs"
    run_dir, log = runs / NAME, tmp_path / "log"
    ((kill,), _) = STOPPING["driver killed"]
    hit(flags_of(mini_root, runs), run_dir, "in an epoch", kill, log)
    with (run_dir / "journal.jsonl").open("a") as journal:
        journal.write('{"seq":99,"event":"resu')  # the line that a power cut tears
    for path in (Path(os.environ["SEGSWEEP_CACHE"]) / "decoded").rglob("*"):
        if path.is_file() and path.stat().st_size > 1000:
            with path.open("r+b") as file:
                file.truncate(path.stat().st_size // 2)

    def resumes_twice(driver: Started) -> None:
        second = run("sweep.run", *resume_of(runs))
        assert second.returncode == 1 and "this sweep is running already" in second.stderr
        kill(driver)

    hit(resume_of(runs), run_dir, "while saving", resumes_twice, log)
    for weights in run_dir.glob("checkpoints/*/epoch-*/model.safetensors"):
        if not events(run_dir, "ended") or weights.parts[-3] not in {e["trial_id"] for e in events(run_dir, "ended")}:
            weights.write_bytes(weights.read_bytes()[:-100])  # of the trial that was running
    (run_dir / "study.db").write_bytes(b"no database")
    (run_dir / "trials.csv").unlink(missing_ok=True)
    shutil.rmtree(run_dir / "tune")
    (run_dir / "tune").mkdir()
    (run_dir / "tune" / "notes.txt").write_text("mine")
    hit(resume_of(runs), run_dir, "finishing", kill, log)
    moved = tmp_path / "elsewhere" / "runs"
    shutil.move(runs, moved)
    command = [sys.executable, "-c", CLOCK, *resume_of(Path("runs"))]
    path = {**environment(), "PYTHONPATH": str(REPO)}
    last = subprocess.run(
        command, cwd=moved.parent, env=path, capture_output=True, text=True, timeout=500, stdin=subprocess.DEVNULL
    )
    assert last.returncode == 0, last.stdout + last.stderr
    times = [event["time"] for event in events(moved / NAME)]
    assert min(times) == times[-1] or times != sorted(times), "the clock was set back"
    assert Twin(moved / NAME) == twin
    assert (moved / NAME / "tune" / "notes.txt").read_text() == "mine", "Ray's folder may hold files of the user"
