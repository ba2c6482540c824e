"""Whether a configuration can learn at all: one batch of real images, trained on until it is memorised.

The cheapest test of a pipeline there is (Karpathy, "A Recipe for Training Neural Networks", 2019): masks out of step,
a rate far too high or too low, a loss that ignores its input, all show here in a minute.
"""

from __future__ import annotations

import dataclasses
import statistics
from collections.abc import Callable
from dataclasses import dataclass

import torch

from trainables.data.void import void_id
from trainables.loaders import Batch, stacked
from trainables.loops import Forward, train_one_epoch
from trainables.optimizers import Constant
from trainables.trial import Trial
from trainables.updates import Updater

LEARNED = 0.5
"""Share of its first value to which the loss must fall."""


@dataclass(frozen=True)
class Overfit:
    """How one batch was learnt.

    Attributes:
        losses: The loss of each step.
        accuracy: Share of the batch's pixels (void left out) whose class is right at the end; NaN if all are void.
    """

    losses: tuple[float, ...]
    accuracy: float

    @property
    def first(self) -> float:
        """The loss before anything was learnt."""
        return self.losses[0]

    @property
    def last(self) -> float:
        """The median of the last five losses, since dropout makes single ones jump."""
        return statistics.median(self.losses[-5:])

    @property
    def learned(self) -> bool:
        """Whether the loss fell to `LEARNED` of its first value; never where there was nothing to learn (all void)."""
        return self.first > 0 and self.last <= LEARNED * self.first


def overfit_batch(trial: Trial, *, steps: int, report: Callable[[int, float], None] | None = None) -> Overfit:
    """Trains a fresh trial on the first batch of its first epoch again and again, at its constant base rates.

    Args:
        trial: Not trained yet; afterwards its model is of no other use.
        steps: How often, at least once.
        report: Called with the step (from 1) and its loss.

    Raises:
        DivergedError: If the loss becomes NaN or infinite.
    """
    batch: Batch = next(iter(trial.train_loader))
    options = dataclasses.replace(trial.config.training, accumulate=1, ema=0.0)
    updater = Updater(trial.model, trial.updater.optimizer, Constant(steps), options, precision=trial.precision)
    losses = []
    for step in range(1, steps + 1):
        trained = train_one_epoch(
            trial.model,
            [batch],
            loss=trial.loss,
            updater=updater,
            aux_weight=trial.model.aux_weight,
            normalisation=trial.model.normalisation,
            device=trial.device,
        )
        losses.append(trained["train/loss"])
        if report:
            report(step, losses[-1])
    return Overfit(tuple(losses), _accuracy(trial, batch))


@torch.no_grad()
def _accuracy(trial: Trial, batch: Batch) -> float:
    """In training mode: the running statistics of BatchNorm need more than these few steps."""
    forward = Forward(trial.model, trial.model.normalisation, trial.device)
    logits = forward(batch.input)["out"]
    target = stacked(batch.masks).to(trial.device)
    return float((logits.argmax(dim=1) == target)[target != void_id(logits.shape[1])].float().mean())
