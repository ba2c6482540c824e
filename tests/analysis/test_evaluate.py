"""Evaluations on real (small) models: kept, verified, redone; and the test split's openings."""

from __future__ import annotations

import gc
import hashlib
import json
import shutil
import stat
import weakref
from pathlib import Path

import cv2
import numpy as np
import pytest
import sklearn.metrics as sk
import torch
from PIL import Image

from analysis import evaluate as module
from analysis import kept
from analysis.evaluate import evaluate_checkpoints, evaluate_majority
from analysis.kept import sealing_key
from sweep.verify import load_run_split
from trainables import latency, metrics
from trainables.checkpoint import rebuild_model
from trainables.data.base import VOID
from trainables.data.splits.openings import OPENINGS_FILE, count_openings
from trainables.errors import CheckpointError, DataError, SegsweepError
from trainables.labels import MAJORITY
from trainables.latency import measure_latency
from trainables.paths import UnsafePathError
from trainables.places import cache_root

from ..copies import copy_run
from .small_run import CLASSES, COUNTS, made_once


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    with made_once(tmp_path_factory) as made:
        yield made


@pytest.fixture
def run(original, tmp_path):
    data, made = original
    return data, copy_run(made, tmp_path / "runs" / "small")


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
    model, record = rebuild_model(run_dir / "best" / "best")
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
    got = [metrics.average_precision(evaluation.score_totals(index)) for index in range(len(CLASSES))]
    for index in range(len(CLASSES)):
        assert got[index] == pytest.approx(sk.average_precision_score(truth == index, score[index]), abs=1e-3)


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
    for index in range(len(CLASSES)):
        np.testing.assert_array_equal(before.histograms(index), after.histograms(index))
    for image_id in before.image_ids:
        assert after.prediction(image_id).shape == data.mask(image_id).shape


def forge(folder, *, seal=None, change=lambda whole: whole.sum(axis=2)[:, :, None] * np.eye(len(CLASSES), dtype=int)):
    """Replaces the results, by perfect ones if not told otherwise, and makes every hash right, as a stranger can.

    Confusion matrices are written whole, as earlier versions did.
    """
    with np.load(folder / "results.npz") as arrays:
        content = {name: arrays[name] for name in arrays.files if not name.startswith("confusions/")}
        content["confusions"] = change(np.asarray(kept.kept_confusions(arrays)))
    np.savez_compressed(folder / "results.npz", **content)
    description = json.loads((folder / "evaluation.json").read_text())
    description["files"] = {
        name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in description["files"]
    }
    if seal:
        del description["seal"]
        description |= seal(description)
    (folder / "evaluation.json").write_text(json.dumps(description))


def evaluated_anew(run_dir, data, split="val"):
    """An evaluation of the baseline, and on how many images it was computed now."""
    done = []
    evaluation = evaluate(run_dir, data, split, "baseline", progress=lambda *at: done.append(at))["0000"]
    return evaluation, len(done)


@pytest.mark.parametrize(
    "seal",
    [
        None,
        lambda description: {},
        lambda description: {"seal": None},
        lambda description: {"seal": "é"},
        lambda description: {"seal": kept._seal(description, bytes(32))},
    ],
    ids=["the old seal", "no seal", "null", "no hexadecimal", "the seal of another key"],
)
def test_results_that_this_user_did_not_compute_are_never_trusted(run, seal):
    data, run_dir = run
    honest, _ = evaluated_anew(run_dir, data, "test")
    forge(run_dir / "report" / "evaluations" / "test" / "0000", seal=seal)
    again, done = evaluated_anew(run_dir, data, "test")
    assert done == COUNTS["test"]
    np.testing.assert_array_equal(again.confusions, honest.confusions)
    assert len(openings(run_dir)) == 1


def test_forged_results_would_be_taken_without_the_seal(run, monkeypatch):
    data, run_dir = run
    evaluated_anew(run_dir, data)
    forge(run_dir / "report" / "evaluations" / "val" / "0000")
    monkeypatch.setattr(kept.hmac, "compare_digest", lambda *_: True)
    forged, done = evaluated_anew(run_dir, data)
    assert done == 0
    assert metrics.pixel_accuracy(forged.confusions.sum(axis=0)) == 1


