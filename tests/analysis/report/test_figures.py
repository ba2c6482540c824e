import os
import re
import signal
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from analysis.colours import THEME, series
from analysis.report import drawing
from analysis.report.drawing import FIGURES, save_figures
from analysis.report.parts import Parts
from analysis.report.sections.classes import draw_confusion, draw_per_class
from analysis.report.sections.curves import MOST_LINES, draw_curves, trial_curve
from analysis.report.sections.errors import draw_error_types
from analysis.report.sections.failures import cause_counts
from analysis.report.sections.run import draw_hyperparameters, numeric_hyperparameters
from analysis.report.sections.standings import draw_standings
from analysis.report.sections.thresholds import draw_thresholds
from sweep.objectives import objective_of, objectives

from ..synthetic_run import make_results, with_effects, with_standing, with_trade_off, with_verdict


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory):
    return make_results(tmp_path_factory.mktemp("run"), images=4)[0]


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory):
    folder = tmp_path_factory.mktemp("run")
    results = with_trade_off(with_verdict(make_results(folder, hostile=True)[0]))
    results = with_effects(results, size=(0.2, True))
    return save_figures(results, folder / "figures", Parts(folder))


def test_every_registered_figure_is_saved_twice(hostile) -> None:
    assert list(hostile) == list(FIGURES)
    for saved in hostile.values():
        ElementTree.parse(saved.path.with_suffix(".svg"))
        with Image.open(saved.path) as picture:
            assert picture.width >= 800


def test_inline_figures_are_well_formed_and_follow_the_pages_theme(hostile) -> None:
    for saved in hostile.values():
        ElementTree.fromstring(str(saved.svg))
        assert "var(--ink)" in saved.svg
        assert not any(color in saved.svg for color, _ in THEME.values())


def test_inline_figures_share_no_id_and_refer_to_their_own(hostile) -> None:
    ids = [found for saved in hostile.values() for found in re.findall(r'\bid="([^"]+)"', saved.svg)]
    assert len(ids) == len(set(ids))
    for saved in hostile.values():
        own = set(re.findall(r'\bid="([^"]+)"', saved.svg))
        assert set(re.findall(r'url\(#([^)]+)\)|href="#([^"]+)"', saved.svg)) <= {
            pair for one in own for pair in ((one, ""), ("", one))
        }


def test_inline_figures_fetch_nothing_and_run_nothing(hostile) -> None:
    for saved in hostile.values():
        assert "<script" not in saved.svg
        assert not re.search(r'href="(?!#|data:image/png)', saved.svg)


def test_a_finished_trial_goes_on_where_its_parent_ended(results) -> None:
    curve = trial_curve(results, results.labels["baseline"].trial_id)
    assert list(curve["epoch"]) == [1, 2, 3, 4, 5, 6, 7, 8]
    assert list(curve["trial_id"]) == ["0000"] * 4 + [results.labels["baseline"].trial_id] * 4


def test_a_repeated_epoch_counts_for_the_later_trial(results) -> None:
    finish = results.labels["baseline"].trial_id
    again = pd.DataFrame([(finish, "baseline", "finish", 4, 0.99)], columns=results.curves.columns)
    changed = replace(results, curves=pd.concat([results.curves, again], ignore_index=True))
    curve = trial_curve(changed, finish)
    assert curve.set_index("epoch").loc[4, "val/miou"] == 0.99


def test_of_many_trials_some_curves_are_drawn_and_all_are_counted(results) -> None:
    once = results.curves[results.curves["trial_id"] == results.curves["trial_id"].iloc[0]]
    many = [once.assign(trial_id=f"x{number}") for number in range(2 * MOST_LINES)]
    drawing = draw_curves(replace(results, curves=pd.concat([results.curves, *many], ignore_index=True)))
    lines = [line for line in drawing.figure.axes[0].lines if line.get_alpha() == 0.35]
    assert len(lines) == MOST_LINES
    labelled = len(set(results.prediction_keys.values()))
    every = results.curves["trial_id"].nunique() - (results.trials["parent"] != "").sum() + 2 * MOST_LINES
    assert f"for {MOST_LINES + labelled} of {every} trials" in drawing.caption
    assert f"grey lines are {MOST_LINES} of the other trials" in drawing.caption
    assert "of the other trials" not in draw_curves(results).caption


def test_curves_draw_each_trial_once_with_its_parent(results) -> None:
    axes = draw_curves(results).figure.axes[0]
    lines = [line for line in axes.lines if len(line.get_xdata()) > 2 and line.get_alpha() is None]
    assert sorted(len(line.get_xdata()) for line in lines) == [8, 8, 8]
    # 12 search trials, of which 3 are drawn as the start of a finished one; 1-epoch and stopped ones among them.
    faint = [line for line in axes.lines if line.get_alpha() == 0.35]
    assert len(faint) == 12 - 3


def rings(axes) -> list[float]:
    """Where single checkpoints are drawn."""
    lines = [line for line in axes.lines if line.get_marker() == "o" and line.get_markerfacecolor() == "white"]
    return [line.get_xdata()[0] for line in lines]


