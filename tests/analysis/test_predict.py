"""Predictions of any images: those of the evaluation, in tiles as whole, of any file, and nothing of others touched."""

from __future__ import annotations

import dataclasses
import json
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from torch import nn
from torch.nn import functional

from analysis import load_model, predict, predicting
from analysis.evaluate import evaluate_checkpoints
from analysis.inputs import find_inputs
from analysis.predicting import Predictor
from sweep.journal import Journal
from sweep.verify import load_run_split
from trainables.checkpoint import publish, save_checkpoint
from trainables.data import DATASETS
from trainables.data.resizing import content_size
from trainables.data.tiles import window_count, windows
from trainables.errors import CheckpointError, UsageError
from trainables.files import write_json
from trainables.loaders import evaluation_loader
from trainables.logits import WHOLE, enlarged_in_bands, resize_logits
from trainables.loops import evaluate
from trainables.options import LETTERBOX, STRETCH, TILE

from ..copies import copy_run
from ..mini import write
from .small_run import CLASSES, made_once, make_model, make_record

IDS = [7, 3, 200]


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    with made_once(tmp_path_factory) as (data, run):
        config = dataclasses.replace(make_record("0002").config, resize=LETTERBOX)
        record = dataclasses.replace(make_record("0002"), trial_id="refit-0001-finish", history=(), config=config)
        checkpoint = save_checkpoint(
            run / "checkpoints" / "refit-0001-finish", epoch=2, model=make_model("0002"), updater=None, record=record
        )
        source = {"ids": IDS, "refit": {"of": "0001-finish", "trained_on": ["train", "val"]}}
        made = publish(checkpoint, run / "refit", label="refit", data=source)
        with Journal(run / "journal.jsonl") as journal:
            told = {"trial_id": made.trial_id, "sha256": made.sha256}
            journal.append("refitted", **told, of="0001-finish", epochs=2, images=9)
        yield data, run


@pytest.fixture
def run(original, tmp_path):
    return copy_run(original[1], tmp_path / "runs" / "small")


def test_a_run_gives_its_refitted_winner_and_says_of_which_model_the_scores_are(run):
    trained = load_model(run)
    assert trained.folder == run / "refit" and trained.ids == tuple(IDS)
    assert trained.size == (32, 48) and [info.name for info in trained.classes] == ["left", "right", "dot"]
    what, scores, evidence = trained.provenance.lines()
    assert "trial 0001-finish (label best), trained again on train and val together" in what
    assert scores.startswith("val/miou 0.4000 is of 0001-finish before the refit; it is measured on nothing")
    assert evidence == "a candidate, not confirmed: val alone chose it"
    best = load_model(run / "best" / "best")
    assert best.provenance.what.endswith("trained on train alone") and "0.4000" in best.provenance.scores
    assert load_model(run / "best" / "baseline").provenance.evidence == ""


def test_a_refit_of_another_trial_is_not_taken_and_a_changed_one_refused(run):
    with Journal(run / "journal.jsonl") as journal:
        journal.append("refitted", trial_id="refit-0002", sha256="0" * 64, of="0002", epochs=2, images=9)
    trained = load_model(run)
    assert trained.folder == run / "best" / "best"
    assert "holds 0002, not the best" in " ".join(trained.provenance.notes)
    with pytest.raises(CheckpointError, match="not the model that the journal"):
        load_model(run / "refit")


def test_a_model_folder_is_enough_wherever_it_lies(run, tmp_path):
    moved = copy_run(run / "refit", tmp_path / "elsewhere")
    trained = load_model(moved)
    assert trained.run_dir is None and trained.ids == tuple(IDS)
    assert "its run has the scores" in trained.provenance.scores
    content = json.loads((moved / "trial.json").read_text())
    for key, wrong in (("normalisation", {"mean": [0, 0, 0], "std": [1, 0, 1]}), ("data", {"ids": [1, 1, 2]})):
        write_json(moved / "trial.json", {**content, key: wrong})
        with pytest.raises(CheckpointError, match=r"normalisation|ids of classes"):
            load_model(moved)
    for place in (tmp_path / "none", tmp_path):
        with pytest.raises(UsageError, match=r"give the folder of a run"):
            load_model(place)


