"""Letters that matplotlib's own font does not have are drawn in installed fonts; what none has is told once."""

from __future__ import annotations

import warnings
from dataclasses import replace

import numpy as np
import pytest
from matplotlib import font_manager
from matplotlib.ft2font import FT2Font

from analysis import fonts, pictures
from analysis.report.drawing import save_figures
from analysis.report.parts import Parts
from trainables.data.base import ClassInfo

from .synthetic_run import make_results


def letters(name):
    path = font_manager.findfont(name, fallback_to_default=False)
    return {chr(code) for code in FT2Font(path).get_charmap() if chr(code).isprintable()}


@pytest.fixture(scope="module")
def foreign():
    """A letter that comes with matplotlib, but not in its own font."""
    return min(letters("STIXGeneral") - letters("DejaVu Sans"))


@pytest.fixture
def no_more_fonts(monkeypatch):
    fonts._fonts_for.cache_clear()
    monkeypatch.setattr(fonts, "installed", lambda: ())
    yield
    fonts._fonts_for.cache_clear()


def with_class(results, name):
    return replace(results, classes=(ClassInfo(name, (1, 2, 3)), *results.classes[1:]))


def test_a_font_that_has_the_letters_is_found(foreign):
    assert fonts.fonts_for("Straße, café") == ()
    (first, *others) = fonts.fonts_for(f"a{foreign}")
    assert foreign in {chr(code) for code in FT2Font(str(first[1])).get_charmap()} and not others


def test_fonts_that_draw_boxes_for_everything_are_none():
    assert not [name for name, _ in fonts.installed() if "Last Resort" in name]


def test_figures_use_it(foreign, tmp_path):
    results, _ = make_results(tmp_path / "run", images=2)
    parts = Parts(tmp_path)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        save_figures(with_class(results, f"x{foreign}"), tmp_path / "figures", parts, ["confusion"])
    assert not parts.failed and not parts.warnings


def test_letters_without_a_font_are_told_once(no_more_fonts, tmp_path):
    results, _ = make_results(tmp_path / "run", images=2)
    parts = Parts(tmp_path)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        save_figures(with_class(results, "道路"), tmp_path / "figures", parts, ["confusion", "per_class"])
    assert not parts.failed
    (told,) = parts.warnings
    assert told.startswith("no installed font has 路道: boxes stand for them")
    assert fonts.told_missing([]) == ""


def test_pictures_are_drawn_in_a_font_that_has_the_letters(foreign):
    classes = (ClassInfo(f"x{foreign}", (200, 0, 0)),)
    drawn = np.asarray(pictures.legend(classes))
    assert (drawn != np.asarray(pictures.legend((ClassInfo("x\U0001fffd", (200, 0, 0)),)))).any()
    assert str(pictures._font(14, f"x{foreign}").path) == str(fonts.fonts_for(foreign)[0][1])
    assert str(pictures._font(14, "x").path) == str(fonts.OWN)
