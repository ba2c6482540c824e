"""Room in this machine's memory: whether it is enough for the trials that run at once, and how many do."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

from sweep.config import SweepConfig
from sweep.measuring import Meter, probes
from sweep.per_trial import per_trial
from sweep.plan import Plan
from sweep.preflight import Prepared
from sweep.resources import Machines, Resources
from trainables.config import parse_size
from trainables.errors import UsageError
from trainables.machine import memory_bytes
from trainables.words import counted

PIXEL_BYTES = 4096
"""Assumed of the memory that training takes per pixel of a batch; larger models may take more."""
SAFE = 0.9
"""Part of the memory that trials may hold together."""


def leaves_room(ready: Prepared, at_once: int) -> bool:
    """Whether this machine has, by an estimate, memory for what measures so many trials and for Ray beside it.

    Half of the memory is taken as the limit, and `PIXEL_BYTES` per pixel of a batch as the measure.
    """
    there = memory_bytes()
    pixels = max(_pixels(config) for _, config in probes(ready.space, ready.base))
    return there is not None and at_once * pixels * PIXEL_BYTES <= there / 2


def within_memory(config: SweepConfig, machines: Machines, meter: Meter) -> Meter:
    """The meter with as many trials at once as this machine's memory holds, where an estimate doubts that it holds all.

    The largest batches are measured alone then, before anything is measured beside others: too many at once make a
    machine stand still.

    Args:
        config: What is asked for.
        machines: Where trials run.
        meter: With what each trial would be given otherwise.

    Raises:
        UsageError: If the user asks for more at once than the memory holds.
    """
    wanted, there = meter.resources.concurrent, memory_bytes()
    elsewhere = config.address is not None or meter.resources.gpus_per_trial
    if elsewhere or there is None or wanted == 1 or leaves_room(meter.ready, wanted):
        return meter

    def giving(at_once: int) -> Meter:
        """The meter where so many trials share the processors."""
        shared = config.cpus_per_trial or float(machines.cpus // at_once)
        of_each = dataclasses.replace(config, concurrent=at_once, cpus_per_trial=shared)
        resources, execution = per_trial(of_each, machines, meter.resources.gpus_per_trial)
        return dataclasses.replace(meter, resources=resources, execution=execution)

    asked = [one for _, one in probes(meter.ready.space, meter.ready.base)]
    most = max(map(_pixels, asked))
    costs = giving(1).costs([one for one in asked if _pixels(one) == most])
    each = max(cost.memory_bytes for cost in costs)
    if any(cost.fault for cost in costs):
        return giving(1)
    fits = max(1, int(SAFE * there / each))
    if fits >= wanted:
        return meter
    held = f"{wanted * each / 2**30:.0f} GiB ({each / 2**30:.1f} each), and this machine has {there / 2**30:.0f} GiB"
    if config.concurrent is None:
        at_once = f"{counted(fits, 'trial')} at once" if fits > 1 else "one trial after the other"
        meter.console.print(f"{wanted} trials at once would hold {held}: {at_once}", markup=False, soft_wrap=True)
        return giving(fits)
    if wanted * each > there:
        raise UsageError(
            f"--concurrent {wanted}: so many trials would hold {held}: --concurrent {fits}, or a lower "
            "--set batch_size=N or --set image_size=HEIGHTxWIDTH"
        )
    return meter


def memory_warning(plan: Plan, resources: Resources) -> str:
    """Says that the trials which run at once may not fit into this machine's memory; empty if they do, or on GPUs."""
    there = memory_bytes()
    if resources.gpus_per_trial or there is None or plan.memory_bytes <= SAFE * there:
        return ""
    fit = max(1, int(SAFE * there * resources.concurrent / plan.memory_bytes))
    return (
        f"{resources.concurrent} trials at once may hold {plan.memory_bytes / 2**30:.0f} GiB, and this machine has "
        f"{there / 2**30:.0f} GiB: --concurrent {fit} is safe"
    )


def _pixels(config: Mapping[str, Any]) -> int:
    """Of a batch."""
    return math.prod(parse_size(str(config["image_size"]))) * int(config["batch_size"])
