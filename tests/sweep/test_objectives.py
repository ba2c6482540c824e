"""What a sweep may rank by, and which way."""

from __future__ import annotations

import math
import re
from dataclasses import replace

import numpy as np
import pytest
from sklearn.metrics import jaccard_score, precision_score, recall_score

from sweep.manifest import ObjectiveRecord
from sweep.objectives import (
    DEFAULT,
    Objective,
    SplitObjective,
    objective_faults,
    objective_of,
    objectives,
    on_classes,
    recorded_objective,
    recorded_objectives,
)
from trainables.errors import DataError, UsageError
from trainables.metrics import METRICS, ConfusionsAlone, Replicates, summary

from ..manifests import make_manifest

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


@pytest.mark.parametrize(
    ("key", "told"),
    [
        ("val/miou[person]", "did you mean val/iou\\[person\\]"),
        ("iou[person]", "did you mean val/iou\\[person\\]"),
        ("val/map[person]", "did you mean val/"),
        ("val/iou[]", "did you mean val/"),
        ("parameters", "did you mean params"),
        ("latency", "did you mean latency_ms"),
        ("val/x", "known: |did you mean"),
    ],
)
def test_what_is_no_objective_is_told_with_how_it_is_written(key: str, told: str) -> None:
    with pytest.raises(UsageError, match=told):
        objective_of(key)


NAMES = ["road", "traffic light", "sign [small]", "a/b"]


@pytest.mark.parametrize("name", NAMES)
def test_objective_of_one_class_is_the_classs_own_value(name: str) -> None:
    matrix = np.array([[5, 1, 0, 2], [2, 7, 1, 0], [0, 0, 3, 1], [1, 1, 1, 9]])
    for metric, oracle in (("iou", jaccard_score), ("precision", precision_score), ("recall", recall_score)):
        objective = on_classes(objective_of(f"val/{metric}[{name}]"), NAMES)
        assert isinstance(objective, SplitObjective)
        truth = np.repeat(np.arange(4), matrix.sum(axis=1))
        predicted = np.concatenate([np.repeat(np.arange(4), row) for row in matrix])
        expected = oracle(truth, predicted, average=None)[NAMES.index(name)]
        found = summary(matrix, [objective.metric])
        assert found.pop(objective.key) == pytest.approx(expected)
        assert found == summary(matrix)
        assert objective.metric.direction == METRICS.get(metric).direction
        assert name in objective.metric.words


def test_class_that_the_data_set_has_not_is_told_with_the_close_ones() -> None:
    for asked, told in (("val/iou[Road]", "did you mean 'road'"), ("val/f1[zebra]", r"it has: road, traffic light, ")):
        with pytest.raises(UsageError, match=told):
            on_classes(objective_of(asked), NAMES)
    assert on_classes(objective_of("params"), NAMES) == objective_of("params")


def test_replicate_that_lost_the_class_has_no_value_and_the_others_that_of_their_images() -> None:
    rng = np.random.default_rng(1)
    confusions = rng.integers(1, 9, (4, 3, 3))
    confusions[1:, 2] = 0  # the class is in the truth of the first image alone
    metric = on_classes(objective_of("val/iou[c]"), ["a", "b", "c"]).metric
    weights = np.array([[1, 1, 1, 1], [2, 0, 1, 1], [0, 2, 1, 1]], dtype=float)
    found = metric(Replicates(ConfusionsAlone(confusions), weights))
    for value, of_image in zip(found[:2], weights, strict=False):
        matrix = np.tensordot(of_image, confusions, 1)
        union = matrix[2].sum() + matrix[:, 2].sum() - matrix[2, 2]
        assert value == pytest.approx(matrix[2, 2] / union)
    assert np.isnan(found[2])
    never = confusions.copy()
    never[0, 2] = 0  # predicted only: 0 in the split, and in every replicate
    assert metric(Replicates(ConfusionsAlone(never), weights)).tolist() == [0, 0, 0]


def test_the_objectives_of_a_command_are_checked_together() -> None:
    assert objective_faults(["val/miou", "latency_ms", "val/iou[a b]"]) == []
    twice, unknown = objective_faults(["val/miou", "val/mio", "val/miou"])
    assert "--objective val/miou is given twice" in twice and "did you mean val/miou" in unknown
    (first,) = objective_faults(["params", "val/miou"])
    assert "cannot come first" in first and "--objective val/miou --objective params" in first


def test_the_objectives_of_a_run_are_its_manifests() -> None:
    manifest = make_manifest(objective="val/recall")
    assert recorded_objective(manifest) == objective_of("val/recall")
    assert recorded_objective(make_manifest(objective="val/recall", direction="min")) == lowest("val/recall")
    further = (ObjectiveRecord("params", "min"), ObjectiveRecord("val/iou[ground]", "max"))
    several = recorded_objectives(make_manifest(further_objectives=further))
    assert [one.key for one in several] == ["val/miou", "params", "val/iou[ground]"]
    for unknown in ("val/speed", "val/iou[water]"):
        with pytest.raises(DataError, match=re.escape(unknown)):
            recorded_objective(make_manifest(objective=unknown))
    with pytest.raises(DataError, match="not measured on images"):
        recorded_objective(make_manifest(objective="params", direction="min"))


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
