"""Job scripts: their form, and what they do where Slurm's commands and Ray's are stubs that keep how they are called.

`tests/faults/test_slurm_job.py` runs one with the real Ray.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from pathlib import Path

import pytest

from sweep import slurm
from sweep.scripts import read_sweep
from trainables.errors import UsageError

SWEEP = ["--space", "lr", "--name", "mine", "--set", "image_size=48x64", "--data-root", "my 'images'; rm -rf x"]

STUB = """#!/bin/bash
echo "$(basename "$0") $*" >> "$CALLS"
[ -z "${RAY_AUTH_TOKEN:-}" ] || echo "token of ${#RAY_AUTH_TOKEN}" >> "$CALLS"
case "$*" in
    *token_hex*) printf '%064d\\n' 7 ;;
    *create_server*) echo 40001 40002 ;;
    "show hostnames"*) printf '%s\\n' "$(hostname)" other ;;
    *"start --head"*) exec sleep 60 ;;
    "--nodes=1"*) exec sleep 60 ;;
    *"-m sweep.run"*)
        trap 'exit 130' TERM
        touch "$STARTED"
        for _ in $(seq "$TICKS"); do sleep 0.05; done
        exit "$CODE" ;;
esac
"""


def script(*flags: str, sweep: list[str] = SWEEP) -> str:
    return slurm.job_script(slurm.parser().parse_args(flags), read_sweep(["--", *sweep]), Path("mine.slurm"))


@pytest.mark.parametrize("flags", [["--nodes", "1"], ["--nodes", "3", "--gpus-per-node", "2", "--partition", "gpu"]])
def test_script_is_bash_and_asks_for_what_was_said(flags: list[str]) -> None:
    text = script(*flags, "--time", "90m", "--sbatch=--account=me", "--setup", "module load cuda")
    assert subprocess.run(["bash", "-n"], input=text, text=True, check=False).returncode == 0
    asked = [line.removeprefix("#SBATCH ") for line in text.splitlines() if line.startswith("#SBATCH")]
    assert {f"--nodes={flags[1]}", "--time=1:30:00", "--requeue", "--account=me"} <= set(asked)
    assert ("--gpus-per-node=2" in asked) == ("--partition=gpu" in asked) == ("3" in flags)
    assert "\nmodule load cuda\n" in text
    assert ("ray.scripts" in text) == ("3" in flags)  # alone, the sweep starts Ray itself


class Job:
    """The script of two nodes, run in a folder with stubs for all that it calls."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.calls = folder, folder / "calls"
        (folder / "bin").mkdir()
        for name in ("python", "srun", "scontrol"):
            path = folder / "bin" / name
            path.write_text(STUB)
            path.chmod(0o755)
        text = script("--nodes", "2", "--cpus-per-node", "3").replace("\npython=", f"\npython={folder}/bin/python #")
        (folder / "job").write_text(text.replace(f"\ncd {Path.cwd()}\n", f"\ncd {folder}\n"))

    def start(self, *, ticks: int, code: int) -> subprocess.Popen[bytes]:
        environment = {
            **os.environ,
            **{"CALLS": str(self.calls), "STARTED": str(self.folder / "started"), "TICKS": str(ticks)},
            **{"CODE": str(code), "PATH": f"{self.folder / 'bin'}:{os.environ['PATH']}"},
            **{"SLURM_JOB_ID": f"t{os.getpid()}", "SLURM_CPUS_PER_TASK": "3", "SLURM_JOB_NODELIST": "a,b"},
        }
        return subprocess.Popen(["bash", str(self.folder / "job")], env=environment, stderr=subprocess.DEVNULL)

    def called(self, part: str) -> list[str]:
        return [line for line in self.calls.read_text().splitlines() if part in line]


@pytest.fixture
def job(tmp_path: Path) -> Job:
    if shutil.which("getent") is None:
        pytest.skip("a Slurm node has getent; this machine does not")
    return Job(tmp_path)


def test_job_starts_a_head_and_workers_and_its_token_is_in_no_command(job: Job) -> None:
    assert job.start(ticks=0, code=0).wait(30) == 0
    (head,), (worker,), (driver,) = job.called("start --head"), job.called("srun"), job.called("-m sweep.run")
    assert "--num-cpus=3" in head and "--port=40001" in head and "--ray-client-server-port=40002" in head
    assert "--nodelist=other" in worker and "--cpus-per-task=3" in worker
    address = driver.rpartition(" ")[2]
    assert address.endswith(":40001") and f"--address={address}" in worker
    assert SWEEP[-1] in driver and "--resume" not in driver
    assert len(job.called("token of 64")) >= 3 and not job.called(f"{7:064d}")
    assert not Path(f"/tmp/segsweep-t{os.getpid()}").exists()
    assert not job.called("requeue")


def test_job_that_finds_its_run_resumes_it_and_fails_as_the_sweep_does(job: Job) -> None:
    (job.folder / "runs" / "mine").mkdir(parents=True)
    (job.folder / "runs" / "mine" / "manifest.json").touch()
    assert job.start(ticks=0, code=1).wait(30) == 1
    assert "-m sweep.run --resume --space lr" in job.called("-m sweep.run")[0]
    assert not job.called("requeue")


def test_warning_before_the_time_limit_ends_the_sweep_and_requeues_the_job(job: Job) -> None:
    process = job.start(ticks=600, code=0)
    while not (job.folder / "started").exists():
        assert process.poll() is None
    process.send_signal(signal.SIGUSR1)
    assert process.wait(30) == 130
    assert job.called("scontrol requeue") == [f"scontrol requeue t{os.getpid()}"]


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--address", "auto"], "--address: leave it out"),
        (["--resume"], "--resume: leave it out"),
        (["--space", "nothing"], "nothing"),
        (["--set", "x=ghp_abcdefghijklmnopqrstuvwxyz0123456789"], "key or a token"),
    ],
)
def test_flags_that_cannot_stand_in_a_script_are_refused(words: list[str], told: str) -> None:
    with pytest.raises(UsageError, match=told):
        script(sweep=words)


@pytest.mark.parametrize("name", ["two words", "", "a#b"])
def test_partition_that_would_be_other_words_of_its_line_is_refused(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        script("--partition", name)
    assert "must be the name of a partition" in capsys.readouterr().err


def test_file_is_written_once_and_never_over_another(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "job"
    assert slurm.main(["--out", str(out), "--", *SWEEP]) == 0
    before = out.read_text()
    assert f"sbatch {out}" in capsys.readouterr().out.replace("\n", "")
    assert slurm.main(["--nodes", "2", "--out", str(out), "--", *SWEEP]) == 2
    assert "exists" in capsys.readouterr().err
    assert out.read_text() == before
