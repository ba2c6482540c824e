"""docs/reliability.md names tests that exist."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def test_each_fault_is_held_by_a_test_that_exists() -> None:
    rows = [line for line in (ROOT / "docs" / "reliability.md").read_text().splitlines() if line.startswith("| ")][1:]
    assert len(rows) > 20
    for row in rows:
        *_, last = row.strip("| ").split(" | ")
        named = re.findall(r"`(tests/[\w/]+\.py)::(test_\w+)`", last)
        assert named, f"no test: {row}"
        for file, test in named:
            assert f"\ndef {test}(" in (ROOT / file).read_text(), f"{file} has no {test}"
