"""Each cause on masks made to have exactly it, and the measured values by hand."""

from __future__ import annotations

import gc
import json
import re
import shutil
import weakref
from fractions import Fraction
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from analysis.failures import __main__ as command
from analysis.failures import class_frequency, kinds, label_errors, masks, overlaps, reasons, slices
from analysis.failures import measure as failures
from analysis.failures.measure import (
    BOUNDARY,
    CAUSES,
    COLUMNS,
    CUT,
    HALLUCINATED,
    INCOMPLETE,
    MISSED,
    SMALL,
    SPILLED,
    boundary_width,
    cause_summary,
    failing_regions,
    failures_frame,
)
from trainables.data.base import VOID
from trainables.machine import cores

NAMES = ("ground", "car", "bus")
SHAPE = (90, 120)
WIDTH = boundary_width(SHAPE)


def scene(*boxes, background=0):
    """A mask of rectangles (class, top, bottom, left, right)."""
    mask = np.full(SHAPE, background, np.uint8)
    for class_id, top, bottom, left, right in boxes:
        mask[top:bottom, left:right] = class_id
    return mask


def only(truth, prediction, class_id=1, *, iou_limit=0.5):
    """The failure of one class."""
    found = {failure.class_id: failure for failure in failing_regions(truth, prediction, NAMES, iou_limit=iou_limit)}
    return found[class_id]


BIG = (1, 20, 60, 30, 80)


def test_boundary_width_grows_with_the_image():
    assert boundary_width((96, 128)) == 2
    assert boundary_width((375, 500)) == 5
    assert boundary_width((1080, 1920)) == 17
    assert boundary_width((8, 8)) == 2


def test_a_region_without_any_of_its_pixels_found_is_missed_altogether():
    failure = only(scene(BIG), scene())
    assert failure.causes == (MISSED,)
    assert (failure.iou, failure.missed_recall, failure.confused_with) == (0, 0, 0)
    assert (failure.truth_pixels, failure.predicted_pixels) == (2000, 0)
    assert failure.confused_fraction == 1


def test_recall_at_the_limit_is_not_missed():
    # of 2000 pixels 100 are found: recall 0.05
    found = scene((1, 20, 40, 30, 35))
    assert only(scene(BIG), found).missed_recall == 0.05
    assert MISSED not in only(scene(BIG), found).causes
    assert MISSED in only(scene(BIG), scene((1, 20, 39, 30, 35))).causes


def test_confused_with_names_the_class_that_took_most():
    failure = only(scene(BIG), scene(BIG, (2, 20, 60, 50, 80)))
    assert failure.causes == ("confused with bus",)
    assert failure.confused_fraction == 0.6
    assert failure.confused_with == 2


def test_a_thing_under_the_background_is_not_confused_with_it():
    # 60% of the car is predicted as ground, 25% as bus
    prediction = scene((1, 20, 60, 30, 80), (0, 20, 60, 30, 60))
    prediction[20:60, 60:73], prediction[22:60:4, 72] = 2, 1
    failure = only(scene(BIG), prediction)
    assert failure.causes == ("confused with bus",)
    assert failure.confused_with == 2
    assert failure.confused_fraction == (40 * 13 - 10) / 2000
    without = only(scene(BIG), scene(BIG, (0, 20, 60, 30, 60)))
    assert without.causes == (INCOMPLETE,)
    assert (without.confused_with, without.confused_fraction) == (0, 0.6)
    # said to be a thing of its own, the ground is a name like any other
    things = failing_regions(scene(BIG), scene(BIG, (0, 20, 60, 30, 60)), NAMES, kinds=np.array([2, 2, 2], np.int8))
    assert "confused with ground" in next(one.causes for one in things if one.class_id == 1)


def test_that_stuff_reaches_the_border_is_no_news():
    truth, prediction = scene(background=1), scene((0, 0, 80, 0, 120), background=1)
    assert CUT in only(truth, prediction).causes
    (failure,) = (one for one in failing_regions(truth, prediction, ("ground", "road", "bus")) if one.class_id == 1)
    assert failure.border_fraction == 1
    assert CUT not in failure.causes


def test_masks_of_different_sizes_are_one_error():
    confusion = np.ones((3, 3), np.int64)
    with pytest.raises(ValueError, match="truth is"):
        failing_regions(scene(BIG), scene(BIG)[:50], NAMES, confusion=confusion)


