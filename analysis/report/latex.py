r"""The report's tables for papers: `booktabs` tables that fit a page of the class `article`.

Columns that do not fit beside each other go below in further panels, which repeat the columns that tell rows apart;
rows that do not fit a page make it a `longtable`.
"""

from __future__ import annotations

import re
import textwrap
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from analysis.report.tables import Table

WIDTH_PT = 340.0
"""Of a table: a little less than the text of the class `article` at 10 pt, 345 pt."""
LINES = 46
"""That a float of one page holds at `\\footnotesize`, besides its caption."""
TEXT_PT = 110.0
"""The widest column of text; longer texts go on in the next line."""
KEYS_PT = (125.0, 90.0, 90.0)
"""The same for columns that tell rows apart, by how many there are; a panel repeats them."""

_SMALL = "\\footnotesize\\setlength{\\tabcolsep}{3pt}"
_COLUMN_GAP_PT = 6.0
_RULES = 4
"""What the rules of a panel and the space below it take, in lines."""
_WIDE, _NARROW = frozenset("mwMW@%&+=<>~_"), frozenset("ijltfI.,:;'|!()[]/ -")
_LATIN_ENDS = 0x17F
_UNBROKEN = 8
_ESCAPES = str.maketrans(
    {**{mark: f"\\{mark}" for mark in "&%$#_{}"}, "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
    | {"\\": r"\textbackslash{}", "<": r"\textless{}", ">": r"\textgreater{}"}
)


@dataclass(frozen=True)
class _Column:
    head: str
    cells: tuple[str, ...]
    layout: str
    width_pt: float
    head_lines: int
    lines: tuple[int, ...]
    """Of its cells."""


def latex_text(table: Table, name: str) -> str:
    r"""A table as LaTeX, rounded; columns of numbers are aligned right.

    Args:
        table: As people read it.
        name: Stands in its `\label` as `tab:NAME`.
    """
    keys = _keys(table)
    of_keys = KEYS_PT[max(len(keys), 1) - 1]
    places = range(len(table.columns))
    columns = [_column(table, place, of_keys if place in keys else TEXT_PT) for place in places]
    panels = _panels(columns, keys)
    long = sum(map(_lines, panels)) > LINES
    packages = ["booktabs", *(["array"] if any("arraybackslash" in one.layout for one in columns) else [])]
    notes = [f"% needs \\usepackage{{{','.join([*packages, *(['longtable'] if long else [])])}}}"]
    texts = (*table.columns, *(cell.text for row in table.rows for cell in row))
    if any(ord(mark) > _LATIN_ENDS for text in texts for mark in text):
        notes.append("% has letters that pdfLaTeX lacks: compile it by LuaLaTeX or XeLaTeX with a font that has them")
    caption, label = name.replace("_", " ").capitalize(), f"tab:{name.replace('_', '-')}"
    if long:
        first, *more = panels
        parts = [_tabular(first, longtable=True, caption=caption, label=label)]
        for panel in more:
            part = _tabular(panel, longtable=True, caption=f"{caption} (continued)")
            parts.append(f"\\addtocounter{{table}}{{-1}}\n{part}")
    else:
        parts = [f"\\begin{{table}}[htbp]\n\\centering\n\\caption{{{caption}}}\n\\label{{{label}}}\n{_SMALL}"]
        parts += ["\n\\par\\medskip\n".join(_tabular(panel).strip() for panel in panels), "\\end{table}"]
    body = "\n".join(part.rstrip() for part in parts)
    grouped = f"\\begingroup{_SMALL}\n{body}\n\\endgroup" if long else body
    return "\n".join([*notes, grouped]) + "\n"


def _keys(table: Table) -> tuple[int, ...]:
    """The leading columns that tell rows apart: as few as do, at most as `KEYS_PT` knows."""
    for count in range(1, min(len(KEYS_PT), len(table.columns)) + 1):
        if len({tuple(cell.text for cell in row[:count]) for row in table.rows}) == len(table.rows):
            return tuple(range(count))
    return tuple(range(min(1, len(table.columns))))


def _column(table: Table, place: int, most_pt: float) -> _Column:
    cells = [row[place] for row in table.rows]
    name, once = table.columns[place].replace("_", " "), (1,) * len(cells)
    if table.numeric[place]:
        texts = [" ".join(filter(None, (cell.text, cell.interval))) for cell in cells]
        width = max([_width(text) for text in texts], default=0.0)
        head, head_pt, lines = _stacked(name, max(width, max(map(_width, name.split()), default=0.0)))
        return _Column(head, tuple(texts), "r", max(width, head_pt), lines, once)
    width = max([_width(cell.text) for cell in cells], default=0.0)
    if width <= most_pt:
        head, head_pt, lines = _stacked(name, max(width, 40.0), side="l")
        texts = [cell.text.translate(_ESCAPES) for cell in cells]
        return _Column(head, tuple(texts), "l", max(width, head_pt), lines, once)
    # Ragged, since few words a line are ugly when they are justified; a path or an identifier has no space to break at.
    layout = f">{{\\raggedright\\arraybackslash}}p{{{most_pt:.0f}pt}}"
    widths = [_width(cell.text) for cell in cells]
    tall = tuple(1 if one <= most_pt else int(1.2 * one / most_pt) + 1 for one in widths)
    return _Column(name.translate(_ESCAPES), tuple(_breakable(cell.text) for cell in cells), layout, most_pt, 1, tall)


def _stacked(name: str, width: float, *, side: str = "r") -> tuple[str, float, int]:
    """A column's name in lines no wider than that, their width, and how many there are."""
    lines = textwrap.wrap(name, max(int(width / 4.3), max(map(len, name.split()), default=1))) or [""]
    text = "\\\\".join(line.translate(_ESCAPES) for line in lines)
    return (text if len(lines) == 1 else f"\\shortstack[{side}]{{{text}}}"), max(map(_width, lines)), len(lines)


def _breakable(text: str) -> str:
    """Escaped, with a place to break after each mark and within long words."""
    parts = [piece for part in re.findall(r"[^_/.:=\-\s]*[_/.:=\-\s]*", text) for piece in textwrap.wrap(
        part, _UNBROKEN, drop_whitespace=False, break_on_hyphens=False)]  # fmt: skip
    return "\\allowbreak{}".join(part.translate(_ESCAPES) for part in parts)


def _panels(columns: list[_Column], keys: tuple[int, ...]) -> list[list[_Column]]:
    """The columns in the order they have, as many in a panel as fit."""
    head = [columns[place] for place in keys]
    taken = sum(column.width_pt + _COLUMN_GAP_PT for column in head)
    panels: list[list[_Column]] = []
    left = -1.0
    for place, column in enumerate(columns):
        if place in keys:
            continue
        need = column.width_pt + _COLUMN_GAP_PT
        if need > left:
            panels.append(list(head))
            left = WIDTH_PT - taken
        panels[-1].append(column)
        left -= need
    return panels or [head]


def _lines(panel: list[_Column]) -> int:
    heads = max((column.head_lines for column in panel), default=1)
    rows: int = sum(map(max, zip(*(column.lines for column in panel), strict=True)))
    return heads + rows + _RULES


def _tabular(panel: list[_Column], *, longtable: bool = False, caption: str = "", label: str = "") -> str:
    """As `DataFrame.to_latex` writes it; pandas renders a template, which takes much longer."""
    layout = "".join(column.layout for column in panel)
    head = " & ".join(column.head for column in panel) + r" \\"
    rows = [" & ".join(cells) + r" \\" for cells in zip(*(column.cells for column in panel), strict=True)]
    if not longtable:
        lines = [f"\\begin{{tabular}}{{{layout}}}", r"\toprule", head, r"\midrule", *rows, r"\bottomrule"]
        return "\n".join([*lines, r"\end{tabular}", ""])
    named = f"\\caption{{{caption}}}" + (f" \\label{{{label}}}" if label else "")
    lines = [
        f"\\begin{{longtable}}{{{layout}}}",
        *(rf"{named} \\", r"\toprule", head, r"\midrule", r"\endfirsthead"),
        *(rf"\caption[]{{{caption}}} \\", r"\toprule", head, r"\midrule", r"\endhead"),
        *(r"\midrule", rf"\multicolumn{{{len(panel)}}}{{r}}{{Continued on next page}} \\", r"\midrule", r"\endfoot"),
        *(r"\bottomrule", r"\endlastfoot", *rows, r"\end{longtable}", ""),
    ]
    return "\n".join(lines)


def _width(text: str) -> float:
    """Of a text in the 8 pt Computer Modern of footnotes, in points, within about a tenth."""
    return sum(7.3 if mark in _WIDE else 3.0 if mark in _NARROW else 6.2 if mark.isupper() else 4.4 for mark in text)
