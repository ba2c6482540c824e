"""Real faults on real sweeps: interrupted, killed, its worker killed, its checkpoint torn."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ..command import Started, events, ray_processes, run, wait_until

pytestmark = pytest.mark.ray

TRIALS, EPOCHS = 4, 4


def arguments(root: Path, runs: Path, name: str, *more: str) -> list[str]:
    size = ["--set", "image_size=48x64"] if "--set" not in more else []
    budget = ["--trials", str(TRIALS), "--max-epochs", str(EPOCHS), "--confirm", "0"]
    rest = ["--concurrent", "1", "--wandb", "disabled", "--no-dashboard", *size, *budget, *more]
    data = ["--data", "folder", "--data-root", str(root)]
    return ["--space", "augment", *data, "--runs-dir", str(runs), "--name", name, *rest]


def resume(runs: Path, name: str) -> list[str]:
    return ["--resume", "--name", name, "--runs-dir", str(runs), "--wandb", "disabled", "--no-dashboard"]


def told(run_dir: Path) -> list[tuple[Any, ...]]:
    """What was suggested, measured and decided: everything but times, and where the sweep was cut."""
    story: list[tuple[Any, ...]] = []
    for event in events(run_dir):
        match event["event"]:
            case "suggested":
                story.append(("suggested", event["trial_id"], event["label"], tuple(sorted(event["config"].items()))))
            case "result":
                story.append(("result", event["trial_id"], event["epoch"], tuple(sorted(event["metrics"].items()))))
            case "decision" | "ended":
                story.append((event["event"], event["trial_id"], event.get("state"), event["reason"]))
    return story


def trial_running(run_dir: Path, results: int) -> Any:
    return lambda: len(events(run_dir, "result")) >= results


@pytest.fixture(scope="module")
def uninterrupted(mini_root: Path, tmp_path_factory: pytest.TempPathFactory) -> list[tuple[Any, ...]]:
    runs = tmp_path_factory.mktemp("whole")
    done = run("sweep.run", *arguments(mini_root, runs, "whole"))
    assert done.returncode == 0, done.stdout + done.stderr
    return told(runs / "whole")


def test_killed_and_interrupted_sweep_decides_as_one_that_never_stopped(
    mini_root: Path, tmp_path: Path, uninterrupted: list[tuple[Any, ...]]
) -> None:
    run_dir = tmp_path / "cut"
    with Started("sweep.run", *arguments(mini_root, tmp_path, "cut"), log=tmp_path / "1.log") as first:
        wait_until(trial_running(run_dir, 3), timeout=120, what="three results")
        first.signal_group(signal.SIGKILL)
        first.wait(10)
    with (run_dir / "journal.jsonl").open("a") as journal:
        journal.write('{"seq":99,"event":"resu')  # the line that a power cut tears
    (run_dir / "tune" / "notes.txt").write_text("mine")
    with Started("sweep.run", *resume(tmp_path, "cut"), log=tmp_path / "2.log") as second:
        wait_until(trial_running(run_dir, 7), timeout=120, what="seven results")
        second.signal_group(signal.SIGINT)
        code, seconds = second.wait(15)
        assert code == 130
        assert seconds < 15
        output = second.log.read_text()
        assert f"python -m sweep.run --resume --name cut --runs-dir {tmp_path}" in output
        assert "Traceback" not in output
    last = run("sweep.run", *resume(tmp_path, "cut"))
    assert last.returncode == 0, last.stdout + last.stderr
    assert told(run_dir) == uninterrupted
    assert (run_dir / "tune" / "notes.txt").read_text() == "mine", "Ray's folder may hold files of the user"
    again = run("sweep.run", *resume(tmp_path, "cut"))
    assert again.returncode == 0
    assert "every trial of this sweep has ended" in again.stdout


def test_ctrl_c_in_the_middle_of_a_long_epoch_ends_within_15_seconds(mini_root: Path, tmp_path: Path) -> None:
    run_dir = tmp_path / "long"
    flags = arguments(mini_root, tmp_path, "long", "--set", "image_size=960x1280")
    with Started("sweep.run", *flags, log=tmp_path / "log") as sweep:
        log = run_dir / "logs" / "t000.log"
        wait_until(lambda: log.is_file() and "applied" in log.read_text(), timeout=120, what="the first epoch")
        sweep.signal_group(signal.SIGINT)
        code, seconds = sweep.wait(30)
        assert not events(run_dir, "result"), "the epoch was meant to be long"
    assert code == 130
    assert seconds < 15
    assert events(run_dir, "interrupted")


def test_trial_whose_worker_is_killed_goes_on_with_the_same_digits(
    mini_root: Path, tmp_path: Path, uninterrupted: list[tuple[Any, ...]]
) -> None:
    run_dir = tmp_path / "worker"
    with Started("sweep.run", *arguments(mini_root, tmp_path, "worker"), log=tmp_path / "log") as sweep:
        wait_until(trial_running(run_dir, 2), timeout=120, what="two results")
        victim = next(pid for pid in children(sweep.process.pid) if "Trainable" in name_of(pid))
        os.kill(victim, signal.SIGKILL)
        code, _ = sweep.wait(400)
        assert code == 0, sweep.log.read_text()
    assert len(events(run_dir, "restarted")) == 1
    assert told(run_dir) == uninterrupted


def test_torn_checkpoint_costs_training_but_no_digit(
    mini_root: Path, tmp_path: Path, uninterrupted: list[tuple[Any, ...]]
) -> None:
    run_dir = tmp_path / "torn"
    with Started("sweep.run", *arguments(mini_root, tmp_path, "torn"), log=tmp_path / "log") as first:
        wait_until(trial_running(run_dir, 2), timeout=120, what="two results")
        first.signal_group(signal.SIGKILL)
        first.wait(10)
    for weights in run_dir.glob("checkpoints/t000/epoch-*/model.safetensors"):
        weights.write_bytes(weights.read_bytes()[:-100])
    last = run("sweep.run", *resume(tmp_path, "torn"))
    assert last.returncode == 0, last.stdout + last.stderr
    assert told(run_dir) == uninterrupted


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own that can be filled."""
    place = tmp_path / "disk"
    place.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=700m", "tmpfs", place], capture_output=True)
    if mounted.returncode:
        pytest.skip("only root can mount a small disk")
    yield place
    subprocess.run(["umount", "-l", place], check=True)