def test_a_loss_spread_over_classes_below_the_share_is_not_confusion():
    # 24% bus, 23% ground, and false alarms that push the IoU below the limit
    prediction = scene(BIG, (2, 20, 60, 30, 42), (0, 20, 43, 42, 62), (1, 62, 90, 30, 80))
    failure = only(scene(BIG), prediction)
    assert failure.confused_fraction == 0.24
    assert failure.causes == (SPILLED,)


def test_errors_in_the_band_along_the_boundary_are_boundary_only():
    truth = scene((1, 40, 48, 10, 110))
    prediction = scene((1, 42, 46, 10, 110))
    failure = only(truth, prediction)
    assert failure.iou == 0.5
    assert failure.boundary_fraction == 1
    assert failure.causes == (BOUNDARY,)


def test_errors_beyond_the_band_are_not_boundary_only():
    truth = scene((1, 40, 52, 10, 110))
    prediction = scene((1, 46, 52, 10, 110))
    failure = only(truth, prediction)
    # rows 40..45 are wrong; rows 40 and 41 lie within 2 px of the outside, and 2 px at each end of the others
    assert failure.boundary_fraction == pytest.approx((2 * 100 + 4 * 4) / 600)
    assert BOUNDARY not in failure.causes


def test_boundary_distances_equal_a_loop_over_pixels():
    rng = np.random.default_rng(0)
    truth = scene((1, 30, 44, 0, 25), (1, 60, 90, 100, 120), (2, 5, 20, 60, 100))
    prediction = np.where(rng.random(SHAPE) < 0.6, rng.integers(0, 3, SHAPE), truth).astype(np.uint8)
    prediction = np.where(rng.random(SHAPE) < 0.5, prediction, 0).astype(np.uint8)
    for class_id in (1, 2):
        region = np.argwhere(truth == class_id)
        outside = np.argwhere(truth != class_id)
        near = wrong = 0
        for row, column in np.argwhere((truth == class_id) != (prediction == class_id)):
            other = outside if truth[row, column] == class_id else region
            wrong += 1
            near += np.sqrt(((other - (row, column)) ** 2).sum(axis=1).min()) <= WIDTH
        failure = only(truth, prediction, class_id)
        assert failure.boundary_fraction == pytest.approx(near / wrong)


def test_void_seams_do_not_count_as_distance():
    truth = scene((1, 40, 46, 10, 110))
    truth[38:40, 10:110] = truth[46:48, 10:110] = VOID
    prediction = scene((1, 36, 50, 10, 110))
    failure = only(truth, prediction, iou_limit=0.7)
    # rows 36, 37 and 48, 49: two pixels beyond a seam of two
    assert failure.boundary_fraction == 1
    assert failure.causes[0] == BOUNDARY
    without_seam = np.where(truth == VOID, 0, truth).astype(np.uint8)
    assert only(without_seam, prediction, iou_limit=0.7).boundary_fraction == 0.5


def test_void_pixels_count_on_no_side():
    truth = scene(BIG)
    truth[20:60, 55:80] = VOID
    failure = only(truth, scene((1, 20, 30, 30, 80)))
    assert (failure.truth_pixels, failure.predicted_pixels) == (1000, 250)
    assert failure.iou == 0.25


def test_a_region_below_the_area_limit_is_too_small():
    failure = only(scene((1, 40, 45, 50, 57)), scene())
    assert failure.area_fraction == pytest.approx(35 / 10800)
    assert failure.causes[-1] == SMALL
    just_above = only(scene((1, 40, 46, 50, 56)), scene())
    assert just_above.area_fraction == 1 / 300
    assert SMALL not in just_above.causes


def test_a_long_thin_region_is_too_small_whatever_its_area():
    thin = only(scene((1, 10, 80, 50, 53)), scene())
    assert thin.area_fraction > 1 / 100
    assert thin.thickness == 3
    assert SMALL in thin.causes
    thick = only(scene((1, 10, 80, 50, 55)), scene())
    assert thick.thickness == 5
    assert SMALL not in thick.causes


def test_a_region_with_a_side_on_the_border_is_cut():
    # contour of 20x10 with one long side on the border: 56 pixels, 20 of them there
    failure = only(scene((1, 30, 50, 110, 120)), scene())
    assert failure.border_fraction == pytest.approx(20 / 56)
    assert CUT in failure.causes
    inside = only(scene((1, 30, 50, 109, 119)), scene())
    assert inside.border_fraction == 0
    assert CUT not in inside.causes


