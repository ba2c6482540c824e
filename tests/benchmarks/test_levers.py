"""Levers that were measured on different devices are kept apart."""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from typing import Any

import pytest

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"


@pytest.fixture
def levers(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The script, which imports what lies beside it."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module("levers")


def line(levers: Any, place: int, seed: int, miou: float, device: str, seconds: float | None = 2.0) -> str:
    key = json.loads(levers.key((levers.CELLS[place], seed), device))
    return json.dumps({**key, "miou": miou, "epoch_seconds": seconds})


def test_devices_have_tables_of_their_own(levers: Any, tmp_path: Path) -> None:
    path = tmp_path / "levers.jsonl"
    lines = [line(levers, 0, seed, 0.2, "cpu") for seed in levers.SEEDS]
    lines += [line(levers, 0, seed, 0.3, "A GPU", None) for seed in levers.SEEDS]
    lines += [line(levers, 2, seed, 0.31 + seed / 100, "A GPU", None) for seed in levers.SEEDS]
    path.write_text("\n".join(lines))
    runs = levers.read(path)
    assert len(runs) == 9
    on_cpu, on_gpu = (levers.table(runs, device).splitlines() for device in ("cpu", "A GPU"))
    base = [next(row for row in rows if row.startswith("-  ") and "frozen" in row).split() for rows in (on_cpu, on_gpu)]
    assert base == [["-", "base", "point", "frozen", "0.200", "x1.00"], ["-", "base", "point", "frozen", "0.300"]]
    lever = [next(row for row in rows if "224x224" in row and "frozen" in row) for rows in (on_cpu, on_gpu)]
    assert "not measured (0 of 3 seeds)" in lever[0]
    assert lever[1].split()[3:5] == ["0.320", "+0.020"] and "x" not in lever[1].split()[-1]


def test_lines_without_a_device_are_those_of_the_cpu(levers: Any, tmp_path: Path) -> None:
    path = tmp_path / "levers.jsonl"
    old = json.loads(line(levers, 0, 1, 0.2, "cpu"))
    del old["device"]
    path.write_text(json.dumps(old))
    assert list(levers.read(path)) == [levers.key((levers.CELLS[0], 1), "cpu")]
