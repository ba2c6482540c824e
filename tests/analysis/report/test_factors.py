"""What the page says about factors: only those that are called a reason, in the right direction, the largest first."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from analysis.failures.factors import FACTORS
from analysis.report.drawing import plain
from analysis.report.page import SECTIONS, Material
from analysis.report.sections.factors import draw_factor_curves, draw_factors, factor_claims

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
    assert all(plain(factor.axis) == factor.axis for factor in FACTORS)