def test_a_region_that_only_touches_the_border_is_not_cut():
    # a corner of the box: 10 of 56 contour pixels on the border
    failure = only(scene((1, 0, 20, 30, 40)), scene())
    assert failure.border_fraction == pytest.approx(10 / 56)
    assert CUT not in failure.causes


def test_a_class_that_is_not_there_is_hallucinated():
    failure = only(scene(), scene(BIG))
    assert failure.causes == (HALLUCINATED,)
    assert (failure.hallucinated_pixels, failure.truth_pixels, failure.area_fraction) == (2000, 0, 0)
    assert np.isnan(failure.missed_recall)
    assert np.isnan(failure.boundary_fraction)
    assert failure.confused_with is None
    assert only(scene(BIG), scene()).hallucinated_pixels == 0


def test_what_has_no_other_cause_is_incomplete_or_spilled_over_by_the_larger_error():
    # 24% lost to each of two classes: 960 missing, 0 extra
    truth = scene((1, 20, 60, 30, 80))
    prediction = scene(BIG, (2, 20, 60, 30, 42), (0, 20, 60, 68, 80))
    assert only(truth, prediction, iou_limit=0.6).causes == (INCOMPLETE,)
    wide = scene((1, 5, 85, 10, 110))
    assert only(scene(BIG), wide).causes == (SPILLED,)


def test_causes_come_by_the_share_of_errors_they_explain_then_circumstances():
    # small, on the border, 20% of it found, the rest called bus
    truth = scene((1, 40, 45, 115, 120))
    prediction = scene((2, 40, 45, 115, 120), (1, 40, 41, 115, 120))
    failure = only(truth, prediction)
    assert failure.causes == ("confused with bus", SMALL, CUT)


def test_only_regions_at_or_below_the_limit_fail_and_perfect_ones_never():
    truth, prediction = scene((1, 40, 48, 10, 110)), scene((1, 42, 46, 10, 110))
    assert [f.class_id for f in failing_regions(truth, prediction, NAMES, iou_limit=0.5)] == [1]
    assert failing_regions(truth, prediction, NAMES, iou_limit=0.49) == []
    assert [f.class_id for f in failing_regions(truth, prediction, NAMES, iou_limit=1.0)] == [0, 1]
    assert failing_regions(truth, truth, NAMES, iou_limit=1.0) == []


def test_a_class_that_fills_the_image_can_fail():
    failure = only(scene(background=1), scene((0, 0, 80, 0, 120), background=1))
    assert failure.causes == (INCOMPLETE, CUT)
    assert failure.boundary_fraction == 0


@pytest.mark.parametrize(
    ("limit", "value", "cause", "truth", "prediction"),
    [
        ("MISSED_RECALL", -1, MISSED, scene(BIG), scene()),
        ("CONFUSED_FRACTION", 1.1, "confused with bus", scene(BIG), scene((2, *BIG[1:]))),
        ("BOUNDARY_FRACTION", 1.1, BOUNDARY, scene((1, 40, 48, 10, 110)), scene((1, 42, 46, 10, 110))),
        ("FOUND_RECALL", 1.1, BOUNDARY, scene((1, 40, 48, 10, 110)), scene((1, 42, 46, 10, 110))),
        ("SMALL_AREA_FRACTION", 0, SMALL, scene((1, 40, 45, 50, 57)), scene()),
        ("BORDER_FRACTION", 1.1, CUT, scene((1, 30, 50, 110, 120)), scene()),
    ],
)
def test_every_limit_decides_its_cause(monkeypatch, limit, value, cause, truth, prediction):
    assert cause in only(truth, prediction).causes
    monkeypatch.setattr(failures, limit, value)
    assert cause not in only(truth, prediction).causes


def test_frame_has_the_contracts_columns_and_the_summary_counts_regions():
    names = ("ground", "car;s", "bus")
    entries = [("best", "a", one) for one in failing_regions(scene(BIG), scene((2, *BIG[1:])), names)]
    entries += [("best", "b", one) for one in failing_regions(scene((2, *BIG[1:])), scene((1, *BIG[1:])), names)]
    frame = failures_frame(entries, names)
    assert tuple(frame.columns) == COLUMNS
    assert frame["causes"].tolist() == [
        "missed altogether; confused with bus",
        "hallucinated",
        "hallucinated",
        "missed altogether; confused with car,s",
    ]
    assert frame["confused_with"].tolist() == ["bus", "", "", "car;s"]
    summary = cause_summary(frame)
    assert tuple(summary.index) == CAUSES
    assert summary.loc["confused with"].to_dict() == {"car;s": 1, "bus": 1}
    assert summary.loc[HALLUCINATED].to_dict() == {"car;s": 1, "bus": 1}
    assert int(summary.loc[BOUNDARY].sum()) == 0
    assert len(cause_summary(failures_frame([], names)).columns) == 0


