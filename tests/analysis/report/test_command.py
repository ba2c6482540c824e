import base64
import hashlib
import json
import math
import re
from collections.abc import Iterator
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from analysis.dead import Dead
from analysis.report.__main__ import answer_lines, main
from analysis.report.drawing import FIGURES
from analysis.report.gallery import build_gallery
from analysis.report.page import SECTIONS, Material
from analysis.report.sections.answer import caveats, lead_claims
from analysis.report.writing import Report, write_report
from trainables import commands
from trainables.data.splits.openings import OPENINGS_FILE
from trainables.paths import LIST_FILE, UnsafePathError

from ..small_run import make_data, make_run
from ..synthetic_run import make_results

HTML_TABLES = {
    "comparison": ("comparison", "comparison_labels"),
    "standings": ("standings", "standings_winner"),
    "per_class": ("per_class",),
    "iou_thresholds": ("iou_thresholds",),
    "error_types": ("error_types",),
    "trials": ("trials",),
    "cost": ("cost",),
}


class Page(HTMLParser):
    """Tables as lists of {column: (text, data attributes)}, the gallery's JSON, and every start tag."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tables: dict[str, list[dict[str, tuple[str, dict[str, str]]]]] = {}
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: list[tuple[dict[str, str | None], str]] = []
        self._table, self._columns, self._row, self._inside = "", [], {}, ""
        self.feed(text)

    def handle_starttag(self, tag, attrs) -> None:
        found = dict(attrs)
        self.tags.append((tag, found))
        if tag == "table":
            self._table, self._columns = found.get("data-table", ""), []
            self.tables[self._table] = []
        elif tag == "th" and "data-column" in found:
            self._columns.append(found["data-column"])
        elif tag == "tr":
            self._row = {}
        elif tag == "td" and self._columns:
            self._row[self._columns[len(self._row)]] = ("", found)
        elif tag == "script":
            self.scripts.append((found, ""))
        self._inside = tag

    def handle_endtag(self, tag) -> None:
        if tag == "tr" and self._row:
            self.tables[self._table].append(self._row)
        self._inside = ""

    def handle_data(self, data) -> None:
        if self._inside == "td" and self._row:
            column = list(self._row)[-1]
            self._row[column] = (self._row[column][0] + data, self._row[column][1])
        elif self._inside == "script":
            self.scripts[-1] = (self.scripts[-1][0], self.scripts[-1][1] + data)

    @property
    def gallery(self) -> dict:
        return json.loads(next(text for attrs, text in self.scripts if attrs.get("id") == "gallery-data"))


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Report:
    results, data = make_results(tmp_path_factory.mktemp("runs") / "run", hostile=True)
    return write_report(results, data, predictions="positions")


@pytest.fixture(scope="module")
def page(hostile: Report) -> Page:
    return Page(hostile.path.read_text(encoding="utf-8"))


@pytest.mark.parametrize("name", HTML_TABLES)
def test_page_and_csv_hold_the_same_numbers(hostile: Report, page: Page, name: str) -> None:
    csv = pd.read_csv(hostile.path.parent / "tables" / f"{name}.csv", dtype={"trial_id": str, "parent": str})
    csv = csv.where(csv.notna(), None)
    seen: set[str] = set()
    for part in HTML_TABLES[name]:
        rows = page.tables[part]
        assert len(rows) == len(csv)
        for shown, (_, stored) in zip(rows, csv.iterrows(), strict=True):
            for column, (text, data) in shown.items():
                seen.add(column)
                value = stored[column]
                if "data-value" in data and "data-low" in data:
                    seen |= {f"{column}_low", f"{column}_high"}
                    assert float(data["data-low"]) == stored[f"{column}_low"]
                    assert float(data["data-high"]) == stored[f"{column}_high"]
                if "data-value" in data:
                    assert float(data["data-value"]) == float(value)
                    assert float(text) == pytest.approx(float(value), rel=6e-4, abs=6e-5)
                else:
                    assert text == ("" if value is None or value != value else " ".join(str(value).split()))
    bounds = {column for column in csv.columns if column.endswith(("_low", "_high")) and csv[column].isna().all()}
    assert seen | bounds == set(csv.columns)


def test_gallery_holds_exactly_the_rows_of_the_failure_table(hostile: Report, page: Page) -> None:
    csv = pd.read_csv(hostile.path.parent / "tables" / "failures.csv")
    rows = page.gallery["rows"]
    assert [(r["label"], r["image"], r["class"], "; ".join(r["causes"])) for r in rows] == list(
        csv[["label", "image_id", "class", "causes"]].itertuples(index=False, name=None)
    )
    np.testing.assert_array_equal([r["iou"] for r in rows], csv["iou"])


def test_gallery_counts_wrong_pixels_as_a_loop_does(hostile: Report, page: Page) -> None:
    results = hostile.results
    names = [info.name for info in results.classes]
    for row in page.gallery["rows"][:40]:
        evaluation = results.evaluations[results.labels[row["label"]].trial_id]
        matrix = evaluation.confusions[evaluation.image_ids.index(row["image"])]
        class_id = names.index(row["class"])
        assert row["wrong"] == matrix[class_id].sum() + matrix[:, class_id].sum() - 2 * matrix[class_id, class_id]


def test_every_failure_has_its_picture_inside_the_report_folder(hostile: Report, page: Page) -> None:
    folder = (hostile.path.parent / "failures").resolve()
    pictures = {(hostile.path.parent / row["picture"]).resolve() for row in page.gallery["rows"]}
    assert all(path.is_file() and path.is_relative_to(folder) for path in pictures)
    assert {path.resolve() for path in folder.rglob("*.png")} == pictures
    assert hostile.gallery.files == len(pictures)


def test_nothing_is_written_outside_the_run(hostile: Report) -> None:
    runs = hostile.results.run_dir.parent
    assert [path.name for path in runs.iterdir()] == ["run"]
    assert sorted(path.name for path in (runs / "run" / "report").iterdir()) == [
        LIST_FILE,
        "failures",
        "figures",
        "methods.txt",
        "predictions",
        "report.html",
        "tables",
    ]


def test_page_refers_to_nothing_outside_itself(page: Page) -> None:
    for tag, attrs in page.tags:
        for name in ("src", "href", "xlink:href", "action", "data", "poster"):
            value = attrs.get(name)
            if value is not None:
                assert value.startswith(("#", "data:")), (tag, name, value)
        assert not any(name.startswith("on") for name in attrs)


def test_policy_admits_the_pages_own_script_and_no_other(hostile: Report, page: Page) -> None:
    policy = next(
        a["content"] for tag, a in page.tags if tag == "meta" and a.get("http-equiv") == "Content-Security-Policy"
    )
    code = [text for attrs, text in page.scripts if attrs.get("type") != "application/json"]
    assert len(code) == 1
    digest = base64.b64encode(hashlib.sha256(code[0].encode()).digest()).decode()
    rules = dict(rule.strip().split(" ", 1) for rule in policy.split(";"))
    assert rules["default-src"] == "'none'"
    assert rules["script-src"] == f"'sha256-{digest}'"
    assert rules["img-src"] == "data:"


def test_hostile_names_are_text_everywhere(hostile: Report, page: Page) -> None:
    assert [tag for tag, _ in page.tags].count("script") == 2
    text = hostile.path.read_text(encoding="utf-8")
    assert "<script>alert" not in text and "<b>tryout" not in text and "<b>bold" not in text
    assert "augment &lt;b&gt;tryout&lt;/b&gt;" in text


def test_saved_predictions_are_the_evaluated_masks(hostile: Report) -> None:
    results = hostile.results
    folder = hostile.path.parent / "predictions"
    files = list(folder.rglob("*.png"))
    assert len(files) == hostile.predictions == sum(len(e.image_ids) for e in results.evaluations.values()) + 6
    evaluation = results.evaluations[results.labels["photometric"].trial_id]
    np.testing.assert_array_equal(
        np.asarray(Image.open(folder / "photometric" / "plain.png")), evaluation.prediction("plain")
    )


def test_pictures_beyond_the_budget_are_linked_and_counted(tmp_path: Path) -> None:
    results, data = make_results(tmp_path / "run", images=6)
    whole = build_gallery(results, data, tmp_path / "run" / "report")
    assert whole.embedded == len(whole.rows)
    used = sum(len(uri) for parts in whole.images.values() for uri in parts.values())
    gallery = build_gallery(results, data, tmp_path / "run" / "report", budget=used)
    assert 0 < gallery.embedded < len(gallery.rows)
    assert gallery.files == whole.files
    held = sum(len(uri) for parts in gallery.images.values() for uri in parts.values())
    held += sum(map(len, gallery.predictions.values())) + sum(map(len, gallery.maps.values()))
    assert held <= used
    text = SECTIONS.get("failures")(Material(results, {}, gallery)).html
    assert f"{gallery.embedded} of {len(gallery.rows)} failures have their pictures in this file" in text


def test_pictures_of_an_earlier_report_do_not_linger(tmp_path: Path) -> None:
    results, data = make_results(tmp_path / "run", images=2)
    build_gallery(results, data, tmp_path)
    build_gallery(replace(results, failures=results.failures.iloc[:1]), data, tmp_path)
    assert len(list((tmp_path / "failures").rglob("*.png"))) == 1


def test_a_run_without_failures_says_so(tmp_path: Path) -> None:
    results, data = make_results(tmp_path / "run", images=2)
    spotless = replace(
        results, failures=results.failures.iloc[:0], component_changes=results.component_changes.iloc[:0]
    )
    gallery = build_gallery(spotless, data, tmp_path)
    assert "No region of test fell" in SECTIONS.get("failures")(Material(spotless, {}, gallery)).html


def test_the_terminal_says_what_the_page_says(hostile: Report) -> None:
    results = hostile.results
    lines = answer_lines(hostile)
    told = [claim.text.striptags() for claim in (*lead_claims(results), *caveats(results))]
    assert lines[:2] == [f"answer    {told[0]}", f"          {told[1]}"]
    assert [line.split()[0] for line in lines[2:]] == ["best", "baseline", "test", "report", "next"]
    row = results.comparison.set_index("label").loc["best"]
    assert f"mIoU {row['iou']:.3f} [{row['iou_low']:.3f}, {row['iou_high']:.3f}] on test" in lines[2]
    assert "opened 2 times" in lines[4]
    assert hostile.path.resolve().as_uri() in lines[5]
    assert commands.report(results.run_dir, "--save-predictions") in lines[6]
    assert commands.extend(results.run_dir, 12) in answer_lines(hostile, save_asked=True)[6]


def test_the_terminal_survives_missing_intervals_and_labels(hostile: Report) -> None:
    results = hostile.results
    lost = results.comparison.assign(iou_low=math.nan, iou_high=math.nan)
    lost_answer = replace(results.answer, low=math.nan, high=math.nan, why_none="40 images are too few")
    lines = answer_lines(replace(hostile, results=replace(results, comparison=lost, answer=lost_answer)))
    assert "nan" not in "".join(lines) and "the difference has no interval: 40 images are too few." in lines[0]
    only = {label: record for label, record in results.labels.items() if label != "best"}
    lines = answer_lines(replace(hostile, results=replace(results, labels=only, answer=None)))
    assert [line.split()[0] for line in lines] == ["answer", "baseline", "test", "report", "next"]


def test_dead_labels_are_the_terminals_first_line(hostile: Report) -> None:
    some = replace(hostile.results, dead={"photometric": Dead(3, 0.06, 0.061)})
    lines = answer_lines(replace(hostile, results=some))
    assert lines[0] == "answer    photometric is dead: it predicts \u201ctree\u201d everywhere on test."
    assert lines[1].startswith("          On these")
    everyone = replace(hostile.results, dead=dict.fromkeys(hostile.results.labels, Dead(3, 0.06, 0.061)))
    lines = answer_lines(replace(hostile, results=everyone))
    assert (
        "are dead: they predict" in lines[0]
        and lines[1] == "          No label learnt anything, so nothing is compared."
    )
    assert commands.check_data("synthetic") in lines[-1]


def test_names_do_not_move_the_terminals_cursor(hostile: Report) -> None:
    results = hostile.results
    named = replace(results.classes[0], name="sky\x1b[2J\nhidden")
    told = replace(results, classes=(named, *results.classes[1:]), dead={"photometric": Dead(0, 0.06, 0.061)})
    assert all(line.isprintable() for line in answer_lines(replace(hostile, results=told)))


@pytest.mark.parametrize("key", ["val/f1", "val/pixel_accuracy"])
def test_the_terminal_speaks_of_the_objective(hostile: Report, key: str) -> None:
    results = hostile.results
    ranked = replace(results, manifest=replace(results.manifest, objective=key))
    ranked = replace(ranked, answer=replace(results.answer, objective=ranked.objective))
    lines = answer_lines(replace(hostile, results=ranked))
    row = results.comparison.set_index("label").loc["best"]
    column = ranked.objective.metric.name
    assert f"{ranked.objective.metric.words} {row[column]:.3f} [{row[f'{column}_low']:.3f}, " in lines[2]
    assert "mIoU" not in " ".join(lines)


def test_a_page_on_val_calls_nobody_better_and_stays_beside_that_on_test(tmp_path: Path) -> None:
    results, data = make_results(tmp_path / "run", images=3)
    lost = {"low": math.nan, "high": math.nan}
    val = replace(
        results,
        split="val",
        answer=replace(results.answer, chosen_here=True, **lost),
        above_floor=replace(results.above_floor, **lost),
    )
    report = write_report(val, data)
    text = re.sub(r"<(script|style)\b.*?</\1>", "", report.path.read_text(encoding="utf-8"), flags=re.DOTALL)
    for told in (text, *answer_lines(report)):
        assert not re.search(r"\b(better|worse|distinguish\w*)\b", told)
        assert "[+" not in told and "[-" not in told
    folder = tmp_path / "run" / "report"
    assert report.path == folder / "val" / "report.html" and [path.name for path in folder.iterdir()] == ["val"]
    kept = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    assert write_report(results, data).path == folder / "report.html"
    assert {path: path.read_bytes() for path in (folder / "val").rglob("*") if path.is_file()} == kept


def test_parts_that_raise_are_cards_and_cost_the_exit_code(tmp_path: Path, monkeypatch, capsys) -> None:
    run = make_run(tmp_path / "runs" / "demo", make_data(tmp_path / "data"))

    def raises(*_):
        raise RuntimeError("nothing to draw <b>with</b>")

    with monkeypatch.context() as patch:
        patch.setitem(FIGURES._entries, "broken", raises)
        patch.setitem(FIGURES._entries, "per_class", raises)
        patch.setitem(SECTIONS._entries, "thresholds", raises)
        patch.setattr("analysis.report.tables.to_latex", raises)
        assert main([str(run), "--split", "val"]) == 1
    told = capsys.readouterr()
    assert "baseline  mIoU" in told.out and "Traceback" not in told.out + told.err
    for part in ("figure broken", "figure per_class", "section thresholds", "table cost"):
        assert f"error: could not be made: {part}: RuntimeError: nothing to draw" in told.err
    folder = run / "report" / "val"
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert page.count("Could not be made: ") == 2
    assert "Not everything could be made" in page and "table cost: RuntimeError" in page
    assert "<b>with</b>" not in page
    assert 'id="thresholds"' in page and 'data-table="comparison"' in page and 'data-figure="confusion"' in page
    assert (folder / "report.log").read_text().count("nothing to draw") >= 9
    assert main([str(run), "--split", "val"]) == 0
    assert not (folder / "report.log").exists()
    assert "Could not be made" not in (folder / "report.html").read_text(encoding="utf-8")


def test_planted_links_are_replaced_and_not_followed(tmp_path: Path) -> None:
    results, data = make_results(tmp_path / "run", images=2)
    folder = tmp_path / "run" / "report"
    written = ["tables/comparison.csv", "figures/causes.svg", "figures/causes.png", "report.html", "report.log"]
    for place, name in enumerate(written):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / f"mine{place}").write_text("mine")
        (folder / name).symlink_to(tmp_path / f"mine{place}")
    write_report(results, data)
    assert {(tmp_path / f"mine{place}").read_text() for place in range(len(written))} == {"mine"}
    assert not any((folder / name).is_symlink() for name in written)


@pytest.mark.parametrize("name", ["report", "report/tables", "report/figures"])
def test_a_folder_that_is_a_link_is_refused(tmp_path: Path, name: str) -> None:
    results, data = make_results(tmp_path / "run", images=2)
    (tmp_path / "run" / name).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "run" / name).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(UnsafePathError, match="symbolic link"):
        write_report(results, data)
    assert list((tmp_path / "elsewhere").iterdir()) == []


def test_interrupting_says_the_command_that_goes_on(tmp_path: Path, monkeypatch, capsys) -> None:
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("analysis.report.__main__._run", interrupted)
    assert main([str(tmp_path / "a b"), "--top", "1"]) == 130
    assert commands.report(tmp_path / "a b", "--top", "1") in capsys.readouterr().err


def test_a_folder_that_is_no_run_is_one_message_and_exit_code_1(tmp_path: Path, capsys) -> None:
    assert main([str(tmp_path / "nothing")]) == 1
    error = capsys.readouterr().err
    assert error.startswith("error: ") and "is not a run folder" in error and "Traceback" not in error


@pytest.mark.parametrize(
    "flag", [["--split", "train"], ["--iou", "1.5"], ["--iou", "x"], ["--top", "-1"], ["--tpo", "1"]]
)
def test_bad_usage_is_exit_code_2(tmp_path: Path, capsys, flag: list[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main([str(tmp_path), *flag])
    assert stop.value.code == 2
    assert flag[0] in capsys.readouterr().err


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """Tiny models train many times faster on one thread than on threads that wait for each other."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def real_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("real")
    return make_run(folder / "runs" / "demo", make_data(folder / "data"))


