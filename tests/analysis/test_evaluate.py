"""Evaluations on real (small) models: kept, verified, redone; and the test split's openings."""

from __future__ import annotations

import json
import shutil

import cv2
import numpy as np
import pytest
import sklearn.metrics as sk
import torch
from PIL import Image

from analysis import evaluate as module
from analysis.evaluate import (
    MAJORITY,
    OPENINGS_FILE,
    evaluate_checkpoints,
    evaluate_majority,
    load_run_split,
    measure_latency,
)
from sweep.manifest import count_openings
from trainables import metrics
from trainables.checkpoint import load_model
from trainables.data.base import VOID
from trainables.errors import CheckpointError, DataError

from .small_run import CLASSES, COUNTS, make_data, make_run


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    """Data and a run, made once; tests work on copies of the run."""
    with pytest.MonkeyPatch.context() as patch:
        root = tmp_path_factory.mktemp("small")
        patch.setenv("SEGSWEEP_CACHE", str(root / "cache"))
        patch.setattr("analysis.evaluate.LATENCY_SECONDS", 0.0)
        data = make_data(root / "data")
        yield data, make_run(root / "runs" / "small", data)


@pytest.fixture
def run(original, tmp_path):
    data, made = original
    shutil.copytree(made, tmp_path / "runs" / "small")
    return data, tmp_path / "runs" / "small"


def folders(run_dir, *labels):
    return {label: run_dir / "best" / label for label in labels or ("baseline", "best", "flip")}


def evaluate(run_dir, data, split="test", *labels, **more):
    return evaluate_checkpoints(run_dir, folders(run_dir, *labels), data, load_run_split(run_dir, split), **more)


def openings(run_dir):
    path = run_dir.parent / OPENINGS_FILE
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def test_results_equal_scikit_learn_on_the_kept_masks(run):
    data, run_dir = run
    evaluations = evaluate(run_dir, data)
    assert list(evaluations) == ["0000", "0001-finish"]
    for evaluation in evaluations.values():
        truth, guess = [], []
        for image_id in evaluation.image_ids:
            mask, prediction = data.mask(image_id), evaluation.prediction(image_id)
            assert prediction.shape == mask.shape
            assert prediction.dtype == np.uint8
            truth.append(mask[mask != VOID])
            guess.append(prediction[mask != VOID])
        matrix = sk.confusion_matrix(np.concatenate(truth), np.concatenate(guess), labels=range(len(CLASSES)))
        np.testing.assert_array_equal(evaluation.confusions.sum(axis=0), matrix)
    assert len({evaluation.confusions.sum(axis=0).tobytes() for evaluation in evaluations.values()}) == 2


def test_scores_equal_scikit_learn_on_the_models_own_probabilities(run):
    data, run_dir = run
    evaluation = evaluate(run_dir, data, "test", "best")["0001-finish"]
    model, record = load_model(run_dir / "best" / "best")
    mean, std = (torch.tensor(record.normalisation[key]).view(1, 3, 1, 1) for key in ("mean", "std"))
    scores, truths = [], []
    for image_id in evaluation.image_ids:
        mask = torch.from_numpy(data.mask(image_id).astype(np.int64))
        small = cv2.resize(data.image(image_id), (48, 32), interpolation=cv2.INTER_AREA)
        pixels = torch.from_numpy(small).permute(2, 0, 1)[None].float() / 255
        with torch.inference_mode():
            logits = model((pixels - mean) / std, resize=False)["out"]
            full = torch.nn.functional.interpolate(logits, mask.shape, mode="bilinear", align_corners=False)[0]
        probability = full.double().softmax(dim=0)
        assert (full.argmax(dim=0).numpy() == evaluation.prediction(image_id)).mean() > 0.999
        scores.append(probability[:, mask != VOID].numpy())
        truths.append(mask[mask != VOID].numpy())
    score, truth = np.concatenate(scores, axis=1), np.concatenate(truths)
    got = metrics.average_precision(evaluation.histograms.sum(axis=0))
    for index in range(len(CLASSES)):
        assert got[index] == pytest.approx(sk.average_precision_score(truth == index, score[index]), abs=3e-3)


def test_labels_of_one_trial_are_evaluated_once(run):
    data, run_dir = run
    told = []
    evaluate(run_dir, data, progress=lambda what, done, total: told.append((what, done, total)))
    count = COUNTS["test"]
    assert told == [(one, done, count) for one in ("0000", "0001-finish") for done in range(1, count + 1)]