def test_a_full_disk_stops_the_sweep_and_costs_no_trial(
    mini_root: Path, tmp_path: Path, small_disk: Path, uninterrupted: list[tuple[Any, ...]]
) -> None:
    run_dir = small_disk / "full"
    with Started("sweep.run", *arguments(mini_root, small_disk, "full"), log=tmp_path / "log") as first:
        wait_until(trial_running(run_dir, 2), timeout=120, what="two results")
        with (small_disk / "fill").open("wb", buffering=0) as fill, pytest.raises(OSError, match="No space"):
            while True:
                fill.write(bytes(2**20))
        code, _ = first.wait(120)
        output = first.log.read_text()
    assert code == 1, output
    assert "No space left on device" in output and "--resume --name full" in output and "Traceback" not in output
    assert not events(run_dir, "ended") or {event["state"] for event in events(run_dir, "ended")} <= {"completed"}
    (small_disk / "fill").unlink()
    last = run("sweep.run", *resume(small_disk, "full"))
    assert last.returncode == 0, last.stdout + last.stderr
    assert told(run_dir) == uninterrupted


def test_altered_journal_is_refused_with_its_line(mini_root: Path, tmp_path: Path) -> None:
    run_dir = tmp_path / "altered"
    with Started("sweep.run", *arguments(mini_root, tmp_path, "altered"), log=tmp_path / "log") as first:
        wait_until(trial_running(run_dir, 1), timeout=120, what="a result")
        first.signal_group(signal.SIGKILL)
        first.wait(10)
    path = run_dir / "journal.jsonl"
    path.write_text(path.read_text().replace('"label":"baseline"', '"label":"better"'))
    refused = run("sweep.run", *resume(tmp_path, "altered"))
    assert refused.returncode == 1
    assert "line 1 does not match its seal" in refused.stderr
    assert "Traceback" not in refused.stderr


def test_no_process_is_left() -> None:
    assert not ray_processes()


def children(pid: int) -> list[int]:
    """All processes below one."""
    below: list[int] = []
    for entry in Path("/proc").glob("[0-9]*/stat"):
        try:
            parent = int(entry.read_text().rsplit(")", 1)[1].split()[1])
        except (OSError, IndexError):
            continue
        if parent == pid:
            child = int(entry.parent.name)
            below += [child, *children(child)]
    return below


def name_of(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
    except OSError:
        return ""
