"""Each line of docs/security.md names the tests that hold it, and they are there."""

from __future__ import annotations

import ast
import re
from functools import lru_cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
TEXT = (ROOT / "docs" / "security.md").read_text(encoding="utf-8")
TEST = re.compile(r"`(tests/[\w/]+\.py)::(\w+)`")


@lru_cache
def _functions(path: str) -> set[str]:
    tree = ast.parse((ROOT / path).read_text(encoding="utf-8"))
    return {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}


def test_every_line_names_a_test_that_exists() -> None:
    lines = [line for line in TEXT.splitlines() if line.startswith("| ") and not line.startswith("| `SEGSWEEP")]
    claims = [line for line in lines if line.split("|")[2].strip() not in ("test", "limit")]
    assert len(claims) > 30
    assert [line for line in claims if not TEST.search(line)] == []
    named = TEST.findall(TEXT)
    assert TEXT.count("tests/") - len(named) == 1, "the one that names this file"
    assert [f"{path}::{name}" for path, name in named if name not in _functions(path)] == []
