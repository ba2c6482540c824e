import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from analysis.report.latex import LINES, WIDTH_PT, _Column, _tabular
from analysis.report.tables import LONG_TABLES, TABLES, readable, to_latex

from ..synthetic_run import make_results

PRINTED = sorted(set(TABLES) - LONG_TABLES)
PANEL = re.compile(r"\\begin\{(?:tabular|longtable)\}.*?\\end\{(?:tabular|longtable)\}", re.DOTALL)


def rows_of(panel: str) -> list[list[str]]:
    """The cells below the head of a panel, unescaped but for what `Cell` escapes with a command of its own."""
    body = panel.rsplit(r"\midrule", 1)[1] if "longtable" not in panel else panel.split(r"\endlastfoot")[1]
    lines = [line.strip() for line in body.splitlines() if line.strip().endswith(r"\\")]
    cells = [re.split(r"(?<!\\)&", line.removesuffix(r"\\")) for line in lines]
    return [[cell.strip().replace(r"\allowbreak{}", "") for cell in row] for row in cells]


@pytest.mark.parametrize("name", PRINTED)
def test_every_cell_is_in_a_panel_and_nothing_is_unescaped(tmp_path: Path, name: str) -> None:
    results, _ = make_results(tmp_path, images=2, hostile=True)
    table, text = readable(getattr(results, name)), to_latex(getattr(results, name), name)
    panels = [rows_of(panel) for panel in PANEL.findall(text)]
    assert panels and all(len(rows) == len(table.rows) for rows in panels)
    assert text.count(r"\label{") == 1
    for rows in panels:
        for row in rows:
            for cell in row:
                plain = re.sub(r"\\(textbackslash|text\w+)\{\}|\\[&%$#_{}]", "", cell)
                assert not set(plain) & set("&%$#_{}~^\\<>")
    # The first row, as a list of cells: the panels hold each column once, and the keys again.
    shown = [" ".join(filter(None, (cell.text, cell.interval))) for cell in table.rows[0]] if table.rows else []
    special = re.compile(r"\\textbackslash\{\}|\\textless\{\}|\\textgreater\{\}|\\textasciitilde\{\}|[\\<>~{}]")
    found = [special.sub("", cell) for rows in panels for row in rows[:1] for cell in row]
    assert {special.sub("", cell) for cell in shown} == set(found)


@pytest.mark.parametrize("rows", [0, 1, 3])
@pytest.mark.parametrize("long", [{}, {"longtable": True, "caption": "Of all", "label": "tab:all"}])
def test_a_panel_is_what_pandas_writes(rows: int, long: dict[str, Any]) -> None:
    columns = [
        _Column("name", tuple(f"row {number}" for number in range(rows)), "l", 40.0, 1, (1,) * rows),
        _Column(
            r"\shortstack[r]{mean\\IoU}", tuple(f"0.{number}" for number in range(rows)), "r", 30.0, 2, (1,) * rows
        ),
    ]
    frame = pd.DataFrame({place: list(column.cells) for place, column in enumerate(columns)}, dtype=object)
    heads = [column.head.replace("{", "{{").replace("}", "}}") for column in columns]
    text = frame.to_latex(index=False, escape=False, header=heads, column_format="lr", **long)
    assert _tabular(columns, **long) == text.replace(r"\multicolumn{0}", r"\multicolumn{2}")


def test_special_characters() -> None:
    special = "50%_of $a & #b {c} ~ ^ \\ <d>"
    text = to_latex(pd.DataFrame({"class": [special], "iou_x": [1.5]}), "per_class")
    row = text.split(r"\midrule")[1].split(r"\bottomrule")[0].strip().replace(r"\allowbreak{}", "")
    assert row == (
        r"50\%\_of \$a \& \#b \{c\} \textasciitilde{} \textasciicircum{} \textbackslash{} \textless{}d\textgreater{}"
        r" & 1.5 \\"
    )
    assert r"class & \shortstack[r]{iou\\x} \\" in text


@pytest.mark.parametrize(("name", "told"), [("Bäume œ", False), ("人", True), ("дом", True)])
def test_letters_that_pdflatex_lacks_are_told(name: str, told: bool) -> None:
    text = to_latex(pd.DataFrame({"class": [name], "iou": [0.5]}), "per_class")
    assert ("LuaLaTeX" in text.split(r"\begin")[0]) is told


def wide_and_long(columns: int, rows: int) -> pd.DataFrame:
    """Numbers with intervals, a long identifier and a sentence."""
    rng = np.random.default_rng(0)
    values = {f"metric_{place}{side}": rng.random(rows) for place in range(columns) for side in ("", "_low", "_high")}
    texts = {"label": [f"deeplabv3_{'very_' * 6}long/name{row}" for row in range(rows)]}
    return pd.DataFrame({**texts, **values, "evidence": ["not told from the baseline by these few seeds"] * rows})


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="no TeX is installed")
def test_tables_compile_and_fit_the_page(tmp_path: Path) -> None:
    results, _ = make_results(tmp_path / "run", images=2, hostile=True)
    tables = [to_latex(getattr(results, name), name) for name in PRINTED]
    tables += [to_latex(wide_and_long(9, rows), f"made_{rows}") for rows in (0, 3, 3 * LINES)]
    document = (
        r"\documentclass{article}\usepackage{booktabs,array,longtable}\begin{document}\the\textwidth"
        + "\n".join(tables)
        + r"\end{document}"
    )
    (tmp_path / "tables.tex").write_text(document)
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "tables.tex"]
    # Long tables find their widths in the second pass.
    for _ in range(2):
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False)
        assert done.returncode == 0, done.stdout[-2000:]
    too_wide = [float(width) for width in re.findall(r"Overfull \\hbox \(([\d.]+)pt", done.stdout)]
    assert max(too_wide, default=0) < 345 - WIDTH_PT
    assert "Float too large" not in done.stdout
