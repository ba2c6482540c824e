"""A run folder from a stranger: hostile names, links and hashes. No command touches anything outside of it."""

from __future__ import annotations

import importlib
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import analysis.report.__main__
import sweep.tracking
import trainables.train
from sweep import run
from sweep.journal import Journal
from trainables import commands
from trainables.data.base import DATASETS

from ..analysis.small_run import tell_trial
from .scene import Scene, unharmed

HOSTILE_NAMES = ("../../victim", "{victim}", "..", "a/../../../victim", ".hidden")


COMMANDS: dict[str, Callable[[Path], int]] = {
    "report on val": lambda run_dir: analysis.report.main([str(run_dir), "--split", "val"]),
    "report on test": lambda run_dir: analysis.report.main([str(run_dir), "--save-predictions", "--top", "2"]),
    "resume": lambda run_dir: run.main(["--resume", "--name", run_dir.name, "--runs-dir", str(run_dir.parent)]),
    "extend": lambda run_dir: run.main(["--extend", "1", "--name", run_dir.name, "--runs-dir", str(run_dir.parent)]),
    "tracking": lambda run_dir: sweep.tracking.main([str(run_dir)]),
    "train": lambda run_dir: trainables.train.main(
        ["--trial", str(run_dir / "best" / "best" / "trial.json"), "--epochs", "1", "--out", str(run_dir / "trained")]
    ),
}
REFUSING = ("report on val", "report on test", "resume", "extend")


def call(name: str, scene: Scene) -> int:
    try:
        return COMMANDS[name](scene.run_dir)
    except SystemExit as stop:
        return int(str(stop.code))


@pytest.mark.parametrize("command", ["report on val", "resume"])
def test_honest_run_passes(scene: Scene, command: str) -> None:
    before = scene.snapshot()
    assert call(command, scene) == 0
    assert unharmed(before, scene)


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("key", ["trial_id", "label"])
def test_names_in_a_trial_json_that_lead_out(
    scene: Scene, command: str, key: str, capsys: pytest.CaptureFixture[str]
) -> None:
    before = scene.snapshot()
    for name in HOSTILE_NAMES:
        path = scene.run_dir / "best" / "best" / "trial.json"
        content = json.loads(path.read_text())
        path.write_text(json.dumps({**content, key: name.format(victim=scene.victim)}))
        code = call(command, scene)
        told = capsys.readouterr().err
        assert "Traceback" not in told
        if command.startswith("report"):
            assert code == 1 and str(path) in told
        assert unharmed(before, scene), name


@pytest.mark.parametrize("command", ["resume", "extend"])
@pytest.mark.parametrize("key", ["trial_id", "label"])
def test_names_in_a_journal_that_lead_out(
    scene: Scene, command: str, key: str, capsys: pytest.CaptureFixture[str]
) -> None:
    before = scene.snapshot()
    path = scene.run_dir / "journal.jsonl"
    record = json.loads((scene.run_dir / "best" / "baseline" / "trial.json").read_text())
    for name in HOSTILE_NAMES:
        path.unlink()
        names = {"trial_id": "0000", "label": "flip", key: name.format(victim=scene.victim)}
        with Journal(path) as journal:
            tell_trial(journal, names["trial_id"], names["label"], record["config"], {})
        assert call(command, scene) == 1
        told = capsys.readouterr().err
        assert "would become the name of a folder" in told and "Traceback" not in told
        assert unharmed(before, scene), name


LINKS = {
    "best": "best",
    "a label": "best/best",
    "a model": "best/best/model.safetensors",
    "the report": "report",
    "a table": "report/tables/comparison.csv",
    "the report on val": "report/val",
    "the pictures": "report/failures",
    "kept evaluations": "report/evaluations",
    "an evaluation": "report/evaluations/val/0000",
    "checkpoints": "checkpoints",
    "a checkpoint": "checkpoints/0000/epoch-0002",
    "the logs": "logs",
    "the views": "trials.csv",
    "the study": "study.db",
    "the journal": "journal.jsonl",
    "the splits": "splits.json",
    "the test split": "splits.test.json",
}