def test_evaluations_of_earlier_versions_are_read(run):
    data, run_dir = run
    before, _ = evaluated_anew(run_dir, data)
    folder = run_dir / "report" / "evaluations" / "val" / "0000"

    def sealed(description):
        return {"seal": kept._seal(description, kept.sealing_key())}

    forge(folder, seal=sealed, change=lambda whole: whole)
    with np.load(folder / "results.npz") as arrays:
        assert arrays["confusions"].shape == (COUNTS["val"], len(CLASSES), len(CLASSES))
    after, done = evaluated_anew(run_dir, data)
    assert done == 0
    np.testing.assert_array_equal(after.confusions, before.confusions)


def test_evaluations_of_another_machine_are_computed_again(run, tmp_path, monkeypatch):
    data, run_dir = run
    evaluated_anew(run_dir, data, "test")
    assert evaluated_anew(run_dir, data, "test")[1] == 0
    monkeypatch.setenv("SEGSWEEP_CACHE", str(tmp_path / "elsewhere"))
    assert evaluated_anew(run_dir, data, "test")[1] == COUNTS["test"]
    assert evaluated_anew(run_dir, data, "test")[1] == 0
    assert len(openings(run_dir)) == 1


def test_the_key_is_made_once_for_this_user_alone_and_written_nowhere_else(run, tmp_path, monkeypatch):
    data, run_dir = run
    monkeypatch.setenv("SEGSWEEP_CACHE", str(tmp_path / "cache"))
    evaluated_anew(run_dir, data)
    path = cache_root() / kept.KEY_FILE
    key = path.read_bytes()
    assert len(key) == 32
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    evaluated_anew(run_dir, data)
    assert path.read_bytes() == key == sealing_key()
    for file in tmp_path.rglob("*"):
        if file.is_file() and file != path:
            content = file.read_bytes()
            assert key not in content and key.hex().encode() not in content


def readable_by_all(path: Path) -> None:
    path.chmod(0o644)


def too_short(path: Path) -> None:
    path.write_bytes(b"short")


def a_link(path: Path) -> None:
    path.rename(path.with_name("moved"))
    path.symlink_to(path.with_name("moved"))


def a_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


@pytest.mark.parametrize("spoil", [readable_by_all, too_short, a_link, a_folder])
def test_without_a_key_that_is_safe_nothing_kept_is_trusted(run, tmp_path, monkeypatch, spoil):
    data, run_dir = run
    monkeypatch.setenv("SEGSWEEP_CACHE", str(tmp_path / "cache"))
    honest, _ = evaluated_anew(run_dir, data)
    spoil(cache_root() / kept.KEY_FILE)
    for _ in range(2):
        again, done = evaluated_anew(run_dir, data)
        assert done == COUNTS["val"]
        np.testing.assert_array_equal(again.confusions, honest.confusions)


def test_a_cache_that_cannot_be_written_only_costs_time(run, tmp_path, monkeypatch):
    data, run_dir = run
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("SEGSWEEP_CACHE", str(tmp_path / "file" / "cache"))
    assert [evaluated_anew(run_dir, data)[1] for _ in range(2)] == [COUNTS["val"]] * 2


def test_an_evaluation_under_another_trials_name_is_not_that_trials(run):
    data, run_dir = run
    evaluated_anew(run_dir, data)
    kept = run_dir / "report" / "evaluations" / "val"
    shutil.move(kept / "0000", kept / "0009")
    path = run_dir / "best" / "baseline" / "trial.json"
    path.write_text(path.read_text().replace('"trial_id": "0000"', '"trial_id": "0009"'))
    done = []
    evaluation = evaluate(run_dir, data, "val", "baseline", progress=lambda *at: done.append(at))["0009"]
    assert len(done) == COUNTS["val"]
    assert evaluation.trial_id == "0009"


def test_other_groups_of_the_same_images_are_another_evaluation(run):
    data, run_dir = run
    evaluated_anew(run_dir, data)
    path = run_dir / "splits.json"
    content = json.loads(path.read_text())
    content["val"]["groups"] = ["video"] * COUNTS["val"]
    path.write_text(json.dumps(content))
    evaluation, done = evaluated_anew(run_dir, data)
    assert done == COUNTS["val"]
    assert evaluation.groups == ("video",) * COUNTS["val"]


