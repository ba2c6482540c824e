"""A Ray cluster that was started apart: its resources count, and it is told when it is open or away."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from ..command import RAY_TMPDIR, end_orphans, run

pytestmark = pytest.mark.ray

CPUS = 3


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


@pytest.fixture(scope="module")
def cluster() -> Iterator[str]:
    """The address of a cluster of one node that asks for no token; ended by its process group."""
    port = free_port()
    ray = Path(sys.executable).with_name("ray")
    flags = [
        "--head",
        f"--port={port}",
        f"--num-cpus={CPUS}",
        f"--temp-dir={RAY_TMPDIR}/c",
        "--include-dashboard=false",
    ]
    head = subprocess.Popen(
        [str(ray), "start", *flags, "--block"],
        env={**os.environ, "RAY_AUTH_MODE": "disabled"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            break
        except OSError:
            time.sleep(0.5)
    time.sleep(5)  # the node joins its own head
    yield f"127.0.0.1:{port}"
    os.killpg(head.pid, signal.SIGKILL)
    head.wait(20)
    end_orphans()  # its daemons are in sessions of their own


def flags(root: Path, runs: Path, name: str) -> list[str]:
    data = ["--data", "folder", "--data-root", str(root), "--set", "image_size=48x64"]
    budget = ["--trials", "1", "--max-epochs", "1", "--wandb", "disabled", "--no-report"]
    return ["--space", "lr", *data, *budget, "--runs-dir", str(runs), "--name", name]


def test_sweep_runs_on_the_clusters_resources_and_says_that_it_is_open(
    cluster: str, mini_root: Path, tmp_path: Path
) -> None:
    done = run("sweep.run", *flags(mini_root, tmp_path, "mine"), "--address", cluster)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{CPUS} at once" in " ".join(done.stdout.replace("│", " ").split())
    assert "token authentication is off" in done.stdout
    assert "it asks for a token" not in done.stdout
    manifest = json.loads((tmp_path / "mine" / "manifest.json").read_text())
    assert manifest["resources"]["concurrent"] == CPUS
    refused = run("sweep.run", *flags(mini_root, tmp_path, "gpu"), "--address", cluster, "--gpus-per-trial", "1")
    assert refused.returncode == 2
    assert "asks for 1 GPUs, there are 0" in refused.stderr
    assert not (tmp_path / "gpu").exists()


def test_cluster_that_is_away_is_one_error_also_for_a_check(mini_root: Path, tmp_path: Path) -> None:
    for more in ([], ["--check"]):
        started = time.monotonic()
        away = run("sweep.run", *flags(mini_root, tmp_path, "away"), "--address", f"127.0.0.1:{free_port()}", *more)
        assert time.monotonic() - started < 30
        assert away.returncode == 1
        assert "no Ray cluster answers there" in away.stderr and "Traceback" not in away.stderr
        assert not (tmp_path / "away").exists()
