"""The scene that commands are tried on."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from sweep.session import Session

from ..analysis.small_run import make_data, make_run_to_go_on_with
from ..copies import copy_run
from .scene import Scene


@pytest.fixture(scope="session")
def honest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A base with a run that every command accepts."""
    base = tmp_path_factory.mktemp("honest")
    data = make_data(base / "data")
    make_run_to_go_on_with(base / "runs" / "mine", data)
    return base


@pytest.fixture
def scene(honest: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Scene]:
    """A copy of it that a test may spoil."""
    base = tmp_path / "base"
    copy_run(honest, base)
    path = base / "runs" / "mine" / "manifest.json"
    path.write_text(path.read_text().replace(str(honest), str(base)))
    victim = base / "victim"
    (victim / "epoch-0001").mkdir(parents=True)
    for name in ("precious.txt", "results.npz", "evaluation.json", "model.safetensors", "trial.json", "000000.png"):
        (victim / name).write_text("mine")
        (victim / "epoch-0001" / name).write_text("mine")
    monkeypatch.chdir(base)
    monkeypatch.setattr(Session, "_search", lambda self, conductor: None)  # Ray would only train
    monkeypatch.setattr("sweep.session.report_on_val", lambda *args, **options: True)
    yield Scene(base)
