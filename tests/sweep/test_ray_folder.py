"""The folder of a Ray that is started here: where it is, and what becomes of it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from sweep.ray_folder import LONGEST, place_for_ray
from trainables.errors import SegsweepError

from ..command import REPO, environment, wait_until


def test_place_is_the_one_asked_for_unless_it_is_too_long_or_cannot_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    long = tmp_path / ("x" * LONGEST)
    long.mkdir()
    with tempfile.TemporaryDirectory(dir="/tmp") as short:
        assert place_for_ray({"RAY_TMPDIR": short}) == Path(short)
        monkeypatch.setattr(tempfile, "gettempdir", lambda: short)
        for bad in (str(long), "/proc/nowhere"):
            assert place_for_ray({"RAY_TMPDIR": bad}) == Path(short)


def test_without_any_folder_for_ray_the_variable_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(**options: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(tempfile, "TemporaryFile", full)
    monkeypatch.setattr(tempfile, "gettempdir", lambda: "/" + "x" * LONGEST)
    with pytest.raises(SegsweepError, match="RAY_TMPDIR=DIR") as error:
        place_for_ray({})
    assert "is too long" in str(error.value) and "/tmp cannot be written to (No space left on device)" in str(
        error.value
    )


DRIVER = """
import subprocess, sys, time
from sweep.ray_folder import folder_for_ray, marked
with folder_for_ray() as folder:
    (folder / "session").mkdir()
    with marked(folder):
        child = subprocess.Popen(["sleep", "300"], start_new_session=True)
    print(folder, child.pid, flush=True)
    time.sleep(300)
"""


def is_running(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except OSError:
        return False
    return state != "Z"


@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="looks for processes in /proc")
def test_what_was_started_in_the_folder_ends_with_a_killed_driver() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", DRIVER], cwd=REPO, stdout=subprocess.PIPE, text=True, env=environment()
    ) as driver:
        assert driver.stdout is not None
        folder, child = driver.stdout.readline().split()
        assert Path(folder).is_dir() and is_running(int(child))
        os.kill(driver.pid, signal.SIGKILL)
    wait_until(lambda: not is_running(int(child)) and not Path(folder).exists(), timeout=10, what="the end of it all")
