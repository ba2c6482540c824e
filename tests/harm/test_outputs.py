"""What commands beside a sweep write: as the umask says, without secrets, through no link, from no pickle."""

from __future__ import annotations

import importlib
import io
import json
import os
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import PIL.Image
import pytest

from trainables import commands
from trainables.checkpoint import file_sha256

from .scene import Scene, unharmed

SECRET = "correct-horse-battery"


def _masks(scene: Scene) -> list[str]:
    few = scene.base / "few"
    few.mkdir()
    for name in ("train00", "train01"):
        mask = np.asarray(PIL.Image.open(scene.base / "data" / "masks" / f"{name}.png"))
        PIL.Image.fromarray(np.where(mask == 255, 0, mask)).save(few / f"{name}.png")
    classes = str(scene.base / "data" / "classes.json")
    return ["--truth", str(few), "--predictions", str(few), "--classes", classes, "--out", "out"]


def _folder(scene: Scene) -> list[str]:
    for part in ("images", "masks"):
        (scene.base / "out" / part).mkdir(parents=True)
        for name in ("train00", "train01", "train02"):
            shutil.copy(scene.base / "data" / part / f"{name}.png", scene.base / "out" / part)
    return ["out", "--classes", "left,right,dot", "--void", "255"]


WRITING: dict[str, tuple[Callable[[Scene], list[str]], str]] = {
    "trainables.data.init": (_folder, "dataset.yaml"),
    "analysis.predict": (lambda scene: [str(scene.run_dir), "data/images/test00.png", "--out", "out"], "summary.csv"),
    "analysis.export": (
        lambda scene: [str(scene.run_dir), "--format", "torch_export", "--images", "1", "--out", "out/model.pt2"],
        "model.pt2",
    ),
    "analysis.score": (lambda scene: [*_masks(scene), "--no-report"], "failures.csv"),
    "analysis.failures": (_masks, "failures.csv"),
}
"""Commands that write into `out`: what they are called with, and one of their files."""


def call(module: str, arguments: list[str]) -> int:
    try:
        return int(importlib.import_module(module).main(arguments))
    except SystemExit as stop:
        return int(str(stop.code))


@pytest.mark.parametrize("module", [module for module in WRITING if module != "analysis.export"])  # takes long
def test_files_have_the_umasks_permissions_and_hold_no_secret_of_the_environment(
    scene: Scene, module: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments, file = WRITING[module][0](scene), scene.base / "out" / WRITING[module][1]
    (scene.base / "out").mkdir(exist_ok=True)
    given = set((scene.base / "out").rglob("*"))
    monkeypatch.setenv("MY_API_KEY", SECRET)
    before = os.umask(0o027)
    try:
        assert call(module, arguments) == 0, capsys.readouterr().err
    finally:
        os.umask(before)
    made = [path for path in (scene.base / "out").rglob("*") if path.is_file() and path not in given]
    assert file in made
    assert {path.name: oct(path.stat().st_mode & 0o777) for path in made if path.stat().st_mode & 0o777 != 0o640} == {}
    assert [path.name for path in made if SECRET.encode() in path.read_bytes()] == []
    assert SECRET not in "".join(capsys.readouterr())


@pytest.mark.parametrize("module", WRITING)
def test_link_in_the_place_of_a_file_is_not_written_through(
    scene: Scene, module: str, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments, file = WRITING[module][0](scene), scene.base / "out" / WRITING[module][1]
    file.parent.mkdir(exist_ok=True)
    file.symlink_to(scene.victim / "precious.txt")
    before = scene.snapshot()
    assert call(module, arguments) in (1, 2)
    told = capsys.readouterr().err
    assert str(file.relative_to(scene.base)) in told and "Traceback" not in told
    assert file.is_symlink() and unharmed(before, scene)


class Runs:
    """Writes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("module", [module for module in WRITING if module != "analysis.failures"])
def test_pickle_in_the_place_of_weights_or_masks_is_not_run(
    scene: Scene, module: str, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments, ran = WRITING[module][0](scene), scene.base / "ran"
    if module in ("analysis.predict", "analysis.export"):
        weights = scene.run_dir / "best" / "best" / "model.safetensors"
        weights.unlink()
        weights.write_bytes(pickle.dumps(Runs(ran)))
        description = weights.with_name("trial.json")
        content = json.loads(description.read_text())
        description.write_text(json.dumps({**content, "sha256": file_sha256(weights)}))  # its hash fits
    else:
        masks = scene.base / ("out/masks" if module == "trainables.data.init" else "few")
        packed = io.BytesIO()
        np.save(packed, np.array([[Runs(ran)]], object), allow_pickle=True)
        for mask in list(masks.iterdir()):
            mask.unlink()
            mask.with_suffix(".npy").write_bytes(packed.getvalue())
    assert call(module, arguments) == 1
    assert "Traceback" not in capsys.readouterr().err
    assert not ran.exists()


@pytest.mark.parametrize("module", sorted(commands.SUBCOMMANDS.values()))
def test_words_that_a_command_does_not_know_are_repeated_without_their_secrets(
    module: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert (
        call(module, ["x", "y", "--nope", f"https://me:{SECRET}@host", "--token", SECRET, f"--api-key={SECRET}"]) == 2
    )
    assert SECRET not in "".join(capsys.readouterr())
