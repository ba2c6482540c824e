"""Several objectives in a report: the Pareto set that val chose, on the split that is looked at."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from analysis.report.page import Material, build_sections
from analysis.report.parts import Parts
from analysis.report.sections.answer import lead_claims, trade_off_claim
from analysis.report.sections.run import run_facts
from analysis.report.sections.trade_off import draw_trade_off
from analysis.report.tables import readable
from analysis.results import build_results
from sweep.journal import Journal
from sweep.latencies import MeasuredLatency, settings_of
from sweep.manifest import ObjectiveRecord, SweepManifest
from sweep.pareto import Point, TradeOff
from trainables.checkpoint import publish

from .small_run import make_data, make_record, make_run

TIMES = {"0000": 8.0, "0001": 20.0, "0002": 5.0}
SCORES = {"0000": (0.3, 0.1), "0001": (0.4, 0.2), "0002": (0.2, 0.3)}
"""Of each trial mIoU and the IoU of the dot on val."""
KEYS = ("val/miou", "latency_ms", "val/iou[dot]")
COLUMNS = [
    *("label", "trial_id", "in_set", "seeds", "val/miou", "latency_ms", "val/iou[dot]", "latency_spread"),
    *("iou", "iou[dot]", "beside_best"),
]


def point(trial_id: str, label: str, published: str, *, is_in_set: bool = True) -> Point:
    miou, dot = SCORES[trial_id]
    values = {"val/miou": miou, "latency_ms": TIMES[trial_id], "val/iou[dot]": dot}
    return Point(trial_id, label, published, values, {}, 1, is_in_set)


CHOSEN = TradeOff(
    KEYS,
    (
        point("0001", "flip", "flip"),
        point("0000", "baseline", "baseline", is_in_set=False),
        point("0002", "flip", "pareto-0002"),
    ),
    "0001",
    3,
)


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        root = tmp_path_factory.mktemp("trade_off")
        patch.setenv("SEGSWEEP_CACHE", str(root / "cache"))
        run_dir = make_run(root / "runs" / "small", make_data(root / "data"))
        (checkpoint,) = (run_dir / "checkpoints" / "0002").iterdir()
        publish(checkpoint, run_dir / "best" / "pareto-0002", label="pareto-0002")
        settings = settings_of(make_record("0000").config.flat())
        further = (ObjectiveRecord("latency_ms", "min"), ObjectiveRecord("val/iou[dot]", "max"))
        timed = (MeasuredLatency(settings, "fp32", "cpu", 12.5, 0.31),)
        replace(SweepManifest.load(run_dir), further_objectives=further, latencies=timed).save(run_dir)
        trials = pd.read_csv(run_dir / "trials.csv", dtype={"trial_id": str, "parent": str})
        trials["latency_ms"] = trials["trial_id"].str[:4].map(TIMES)
        trials.to_csv(run_dir / "trials.csv", index=False)
        with Journal(run_dir / "journal.jsonl") as journal:
            journal.append("trade_off", **CHOSEN.to_json())
        yield build_results(run_dir), build_results(run_dir, split="val")


def test_table_has_what_val_chose_and_what_the_checkpoints_show_on_the_split(original):
    on_test, _ = original
    frame = on_test.pareto.set_index("label")
    assert list(on_test.pareto) == COLUMNS
    assert frame["in_set"].to_dict() == {"flip": "yes", "baseline": "no", "pareto-0002": "yes"}
    scores = on_test.comparison.set_index("label")
    for label, trial_id in (("flip", "0001"), ("baseline", "0000"), ("pareto-0002", "0002")):
        row = frame.loc[label]
        assert (row["val/miou"], row["val/iou[dot]"]) == SCORES[trial_id]
        assert (row["iou"], row["iou[dot]"]) == (scores.loc[label, "iou"], scores.loc[label, "iou[dot]"])
        assert (row["latency_ms"], row["latency_spread"]) == (TIMES[trial_id], 0.31)
    difference = scores.loc["pareto-0002", "iou"] - scores.loc["flip", "iou"]
    amount = f"has {abs(difference):.3f} {'more' if difference >= 0 else 'less'} mIoU than flip (0001)"
    assert frame.loc["pareto-0002", "beside_best"].startswith(f"{amount}, takes 0.25 times as long per image and has ")
    assert frame.loc["flip", "beside_best"] == ""


def test_on_val_the_numbers_are_those_of_the_sweep(original):
    _, on_val = original
    assert list(on_val.pareto) == [name for name in COLUMNS if name not in ("iou", "iou[dot]")]
    assert on_val.trade_off == CHOSEN
    told = trade_off_claim(on_val)
    dead = {"pareto-0002"} & set(on_val.dead)
    rival = "" if dead else "flip (0001) has 0.200 more mIoU than flip (0002), takes 4 times as long per image and has"
    assert rival in told.text and "one seed each, which chose them: no claim" in told.text
    assert told.evidence.value == "one checkpoint each"


def test_rows_in_the_set_are_marked_and_the_time_is_that_of_the_manifest(original):
    for results in original:
        frame = results.comparison.set_index("label")
        assert list(results.comparison)[-1] == "pareto"
        marked = {label for label, told in frame["pareto"].items() if told == "in the set"}
        assert marked == {"best", "flip", "pareto-0002"}, "best and flip are one trial"
        assert set(frame["latency_ms"].dropna()) == set(results.cost["latency_ms"]) == {12.5}
        assert any("by 31%: the machine was busy" in note for note in results.notes)
        facts = dict(run_facts(results))
        assert facts["Objective"] == "val/miou (max), latency_ms (min), val/iou[dot] (max)"
        assert facts["Time per image"].endswith("12.5 ms (spread 31%)")


def test_page_opens_with_the_trade_off_beside_the_winner_and_has_a_section_of_it(original, tmp_path):
    for results in original:
        alive = replace(results, dead={})
        claims = [one.text.striptags() for one in lead_claims(alive)]
        assert sum("per image" in text for text in claims) == 1
        assert claims[-1].startswith(f"On {results.split}, flip (0001) has ")
        sections = {one.anchor: one for one in build_sections(Material(alive, {}, None), Parts(tmp_path))}
        assert list(sections)[:2] == ["answer", "trade_off"]
        assert "in_set" in sections["trade_off"].html and "pareto-0002" in sections["trade_off"].html
    assert readable(original[0].pareto).rows[0][COLUMNS.index("latency_spread")].text == "0.3100"


def test_a_fast_label_that_learnt_nothing_is_no_trade_off(original):
    on_test, _ = original
    told = trade_off_claim(replace(on_test, dead={"pareto-0002": object()}))
    assert "0002" not in told.text


def test_figure_has_the_first_objective_against_each_other_one(original):
    for results in original:
        drawing = draw_trade_off(results)
        panels = drawing.figure.axes
        assert [axes.get_xlabel() for axes in panels] == ["time per image (latency_ms)", "dot IoU (val/iou[dot])"]
        assert panels[0].get_ylabel() == f"mIoU on {results.split}"
        for axes, key in zip(panels, KEYS[1:], strict=True):
            drawn = {
                (float(line.get_xdata()[0]), float(line.get_ydata()[0]))
                for line in axes.lines
                if line.get_markersize() == 8
            }
            expected = {(one.shown[key], one.shown["val/miou"]) for one in results.trade_off.points}
            assert drawn == expected
            (joined,) = [line for line in axes.lines if line.get_drawstyle().startswith("steps")]
            assert len(joined.get_xdata()) == 2 and (np.diff(joined.get_xdata()) >= 0).all()


def test_one_objective_has_no_trade_off(tmp_path, monkeypatch):
    monkeypatch.setenv("SEGSWEEP_CACHE", str(tmp_path / "cache"))
    run_dir = make_run(tmp_path / "runs" / "one", make_data(tmp_path / "data"), labels={"baseline": "0000"})
    results = build_results(run_dir, split="val")
    assert results.trade_off is None and results.pareto.empty
    assert "pareto" not in results.comparison
    assert trade_off_claim(results) is None and draw_trade_off(results) is None
