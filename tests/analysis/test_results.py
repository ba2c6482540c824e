"""A run folder becomes one consistent set of tables."""

from __future__ import annotations

import shutil

import numpy as np
import pytest

from analysis.comparison import COMPARISON_COLUMNS, COST_COLUMNS, PER_CLASS_COLUMNS, THRESHOLD_COLUMNS
from analysis.evaluate import MAJORITY
from analysis.failures import COLUMNS, failing_regions
from analysis.results import build_results, open_data
from sweep.manifest import SweepManifest
from trainables.errors import CheckpointError, DataError, UsageError

from .small_run import CLASSES, COUNTS, make_data, make_run


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        root = tmp_path_factory.mktemp("results")
        patch.setenv("SEGSWEEP_CACHE", str(root / "cache"))
        patch.setattr("analysis.evaluate.LATENCY_SECONDS", 0.0)
        data = make_data(root / "data")
        run_dir = make_run(root / "runs" / "small", data)
        yield data, run_dir, build_results(run_dir, resamples=100)


def test_results_hold_every_table_with_the_contracts_columns(original):
    _, run_dir, results = original
    assert list(results.labels) == ["baseline", "best", "flip"]
    assert tuple(results.comparison.columns) == COMPARISON_COLUMNS
    assert tuple(results.per_class.columns) == PER_CLASS_COLUMNS
    assert tuple(results.iou_thresholds.columns) == THRESHOLD_COLUMNS
    assert tuple(results.failures.columns) == COLUMNS
    assert tuple(results.cost.columns) == COST_COLUMNS
    assert results.trials["trial_id"].tolist() == ["0000", "0001", "0002", "0003", "0001-finish"]
    assert results.curves["epoch"].tolist() == [1, 2]
    assert set(results.evaluations) == {"0000", "0001-finish", MAJORITY}
    assert results.classes == CLASSES
    assert (results.run_dir, results.split, results.openings) == (run_dir, "test", 1)
    assert results.cost["gpu_seconds"].tolist() == pytest.approx([1.0, 1.1, 1.1])
    assert results.answer is not None
    assert results.answer.unit_count == COUNTS["test"]


def test_models_beat_nothing_by_accident_and_tables_agree(original):
    _, _, results = original
    comparison = results.comparison.set_index("label")
    assert comparison.loc["best", "iou"] > comparison.loc[MAJORITY, "iou"]
    for label in results.labels:
        of_label = results.per_class[results.per_class["label"] == label]
        assert comparison.loc[label, "iou"] == pytest.approx(np.nanmean(of_label["iou"]))
        assert comparison.loc[label, "ap"] == pytest.approx(np.nanmean(of_label["ap"]))
        thresholds = results.iou_thresholds[results.iou_thresholds["label"] == label]
        assert comparison.loc[label, "map"] == pytest.approx(thresholds["ap"].mean())
    assert results.answer.difference == pytest.approx(comparison.loc["best", "iou"] - comparison.loc["baseline", "iou"])


def test_failures_are_those_of_every_label_image_and_class(original):
    data, _, results = original
    names = [info.name for info in CLASSES]
    expected = []
    for label, record in results.labels.items():
        evaluation = results.evaluations[record.trial_id]
        for image_id in evaluation.image_ids:
            for region in failing_regions(data.mask(image_id), evaluation.prediction(image_id), names):
                expected.append((label, image_id, names[region.class_id], region.iou))
    got = results.failures[["label", "image_id", "class", "iou"]]
    assert list(got.itertuples(index=False, name=None)) == expected
    assert (results.failures["iou"] <= 0.5).all()


def test_notes_tell_what_a_reader_must_know(original):
    _, _, results = original
    assert "a warning about the split" in results.notes
    assert any("best and flip are one trial (0001-finish)" in note for note in results.notes)


@pytest.fixture
def run(original, tmp_path):
    data, made, _ = original
    shutil.copytree(made, tmp_path / "runs" / "small")
    shutil.copy(made.parent / "test_openings.jsonl", tmp_path / "runs")
    return data, tmp_path / "runs" / "small"


def test_a_report_on_kept_evaluations_opens_nothing_and_says_the_same(original, run):
    _, run_dir = run
    again = build_results(run_dir, resamples=100)
    assert again.openings == 1
    assert again.comparison.equals(original[2].comparison)
    assert again.failures.equals(original[2].failures)


def test_val_is_small_has_no_intervals_and_opens_nothing(run):
    _, run_dir = run
    (run_dir.parent / "test_openings.jsonl").unlink()
    (run_dir / "splits.test.json").unlink()
    results = build_results(run_dir, split="val", resamples=50)
    assert results.openings == 0
    assert results.comparison["images"].tolist() == [COUNTS["val"]] * 4
    assert results.comparison["iou_low"].isna().all()
    assert results.answer.distinguishable is None
    assert any("too few for intervals" in note for note in results.notes)


def test_top_adds_the_best_completed_trials_that_no_label_holds(run):
    _, run_dir = run
    results = build_results(run_dir, top=2, resamples=50)
    assert list(results.labels) == ["baseline", "best", "flip", "trial-0002"]
    assert results.comparison["label"].tolist()[3] == "trial-0002"
    assert results.openings == 2
    assert any("1 of the 2 best trials asked for could not be added" in note for note in results.notes)


def test_a_run_without_baseline_gives_tables_but_no_answer(run):
    _, run_dir = run
    shutil.rmtree(run_dir / "best" / "baseline")
    results = build_results(run_dir, resamples=50)
    assert results.answer is None
    assert results.comparison["label"].tolist() == ["best", "flip", MAJORITY]
    assert any(note.startswith("no checkpoint for baseline") for note in results.notes)


def test_a_run_without_checkpoints_and_a_folder_that_is_no_run_say_the_cure(run, tmp_path):
    _, run_dir = run
    shutil.rmtree(run_dir / "best")
    with pytest.raises(CheckpointError, match=r"sweep.run --resume"):
        build_results(run_dir)
    with pytest.raises(DataError, match="is no run"):
        build_results(tmp_path)


@pytest.mark.parametrize("options", [{"split": "train"}, {"top": -1}, {"iou": 1.5}])
def test_options_out_of_range_are_refused(run, options):
    with pytest.raises(UsageError):
        build_results(run[1], **options)


def test_groups_are_told_and_used(tmp_path, monkeypatch):
    monkeypatch.setenv("SEGSWEEP_CACHE", str(tmp_path / "cache"))
    data = make_data(tmp_path / "data", groups=True)
    results = build_results(make_run(tmp_path / "runs" / "grouped", data, labels={"baseline": "0000"}), resamples=50)
    assert any("8 groups" in note for note in results.notes)
    assert results.comparison["iou_low"].notna().all()


def test_the_data_set_is_the_manifests(run):
    data, run_dir = run
    opened = open_data(SweepManifest.load(run_dir))
    assert (opened.name, opened.root) == (data.name, data.root)