def write_masks(folder, masks):
    folder.mkdir()
    for stem, mask in masks.items():
        Image.fromarray(mask).save(folder / f"{stem}.png")


@pytest.fixture
def folders(tmp_path):
    """Truth and predictions with ids of their own: 10, 20, 30, void 0."""
    table = np.zeros(256, np.uint8)
    table[[0, 1, 2]] = 10, 20, 30
    truth = scene(BIG)
    stored = table[truth]
    stored[0, :] = 0
    write_masks(tmp_path / "truth", {"one": stored, "two": table[scene()]})
    write_masks(tmp_path / "model", {"one": table[scene()], "two": table[scene()]})
    classes = [{"id": 10 * (i + 1), "name": name, "color": [i, i, i]} for i, name in enumerate(NAMES)]
    (tmp_path / "classes.json").write_text(json.dumps({"classes": classes, "void": 0}))
    return tmp_path


def arguments(folder, *more):
    return [
        *("--truth", str(folder / "truth"), "--predictions", str(folder / "model")),
        *("--classes", str(folder / "classes.json"), "--out", str(folder / "out"), *more),
    ]


def test_command_line_measures_any_models_masks(folders, capsys):
    assert command.main(arguments(folders)) == 0
    frame = pd.read_csv(folders / "out" / "failures.csv")
    assert frame[["label", "image_id", "class", "causes", "truth_pixels"]].values.tolist() == [
        ["model", "one", "car", "missed altogether", 2000]
    ]
    assert "missed altogether" in capsys.readouterr().out
    assert not (folders / "out" / "pictures").exists()


def test_command_line_draws_failures_where_images_are_given(folders):
    write_masks(folders / "images", {stem: np.zeros((*SHAPE, 3), np.uint8) for stem in ("one", "two")})
    assert command.main(arguments(folders, "--images", str(folders / "images"))) == 0
    assert [path.name for path in (folders / "out" / "pictures").iterdir()] == ["one.png"]


def test_command_line_replaces_what_it_wrote_and_nothing_else(folders):
    write_masks(folders / "images", {stem: np.zeros((*SHAPE, 3), np.uint8) for stem in ("one", "two")})
    own = [folders / "out" / name for name in ("notes.txt", "pictures/mine.png")]
    for path in own:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("mine")
    assert command.main(arguments(folders, "--images", str(folders / "images"))) == 0
    assert (folders / "out" / "pictures" / "one.png").is_file()
    shutil.copy(folders / "truth" / "two.png", folders / "model" / "one.png")
    shutil.copy(folders / "truth" / "one.png", folders / "truth" / "two.png")
    shutil.copy(folders / "model" / "one.png", folders / "truth" / "one.png")
    assert command.main(arguments(folders, "--images", str(folders / "images"))) == 0
    assert sorted(path.name for path in (folders / "out" / "pictures").iterdir()) == ["mine.png", "two.png"]
    assert pd.read_csv(folders / "out" / "failures.csv")["image_id"].tolist() == ["two"]
    assert [path.read_text() for path in own] == ["mine", "mine"]


@pytest.mark.parametrize("taken", ["failures.csv", "causes.csv", "pictures/one.png"])
def test_command_line_refuses_to_overwrite_files_of_the_user(folders, taken, capsys):
    write_masks(folders / "images", {stem: np.zeros((*SHAPE, 3), np.uint8) for stem in ("one", "two")})
    own = folders / "out" / taken
    own.parent.mkdir(parents=True)
    own.write_text("mine")
    assert command.main(arguments(folders, "--images", str(folders / "images"))) == 1
    told = capsys.readouterr().err
    assert f"{own}: there already, and not written by this command" in told
    assert [path for path in (folders / "out").rglob("*") if path.is_file()] == [own]
    assert own.read_text() == "mine"


