"""A space for a budget that has no room for whole trainings: features once, where a space names one that does so."""

from __future__ import annotations

import dataclasses

from search_spaces.core.space import shorter_space
from sweep.config import SweepConfig
from sweep.plan import MeasuredCost
from sweep.planning import CONFIRMATIONS, WHOLE
from sweep.preflight import Prepared, plan_for
from trainables.models import knows_images
from trainables.words import counted, time_text


def may_be_shortened(config: SweepConfig) -> bool:
    """Whether a command leaves it to the budget what of the model is trained."""
    decides = {"training.freeze", "training.backbone_lr", "training.loss_stride", "augment.policy"}
    asked = config.time_budget is not None and config.max_epochs is None and config.seeds is None
    return asked and knows_images(config.weights) and bool(shorter_space(config.space)) and not decides & {*config.set_}


def needed_seconds(cost: MeasuredCost, points: int, slots: int) -> float:
    """Of `WHOLE` epochs of every starting point and of the cheapest confirmation.

    Args:
        cost: Of the known-good point.
        points: Starting points of the space.
        slots: Trials at once.
    """
    return (points + CONFIRMATIONS[0].trials) * WHOLE * cost.cost.epoch_seconds / slots


def shortened(config: SweepConfig, ready: Prepared) -> tuple[SweepConfig, Prepared]:
    """The sweep over the shorter space instead."""
    config = dataclasses.replace(config, space=shorter_space(config.space))
    space, base, left_out = plan_for(config, ready.usual.size, ready.data)
    return config, dataclasses.replace(ready, space=space, base=base, left_out=left_out)


def told(config: SweepConfig, cost: MeasuredCost, points: int, slots: int) -> str:
    """Why the space is another, in one sentence.

    Args:
        config: As it was asked for.
        cost: Of the known-good point.
        points: Starting points of the space that was asked for.
        slots: Trials at once.
    """
    needed = time_text(round(needed_seconds(cost, points, slots) / 60) * 60)
    return (
        f"space {shorter_space(config.space)} instead of {config.space}: an epoch of the known-good point takes "
        f"{cost.cost.epoch_seconds:.0f} s here with {counted(slots, 'trial')} at once, so that {WHOLE} epochs of its "
        f"{points} starting points and of a confirmation would take about {needed}. The backbone stays as it was "
        f"predefined and is run once per image. To search {config.space} all the same: --max-epochs N, or "
        f"--time-budget {needed} or more"
    )
