"""What trials may use of a machine or a cluster: the arithmetic of CPUs and GPUs, without Ray in this process."""

from __future__ import annotations

import json
import math
import os
import re
import socket
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from typing import Any

from trainables.devices import gpu_names
from trainables.errors import SegsweepError, UsageError
from trainables.execution import Execution
from trainables.flags import default_precision, default_workers

ANSWER_SECONDS = 10.0
"""A cluster that has not answered by then is reported as not answering."""

_NO_TOKEN = "InvalidAuthToken"
"""Part of what Ray says when a cluster rejects it."""

_ASK = """
import json, logging, os, sys
os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
import ray
ray.init(address=sys.argv[1], log_to_driver=False, logging_level=logging.CRITICAL)
print(json.dumps(ray.cluster_resources()))
"""


@dataclass(frozen=True)
class Machines:
    """What is there: of this machine, or of a cluster."""

    cpus: int
    gpus: int


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
        told = _cluster_resources(address)
        return Machines(int(told.get("CPU", 0)), int(told.get("GPU", 0)))
    cpus = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return Machines(cpus, len(gpu_names()))


def _cluster_resources(address: str) -> dict[str, Any]:
    """Asks a cluster, first without a token unless the environment says otherwise.

    Where the cluster asks for one, RAY_AUTH_MODE is set for this process: Ray shows its token by itself only to a Ray
    that it starts, and one that is shown to a cluster without tokens makes that cluster's workers fail.
    """
    deadline = time.monotonic() + ANSWER_SECONDS
    told = _ask(address, deadline) if _listens(address) else ""
    turned_away = _NO_TOKEN in told
    if turned_away and "RAY_AUTH_MODE" not in os.environ:
        os.environ["RAY_AUTH_MODE"] = "token"
        told = _ask(address, deadline)
    if told.startswith("{"):
        resources: dict[str, Any] = json.loads(told)
        return resources
    if turned_away:
        raise SegsweepError(
            f"--address {address}: the Ray cluster there asks for a token that is not this machine's: put it into "
            "~/.ray/auth_token (`ray get-auth-token` prints it there)"
        )
    raise SegsweepError(
        f"--address {address}: no Ray cluster answers there within {ANSWER_SECONDS:g} s; see `ray status` there, and "
        "that this machine reaches it; leave --address out to start Ray here"
    )


def _listens(address: str) -> bool:
    """Whether something listens at HOST:PORT; what is written in another way is left to Ray."""
    found = re.fullmatch(r"(?:ray://)?([^/:\s]+):(\d+)", address)
    if found is None:
        return True
    try:
        socket.create_connection((found[1], int(found[2])), timeout=5).close()
    except (OSError, OverflowError):
        return False
    return True


def _ask(address: str, deadline: float) -> str:
    """The cluster's resources as JSON, or what Ray said where it got none.

    In a process of its own, which can be ended: Ray may try for minutes, or forever.
    """
    command = [sys.executable, "-P", "-c", _ASK, address]
    with tempfile.TemporaryFile("w+") as errors:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True, stdin=subprocess.DEVNULL)
        with process:
            while process.poll() is None and time.monotonic() < deadline:
                time.sleep(0.1)
                errors.seek(0)
                if _NO_TOKEN in errors.read():
                    break
            if process.poll() is None:
                process.kill()
            answer = process.stdout.read() if process.stdout else ""
        errors.seek(0)
        return answer.splitlines()[-1] if answer.strip().startswith("{") else errors.read()


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
    cpus, gpus = machines.cpus, machines.gpus
    for flag, value in (("--cpus-per-trial", cpus_per_trial), ("--gpus-per-trial", gpus_per_trial)):
        if value is not None and not math.isfinite(value):
            raise UsageError(f"{flag} {value}: must be a number")
    if gpus_per_trial is None:
        gpus_per_trial = 1.0 if gpus else 0.0
    by_gpu = int(gpus / gpus_per_trial) if gpus_per_trial else None
    if cpus_per_trial is None:
        cpus_per_trial = float(max(1, cpus // by_gpu)) if by_gpu else 1.0
    faults = []
    if cpus_per_trial <= 0:
        faults.append("--cpus-per-trial must be above 0")
    if gpus_per_trial < 0:
        faults.append("--gpus-per-trial cannot be negative")
    if cpus_per_trial > cpus:
        faults.append(f"a trial asks for {cpus_per_trial:g} CPUs, there are {cpus}: lower --cpus-per-trial")
    if gpus_per_trial > gpus:
        cure = "lower --gpus-per-trial" if gpus else "leave --gpus-per-trial out to train on the CPU"
        faults.append(f"a trial asks for {gpus_per_trial:g} GPUs, there are {gpus}: {cure}")
    if gpus_per_trial > 1 and not float(gpus_per_trial).is_integer():
        faults.append(f"--gpus-per-trial {gpus_per_trial:g}: above 1 only whole GPUs can be given")
    if concurrent is not None and concurrent < 1:
        faults.append("--concurrent must be at least 1")
    if faults:
        raise UsageError("\n".join(faults))
    fits = int(cpus / cpus_per_trial)
    if by_gpu is not None:
        fits = min(fits, by_gpu)
    return Resources(cpus_per_trial, gpus_per_trial, min(concurrent or fits, fits))


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

    Loader processes beside the trial's own leave its torch the other processors.

    Args:
        resources: Of a trial.
        precision: None: the best that the device computes in.
        channels_last: Memory layout of images.
        compile: Whether models are compiled.
        workers: Loader processes of a trial; None: what suits the device and the processors of the trial.
        cache_bytes: Limit of the decoded cache.

    Raises:
        UsageError: If the device cannot do it.
    """
    device = "cuda" if resources.gpus_per_trial > 0 else "cpu"
    cpus = max(1, int(resources.cpus_per_trial))
    loaders = min(default_workers(device), cpus - 1) if workers is None else workers
    return Execution(
        device=device,
        threads=max(1, cpus - loaders),
        workers=loaders,
        precision=precision or default_precision(device),
        channels_last=channels_last,
        compile=compile,
        cache_bytes=cache_bytes,
    )