def test_masks_are_those_of_the_evaluation_in_the_ids_of_the_data_set(original, run, tmp_path, capsys):
    data, _ = original
    split = load_run_split(run, "val")
    (kept,) = evaluate_checkpoints(run, {"refit": run / "refit"}, data, split).values()
    photos = tmp_path / "photos"
    (photos / "nested").mkdir(parents=True)
    for image_id in split.ids:
        (photos / "nested" / f"{image_id}.png").write_bytes(data.paths(image_id)[0].read_bytes())
    assert predict.main([str(run), str(photos), "--out", str(tmp_path / "out")]) == 0
    summary = pd.read_csv(tmp_path / "out" / "summary.csv").set_index("image")
    for image_id in split.ids:
        expected = kept.prediction(image_id)
        mask = Image.open(tmp_path / "out" / "masks" / "nested" / f"{image_id}.png")
        assert np.array_equal(np.asarray(mask), np.array(IDS, np.uint8)[expected])
        assert mask.convert("RGB").getpixel((0, 0)) == CLASSES[expected[0, 0]].color
        row = summary.loc[f"nested/{image_id}.png"]
        shares = [row[f"share/{info.name}"] for info in CLASSES]
        assert shares == pytest.approx([(expected == place).mean() for place in range(3)], abs=1e-6)
        assert (row["height"], row["width"], row["tiles"]) == (*expected.shape, 1)
        assert 1 / 3 < row["confidence"] < 1
        assert Image.open(tmp_path / "out" / "overlays" / "nested" / f"{image_id}.jpg").size == mask.size
    assert "before the refit" in capsys.readouterr().out


class Pixelwise(nn.Module):
    """A model whose classes depend on a neighbourhood of `kernel` pixels."""

    def __init__(self, kernel):
        super().__init__()
        torch.manual_seed(0)
        self.layer = nn.Conv2d(3, 3, kernel, padding=kernel // 2)

    def forward(self, images, *, resize=True):
        return {"out": self.layer(images)}


def stand_in(kernel, size=(32, 48), resize=STRETCH):
    normalisation = {"mean": (0.5, 0.5, 0.5), "std": (0.2, 0.2, 0.2)}
    return SimpleNamespace(model=Pixelwise(kernel), size=size, normalisation=normalisation, resize=resize)


def picture(height, width):
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)


@pytest.mark.parametrize(("size", "overlap"), [((75, 131), 0.0), ((33, 49), 0.5), ((64, 200), 0.25), ((90, 48), 0.9)])
def test_tiles_are_the_whole_image_for_a_model_that_looks_at_single_pixels(size, overlap):
    trained, image = stand_in(1), picture(*size)
    found = Predictor(trained, tile=(32, 48), overlap=overlap)(image)
    inputs = (torch.from_numpy(image).permute(2, 0, 1)[None] / 255 - 0.5) / 0.2
    scores = trained.model(inputs)["out"][0].softmax(0).amax(0), trained.model(inputs)["out"][0].argmax(0)
    assert found.tiles > 1
    assert np.array_equal(found.classes, scores[1].numpy())
    assert found.confidence == pytest.approx(float(scores[0].mean()), abs=1e-5)


def test_overlapping_tiles_are_averaged_by_their_logits_and_their_inner_borders_do_not_count():
    trained, image = stand_in(5), picture(70, 110)
    found = Predictor(trained, tile=(32, 48), overlap=0.6)(image)
    total, weights = np.zeros((3, 70, 110)), np.zeros((70, 110))
    sides = windows((70, 110), (32, 48), 0.6)
    for top in sides[0].starts:
        for left in sides[1].starts:
            part = torch.from_numpy(image[top : top + 32, left : left + 48]).permute(2, 0, 1)[None]
            with torch.no_grad():
                logits = trained.model((part / 255 - 0.5) / 0.2)["out"][0].numpy()
            fall = [np.ones(32), np.ones(48)]
            for axis, (at, side) in enumerate(zip((top, left), sides, strict=True)):
                for place, other in enumerate(side.starts):
                    if abs(place - side.starts.index(at)) == 1:
                        shared = side.window - abs(other - at)
                        pixel = np.arange(side.window) + 0.5
                        inwards = pixel if other < at else side.window - pixel
                        fall[axis] *= np.interp(inwards, [shared / 4, 3 * shared / 4], [0, 1])
            weight = np.outer(*fall)
            total[:, top : top + 32, left : left + 48] += weight * logits
            weights[top : top + 32, left : left + 48] += weight
    scores = total / weights
    likely = np.exp(scores.max(0)) / np.exp(scores).sum(0)
    assert found.tiles == len(sides[0].starts) * len(sides[1].starts) == 25
    assert (found.classes == scores.argmax(0)).mean() > 0.9999
    assert found.confidence == pytest.approx(likely.mean(), abs=1e-5)


