"""Rules that stop a trial early: pure functions of the results reported so far, so that a journal rebuilds them."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

import numpy as np

from trainables.registry import Registry

if TYPE_CHECKING:
    from search_spaces.core.space import SearchSpace


class StopRule(Protocol):
    """Receives every result of the search in the journal's order and says which trials should stop."""

    def observe(self, trial_id: str, epoch: int, value: float) -> str | None:
        """Records a score (higher is better) and returns the reason to stop, or None.

        The rule remembers the score whether or not the caller follows the advice, so that a trial that is exempt from
        stopping still counts among its rivals.
        """

    def epochs(self) -> str:
        """When the rule compares, such as `at epoch 3`; empty if it never does."""


class Never:
    """Every trial runs to its full budget."""

    def observe(self, trial_id: str, epoch: int, value: float) -> str | None:
        """Never stops anybody."""
        return None

    def epochs(self) -> str:
        """Never."""
        return ""


class Asha:
    """Asynchronous successive halving (Li et al., "A System for Massively Parallel Hyperparameter Tuning", 2020).

    At each rung (an epoch) a trial goes on if its score reaches the quantile 1 - 1/`reduction` of the scores that other
    trials recorded at that rung before it, as in Ray's AsyncHyperBandScheduler with one bracket. Unlike there, the
    first `reduction` - 1 at a rung always go on: against one or two rivals a stop would be a coin toss.

    Args:
        grace: Epochs before the first rung.
        reduction: About one in `reduction` trials passes a rung.
        max_epochs: The full budget; there is no rung at it.
    """

    def __init__(self, *, grace: int, reduction: float, max_epochs: int) -> None:
        self.rungs: dict[int, dict[str, float]] = {}
        rung = float(grace)
        while rung < max_epochs:
            self.rungs[round(rung)] = {}
            rung *= reduction
        self.reduction = reduction

    def observe(self, trial_id: str, epoch: int, value: float) -> str | None:
        """Records the score if the epoch is a rung."""
        rung = self.rungs.get(epoch)
        if rung is None or trial_id in rung:
            return None
        rivals = list(rung.values())
        rung[trial_id] = value
        if len(rivals) < self.reduction - 1:
            return None
        cutoff = float(np.percentile(rivals, (1 - 1 / self.reduction) * 100))
        if value >= cutoff:
            return None
        return f"{value:.4f} at epoch {epoch} is below {cutoff:.4f}, the cut-off of {len(rivals)} rivals there"

    def epochs(self) -> str:
        """Its rungs."""
        if not self.rungs:
            return ""
        *first, last = map(str, self.rungs)
        return f"at epochs {', '.join(first)} and {last}" if first else f"at epoch {last}"


class Median:
    """Stops a trial whose best score is below the median of the others' running averages at the same epoch.

    Vizier's median rule (Golovin et al., 2017), from `grace` epochs and `min_rivals` rivals on.
    """

    def __init__(self, *, grace: int, max_epochs: int, min_rivals: int = 3) -> None:
        self.grace = grace
        self.max_epochs = max_epochs
        self.min_rivals = min_rivals
        self.scores: dict[str, dict[int, float]] = {}

    def observe(self, trial_id: str, epoch: int, value: float) -> str | None:
        """Records the score and compares."""
        own = self.scores.setdefault(trial_id, {})
        own[epoch] = value
        averages = [
            float(np.mean([score for at, score in scores.items() if at <= epoch]))
            for rival, scores in self.scores.items()
            if rival != trial_id and epoch in scores
        ]
        if epoch < self.grace or len(averages) < self.min_rivals:
            return None
        median = float(np.median(averages))
        best = max(own.values())
        if best < median:
            return f"its best {best:.4f} by epoch {epoch} is below {median:.4f}, the median of {len(averages)} rivals"
        return None

    def epochs(self) -> str:
        """From the grace period to the last epoch but one."""
        return f"at every epoch from {self.grace} on" if self.grace < self.max_epochs else ""


SCHEDULERS: Registry[Callable[..., StopRule]] = Registry("scheduler")
"""Factories `(max_epochs) -> StopRule`."""


def grace_epochs(max_epochs: int) -> int:
    """Epochs that every trial gets: a third of the budget, at least two.

    The known-good one-cycle schedule has its highest rate at 0.3 of the budget; before that, a score says how well a
    trial warms up.
    """
    return max(2, math.ceil(max_epochs / 3))


@SCHEDULERS.register("asha")
def asha(max_epochs: int) -> Asha:
    """ASHA with a reduction of 3 from a third of the budget."""
    return Asha(grace=grace_epochs(max_epochs), reduction=3, max_epochs=max_epochs)


@SCHEDULERS.register("median")
def median(max_epochs: int) -> Median:
    """The median rule from a third of the budget."""
    return Median(grace=grace_epochs(max_epochs), max_epochs=max_epochs)


@SCHEDULERS.register("none")
def none(max_epochs: int) -> Never:
    """No early stopping."""
    return Never()


def scheduler_for(space: SearchSpace, scheduler: str) -> str:
    """The rule that applies to a space: none where it varies the seed.

    Stopping the unlucky seeds of a configuration early would leave the lucky ones to represent it.
    """
    return "none" if any(parameter.key == "seed" for parameter in space.parameters) else scheduler


def comparison_note(scheduler: str, max_epochs: int) -> str:
    """Says at which epochs trials are compared, and what that means for schedules of the learning rate.

    A schedule spans the full budget whether or not a trial is stopped, so that at a rung all schedules are equally far;
    but one that decays late, as one-cycle and cosine do, has the best of its curve before it.
    """
    spans = f"learning-rate schedules span all {max_epochs} epochs"
    epochs = SCHEDULERS.get(scheduler)(max_epochs).epochs()
    if not epochs:
        return f"{spans}; every trial runs to its end"
    return (
        f"{spans}; {scheduler} compares trials {epochs}, each with others at the same epoch, before the rate has "
        "decayed; --scheduler none compares finished ones"
    )
