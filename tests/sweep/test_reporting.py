"""The report on val at the end of a sweep, written by another process: where it lies, or why there is none."""

from __future__ import annotations

import io
import sys
from pathlib import Path

import pytest
from rich.console import Console

from sweep.reporting import report_on_val
from trainables import commands


@pytest.mark.parametrize(
    ("program", "written", "said"),
    [
        ("print('pictures\\t3/4')", True, "{uri}   (on val)"),
        ("import sys; sys.exit('no font')", False, "the report on val failed: no font"),
    ],
)
def test_where_the_report_lies_is_said_or_why_there_is_none(
    program: str, written: bool, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(commands, "subprocess_command", lambda *words: [sys.executable, "-c", program])
    shown = io.StringIO()
    assert report_on_val(tmp_path, Console(file=shown), pictures=0) is written
    assert said.format(uri=(tmp_path / "report" / "val" / "report.html").as_uri()) in shown.getvalue()