def bars(axes) -> list[tuple[float, float]]:
    """The intervals that are drawn."""
    lines = [line for line in axes.lines if len(line.get_xdata()) == 2 and line.get_linewidth() > 1.5]
    return [tuple(line.get_xdata()) for line in lines if line.get_xdata()[0] != line.get_xdata()[1]]


def test_figure_of_standings_marks_scores_differences_intervals_and_the_floor(results) -> None:
    scores, gains = draw_standings(results).figure.axes
    table = results.comparison.set_index("trial_id")
    order = [one.trial_id for one in results.standing]
    assert order[0] == results.labels["baseline"].trial_id and len(order) == 3, "geometric is the winner's own trial"
    assert rings(scores) == [
        table.loc[one, "iou"].iloc[0] if one == order[1] else table.loc[one, "iou"] for one in order
    ]
    assert bars(scores) == [(one.score - 0.031, one.score + 0.029) for one in results.standing]
    assert any(line.get_xdata()[0] == table.loc["", "iou"] for line in scores.lines)
    assert rings(gains) == [one.to_baseline.difference for one in results.standing[1:]]
    assert bars(gains) == []  # four images are too few
    assert "without intervals" in draw_standings(results).caption


def test_figure_of_standings_shows_every_fresh_seed(results) -> None:
    told = with_verdict(results)
    drawing = draw_standings(told)
    scores, gains = drawing.figure.axes
    dots = [list(line.get_xdata()) for line in scores.lines if line.get_alpha() == 0.5]
    assert dots == [[0.40, 0.41, 0.42], [0.44, 0.43, 0.45]]
    assert bars(gains) == [(0.01, 0.05)]
    assert "without intervals" not in drawing.caption and "An asterisk" in drawing.caption


@pytest.mark.parametrize("key", objectives())
def test_figures_show_the_sweeps_objective(results, key: str) -> None:
    objective = objective_of(key)
    of_class = objective.metric if key != "val/pixel_accuracy" else objective_of("val/miou").metric
    ranked = replace(results, manifest=replace(results.manifest, objective=key))
    for record in ranked.labels.values():
        record.metrics.setdefault(key, 0.25)
    drawing = draw_standings(with_standing(ranked))
    axes = drawing.figure.axes[0]
    table = results.comparison.set_index("label")
    assert set(rings(axes)) == {table.loc[label, objective.metric.name] for label in results.labels}
    assert axes.get_xlabel().startswith(f"{objective.metric.words} on test")
    assert objective.metric.words in drawing.caption
    drawing = draw_per_class(ranked)
    line = next(line for line in drawing.figure.axes[0].lines if line.get_label() == "baseline")
    values = results.per_class.set_index("label").loc["baseline", of_class.name].dropna()
    assert sorted(value for value in line.get_xdata() if value == value) == sorted(values)
    assert drawing.caption.startswith(of_class.class_words)


def test_labels_of_one_trial_are_drawn_once_under_both_names(results) -> None:
    best = results.labels["best"]
    for label, record in results.labels.items():
        assert (record.trial_id == best.trial_id) is (label in ("best", "geometric")), "as the run is made up"
    shown = {"baseline", "best = geometric", "photometric"}
    for draw in (draw_per_class, draw_thresholds):
        lines = draw(results).figure.axes[0].lines
        assert {line.get_label() for line in lines if not line.get_label().startswith("_")} == shown
    assert {text.get_text() for text in draw_error_types(results).figure.axes[0].get_yticklabels()} == shown


def test_a_figure_of_an_earlier_report_does_not_linger(results, tmp_path: Path) -> None:
    parts = Parts(tmp_path)
    save_figures(results, tmp_path, parts, ["causes"])
    assert (tmp_path / "causes.png").exists() and (tmp_path / "causes.svg").exists()
    save_figures(replace(results, failures=results.failures.iloc[:0]), tmp_path, parts, ["causes"])
    assert not (tmp_path / "causes.png").exists() and not (tmp_path / "causes.svg").exists()


@pytest.mark.parametrize("killed", [False, True])
def test_figures_of_a_copy_are_those_of_this_process(
    results, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, killed: bool
) -> None:
    here = os.getpid()

    def fails(results):
        if killed and os.getpid() != here:
            os.kill(os.getpid(), signal.SIGKILL)
        raise ValueError("no data")

    names = ["standings", "thresholds", "broken"]
    monkeypatch.setattr(drawing, "FIGURES", {**{name: FIGURES.get(name) for name in names[:2]}, "broken": fails})
    monkeypatch.setattr(drawing.save_figures, "__defaults__", (names,))
    parts, alone = Parts(tmp_path / "copy"), Parts(tmp_path / "here")
    with drawing.Figures(results, tmp_path / "copy" / "figures", tmp_path / "copy", tmp_path / "copy") as drawn:
        found = drawn.result(parts)
    expected = save_figures(results, tmp_path / "here" / "figures", alone, names)
    assert list(found) == names and [part.error for part in parts.failed] == ["ValueError: no data"]
    for name in names[:2]:
        assert found[name].svg == expected[name].svg and found[name].caption == expected[name].caption
        assert found[name].path.read_bytes() == expected[name].path.read_bytes()
    assert found["broken"] is parts.failed[0]


