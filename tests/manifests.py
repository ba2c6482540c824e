"""Manifests for tests: whole ones, of which a test names what it is about."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from search_spaces import SearchSpace
from sweep.manifest import Budget, DataRecord, SearchRecord, SplitRecord, SplitRecords, SweepManifest
from sweep.resources import Resources
from sweep.versions import Hardware
from trainables.data.base import ClassInfo

FORMAT_2 = Path(__file__).parent / "data" / "manifest-format-2.json"
"""Of a sweep that the last version with format 2 started; only the places and the machine have other names."""


def make_manifest(**changes: Any) -> SweepManifest:
    """A manifest of which some fields are a test's own."""
    splits = SplitRecords(*(SplitRecord(3, name * 8) for name in ("ab", "cd", "ef")))
    fields: dict[str, Any] = {
        "name": "mine",
        "created": "2026-01-01T00:00:00+00:00",
        "command": ("python", "-m", "sweep.run"),
        "seed": 3,
        "data": DataRecord("folder", None, (ClassInfo("sky", (1, 2, 3)), ClassInfo("ground", (4, 5, 6))), splits),
        "space": SearchSpace("augment", "", (), "augment.policy"),
        "base": {"image_size": "32x48", "epochs": 2, "model.name": "lraspp_mobilenet_v3_large"},
        "budget": Budget(trials=3, max_epochs=2),
        "search": SearchRecord("random", "none"),
        "objective": "val/miou",
        "direction": "max",
        "resources": Resources(cpus_per_trial=1.0, gpus_per_trial=0.0, concurrent=1),
        "hardware": Hardware(cpu="A Processor", cores=2, memory_gib=8.0, gpus=(), platform="Linux"),
        "versions": {},
    }
    return SweepManifest(**fields | changes)


def format_2() -> dict[str, Any]:
    """The content of `FORMAT_2`."""
    content: dict[str, Any] = json.loads(FORMAT_2.read_text(encoding="utf-8"))
    return content
