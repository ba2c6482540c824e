"""The arithmetic of CPUs and GPUs."""

from __future__ import annotations

from typing import Any

import pytest

from sweep.resources import Machine, Machines, Resources, plan_execution, plan_resources
from trainables.errors import UsageError


def resources(**changes: Any) -> Any:
    return plan_resources(Machines(changes.pop("cpus", 8), changes.pop("gpus", 0)), **changes)


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ({}, (1.0, 0.0, 8)),
        ({"cpus_per_trial": 3}, (3, 0.0, 2)),
        ({"concurrent": 2}, (1.0, 0.0, 2)),
        ({"concurrent": 20}, (1.0, 0.0, 8)),
        ({"gpus": 2}, (4.0, 1.0, 2)),
        ({"gpus": 1, "gpus_per_trial": 0.25}, (2.0, 0.25, 4)),
        ({"gpus": 1, "gpus_per_trial": 0.0}, (1.0, 0.0, 8)),
    ],
)
def test_resources_are_shared_out(asked: dict[str, Any], expected: tuple[float, float, int]) -> None:
    planned = resources(**asked)
    assert (planned.cpus_per_trial, planned.gpus_per_trial, planned.concurrent) == expected


@pytest.mark.parametrize(
    ("nodes", "asked", "expected"),
    [
        ([(3, 0), (3, 0)], {"cpus_per_trial": 2}, (2, 0.0, 2)),
        ([(8, 2), (4, 2), (16, 0)], {}, (2.0, 1.0, 4)),
        ([(3, 0), (3, 0)], {"cpus_per_trial": 4}, "the largest node has 3"),
        ([(8, 0), (2, 1)], {"cpus_per_trial": 4}, "no node has 4 CPUs and 1 GPUs"),
    ],
)
def test_no_trial_runs_on_two_nodes(nodes: list[tuple[int, int]], asked: dict[str, Any], expected: Any) -> None:
    each = tuple(Machine(*one) for one in nodes)
    machines = Machines(sum(one.cpus for one in each), sum(one.gpus for one in each), each)
    if isinstance(expected, str):
        with pytest.raises(UsageError, match=expected):
            plan_resources(machines, **asked)
    else:
        planned = plan_resources(machines, **asked)
        assert (planned.cpus_per_trial, planned.gpus_per_trial, planned.concurrent) == expected


def test_what_the_machine_does_not_have_is_refused_all_at_once() -> None:
    with pytest.raises(UsageError) as error:
        resources(cpus_per_trial=9, gpus_per_trial=1, concurrent=0)
    told = str(error.value)
    for fault in (
        "asks for 9 CPUs, there are 8",
        "asks for 1 GPUs, there are 0",
        "leave --gpus-per-trial out",
        "--concurrent",
    ):
        assert fault in told
    for changes in ({"cpus_per_trial": 0}, {"gpus_per_trial": -1}, {"gpus": 4, "gpus_per_trial": 1.5}):
        with pytest.raises(UsageError):
            resources(**changes)


def execution(cpus: float, gpus: float, **changes: Any) -> Any:
    asked = {"precision": None, "channels_last": True, "compile": False, "workers": None, "cache_bytes": 0, **changes}
    return plan_execution(Resources(cpus, gpus, 1), **asked)


def test_execution_is_filled_in_for_the_device(monkeypatch: pytest.MonkeyPatch) -> None:
    on_cpu = execution(4.0, 0.0)
    assert (on_cpu.device, on_cpu.precision, on_cpu.workers, on_cpu.threads) == ("cpu", "fp32", 0, 4)
    monkeypatch.setattr("torch.cuda.is_bf16_supported", lambda **options: True)
    on_gpu = execution(8.0, 0.5)
    assert (on_gpu.device, on_gpu.precision, on_gpu.workers, on_gpu.threads) == ("cuda", "bf16", 4, 4)
    assert execution(2.0, 1.0).workers == 1, "no more processes than the trial has processors beside its own"
    monkeypatch.setattr("torch.cuda.is_bf16_supported", lambda **options: False)
    assert execution(8.0, 1.0).precision == "fp32"
    asked = execution(2.0, 1.0, precision="fp16", channels_last=False, compile=True, workers=3, cache_bytes=7)
    assert (asked.precision, asked.channels_last, asked.compile, asked.workers) == ("fp16", False, True, 3)
    assert (asked.threads, asked.cache_bytes, asked.ranks) == (1, 7, 1)
    both = execution(8.0, 2.0)
    assert (both.ranks, both.workers, both.threads) == (2, 3, 1), "each process has half of the trial's processors"
    assert (execution(1.0, 2.0).workers, execution(1.0, 0.5).ranks) == (0, 1)


def test_precision_that_the_device_does_not_have_is_refused() -> None:
    with pytest.raises(UsageError, match="fp16 needs a GPU"):
        execution(1.0, 0.0, precision="fp16")
