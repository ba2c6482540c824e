"""Copies of run folders: as good as copies, nearly as small as links, and harm to an original is found."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from . import copies
from .copies import altered_originals, copy_run

WEIGHTS = "best/best/model.safetensors"


@pytest.fixture
def run_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(copies, "_originals", {})
    run_dir = tmp_path / "run"
    (run_dir / WEIGHTS).parent.mkdir(parents=True)
    (run_dir / WEIGHTS).write_bytes(b"weights")
    (run_dir / "trials.csv").write_text("trial_id\n")
    (run_dir / "link").symlink_to("trials.csv")
    return run_dir


def test_weights_are_linked_and_all_else_is_copied(run_dir: Path, tmp_path: Path) -> None:
    copy = copy_run(run_dir, tmp_path / "copy")
    assert (copy / WEIGHTS).samefile(run_dir / WEIGHTS)
    assert not (copy / "trials.csv").samefile(run_dir / "trials.csv")
    assert (copy / "trials.csv").read_text() == "trial_id\n" and (copy / "link").is_symlink()


def test_file_system_without_links_gets_copies(run_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(source: str, target: str) -> None:
        raise OSError(18, "Invalid cross-device link")

    monkeypatch.setattr("os.link", fails)
    copy = copy_run(run_dir, tmp_path / "copy")
    assert not (copy / WEIGHTS).samefile(run_dir / WEIGHTS) and (copy / WEIGHTS).read_bytes() == b"weights"


def test_harm_to_an_original_is_found_and_a_replaced_file_is_none(run_dir: Path, tmp_path: Path) -> None:
    copy = copy_run(run_dir, tmp_path / "copy")
    (copy / WEIGHTS).unlink()
    shutil.copy(copy / "trials.csv", copy / WEIGHTS)
    assert altered_originals() == []
    (copy_run(run_dir, tmp_path / "second") / WEIGHTS).write_bytes(b"WEIGHTS")
    copy_run(run_dir, tmp_path / "third")
    assert altered_originals() == [run_dir / WEIGHTS]
