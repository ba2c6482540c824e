"""The job script of `segsweep slurm` with the real Ray: two nodes on this machine, in place of Slurm two stubs."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from sweep import slurm

from ..command import REPO, end_orphans, environment, events

pytestmark = pytest.mark.ray

SRUN = """#!/bin/bash
while [ "$1" != bash ]; do shift; done
exec "${@//segsweep-$SLURM_JOB_ID/segsweep-$SLURM_JOB_ID-b}"  # each node has a temp folder of its own
"""
SCONTROL = """#!/bin/bash
[ "$1 $2" = "show hostnames" ] && printf '%s\\n' "$(hostname)" other
"""


def test_job_runs_a_sweep_on_two_nodes_and_leaves_nothing(
    mini_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, text in (("srun", SRUN), ("scontrol", SCONTROL)):
        path = tmp_path / name
        path.write_text(text)
        path.chmod(0o755)
    data = ["--data", "folder", "--data-root", str(mini_root), "--set", "image_size=48x64"]
    budget = ["--trials", "1", "--max-epochs", "1", "--confirm", "0", "--wandb", "disabled", "--no-report"]
    sweep = ["--space", "lr", "--runs-dir", str(tmp_path / "runs"), "--name", "mine", *data, *budget]
    monkeypatch.chdir(REPO)
    script = tmp_path / "job"
    assert slurm.main(["--nodes", "2", "--cpus-per-node", "1", "--out", str(script), "--", *sweep]) == 0
    job = f"t{os.getpid()}"
    of_slurm = {"SLURM_JOB_ID": job, "SLURM_CPUS_PER_TASK": "1", "SLURM_JOB_NODELIST": "a,b"}
    try:
        done = subprocess.run(
            ["bash", str(script)],
            env={**environment(), **of_slurm, "PATH": f"{tmp_path}:{os.environ['PATH']}", "RAY_worker_niceness": "0"},
            capture_output=True,
            text=True,
            timeout=900,
        )
    finally:
        end_orphans()
    assert done.returncode == 0, done.stdout + done.stderr
    assert "2 of 2 nodes have joined" in done.stdout
    assert "cluster: 2 nodes with this code and these images" in done.stdout
    assert "token authentication is off" not in done.stdout
    assert [event["state"] for event in events(tmp_path / "runs" / "mine", "ended")] == ["completed"]
    assert not list(Path("/tmp").glob(f"segsweep-{job}*"))
