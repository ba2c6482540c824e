"""What `--address` leads to: a cluster, or one error in time."""

from __future__ import annotations

import os
import re
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from sweep import ray_address as module
from sweep.ray_address import ClusterAnswer, ask_cluster, driver_address
from trainables.errors import SegsweepError, UsageError
from trainables.redact import redacted


@pytest.fixture(autouse=True)
def own_environment(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name in ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_ADDRESS"):
        monkeypatch.delenv(name, raising=False)
    yield
    os.environ.pop("RAY_AUTH_MODE", None)


@pytest.mark.parametrize(
    ("said", "token", "told"),
    [
        (["InvalidAuthToken", "AuthenticationError: no token"], "", "this machine has none: put it into ~/.ray/auth"),
        (["InvalidAuthToken", "InvalidAuthToken"], "secret-of-somebody", "not this machine's \\(RAY_AUTH_TOKEN\\)"),
        (["Received when checking init: Invalid or missing authentication token\n"] * 2, "secret-of-somebody",
         "not this machine's \\(RAY_AUTH_TOKEN\\)"),
        (["Version mismatch: The cluster was started with:\n Ray: 2.9\n Python: 3.11\nThis process on here was started "
          "with:\n Ray: 2.60\n Python: 3.12"], "", "runs Ray 2.9 on Python 3.11, here is Ray 2.60 on Python 3.12"),
        (["gcs_client.cc:210: Failed to get cluster ID from GCS server: RpcError: RPC error: Method not found!"], "",
         "no GCS: .* type --address ray://somewhere:1"),
        (["Received when checking init: \n"], "", "no Ray Client server: .* leave ray:// out"),
        (["ValueError: Ray Client requires pip package `ray[client]`."], "", r"grpcio: pip install 'ray\[client\]'"),
        (["[2026-11-27 19:00:00,000 E] ConnectionError"], "", "no Ray cluster answers there"),
    ],
)  # fmt: skip
def test_why_a_cluster_gives_no_answer_is_one_error(
    said: list[str], token: str, told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = list(said)
    monkeypatch.setenv("RAY_AUTH_TOKEN", token)
    monkeypatch.setattr(module, "_listens", lambda address: True)
    monkeypatch.setattr(module, "_ask", lambda address: said.pop(0))
    with pytest.raises(SegsweepError, match=told) as error:
        ask_cluster("somewhere:1")
    assert not said and "secret" not in str(error.value)


def test_auto_where_no_ray_runs_says_how_to_start_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_ask", lambda address: "ConnectionError: Could not find any running Ray instance.")
    with pytest.raises(SegsweepError, match=r"no Ray cluster runs on this machine: start one \(ray start --head\)"):
        ask_cluster("auto")


def test_address_where_nothing_listens_is_one_error_in_time() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
    started = time.monotonic()
    with pytest.raises(SegsweepError, match=rf"--address 127\.0\.0\.1:{port}: no Ray cluster answers there within"):
        ask_cluster(f"127.0.0.1:{port}")
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


@pytest.mark.parametrize("scheme", ["", "ray://"])
def test_address_that_never_answers_is_given_up(scheme: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "CLIENT_SECONDS" if scheme else "ANSWER_SECONDS", 1.0)
    with silent_server() as port:
        started = time.monotonic()
        with pytest.raises(SegsweepError, match="no Ray cluster answers there within 1 s"):
            ask_cluster(f"{scheme}127.0.0.1:{port}")
        assert time.monotonic() - started < 25, "Ray is loaded first, which may be slow"


@pytest.mark.parametrize("address", ["ray://head", "ray://me:hunter@head:10001", "ray://head:10001/space", "ray://:1"])
def test_client_address_of_another_form_is_refused_without_asking(
    address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_ask", lambda address: pytest.fail("asked"))
    with pytest.raises(UsageError, match="write ray://HOST:PORT") as error:
        driver_address(address)
    assert "hunter" not in redacted(str(error.value))


@pytest.mark.parametrize(
    ("given", "in_environment", "here"),
    [
        ("ray://head:10001", "", True),
        ("ray://[fd00::1]:10001", "", True),
        ("auto", "ray://head:10001", True),
        ("ray://head:10001", "", False),
        ("auto", "10.0.0.1:6379", None),
        ("head:6379", "ray://head:10001", None),
        (None, "ray://head:10001", None),
    ],
)
def test_client_address_is_that_of_the_gcs_only_where_this_machine_runs_a_node(
    given: str | None,
    in_environment: str,
    here: bool | None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("RAY_ADDRESS", in_environment)
    monkeypatch.chdir(tmp_path)  # Unix sockets have short paths
    asked: list[str] = []

    def ask(address: str) -> ClusterAnswer:
        asked.append(address)
        return ClusterAnswer(({},), "10.0.0.7:6379", ("not_here/raylet", "raylet"))

    monkeypatch.setattr(module, "ask_cluster", ask)
    with socket.socket(socket.AF_UNIX) as raylet:
        raylet.bind("raylet")
        if here:
            raylet.listen()
        if here is None:
            assert driver_address(given) == given and not asked
        elif here:
            assert driver_address(given) == "10.0.0.7:6379"
            assert asked == [in_environment or given]
        else:
            cure = re.escape("(ray start --address=10.0.0.7:6379 --num-cpus=0 --num-gpus=0)")
            with pytest.raises(UsageError, match=f"runs no node of that cluster.*--address auto.*{cure}"):
                driver_address(given)
