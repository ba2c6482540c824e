"""The sweep that all faults happen to, and its undisturbed twin."""

from __future__ import annotations

from pathlib import Path

import pytest

from ..command import run
from .twin import NAME, Twin, flags_of


@pytest.fixture(scope="session")
def twin(mini_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Twin:
    """The sweep that nothing happens to, with its report on val."""
    runs = tmp_path_factory.mktemp("twin")
    done = run("sweep.run", *flags_of(mini_root, runs))
    assert done.returncode == 0, done.stdout + done.stderr
    whole = Twin(runs / NAME)
    assert {phase for kind, phase, *_ in whole.story if kind == "suggested"} == {"search", "finish", "confirm"}
    assert whole.story[-1][0] == "refitted"
    return whole
