"""Memorising one batch: what it proves, and that it does not pass for a pipeline that cannot learn."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from trainables import train
from trainables.config import TrialConfig
from trainables.execution import TrialData
from trainables.overfit import Overfit, overfit_batch
from trainables.trial import Trial

BASE = {"image_size": "24x32", "epochs": 1, "batch_size": 4, "optimizer.lr": 0.03}

pytestmark = pytest.mark.usefixtures("tiny_model")


def make(data: TrialData, **flat: object) -> Trial:
    return Trial(TrialConfig.from_flat({**BASE, **flat}), data)


def test_one_batch_is_learnt_and_its_pixels_are_right(mini_data: TrialData) -> None:
    told: list[tuple[int, float]] = []
    outcome = overfit_batch(make(mini_data), steps=60, report=lambda step, loss: told.append((step, loss)))
    assert [step for step, _ in told] == list(range(1, 61))
    assert tuple(loss for _, loss in told) == outcome.losses
    assert outcome.learned
    assert outcome.last < 0.5 * outcome.first
    assert outcome.accuracy > 0.85


def test_the_rate_stays_at_its_base_whatever_the_schedule(mini_data: TrialData) -> None:
    trial = make(mini_data, **{"schedule.name": "one_cycle", "training.accumulate": 4, "training.ema": 0.9})
    overfit_batch(trial, steps=3)
    assert {group["lr"] for group in trial.updater.optimizer.param_groups} == {0.03}


def test_gradient_that_does_not_reach_the_model_is_not_learning(mini_data: TrialData) -> None:
    trial = make(mini_data)
    loss = trial.loss
    trial.loss = lambda logits, target: loss(logits.detach().requires_grad_(), target)  # type: ignore[assignment]
    outcome = overfit_batch(trial, steps=20)
    assert not outcome.learned
    assert outcome.accuracy < 0.85


def test_masks_of_noise_are_not_learnt(mini_data: TrialData) -> None:
    trial = make(mini_data)
    batch = next(iter(trial.train_loader))
    torch.manual_seed(0)
    batch.masks.random_(0, 3)
    trial.train_loader = [batch]  # type: ignore[assignment]
    assert not overfit_batch(trial, steps=40).learned


def test_one_jump_at_the_end_does_not_hide_what_was_learnt() -> None:
    assert Overfit((2.0, 1.0, 0.3, 0.2, 0.2, 1.9), 0.9).learned
    assert not Overfit((2.0, 1.9, 1.8, 1.7, 1.8, 0.1), 0.9).learned


def command(root: Path, *more: str) -> list[str]:
    pairs = [part for key, value in BASE.items() if key != "epochs" for part in ("--set", f"{key}={value}")]
    return ["--data", "folder", "--data-root", str(root), "--device", "cpu", "--threads", "1", *pairs, *more]


def test_command_shows_the_loss_and_leaves_nothing(
    mini_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert train.main(command(mini_root, "--overfit-batch", "60")) == 0
    printed = capsys.readouterr().out
    assert "step 1/60  loss" in printed
    assert "step 60/60  loss" in printed
    assert "learns: the loss fell from" in printed
    assert list(tmp_path.iterdir()) == []


def test_command_says_what_to_look_at_when_nothing_is_learnt(
    mini_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert train.main(command(mini_root, "--overfit-batch", "5", "--set", "optimizer.lr=1e-7")) == 1
    told = capsys.readouterr().err
    assert "one batch" in told
    assert "search_spaces.preview" in told


def test_batch_with_nothing_to_learn_is_not_learnt() -> None:
    assert not Overfit((0.0,) * 9, float("nan")).learned, "all void: the loss is 0 from the start"


@pytest.mark.parametrize("steps", ["0", "-3"])
def test_command_refuses_less_than_one_step(mini_root: Path, capsys: pytest.CaptureFixture[str], steps: str) -> None:
    assert train.main(command(mini_root, "--overfit-batch", steps)) == 2
    assert "at least 1 step" in capsys.readouterr().err
