"""The walks in CONTRIBUTING.md name functions that exist, few enough to follow, none twice."""

from __future__ import annotations

import importlib
import re
from pathlib import Path

import pytest

TEXT = (Path(__file__).resolve().parents[1] / "CONTRIBUTING.md").read_text(encoding="utf-8")
WALKS = re.split(r"^\*\*", TEXT.split("## Three walks")[1].split("\n## ")[0], flags=re.MULTILINE)[1:]
STEP = re.compile(r"`((?:trainables|search_spaces|sweep|analysis)\.[\w.]+)`")


def test_there_are_three_walks() -> None:
    assert len(WALKS) == 3


@pytest.mark.parametrize("walk", WALKS, ids=lambda walk: walk.split(",")[0])
def test_walk_can_be_followed(walk: str) -> None:
    steps = STEP.findall(walk)
    assert 4 <= len(steps) <= 8
    assert len(set(steps)) == len(steps), "a place is visited twice"
    for step in steps:
        parts = step.split(".")
        for end in range(len(parts) - 1, 0, -1):
            try:
                found = importlib.import_module(".".join(parts[:end]))
            except ModuleNotFoundError:
                continue
            for name in parts[end:]:
                found = getattr(found, name)
            break
        else:
            raise AssertionError(f"{step} is not there")
        assert callable(found), step
