"""The report's tables: one rendering for people, shared by the page, Markdown and LaTeX, and CSV with every digit."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from analysis.formulas import formula_safe
from analysis.report.latex import latex_text
from analysis.report.parts import FailedPart, Parts, forget
from trainables.files import write_atomically
from trainables.metrics import VAL, Metric, all_metrics, split_key

if TYPE_CHECKING:
    from analysis.results import Results

TABLES = (
    *("comparison", "pareto", "standings", "strengths", "confirmation", "components", "per_class", "iou_thresholds"),
    *("failures", "component_failures", "error_types", "error_types_per_class", "error_types_per_image"),
    *("factors", "factor_curves", "slices", "type_changes", "component_changes", "label_errors", "trials", "cost"),
)
"""Names of the frames of `Results`, and of the files."""
LONG_TABLES = frozenset(
    ("component_failures", "error_types_per_image", "factor_curves", "component_changes", "label_errors")
)
"""Tables that nobody reads or prints: as CSV only."""
DIGITS = 4
"""Decimals of a proportion, significant digits of any other number."""

_OTHER_PROPORTIONS = re.compile(
    r"missed_recall|lost_iou|share|type_share|taken_share|\w+_fraction|mean|lowest|highest"
    r"|(difference|worth|to_winner)(_low|_high)?|(to_winner_)?chance|(to_winner_)?improvement|score|detectable"
    r"|latency_spread|(mean|others)_iou|excess(_low|_high)?|effect(_low|_high)?|alone|stable|before|after"
)
"""Columns of proportions that are no metric's."""
_MARKDOWN = str.maketrans({**{mark: f"\\{mark}" for mark in "|\\`*_"}, "<": "&lt;", ">": "&gt;"})


@dataclass(frozen=True)
class Cell:
    """A cell as people read it, with the numbers behind it."""

    text: str
    value: float | None = None
    low: float | None = None
    high: float | None = None
    interval: str = ""
    """The interval in brackets, or nothing."""


@dataclass(frozen=True)
class Table:
    """A frame for reading: an estimate and its interval share a cell."""

    columns: tuple[str, ...]
    numeric: tuple[bool, ...]
    rows: tuple[tuple[Cell, ...], ...]


def write_tables(results: Results, folder: Path, parts: Parts) -> None:
    """Writes every table as `folder/NAME.csv`, `.md` and `.tex`, long ones as CSV only.

    CSV holds each number with all its digits: reading it back gives the frame's own numbers. Markdown and LaTeX are
    rounded and escape what their readers would take for markup. A table that cannot be written does not stop others.
    """
    for name in TABLES:
        made = parts.make(f"table {name}", partial(_write_table, getattr(results, name), name, folder))
        if isinstance(made, FailedPart):
            forget(folder, name, ("csv", "md", "tex"))


def _write_table(frame: pd.DataFrame, name: str, folder: Path) -> None:
    forms = {"csv": to_csv(frame)}
    if name not in LONG_TABLES:
        forms |= {"md": to_markdown(frame), "tex": to_latex(frame, name)}
    for suffix, text in forms.items():
        write_atomically(folder / f"{name}.{suffix}", text.encode())


def readable(frame: pd.DataFrame) -> Table:
    """Rounds a frame for reading; columns `X_low` and `X_high` join `X` as its interval."""
    names = [str(name) for name in frame.columns]
    bounds = {f"{name}{side}" for name in names for side in ("_low", "_high") if f"{name}_low" in names}
    columns = tuple(name for name in names if name not in bounds)
    writers = [(name, number_writer(name), f"{name}_low" in names) for name in columns]
    rows = tuple(
        tuple(_cell(name, record, write, with_interval=bounded) for name, write, bounded in writers)
        for record in frame.to_dict("records")
    )
    return Table(columns, tuple(_is_numeric(frame[name]) for name in columns), rows)


