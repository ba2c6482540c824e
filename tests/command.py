"""Runs the project's commands as a user does, each Ray session in a temp folder of its own."""

from __future__ import annotations

import atexit
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

REPO = Path(__file__).resolve().parents[1]
RAY_TMPDIR = tempfile.mkdtemp(prefix="rt", dir="/tmp")  # short: it holds Unix sockets
atexit.register(shutil.rmtree, RAY_TMPDIR, ignore_errors=True)


def environment() -> dict[str, str]:
    return {**os.environ, "RAY_TMPDIR": RAY_TMPDIR, "COLUMNS": "140"}


def run(module: str, *arguments: str, timeout: float = 500) -> subprocess.CompletedProcess[str]:
    """Runs `python -m module` to its end."""
    return subprocess.run(
        [sys.executable, "-m", module, *arguments],
        cwd=REPO,
        capture_output=True,
        text=True,
        timeout=timeout,
        env=environment(),
        stdin=subprocess.DEVNULL,
    )


def script(command: str, *arguments: str, cwd: Path, timeout: float = 500) -> subprocess.CompletedProcess[str]:
    """Runs `segsweep COMMAND` to its end, as it was installed beside this Python."""
    return subprocess.run(
        [str(Path(sys.executable).with_name("segsweep")), command, *arguments],
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=timeout,
        env=environment(),
        stdin=subprocess.DEVNULL,
    )


class Started:
    """A command in a process group of its own, like one in a terminal."""

    def __init__(self, module: str, *arguments: str, log: Path) -> None:
        self._log = log.open("w")
        self.log = log
        self.process = subprocess.Popen(
            [sys.executable, "-m", module, *arguments],
            cwd=REPO,
            stdout=self._log,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            env=environment(),
            start_new_session=True,
        )

    def signal_group(self, number: signal.Signals) -> None:
        """What Ctrl-C does: every process of the group gets the signal."""
        os.killpg(self.process.pid, number)

    def wait(self, timeout: float) -> tuple[int, float]:
        """Exit code and seconds waited."""
        started = time.monotonic()
        code = self.process.wait(timeout)
        return code, time.monotonic() - started

    def __enter__(self) -> Started:
        return self

    def __exit__(self, *exception: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        self._log.close()
        end_orphans()


def events(run_dir: Path, kind: str | None = None) -> list[dict[str, Any]]:
    """Whole lines of a journal that may be in writing."""
    path = run_dir / "journal.jsonl"
    lines = path.read_text().splitlines(keepends=True) if path.is_file() else []
    found = [json.loads(line) for line in lines if line.endswith("\n")]
    return [event for event in found if kind in (None, event["event"])]


def wait_until(condition: Any, *, timeout: float, what: str) -> None:
    """Polls until a condition holds."""
    deadline = time.monotonic() + timeout
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"waited {timeout:g} s for {what}")
        time.sleep(0.1)


def ray_processes() -> list[int]:
    """Processes of the sessions that these tests started."""
    listing = subprocess.run(["ps", "-eo", "pid,args"], capture_output=True, text=True).stdout.splitlines()[1:]
    return [int(line.split()[0]) for line in listing if RAY_TMPDIR in line]


def end_orphans() -> None:
    """Ends what a killed driver left behind, and nothing else."""
    for pid in ray_processes():
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue
