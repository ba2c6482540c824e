"""Masks of any program are scored as scikit-learn scores them, alone and against others."""

from __future__ import annotations

import json
import re

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from sklearn.metrics import accuracy_score, f1_score, jaccard_score, precision_score, recall_score

from analysis import score
from trainables.data.base import VOID

NAMES = ("background", "disc", "bar")
IMAGES = 60


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    root = tmp_path_factory.mktemp("masks")
    rng = np.random.default_rng(0)
    for folder in ("truth", "model", "rival", "other"):
        (root / folder).mkdir()
    (root / "other" / "model").mkdir()
    for number in range(IMAGES):
        mask = np.zeros((30, 40), np.uint8)
        mask[8:20, 5 + number % 9 : 20] = 1
        mask[:, 30:34] = 2
        seen = mask.copy()
        seen[:2] = VOID
        for folder, wrong in (("model", 0.1), ("rival", 0.2), ("other/model", 0.3)):
            noisy = np.where(rng.random(mask.shape) < wrong, rng.integers(0, 3, mask.shape), mask)
            Image.fromarray(noisy.astype(np.uint8)).save(root / folder / f"i{number:02}.png")
        Image.fromarray(seen).save(root / "truth" / f"i{number:02}.png")
    classes = [{"id": i, "name": name, "color": [i, 9, 9]} for i, name in enumerate(NAMES)]
    (root / "classes.json").write_text(json.dumps({"classes": classes}))
    return root


def run(root, *more, out="out", report=False):
    more = more if report else (*more, "--no-report")
    arguments = ["--truth", root / "truth", "--predictions", root / "model", "--classes", root / "classes.json"]
    return score.main([*map(str, arguments), "--out", str(root / out), *map(str, more)])


def pixels(root, folder):
    truth = np.concatenate([np.asarray(Image.open(path)).ravel() for path in sorted((root / "truth").iterdir())])
    found = np.concatenate([np.asarray(Image.open(path)).ravel() for path in sorted((root / folder).glob("*.png"))])
    return truth[truth != VOID], found[truth != VOID]


def test_scores_are_those_of_scikit_learn(root, capsys):
    assert run(root) == 0
    (row,) = pd.read_csv(root / "out" / "scores.csv").to_dict("records")
    truth, found = pixels(root, "model")
    assert row["pixel_accuracy"] == pytest.approx(accuracy_score(truth, found))
    assert row["iou"] == pytest.approx(jaccard_score(truth, found, average="macro"))
    assert row["f1"] == pytest.approx(f1_score(truth, found, average="macro"))
    assert row["precision"] == pytest.approx(precision_score(truth, found, average="macro"))
    assert row["recall"] == pytest.approx(recall_score(truth, found, average="macro"))
    assert row["iou_low"] < row["iou"] < row["iou_high"]
    assert (row["label"], row["images"]) == ("model", IMAGES)
    per_class = pd.read_csv(root / "out" / "per_class.csv")
    assert per_class["iou"].tolist() == pytest.approx(jaccard_score(truth, found, average=None).tolist())
    assert per_class["pixels"].tolist() == np.bincount(truth).tolist()
    types = pd.read_csv(root / "out" / "error_types.csv")
    assert types["lost_iou"].sum() == pytest.approx(1 - row["iou"])
    told = capsys.readouterr().out
    assert f"mIoU: {row['iou']:.4f} 95% [{row['iou_low']:.4f}, {row['iou_high']:.4f}]" in told
    assert not (root / "out" / "difference.csv").exists()


def test_two_folders_are_compared_in_pairs(root, capsys):
    assert run(root, "--against", root / "rival") == 0
    scores = pd.read_csv(root / "out" / "scores.csv").set_index("label")
    assert list(scores.index) == ["model", "rival"]
    difference = pd.read_csv(root / "out" / "difference.csv").set_index("metric").loc["iou"]
    assert difference["difference"] == pytest.approx(scores.loc["model", "iou"] - scores.loc["rival", "iou"])
    assert 0 < difference["difference_low"] < difference["difference"] < difference["difference_high"]
    # paired: narrower than the two intervals side by side
    apart = sum(scores[f"iou_{side}"].diff().abs().iloc[1] for side in ("low", "high")) / 2
    assert difference["difference_high"] - difference["difference_low"] < apart
    assert set(pd.read_csv(root / "out" / "error_types.csv")["label"]) == {"model", "rival"}
    types = pd.read_csv(root / "out" / "type_changes.csv")
    assert types["difference"].sum() == pytest.approx(-difference["difference"])
    assert types["after"].sum() == pytest.approx(1 - scores.loc["model", "iou"])
    assert set(pd.read_csv(root / "out" / "component_changes.csv")["change"]) <= {"cured", "new", "shared"}
    assert "mIoU: model less rival is +" in capsys.readouterr().out
    assert run(root) == 0
    assert not (root / "out" / "difference.csv").exists()


def test_folders_of_one_name_are_told_apart_and_one_folder_is_refused(root, capsys):
    assert run(root, "--against", root / "other" / "model") == 0
    labels = pd.read_csv(root / "out" / "scores.csv")["label"].tolist()
    assert labels == [str(root / "model"), str(root / "other" / "model")]
    assert run(root, "--against", root / "model") == 2
    assert "are the same folder" in capsys.readouterr().err


