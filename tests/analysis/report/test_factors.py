"""What the page says about factors: only those that are called a reason, in the right direction, the largest first."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from analysis.failures.factors import ALL_FACTORS, FACTORS
from analysis.failures.slices import SLICE_COLUMNS
from analysis.failures.writing import slice_lines
from analysis.report.drawing import plain
from analysis.report.page import SECTIONS, Material
from analysis.report.sections.factors import draw_factor_curves, draw_factors, factor_claims
from analysis.report.sections.slices import shown, slice_claims

from ..synthetic_run import make_results, with_effects


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory):
    return make_results(tmp_path_factory.mktemp("run"), images=40)[0]


def said(results) -> list[str]:
    return [one.text.striptags() for one in factor_claims(results)]


def test_reasons_are_told_in_their_direction_with_numbers(results):
    told = said(with_effects(results, size=(0.21, True), noise=(-0.3, True), blur=(-0.4, False)))
    assert told == [
        "Components that are in noisy images have an IoU lower by 0.30 [0.25, 0.35] than those that are in images with "
        "little noise, class and other measured factors being equal.",
        "Components that are small have an IoU lower by 0.21 [0.16, 0.26] than those that are large, class and "
        "other measured factors being equal.",
    ]
    assert said(with_effects(results)) == []
    many = {factor.name: (0.1 + place / 100, True) for place, factor in enumerate(FACTORS)}
    assert len(said(with_effects(results, **many))) == 4


def test_what_training_images_say_is_told_as_such(results):
    changed = with_effects(results, distance=(-0.2, True), frequency=(0.25, True))
    rare, strange = said(changed)
    assert rare.startswith(
        "Components that are of classes in few training images have an IoU lower by 0.25 [0.20, 0.30]"
    )
    assert rare.endswith("other measured factors being equal; what else sets these classes apart is not known.")
    assert "in images unlike the training images have an IoU lower by 0.20 [0.15, 0.25]" in strange
    assert "that of the frequency between classes" in draw_factors(changed).caption
    (panel,) = draw_factor_curves(changed).figure.axes
    assert panel.get_title() == "distance"
    assert draw_factor_curves(with_effects(results, frequency=(0.25, True))) is None
    unknown = replace(changed, unmeasured=("The distance is not known: <why>.",))
    assert "not known: &lt;why&gt;." in str(SECTIONS.get("factors")(Material(unknown, {}, None)).html)


def test_the_section_says_where_there_is_no_reason_and_is_left_out_without_factors(results):
    text = str(SECTIONS.get("factors")(Material(with_effects(results), {}, None)).html)
    assert "No measured factor is called a reason" in text and "500 connected components of 40 test images" in text
    text = str(SECTIONS.get("factors")(Material(with_effects(results, size=(0.2, True)), {}, None)).html)
    assert "No measured factor" not in text
    assert SECTIONS.get("factors")(Material(replace(results, factors=results.factors.iloc[:0]), {}, None)) is None


def test_figures_show_effects_and_curves(results):
    changed = with_effects(results, size=(0.2, True), noise=(-0.3, True))
    axes = draw_factors(changed).figure.axes[0]
    dots = [line.get_xdata()[0] for line in axes.lines if line.get_marker() == "o"]
    assert sorted(dots) == sorted(changed.factors["effect"])
    assert [tick.get_text() for tick in axes.get_yticklabels()][-2:] == ["small → large", "clean → noisy image"]
    panels = draw_factor_curves(changed).figure.axes
    assert [axes.get_title() for axes in panels] == ["noise", "size"]
    curve = changed.factor_curves
    own = curve[(curve["label"] == "best") & (curve["factor"] == "size")]
    line = next(line for line in panels[1].lines if line.get_marker() == "s")
    np.testing.assert_allclose(line.get_ydata(), own["iou"])
    assert draw_factor_curves(with_effects(results)) is None
    assert draw_factors(replace(results, factors=results.factors.iloc[:0])) is None


def test_names_of_axes_are_not_cut():
    assert all(plain(factor.axis) == factor.axis for factor in ALL_FACTORS)


def test_slices_are_told_with_their_shares_and_escaped(results):
    ends = (0.05, 0.12, 0.07, 0.043, 0.096, 0.31, 0.62, 0.2, 0.1, 0.3, 1623)
    rows = [
        ("best", "light", "lowest third", 0.2, "size", "lowest fifth", -3.0, 50, 30, *ends),
        ("best", "class", "<pole>", np.nan, "", "", np.nan, 50, 30, *ends),
        ("baseline", "blur", "highest fifth", 0.5, "", "", np.nan, 50, 30, *ends),
    ]
    frame = pd.DataFrame(rows, columns=list(SLICE_COLUMNS))
    first, second = [one.text.striptags() for one in slice_claims(replace(results, slices=frame))]
    assert first == (
        "Components that are in dark images (lowest third) and small (lowest fifth) are 5% of all and hold 12% of the "
        "lost IoU, 7 points [4, 10] more than their share: their mean IoU is 0.31, that of the others 0.62."
    )
    assert second.startswith("Components that are of class <pole> are 5% of all")
    changed = replace(with_effects(results), slices=frame)
    text = str(SECTIONS.get("slices")(Material(changed, {}, None)).html)
    assert "all 1,623 slices that were looked at" in text and "&lt;pole&gt;" in text and "<pole>" not in text
    assert shown(frame)["slice"].tolist()[:2] == ["light: lowest third and size: lowest fifth", "class: <pole>"]
    text = str(SECTIONS.get("slices")(Material(replace(changed, slices=frame.iloc[:0]), {}, None)).html)
    assert "No slice of components" in text
    many = replace(changed, slices=pd.DataFrame([rows[0]] * 5, columns=list(SLICE_COLUMNS)))
    assert len(slice_claims(many)) == 3
    assert SECTIONS.get("slices")(Material(replace(changed, factors=results.factors.iloc[:0]), {}, None)) is None
    lines = slice_lines(frame)
    assert lines[0] == (
        "best: light lowest third and size lowest fifth: 5% of the components, 12% of the lost IoU; mean IoU 0.31, "
        "others 0.62"
    )
