"""What the page says the winner changed: counts from ten on, types beyond their intervals, nothing of one label."""

from __future__ import annotations

from dataclasses import replace

import pandas as pd
import pytest

from analysis.failures.changes import CHANGE_COLUMNS, TYPE_CHANGE_COLUMNS
from analysis.report.page import SECTIONS, Material
from analysis.report.sections.changes import change_claims, change_counts, draw_type_changes

from ..synthetic_run import make_results


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory):
    return make_results(tmp_path_factory.mktemp("run"), images=24)[0]


def changed(results, *, counts=(0, 0, 0), types=(), split="test"):
    """Results with so many components cured, new and shared, and types of (words, difference, low, high)."""
    rows = []
    for kind, count in zip(("cured", "new", "shared"), counts, strict=True):
        row = dict.fromkeys(CHANGE_COLUMNS, 0) | {"change": kind}
        row |= {"type_before": "" if kind == "new" else "split", "type_after": "" if kind == "cured" else "merged"}
        rows += [row] * count
    differences = [(words, 0.2, 0.2 + difference, difference, low, high) for words, difference, low, high in types]
    return replace(
        results,
        split=split,
        component_changes=pd.DataFrame(rows, columns=list(CHANGE_COLUMNS)),
        type_changes=pd.DataFrame(differences, columns=list(TYPE_CHANGE_COLUMNS)),
    )


def said(results) -> list[str]:
    return [one.text.striptags() for one in change_claims(results)]


def test_cured_and_new_failures_are_counted_from_ten_on(results):
    assert said(changed(results, counts=(4, 3, 2))) == []
    assert said(changed(results, counts=(5, 3, 2))) == [
        "Of 7 connected components that fail under baseline, free cures 5; 3 others fail under it."
    ]


def test_types_are_named_beyond_their_interval_alone(results):
    told = said(
        changed(
            results,
            types=[
                ("missed component", -0.03, -0.05, -0.01),
                ("boundary", 0.02, 0.01, 0.03),
                ("split", -0.2, -0.41, 0.01),
                ("merged", -0.0049, -0.006, -0.003),
            ],
        )
    )
    assert told == [
        "This checkpoint of free loses 0.030 [0.010, 0.050] less mIoU to missed components than that of baseline.",
        "This checkpoint of free loses 0.020 [0.010, 0.030] more mIoU to boundaries than that of baseline.",
    ]
    nan = float("nan")
    assert said(changed(results, types=[("missed component", -0.3, nan, nan)])) == []
    four = [(words, -0.1, -0.2, -0.05) for words in ("missed component", "boundary", "split", "merged")]
    assert len(said(changed(results, types=four))) == 3


def test_counts_go_by_the_type_before_and_of_new_ones_after(results):
    counts = change_counts(changed(results, counts=(3, 2, 1)).component_changes)
    assert counts.to_dict("records") == [
        {"type": "split", "cured": 3, "new": 0, "shared": 1},
        {"type": "merged", "cured": 0, "new": 2, "shared": 0},
    ]


def test_the_section_needs_two_checkpoints_and_says_that_val_chose(results):
    whole = changed(results, counts=(3, 2, 1), types=[("boundary", 0.02, 0.01, 0.03)])
    text = str(SECTIONS.get("changes")(Material(whole, {}, None)).html)
    assert "change_counts" in text and "chose the winner" not in text
    on_val = replace(whole, split="val")
    assert "These images chose the winner" in str(SECTIONS.get("changes")(Material(on_val, {}, None)).html)
    assert SECTIONS.get("changes")(Material(changed(results), {}, None)) is None
    assert draw_type_changes(changed(results)) is None


def test_the_figure_has_the_differences(results):
    axes = draw_type_changes(results).figure.axes[0]
    shown = results.type_changes[(results.type_changes["before"] > 0) | (results.type_changes["after"] > 0)]
    dots = [line.get_xdata()[0] for line in axes.lines if line.get_marker() == "o"]
    assert dots == pytest.approx(shown["difference"].tolist()[::-1])
