"""What trials may use of a machine or a cluster: the arithmetic of CPUs and GPUs, without Ray in this process."""

from __future__ import annotations

import math
from dataclasses import dataclass

from sweep.ray_address import ask_cluster
from trainables.devices import gpu_names
from trainables.errors import UsageError
from trainables.execution import Execution
from trainables.flags import default_precision, default_workers
from trainables.machine import cores


@dataclass(frozen=True)
class Machine:
    """What one machine has for trials."""

    cpus: int
    gpus: int


@dataclass(frozen=True)
class Machines:
    """What is there in all: of this machine, or of a cluster.

    Attributes:
        cpus: Processors.
        gpus: GPUs.
        nodes: What each node of a cluster has: no trial runs on two. Empty for this machine.
    """

    cpus: int
    gpus: int
    nodes: tuple[Machine, ...] = ()

    @property
    def each(self) -> tuple[Machine, ...]:
        """Every machine that trials can run on."""
        return self.nodes or (Machine(self.cpus, self.gpus),)


@dataclass(frozen=True)
class Resources:
    """What each trial gets, and how many run at once; some are given a GPU of their own (`sweep.packing`)."""

    cpus_per_trial: float
    gpus_per_trial: float
    concurrent: int


def available(address: str | None) -> Machines:
    """Usable processors and GPUs where the trials will run.

    Args:
        address: Of a running Ray cluster; None for this machine.

    Raises:
        SegsweepError: If the cluster does not answer.
    """
    if address is not None:
        told = [Machine(int(one.get("CPU", 0)), int(one.get("GPU", 0))) for one in ask_cluster(address).nodes]
        nodes = tuple(one for one in told if one.cpus)
        return Machines(sum(one.cpus for one in nodes), sum(one.gpus for one in nodes), nodes)
    return Machines(cores(), len(gpu_names()))


def plan_resources(
    machines: Machines,
    *,
    cpus_per_trial: float | None = None,
    gpus_per_trial: float | None = None,
    concurrent: int | None = None,
) -> Resources:
    """Fills in what was not asked for and refuses what is not there.

    Raises:
        UsageError: If a trial asks for more than there is: Tune would wait forever.
    """
    each = machines.each
    cpus, gpus = max(one.cpus for one in each), max(one.gpus for one in each)
    for flag, value in (("--cpus-per-trial", cpus_per_trial), ("--gpus-per-trial", gpus_per_trial)):
        if value is not None and not math.isfinite(value):
            raise UsageError(f"{flag} {value}: must be a number")
    if gpus_per_trial is None:
        gpus_per_trial = 1.0 if gpus else 0.0
    if cpus_per_trial is None:
        shared = [one.cpus // n for one in each if gpus_per_trial > 0 and (n := int(one.gpus / gpus_per_trial))]
        cpus_per_trial = float(max(1, min(shared, default=1)))
    there = "there are" if not machines.nodes else "the largest node has"
    faults = []
    if cpus_per_trial <= 0:
        faults.append("--cpus-per-trial must be above 0")
    if gpus_per_trial < 0:
        faults.append("--gpus-per-trial cannot be negative")
    if cpus_per_trial > cpus:
        faults.append(f"a trial asks for {cpus_per_trial:g} CPUs, {there} {cpus}: lower --cpus-per-trial")
    if gpus_per_trial > gpus:
        cure = "lower --gpus-per-trial" if gpus else "leave --gpus-per-trial out to train on the CPU"
        faults.append(f"a trial asks for {gpus_per_trial:g} GPUs, {there} {gpus}: {cure}")
    if gpus_per_trial > 1 and not float(gpus_per_trial).is_integer():
        faults.append(f"--gpus-per-trial {gpus_per_trial:g}: above 1 only whole GPUs can be given")
    if concurrent is not None and concurrent < 1:
        faults.append("--concurrent must be at least 1")
    if faults:
        raise UsageError("\n".join(faults))
    alone = Resources(cpus_per_trial, gpus_per_trial, 1)
    fits = sum(fits_on(one, alone) for one in each)
    if not fits:
        raise UsageError(
            f"no node has {cpus_per_trial:g} CPUs and {gpus_per_trial:g} GPUs for a trial: lower --cpus-per-trial or "
            "--gpus-per-trial"
        )
    return Resources(cpus_per_trial, gpus_per_trial, min(concurrent or fits, fits))


def fits_on(machine: Machine, resources: Resources) -> int:
    """How many trials a machine runs at once."""
    fits = int(machine.cpus / resources.cpus_per_trial)
    return min(fits, int(machine.gpus / resources.gpus_per_trial)) if resources.gpus_per_trial > 0 else fits


def plan_execution(
    resources: Resources,
    *,
    precision: str | None,
    channels_last: bool,
    compile: bool,
    workers: int | None,
    cache_bytes: int,
) -> Execution:
    """How every trial of a sweep is run; fills in what was not asked for.

    Loader processes beside the trial's own leave its torch the other processors. On several GPUs a process trains on
    each, and these share the processors.

    Args:
        resources: Of a trial.
        precision: None: the best that the device computes in.
        channels_last: Memory layout of images.
        compile: Whether models are compiled.
        workers: Loader processes of each that trains; None: what suits the device and the processors of the trial.
        cache_bytes: Limit of the decoded cache.

    Raises:
        UsageError: If the device cannot do it.
    """
    device = "cuda" if resources.gpus_per_trial > 0 else "cpu"
    ranks = max(1, int(resources.gpus_per_trial))
    cpus = max(1, int(resources.cpus_per_trial) // ranks)
    loaders = min(default_workers(device), cpus - 1) if workers is None else workers
    return Execution(
        device=device,
        threads=max(1, cpus - loaders),
        workers=loaders,
        precision=precision or default_precision(device),
        channels_last=channels_last,
        compile=compile,
        cache_bytes=cache_bytes,
        ranks=ranks,
    )