def test_classes_that_changed_since_are_refused_though_everything_is_kept(run, monkeypatch):
    data, run_dir = run
    evaluate(run_dir, data, "val")
    monkeypatch.setattr(data, "classes", tuple(reversed(data.classes)))
    with pytest.raises(DataError, match=r"left, right, dot.*dot, right, left"):
        evaluate(run_dir, data, "val")


@pytest.mark.parametrize(
    "trial_id", ["{outside}", "../../../../outside", "..", "", ".x", "a/b", "a\\b", 7, None, "majority"]
)
def test_trial_ids_that_lead_elsewhere_are_refused_before_anything_is_touched(run, tmp_path, trial_id):
    data, run_dir = run
    outside = tmp_path / "outside"
    outside.mkdir()
    for name in ("results.npz", "evaluation.json", "000000.png", "thesis.txt"):
        (outside / name).write_text("mine")
    path = run_dir / "best" / "best" / "trial.json"
    content = json.loads(path.read_text())
    content["trial_id"] = trial_id.format(outside=outside) if isinstance(trial_id, str) else trial_id
    path.write_text(json.dumps(content))
    for split in ("val", "test"):
        with pytest.raises(SegsweepError, match=r"best/best/trial\.json"):
            evaluate(run_dir, data, split)
    assert {file.name: file.read_text() for file in outside.iterdir()} == dict.fromkeys(
        ("results.npz", "evaluation.json", "000000.png", "thesis.txt"), "mine"
    )
    assert not (run_dir / "report").exists()
    assert openings(run_dir) == []


@pytest.mark.parametrize(
    "link", ["report", "report/evaluations", "report/evaluations/val", "report/evaluations/val/0000"]
)
def test_evaluations_are_not_kept_behind_a_link(run, tmp_path, link):
    data, run_dir = run
    (tmp_path / "outside").mkdir()
    (run_dir / link).parent.mkdir(parents=True, exist_ok=True)
    (run_dir / link).symlink_to(tmp_path / "outside")
    with pytest.raises(UnsafePathError, match="symbolic link"):
        evaluate(run_dir, data, "val", "baseline")
    assert list((tmp_path / "outside").iterdir()) == []


def test_own_files_beside_an_evaluation_stay(run):
    data, run_dir = run
    folder = run_dir / "report" / "evaluations" / "val" / "0000"
    (folder / "mine").mkdir(parents=True)
    own = [folder / "notes.txt", folder / "mine" / "000000.png", folder / "1.png", folder / ".DS_Store"]
    for path in own:
        path.write_text("mine")
    stale = [folder / "000000.png", folder / "000099.png", folder / "evaluation.json"]
    for path in stale:
        path.write_text("of a longer split")
    evaluation, _ = evaluated_anew(run_dir, data)
    assert [path.read_text() for path in own] == ["mine"] * len(own)
    assert not stale[1].exists()
    assert evaluation.prediction(evaluation.image_ids[0]).shape == data.mask(evaluation.image_ids[0]).shape
    assert evaluated_anew(run_dir, data)[1] == 0


def test_a_folder_in_the_place_of_a_file_is_one_clear_error(run):
    data, run_dir = run
    (run_dir / "report" / "evaluations" / "val" / "0000" / "evaluation.json").mkdir(parents=True)
    with pytest.raises(DataError, match="cannot be written"):
        evaluated_anew(run_dir, data)


def test_histograms_written_in_blocks_are_those_written_at_once(run, monkeypatch):
    data, run_dir = run
    whole, _ = evaluated_anew(run_dir, data, "test")
    expected = [whole.histograms(index) for index in range(len(CLASSES))]
    totals = [whole.score_totals(index) for index in range(len(CLASSES))]
    weights = np.random.default_rng(0).integers(0, 3, (4, COUNTS["test"])).astype(np.float64)
    values = metrics.METRICS.get("ap")(metrics.Replicates(whole, weights))
    assert {each.shape for each in expected} == {(COUNTS["test"], 2, metrics.SCORE_LEVELS)}
    shutil.rmtree(run_dir / "report")
    # eight images a block, and a shorter one at the end
    monkeypatch.setattr(kept, "HISTOGRAM_BYTES", 8 * len(CLASSES) * 2 * metrics.SCORE_LEVELS * 4)
    blocks, _ = evaluated_anew(run_dir, data, "test")
    with np.load(blocks.folder / "results.npz") as arrays:
        sizes = [len(arrays[name]) for name in arrays.files if name.startswith("histograms/1/")]
    assert sizes == [8, 8, 8, 8, 8, 2]
    for index, histograms in enumerate(expected):
        np.testing.assert_array_equal(blocks.histograms(index), histograms)
        np.testing.assert_array_equal(blocks.score_totals(index), totals[index])
    monkeypatch.setattr(kept.Evaluation, "histograms", None)  # those of all images are never held together
    np.testing.assert_array_equal(metrics.METRICS.get("ap")(metrics.Replicates(blocks, weights)), values)


