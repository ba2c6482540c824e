"""What the page says about types of error: numbers from the tables, and silence just below each threshold."""

from __future__ import annotations

from dataclasses import replace

import pandas as pd
import pytest

from analysis.failures.names import ErrorType
from analysis.failures.split import CLASS_TYPE_COLUMNS, COMPONENT_COLUMNS, TYPE_COLUMNS
from analysis.report.page import SECTIONS, Material
from analysis.report.sections.errors import GROUPS, draw_class_error_types, draw_error_types, error_claims

from ..synthetic_run import make_results


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory):
    return make_results(tmp_path_factory.mktemp("run"), images=4)[0]


def said(results, *, types=(), classes=(), components=0, others=0) -> list[str]:
    """What is said where the label `best` has these (type, lost IoU), (class, type, lost, share) and components.

    `components` are missed, `others` are of three other types in equal numbers.
    """
    total = sum(lost for _, lost in types) or 1
    type_rows = [("best", name, 10, lost, lost / total) for name, lost in types]
    class_rows = [("best", name, kind, 5, 5, lost, share) for name, kind, lost, share in classes]
    one = {"label": "best", "source": "truth", "type": "missed component", "area_fraction": 0.002}
    kinds = ("split", "merged", "boundary")
    more = [{**one, "type": kinds[place % 3]} for place in range(others)]
    changed = replace(
        results,
        error_types=pd.DataFrame(type_rows, columns=list(TYPE_COLUMNS)),
        error_types_per_class=pd.DataFrame(class_rows, columns=list(CLASS_TYPE_COLUMNS)),
        component_failures=pd.DataFrame([one] * components + more, columns=list(COMPONENT_COLUMNS)),
    )
    return [one.text.striptags() for one in error_claims(changed)]


def test_types_are_named_with_their_numbers_from_their_threshold_on(results):
    (text,) = said(results, types=[("boundary", 0.15), ("missed component", 0.25), ("split", 0.02)])
    assert "lacks 0.420 of a perfect mIoU: missed components 0.250 (60%), boundaries 0.150 (36%)" in text
    assert "all other types together 0.020 (5%)" in text
    just_under = [("boundary", 0.149), ("split", 0.851)]
    assert "boundaries" not in said(results, types=just_under)[0]
    assert "boundaries" in said(results, types=[("boundary", 0.15), ("split", 0.85)])[0]
    assert said(results, types=[("boundary", 0.0099)]) == []
    assert len(said(results, types=[("boundary", 0.0101)])) == 1


def test_classes_are_named_where_one_type_explains_half_of_a_loss_that_counts(results):
    base = [("boundary", 0.3)]
    assert said(results, types=base, classes=[("car", "missed component", 0.099, 1.0)])[1:] == []
    assert (
        said(results, types=base, classes=[("car", "missed component", 0.06, 0.49), ("car", "split", 0.06, 0.49)])[1:]
        == []
    )
    (text,) = said(results, types=base, classes=[("car", "missed component", 0.2, 0.5), ("car", "split", 0.1, 0.25)])[
        1:
    ]
    assert text.startswith("car loses 0.300 of its IoU, 50% of that to missed components.")
    many = [(f"c{place}", "split", 0.2 + place / 100, 1.0) for place in range(5)]
    assert [text.split()[0] for text in said(results, types=base, classes=many)[1:]] == ["c4", "c3", "c2"]


def test_components_are_counted_from_ten_on(results):
    base = [("boundary", 0.3)]
    assert said(results, types=base, components=9)[1:] == []
    (text,) = said(results, types=base, components=10)[1:]
    assert text.startswith("10 connected components of the truth have too low an IoU")
    assert "10 of them mostly by missed components; half of these cover less than 0.2% of their image" in text
    spread = said(results, types=base, components=10, others=21)
    assert spread[1:] == []
    assert len(said(results, types=base, components=10, others=20)) == 2


def test_the_section_says_what_it_took_for_granted_and_is_left_out_without_errors(results):
    text = str(SECTIONS.get("errors")(Material(results, {}, None)).html)
    assert "stuff: sky, road, building, tree" in text
    spotless = replace(results, error_types=results.error_types.iloc[:0])
    assert SECTIONS.get("errors")(Material(spotless, {}, None)) is None


def test_bars_stack_to_what_is_lost(results):
    assert sorted(kind for _, kinds, _ in GROUPS for kind in kinds) == list(ErrorType)
    axes = draw_error_types(results).figure.axes[0]
    lost = results.error_types.groupby("label", sort=False)["lost_iou"].sum()
    names = [tick.get_text() for tick in axes.get_yticklabels()]
    for row, name in enumerate(names):
        widths = [bar.get_width() for bars in axes.containers for place, bar in enumerate(bars) if place == row]
        assert [sum(widths)] * len(twins := name.split(" = ")) == pytest.approx([lost[label] for label in twins])
    axes = draw_class_error_types(results).figure.axes[0]
    own = results.error_types_per_class[results.error_types_per_class["label"] == "best"]
    total = sum(bar.get_width() for bars in axes.containers for bar in bars)
    assert total == pytest.approx(own["lost_iou"].sum())
