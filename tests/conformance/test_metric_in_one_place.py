"""A metric that is registered in this file alone is found everywhere that metrics are."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import sklearn.metrics as sk

from analysis.report.tables import to_markdown
from analysis.results import build_results
from sweep import run
from sweep.journal import Journal
from sweep.objectives import objective_of
from trainables.metrics import METRICS, Counts, Floats, confusion_metric, summary

from ..analysis.small_run import CLASSES, make_data, make_run
from ..sweep import simulated
from . import test_metrics

KEY = "val/specificity"


def specificity(matrix: Counts) -> Floats:
    """Share of the pixels of other classes that are not predicted as the class: TN / (TN + FP), shape (..., C)."""
    right = np.diagonal(matrix, axis1=-2, axis2=-1)
    truth, predicted = matrix.sum(axis=-1), matrix.sum(axis=-2)
    others = matrix.sum(axis=(-2, -1))[..., None] - truth
    with np.errstate(invalid="ignore"):
        values = (others - (predicted - right)) / others
    return np.where((truth == 0) & (predicted == 0), np.nan, values)


@pytest.fixture(autouse=True)
def registered(monkeypatch):
    """The metric, in a registry that is as it was afterwards."""
    monkeypatch.setattr(METRICS, "_entries", dict(METRICS._entries))
    monkeypatch.setattr(METRICS, "_names", dict(METRICS._names))
    confusion_metric(
        "specificity",
        words="mean specificity",
        class_words="Specificity",
        definition="https://en.wikipedia.org/wiki/Sensitivity_and_specificity",
        reported_as="specificity",
        show=lambda value: f"{100 * value:.1f}%",
    )(specificity)


def scikit_learn_specificity(matrix) -> list[float]:
    """Recall of "not the class", from labels."""
    cells = np.argwhere(np.ones_like(matrix))
    truth, guess = (np.repeat(cells[:, side], matrix.ravel()) for side in (0, 1))
    return [sk.recall_score(truth != index, guess != index, zero_division=0) for index in range(len(matrix))]


def test_the_report_has_its_columns_intervals_and_classes_and_speaks_of_it(tmp_path, monkeypatch):
    monkeypatch.setenv("SEGSWEEP_CACHE", str(tmp_path / "cache"))
    data = make_data(tmp_path / "data")
    run_dir = make_run(tmp_path / "runs" / "small", data)
    for name in ("manifest.json", "trials.csv"):
        text = (run_dir / name).read_text()
        assert "val/miou" in text
        (run_dir / name).write_text(text.replace("val/miou", KEY))
    results = build_results(run_dir)

    matrix = results.evaluations["0001-finish"].confusions.sum(axis=0)
    expected = scikit_learn_specificity(matrix)
    row = results.comparison.set_index("label").loc["best"]
    assert row["specificity"] == pytest.approx(np.mean(expected))
    assert row["specificity_low"] < row["specificity"] < row["specificity_high"]
    of_classes = results.per_class.set_index("label").loc["best"]
    assert of_classes["specificity"].tolist() == pytest.approx(expected)
    assert len(of_classes) == len(CLASSES)

    assert results.objective.metric.words == results.answer.objective.metric.words == "mean specificity"
    assert results.answer.winner_score == row["specificity"]
    assert results.answer.low < results.answer.difference < results.answer.high
    assert f"| {100 * row['specificity']:.1f}% [{100 * row['specificity_low']:.1f}%, " in to_markdown(
        results.comparison
    )


def test_help_lists_it(capsys):
    with pytest.raises(SystemExit):
        run.main(["--help"])
    assert KEY in "".join(capsys.readouterr().out.split())


def test_a_trial_reports_it_and_a_sweep_ranks_by_it(tmp_path: Path):
    matrix = np.array([[8, 1], [3, 4]])
    assert summary(matrix)[KEY] == pytest.approx((4 / 7 + 8 / 9) / 2)

    def outcome(config, epoch):
        return {"metrics": {"val/miou": 1 - simulated.fraction(config), KEY: simulated.fraction(config)}}

    with Journal(tmp_path / "journal.jsonl") as journal:
        conductor = simulated.make(journal, objective=objective_of(KEY))
        simulated.drive(conductor, outcome=outcome)
        completed = [trial for trial in conductor.table.trials.values() if trial.state == "completed"]
        best = conductor.labels()["best"]
        assert len(completed) > 1
        assert best.metrics[KEY] == max(trial.metrics[KEY] for trial in completed)


def test_its_terminal_format_is_its_own():
    assert objective_of(KEY).show(0.25) == "25.0%"


@pytest.mark.parametrize("rule", test_metrics.RULES)
def test_the_conformance_tests_take_it_in_and_it_passes(rule):
    assert "specificity" in METRICS.names()  # what they are parametrised by
    rule("specificity")