@pytest.mark.parametrize("command", REFUSING)
@pytest.mark.parametrize("what", LINKS)
def test_links_out_of_the_run_folder_are_refused(
    scene: Scene, command: str, what: str, capsys: pytest.CaptureFixture[str]
) -> None:
    place = scene.run_dir / LINKS[what]
    place.parent.mkdir(parents=True, exist_ok=True)
    original = scene.base / "moved"
    if place.exists():
        shutil.move(place, original)
        target = original
    else:
        target = scene.victim if not place.suffix else scene.victim / "precious.txt"
    place.symlink_to(target)
    before = scene.snapshot()
    assert call(command, scene) == 1
    told = capsys.readouterr().err
    assert f"{place} is a symbolic link" in told and "Traceback" not in told
    assert unharmed(before, scene)
    assert place.is_symlink()


OPENING = {
    "sweep.confirm": (),
    "sweep.ablate": (),
    "sweep.refit": (),
    "sweep.replay": ("0000",),
    "analysis.audit": (),
    "analysis.predict": ("data/images",),
    "analysis.export": (),
}
"""The other commands that open a run, with what they need beside its folder."""


@pytest.mark.parametrize("spoilt", ["a link", "a pipe", "the manifest", "a table of a gigabyte"])
def test_every_command_that_opens_a_run_looks_at_it_first(
    scene: Scene, spoilt: str, capsys: pytest.CaptureFixture[str]
) -> None:
    if spoilt == "a link":
        (scene.run_dir / "report").mkdir(exist_ok=True)
        (scene.run_dir / "report" / "tables").symlink_to(scene.victim)
        expected = "is a symbolic link"
    elif spoilt == "a pipe":
        (scene.run_dir / "trials.csv").unlink(missing_ok=True)
        os.mkfifo(scene.run_dir / "trials.csv")
        expected = "trials.csv is a pipe"
    elif spoilt == "the manifest":
        (scene.run_dir / "manifest.json").write_text("[" * 100_000)
        expected = "manifest.json is damaged"
    else:
        (scene.run_dir / "report" / "tables").mkdir(parents=True, exist_ok=True)
        with (scene.run_dir / "report" / "tables" / "failures.csv").open("wb") as table:
            table.truncate(2**30)  # a hole: no blocks on the disk
        expected = "SEGSWEEP_MAX_FILE=1024M"
    before = scene.snapshot()
    for module, others in OPENING.items():
        code = importlib.import_module(module).main([str(scene.run_dir), *others])
        told = capsys.readouterr().err
        assert code == 1 and expected in told and "Traceback" not in told, module
    assert unharmed(before, scene)
    named = {module for module in commands.SUBCOMMANDS.values() if module not in OPENING}
    elsewhere = {"sweep.run", "analysis.report", "sweep.tracking", "trainables.train", "sweep.status"}
    assert named == WITHOUT_A_RUN | elsewhere, "a new one? sweep.status: tests/sweep/test_status.py"


WITHOUT_A_RUN = {
    "trainables.data.init",
    "trainables.data.check",
    "trainables.components",
    "search_spaces.preview",
    "sweep.slurm",
    "sweep.kuberay",
    "analysis.failures",
    "analysis.score",
}


@pytest.mark.parametrize("command", ["resume", "report on val"])
def test_own_files_beside_ours_stay(scene: Scene, command: str) -> None:
    own = [
        scene.run_dir / place
        for place in (
            "best/notes.txt", "best/.DS_Store", "best/mine/model.pt", "best/mine/trial.json.bak",
            "best/baseline/README.md", "report/val/failures/notes.txt", "report/val/failures/best/mine.png",
            "report/val/predictions/mine.png", "report/val/tables/mine.csv", "report/evaluations/val/0000/mine.txt",
            "checkpoints/0000/mine.txt", "checkpoints/0000/epoch-0001/mine.txt",
        )
    ]  # fmt: skip
    for path in own:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("mine")
    assert call(command, scene) == 0
    assert [path for path in own if not path.is_file() or path.read_text() != "mine"] == []


