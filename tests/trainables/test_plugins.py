"""Users' own components: loaded once, taken along to other processes, and never run for a stranger."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from importlib import metadata
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from trainables import plugins
from trainables.checkpoint import publish, rebuild_model
from trainables.config import TrialConfig
from trainables.errors import CheckpointError, DataError, SegsweepError, UsageError
from trainables.execution import Execution, TrialData
from trainables.losses import LOSSES
from trainables.registry import Registry
from trainables.trial import Trial

from ..plugin import LOSS, nothing_left_behind, write

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(autouse=True)
def forget(tmp_path: Path) -> Iterator[Callable[[], None]]:
    with nothing_left_behind(tmp_path / "cache") as as_new:
        yield as_new


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return write(tmp_path / "own", LOSS)


def records() -> list[plugins.PluginRecord]:
    return [plugin.record() for plugin in plugins.loaded()]


def test_file_is_run_once_however_often_and_from_wherever_it_is_named(file: Path, tmp_path: Path) -> None:
    (first,) = plugins.load([file])
    assert "sharpened" in LOSSES
    (copy,) = plugins.load([write(tmp_path / "copy", LOSS)])
    assert copy.sha256 == first.sha256
    assert records() == [plugins.PluginRecord(str(file), first.sha256)]


@pytest.mark.parametrize(
    ("source", "line", "told"),
    [
        ("import math\nx = 1\nmath.nothing_of_this_name\n", 3, "AttributeError"),
        ("x = 1\nif x\n    pass\n", 2, "SyntaxError"),
        ("def f():\n    raise KeyError('deep')\n\nf()\n", 2, "KeyError: 'deep'"),
        ("import sys\nsys.exit(3)\n", 2, "SystemExit: 3"),
    ],
)
def test_error_in_a_file_is_told_with_its_line_and_leaves_nothing(
    source: str, line: int, told: str, tmp_path: Path
) -> None:
    before = LOSSES.names()
    path = write(tmp_path, LOSS.replace('"""', "'''"), "good_start.py")
    path.write_text(source)
    with pytest.raises(SegsweepError) as caught:
        plugins.load([path])
    assert f"{path}, line {line}: " in str(caught.value) and told in str(caught.value)
    assert LOSSES.names() == before and not plugins.loaded()


def test_file_that_fails_half_way_can_be_mended_and_loaded(file: Path) -> None:
    file.write_text(LOSS + "\n1 / 0\n")
    with pytest.raises(SegsweepError, match="ZeroDivisionError"):
        plugins.load([file])
    assert "sharpened" not in LOSSES
    file.write_text(LOSS)
    plugins.load([file])
    assert "sharpened" in LOSSES


def test_name_that_is_taken_is_refused_with_both_places(file: Path, tmp_path: Path) -> None:
    ours = write(tmp_path, LOSS.replace("sharpened", "dice"), "ours.py")
    with pytest.raises(SegsweepError, match="'dice'") as caught:
        plugins.load([ours])
    assert "overlap.py:" in str(caught.value) and str(caught.value).count(f"{ours}:11") == 1
    plugins.load([file])
    other = write(tmp_path, LOSS + "\n# another file\n", "other.py")
    with pytest.raises(SegsweepError) as caught:
        plugins.load([other])
    assert f"{file}:11" in str(caught.value) and f"{other}:11" in str(caught.value)


def test_missing_file_is_bad_usage(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"nowhere\.py cannot be read"):
        plugins.load([tmp_path / "nowhere.py"])


def test_plugin_of_a_run_is_recognised_by_its_content_wherever_it_is(
    file: Path, tmp_path: Path, forget: Callable[[], None]
) -> None:
    plugins.load([file])
    told = records()
    forget()
    moved = write(tmp_path / "elsewhere", LOSS, "renamed.py")
    file.unlink()
    with pytest.raises(DataError, match="is gone"):
        plugins.load_recorded(told, [], run=tmp_path)
    assert "sharpened" not in LOSSES
    (found,) = plugins.load_recorded(told, [moved], run=tmp_path)
    assert found.path == str(moved) and "sharpened" in LOSSES


def test_plugin_that_was_changed_is_refused_by_name_and_not_run(
    file: Path, tmp_path: Path, forget: Callable[[], None]
) -> None:
    plugins.load([file])
    told = records()
    forget()
    witness = tmp_path / "was_run"
    file.write_text(f"open({str(witness)!r}, 'w')\n")
    for named in ([], [file]):
        with pytest.raises(DataError, match=r"mine\.py .* was changed since"):
            plugins.load_recorded(told, named, run=tmp_path)
    assert not witness.exists()


def test_strangers_plugin_is_not_run_until_the_user_names_it(
    file: Path, tmp_path: Path, forget: Callable[[], None]
) -> None:
    """A manifest names a file that lies on this machine; this user has never asked for it."""
    witness = tmp_path / "was_run"
    file.write_text(f"{LOSS}\nopen({str(witness)!r}, 'w')\n")
    told = [plugins._read(file).record()]
    with pytest.raises(DataError, match="you never asked for it before") as caught:
        plugins.load_recorded(told, [], run=tmp_path)
    assert str(file) in str(caught.value) and "--plugins" in str(caught.value)
    assert not witness.exists()
    plugins.load_recorded(told, [file], run=tmp_path)
    assert witness.exists()
    forget()
    plugins.load_recorded(told, [], run=tmp_path)  # asked for once
    assert "sharpened" in LOSSES


