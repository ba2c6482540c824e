"""What each trial of a new sweep is given: processors, the part of a GPU, and how it is run."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

from sweep.config import SweepConfig
from sweep.flags import AUTO
from sweep.measuring import Meter, measure_sharing
from sweep.packing import pack, share_of
from sweep.plan import MeasuredCost
from sweep.resources import Machines, Resources, plan_execution, plan_resources
from trainables.cost import Cost
from trainables.execution import Execution


def per_trial(config: SweepConfig, machines: Machines, gpus_per_trial: float | None) -> tuple[Resources, Execution]:
    """What each trial gets, and how it is run.

    Args:
        config: What is asked for.
        machines: Where trials run.
        gpus_per_trial: Instead of what `config` says.

    Raises:
        UsageError: As `plan_resources` and `plan_execution`.
    """
    resources = plan_resources(
        machines,
        cpus_per_trial=config.cpus_per_trial,
        gpus_per_trial=gpus_per_trial,
        concurrent=config.concurrent,
    )
    execution = plan_execution(
        resources,
        precision=config.precision,
        channels_last=config.channels_last,
        compile=config.compile,
        workers=config.workers,
        cache_bytes=config.cache_limit,
    )
    return resources, execution


def share_as_measured(
    config: SweepConfig,
    costs: tuple[MeasuredCost, ...],
    machines: Machines,
    meter: Meter,
) -> tuple[tuple[MeasuredCost, ...], Resources, Execution]:
    """With `--gpus-per-trial auto`, as many trials on each GPU as fit and pay; otherwise what there was.

    Args:
        config: What is asked for.
        costs: Measured with one trial on a GPU.
        machines: Where trials run.
        meter: Of those costs, with what each trial was given for them.
    """
    if config.gpus_per_trial != AUTO or not meter.resources.gpus_per_trial or not costs:
        return costs, meter.resources, meter.execution

    def measure(settings: Mapping[str, Any], at_once: int) -> Cost:
        _, shared = per_trial(config, machines, share_of(at_once))
        return measure_sharing(dataclasses.replace(meter, execution=shared), settings, at_once)

    room = int(machines.cpus / (config.cpus_per_trial or 1)) // machines.gpus
    if config.concurrent is not None:
        room = min(room, math.ceil(config.concurrent / machines.gpus))
    packing = pack(costs, room=room, measure=measure)
    meter.console.print(packing.text(), markup=False, highlight=False, soft_wrap=True)
    return packing.costs, *per_trial(config, machines, packing.share)
