"""Every head in a trial: it learns, and a trial that was interrupted ends with the same bits."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch

from trainables.config import TrialConfig
from trainables.execution import TrialData
from trainables.models import HEADS
from trainables.trial import Trial

BACKBONE = "test_resnet"
"""timm's smallest with feature maps at strides 2 to 32."""


@pytest.mark.parametrize("head", list(HEADS))
def test_head_learns_and_resumes_bit_for_bit(head: str, mini_data: TrialData, tmp_path: Path) -> None:
    few = dataclasses.replace(mini_data, train=mini_data.train[:8], val=mini_data.val[:2])
    config = TrialConfig.from_flat(
        {"model.name": f"{head}_{BACKBONE}", "image_size": "32x48", "epochs": 4, "batch_size": 4, "optimizer.lr": 3e-3}
    )
    whole, resumed = Trial(config, few), Trial(config, few)
    for _ in range(2):
        whole.run_epoch()
    resumed.restore(whole.save(tmp_path))
    for trial in (whole, resumed):
        while not trial.done:
            trial.run_epoch()
    assert [entry["metrics"] for entry in resumed.history] == [entry["metrics"] for entry in whole.history]
    for (name, one), other in zip(whole.model.state_dict().items(), resumed.model.state_dict().values(), strict=True):
        assert torch.equal(one, other), name
    losses = [entry["metrics"]["train/loss"] for entry in whole.history]
    assert losses[-1] < 0.9 * losses[0]
