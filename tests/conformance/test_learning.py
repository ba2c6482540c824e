"""Every model and every loss learns: one batch as a trial loads it, until the loss has clearly fallen.

A loss sees a head's outputs and not the backbone: one model of each head has every loss, the others two each.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import pytest
import torch

from trainables.config import TrialConfig
from trainables.execution import TrialData
from trainables.loaders import Batch
from trainables.loops import train_one_epoch
from trainables.losses import LOSSES
from trainables.models import MODELS
from trainables.optimizers import OPTIMIZERS, Constant
from trainables.options import TrainingOptions
from trainables.trial import Trial
from trainables.updates import Updater

FALLEN = 0.85
STEPS = 25
ALL_LOSSES = [*LOSSES, LOSSES.example, "focal+lovasz"]
ONE_OF_EACH_HEAD = ("fcn_resnet18", "deeplabv3_mobilenet_v3_large", "lraspp_mobilenet_v3_large")


def losses_of(place: int, model: str) -> list[str]:
    """All, or the first and one more, which is another for the next model."""
    others = ALL_LOSSES[1:]
    return ALL_LOSSES if model in ONE_OF_EACH_HEAD else [ALL_LOSSES[0], others[place % len(others)]]


@pytest.fixture(scope="module")
def trial(request: pytest.FixtureRequest, mini_data: TrialData) -> Iterator[tuple[Trial, Batch, dict[str, Any]]]:
    """A trial of each model, its first batch, and its weights before any step."""
    values = {"model.name": request.param, "image_size": "48x64", "batch_size": 2, "epochs": 1}
    built = Trial(TrialConfig.from_flat(values), mini_data)
    yield built, next(iter(built.train_loader)), copy.deepcopy(built.model.state_dict())


def test_no_head_is_left_out() -> None:
    assert {name.split("_")[0] for name in ONE_OF_EACH_HEAD} == {name.split("_")[0] for name in MODELS.names()}


@pytest.mark.parametrize(
    ("trial", "loss"),
    [(model, loss) for place, model in enumerate(MODELS.names()) for loss in losses_of(place, model)],
    indirect=["trial"],
)
def test_one_batch_drives_the_loss_down(trial: tuple[Trial, Batch, dict[str, Any]], loss: str) -> None:
    built, batch, initial = trial
    built.model.load_state_dict(initial)
    torch.manual_seed(0)
    optimizer = OPTIMIZERS.get("adamw")(built.model.parameters(), lr=1e-3, weight_decay=0.0)
    updater = Updater(built.model, optimizer, Constant(STEPS), TrainingOptions())
    function = LOSSES.get(loss)(built._class_pixels)
    losses: list[float] = []
    while len(losses) < STEPS and not (losses and losses[-1] < FALLEN * losses[0]):
        told = train_one_epoch(
            built.model,
            [batch],
            loss=function,
            updater=updater,
            aux_weight=built.model.aux_weight,
            normalisation=built.model.normalisation,
            device=built.device,
        )
        losses.append(told["train/loss"])
    assert losses[-1] < FALLEN * losses[0], losses
