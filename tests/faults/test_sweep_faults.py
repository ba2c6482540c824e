"""Faults of the machine on real sweeps: a long epoch interrupted, a full disk, little shared memory, folders away."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ..command import REPO, Started, environment, events, ray_processes, run, wait_until
from ..mini import write
from .twin import NAME, Twin, below, flags_of, leftovers, resume_of

pytestmark = pytest.mark.ray


def trial_running(run_dir: Path, results: int) -> Any:
    return lambda: len(events(run_dir, "result")) >= results


def one_trial(root: Path, runs: Path, *more: str) -> list[str]:
    """Flags of the shortest sweep."""
    size = [] if "--set" in more else ["--set", "image_size=48x64"]
    data = ["--data", "folder", "--data-root", str(root), "--runs-dir", str(runs), "--name", NAME]
    budget = ["--trials", "1", "--max-epochs", "1", "--confirm", "0", "--no-report"]
    return ["--space", "lr", *data, *budget, "--wandb", "disabled", "--no-dashboard", *size, *more]


def test_ctrl_c_in_the_middle_of_a_long_epoch_ends_within_15_seconds(mini_root: Path, tmp_path: Path) -> None:
    run_dir = tmp_path / NAME
    flags = one_trial(mini_root, tmp_path, "--set", "image_size=960x1280", "--concurrent", "1")  # of 14 GiB each
    with Started("sweep.run", *flags, log=tmp_path / "log") as sweep:
        log = run_dir / "logs" / "t000.log"
        wait_until(lambda: log.is_file() and "applied" in log.read_text(), timeout=120, what="the first epoch")
        sweep.signal_group(signal.SIGINT)
        code, seconds = sweep.wait(30)
        assert not events(run_dir, "result"), "the epoch was meant to be long"
    assert code == 130
    assert seconds < 15
    assert events(run_dir, "interrupted")


def test_what_ends_a_sweep_while_it_measures_and_ray_starts_leaves_nothing(mini_root: Path, tmp_path: Path) -> None:
    for number, (strike, expected) in enumerate(
        [(signal.SIGTERM, 130), (signal.SIGINT, 130), (signal.SIGHUP, 130), (signal.SIGKILL, -signal.SIGKILL)]
    ):
        log = tmp_path / f"log-{number}"
        with Started("sweep.run", *one_trial(mini_root, tmp_path), log=log) as sweep:
            pid, sign = sweep.process.pid, ("ray::", "gcs_server")[number % 2]  # Ray has started, or starts
            comes = lambda: any(sign in command for command in below(pid).values())  # noqa: B023, E731
            wait_until(comes, timeout=60, what=f"Ray's {sign}")
            sweep.process.send_signal(strike)
            code, seconds = sweep.wait(30)
        told = log.read_text()
        assert code == expected and seconds < 15, told
        assert expected < 0 or "nothing was kept" in told, told
        assert "Traceback" not in told and not (tmp_path / NAME).exists()
        wait_until(lambda: not ray_processes(), timeout=15, what="the end of Ray's processes")
        wait_until(lambda: not leftovers(), timeout=15, what="an empty temp folder of Ray")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own that can be filled."""
    place = tmp_path / "disk"
    place.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1500m", "tmpfs", place], capture_output=True)
    if mounted.returncode:
        pytest.skip("only root can mount a small disk")
    yield place
    subprocess.run(["umount", "-l", place], check=True)


def test_a_full_disk_stops_the_sweep_and_costs_no_trial(
    mini_root: Path, tmp_path: Path, small_disk: Path, twin: Twin
) -> None:
    run_dir = small_disk / NAME
    with Started("sweep.run", *flags_of(mini_root, small_disk), log=tmp_path / "log") as first:
        wait_until(trial_running(run_dir, 2), timeout=120, what="two results")
        with (small_disk / "fill").open("wb", buffering=0) as fill, pytest.raises(OSError, match="No space"):
            while True:
                fill.write(bytes(2**20))
        code, _ = first.wait(120)
        output = first.log.read_text()
    assert code == 1, output
    assert "No space left on device" in output and f"--resume --name {NAME}" in output and "Traceback" not in output
    assert not events(run_dir, "ended") or {event["state"] for event in events(run_dir, "ended")} <= {"completed"}
    (small_disk / "fill").unlink()
    last = run("sweep.run", *resume_of(small_disk))
    assert last.returncode == 0, last.stdout + last.stderr
    assert Twin(run_dir) == twin


FILLS = """(
while kill -0 $$ && ! ls {out}/checkpoints/epoch-0001; do sleep 0.1; done
while kill -0 $$; do dd if=/dev/zero of=/dev/shm/fill bs=64k oflag=append conv=notrunc; sleep 0.001; done
) > /dev/null 2>&1 &"""
"""Another program, which fills the shared memory after the first epoch and whenever a batch is gone from it."""


@pytest.mark.parametrize(("megabytes", "filled"), [(2, False), (1100, True)])
def test_loader_processes_work_with_the_shared_memory_of_a_container(
    tmp_path: Path, megabytes: int, filled: bool
) -> None:
    """2 MB of it, where a batch has 3: without another way torch waits for ever for the batch that found no room."""
    size = ["--set", "image_size=384x512", "--set", "batch_size=4", "--set", "model.name=lraspp_mobilenet_v3_small"]
    train = ["-m", "trainables.train", "--data", "folder", "--data-root", str(write(tmp_path / "data", count=16))]
    train += ["--out", str(tmp_path / "out"), "--epochs", "3", "--workers", "2", *size]
    fills = FILLS.format(out=tmp_path / "out") if filled else ""
    script = f'mount -t tmpfs -o size={megabytes}m tmpfs /dev/shm || exit 77\n{fills}\nexec "$0" "$@"'
    done = subprocess.run(
        ["unshare", "-m", "sh", "-c", script, sys.executable, *train],
        cwd=REPO,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=300,
    )
    if done.returncode == 77 or "unshare" in done.stderr:
        pytest.skip("only root can mount a small /dev/shm")
    assert done.returncode == 0, done.stderr
    assert ("/dev/shm has 2 MB free" in done.stderr and "--shm-size" in done.stderr) != filled
    assert "epoch 3/3" in done.stdout


def test_home_and_temp_folder_that_cannot_be_written_and_a_terminal_without_unicode(
    mini_root: Path, tmp_path: Path
) -> None:
    away = {"HOME": "/proc/nowhere", "TMPDIR": str(tmp_path / ("long" * 25)), "RAY_TMPDIR": ""}
    ascii_only = {"PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "LC_ALL": "C", "PYTHONIOENCODING": "latin-1"}
    (tmp_path / ("long" * 25)).mkdir()
    done = subprocess.run(
        [sys.executable, "-m", "sweep.run", *one_trial(mini_root, tmp_path / "runs")],
        cwd=REPO,
        env={**environment(), **away, **ascii_only},
        capture_output=True,
        encoding="latin-1",
        timeout=300,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert [event["state"] for event in events(tmp_path / "runs" / NAME, "ended")] == ["completed"]


def test_no_process_is_left() -> None:
    assert not ray_processes()
