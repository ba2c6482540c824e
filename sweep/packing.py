"""`--gpus-per-trial auto`: how many trials share a GPU. Measured memory says how many fit, measured time what pays."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sweep.plan import MeasuredCost
from trainables.cost import Cost
from trainables.words import bytes_text, counted

MOST = 8
"""Most trials that share a GPU."""
MARGIN = 1.25
"""What a trial may need beside what was measured: another loss, another policy, memory in pieces."""
CONTEXT_BYTES = 600 * 2**20
"""What CUDA and its libraries take of a GPU for each process, beside what torch allocates."""
WORTH = 1.05
"""How many times the epochs per hour sharing must bring."""


@dataclass(frozen=True)
class Packing:
    """How trials share the GPUs.

    Attributes:
        at_once: Trials that share a GPU; 1: none do.
        costs: Of the plan, with the part of a GPU that each configuration is given, and its time beside others.
        gain: How many times the epochs per hour this brings by measurement, beside one trial per GPU.
        why: What decided the number.
    """

    at_once: int
    costs: tuple[MeasuredCost, ...]
    gain: float
    why: str

    @property
    def share(self) -> float:
        """The part of a GPU of a trial that shares one."""
        return share_of(self.at_once)

    def text(self) -> str:
        """A line for the plan."""
        if self.at_once == 1:
            return f"each trial has a GPU of its own: {self.why}"
        alone = [str(one) for one in self.costs if one.gpus == 1.0]
        told = f"{self.at_once} trials share a GPU, {self.gain:.1f} times the epochs per hour of one; {self.why}"
        return told + (f"; alone on a GPU: {', '.join(alone)}" if alone else "")


def share_of(at_once: int) -> float:
    """The part of a GPU of each of so many trials; rounded down, or seven of Ray's 0.1429 would not fit."""
    return math.floor(10_000 / at_once) / 10_000


def fitting(cost: Cost) -> int:
    """How many trials of a configuration fit into a GPU, one at least."""
    return max(1, int(cost.device_bytes / (cost.memory_bytes * MARGIN + CONTEXT_BYTES)))


def pack(
    costs: Sequence[MeasuredCost],
    *,
    room: int,
    measure: Callable[[Mapping[str, Any], int], Cost],
) -> Packing:
    """Decides how many trials share a GPU.

    The number that memory and processors have room for is measured, then half of it and so on, until fewer at once
    bring fewer epochs per hour. A configuration of which so many do not fit is given a GPU of its own.

    Args:
        costs: Measured with one trial on a GPU.
        room: Most trials per GPU that the processors, or `--concurrent`, have room for.
        measure: The cost of a configuration, by its settings, while so many trials run it on one GPU.
    """
    most = min(MOST, room, max(fitting(one.cost) for one in costs))
    if most < 2:
        no_room = f"there is a processor for {counted(room, 'trial')} per GPU" if room < 2 else _memory_text(costs)
        return Packing(1, tuple(costs), 1.0, no_room)
    best = Packing(1, tuple(costs), 1.0, "more at once brought no more epochs per hour")
    alone = sum(one.cost.epoch_seconds for one in costs)
    at_once = most
    while at_once > 1:
        asked = min((one for one in costs if fitting(one.cost) >= at_once), key=lambda one: one.cost.epoch_seconds)
        beside = measure(asked.settings(), at_once)
        if not beside.fault:
            shared = _shared(costs, at_once, slower=beside.epoch_seconds / asked.cost.epoch_seconds)
            gain = alone / sum(one.cost.epoch_seconds * (one.gpus or 1.0) for one in shared)
            if best.at_once > 1 and gain <= best.gain:
                break
            if gain >= WORTH:
                best = Packing(at_once, shared, gain, f"measured; {_memory_text(costs)}")
        at_once //= 2
    return best


def _shared(costs: Sequence[MeasuredCost], at_once: int, *, slower: float) -> tuple[MeasuredCost, ...]:
    """The costs with so many trials on a GPU, where so many fit."""
    return tuple(
        dataclasses.replace(
            one,
            gpus=share_of(at_once),
            cost=dataclasses.replace(
                one.cost, train_seconds=one.cost.train_seconds * slower, val_seconds=one.cost.val_seconds * slower
            ),
        )
        if fitting(one.cost) >= at_once
        else dataclasses.replace(one, gpus=1.0)
        for one in costs
    )


def _memory_text(costs: Sequence[MeasuredCost]) -> str:
    least, most = (kind(one.cost.memory_bytes for one in costs) for kind in (min, max))
    taken = bytes_text(least) if least == most else f"{bytes_text(least)} to {bytes_text(most)}"
    return f"a trial takes {taken} of the GPU's {bytes_text(costs[0].cost.device_bytes)}"
