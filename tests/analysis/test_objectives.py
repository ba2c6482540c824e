"""The report knows every objective that a sweep can have, and names it as its tables do."""

from __future__ import annotations

from dataclasses import replace

import pytest

from analysis.comparison import METRICS, PER_CLASS_COLUMNS
from analysis.objectives import OBJECTIVES, objective_of
from sweep.objectives import objectives
from trainables.errors import DataError

from .synthetic_run import make_results


def test_every_objective_of_a_sweep_has_its_column_and_words():
    assert set(OBJECTIVES) == set(objectives())
    for objective in OBJECTIVES.values():
        assert objective.column in METRICS
        assert objective.class_column in PER_CLASS_COLUMNS
        assert objective.words and objective.class_words


def test_the_objective_is_the_manifests(tmp_path):
    manifest = make_results(tmp_path, images=2)[0].manifest
    assert objective_of(replace(manifest, objective="val/recall", mode="min")) == replace(
        OBJECTIVES["val/recall"], mode="min"
    )
    with pytest.raises(DataError, match=r"val/speed.*val/miou, val/f1"):
        objective_of(replace(manifest, objective="val/speed"))


@pytest.mark.parametrize(("mode", "expected"), [("max", {"a": 2, "b": 1, "d": 2}), ("min", {"a": 1, "b": 3, "d": 1})])
def test_equal_values_share_a_rank_and_nan_has_none(mode, expected):
    values = {"a": 0.5, "b": 0.7, "c": float("nan"), "d": 0.5}
    ranks = replace(OBJECTIVES["val/miou"], mode=mode).ranks(values)
    assert ranks == {**expected, "b": 1 if mode == "max" else 2}
