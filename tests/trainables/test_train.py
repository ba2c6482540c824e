"""The command that trains one configuration: what it refuses, and that it goes on where it was interrupted."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import pytest
from PIL import Image

from trainables import train
from trainables.checkpoint import load_trial
from trainables.config import TrialConfig
from trainables.data import DATASETS
from trainables.data.check import check
from trainables.data.splits.frozen import changed_parts, freeze_splits
from trainables.data.splits.given import given_splits
from trainables.data.splits.stratified import drawn_by

from ..mini import write

pytestmark = pytest.mark.usefixtures("tiny_model")

Told = pytest.CaptureFixture[str]


def command(root: Path, out: Path, *more: str) -> list[str]:
    sizes = ["--set", "image_size=24x32", "--set", "batch_size=4"]
    return ["--data", "folder", "--data-root", str(root), "--out", str(out), "--device", "cpu", *sizes, *more]


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        (["--threads", "0"], "threads must be at least 1"),
        (["--workers", "-1"], "workers must be at least 0"),
        (["--epochs", "0"], "epochs=0: must be >= 1"),
        (["--precision", "fp16"], "bf16 or fp32"),
        (["--device", "tpu"], "--device tpu: must be cpu or cuda"),
        (["--device", "cuda:99"], "take --device cpu"),
        (["--gpus", "2"], "--device cpu was asked for"),
        (["--set", "zzz=1"], "python -m trainables.components"),
        (["--set", "optimizer.lr"], "write KEY=VALUE"),
        (["--trial", "nowhere.json"], "nowhere.json cannot be read"),
    ],
)
def test_what_cannot_be_done_is_bad_usage(
    mini_root: Path, tmp_path: Path, capsys: Told, flags: list[str], told: str
) -> None:
    assert train.main(command(mini_root, tmp_path / "out", *flags)) == 2
    assert told in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("content", ["[1]", "{}", '{"config": null}', "{"])
def test_file_that_is_no_trial_is_bad_usage(mini_root: Path, tmp_path: Path, capsys: Told, content: str) -> None:
    (tmp_path / "trial.json").write_text(content)
    assert train.main(command(mini_root, tmp_path / "out", "--trial", str(tmp_path / "trial.json"))) == 2
    assert "best/LABEL/trial.json" in capsys.readouterr().err


@pytest.mark.parametrize(("flags", "epochs"), [([], 2), (["--epochs", "1"], 1), (["--set", "epochs=1"], 1)])
def test_trial_is_trained_for_its_own_epochs_unless_others_are_asked_for(
    mini_root: Path, tmp_path: Path, flags: list[str], epochs: int
) -> None:
    config = TrialConfig.from_flat({"image_size": "24x32", "epochs": 2, "batch_size": 4, "optimizer.lr": 0.02})
    (tmp_path / "trial.json").write_text(json.dumps({"config": config.flat()}))
    assert train.main(command(mini_root, tmp_path / "out", "--trial", str(tmp_path / "trial.json"), *flags)) == 0
    record = load_trial(tmp_path / "out" / "model")
    assert (record.epochs, record.config.epochs, record.config.optimizer.params["lr"]) == (epochs, epochs, 0.02)


def test_each_epoch_is_told_in_one_line_with_the_names_and_decimals_of_the_metrics(
    mini_root: Path, tmp_path: Path, capsys: Told
) -> None:
    assert train.main(command(mini_root, tmp_path / "out", "--epochs", "1")) == 0
    (told,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("epoch ")]
    metrics = load_trial(tmp_path / "out" / "model").metrics
    assert told.rpartition("  ")[0] == (
        f"epoch 1/1  loss {metrics['train/loss']:.4f}  val mIoU {metrics['val/miou']:.4f}  "
        f"pixel accuracy {metrics['val/pixel_accuracy']:.4f}"
    )


def test_interrupted_command_goes_on_with_equal_digits_and_does_not_train_twice(
    mini_root: Path, tmp_path: Path, capsys: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert train.main(command(mini_root, tmp_path / "whole", "--epochs", "2")) == 0

    out, real = tmp_path / "out", train.Trial.run_epoch
    again = command(mini_root, out, "--epochs", "2")

    def killed(*_: object, **__: object) -> NoReturn:
        raise KeyboardInterrupt

    def killed_later(trial: train.Trial) -> dict[str, Any]:
        return killed() if trial.epoch else real(trial)

    for owner, name, kill in ((train.Trial, "run_epoch", killed_later), (train, "publish", killed)):
        with monkeypatch.context() as patch:
            patch.setattr(owner, name, kill)
            assert train.main(again) == 130
    assert not (out / "model").exists()
    capsys.readouterr()
    assert train.main(again) == 0
    assert "epoch " not in capsys.readouterr().out, "published, not trained again"
    one, other = (load_trial(tmp_path / name / "model") for name in ("whole", "out"))
    assert [entry["metrics"] for entry in one.history] == [entry["metrics"] for entry in other.history]
    assert one.sha256 == other.sha256
    assert train.main(again) == 2
    assert "give another --out" in capsys.readouterr().err


def test_training_that_began_before_there_was_a_choice_goes_on_with_its_size_and_stretches(
    mini_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begin = ["--data", "folder", "--data-root", str(mini_root), "--out", str(tmp_path / "out"), "--device", "cpu"]
    begin += ["--epochs", "2", "--set", "batch_size=4"]
    real = train.Trial.run_epoch

    def killed_later(trial: train.Trial) -> dict[str, Any]:
        if trial.epoch:
            raise KeyboardInterrupt
        return real(trial)

    with monkeypatch.context() as patch:
        patch.setattr(train.Trial, "run_epoch", killed_later)
        assert train.main([*begin, "--set", "image_size=24x24", "--set", "resize=stretch"]) == 130
    assert train.main(begin) == 0
    config = load_trial(tmp_path / "out" / "model").config
    assert (config.image_size, config.resize) == ((24, 24), "stretch")


def test_folder_of_other_data_or_another_configuration_is_not_gone_on_with(
    mini_root: Path, tmp_path: Path, capsys: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, real = tmp_path / "out", train.Trial.save

    def killed(trial: train.Trial, folder: Path) -> Path:
        real(trial, folder)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(train.Trial, "save", killed)
        assert train.main(command(mini_root, out, "--epochs", "2")) == 130
    more = write(tmp_path / "more", count=45)
    for flags, told in (
        (command(more, out, "--epochs", "2"), "trained on other images"),
        (command(mini_root, out, "--epochs", "2", "--set", "optimizer.lr=0.5"), "optimizer.lr is 0.003 there"),
    ):
        assert train.main(flags) == 1
        assert told in capsys.readouterr().err


@pytest.fixture
def published(tmp_path: Path) -> Path:
    """A `best/LABEL/trial.json` in a run folder, trained on its own copy of the mini data with splits of its own."""
    root = write(tmp_path / "data", count=30)
    ids = tuple(DATASETS.get("folder")(root=root).ids())
    lists = tmp_path / "lists"
    lists.mkdir()
    for part, members in (("train", ids[:12]), ("val", ids[12:20]), ("test", ids[20:])):
        (lists / f"{part}.txt").write_text("\n".join(members))
    assert train.main(command(root, tmp_path / "first", "--splits", str(lists), "--epochs", "1")) == 0
    run_dir = tmp_path / "runs" / "mine"
    shutil.copytree(tmp_path / "first" / "model", run_dir / "best" / "flip")
    data = DATASETS.get("folder")(root=root)
    freeze_splits(data, given_splits(data, lists), run_dir, hashes=check(data, given_splits(data, lists)).hashes)
    return run_dir / "best" / "flip" / "trial.json"


def of_trial(path: Path, out: Path, *more: str) -> list[str]:
    return ["--trial", str(path), "--out", str(out), "--device", "cpu", "--epochs", "1", *more]


def test_trial_is_trained_on_the_images_of_its_sweep(published: Path, tmp_path: Path, capsys: Told) -> None:
    """The README's own line: without flags on data it trained on `scenes`, whatever the sweep's data was."""
    assert train.main(of_trial(published, tmp_path / "again")) == 0
    assert "on folder: 12 train, 8 val images" in capsys.readouterr().out
    first, again = (load_trial(path) for path in (published.parent, tmp_path / "again" / "model"))
    assert again.data == first.data
    assert again.metrics == first.metrics, "the same configuration on the same images gives the same digits"


def test_trial_of_the_version_before_finds_its_images_through_the_run_around_it(
    published: Path, tmp_path: Path, capsys: Told
) -> None:
    content = json.loads(published.read_text())
    data = content.pop("data")
    published.write_text(json.dumps(content))
    assert train.main(of_trial(published, tmp_path / "alone")) == 2
    assert "does not say which images" in capsys.readouterr().err
    splits = {part: {"hash": digest} for part, digest in data["splits"].items()}
    manifest = {"data": {"name": "folder", "root": data["root"], "splits": splits}}
    (published.parents[2] / "manifest.json").write_text(json.dumps(manifest))
    assert train.main(of_trial(published, tmp_path / "again")) == 0
    assert "12 train, 8 val images" in capsys.readouterr().out


def test_trial_whose_images_changed_or_went_is_refused(published: Path, tmp_path: Path, capsys: Told) -> None:
    root = Path(load_trial(published.parent).data["root"])
    moved = tmp_path / "moved"
    root.rename(moved)
    assert train.main(of_trial(published, tmp_path / "gone")) == 1
    assert str(root) in capsys.readouterr().err
    assert train.main(of_trial(published, tmp_path / "found", "--data-root", str(moved))) == 0
    mask = moved / "masks" / "im003.png"
    Image.new("L", (64, 48), 1).save(mask)
    assert train.main(of_trial(published, tmp_path / "changed", "--data-root", str(moved))) == 2
    assert "the train split is another one, or its files changed" in capsys.readouterr().err
    assert not (tmp_path / "changed").exists()
    other = ["--data", "folder", "--data-root", str(moved)]
    assert train.main(of_trial(published, tmp_path / "other", *other)) == 0, "asked for by name it is another data set"


def test_trial_without_its_run_takes_the_data_sets_own_splits_only_if_they_are_the_same(
    published: Path, tmp_path: Path, capsys: Told
) -> None:
    alone = tmp_path / "a" / "b" / "c" / "trial.json"
    alone.parent.mkdir(parents=True)
    shutil.copy(published, alone)
    assert train.main(of_trial(alone, tmp_path / "out")) == 2
    assert "the train split is another one" in capsys.readouterr().err
    assert train.main(of_trial(alone, tmp_path / "out", "--splits", str(tmp_path / "lists"))) == 0


def test_what_was_trained_on_splits_of_the_rule_before_finds_them_again(
    mini_root: Path, tmp_path: Path, capsys: Told
) -> None:
    begin = command(mini_root, tmp_path / "first", "--epochs", "1")
    with drawn_by("images"):
        assert train.main(begin) == 0
    assert train.main(begin) == 2, "it ended"
    assert "holds 1 epochs already" in capsys.readouterr().err
    model = tmp_path / "first" / "model"
    assert train.main(of_trial(model / "trial.json", tmp_path / "again")) == 0
    assert load_trial(tmp_path / "again" / "model").data == load_trial(model).data
    data = DATASETS.get("folder")(root=mini_root)
    assert changed_parts(data, data.splits(), load_trial(model).data["splits"]), "the rule of today draws others"


def test_training_does_not_go_on_with_masks_that_were_repainted(
    tmp_path: Path, capsys: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    root, real = write(tmp_path / "data", count=20), train.Trial.save

    def killed(trial: train.Trial, folder: Path) -> Path:
        real(trial, folder)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(train.Trial, "save", killed)
        assert train.main(command(root, tmp_path / "out", "--epochs", "2")) == 130
    for path in (root / "masks").iterdir():
        mask = np.asarray(Image.open(path)).copy()
        mask[:4, :4] = 1
        Image.fromarray(mask).save(path)
    assert train.main(command(root, tmp_path / "out", "--epochs", "2")) == 1
    assert "trained on other images: train and val changed since" in capsys.readouterr().err


def test_folder_of_the_user_is_not_trained_into(mini_root: Path, tmp_path: Path, capsys: Told) -> None:
    """Each is refused before the first epoch, and nothing in it changes."""
    victim = tmp_path / "victim"
    victim.mkdir()
    (victim / "precious.txt").write_text("mine")
    for name, files in {
        "data": {"data.json": "mine"},
        "model": {"model/trial.json": '{"mine": 1}', "model/model.safetensors": "mine"},
        "checkpoint": {"checkpoints/epoch-0000/state.json": "mine"},
        "notes": {"notes.txt": "mine"},
    }.items():
        out = tmp_path / name
        for file, content in files.items():
            (out / file).parent.mkdir(parents=True, exist_ok=True)
            (out / file).write_text(content)
        assert train.main(command(mini_root, out, "--epochs", "1")) == 2, name
        assert "was not made by this command" in capsys.readouterr().err
        assert {file: (out / file).read_text() for file in files} == files
        assert len([path for path in out.rglob("*") if path.is_file()]) == len(files)
    linked = tmp_path / "linked"
    linked.mkdir()
    (linked / "checkpoints").symlink_to(victim)
    assert train.main(command(mini_root, linked, "--epochs", "1")) == 2
    assert "symbolic link" in capsys.readouterr().err
    assert [path.name for path in victim.iterdir()] == ["precious.txt"]


@pytest.mark.parametrize(
    "data",
    [
        {"name": "folder", "root": "x"}, {"root": "x", "splits": {"train": "a", "val": "b"}}, ["folder"], "folder",
        {"name": None, "root": "x", "splits": {"train": "a", "val": "b"}},
        {"name": "folder", "root": ["x"], "splits": {"train": "a", "val": "b"}},
        {"name": "folder", "root": "x", "splits": {}}, {"name": "folder", "root": "x", "splits": {"zz": "a"}},
        {"name": "folder", "root": "x", "splits": {"train": "a", "val": 1}},
        {"name": "folder", "root": "x", "splits": {"train": "a", "val": "b", "groups": "c"}},
    ],
)  # fmt: skip
def test_trial_whose_data_are_described_wrongly_is_bad_usage(
    published: Path, tmp_path: Path, capsys: Told, data: object
) -> None:
    published.write_text(json.dumps({**json.loads(published.read_text()), "data": data}))
    assert train.main(of_trial(published, tmp_path / "out")) == 2
    assert "is not a best/LABEL/trial.json" in capsys.readouterr().err
