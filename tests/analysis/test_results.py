"""A run folder becomes one consistent set of tables."""

from __future__ import annotations

import json
import re
import shutil

import numpy as np
import pytest

from analysis.answer import Verdict
from analysis.candidates import SEED_COLUMNS
from analysis.comparison import COST_COLUMNS, THRESHOLD_COLUMNS, comparison_columns, per_class_columns
from analysis.failures.measure import COLUMNS, failing_regions
from analysis.report.tables import show_number
from analysis.results import build_results, chosen_here
from analysis.scores import score_labels
from sweep.verify import open_data, open_run
from trainables import commands
from trainables.errors import CheckpointError, DataError, UsageError
from trainables.labels import MAJORITY
from trainables.metrics import METRICS

from ..copies import copy_run
from .small_run import CLASSES, COUNTS, made_once, make_data, make_run


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    with made_once(tmp_path_factory) as (data, run_dir):
        yield data, run_dir, build_results(run_dir)


def test_results_hold_every_table_with_the_contracts_columns(original):
    _, run_dir, results = original
    assert list(results.labels) == ["baseline", "best", "flip"]
    assert tuple(results.comparison.columns) == comparison_columns()
    assert tuple(results.per_class.columns) == per_class_columns()
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
    assert results.answer.verdict in (Verdict.HIGHER, Verdict.LOWER, Verdict.UNDECIDED)
    assert tuple(results.seeds.columns) == SEED_COLUMNS
    assert results.seeds.empty


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


def test_notes_tell_which_metrics_have_no_interval_and_why(original):
    assert "no interval of mean precision: 42 images are too few for it: 150 are needed" in original[2].notes


def rewrite(path, changes):
    text = path.read_text()
    for old, new in changes.items():
        assert old in text
        text = text.replace(old, new)
    path.write_text(text)


@pytest.fixture
def run(original, tmp_path):
    data, made, _ = original
    copy_run(made, tmp_path / "runs" / "small")
    shutil.copy(made.parent / "test_openings.jsonl", tmp_path / "runs")
    return data, tmp_path / "runs" / "small"


def test_a_report_on_kept_evaluations_opens_nothing_and_says_the_same(original, run):
    _, run_dir = run
    again = build_results(run_dir)
    assert again.openings == 1
    assert again.comparison.equals(original[2].comparison)
    assert again.failures.equals(original[2].failures)


def test_val_is_small_has_no_intervals_and_opens_nothing(run):
    _, run_dir = run
    (run_dir.parent / "test_openings.jsonl").unlink()
    (run_dir / "splits.test.json").unlink()
    results = build_results(run_dir, split="val")
    assert results.openings == 1, "evaluations on test are kept here, though the list of openings is gone"
    assert results.comparison["images"].tolist() == [COUNTS["val"]] * 4
    assert results.comparison["iou_low"].isna().all()
    assert results.answer.verdict is Verdict.CHOSEN_HERE
    assert np.isnan(results.answer.low)
    assert any("too few for intervals" in note for note in results.notes)
    assert any(note.startswith("val chose every label but the baseline") for note in results.notes)


def test_what_a_split_chose_has_no_interval_there(original):
    labels = original[2].labels
    assert chosen_here("val", labels) == {"0001-finish"}
    assert chosen_here("test", labels) == set()
    assert chosen_here("val", {label: record for label, record in labels.items() if label != "baseline"}) == {
        "0001-finish"
    }
    evaluations = {one: original[2].evaluations[one] for one in ("0000", "0001-finish")}
    scores = score_labels(evaluations, picked={"0001-finish"})
    assert [name for name, score in scores["0000"].items() if np.isnan(score.low)] == ["precision"]
    assert all(np.isnan([score.low, score.high]).all() for score in scores["0001-finish"].values())
    assert not any(np.isnan(score.value) for score in scores["0001-finish"].values())


def test_top_adds_the_best_completed_trials_that_no_label_holds(run):
    _, run_dir = run
    results = build_results(run_dir, top=2)
    assert list(results.labels) == ["baseline", "best", "flip", "trial-0002"]
    assert results.comparison["label"].tolist()[3] == "trial-0002"
    assert results.openings == 2
    assert any("1 of the 2 best configurations asked for could not be added" in note for note in results.notes)


def test_top_adds_no_second_seed_of_what_is_shown(run):
    _, run_dir = run
    rewrite(
        run_dir / "trials.csv",
        {"0002,flip,search,2,completed,,2,10.0,1.0,0.2,0.02,": "0002,flip,search,2,completed,,2,10.0,1.0,0.2,0.003,"},
    )
    results = build_results(run_dir, top=1)
    assert list(results.labels) == ["baseline", "best", "flip"]
    assert results.seeds[["label", "seeds", "lowest", "highest"]].to_numpy().tolist() == [
        ["baseline = flip", 2, 0.2, 0.3]
    ]


