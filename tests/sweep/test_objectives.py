"""What a sweep may rank by, and which way."""

from __future__ import annotations

import math
from dataclasses import replace
from types import SimpleNamespace

import pytest

from sweep.objectives import DEFAULT, Objective, objective_of, objectives, recorded_objective
from trainables.errors import DataError, UsageError
from trainables.metrics import METRICS

KEYS = ["val/miou", "val/pixel_accuracy", "val/f1", "val/precision", "val/recall"]


def lowest(key: str) -> Objective:
    objective = objective_of(key)
    return replace(objective, metric=replace(objective.metric, direction="min"))


def test_every_metric_that_trials_report_is_an_objective_and_the_default_comes_first() -> None:
    assert list(objectives()) == KEYS
    assert KEYS[0] == DEFAULT
    for key, objective in objectives().items():
        assert objective.key == key
        assert METRICS.get(objective.metric.name) is objective.metric


def test_unknown_objective_is_told_with_the_close_ones() -> None:
    with pytest.raises(UsageError, match=r"val/mIoU.*val/miou"):
        objective_of("val/mIoU")


def test_the_objective_of_a_run_is_its_manifests() -> None:
    manifest = SimpleNamespace(name="run", objective="val/recall", direction="max")
    assert recorded_objective(manifest) == objective_of("val/recall")
    assert recorded_objective(SimpleNamespace(**vars(manifest) | {"direction": "min"})) == lowest("val/recall")
    with pytest.raises(DataError, match=r"val/speed.*val/miou, val/pixel_accuracy, val/f1"):
        recorded_objective(SimpleNamespace(**vars(manifest) | {"objective": "val/speed"}))


@pytest.mark.parametrize(
    ("objective", "expected"),
    [(objective_of("val/miou"), {"a": 2, "b": 1, "d": 2}), (lowest("val/miou"), {"a": 1, "b": 2, "d": 1})],
)
def test_equal_values_share_a_rank_and_nan_has_none(objective: Objective, expected: dict[str, int]) -> None:
    assert objective.ranks({"a": 0.5, "b": 0.7, "c": math.nan, "d": 0.5}) == expected


def test_a_value_that_is_missing_or_not_finite_is_none() -> None:
    objective = objective_of("val/miou")
    assert objective.value({"val/miou": 0.25}) == 0.25
    assert objective.value({"val/f1": 0.25}) is None
    assert objective.value({"val/miou": math.nan}) is None