def test_the_command_evaluates_reports_and_opens_test_once(real_run: Path, capsys) -> None:
    assert main([str(real_run), "--top", "1", "--save-predictions"]) == 0
    told = capsys.readouterr().out
    assert "baseline  mIoU" in told and "report.html" in told
    assert "are dead" in told and "these two checkpoints" not in told, "nothing is compared with what learnt nothing"
    folder = real_run / "report"
    labels = pd.read_csv(folder / "tables" / "comparison.csv")["label"].tolist()
    assert labels == ["baseline", "best", "flip", "trial-0002", "majority"]
    saved = [path.name for path in (folder / "predictions").iterdir() if path.is_dir()]
    assert sorted(saved) == sorted(labels[:-1])
    assert main([str(real_run), "--top", "1"]) == 0
    assert "opened once so far" in capsys.readouterr().out
    assert len((real_run.parent / OPENINGS_FILE).read_text().splitlines()) == 1


def test_a_report_on_val_opens_nothing(tmp_path: Path, capsys) -> None:
    run = make_run(tmp_path / "runs" / "demo", make_data(tmp_path / "data"))
    assert main([str(run), "--split", "val"]) == 0
    told = capsys.readouterr().out
    assert "on val" in told and "opened 0 times" in told and "opens the test split" in told
    assert "baseline is dead" in told and "shows nothing, so none is made" in told
    assert not re.search(r"\b(better|worse|distinguish\w*|difference)\b", told)
    assert not (run.parent / OPENINGS_FILE).exists()
    assert re.search(r"too few[^<]*", (run / "report" / "val" / "report.html").read_text(encoding="utf-8"))
