"""What was compared, and what differs."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

RELATIVE, ABSOLUTE = 1e-9, 1e-12
"""Numbers that lie closer are the same: what is left is the order of additions."""

SINGLE = 1e-5
"""The same where the report computes with 32 bits: factors of images."""

MOST_SHOWN = 50

Value = float | str


@dataclass(frozen=True)
class Difference:
    """A cell that does not hold what was recomputed; NaN stands for an empty cell, or for none at all."""

    table: str
    row: str
    column: str
    written: Value
    recomputed: Value


@dataclass
class Audit:
    """What was compared so far, and what could not be.

    Attributes:
        cells: Number of cells that were compared, by table.
        differences: Those that differ.
        skipped: What was not recomputed in this run, with the reason.
    """

    cells: dict[str, int] = field(default_factory=dict)
    differences: list[Difference] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)

    def compare(
        self, table: str, row: str, column: str, written: Any, recomputed: Any, *, within: float = RELATIVE
    ) -> None:
        """Compares one cell: text where text is expected, numbers otherwise.

        Args:
            table: Its name.
            row: Which row, in words.
            column: Its name.
            written: In the table.
            recomputed: What it should be.
            within: Relative difference up to which two numbers are the same; also the absolute one where it is more
                than `RELATIVE`, for factors and effects are about 1.
        """
        self.cells[table] = self.cells.get(table, 0) + 1
        if isinstance(recomputed, str):
            text = "" if written is None or written != written else str(written)
            if text != recomputed:
                self.differences.append(Difference(table, row, column, text, recomputed))
            return
        number, expected = _number(written), _number(recomputed)
        both_empty = math.isnan(number) and math.isnan(expected)
        least = within if within > RELATIVE else ABSOLUTE
        if not both_empty and not math.isclose(number, expected, rel_tol=within, abs_tol=least):
            self.differences.append(Difference(table, row, column, number, expected))

    def compare_row(
        self,
        table: str,
        row: str,
        written: Mapping[Any, Any],
        recomputed: Mapping[str, Any],
        *,
        within: float = RELATIVE,
    ) -> None:
        """Compares the cells of a row that were recomputed."""
        for column, value in recomputed.items():
            self.compare(table, row, column, written.get(column, math.nan), value, within=within)

    def compare_rows(self, table: str, written: Iterable[str], recomputed: Iterable[str]) -> None:
        """Compares which rows there are; each that only one side has is a difference."""
        there, expected = set(written), set(recomputed)
        for row in sorted(there | expected):
            self.compare(table, row, "(the row is there)", row in there, row in expected)

    def skip(self, what: str) -> None:
        """Says once what was not recomputed, and why."""
        if what not in self.skipped:
            self.skipped.append(what)


def audit_lines(audit: Audit, never: Iterable[str]) -> list[str]:
    """What was recomputed, what differs and what was not looked at, for a terminal.

    Args:
        audit: What was compared.
        never: What no audit recomputes, with the reason.
    """
    lines = [f"{'table':<24}{'cells':>8}{'differ':>8}"]
    for table, cells in audit.cells.items():
        differ = sum(one.table == table for one in audit.differences)
        lines.append(f"{table:<24}{cells:>8}{differ:>8}")
    if audit.differences:
        lines += ["", f"{'table':<24}{'written':>14}{'recomputed':>14}  column, row"]
    for one in audit.differences[:MOST_SHOWN]:
        lines.append(f"{one.table:<24}{_shown(one.written)}{_shown(one.recomputed)}  {one.column}, {one.row}")
    if len(audit.differences) > MOST_SHOWN:
        lines.append(f"and {len(audit.differences) - MOST_SHOWN} more")
    lines += ["", *(f"not recomputed: {what}" for what in (*audit.skipped, *never))]
    return ["".join(letter if letter.isprintable() else " " for letter in line) for line in lines]


def _number(value: Any) -> float:
    """A float; NaN for an empty cell, or for text where a number belongs."""
    try:
        return float(value)
    except (TypeError, ValueError):
        return math.nan


def _shown(value: Value) -> str:
    return f"  {value or '(empty)'!s:>12}" if isinstance(value, str) else f"{value:>14.8g}"