@pytest.mark.parametrize("command", REFUSING)
@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        ("test split is val's", "the test split is not the one that the sweep began with"),
        ("other weights", "not the files that the sweep published"),
        ("other scores", "not the files that the sweep published"),
    ],
)
def test_what_does_not_match_the_hashes_is_refused_by_name(
    scene: Scene, command: str, spoil: str, told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call("resume", scene) == 0  # publishes, and writes the hashes into the journal
    if spoil == "test split is val's":
        seen = json.loads((scene.run_dir / "splits.json").read_text())
        forged = {"format": 1, "data": "folder", "test": seen["val"]}
        (scene.run_dir / "splits.test.json").write_text(json.dumps(forged))
    elif spoil == "other weights":
        weights = scene.run_dir / "best" / "best" / "model.safetensors"
        weights.unlink()
        shutil.copy(scene.run_dir / "checkpoints" / "0002" / "epoch-0002" / "model.safetensors", weights)
    else:
        path = scene.run_dir / "best" / "best" / "trial.json"
        path.write_text(path.read_text().replace("0.3", "0.9"))
    capsys.readouterr()
    assert call(command, scene) == 1
    errors = capsys.readouterr().err
    assert told in errors and "Traceback" not in errors


def test_openings_are_not_written_through_a_link(scene: Scene, capsys: pytest.CaptureFixture[str]) -> None:
    (scene.run_dir.parent / "test_openings.jsonl").symlink_to(scene.victim / "precious.txt")
    assert call("report on test", scene) == 1
    assert "symbolic link" in capsys.readouterr().err
    assert (scene.victim / "precious.txt").read_text() == "mine"


def test_run_of_this_name_that_is_a_broken_link_is_refused(scene: Scene, capsys: pytest.CaptureFixture[str]) -> None:
    (scene.run_dir.parent / "new").symlink_to(scene.base / "nowhere")
    data = ["--data", "folder", "--data-root", str(scene.base / "data"), "--set", "image_size=32x48"]
    assert run.main([*data, "--name", "new", "--runs-dir", str(scene.run_dir.parent)]) == 2
    assert "exists" in capsys.readouterr().err
    assert not (scene.base / "nowhere").exists()


def test_data_of_the_scene_is_what_the_tests_think(scene: Scene) -> None:
    assert len(DATASETS.get("folder")(root=scene.base / "data").ids()) == 51


DAMAGE: dict[str, Any] = {
    "data": "x",
    "data.name": ["scenes"],
    "data.root": {"a": 1},
    "data.splits": {"train": "x"},
    "data.classes": [1],
    "space": None,
    "space.parameters": "x",
    "base": "x",
    "base.epochs": [2],
    "budget": {"trials": "many"},
    "resources": {"zz": 1},
    "execution": {"zz": 1},
    "versions": "x",
    "tracking": [],
    "objective": "val/speed",
    "name": 7,
}


@pytest.mark.parametrize("command", REFUSING)
@pytest.mark.parametrize("key", DAMAGE)
def test_damaged_manifest_is_one_error(
    scene: Scene, command: str, key: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = scene.run_dir / "manifest.json"
    content = json.loads(path.read_text())
    *outer, last = key.split(".")
    place = content
    for one in outer:
        place = place[one]
    place[last] = DAMAGE[key]
    path.write_text(json.dumps(content))
    before = scene.snapshot()
    assert call(command, scene) == 1
    told = capsys.readouterr().err
    assert "Traceback" not in told
    assert f"{path} is damaged ({key}" in told or (key == "objective" and "which this version does not know" in told)
    assert unharmed(before, scene)


@pytest.mark.parametrize("command", REFUSING)
@pytest.mark.parametrize("file", ["manifest.json", "splits.json", "journal.jsonl"])
@pytest.mark.parametrize("content", [b"\xff\xfe", b"[" * 100_000, b"null", b""])
def test_file_of_a_run_that_cannot_be_read_is_one_error(
    scene: Scene, command: str, file: str, content: bytes, capsys: pytest.CaptureFixture[str]
) -> None:
    (scene.run_dir / file).write_bytes(content + b"\n")
    code = call(command, scene)
    assert "Traceback" not in capsys.readouterr().err
    assert code == 1 or (file == "journal.jsonl" and code in (0, 1))


@pytest.mark.parametrize("command", ["report on val", "resume"])
@pytest.mark.parametrize("place", ["report", "report/val", "report/val/report.html", "study.db", "best"])
def test_something_else_in_the_place_of_ours_is_one_error(
    scene: Scene, command: str, place: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = scene.run_dir / place
    if path.is_dir():
        shutil.rmtree(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix:
        path.unlink(missing_ok=True)
        path.mkdir()
        (path / "mine.txt").write_text("mine")
    else:
        path.write_text("mine")
    code = call(command, scene)
    assert "Traceback" not in capsys.readouterr().err
    assert (
        code == 1
        or (place.startswith("report") and command == "resume")
        or (place == "study.db" and command != "resume")
    )
    assert path.exists()


def test_copied_run_still_shows_that_its_test_split_was_opened(
    scene: Scene, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call("report on test", scene) == 0
    (scene.run_dir.parent / "test_openings.jsonl").unlink()
    capsys.readouterr()
    assert call("report on val", scene) == 0
    assert "test      opened once so far" in capsys.readouterr().out
