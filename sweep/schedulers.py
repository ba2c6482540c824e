"""Rules that stop a trial early: pure functions of the results reported so far, so that a journal rebuilds them."""

from __future__ import annotations

import math
from bisect import bisect_right, insort
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Protocol

import numpy as np

from trainables.registry import Registry
from trainables.words import counted

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
        self._ascending: dict[int, list[float]] = {}
        rung = float(grace)
        while rung < max_epochs:
            self.rungs[round(rung)] = {}
            self._ascending[round(rung)] = []
            rung *= reduction
        self.reduction = reduction

    def observe(self, trial_id: str, epoch: int, value: float) -> str | None:
        """Records the score if the epoch is a rung."""
        rung = self.rungs.get(epoch)
        if rung is None or trial_id in rung:
            return None
        rung[trial_id] = value
        rivals = self._ascending[epoch]
        count = len(rivals)
        cutoff = percentile(rivals, (1 - 1 / self.reduction) * 100) if count >= self.reduction - 1 else value
        insort(rivals, value)
        if value >= cutoff:
            return None
        told = counted(count, "rival")
        return f"{value:.4f} at epoch {epoch} is below {cutoff:.4f}, the cut-off of {told} there"

    def epochs(self) -> str:
        """Its rungs."""
        if not self.rungs:
            return ""
        *first, last = map(str, self.rungs)
        return f"at epochs {', '.join(first)} and {last}" if first else f"at epoch {last}"


class Hyperband:
    """Several brackets of ASHA with later and later first rungs; in the last one nobody is stopped.

    Hyperband (Li et al., "Hyperband: A Novel Bandit-Based Approach to Hyperparameter Optimization", 2018) as Ray's
    AsyncHyperBandScheduler with several brackets runs it: a trial is compared within its bracket only. Trials are dealt
    out in turn, in the order of their first results. If early scores mislead, the later brackets do not suffer.

    Args:
        grace: Epochs before the first rung of the first bracket; in each further one `reduction` times as many.
        reduction: About one in `reduction` trials passes a rung.
        max_epochs: The full budget.
    """

    def __init__(self, *, grace: int, reduction: float, max_epochs: int) -> None:
        self.brackets: list[Asha] = []
        first = float(grace)
        while first < max_epochs:
            self.brackets.append(Asha(grace=round(first), reduction=reduction, max_epochs=max_epochs))
            first *= reduction
        self.brackets.append(Asha(grace=max_epochs, reduction=reduction, max_epochs=max_epochs))
        self.dealt: dict[str, Asha] = {}

    def observe(self, trial_id: str, epoch: int, value: float) -> str | None:
        """Shows the score to the trial's bracket."""
        bracket = self.dealt.setdefault(trial_id, self.brackets[len(self.dealt) % len(self.brackets)])
        return bracket.observe(trial_id, epoch, value)

    def epochs(self) -> str:
        """The rungs of each bracket."""
        if len(self.brackets) == 1:
            return ""
        return ", or ".join(bracket.epochs() or "never" for bracket in self.brackets) + ", by bracket"


class EarlyDiscard:
    """Compares all trials at one and the same early epoch, and lets only the best of them go on.

    Egele et al., "The Unreasonable Effectiveness of Early Discarding after One Epoch in Neural Network Hyperparameter
    Optimization" (2024), for trials that end one after the other: who is among the best `share` of those seen so far,
    itself included, or is the very best, is trained to the end.

    Args:
        epoch: When.
        share: Of the trials.
        max_epochs: The full budget.
    """

    def __init__(self, *, epoch: int, share: float, max_epochs: int) -> None:
        self.epoch = epoch
        self.share = share
        self.max_epochs = max_epochs
        self.scores: dict[str, float] = {}
        self._ascending: list[float] = []

    def observe(self, trial_id: str, epoch: int, value: float) -> str | None:
        """Records the score at the epoch and ranks it."""
        if epoch != self.epoch or epoch >= self.max_epochs or trial_id in self.scores:
            return None
        self.scores[trial_id] = value
        seen = len(self.scores)
        go_on = max(1, math.floor(seen * self.share + 1e-9))
        insort(self._ascending, value)
        rank = 1 + seen - bisect_right(self._ascending, value)
        if rank <= go_on:
            return None
        return f"{value:.4f} at epoch {epoch} is number {rank} of {seen} there, of which {go_on} may go on"

    def epochs(self) -> str:
        """The epoch."""
        return f"at epoch {self.epoch}" if self.epoch < self.max_epochs else ""


class Median:
    """Stops a trial whose best score is below the median of the others' running averages at the same epoch.

    Vizier's median rule (Golovin et al., 2017), from `grace` epochs and `min_rivals` rivals on.
    """

    def __init__(self, *, grace: int, max_epochs: int, min_rivals: int = 3) -> None:
        self.grace = grace
        self.max_epochs = max_epochs
        self.min_rivals = min_rivals
        self.scores: dict[str, dict[int, float]] = {}
        self._averages: dict[int, dict[str, float]] = {}

    def observe(self, trial_id: str, epoch: int, value: float) -> str | None:
        """Records the score and compares."""
        own = self.scores.setdefault(trial_id, {})
        own[epoch] = value
        for at in [at for at in own if at >= epoch]:
            so_far = [score for earlier, score in own.items() if earlier <= at]
            self._averages.setdefault(at, {})[trial_id] = float(np.mean(so_far))
        averages = [average for rival, average in self._averages[epoch].items() if rival != trial_id]
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


def percentile(ascending: Sequence[float], percent: float) -> float:
    """The same digits as `numpy.percentile`, of values that are in their order already: by linear interpolation.

    Args:
        ascending: At least one.
        percent: 0 to 100.
    """
    place = (len(ascending) - 1) * (percent / 100)
    at = min(math.floor(place), len(ascending) - 1)
    share = place - at
    low, high = ascending[at], ascending[min(at + 1, len(ascending) - 1)]
    # From the nearer of the two, as NumPy does it.
    return low + (high - low) * share if share < 0.5 else high - (high - low) * (1 - share)


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


@SCHEDULERS.register("hyperband")
def hyperband(max_epochs: int) -> Hyperband:
    """Hyperband with a reduction of 2 from a third of the budget: three brackets, in the last nobody is stopped."""
    return Hyperband(grace=grace_epochs(max_epochs), reduction=2, max_epochs=max_epochs)


@SCHEDULERS.register("epoch")
def epoch(max_epochs: int) -> EarlyDiscard:
    """All trials to a third of the budget, the best third of them to its end."""
    return EarlyDiscard(epoch=grace_epochs(max_epochs), share=1 / 3, max_epochs=max_epochs)


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
    epochs_text = "the one epoch" if max_epochs == 1 else f"all {max_epochs} epochs"
    spans = f"learning-rate schedules span {epochs_text}"
    epochs = SCHEDULERS.get(scheduler)(max_epochs).epochs()
    if not epochs:
        return f"{spans}; every trial runs to its end"
    return (
        f"{spans}; {scheduler} compares trials {epochs}, each with others at the same epoch, before the rate has "
        "decayed; --scheduler none compares finished ones"
    )
