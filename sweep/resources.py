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
from typing import IO, Any

from trainables.devices import gpu_names
from trainables.errors import SegsweepError, UsageError
from trainables.execution import Execution
from trainables.flags import default_precision, default_workers
from trainables.machine import cores

ANSWER_SECONDS = 10.0
"""A cluster that has not answered by then is reported as not answering."""
IMPORT_SECONDS = 60.0
"""For Ray to be loaded before it is asked, which is slow on a busy machine."""

_NO_TOKEN = "InvalidAuthToken"
"""Part of what Ray says when a cluster rejects it."""
_LACKS_TOKEN = re.compile(r"AuthenticationError|no authentication token|[Tt]oken authentication is enabled but")
"""How Ray says that it is to show a token and finds none on this machine."""
_OTHER_VERSION = re.compile(r"Version mismatch.*?Ray: (\S+)\s+Python: (\S+).*?Ray: (\S+)\s+Python: (\S+)", re.DOTALL)
"""How Ray says that the cluster's Ray or Python (first) is not this machine's (second)."""

_ASK = """
import json, logging, os, sys
os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
import ray
print("asking", flush=True)
ray.init(address=sys.argv[1], log_to_driver=False, logging_level=logging.CRITICAL)
print(json.dumps({"nodes": [node["Resources"] for node in ray.nodes() if node["Alive"]]}))
"""
_ANSWER = '{"nodes": ['
"""Begins what a cluster answers; lines of Ray's log may begin with a bracket."""


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
        told = [Machine(int(one.get("CPU", 0)), int(one.get("GPU", 0))) for one in _cluster_nodes(address)]
        nodes = tuple(one for one in told if one.cpus)
        return Machines(sum(one.cpus for one in nodes), sum(one.gpus for one in nodes), nodes)
    return Machines(cores(), len(gpu_names()))


def _cluster_nodes(address: str) -> list[dict[str, Any]]:
    """Asks a cluster for the resources of its nodes, first without a token unless the environment says otherwise.

    Where the cluster asks for one, RAY_AUTH_MODE is set for this process: Ray shows its token by itself only to a Ray
    that it starts, and one that is shown to a cluster without tokens makes that cluster's workers fail.
    """
    if address.startswith("ray://"):
        raise UsageError(
            f"--address {address}: a sweep keeps its journal beside its driver, and ray:// would run the driver on the "
            "cluster: type the command on a machine of the cluster, with --address auto"
        )
    told = _ask(address) if _listens(address) else ""
    turned_away = _NO_TOKEN in told
    if turned_away and "RAY_AUTH_MODE" not in os.environ:
        os.environ["RAY_AUTH_MODE"] = "token"
        told = _ask(address)
    if told.startswith(_ANSWER):
        nodes: list[dict[str, Any]] = json.loads(told)["nodes"]
        return nodes
    raise SegsweepError(f"--address {address}: {_why_no_answer(address, told, turned_away=turned_away)}")


def _why_no_answer(address: str, told: str, *, turned_away: bool) -> str:
    """Why a cluster gave no answer, by what Ray said, with the cure."""
    if found := _OTHER_VERSION.search(told):
        cluster, here = found.groups()[:2], found.groups()[2:]
        return (
            f"the cluster runs Ray {cluster[0]} on Python {cluster[1]}, here is Ray {here[0]} on Python {here[1]}: "
            f"they must be the same (pip install 'ray[default,tune]=={cluster[0]}' in a Python {cluster[1]})"
        )
    if turned_away and _LACKS_TOKEN.search(told):
        cure = "`ray get-auth-token` prints it there"
        return f"the Ray cluster asks for a token, and this machine has none: put it into ~/.ray/auth_token ({cure})"
    if turned_away and _NO_TOKEN in told:
        by_variable = next((name for name in ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH") if os.environ.get(name)), None)
        place = by_variable or "~/.ray/auth_token"
        return (
            f"the Ray cluster there asks for a token that is not this machine's ({place}): put the cluster's there "
            "(`ray get-auth-token` prints it on a machine of the cluster)"
        )
    if address == "auto":
        return (
            "no Ray cluster runs on this machine: start one (ray start --head) or join one (ray start "
            "--address=HOST:PORT), or leave --address out to start Ray for this sweep alone"
        )
    return (
        f"no Ray cluster answers there within {ANSWER_SECONDS:g} s; see `ray status` there, and that this machine "
        "reaches it; leave --address out to start Ray here"
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


def _ask(address: str) -> str:
    """The resources of a cluster's nodes as JSON, or what Ray said where it got none.

    In a process of its own, which can be ended: Ray may try for minutes, or forever.
    """
    command = [sys.executable, "-P", "-c", _ASK, address]
    with tempfile.TemporaryFile("w+") as output, tempfile.TemporaryFile("w+") as errors:

        def read(stream: IO[str]) -> str:
            stream.seek(0)
            return stream.read()

        with subprocess.Popen(command, stdout=output, stderr=errors, stdin=subprocess.DEVNULL) as process:
            deadline, asking = time.monotonic() + IMPORT_SECONDS, False
            while process.poll() is None and time.monotonic() < deadline and _NO_TOKEN not in read(errors):
                if not asking and read(output):
                    deadline, asking = time.monotonic() + ANSWER_SECONDS, True
                time.sleep(0.1)
            if process.poll() is None:
                process.kill()
        answer = (read(output).splitlines() or [""])[-1]
        return answer if answer.startswith(_ANSWER) else read(errors)


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