def test_files_that_a_run_did_not_begin_with_are_for_reports_only(file: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"mine\.py is none of them"):
        plugins.load_recorded([], [file], run=tmp_path)
    assert "sharpened" not in LOSSES
    plugins.load_recorded([], [file], run=tmp_path, more=True)
    assert "sharpened" in LOSSES


def test_installed_package_brings_its_components_and_is_told_by_version(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    write(tmp_path, LOSS, "their_losses.py")
    info = tmp_path / "their_package-2.5.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: their-package\nVersion: 2.5\n")
    (info / "entry_points.txt").write_text("[segsweep.plugins]\nlosses = their_losses\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    plugins.load_installed()
    plugins.load_installed()
    (told,) = [record for record in records() if "their-package" in record.package]
    assert told.package == "their-package 2.5 (losses)" and told.path.endswith("their_losses.py")
    assert "sharpened" in LOSSES
    assert [plugin.name for plugin in plugins.used_by([("loss", "sharpened")])] == ["their-package 2.5 (losses)"]
    with pytest.raises(DataError, match=r"their-package 2\.5 .* install that version"):
        plugins.load_recorded([dataclasses.replace(told, sha256="0" * 64)], [], run=tmp_path)
    sys.modules.pop("their_losses")


def test_installed_package_that_fails_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    entry = metadata.EntryPoint("broken", "no_such_module_anywhere", plugins.GROUP)
    monkeypatch.setattr(metadata, "entry_points", lambda **_: [entry])
    with pytest.raises(SegsweepError, match="no_such_module_anywhere"):
        plugins.load_installed()


def test_checkpoint_names_the_plugins_that_it_needs_and_only_those(
    file: Path, tmp_path: Path, mini_data: TrialData, tiny_model: None, forget: Callable[[], None]
) -> None:
    other = write(tmp_path, "OTHER = 1\n", "other.py")
    plugins.load([file, other])

    def trained(loss: str) -> Path:
        config = TrialConfig.from_flat({"image_size": "24x32", "epochs": 1, "batch_size": 4, "loss.name": loss})
        trial = Trial(config, mini_data, execution=Execution())
        trial.run_epoch()
        publish(trial.save(tmp_path / loss), tmp_path / "best" / loss, label="best")
        return tmp_path / "best" / loss

    needing, plain = trained("dice+sharpened"), trained("dice")
    sha256 = plugins.load([file])[0].sha256
    assert json.loads((needing / "trial.json").read_text())["plugins"] == [{"name": "mine.py", "sha256": sha256}]
    assert json.loads((plain / "trial.json").read_text())["plugins"] == []
    rebuild_model(needing)
    forget()
    rebuild_model(plain)
    with pytest.raises(CheckpointError, match=r"(?s)trial\.json: .*mine\.py") as caught:
        rebuild_model(needing)
    assert sha256[:12] in str(caught.value)
    plugins.load_used([{"name": "mine.py", "sha256": sha256}])  # from where this user ran it
    rebuild_model(needing)


def test_loader_processes_know_the_components(file: Path, tmp_path: Path, mini_root: Path) -> None:
    """They unpickle a data set and transformations whose classes are a plugin's, and do not import the program."""
    own = write(tmp_path, TRANSFORMATION, "tint.py")
    program = tmp_path / "train.py"
    program.write_text(
        "import sys\nfrom trainables.train import main\nif __name__ == '__main__':\n    sys.exit(main(sys.argv[1:]))\n"
        f"open({str(tmp_path / 'imported again')!r}, 'w').close()\n"
    )
    flags = ["--plugins", f"{file},{own}", "--data", "folder", "--data-root", str(mini_root), "--epochs", "1"]
    flags += ["--device", "cpu", "--threads", "1", "--workers", "1", "--out", str(tmp_path / "out")]
    sets = ["augment.policy=free", "augment.repaint.p=1", "loss.name=sharpened", "image_size=32x48"]
    done = subprocess.run(
        [sys.executable, str(program), *flags, *(word for pair in sets for word in ("--set", pair))],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    assert not (tmp_path / "imported again").exists()
    assert len(json.loads((tmp_path / "out" / "model" / "trial.json").read_text())["plugins"]) == 2


TRANSFORMATION = """
import albumentations as A
from trainables.augmentations import transformation

class Repaint(A.ImageOnlyTransform):
    def get_params(self):
        return {"shift": self.py_random.randint(1, 40)}

    def apply(self, img, shift, **params):
        return img // 2 + shift

@transformation("repaint")
def repaint(size, p):
    '''Darker, by a random offset.'''
    return Repaint(p=p)
"""


def test_pattern_of_names_is_asked_again_after_something_was_registered() -> None:
    """A name that was unknown once is not unknown for good."""
    registry: Registry[Any] = Registry("thing", resolve=lambda name: known.get(name))
    known: dict[str, ModuleType] = {}
    assert "later" not in registry
    known["later"] = sys
    assert registry.get("later") is sys
