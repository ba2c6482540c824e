"""The time that a sweep has spent, which outlives its driver."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from sweep import heartbeat as module
from sweep.heartbeat import SPENT_FILE, heartbeat, spent_seconds


def test_last_second_is_on_disk_while_it_runs_and_at_its_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BEAT_SECONDS", 0.01)
    spent = iter(range(1, 10**6))
    with heartbeat(tmp_path, lambda: float(next(spent))):
        deadline = time.monotonic() + 20
        while spent_seconds(tmp_path) < 3 and time.monotonic() < deadline:
            time.sleep(0.01)
        assert spent_seconds(tmp_path) >= 3, "written again and again, not only at the end"
    last = next(spent) - 1
    assert spent_seconds(tmp_path) == last
    time.sleep(0.05)
    assert spent_seconds(tmp_path) == last, "no beat after the end"


def test_disk_without_room_does_not_end_a_sweep(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BEAT_SECONDS", 0.01)
    (tmp_path / SPENT_FILE).mkdir()
    with heartbeat(tmp_path, lambda: 1.0):
        time.sleep(0.05)
    assert spent_seconds(tmp_path) == 0.0


@pytest.mark.parametrize("text", ["", "much", "nan", "inf", "-4", "\xff"])
def test_what_cannot_be_read_counts_nothing(tmp_path: Path, text: str) -> None:
    (tmp_path / SPENT_FILE).write_text(text, encoding="latin-1")
    assert spent_seconds(tmp_path) == 0.0
