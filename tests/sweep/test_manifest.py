"""The manifest: written whole, read back equal, openings counted."""

from __future__ import annotations

import dataclasses
import json
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from sweep.manifest import SweepManifest, describe_hardware, package_versions
from trainables.data.splits.openings import count_openings
from trainables.errors import DataError

MANIFEST = SweepManifest(
    name="mine",
    created="2025-01-01T00:00:00+00:00",
    command=("python", "-m", "sweep.run"),
    seed=3,
    data={"name": "folder", "splits": {"test": {"hash": "abc", "images": 3}}},
    space={"name": "lr", "known_good": {"optimizer.lr": 0.003}},
    budget={"trials": 4, "time_budget_s": None},
    objective="val/miou",
    mode="max",
    resources={"cpus_per_trial": 1.0},
    hardware={"cores": 2},
    versions={"python": "3.11"},
    execution={"precision": "bf16", "channels_last": True},
)


def test_manifest_comes_back_equal(tmp_path: Path) -> None:
    MANIFEST.save(tmp_path)
    assert SweepManifest.load(tmp_path) == MANIFEST
    assert [path.name for path in tmp_path.iterdir()] == ["manifest.json"]


@pytest.mark.parametrize(
    "content", ["", "{", "[]", "null", "{}", '{"format": 2}', '{"format": 2, "command": [], "x": 2}']
)
def test_damaged_manifest_is_a_data_error(tmp_path: Path, content: str) -> None:
    (tmp_path / "manifest.json").write_text(content)
    with pytest.raises(DataError, match=r"damaged|format"):
        SweepManifest.load(tmp_path)


def test_folder_that_is_no_run_and_another_format_are_told(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="is not a run folder"):
        SweepManifest.load(tmp_path)
    MANIFEST.save(tmp_path)
    content = json.loads((tmp_path / "manifest.json").read_text())
    (tmp_path / "manifest.json").write_text(json.dumps({**content, "format": 99}))
    with pytest.raises(DataError, match="another format"):
        SweepManifest.load(tmp_path)


def test_failed_write_keeps_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    MANIFEST.save(tmp_path)

    def fails(*args: Any, **options: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", fails)
    with pytest.raises(OSError, match="No space"):
        dataclasses.replace(MANIFEST, seed=9).save(tmp_path)
    monkeypatch.undo()
    assert SweepManifest.load(tmp_path).seed == 3


def test_nan_never_reaches_a_file(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"(?i)float"):
        dataclasses.replace(MANIFEST, hardware={"memory_gib": float("nan")}).save(tmp_path)
    assert not list(tmp_path.iterdir())


def test_openings_are_counted_by_the_splits_hash_over_all_sweeps(tmp_path: Path) -> None:
    assert count_openings(tmp_path, "abc") == 0
    lines = [{"split_hash": "abc", "run": "a"}, {"split_hash": "xyz", "run": "a"}, {"split_hash": "abc", "run": "b"}]
    (tmp_path / "test_openings.jsonl").write_text("".join(json.dumps(x) + "\n" for x in lines) + '{"split_ha')
    assert count_openings(tmp_path, "abc") == 2
    assert count_openings(tmp_path, "xyz") == 1


def test_hardware_and_versions_are_primitives() -> None:
    assert json.loads(json.dumps(describe_hardware()))["cores"] >= 1
    versions = package_versions()
    assert versions["python"] == ".".join(map(str, sys.version_info[:3]))
    assert versions["torch"] == torch.__version__.split("+")[0] or versions["torch"] == torch.__version__
