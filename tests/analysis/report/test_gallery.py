"""Failure pictures: the worst ones, each once; and predictions that compare with the data set's own masks."""

from __future__ import annotations

import base64
import io
import json
import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from urllib.parse import unquote

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from analysis import pictures
from analysis.failures import __main__ as command
from analysis.report import __main__ as report
from analysis.report import gallery
from analysis.report.changed import changed_rows, factor_groups, first_images
from analysis.report.gallery import build_gallery
from analysis.report.page import SECTIONS, Material
from analysis.report.predictions import are_outdated, save_predictions
from trainables.data.bands import Bands
from trainables.data.base import DATASETS, VOID, file_ids
from trainables.errors import DataError
from trainables.paths import LIST_FILE

from ...copies import copy_run
from ..small_run import COUNTS, make_data, make_run
from ..synthetic_run import make_results


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Results whose labels `best` and `geometric` are one trial, and their data."""
    return make_results(tmp_path_factory.mktemp("made") / "run", images=8)


def pictures_in(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*.png")}


def worst_of(results, rows):
    """Lowest IoU, then most wrong pixels, of each (image, trial), worst first."""
    ranks: dict[tuple[str, str], tuple[float, int]] = {}
    for row in rows:
        key = (row["image"], results.labels[row["label"]].trial_id)
        ranks[key] = min(ranks.get(key, (2.0, 0)), (row["iou"], -row["wrong"]))
    return sorted(ranks, key=lambda key: ranks[key])


@pytest.mark.parametrize("limit", [0, 1, 5, 1000])
def test_at_most_so_many_pictures_are_drawn_and_they_are_the_worst(made, tmp_path, limit):
    results, data = made
    built = build_gallery(results, data, tmp_path, limit=limit)
    order = worst_of(results, built.rows)
    assert built.failing == len(order) > 5
    assert built.files == min(limit, len(order)) == len(pictures_in(tmp_path / "failures"))
    expected = set(order[:limit])
    for row in built.rows:
        chosen = (row["image"], row["trial"]) in expected
        assert bool(row["picture"]) == bool(row["map"]) == chosen
        assert not chosen or (tmp_path / unquote(row["picture"])).is_file()
    changed = first_images(built.changes, limit)
    assert len(changed) == min(limit, len({row["image"] for row in built.changes}))
    assert set(built.images) == {image_id for image_id, _ in expected} | set(changed)
    pair = {results.labels[label].trial_id for label in ("baseline", "best")}
    assert all(f"{trial}/{image_id}" in built.predictions for image_id in changed for trial in pair)
    assert len(built.rows) == len(results.failures)


def test_changes_are_the_rows_of_the_table_the_largest_of_each_kind_first(made):
    results, _ = made
    rows = changed_rows(results)
    table = results.component_changes
    assert len(rows) == len(table) > 10
    kinds = [row["kinds"][0] for row in rows]
    assert kinds == sorted(kinds, key=["cured", "new", "shared"].index) and len(set(kinds)) == 3
    for kind in set(kinds):
        own = [row["pixels"] for row in rows if row["kinds"] == [kind]]
        assert own == sorted(table.loc[table["change"] == kind, "pixels"], reverse=True)
    found = {(row["image"], *row["box"], row["class"]) for row in rows}
    assert found == set(table[["image_id", "top", "left", "bottom", "right", "class"]].itertuples(index=False))
    largest = [next(row["image"] for row in rows if row["kinds"] == [kind]) for kind in ("cured", "new", "shared")]
    assert first_images(rows, 2) == list(dict.fromkeys(largest))[:2]


def test_components_are_grouped_by_the_fifths_of_the_curves(tmp_path):
    results, _ = make_results(tmp_path / "run", images=24)
    rows, groups = changed_rows(results), factor_groups(results)
    assert {group["title"].removesuffix(" (a reason)") for group in groups} >= {"size", "light", "off centre"}
    (size,) = (group for group in groups if group["title"].startswith("size"))
    curve = results.factor_curves
    curve = curve[(curve["factor"] == "size") & (curve["label"] == "best")]
    assert len(size["fifths"]) == len(curve) == 5
    assert size["fifths"][0].endswith(", small") and size["fifths"][-1].endswith(", large")
    values = results.component_changes.set_index(["image_id", "top", "left", "class"])["size"]
    ends = list(curve[["low", "high"]].itertuples(index=False))
    for row in rows:
        low, high = ends[row["fifths"][size["place"]]]
        assert low <= values[row["image"], row["box"][0], row["box"][1], row["class"]] <= high


def test_the_edges_of_the_truth_lie_between_its_classes():
    mask = np.zeros((4, 6), np.uint8)
    mask[:, 3:] = 1
    lines = Image.open(io.BytesIO(base64.b64decode(pictures.outlines_uri(mask).split(",")[1])))
    factor = pictures.THUMBNAIL // 6
    assert lines.size == (6 * factor, 4 * factor)
    shown = np.asarray(lines.convert("RGBA"))
    assert np.flatnonzero(shown[0, :, 3]).tolist() == [3 * factor - 1, 3 * factor]
    assert shown[0, 3 * factor - 1, :3].tolist() == [255] * 3 and shown[0, 3 * factor, :3].tolist() == [0] * 3


def test_labels_of_one_trial_share_one_file(made, tmp_path):
    results, data = made
    assert results.labels["best"].trial_id == results.labels["geometric"].trial_id
    built = build_gallery(results, data, tmp_path)
    places = {(row["label"], row["image"]): row["picture"] for row in built.rows}
    twins = [image_id for label, image_id in places if label == "geometric"]
    assert twins
    for image_id in twins:
        assert places["geometric", image_id] == places["best", image_id] == f"failures/best/{image_id}.png"
    assert not (tmp_path / "failures" / "geometric").exists()
    assert len(pictures_in(tmp_path / "failures")) == built.files == len(set(places.values()))


def test_the_page_says_how_many_of_how_many_are_pictured(made, tmp_path):
    results, data = made
    few = build_gallery(results, data, tmp_path, limit=3)
    text = SECTIONS.get("failures")(Material(results, {}, few)).html
    assert f"3 of {few.failing} pictures were drawn" in text
    assert "--pictures N" in text
    every = build_gallery(results, data, tmp_path)
    assert "pictures were drawn" not in SECTIONS.get("failures")(Material(results, {}, every)).html


def test_the_page_says_which_bands_its_pictures_show(made, tmp_path):
    results, data = made
    banded = SimpleNamespace(picture=data.picture, mask=data.mask, bands=Bands((4, 3, 2), 8, colours=(4, 3, 2)))
    texts = [
        SECTIONS.get("failures")(Material(results, {}, build_gallery(results, one, tmp_path / name, limit=1))).html
        for name, one in (("bands", banded), ("rgb", data))
    ]
    told = "Images of bands 4,3,2 of 8; pictures show bands 4,3,2 as RGB, each stretched from percentile 2 to 98"
    assert [told in text for text in texts] == [True, False]
    assert "pictures show" not in texts[1]


def test_progress_counts_pictures(made, tmp_path):
    results, data = made
    told: list[tuple[int, int]] = []
    build_gallery(results, data, tmp_path, limit=7, advance=lambda done, total: told.append((done, total)))
    assert told[-1] == (7, 7)
    assert [done for done, _ in told] == sorted(done for done, _ in told)


def test_own_files_beside_pictures_and_predictions_stay(made, tmp_path):
    results, data = made
    own = [
        tmp_path / place
        for place in (
            "failures/notes.txt",
            "failures/best/mine.png",
            "failures/mine/a.png",
            "predictions/best/mine.png",
        )
    ]
    for path in own:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("mine")
    for limit in (1000, 2):
        build_gallery(results, data, tmp_path, limit=limit)
        save_predictions(results, data, tmp_path)
    assert [path.read_text() for path in own] == ["mine"] * len(own)
    assert len(pictures_in(tmp_path / "failures")) == 2 + 2
    fewer = replace(results, labels={"best": results.labels["best"]})
    save_predictions(fewer, data, tmp_path)
    assert [path.name for path in (tmp_path / "predictions").iterdir() if path.is_dir()] == ["best"]


@pytest.mark.parametrize("write", [build_gallery, save_predictions])
def test_a_file_of_somebody_else_is_not_overwritten(made, tmp_path, write):
    results, data = made
    folder = "failures" if write is build_gallery else "predictions"
    own = tmp_path / folder / "best" / f"{data.ids()[0]}.png"
    own.parent.mkdir(parents=True)
    own.write_text("mine")
    with pytest.raises(DataError, match=f"{data.ids()[0]}.png: there already"):
        write(results, data, tmp_path)
    assert own.read_text() == "mine"
    own.unlink()
    write(results, data, tmp_path)
    assert own.is_file()


def test_what_a_killed_report_left_is_known_as_ours(made, tmp_path, monkeypatch):
    results, data = made

    def killed(*_, **__):
        raise KeyboardInterrupt

    drawn = []
    save = gallery.pictures.save_picture
    monkeypatch.setattr(
        gallery.pictures, "save_picture", lambda *a: killed() if len(drawn) >= 3 else drawn.append(save(*a))
    )
    with pytest.raises(KeyboardInterrupt):
        build_gallery(results, data, tmp_path)
    assert len(pictures_in(tmp_path / "failures")) >= 3
    monkeypatch.setattr(gallery.pictures, "save_picture", save)
    build_gallery(results, data, tmp_path, limit=1)
    assert len(pictures_in(tmp_path / "failures")) == 1


def test_unsafe_names_are_found_by_the_list_of_names(tmp_path):
    results, data = make_results(tmp_path / "run", images=6, hostile=True)
    assert save_predictions(results, data, tmp_path) == 6 * len(results.labels)
    table = pd.read_csv(tmp_path / "predictions" / "names.csv", keep_default_na=False)
    assert table.columns.tolist() == ["label", "image_id", "file", "trial_id"]
    assert set(zip(table["label"], table["image_id"], strict=True)) == {
        (label, image_id) for label in results.labels for image_id in data.ids()
    }
    assert set(table["file"]) == pictures_in(tmp_path / "predictions")
    for label, image_id, file, trial_id in table.itertuples(index=False):
        assert trial_id == results.labels[label].trial_id
        expected = results.evaluations[trial_id].prediction(image_id)
        np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "predictions" / file)), expected)


def with_ids_from_one(root: Path) -> None:
    """Rewrites a data set of `make_data`: ids 1..3 instead of 0..2, void 0 instead of 255."""
    for path in (root / "masks").iterdir():
        mask = np.asarray(Image.open(path))
        Image.fromarray(np.where(mask == VOID, 0, mask + 1).astype(np.uint8)).save(path)
    description = json.loads((root / "classes.json").read_text())
    for entry in description["classes"]:
        entry["id"] += 1
    (root / "classes.json").write_text(json.dumps({**description, "void": 0}))


@pytest.fixture(scope="module")
def shifted(tmp_path_factory):
    """A reported run on a data set whose masks hold 1..3, and 0 for void."""
    with pytest.MonkeyPatch.context() as patch:
        root = tmp_path_factory.mktemp("shifted")
        patch.setenv("SEGSWEEP_CACHE", str(root / "cache"))
        make_data(root / "data")
        with_ids_from_one(root / "data")
        data = DATASETS.get("folder")(root=root / "data")
        run_dir = make_run(root / "runs" / "demo", data)
        assert report.main([str(run_dir), "--save-predictions"]) == 0
        yield data, run_dir


@pytest.mark.parametrize("label", ["baseline", "best", "flip"])
def test_saved_predictions_give_our_own_command_exactly_the_failures_of_the_report(shifted, tmp_path, label):
    data, run_dir = shifted
    ids = json.loads((run_dir / "splits.test.json").read_text())["test"]["ids"]
    for part in ("images", "masks"):
        (tmp_path / part).mkdir()
        for image_id in ids:
            shutil.copy(data.root / part / f"{image_id}.png", tmp_path / part)
    arguments = ["--truth", tmp_path / "masks", "--predictions", run_dir / "report" / "predictions" / label]
    arguments += ["--classes", data.root / "classes.json", "--out", tmp_path / "out"]
    assert command.main([str(argument) for argument in arguments]) == 0
    told = pd.read_csv(run_dir / "report" / "tables" / "failures.csv")
    told = told[told["label"] == label].sort_values(["image_id", "class"]).reset_index(drop=True)
    found = pd.read_csv(tmp_path / "out" / "failures.csv").sort_values(["image_id", "class"]).reset_index(drop=True)
    assert len(found) > 5
    pd.testing.assert_frame_equal(found, told, check_exact=True)


def test_saved_predictions_hold_the_data_sets_ids_in_the_classes_colours(shifted):
    data, run_dir = shifted
    saved = Image.open(run_dir / "report" / "predictions" / "best" / "test00.png")
    values = np.asarray(saved)
    assert saved.mode == "P"
    assert values.shape == data.mask("test00").shape
    assert set(np.unique(values)) <= {1, 2, 3}
    shown = np.asarray(saved.convert("RGB"))
    for value in np.unique(values):
        assert tuple(shown[values == value][0]) == data.classes[value - 1].color


def test_positions_are_written_on_request(shifted, tmp_path):
    _, made_run = shifted
    run_dir = tmp_path / "runs" / "demo"
    copy_run(made_run, run_dir)
    ids = {path.name: np.asarray(Image.open(path)) for path in (run_dir / "report/predictions/best").iterdir()}
    assert report.main([str(run_dir), "--save-predictions", "positions"]) == 0
    for name, values in ids.items():
        positions = np.asarray(Image.open(run_dir / "report/predictions/best" / name))
        np.testing.assert_array_equal(positions + 1, values)
    assert len(ids) == COUNTS["test"]


def test_the_smallest_id_of_a_class_is_the_one_that_is_written(made):
    _, data = made

    class Cities(type(data)):
        def stored_ids(self):
            return {40: 1, 7: 0, 8: VOID, 3: 1, 5: 2, 0: VOID, **{30 + index: index for index in range(3, 8)}}

    assert file_ids(Cities(data.ids(), data.classes)) == [7, 3, 5, 33, 34, 35, 36, 37]

    class Wide(type(data)):
        def stored_ids(self):
            return {70000 + index: index for index in range(len(self.classes))}

    assert file_ids(Wide(data.ids(), data.classes)) == list(range(8)), "no PNG holds them"


def test_an_old_reports_leftovers_go_with_the_first_new_one(shifted, tmp_path):
    """Twins had a picture each, and predictions no list; own files among them stay."""
    _, made_run = shifted
    run_dir = tmp_path / "runs" / "demo"
    copy_run(made_run, run_dir)
    folder = run_dir / "report"
    for name in ("failures", "predictions"):
        (folder / name / LIST_FILE).unlink()
        (folder / name / "best").mkdir(exist_ok=True)
        (folder / name / "best" / "mine.png").write_text("mine")
    (folder / "predictions" / "names.csv").unlink()
    old = pd.read_csv(folder / "tables" / "failures.csv")
    for label, image_id in zip(old["label"], old["image_id"], strict=True):
        (folder / "failures" / label).mkdir(exist_ok=True)
        (folder / "failures" / label / f"{image_id}.png").write_text("old")
    (folder / "predictions" / "flip" / "val01.png").write_text("old, of val")
    assert report.main([str(run_dir), "--pictures", "1", "--save-predictions"]) == 0
    assert len(pictures_in(folder / "failures") - {"best/mine.png"}) == 1
    saved = pictures_in(folder / "predictions")
    assert "flip/val01.png" not in saved
    assert len(saved) == 3 * COUNTS["test"] + 1
    for name in ("failures", "predictions"):
        assert (folder / name / "best" / "mine.png").read_text() == "mine"


def test_saved_predictions_stay_while_they_are_of_the_same_checkpoints_and_images(made, tmp_path):
    results, data = made
    assert are_outdated(results, tmp_path), "nothing is saved yet"
    save_predictions(results, data, tmp_path)
    assert not are_outdated(results, tmp_path)
    records = {**results.labels, "best": SimpleNamespace(**vars(results.labels["best"]) | {"trial_id": "9999"})}
    assert are_outdated(replace(results, labels=records), tmp_path)
    elsewhere = {key: replace_images(one) for key, one in results.evaluations.items()}
    assert are_outdated(replace(results, evaluations=elsewhere), tmp_path)


def replace_images(evaluation):
    return SimpleNamespace(image_ids=[f"other-{image_id}" for image_id in evaluation.image_ids])


def test_no_pictures_at_all(shifted, tmp_path):
    _, made_run = shifted
    run_dir = tmp_path / "runs" / "demo"
    copy_run(made_run, run_dir)
    assert report.main([str(run_dir), "--pictures", "0"]) == 0
    assert pictures_in(run_dir / "report" / "failures") == set()
    whole = pd.read_csv(made_run / "report" / "tables" / "failures.csv")
    pd.testing.assert_frame_equal(pd.read_csv(run_dir / "report" / "tables" / "failures.csv"), whole)
    assert "0 of " in (run_dir / "report" / "report.html").read_text()
