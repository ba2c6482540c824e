"""Points of an earlier run in a new space: the best that lie in it come behind its own, others are named with why."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from search_spaces import SPACES, SearchSpace
from sweep.journal import Journal
from sweep.objectives import objective_of
from sweep.warm_start import MOST, warm_start
from trainables.errors import DataError

from ..manifests import make_manifest
from .simulated import OBJECTIVE, SPACE, drive, make
from .started import Stage, staged

MODEL = "lraspp_mobilenet_v3_large"
BASE = {"image_size": "32x32", "epochs": 4, "model.name": MODEL, "model.weights": "none", "seed": 0}


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of the space `loss`."""
    folder = tmp_path_factory.mktemp("earlier")
    make_manifest(space=SPACE).save(folder)
    with Journal(folder / "journal.jsonl") as journal:
        drive(make(journal))
    return folder


def warm(space: SearchSpace, run_dir: Path):  # type: ignore[no-untyped-def]
    return warm_start(space, BASE, run_dir, objective_of(OBJECTIVE))


def test_best_points_come_behind_the_spaces_own(run_dir: Path) -> None:
    found = warm(SPACE, run_dir)
    with Journal(run_dir / "journal.jsonl") as journal:
        table = make(journal).table
    scores = {t.trial_id: t.metrics[OBJECTIVE] for t in table.trials.values() if t.state == "completed"}
    considered = [*found.taken, *found.left]
    assert len(considered) == MOST
    assert max(scores, key=lambda one: scores[one]) in considered
    assert found.space.start[: len(SPACE.start)] == SPACE.start
    added = found.space.start[len(SPACE.start) :]
    assert [dict(point) for point in added] == [dict(table.trials[one].params) for one in found.taken]
    assert all("starting point already" in why for why in found.left.values())
    for line, expected in zip(found.lines(run_dir), [f"warm start from {run_dir}", *found.left], strict=True):
        assert expected in line


def test_points_outside_are_named_with_the_value(run_dir: Path) -> None:
    narrow = tuple(
        dataclasses.replace(p, low=1e-3, high=1.1e-3, default=1e-3) if p.key == "optimizer.lr" else p
        for p in SPACE.parameters
    )
    low = tuple({**point, "optimizer.lr": 1e-3} for point in SPACE.start)
    found = warm(dataclasses.replace(SPACE, parameters=narrow, start=low), run_dir)
    assert found.left and not found.taken
    assert all("optimizer.lr=" in why and "is outside 0.001 .. 0.0011 (log)" in why for why in found.left.values())
    held = warm(SPACE.fix({"loss.name": "focal"}), run_dir)
    assert not any("focal" not in str(point) and point.get("loss.name") for point in held.space.start)
    assert any("and held at focal here" in why for why in held.left.values())
    other = warm(SPACES.get("augment")([MODEL], "none"), run_dir)
    assert other.taken == () and "no point of it" in other.lines(run_dir)[0]


def test_run_without_a_complete_trial_or_no_run_is_one_error(run_dir: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="is not a run folder"):
        warm(SPACE, tmp_path / "nowhere")
    make_manifest(space=SPACE).save(tmp_path)
    with Journal(tmp_path / "journal.jsonl") as journal:
        journal.append("interrupted", reason="SIGINT", spent_s=1.0)
    with pytest.raises(DataError, match="no trial of it ended at full budget with a value of val/miou"):
        warm(SPACE, tmp_path)


def test_command_takes_them_over_and_keeps_them(
    run_dir: Path, tmp_path: Path, mini_root: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    stage: Stage = staged(tmp_path, mini_root, capsys, monkeypatch)
    stage.start("--space", "loss", "--warm-start", str(run_dir))
    own = SPACES.get("loss")([MODEL], "none").start
    start = stage.sessions[-1].manifest.space.start
    assert len(start) > len(own) and stage.resume() == (0, "")
    code, errors = stage.resume("--warm-start", str(run_dir))
    assert code == 2 and "--warm-start" in errors
