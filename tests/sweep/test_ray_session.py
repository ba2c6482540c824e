"""Who watches a Ray session: what counts as gone, and what then happens to a driver that waits for it."""

from __future__ import annotations

import socket
import threading

import pytest

from sweep import ray_session
from sweep.ray_session import Watch, _Unanswered


def test_cluster_counts_as_gone_after_ten_seconds_without_an_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [100.0]
    monkeypatch.setattr("sweep.ray_session.time.monotonic", lambda: clock[0])
    with socket.create_server(("127.0.0.1", 0)) as gcs:
        host, port = gcs.getsockname()
        unanswered = _Unanswered(f"{host}:{port}")
        assert not unanswered.fault()
    for clock[0] in (102.0, 108.0, 112.0):
        assert not unanswered.fault(), "it may be back"
    clock[0] = 113.0
    assert f"GCS at {host}:{port} is gone" in unanswered.fault()
    assert not _Unanswered(None).fault()


@pytest.mark.parametrize("leaves", [True, False])
def test_driver_that_waits_for_what_has_died_is_ended(leaves: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray_session, "LOOK_SECONDS", 0.01)
    monkeypatch.setattr(ray_session, "STUCK_SECONDS", 30 if leaves else 0.1)
    stuck = threading.Event()
    told: list[str] = []

    def on_stuck(fault: str) -> None:
        told.append(fault)
        stuck.set()

    with Watch(lambda: "the raylet died", on_stuck) as watch:
        assert watch.told() == "the raylet died"
        if not leaves:
            assert stuck.wait(5)
    assert stuck.wait(0.3) is not leaves
    assert told == ([] if leaves else ["the raylet died"])