def test_command_line_does_not_write_through_links(folders, capsys):
    (folders / "elsewhere").mkdir()
    (folders / "elsewhere" / "failures.csv").write_text("mine")
    (folders / "out").mkdir()
    (folders / "out" / "failures.csv").symlink_to(folders / "elsewhere" / "failures.csv")
    assert command.main(arguments(folders)) == 1
    assert "is a symbolic link" in capsys.readouterr().err
    assert (folders / "elsewhere" / "failures.csv").read_text() == "mine"


def test_command_line_says_that_a_folder_cannot_be_made(folders, capsys):
    (folders / "out").write_text("a file")
    assert command.main(arguments(folders)) == 1
    told = capsys.readouterr().err
    assert str(folders / "out") in told and "cannot be read or written" in told and "give --out DIR" in told
    assert (folders / "out").read_text() == "a file"


def test_command_line_holds_the_masks_of_a_few_images_at_a_time(folders, monkeypatch):
    for number in range(40):
        for part in ("truth", "model"):
            shutil.copy(folders / part / "one.png", folders / part / f"more{number}.png")
    alive, most = [], [0]
    read, ids = masks.read_stored_mask, masks.class_ids

    def watched(function):
        def inner(*arguments):
            found = function(*arguments)
            gc.collect()
            alive.append(weakref.ref(found[0] if isinstance(found, tuple) else found))
            most[0] = max(most[0], sum(mask() is not None for mask in alive))
            return found

        return inner

    monkeypatch.setattr(masks, "read_stored_mask", watched(read))
    monkeypatch.setattr(masks, "class_ids", watched(ids))
    assert command.main(arguments(folders)) == 0
    assert len(alive) == (2 + 4) * 42
    assert most[0] <= 4 * (cores() + 1)


def test_command_line_refuses_an_image_of_another_size(folders, capsys):
    write_masks(folders / "images", {stem: np.zeros((5, 6, 3), np.uint8) for stem in ("one", "two")})
    assert command.main(arguments(folders, "--images", str(folders / "images"))) == 1
    assert "image of another size, 2 images: 5x6, its masks 90x120" in capsys.readouterr().err


def test_command_line_lists_every_offender(folders, capsys):
    write_masks(folders / "images", {"one": np.zeros((*SHAPE, 3), np.uint8)})
    Image.fromarray(np.full(SHAPE, 10, np.uint8)).save(folders / "model" / "three.png")
    assert command.main(arguments(folders, "--images", str(folders / "images"))) == 1
    told = capsys.readouterr().err
    assert "truth without image: two" in told
    assert "prediction without truth: three" in told

    (folders / "model" / "three.png").unlink()
    Image.fromarray(np.full((5, 6), 10, np.uint8)).save(folders / "model" / "one.png")
    Image.fromarray(np.full(SHAPE, 77, np.uint8)).save(folders / "model" / "two.png")
    assert command.main(arguments(folders)) == 1
    told = capsys.readouterr().err
    assert "5x6, its truth 90x120" in told
    assert "holds 77 (" in told

    write_masks(folders / "void", {"one": np.zeros(SHAPE, np.uint8), "two": np.full(SHAPE, 10, np.uint8)})
    assert command.main([*arguments(folders), "--predictions", str(folders / "void")]) == 1
    assert "void in a prediction: " in capsys.readouterr().err


def test_command_line_refuses_folders_and_limits_that_make_no_sense(folders, capsys):
    assert command.main([*arguments(folders), "--predictions", str(folders / "nowhere")]) == 2
    assert "no such folder" in capsys.readouterr().err
    with pytest.raises(SystemExit) as stopped:
        command.main(arguments(folders, "--iou", "1.5"))
    assert stopped.value.code == 2


def test_the_documentation_prints_every_limit_with_its_reason():
    text = (Path(__file__).resolve().parents[3] / "docs" / "METRICS.md").read_text(encoding="utf-8")
    table = dict(re.findall(r"^\| ([A-Z_]+) \| (\S+) \| \S.* \|$", text, re.MULTILINE))
    limits = {
        name: value
        for module in (failures, overlaps, kinds, reasons, class_frequency, slices, label_errors)
        for name, value in vars(module).items()
        if name.isupper() and name[0] != "_" and type(value) in (int, float)
    }
    others = {"NAMED", "CONNECTIVITY", "RIGHT", "RESAMPLES", "BINS", "SIZES"}
    told = {name: float(Fraction(value)) for name, value in table.items()}
    assert told == pytest.approx({name: value for name, value in limits.items() if name not in others}, rel=1e-5)
    assert all(f"| `{cause}" in text for cause in CAUSES)
