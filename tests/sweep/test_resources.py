"""The arithmetic of CPUs and GPUs, and asking a cluster for its own."""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from sweep import resources as module
from sweep.resources import Machine, Machines, Resources, available, plan_execution, plan_resources
from trainables.errors import SegsweepError, UsageError


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


@pytest.mark.parametrize(
    ("said", "token", "told"),
    [
        (["InvalidAuthToken", "AuthenticationError: no token"], "", "this machine has none: put it into ~/.ray/auth"),
        (["InvalidAuthToken", "InvalidAuthToken"], "secret-of-somebody", "not this machine's \\(RAY_AUTH_TOKEN\\)"),
        (["Version mismatch: The cluster was started with:\n Ray: 2.9\n Python: 3.11\nThis process on here was started "
          "with:\n Ray: 2.60\n Python: 3.12"], "", "runs Ray 2.9 on Python 3.11, here is Ray 2.60 on Python 3.12"),
        (["[2026-11-27 19:00:00,000 E] ConnectionError"], "", "no Ray cluster answers there"),
    ],
)  # fmt: skip
def test_why_a_cluster_gives_no_answer_is_one_error(
    said: list[str], token: str, told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("RAY_AUTH_MODE", raising=False)
    monkeypatch.setenv("RAY_AUTH_TOKEN", token)
    monkeypatch.setattr(module, "_listens", lambda address: True)
    monkeypatch.setattr(module, "_ask", lambda address: said.pop(0))
    with pytest.raises(SegsweepError, match=told) as error:
        available("somewhere:1")
    assert not said and "secret" not in str(error.value)
    os.environ.pop("RAY_AUTH_MODE", None)


def test_auto_where_no_ray_runs_says_how_to_start_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_ask", lambda address: "ConnectionError: Could not find any running Ray instance.")
    with pytest.raises(SegsweepError, match=r"no Ray cluster runs on this machine: start one \(ray start --head\)"):
        available("auto")


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


def test_address_where_nothing_listens_is_one_error_in_time() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
    started = time.monotonic()
    with pytest.raises(SegsweepError, match=rf"--address 127\.0\.0\.1:{port}: no Ray cluster answers there within"):
        available(f"127.0.0.1:{port}")
    assert time.monotonic() - started < module.ANSWER_SECONDS + 3


@contextmanager
def silent_server() -> Iterator[int]:
    """Takes connections and never says a word."""
    server = socket.create_server(("127.0.0.1", 0))
    taken: list[socket.socket] = []

    def accept() -> None:
        while True:
            try:
                taken.append(server.accept()[0])
            except OSError:
                return

    threading.Thread(target=accept, daemon=True).start()
    yield server.getsockname()[1]
    server.close()
    for connection in taken:
        connection.close()


def test_address_that_never_answers_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "ANSWER_SECONDS", 2.0)
    with silent_server() as port:
        started = time.monotonic()
        with pytest.raises(SegsweepError, match="no Ray cluster answers"):
            available(f"127.0.0.1:{port}")
        assert time.monotonic() - started < 30, "Ray is loaded first, which may be slow"