@pytest.mark.parametrize(("resize", "expected"), [(STRETCH, (32, 48)), (LETTERBOX, (32, 32))])
def test_tiles_come_to_the_input_as_images_of_their_size_do(resize, expected):
    trained, shapes = stand_in(1, resize=resize), []
    trained.model.register_forward_pre_hook(lambda model, inputs: shapes.append(tuple(inputs[0].shape[2:])))
    Predictor(trained, tile=(64, 64))(picture(100, 150))
    assert set(shapes) == {expected}


@pytest.mark.parametrize("resize", [TILE, f"{TILE}@0.5"])
@pytest.mark.parametrize("size", [(75, 131), (20, 200), (20, 30)])
def test_a_model_that_was_trained_on_tiles_predicts_as_it_is_evaluated(size, resize, tmp_path):
    data = DATASETS.get("folder")(root=write(tmp_path / "data", count=1, sizes=((max(size), max(size)),)))
    image, trained = picture(*size), stand_in(5, resize=resize)
    for path, array in zip(data.paths("im000"), (image, image[..., 0] // 128), strict=True):
        Image.fromarray(array).save(path)
    seen = []

    class Keeps:
        def process(self, image_id, logits, prediction, target):
            seen.append((prediction.numpy(), float(logits.softmax(0).amax(0).mean())))

    loader = evaluation_loader(
        data, ["im000"], size=trained.size, batch_size=3, resize=resize, normalisation=trained.normalisation
    )
    evaluate(trained.model, loader, [Keeps()])
    found = Predictor(trained)(image)
    assert np.array_equal(found.classes, seen[0][0]) and found.confidence == pytest.approx(seen[0][1], abs=1e-5)
    assert found.tiles == window_count(content_size(size, trained.size, resize), trained.size)


def test_images_that_fit_into_a_tile_are_predicted_whole_and_scaled_tiles_agree_with_them(original):
    trained = load_model(original[1] / "best" / "best")
    image = original[0].image("val00")
    whole, fitting = Predictor(trained)(image), Predictor(trained, tile=(400, 400))(image)
    assert np.array_equal(whole.classes, fitting.classes) and fitting.tiles == 1
    # An image of four times the scale in windows of the size of the original: each shows a part at a larger scale.
    large = np.asarray(Image.fromarray(image).resize((224, 160)))
    tiled = Predictor(trained, tile=(120, 168), overlap=0.5)(large)
    assert tiled.tiles == 4
    assert (tiled.classes == Predictor(trained)(large).classes).mean() > 0.7


@pytest.mark.parametrize(("size", "seen"), [((97, 131), WHOLE), ((5, 6), WHOLE), ((97, 61), (0.8, 0.55))])
def test_logits_enlarged_in_bands_are_those_enlarged_at_once(size, seen):
    logits = torch.randn(4, 12, 17, generator=torch.Generator().manual_seed(0))
    whole = functional.interpolate(logits[None], size=size, mode="bilinear", align_corners=False)[0]
    if seen != WHOLE:
        whole = resize_logits(logits, size, seen=seen)
    bands = list(enlarged_in_bands(logits, size, seen=seen, values=4 * size[1] * 3))
    assert len(bands) > 1
    torch.testing.assert_close(torch.cat(bands, dim=1), whole)


@pytest.fixture
def photos(tmp_path):
    """Files of many kinds below one folder; two cannot be read, one is of a kind that nobody reads here."""
    root = tmp_path / "photos"
    (root / "a b" / "deep").mkdir(parents=True)
    plain = Image.fromarray(picture(40, 60))
    plain.save(root / "plain.png")
    plain.save(root / "plain.jpg")
    turned = plain.getexif()
    turned[0x0112] = 6
    plain.save(root / "a b" / "deep" / "turned.jpg", exif=turned)
    plain.convert("L").save(root / "a b" / "grey.png")
    plain.quantize(16).save(root / "palette.png")
    Image.fromarray(np.arange(40 * 60, dtype=np.uint16).reshape(40, 60)).save(root / "deep.tif")
    plain.save(root / "pages.tif", save_all=True, append_images=[plain])
    (root / "torn.png").write_bytes((root / "plain.png").read_bytes()[:500])
    (root / "no.jpg").write_bytes(b"nothing")
    (root / "phone.heic").write_bytes(b"x")
    (root / ".hidden.png").write_bytes(b"x")
    return root


def test_every_kind_of_file_is_read_and_faults_stop_nothing(original, photos, tmp_path, capsys):
    out = photos / "found"  # within the folder of images, whose results are no images of the next call
    arguments = [str(original[1]), str(photos), "--out", str(out)]
    assert predict.main(arguments) == 1
    told = capsys.readouterr()
    assert "error: 2 images: image cannot be decoded; replace it by a whole copy\n  no.jpg, torn.png" in told.err
    assert "not read: 1 .heic file" in told.out and "1 image turned as EXIF says" in told.out
    assert "12 bits divided by 16" in told.out
    summary = pd.read_csv(out / "summary.csv").set_index("image")
    good = summary[summary["error"].isna()]
    assert list(summary.index[summary["error"].notna()]) == ["no.jpg", "torn.png"]
    assert sorted(good.index) == [
        *("a b/deep/turned.jpg", "a b/grey.png", "deep.tif", "pages.tif/page-1", "pages.tif/page-2"),
        *("palette.png", "plain.jpg", "plain.png"),
    ]
    sizes = {path.relative_to(out / "masks").as_posix(): Image.open(path).size for path in out.rglob("masks/**/*.png")}
    assert sizes == {
        "a b/deep/turned.png": (40, 60),
        **dict.fromkeys(("a b/grey.png", "deep.png", "pages/page-1.png", "pages/page-2.png", "palette.png"), (60, 40)),
        **dict.fromkeys(("plain.jpg.png", "plain.png.png"), (60, 40)),
    }
    assert predict.main([*arguments, "--no-overlays", "--exif", "stored"]) == 1
    assert len(pd.read_csv(out / "summary.csv")) == len(summary)
    assert not (out / "overlays").exists() and Image.open(out / "masks" / "a b" / "deep" / "turned.png").size == (
        60,
        40,
    )


def test_depth_is_that_of_training_unless_something_else_is_asked_for(photos, tmp_path):
    deep = {"out": tmp_path / "out"}
    assert find_inputs(photos, **deep).bits == 12
    assert find_inputs(photos, **deep, trained_bits=16).bits == 16
    assert find_inputs(photos, **deep, trained_bits=16, bits=14).bits == 14
    with pytest.raises(UsageError, match=r"holds no image \(only 1 \.heic file\)"):
        for path in photos.rglob("*"):
            if path.is_file() and path.suffix != ".heic":
                path.unlink()
        find_inputs(photos, **deep)


def test_files_of_others_stay(original, tmp_path, capsys):
    image = tmp_path / "one.png"
    Image.fromarray(picture(40, 60)).save(image)
    out = tmp_path / "out"
    (out / "masks").mkdir(parents=True)
    (out / "masks" / "one.png").write_text("mine")
    arguments = [str(original[1] / "best" / "best"), str(image), "--out", str(out)]
    assert predict.main(arguments) == 1
    assert (out / "masks" / "one.png").read_text() == "mine"
    assert "not written by this command" in capsys.readouterr().err
    (out / "masks" / "one.png").rename(out / "mine.png")
    write_json(out / ".segsweep-files.json", ["scores.csv"])
    assert predict.main(arguments) == 2
    assert "another command" in capsys.readouterr().err
    (out / ".segsweep-files.json").unlink()
    assert predict.main(arguments) == predict.main(arguments) == 0
    assert (out / "mine.png").read_text() == "mine" and (out / "masks" / "one.png").is_file()
    assert predict.main([*arguments[:2], "--out", str(original[1] / "best" / "best")]) == 2


def test_ctrl_c_keeps_what_is_written(original, tmp_path, monkeypatch, capsys):
    for number in range(4):
        Image.fromarray(picture(40, 60)).save(tmp_path / f"{number}.png")
    calls, predict_one = [], predicting.Predictor.__call__

    def interrupted(self, image):
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return predict_one(self, image)

    monkeypatch.setattr(predicting.Predictor, "__call__", interrupted)
    out = tmp_path / "out"
    assert predict.main([str(original[1]), str(tmp_path), "--out", str(out)]) == 130
    assert "interrupted after 2 of 4 images" in capsys.readouterr().err
    assert list(pd.read_csv(out / "summary.csv")["image"]) == ["0.png", "1.png"]
    assert sorted(path.name for path in (out / "masks").iterdir()) == ["0.png", "1.png"]
