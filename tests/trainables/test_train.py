"""The command that trains one configuration: what it refuses, and that it goes on where it was interrupted."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NoReturn

import pytest

from trainables import train
from trainables.checkpoint import load_trial
from trainables.config import TrialConfig

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
        (["--precision", "fp16"], "take bf16 or fp32"),
        (["--device", "tpu"], "--device tpu: must be cpu or cuda"),
        (["--device", "cuda:99"], "take --device cpu"),
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
    assert "is no best/LABEL/trial.json" in capsys.readouterr().err


@pytest.mark.parametrize(("flags", "epochs"), [([], 2), (["--epochs", "1"], 1), (["--set", "epochs=1"], 1)])
def test_trial_is_trained_for_its_own_epochs_unless_others_are_asked_for(
    mini_root: Path, tmp_path: Path, flags: list[str], epochs: int
) -> None:
    config = TrialConfig.from_flat({"image_size": "24x32", "epochs": 2, "batch_size": 4, "optimizer.lr": 0.02})
    (tmp_path / "trial.json").write_text(json.dumps({"config": config.flat()}))
    assert train.main(command(mini_root, tmp_path / "out", "--trial", str(tmp_path / "trial.json"), *flags)) == 0
    record = load_trial(tmp_path / "out" / "model")
    assert (record.epochs, record.config.epochs, record.config.optimizer.params["lr"]) == (epochs, epochs, 0.02)


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