def test_one_model_is_in_memory_at_a_time(run, monkeypatch):
    data, run_dir = run
    alive = []
    load = module.rebuild_model

    def watched(folder):
        gc.collect()
        assert not any(model() is not None for model in alive)
        model, record = load(folder)
        alive.append(weakref.ref(model))
        return model, record

    monkeypatch.setattr(module, "rebuild_model", watched)
    evaluate(run_dir, data, "test")
    assert len(alive) == 4


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


def test_openings_are_keyed_by_the_split_that_was_evaluated(run):
    data, run_dir = run
    val, test = load_run_split(run_dir, "val"), load_run_split(run_dir, "test")
    entry = json.loads((run_dir / "splits.json").read_text())["val"]
    content = json.loads((run_dir / "splits.test.json").read_text())
    (run_dir / "splits.test.json").write_text(json.dumps({**content, "test": entry}))
    evaluation = evaluate(run_dir, data, "test", "baseline")["0000"]
    assert evaluation.image_ids == val.ids
    assert count_openings(run_dir.parent, val.hash) == 1
    assert count_openings(run_dir.parent, test.hash) == 0


def test_a_list_of_openings_that_was_lost_is_begun_again_by_what_is_kept(run):
    data, run_dir = run
    evaluate(run_dir, data, "test", "baseline")
    (run_dir.parent / OPENINGS_FILE).unlink()
    assert evaluated_anew(run_dir, data, "test")[1] == 0
    assert count_openings(run_dir.parent, load_run_split(run_dir, "test").hash) == 1


def test_openings_are_not_written_through_a_link_and_nothing_is_evaluated(run, tmp_path):
    data, run_dir = run
    (tmp_path / "mine.txt").write_text("mine")
    (run_dir.parent / OPENINGS_FILE).symlink_to(tmp_path / "mine.txt")
    with pytest.raises(UnsafePathError, match="symbolic link"):
        evaluate(run_dir, data, "test", "baseline")
    assert (tmp_path / "mine.txt").read_text() == "mine"
    assert not (run_dir / "report" / "evaluations" / "test").exists()


def test_an_opening_that_cannot_be_written_down_does_not_happen(run):
    data, run_dir = run
    (run_dir.parent / OPENINGS_FILE).mkdir()
    with pytest.raises(DataError, match="the test split was not opened"):
        evaluate(run_dir, data, "test", "baseline")
    assert not (run_dir / "report" / "evaluations" / "test").exists()


def test_two_runs_on_the_same_split_share_the_count(run):
    data, run_dir = run
    other = run_dir.with_name("other")
    copy_run(run_dir, other)
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
    got = [metrics.average_precision(floor.score_totals(index)) for index in range(len(CLASSES))]
    np.testing.assert_allclose(got, truth / truth.sum())
    assert np.nanmax(floor.confidence) == pytest.approx(counts.max() / counts.sum(), rel=1e-5)
    assert np.isnan(floor.latency_ms)
    np.testing.assert_array_equal(evaluate_majority(run_dir, data, test, train.ids).confusions, floor.confusions)


def test_weights_that_are_not_the_trials_are_refused_before_anything_is_opened(run):
    data, run_dir = run
    weights = run_dir / "best" / "baseline" / "model.safetensors"
    weights.unlink()
    shutil.copy(run_dir / "best" / "best" / "model.safetensors", weights)
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
    monkeypatch.setattr(latency, "LATENCY_SECONDS", 1.0)
    before = torch.get_num_threads()
    threads = []

    class Spy(torch.nn.Module):
        def forward(self, image):
            threads.append(torch.get_num_threads())
            assert image.shape == (1, 3, 24, 32)
            return {"out": image}

    assert 0 < measure_latency(Spy(), (24, 32)).ms < 1000
    assert set(threads) == {1}
    assert len(threads) == 2 + 30
    assert torch.get_num_threads() == before
