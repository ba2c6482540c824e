"""A sweep on a machine with a GPU: it is found, shared by trials, and used."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
import torch

from sweep.resources import available, plan_execution, plan_resources
from sweep.versions import describe_hardware
from trainables.checkpoint import latest_checkpoint, read_record

from ..command import events, run


def test_gpu_is_found_and_taken_with_bf16_where_it_has_it() -> None:
    machine = available(None)
    assert machine.gpus == torch.cuda.device_count() >= 1
    assert describe_hardware().gpus[0] == torch.cuda.get_device_name(0)
    resources = plan_resources(machine)
    assert (resources.gpus_per_trial, resources.concurrent) == (1.0, machine.gpus)
    execution = plan_execution(
        resources, precision=None, channels_last=True, compile=False, workers=None, cache_bytes=0
    )
    has_bf16 = torch.cuda.get_device_capability() >= (8, 0)
    assert (execution.device, execution.precision) == ("cuda", "bf16" if has_bf16 else "fp32")
    assert execution.workers == min(4, int(resources.cpus_per_trial) - 1)


@pytest.mark.ray
def test_as_many_trials_share_a_gpu_as_were_measured_to_fit_and_pay(tmp_path: Path) -> None:
    what = ("--space", "augment", "--set", "image_size=48x64", "--trials", "6", "--max-epochs", "2", "--confirm", "0")
    where = ("--runs-dir", str(tmp_path), "--name", "packed", "--no-dashboard", "--wandb", "disabled", "--no-report")
    ended = run("sweep.run", *what, "--gpus-per-trial", "auto", *where, timeout=300)
    print(ended.stdout)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    manifest = json.loads((tmp_path / "packed" / "manifest.json").read_text())
    (cost,) = manifest["plan"]["costs"]
    assert 2**30 < cost["cost"]["memory_bytes"] * 8 < cost["cost"]["device_bytes"]
    at_once, share = manifest["resources"]["concurrent"], manifest["resources"]["gpus_per_trial"]
    assert at_once == int(available(None).gpus / share) >= 1
    if share < 1:
        assert cost["gpus"] == share and f"{at_once} trials share a GPU" in ended.stdout
    with (tmp_path / "packed" / "trials.csv").open(newline="") as file:
        trials = list(csv.DictReader(file))
    assert len(trials) >= 6 and {trial["state"] for trial in trials} <= {"completed", "stopped"}
    for trial in trials:
        assert float(trial["gpu_seconds"]) == pytest.approx(share * float(trial["seconds"]), abs=2e-3)


@pytest.mark.ray
def test_four_trials_share_a_gpu_and_end_in_a_verdict(tmp_path: Path) -> None:
    demonstration = ("--space", "augment", "--set", "image_size=48x64", "--trials", "4", "--max-epochs", "2")
    where = ("--runs-dir", str(tmp_path), "--name", "shared", "--no-dashboard", "--wandb", "disabled")
    ended = run("sweep.run", *demonstration, "--confirm", "2", "--gpus-per-trial", "0.25", *where, timeout=300)
    print(ended.stdout)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    folder = tmp_path / "shared"
    manifest = json.loads((folder / "manifest.json").read_text())
    assert (manifest["execution"]["device"], manifest["resources"]["gpus_per_trial"]) == ("cuda", 0.25)
    assert manifest["resources"]["concurrent"] == min(4, available(None).cpus)
    assert len(events(folder, "verdict")) == 1 and "verdict" in ended.stdout
    with (folder / "trials.csv").open(newline="") as file:
        trials = list(csv.DictReader(file))
    assert len(trials) >= 8 and {trial["state"] for trial in trials} <= {"completed", "stopped"}
    for trial in trials:
        assert 0 < float(trial["gpu_seconds"]) == pytest.approx(0.25 * float(trial["seconds"]), abs=2e-3)
        checkpoint = latest_checkpoint(folder / "checkpoints" / trial["trial_id"])
        assert checkpoint is not None and read_record(checkpoint).applied["device"].startswith("cuda")
    assert (folder / "report" / "val" / "report.html").is_file()