@pytest.mark.parametrize(
    ("another_seed", "expected"),
    [("", "trial-0001-finish"), ("0004,flip,search,4,completed,,2,10.0,1.0,0.9,0.02,\n", "trial-0002")],
)
def test_top_ranks_configurations_by_their_mean_over_seeds(run, another_seed, expected):
    _, run_dir = run
    for label in ("best", "flip"):
        shutil.rmtree(run_dir / "best" / label)
    with (run_dir / "trials.csv").open("a") as stream:
        stream.write(another_seed)
    assert list(build_results(run_dir, top=1).labels) == ["baseline", expected]


def test_best_of_the_baselines_own_configuration_is_not_compared(run):
    _, run_dir = run
    config = json.loads((run_dir / "best/baseline/trial.json").read_text())["config"]
    for label in ("best", "flip"):
        path = run_dir / "best" / label / "trial.json"
        content = json.loads(path.read_text())
        path.write_text(json.dumps({**content, "config": {**config, "seed": 8}}))
    results = build_results(run_dir)
    assert results.answer.verdict is Verdict.SAME
    assert np.isnan(results.answer.low)


def test_the_objective_of_the_manifest_is_compared_and_ranks(run):
    _, run_dir = run
    rewrite(run_dir / "manifest.json", {'"objective": "val/miou"': '"objective": "val/recall"'})
    rewrite(run_dir / "trials.csv", {"val/miou": "val/recall"})
    results = build_results(run_dir, top=1)
    assert list(results.labels)[-1] == "trial-0002"
    scores = results.comparison.set_index("label")["recall"]
    told = results.answer
    assert (told.objective.metric.words, told.winner_score) == ("mean recall", scores["best"])
    assert told.split_ranks == {
        label: 1 + sum(scores[other] > scores[label] for other in {"baseline", "best", "trial-0002"})
        for label in results.labels
    }


def test_the_objective_of_one_class_has_columns_of_its_own_and_is_compared(run):
    _, run_dir = run
    rewrite(run_dir / "manifest.json", {'"objective": "val/miou"': '"objective": "val/iou[dot]"'})
    rewrite(run_dir / "trials.csv", {"val/miou": "val/iou[dot]"})
    results = build_results(run_dir)
    columns = list(results.comparison)
    assert columns[columns.index("map_high") + 1 :][:3] == ["iou[dot]", "iou[dot]_low", "iou[dot]_high"]
    row = results.comparison.set_index("label").loc["best"]
    of_class = results.per_class.set_index(["label", "class"]).loc[("best", "dot"), "iou"]
    assert row["iou[dot]"] == of_class == results.answer.winner_score
    assert results.answer.objective.metric.words == "dot IoU"
    assert results.class_metric is METRICS.get("iou")
    assert show_number(0.25, name="iou[dot]_low") == show_number(0.25, name="val/iou[dot]") == "0.2500"


def test_an_objective_that_the_report_does_not_know_opens_nothing(run):
    _, run_dir = run
    (run_dir.parent / "test_openings.jsonl").unlink()
    rewrite(run_dir / "manifest.json", {'"objective": "val/miou"': '"objective": "val/speed"'})
    with pytest.raises(DataError, match="val/speed"):
        build_results(run_dir)
    assert not (run_dir.parent / "test_openings.jsonl").exists()


def test_labels_that_learnt_nothing_are_found(run):
    _, run_dir = run
    results = build_results(run_dir)
    floor = results.comparison.set_index("label").loc[MAJORITY, "iou"]
    for label, record in results.labels.items():
        predicted = results.evaluations[record.trial_id].confusions.sum(axis=(0, 1))
        iou = results.comparison.set_index("label").loc[label, "iou"]
        assert (label in results.dead) == (np.count_nonzero(predicted) == 1 or iou <= floor + 0.001)


def test_a_run_without_baseline_gives_tables_but_no_answer(run):
    _, run_dir = run
    shutil.rmtree(run_dir / "best" / "baseline")
    results = build_results(run_dir)
    assert results.answer is None
    assert results.comparison["label"].tolist() == ["best", "flip", MAJORITY]
    assert any(note.startswith("no checkpoint for baseline") for note in results.notes)


def test_a_run_without_checkpoints_and_a_folder_that_is_no_run_say_the_cure(run, tmp_path):
    _, run_dir = run
    shutil.rmtree(run_dir / "best")
    with pytest.raises(CheckpointError, match=re.escape(commands.resume(run_dir))):
        build_results(run_dir)
    with pytest.raises(DataError, match="is not a run folder"):
        build_results(tmp_path)


@pytest.mark.parametrize("options", [{"split": "train"}, {"top": -1}, {"iou": 1.5}])
def test_options_out_of_range_are_refused(run, options):
    with pytest.raises(UsageError):
        build_results(run[1], **options)


def test_groups_are_told_and_used(tmp_path, monkeypatch):
    monkeypatch.setenv("SEGSWEEP_CACHE", str(tmp_path / "cache"))
    data = make_data(tmp_path / "data", groups=True)
    results = build_results(make_run(tmp_path / "runs" / "grouped", data, labels={"baseline": "0000"}))
    assert any("14 groups" in note for note in results.notes)
    assert results.comparison["iou_low"].notna().all()


def test_the_data_set_is_the_manifests(run):
    data, run_dir = run
    opened = open_data(run_dir, open_run(run_dir))
    assert (opened.name, opened.root) == (data.name, data.root)
