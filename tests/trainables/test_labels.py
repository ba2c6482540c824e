"""The labels that every sweep has come first, and the modules that name labels name these."""

from __future__ import annotations

import ast
from pathlib import Path

from trainables import labels

ROOT = Path(__file__).resolve().parents[2]
OTHER_FACTS = {"search_spaces/__init__.py", "search_spaces/baseline.py"}
"""Files in which `baseline` is the name of a space."""


def test_the_chief_labels_come_first_and_the_others_as_they_are_given() -> None:
    assert labels.in_order(["c", "best", "a", "baseline", "b"]) == ["baseline", "best", "c", "a", "b"]
    assert labels.in_order(["a", "best"]) == ["best", "a"]


def test_no_other_module_writes_their_names() -> None:
    names = {labels.BASELINE, labels.BEST, labels.MAJORITY}
    written = {
        path.relative_to(ROOT).as_posix()
        for package in ("trainables", "search_spaces", "sweep", "analysis")
        for path in (ROOT / package).rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Constant) and node.value in names
    }
    assert written - OTHER_FACTS == {"trainables/labels.py", "trainables/run_folder.py"}