def test_kept_evaluations_are_read_not_computed_and_are_no_opening(run, monkeypatch):
    data, run_dir = run
    first = evaluate(run_dir, data)
    monkeypatch.setattr(module, "evaluate", None)
    second = evaluate(run_dir, data)
    for trial_id, evaluation in first.items():
        np.testing.assert_array_equal(evaluation.confusions, second[trial_id].confusions)
        np.testing.assert_array_equal(evaluation.confidence, second[trial_id].confidence)
        assert evaluation.latency_ms == second[trial_id].latency_ms > 0
    assert len(openings(run_dir)) == 1


def damage_results(folder):
    content = bytearray((folder / "results.npz").read_bytes())
    content[len(content) // 2] ^= 1
    (folder / "results.npz").write_bytes(content)


def damage_mask(folder):
    Image.fromarray(np.zeros((40, 56), np.uint8)).save(folder / "000000.png")


def damage_description(folder):
    text = (folder / "evaluation.json").read_text()
    (folder / "evaluation.json").write_text(text[: len(text) // 2])


def lose_mask(folder):
    (folder / "000003.png").unlink()


def other_weights(folder):
    description = json.loads((folder / "evaluation.json").read_text())
    description["key"]["sha256"] = "0" * 64
    (folder / "evaluation.json").write_text(json.dumps(description))


def other_split(folder):
    description = json.loads((folder / "evaluation.json").read_text())
    description["key"]["split_hash"] = "0" * 64
    (folder / "evaluation.json").write_text(json.dumps(description))


@pytest.mark.parametrize(
    "harm", [damage_results, damage_mask, damage_description, lose_mask, other_weights, other_split]
)
def test_a_torn_or_foreign_evaluation_is_done_again(run, harm):
    data, run_dir = run
    before = evaluate(run_dir, data, "val", "baseline")["0000"]
    folder = run_dir / "report" / "evaluations" / "val" / "0000"
    harm(folder)
    done = []
    after = evaluate(run_dir, data, "val", "baseline", progress=lambda *at: done.append(at))["0000"]
    assert len(done) == COUNTS["val"]
    np.testing.assert_array_equal(before.confusions, after.confusions)
    np.testing.assert_array_equal(before.histograms, after.histograms)
    for image_id in before.image_ids:
        assert after.prediction(image_id).shape == data.mask(image_id).shape


def test_an_evaluation_that_breaks_off_leaves_nothing(run, monkeypatch):
    data, run_dir = run

    def break_off(what, done, total):
        if done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        evaluate(run_dir, data, "val", progress=break_off)
    assert list((run_dir / "report" / "evaluations" / "val").iterdir()) == []


def test_an_opening_is_written_down_before_the_first_image(run, monkeypatch):
    data, run_dir = run
    seen = []
    monkeypatch.setattr(module, "_evaluate_model", lambda *_: seen.append(openings(run_dir)) or 1 / 0)
    with pytest.raises(ZeroDivisionError):
        evaluate(run_dir, data)
    assert len(seen[0]) == 1
    line = seen[0][0]
    assert line["run"] == "small"
    assert line["split_hash"] == load_run_split(run_dir, "test").hash
    assert [entry["trial_id"] for entry in line["checkpoints"]] == ["0000", "0001-finish", "0001-finish"]
    assert [entry["label"] for entry in line["checkpoints"]] == ["baseline", "best", "flip"]
    assert all(len(entry["sha256"]) == 64 for entry in line["checkpoints"])
    assert line["time"]
    assert line["command"]


def test_openings_count_new_weights_on_test_only(run):
    data, run_dir = run
    test_hash = load_run_split(run_dir, "test").hash
    assert count_openings(run_dir.parent, test_hash) == 0
    evaluate(run_dir, data, "val")
    assert count_openings(run_dir.parent, test_hash) == 0
    evaluate(run_dir, data, "test", "baseline")
    assert count_openings(run_dir.parent, test_hash) == 1
    evaluate(run_dir, data, "test", "baseline", "best")
    assert count_openings(run_dir.parent, test_hash) == 2
    assert [entry["label"] for entry in openings(run_dir)[1]["checkpoints"]] == ["best"]
    # The same weights on the same images once more show nothing new.
    shutil.rmtree(run_dir / "report")
    evaluate(run_dir, data, "test", "baseline", "best")
    assert count_openings(run_dir.parent, test_hash) == 2
    assert count_openings(run_dir.parent, "another split") == 0


def test_a_torn_line_neither_counts_nor_swallows_the_next(run):
    data, run_dir = run
    (run_dir.parent / OPENINGS_FILE).write_text('{"split_hash": "abc", "checkp')
    evaluate(run_dir, data, "test", "baseline")
    assert count_openings(run_dir.parent, load_run_split(run_dir, "test").hash) == 1


def test_two_runs_on_the_same_split_share_the_count(run):
    data, run_dir = run
    other = run_dir.with_name("other")
    shutil.copytree(run_dir, other)
    evaluate(run_dir, data, "test", "baseline")
    evaluate(other, data, "test", "best")
    assert count_openings(run_dir.parent, load_run_split(run_dir, "test").hash) == 2


def test_majority_predicts_the_commonest_class_of_train_and_opens_nothing(run):
    data, run_dir = run
    train, test = load_run_split(run_dir, "train"), load_run_split(run_dir, "test")
    counts = sum(np.bincount(data.mask(i)[data.mask(i) != VOID], minlength=len(CLASSES)) for i in train.ids)
    floor = evaluate_majority(run_dir, data, test, train.ids)
    assert openings(run_dir) == []
    assert floor.trial_id == MAJORITY
    assert all((floor.prediction(i) == counts.argmax()).all() for i in test.ids)
    truth = floor.confusions.sum(axis=(0, 2))
    np.testing.assert_array_equal(floor.confusions.sum(axis=(0, 1))[counts.argmax()], truth.sum())
    # A score that never changes has the share of the class as its average precision.
    np.testing.assert_allclose(metrics.average_precision(floor.histograms.sum(axis=0)), truth / truth.sum())
    assert np.nanmax(floor.confidence) == pytest.approx(counts.max() / counts.sum(), rel=1e-5)
    assert np.isnan(floor.latency_ms)
    np.testing.assert_array_equal(evaluate_majority(run_dir, data, test, train.ids).confusions, floor.confusions)


def test_weights_that_are_not_the_trials_are_refused_before_anything_is_opened(run):
    data, run_dir = run
    shutil.copy(run_dir / "best" / "best" / "model.safetensors", run_dir / "best" / "baseline" / "model.safetensors")
    with pytest.raises(CheckpointError):
        evaluate(run_dir, data)
    assert openings(run_dir) == []


def test_changed_data_are_refused_before_anything_is_opened(run, tmp_path, monkeypatch):
    data, run_dir = run
    monkeypatch.setenv("SEGSWEEP_CACHE", str(tmp_path / "cache"))
    shutil.copytree(data.root, tmp_path / "data")
    changed = type(data)(tmp_path / "data")
    Image.fromarray(np.zeros(data.mask("test05").shape, np.uint8)).save(changed.paths("test05")[1])
    with pytest.raises(DataError, match="not those of the run's test split any more"):
        evaluate(run_dir, changed)
    changed.paths("test05")[1].unlink()
    with pytest.raises(DataError, match="test05"):
        evaluate(run_dir, changed)
    assert openings(run_dir) == []


def test_models_of_other_classes_are_refused(run, tmp_path, monkeypatch):
    data, run_dir = run
    monkeypatch.setattr(data, "classes", tuple(reversed(data.classes)))
    with pytest.raises(DataError, match=r"left, right, dot.*dot, right, left"):
        evaluate(run_dir, data)
    assert openings(run_dir) == []


def test_masks_are_asked_for_by_image_id(run):
    data, run_dir = run
    evaluation = evaluate(run_dir, data, "val", "baseline")["0000"]
    with pytest.raises(KeyError):
        evaluation.prediction("test00")


def test_latency_leaves_the_thread_count_as_it_was(monkeypatch):
    monkeypatch.setattr(module, "LATENCY_SECONDS", 1.0)
    before = torch.get_num_threads()
    threads = []

    class Spy(torch.nn.Module):
        def forward(self, image):
            threads.append(torch.get_num_threads())
            assert image.shape == (1, 3, 24, 32)
            return {"out": image}

    assert 0 < measure_latency(Spy(), (24, 32)) < 1000
    assert set(threads) == {1}
    assert len(threads) == 2 + 30
    assert torch.get_num_threads() == before
