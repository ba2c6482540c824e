import io
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from analysis.formulas import as_before
from analysis.report.parts import Parts
from analysis.report.tables import (
    LONG_TABLES,
    TABLES,
    readable,
    show_number,
    to_csv,
    to_latex,
    to_markdown,
    write_tables,
)

from ..synthetic_run import make_results


def test_every_table_is_written_in_three_forms_and_long_ones_as_csv(tmp_path: Path) -> None:
    results, _ = make_results(tmp_path, images=2)
    write_tables(results, tmp_path / "tables", Parts(tmp_path))
    assert sorted(path.name for path in (tmp_path / "tables").iterdir()) == sorted(
        f"{name}.{suffix}" for name in TABLES for suffix in (("csv",) if name in LONG_TABLES else ("csv", "md", "tex"))
    )


def test_a_table_that_cannot_be_written_costs_itself_alone(tmp_path: Path) -> None:
    results, _ = make_results(tmp_path, images=2)
    (tmp_path / "tables" / "cost.md").mkdir(parents=True)
    parts = Parts(tmp_path)
    write_tables(results, tmp_path / "tables", parts)
    assert [part.what for part in parts.failed] == ["table cost"]
    assert (tmp_path / "tables" / "trials.csv").is_file() and not (tmp_path / "tables" / "cost.csv").exists()


def test_a_table_that_raises_costs_itself_alone(tmp_path: Path) -> None:
    results, _ = make_results(tmp_path, images=2)
    parts = Parts(tmp_path)
    write_tables(results, tmp_path / "tables", parts)
    broken = replace(results, cost=None)
    write_tables(broken, tmp_path / "tables", parts)
    assert [part.what for part in parts.failed] == ["table cost"]
    left = {path.name.split(".")[0] for path in (tmp_path / "tables").iterdir()}
    assert left == set(TABLES) - {"cost"}


@pytest.mark.parametrize("name", TABLES)
def test_csv_gives_back_every_number_exactly(tmp_path: Path, name: str) -> None:
    results, _ = make_results(tmp_path, images=3, hostile=True)
    frame = getattr(results, name)
    text = {column: str for column in frame.columns if not pd.api.types.is_numeric_dtype(frame[column])}
    back = pd.read_csv(io.StringIO(to_csv(frame)), dtype=text, keep_default_na=True)
    for column in frame.columns:
        if column in text:
            assert list(back[column].fillna("")) == list(frame[column].fillna(""))
        else:
            np.testing.assert_array_equal(back[column].to_numpy(float), frame[column].to_numpy(float))


def test_no_text_is_a_formula_in_a_spreadsheet_and_each_reads_back() -> None:
    formulas = ["=1+2", "+a", "-x", "@sum", "\t=1", "\uff1d1", "'=1", "''+a", "-0.5-1"]
    plain = ["a=b", "-0.5", "+1e3", "", "'", "'a", "a'=1"]
    texts = [*formulas, *plain]
    frame = pd.DataFrame({"=label": texts, "iou": np.linspace(-1, 1, len(texts))})
    back = pd.read_csv(io.StringIO(to_csv(frame), newline=""), dtype={"'=label": str}, keep_default_na=False)
    assert back["'=label"].tolist() == [*("'" + text for text in formulas), *plain]
    pd.testing.assert_frame_equal(as_before(back), frame)


def test_an_estimate_and_its_interval_share_a_cell() -> None:
    frame = pd.DataFrame(
        {"label": ["a", "b"], "iou": [0.5, 0.25], "iou_low": [0.4, np.nan], "iou_high": [0.61, np.nan]}
    )
    table = readable(frame)
    assert table.columns == ("label", "iou")
    assert [(cell.text, cell.interval, cell.value, cell.low, cell.high) for _, cell in table.rows] == [
        ("0.5000", "[0.4000, 0.6100]", 0.5, 0.4, 0.61),
        ("0.2500", "", 0.25, None, None),
    ]


def test_markdown_has_a_row_a_record_and_as_many_cells_as_columns() -> None:
    frame = pd.DataFrame({"class": ["a|b", "_x_ `y` <i>"], "iou": [0.123456, np.nan]})
    lines = to_markdown(frame).splitlines()
    assert len(lines) == 4
    # An unescaped bar would open a cell.
    assert [len(line.replace(r"\|", "").split("|")) for line in lines] == [4, 4, 4, 4]
    assert r"a\|b" in lines[2] and "0.1235" in lines[2]
    assert r"\_x\_ \`y\` &lt;i&gt;" in lines[3]


def test_an_empty_table_still_has_its_head() -> None:
    frame = pd.DataFrame(columns=["label", "iou"])
    assert to_csv(frame) == "label,iou\n"
    assert "label" in to_markdown(frame).splitlines()[0]
    assert "label & iou" in to_latex(frame, "failures")


@pytest.mark.parametrize(
    ("value", "name", "shown"),
    [
        (0.61, "iou", "0.6100"),
        (1.0, "val/miou", "1.0000"),
        (0.0, "", "0"),
        (3218110.0, "params", "3218110"),
        (12345.678, "seconds", "12346"),
        (0.00031234, "config/optimizer.lr", "0.0003123"),
        (1e-5, "", "1e-05"),
        (-2.5, "", "-2.5"),
        (math.nan, "iou", ""),
        (None, "iou", ""),
        (math.inf, "", "inf"),
    ],
)
def test_numbers_are_shown_as_people_read_them(value: float | None, name: str, shown: str) -> None:
    assert show_number(value, name=name) == shown


@given(st.floats(-1e200, 1e200))
def test_a_shown_number_is_within_its_rounding(value: float) -> None:
    assert float(show_number(value)) == pytest.approx(value, rel=5.1e-4)
