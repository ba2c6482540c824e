"""The section on masks that may be wrong: what it says, and that it is silent where nothing was found."""

from __future__ import annotations

from dataclasses import replace

import pandas as pd
import pytest

from analysis.report.gallery import Gallery
from analysis.report.page import Material
from analysis.report.sections.label_errors import label_error_claims, label_errors_section

from ..synthetic_run import make_results


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory):
    return make_results(tmp_path_factory.mktemp("run"), images=4)[0]


def test_the_section_counts_and_pictures_what_was_found_and_escapes_names(results) -> None:
    (row,) = results.label_errors.to_dict("records")
    two = pd.DataFrame([row | {"image_id": "<b>a"}, row])
    told = replace(results, label_errors=two)
    texts = [one.text for one in label_error_claims(told)]
    assert texts[0].startswith("2 connected components of 2 test images may be labelled wrongly")
    assert texts[1].startswith("2 of them are <b>") and len(label_error_claims(results)) == 1
    section = label_errors_section(Material(told, {}, Gallery([])))
    assert section is not None
    assert section.html.count("<img ") == 1 and "&lt;b&gt;a" in section.html and "<b>a" not in section.html
    assert label_errors_section(Material(replace(results, label_errors=two[:0]), {}, Gallery([]))) is None