def test_labels_without_an_interval_have_no_bar(results) -> None:
    frame = results.comparison.assign(iou_low=np.nan, iou_high=np.nan)
    assert bars(draw_standings(replace(results, comparison=frame)).figure.axes[0]) == []


def test_a_sweep_of_one_epoch_has_one_epoch_on_its_axis(results) -> None:
    trials, curves = results.trials.assign(state="completed"), results.curves.query("epoch == 1")
    axes = draw_curves(replace(results, trials=trials, curves=curves)).figure.axes[0]
    low, high = axes.get_xlim()
    assert [tick for tick in axes.get_xticks() if low <= tick <= high] == [1]


def test_confusion_rows_are_shares_of_the_truth(results) -> None:
    mesh = draw_confusion(results).figure.axes[0].collections[0]
    evaluation = results.evaluations[results.labels["best"].trial_id]
    count = len(results.classes)
    expected = np.full((count, count), np.nan)
    for truth in range(count):
        row = sum(matrix[truth] for matrix in evaluation.confusions)
        if row.sum():
            expected[truth] = [value / row.sum() for value in row]
    np.testing.assert_allclose(np.ma.filled(mesh.get_array(), np.nan).reshape(count, count), expected)


def test_of_many_classes_the_confusion_matrix_shows_those_with_most_wrong_pixels() -> None:
    rng = np.random.default_rng(0)
    matrix = np.zeros((90, 90), np.int64)
    for class_id in range(20, 90):
        matrix[class_id, class_id] = rng.integers(1, 9_000)
        matrix[class_id, rng.integers(20, 90)] += 10 * class_id
    wrong = {one: matrix[one].sum() + matrix[:, one].sum() - 2 * matrix[one, one] for one in range(20, 90)}
    shown = sorted(sorted(wrong, key=lambda one: (-wrong[one], one))[:60])
    classes = [SimpleNamespace(name=f"c{one}") for one in range(90)]
    results = SimpleNamespace(chief="best", split="val", classes=classes, confusion=lambda label: matrix)
    drawing = draw_confusion(results)
    axes = drawing.figure.axes[0]
    assert [label.get_text() for label in axes.get_yticklabels()] == [f"c{one}" for one in shown[::2]]
    expected = matrix[np.ix_(shown, shown)] / matrix[shown].sum(axis=1, keepdims=True)
    np.testing.assert_allclose(axes.collections[0].get_array().reshape(60, 60), expected)
    assert "and 10 with fewer wrong pixels" in drawing.caption
    few = np.where(np.isin(np.arange(90), [30, 40])[:, None], matrix, 0)
    results.confusion = lambda label: few
    caption = draw_confusion(results).caption
    assert caption.endswith("Classes in neither truth nor prediction are left out.")


def test_hyperparameters_stay_silent_below_five_trials(results) -> None:
    few = results.trials[results.trials["phase"] == "search"].iloc[:4]
    assert draw_hyperparameters(replace(results, trials=few)) is None
    assert draw_hyperparameters(results) is not None


def test_only_numbers_that_vary_are_hyperparameters() -> None:
    trials = pd.DataFrame(
        {
            "config/lr": [0.1, 0.2, 0.3],
            "config/limit": [np.nan, 1.0, 2.0],
            "config/policy": ["a", "b", "c"],
            "config/same": [1, 1, 1],
            "config/seed": [1, 2, 3],
            "epochs": [1, 2, 3],
        }
    )
    assert numeric_hyperparameters(trials) == ["config/lr"]


def test_cause_counts_equal_a_loop(results) -> None:
    expected: dict[tuple[str, str], int] = {}
    for row in results.failures.to_dict("records"):
        kinds = {"confused with" if c.startswith("confused with ") else c for c in row["causes"].split("; ")}
        for kind in kinds:
            expected[kind, row["label"]] = expected.get((kind, row["label"]), 0) + 1
    counts = cause_counts(results.failures)
    assert {(c, label): n for c, row in counts.iterrows() for label, n in row.items() if n} == expected


def test_results_without_trials_failures_or_curves_draw_what_there_is(results, tmp_path: Path) -> None:
    emptied = ("failures", "curves", "trials", "error_types", "error_types_per_class", "type_changes")
    bare = replace(results, **{name: getattr(results, name).iloc[:0] for name in emptied})
    assert set(save_figures(bare, tmp_path, Parts(tmp_path))) == {"standings", "thresholds", "per_class", "confusion"}


def test_baseline_and_best_keep_their_colours_among_any_labels() -> None:
    assert series(["baseline", "best", "a", "b"]) == {
        "baseline": "series-baseline",
        "best": "series-best",
        "a": "series-1",
        "b": "series-2",
    }
    assert series(["a"]) == {"a": "series-1"}