def test_sizes_that_differ_are_one_error(root, tmp_path, capsys):
    (tmp_path / "small").mkdir()
    for number in range(IMAGES):
        Image.fromarray(np.zeros((9, 9), np.uint8)).save(tmp_path / "small" / f"i{number:02}.png")
    assert run(root, "--against", tmp_path / "small") == 1
    told = capsys.readouterr().err
    assert f"size mismatch, {IMAGES} images: 9x9, its truth 30x40 (HEIGHTxWIDTH)" in told
    assert f"and {IMAGES - 5} more" in told


def test_pictures_of_two_folders_are_kept_apart(root, tmp_path):
    (tmp_path / "images").mkdir()
    for number in range(IMAGES):
        Image.fromarray(np.zeros((30, 40, 3), np.uint8)).save(tmp_path / "images" / f"i{number:02}.png")
    assert run(root, "--against", root / "rival", "--images", tmp_path / "images", "--iou", 0.8, out="drawn") == 0
    assert {path.name for path in (root / "drawn" / "pictures").iterdir()} == {"model", "rival"}
    failures = pd.read_csv(root / "drawn" / "failures.csv")
    # two components in each of 24 images are too few for effects, and enough for curves
    assert not pd.read_csv(root / "drawn" / "factors.csv")["reason"].any()
    curves = pd.read_csv(root / "drawn" / "factor_curves.csv")
    assert curves.groupby(["label", "factor"])["components"].sum().loc[("model", "size")] == 2 * IMAGES
    for label in ("model", "rival"):
        drawn = {path.stem for path in (root / "drawn" / "pictures" / label).iterdir()}
        assert drawn == set(failures.loc[failures["label"] == label, "image_id"])


def test_few_images_have_no_interval(root, tmp_path, capsys):
    for folder in ("truth", "model"):
        (tmp_path / folder).mkdir()
        for number in range(3):
            name = f"i{number:02}.png"
            (tmp_path / folder / name).write_bytes((root / folder / name).read_bytes())
    (tmp_path / "classes.json").write_bytes((root / "classes.json").read_bytes())
    assert run(tmp_path) == 0
    assert pd.read_csv(tmp_path / "out" / "scores.csv")["iou_low"].isna().all()
    assert "95%" not in capsys.readouterr().out


def test_the_page_of_two_folders_is_written_and_replaced(root, tmp_path, capsys):
    """The disc is erased by the rival in every second image, and shifted by a pixel by the model."""
    rng = np.random.default_rng(0)
    for folder in ("truth", "model", "rival", "images"):
        (tmp_path / folder).mkdir()
    for number in range(40):
        mask, moved = np.zeros((2, 24, 30), np.uint8)
        mask[6:18, 5:15], moved[7:19, 5:15] = 1, 1
        mask[:, 22:26] = moved[:, 22:26] = 2
        name = f"i{number:02}.png"
        Image.fromarray(mask).save(tmp_path / "truth" / name)
        Image.fromarray(moved).save(tmp_path / "model" / name)
        Image.fromarray(np.where((mask == 1) & (number % 2 == 0), 0, moved)).save(tmp_path / "rival" / name)
        Image.fromarray(rng.integers(0, 255, (24, 30, 3), np.uint8)).save(tmp_path / "images" / name)
    (tmp_path / "classes.json").write_bytes((root / "classes.json").read_bytes())
    out = tmp_path / "out"
    assert run(tmp_path, "--against", tmp_path / "rival", "--images", tmp_path / "images", report=True) == 0
    assert (out / "report.html").as_uri() in capsys.readouterr().out
    page = (out / "report.html").read_text()
    shown = re.sub("<svg.*?</svg>", "", page[page.index("<header") :], flags=re.DOTALL)
    scores = pd.read_csv(out / "scores.csv").set_index("label")["iou"]
    assert re.search(r"<b>model</b> scores higher than <b>rival</b> by 0\.\d+ \[0\.", shown)
    assert f"mIoU {scores['model']:.3f} against {scores['rival']:.3f}" in shown
    assert not re.search("one checkpoint|winner|baseline", shown[: shown.index("<script")])
    data = json.loads(re.search('id="gallery-data">(.*?)</script>', page).group(1))
    assert sorted(row["image"] for row in data["changes"]) == [f"i{number:02}" for number in range(0, 40, 2)]
    assert {(*row["kinds"], row["type"], row["class"]) for row in data["changes"]} == {
        ("cured", "missed component", "disc")
    }
    assert data["pair"] == [{"name": "rival", "key": "rival"}, {"name": "model", "key": "model"}]
    pictures = {path.relative_to(out).as_posix() for path in (out / "pictures").rglob("*.png")}
    assert {row["picture"] for row in data["rows"]} == pictures and len(pictures) == 20
    assert {path.suffix for path in (out / "figures").glob("type_changes.*")} == {".svg", ".pdf", ".png"}
    assert run(tmp_path) == 0
    assert not (out / "report.html").exists() and not (out / "figures").exists()


def test_masks_in_colours_score_as_their_ids_do(root, tmp_path):
    palette = np.full((256, 3), 224, np.uint8)
    palette[:3] = [[i, 9, 9] for i in range(3)]
    for folder in ("truth", "model"):
        (tmp_path / folder).mkdir()
        for path in (root / folder).glob("*.png"):
            Image.fromarray(palette[np.asarray(Image.open(path))]).save(tmp_path / folder / path.name)
    described = json.loads((root / "classes.json").read_text())
    (tmp_path / "classes.json").write_text(json.dumps({**described, "void": [224, 224, 224]}))
    assert run(root) == run(tmp_path) == 0
    pd.testing.assert_frame_equal(
        pd.read_csv(tmp_path / "out" / "scores.csv"), pd.read_csv(root / "out" / "scores.csv")
    )
