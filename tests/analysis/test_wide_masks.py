"""Three hundred classes from kept evaluations to the report, predictions of any images, and scores of any masks."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from sklearn.metrics import confusion_matrix, jaccard_score

from analysis import predict, score
from analysis.audit.components import find_parts
from analysis.audit.factors import measure as factors_of
from analysis.audit.images import look_at
from analysis.evaluate import evaluate_checkpoints
from analysis.failures import __main__ as failures_command
from analysis.failures.label_errors import suspect
from analysis.failures.split import measure_image
from analysis.pictures import failure_picture, legend, mask_uri
from analysis.report.__main__ import main as report
from sweep.verify import load_run_split
from trainables import checkpoint
from trainables.data import SegmentationData

from ..mini import TinyNet
from . import small_run
from .small_run import MANY, PLACES

Made = tuple[SegmentationData, Path]
VOID = 65535


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory):
    """A run on 300 classes, with its report on val."""
    root = tmp_path_factory.mktemp("wide")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SEGSWEEP_CACHE", str(root / "cache"))
        for module in (small_run, checkpoint):
            patch.setattr(module, "build_model", lambda name, classes, **more: TinyNet(len(classes), name=name, **more))
        data = small_run.make_data(root / "data", many=True)
        run = small_run.make_run(root / "runs" / "wide", data, labels={"baseline": "0000", "best": "0001-finish"})
        assert report([str(run), "--split", "val", "--save-predictions", "--top", "0"]) == 0
        yield data, run


def tables(run: Path, name: str) -> pd.DataFrame:
    return pd.read_csv(run / "report" / "val" / "tables" / f"{name}.csv", dtype={"trial_id": str})


def test_the_report_holds_what_scikit_learn_counts_in_the_kept_masks(made: Made) -> None:
    data, run = made
    split = load_run_split(run, "val")
    evaluations = evaluate_checkpoints(run, {"best": run / "best" / "best"}, data, split)
    (evaluation,) = evaluations.values()
    truth, guess = [], []
    for image_id in split.ids:
        mask, prediction = data.mask(image_id), evaluation.prediction(image_id)
        assert prediction.dtype == mask.dtype == np.uint16 and set(np.unique(mask)) == {*PLACES, VOID}
        saved = Image.open(run / "report" / "val" / "predictions" / "best" / f"{image_id}.png")
        np.testing.assert_array_equal(np.asarray(saved), prediction)
        truth.append(mask[mask != VOID])
        guess.append(prediction[mask != VOID])
    true, found = np.concatenate(truth), np.concatenate(guess)
    right = confusion_matrix(true, found, labels=range(len(MANY)))
    np.testing.assert_array_equal(evaluation.confusions.sum(axis=0), right)
    per_class = tables(run, "per_class").query("label == 'best'")
    assert per_class["class"].tolist() == [info.name for info in MANY]
    assert per_class["pixels"].tolist() == right.sum(axis=1).tolist()
    iou = tables(run, "comparison").set_index("label").loc["best", "iou"]
    assert iou == pytest.approx(jaccard_score(true, found, average="macro", zero_division=0))


def test_the_page_stays_small(made: Made) -> None:
    _, run = made
    page = (run / "report" / "val" / "report.html").read_text(encoding="utf-8")
    assert len(page) < 3_000_000 and "class 250" not in page.split('data-table="per_class"')[0]
    told = page.split("without a true score there: ")[1].split("<")[0]
    assert told.count(",") == 4 and told.rstrip().endswith("and 292 more")


def test_predictions_are_those_of_the_evaluation_in_16_bits(made: Made, tmp_path: Path) -> None:
    data, run = made
    photos = tmp_path / "photos"
    photos.mkdir()
    ids = load_run_split(run, "val").ids[:2]
    for image_id in ids:
        (photos / f"{image_id}.png").write_bytes(data.paths(image_id)[0].read_bytes())
    assert predict.main([str(run), str(photos), "--out", str(tmp_path / "out"), "--device", "cpu"]) == 0
    for image_id in ids:
        saved = run / "report" / "val" / "predictions" / "best" / f"{image_id}.png"
        assert (
            np.asarray(Image.open(tmp_path / "out" / "masks" / f"{image_id}.png")) == np.asarray(Image.open(saved))
        ).all()


def test_any_masks_are_scored_and_their_failures_found(made: Made, tmp_path: Path) -> None:
    data, run = made
    for folder in ("truth", "model"):
        (tmp_path / folder).mkdir()
    for image_id in load_run_split(run, "val").ids:
        (tmp_path / "truth" / f"{image_id}.png").write_bytes(data.paths(image_id)[1].read_bytes())
        saved = run / "report" / "val" / "predictions" / "best" / f"{image_id}.png"
        (tmp_path / "model" / f"{image_id}.png").write_bytes(saved.read_bytes())
    given = ["--truth", str(tmp_path / "truth"), "--predictions", str(tmp_path / "model"), "--classes",
             str(data.root / "classes.json"), "--no-report"]  # fmt: skip
    assert score.main([*given, "--out", str(tmp_path / "scores")]) == 0
    scored = pd.read_csv(tmp_path / "scores" / "scores.csv")["iou"][0]
    assert scored == pytest.approx(tables(run, "comparison").set_index("label").loc["best", "iou"])
    assert failures_command.main([*given[:-1], "--out", str(tmp_path / "failures")]) == 0
    wanted = tables(run, "error_types").query("label == 'best'")[["type", "pixels"]]
    found = pd.read_csv(tmp_path / "failures" / "error_types.csv")[["type", "pixels"]]
    assert dict(found.to_numpy()) == dict(wanted.to_numpy())


def test_pictures_show_the_classes_that_are_there(made: Made) -> None:
    data, _ = made
    image_id = data.ids()[0]
    mask = data.mask(image_id)
    prediction = np.where(mask == VOID, 299, mask).astype(np.uint16)
    picture = failure_picture(data.image(image_id), mask, prediction, MANY, title=image_id)
    assert picture.height < 700 and mask_uri(mask, MANY).startswith("data:image/png")
    assert legend(MANY).size == (640, 26 * 254 + 24)
    crowd = np.arange(40 * 56).reshape(40, 56).astype(np.uint16) % 300
    assert failure_picture(data.image(image_id)[:40, :56], crowd, crowd, MANY, title="all").height < 900


def test_what_is_measured_does_not_depend_on_the_ids() -> None:
    """The report's measures and the audit's, of three classes and of the same among 300."""
    rng = np.random.default_rng(0)
    truth, guess = (np.kron(rng.integers(0, most, (8, 11)), np.ones((7, 6), int)).astype(np.uint8) for most in (4, 3))
    truth[truth == 3] = 255
    image = rng.integers(0, 256, (*truth.shape, 3)).astype(np.uint8)
    few, many = np.arange(3), np.full(300, 2)
    many[list(PLACES)] = few
    place = np.zeros(256, np.int64)
    place[:3], place[255] = PLACES, VOID
    (own,) = measure_image(truth, [guess], "abc", few, image=image)
    of_many = [place[mask].astype(np.uint16) for mask in (truth, guess)]
    (wide,) = measure_image(of_many[0], of_many[1:], [str(one) for one in range(300)], many, image=image)
    np.testing.assert_array_equal(wide.confusion[np.ix_(PLACES, PLACES)], own.confusion)
    mapped = np.column_stack([own.counts[:, 0], place[own.counts[:, 1:3]], own.counts[:, 3]])
    np.testing.assert_array_equal(wide.counts, mapped)
    np.testing.assert_array_equal(wide.factors, own.factors)
    np.testing.assert_array_equal(wide.components.type_pixels, own.components.type_pixels)
    taken = own.components.taken_for
    np.testing.assert_array_equal(wide.components.taken_for, np.where(taken < 0, -1, place[taken]))
    assert [(one.class_id, one.iou, one.boundary_fraction) for one in wide.regions] == [
        (place[one.class_id], one.iou, one.boundary_fraction) for one in own.regions
    ]
    parts = find_parts(truth), find_parts(of_many[0])
    by_audit = look_at(truth, parts[0], guess, few), look_at(of_many[0], parts[1], of_many[1], many)
    np.testing.assert_array_equal(by_audit[1].pairs[np.ix_(PLACES, PLACES)], own.confusion)
    for found, counts in zip(by_audit, (own.counts, wide.counts), strict=True):
        assert sorted(map(tuple, found.types.tolist())) == sorted(map(tuple, counts.tolist()))
    np.testing.assert_array_equal(
        factors_of(image, of_many[0], parts[1], many), factors_of(image, truth, parts[0], few)
    )


def test_label_errors_name_pairs_of_classes_beyond_a_byte() -> None:
    mask = np.full((60, 80), 299, np.uint16)
    said = mask.copy()
    said[10:40, 10:60] = 256
    found = suspect(mask, [said] * 3, 300)
    assert found.masked.tolist() == [299] and found.said.tolist() == [256] and found.pixels.tolist() == [1500]