def to_csv(frame: pd.DataFrame) -> str:
    """Comma-separated values; missing numbers are empty, floats have the digits that give them back exactly.

    An apostrophe stands before a text that a spreadsheet would take for a formula.
    """
    return formula_safe(frame).to_csv(index=False, lineterminator="\n")


def to_markdown(frame: pd.DataFrame) -> str:
    """A GitHub-flavoured Markdown table, rounded."""
    shown, numeric = _texts(frame, _MARKDOWN)
    align = ["right" if is_number else "left" for is_number in numeric]
    return str(shown.to_markdown(index=False, disable_numparse=True, colalign=align if len(shown) else None)) + "\n"


def to_latex(frame: pd.DataFrame, name: str) -> str:
    r"""A `booktabs` table that fits a page, rounded (`latex_text`)."""
    return latex_text(readable(frame), name)


def show_number(value: float | None, *, name: str = "", digits: int = DIGITS) -> str:
    """A number as people read it; missing ones are empty.

    A column of a metric is written as the metric says. Otherwise whole numbers stay whole, proportions (known by their
    column's name) have fixed decimals, others significant digits.

    Example:
        >>> show_number(0.61, name="iou"), show_number(3218110.0), show_number(float("nan")), show_number(1e-05)
        ('0.6100', '3218110', '', '1e-05')
    """
    return number_writer(name, digits=digits)(value)


def number_writer(name: str, *, digits: int = DIGITS) -> Callable[[float | None], str]:
    """`show_number` for all numbers of a column."""
    metric = metric_of_column(name)
    is_proportion = _OTHER_PROPORTIONS.fullmatch(name) is not None

    def written(value: float | None) -> str:
        if value is None or math.isnan(value):
            return ""
        if metric is not None:
            return metric.show(value)
        if is_proportion:
            return f"{value:.{digits}f}"
        if math.isfinite(value) and value == int(value) and abs(value) < 1e15:
            return str(int(value))
        text = f"{value:.{digits}g}"
        # Large numbers keep their whole part: 12345.6 is 12346, not 1.235e+04.
        return f"{value:.0f}" if "e+" in text and abs(value) < 1e15 else text

    return written


def metric_of_column(name: str) -> Metric | None:
    """The metric whose values a column holds: on a split (`iou`, `iou_low`) or of a trial (`val/miou`)."""
    base = name.removesuffix("_low").removesuffix("_high")
    of_class = split_key(base if base.startswith(VAL) else f"{VAL}{base}")
    if of_class is not None:
        return of_class[0]
    return next((metric for metric in all_metrics() if base in (metric.name, metric.key)), None)


def _cell(name: str, record: dict[Any, Any], write: Callable[[float | None], str], *, with_interval: bool) -> Cell:
    raw = record[name]
    if isinstance(raw, str):
        return Cell(" ".join(raw.split()))
    value = _number(raw)
    if isinstance(raw, bool):
        return Cell("true" if raw else "false", value)
    if not with_interval:
        return Cell(write(value), value)
    low, high = _number(record[f"{name}_low"]), _number(record.get(f"{name}_high"))
    interval = ""
    if low is not None and high is not None:
        interval = f"[{write(low)}, {write(high)}]"
    return Cell(write(value), value, low, high, interval)


def _number(value: Any) -> float | None:
    """A float, or None for whatever stands for a missing number."""
    if value is None or value is pd.NA or value is pd.NaT:
        return None
    number = float(value)
    return None if math.isnan(number) else number


def _is_numeric(column: pd.Series[Any]) -> bool:
    return pd.api.types.is_numeric_dtype(column) and not pd.api.types.is_bool_dtype(column)


def _texts(frame: pd.DataFrame, escapes: dict[int, str]) -> tuple[pd.DataFrame, tuple[bool, ...]]:
    table = readable(frame)
    rows = [[" ".join(filter(None, (c.text.translate(escapes), c.interval))) for c in row] for row in table.rows]
    columns = [name.translate(escapes) for name in table.columns]
    return pd.DataFrame(rows, columns=columns, dtype=object), table.numeric
