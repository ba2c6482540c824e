"""What is kept of each trial: mappings whose keys are shared, and no more bytes than that."""

from __future__ import annotations

import gc
import os
import tracemalloc
from pathlib import Path
from typing import Any

import pytest

from sweep.journal import Journal
from sweep.manifest import Budget
from sweep.records import Record, Records
from sweep.views import Views

from .simulated import Worker, make, scores

MOST_BYTES = 8_000
"""Per ended trial of the space `loss`, 4 epochs; with every event in memory it was 13,900, and is 5,600."""


@pytest.mark.parametrize(
    "mapping",
    [{}, {"a": 1, "b": 1.0, "c": True, "d": "text", "e": None}, {"b": 0.25, "a": -0.0}, {"a": {"b": 1.5}}],
    ids=["empty", "of all kinds", "of numbers", "nested"],
)
def test_record_is_the_mapping_that_it_was_made_of(mapping: dict[str, Any]) -> None:
    for record in (Record.of(mapping), Records().of(mapping)):
        assert record == mapping and list(record) == list(mapping) and len(record) == len(mapping)
        assert repr(record) == repr(mapping), "types and signs of zero, too"
        with pytest.raises(KeyError):
            record["missing"]


def test_values_that_repeat_are_one_object_and_those_that_only_equal_are_not() -> None:
    records = Records()
    first, second = records.of({"a": float("0.125"), "b": 1}), records.of({"a": float("0.125"), "b": True})
    assert first._values[0] is second._values[0]
    assert [repr(value) for value in second.values()] == ["0.125", "True"]
    assert repr(records.of({"a": -0.0})) == "{'a': -0.0}" and repr(records.of({"a": 0.0})) == "{'a': 0.0}"


def test_ended_trials_take_little_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fsync", lambda file: None)
    warm, traced = 20, 50
    with Journal(tmp_path / "journal.jsonl") as journal:
        options: dict[str, Any] = {"sampler": "random", "scheduler": "none", "budget": Budget(warm + traced + 1, 4)}
        conductor = make(journal, **options)
        views = Views(conductor, tmp_path, lambda config: 0.0)
        for count in range(warm + traced):
            if count == warm:
                views.write()
                tracemalloc.start()
            task = conductor.next()
            assert task is not None
            worker = Worker(task, scores, {})
            while not conductor.on_trial_result(task.trial_id, worker.step()):
                pass
        views.write()
        gc.collect()
        each = tracemalloc.get_traced_memory()[0] / traced
        tracemalloc.stop()
    print(f"{each:.0f} bytes per trial")
    assert each < MOST_BYTES
