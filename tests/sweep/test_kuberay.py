"""The RayJob: its form only; no Kubernetes is at hand."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import pytest
import yaml

from sweep import kuberay

FLAGS = ["--image", "registry/segsweep:1", "--claim", "volume", "--workers", "2", "--gpus-per-worker", "1"]
SWEEP = ["--space", "lr", "--name", "My_run", "--data", "folder", "--data-root", "my images"]
FIELDS = {
    "": {"apiVersion", "kind", "metadata", "spec"},
    "spec": {"entrypoint", "backoffLimit", "shutdownAfterJobFinishes", "ttlSecondsAfterFinished", "rayClusterSpec"},
    "spec.rayClusterSpec": {"rayVersion", "authOptions", "headGroupSpec", "workerGroupSpecs"},
    "spec.rayClusterSpec.headGroupSpec": {"rayStartParams", "template"},
    "spec.rayClusterSpec.workerGroupSpecs.0": {
        *("groupName", "replicas", "minReplicas", "maxReplicas", "rayStartParams", "template"),
    },
}
"""Of the custom resource `rayjobs.ray.io`, version v1: those that are written."""


def at(content: Any, path: str) -> Any:
    for step in filter(None, path.split(".")):
        content = content[int(step)] if step.isdigit() else content[step]
    return content


@pytest.fixture
def job(tmp_path: Path) -> Any:
    out = tmp_path / "job.yaml"
    assert kuberay.main([*FLAGS, "--out", str(out), "--", *SWEEP]) == 0
    return yaml.safe_load(out.read_text())


@pytest.mark.parametrize("path", FIELDS)
def test_fields_are_those_of_the_custom_resource(job: Any, path: str) -> None:
    assert set(at(job, path)) == FIELDS[path]


def test_job_asks_for_a_token_trains_in_workers_only_and_resumes_when_tried_again(job: Any) -> None:
    assert (job["apiVersion"], job["kind"], job["metadata"]["name"]) == ("ray.io/v1", "RayJob", "my-run")
    cluster = at(job, "spec.rayClusterSpec")
    assert cluster["authOptions"] == {"mode": "token"}
    assert cluster["headGroupSpec"]["rayStartParams"] == {"num-cpus": "0"}
    (worker,) = cluster["workerGroupSpecs"]
    (container,) = at(worker, "template.spec.containers")
    assert worker["replicas"] == 2 and container["resources"]["limits"]["nvidia.com/gpu"] == "1"
    mounted = {mount["name"] for mount in container["volumeMounts"]}
    assert mounted == {volume["name"] for volume in at(worker, "template.spec.volumes")}
    shell, flag, line = shlex.split(job["spec"]["entrypoint"])
    assert (shell, flag) == ("sh", "-c")
    assert "if [ -e runs/My_run/manifest.json ]; then again=--resume; fi" in line
    assert "--address auto" in line and "'my images'" in line


@pytest.mark.parametrize("flag", ["--claim", "--namespace", "--image"])
@pytest.mark.parametrize("value", ["My Volume", "", "it's"])
def test_words_that_kubernetes_would_refuse_are_refused_at_once(
    flag: str, value: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        kuberay.parser().parse_args([*FLAGS, flag, value])
    assert f"argument {flag}: {value!r} must be" in capsys.readouterr().err


def test_name_that_kubernetes_does_not_take_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert kuberay.main([*FLAGS, "--out", str(tmp_path / "x"), "--", "--space", "lr", "--name", "1.5"]) == 2
    assert "RayJob's name" in capsys.readouterr().err
