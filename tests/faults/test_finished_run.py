"""Faults of the files of a finished run: what can be made again is, what cannot is refused by name."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ..command import events, run
from ..copies import copy_run
from .twin import NAME, Twin, resume_of


def test_views_the_report_and_a_lost_checkpoint_are_made_good(twin: Twin, tmp_path: Path) -> None:
    run_dir = copy_run(twin.run_dir, tmp_path / NAME)
    rows = (run_dir / "trials.csv").read_text()
    (run_dir / "trials.csv").write_text(rows.splitlines()[0] + "\n")
    (run_dir / "study.db").write_bytes(b"no database")
    shutil.rmtree(run_dir / "report")
    (flipped,) = run_dir.glob("checkpoints/t002/epoch-*/model.safetensors")
    content = bytearray(flipped.read_bytes())
    content[len(content) // 2] ^= 1
    flipped.unlink()
    flipped.write_bytes(content)
    done = run("sweep.run", *resume_of(tmp_path))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "every trial of this sweep has ended" in done.stdout
    assert f"{run_dir / 'checkpoints' / 't002'} is gone or was altered after training" in done.stdout
    assert (run_dir / "trials.csv").read_text() == rows
    assert (run_dir / "study.db").read_bytes().startswith(b"SQLite format 3")
    assert Twin(run_dir) == twin


def _alter_journal(run_dir: Path) -> None:
    path = run_dir / "journal.jsonl"
    lines = path.read_text().splitlines(keepends=True)
    lines[3] = lines[3].replace("{", '{"label":"better",', 1)
    path.write_text("".join(lines))


def _lose_a_line(run_dir: Path) -> None:
    path = run_dir / "journal.jsonl"
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join(lines[:5] + lines[6:]))


def _tear_manifest(run_dir: Path) -> None:
    path = run_dir / "manifest.json"
    path.write_text(path.read_text()[:-500])


def _swap_splits(run_dir: Path) -> None:
    path = run_dir / "splits.json"
    content = json.loads(path.read_text())
    content["train"], content["val"] = content["val"], content["train"]
    path.write_text(json.dumps(content))


def _alter_best(run_dir: Path) -> None:
    path = run_dir / "best" / "baseline" / "model.safetensors"
    content = path.read_bytes()
    path.unlink()
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        (_alter_journal, "journal.jsonl: line 4 does not match its seal"),
        (_lose_a_line, "journal.jsonl: line 6 does not match its seal"),
        (_tear_manifest, "manifest.json"),
        (_swap_splits, "the train split is not the one that the sweep began with"),
        (_alter_best, "not the files that the sweep published"),
    ],
    ids=["journal altered", "journal without a line", "manifest torn", "splits altered", "best altered"],
)
def test_what_cannot_be_made_again_is_refused_and_nothing_is_written(
    twin: Twin, tmp_path: Path, damage: Callable[[Path], None], told: str
) -> None:
    run_dir = copy_run(twin.run_dir, tmp_path / NAME)
    damage(run_dir)
    before = {path: path.read_bytes() for path in run_dir.glob("*") if path.is_file()}
    refused = run("sweep.run", "--extend", "2", "--name", NAME, "--runs-dir", str(tmp_path), "--wandb", "disabled")
    assert refused.returncode == 1, refused.stdout
    assert told in refused.stderr and "Traceback" not in refused.stderr
    assert {path: path.read_bytes() for path in run_dir.glob("*") if path.is_file()} == before


def test_data_that_changed_since_is_refused_by_name(twin: Twin, mini_root: Path, tmp_path: Path) -> None:
    copy_run(twin.run_dir, tmp_path / NAME)
    root = shutil.copytree(mini_root, tmp_path / "data")
    path = root / "masks" / "im003.png"
    Image.fromarray(np.zeros_like(np.asarray(Image.open(path)))).save(path)
    (root / "images" / "im007.png").unlink()
    refused = run("sweep.run", *resume_of(tmp_path), "--data-root", str(root))
    assert refused.returncode == 1
    assert "1 mask changed: im003" in refused.stderr and "1 image missing or unreadable: im007" in refused.stderr
    assert len(events(tmp_path / NAME)) == len(events(twin.run_dir))
