"""Runs that stop where Ray would start: the command, the run folder and the open session, without a trial."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from sweep import run
from sweep.journal import Journal
from sweep.session import Session


@dataclasses.dataclass
class Stage:
    """Runs `python -m sweep.run` in this process up to `Session.conduct`, and keeps the session for a look.

    Attributes:
        runs: The runs folder.
        root: Of a `folder` data set.
        sessions: What `conduct` was called on.
    """

    runs: Path
    root: Path
    capsys: pytest.CaptureFixture[str]
    sessions: list[Session] = dataclasses.field(default_factory=list)

    def start(self, *more: str, name: str = "mine") -> Path:
        """Makes a run folder."""
        data = ["--data", "folder", "--data-root", str(self.root), "--set", "image_size=48x64"]
        data += ["--trials", "5", "--max-epochs", "5"]
        assert self("--space", "lr", *data, "--name", name, *more) == (0, "")
        return self.runs / name

    def __call__(self, *arguments: str) -> tuple[int, str]:
        """Exit code and errors."""
        self.capsys.readouterr()
        try:
            code = run.main([*arguments, "--runs-dir", str(self.runs)])
        except SystemExit as stop:  # argparse
            code = int(str(stop.code))
        return code, self.capsys.readouterr().err

    def resume(self, *more: str, name: str = "mine") -> tuple[int, str]:
        """Goes on with the run."""
        return self("--resume", "--name", name, *more)

    def events(self, name: str = "mine") -> list[dict[str, Any]]:
        """The run's journal."""
        with Journal(self.runs / name / "journal.jsonl") as journal:
            return list(journal.events)


def staged(
    folder: Path, root: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, *, columns: int = 400
) -> Stage:
    """A stage in a folder of its own."""
    stage = Stage(folder / "runs", root, capsys)

    def conduct(self: Session) -> int:
        stage.sessions.append(self)
        return 0

    monkeypatch.setattr(Session, "conduct", conduct)
    monkeypatch.setattr("sweep.start.measure_models", lambda *what, **how: ())
    monkeypatch.setenv("COLUMNS", str(columns))
    return stage
