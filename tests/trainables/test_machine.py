"""Limits of containers and jobs, read from control groups of both versions."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from trainables import machine

V2 = "0::/jobs/mine\n"
V1 = "12:memory:/jobs/mine\n4:cpu,cpuacct:/jobs/mine\n0::/\n"
GIB = 2**30
THERE = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


@pytest.mark.parametrize(
    ("own", "files", "cores", "memory"),
    [
        (V2, {"jobs/mine/cpu.max": "250000 100000\n", "jobs/mine/memory.max": f"{GIB}\n"}, 2, GIB),
        (V2, {"jobs/cpu.max": "300000 100000", "jobs/mine/cpu.max": "max 100000", "memory.max": f"{GIB}"}, 3, GIB),
        (V2, {"jobs/mine/cpu.max": "50000 100000", "jobs/mine/memory.max": "max"}, 1, THERE),
        (V2, {"cpu.max": "200000 100000"}, 2, THERE),  # a container, whose own folder has another path in there
        (
            V1,
            {"cpu/jobs/mine/cpu.cfs_quota_us": "400000", "cpu/jobs/mine/cpu.cfs_period_us": "100000"},
            4,
            THERE,
        ),
        (V1, {"memory/memory.limit_in_bytes": f"{GIB}"}, 64, GIB),
        (V1, {"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, 64, THERE),
        (V1, {"memory/memory.limit_in_bytes": f"{2**63}"}, 64, THERE),
        (V2, {}, 64, THERE),
        ("", {}, 64, THERE),
    ],
)  # fmt: skip
def test_a_containers_limits_are_this_machines(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, own: str, files: dict[str, str], cores: int, memory: int
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: range(64))
    monkeypatch.setattr(machine, "_OWN", tmp_path / "own")
    monkeypatch.setattr(machine, "_CGROUPS", tmp_path / "groups")
    (tmp_path / "own").write_text(own)
    for name, text in files.items():
        path = tmp_path / "groups" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    assert (machine.cores(), machine.memory_bytes()) == (cores, memory)


def test_where_control_groups_are_unknown_the_machine_counts(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(machine, "_OWN", tmp_path / "none")
    assert machine.cores() == len(os.sched_getaffinity(0)) and machine.memory_bytes() == THERE
