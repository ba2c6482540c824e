"""What `--address` leads to: a Ray cluster that answers in time, or one error with its cure. Ray is asked elsewhere."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import IO

from trainables.errors import SegsweepError, UsageError

ANSWER_SECONDS = 10.0
"""A cluster that has not answered by then is reported as not answering."""
CLIENT_SECONDS = 60.0
"""The same through Ray Client, whose server starts a process for everybody who connects."""
IMPORT_SECONDS = 60.0
"""For Ray to be loaded before it is asked, which is slow on a busy machine."""
AUTO = "auto"
"""The cluster that this machine belongs to."""
CLIENT = "ray://"
"""Begins the address of a Ray Client server, which is another port than that of the cluster's GCS."""

_CLIENT_FORM = re.compile(rf"{CLIENT}(?:[^/:\s@\[\]]+|\[[^\s@\[\]]+\]):\d+")
_NO_TOKEN = re.compile("InvalidAuthToken|Invalid or missing authentication token")
"""Part of what a cluster's GCS and Ray Client say when they reject a token."""
_LACKS_TOKEN = re.compile(r"AuthenticationError|no authentication token|[Tt]oken authentication is enabled but")
"""How Ray says that it is to show a token and finds none on this machine."""
_NO_GCS = re.compile("Method not found")
"""What a server of Ray's that is no GCS says when it is asked as one."""
_NO_CLIENT_SERVER = re.compile(r"Received when checking init: *\n")
"""What Ray Client logs of a server that does not know its questions: the server gives no reason."""
_OTHER_VERSION = re.compile(r"Version mismatch.*?Ray: (\S+)\s+Python: (\S+).*?Ray: (\S+)\s+Python: (\S+)", re.DOTALL)
"""How Ray says that the cluster's Ray or Python (first) is not this machine's (second)."""
_NO_CLIENT_PACKAGE = "Ray Client requires pip package"

_ASK = """
import json, logging, os, sys
os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
import ray
if sys.argv[1].startswith("ray://"):  # which tells its log alone why it was turned away, and tries for half a minute
    log = logging.getLogger("ray.util.client.worker")
    log.setLevel(logging.DEBUG)
    log.addHandler(logging.StreamHandler())
print("asking", flush=True)
ray.init(address=sys.argv[1], log_to_driver=False, logging_level=logging.CRITICAL)
nodes = [node for node in ray.nodes() if node["Alive"]]
told = {
    "nodes": [node["Resources"] for node in nodes],
    "gcs": ray.get_runtime_context().gcs_address,
    "raylets": [node["RayletSocketName"] for node in nodes],
}
print(json.dumps(told), flush=True)
"""
_ANSWER = '{"nodes": ['
"""Begins what a cluster answers; lines of Ray's log may begin with a bracket."""


@dataclass(frozen=True)
class ClusterAnswer:
    """What a cluster says of itself.

    Attributes:
        nodes: The resources of each node that is alive, by their names.
        gcs: HOST:PORT of its GCS, where drivers join it.
        raylets: The Unix socket of each node's raylet, on that node's own machine.
    """

    nodes: tuple[Mapping[str, float], ...]
    gcs: str
    raylets: tuple[str, ...]


def driver_address(address: str | None) -> str | None:
    """The address by which a driver on this machine joins a cluster.

    Ray Client would run the driver's calls on the cluster, while a sweep keeps its journal beside its driver. So a
    `ray://` address is only asked for the cluster that it leads to, which is then joined directly.

    Args:
        address: As `--address` has it; None for no cluster.

    Returns:
        For `ray://HOST:PORT` the HOST:PORT of the cluster's GCS; any other address as it is.

    Raises:
        UsageError: If a `ray://` address is not of that form, or this machine runs no node of that cluster.
        SegsweepError: As `ask_cluster`.
    """
    if address == AUTO and os.environ.get("RAY_ADDRESS", "").startswith(CLIENT):
        address = os.environ["RAY_ADDRESS"]  # which Ray takes in place of auto
    if address is None or not address.startswith(CLIENT):
        return address
    if _CLIENT_FORM.fullmatch(address) is None:
        raise UsageError(
            f"--address {address}: write {CLIENT}HOST:PORT, such as {CLIENT}head:10001; a cluster's token is no part "
            "of it, and belongs into RAY_AUTH_TOKEN or ~/.ray/auth_token"
        )
    cluster = ask_cluster(address)
    if any(map(_takes_connections, cluster.raylets)):
        return cluster.gcs
    token = "RAY_AUTH_MODE=token " * (os.environ.get("RAY_AUTH_MODE", "").lower() == "token")
    raise UsageError(
        f"--address {address}: this machine runs no node of that cluster, and a sweep keeps its journal beside its "
        f"driver. Type the command on a machine of the cluster, with --address {AUTO}; or, where the cluster's "
        f"machines and this one reach each other, let this one join without processors for trials ({token}ray start "
        f"--address={cluster.gcs} --num-cpus=0 --num-gpus=0) and type the command again"
    )


def ask_cluster(address: str) -> ClusterAnswer:
    """Asks a cluster for its nodes, first without a token unless the environment says otherwise.

    Where the cluster asks for one, RAY_AUTH_MODE is set for this process: Ray shows its token by itself only to a Ray
    that it starts, and one that is shown to a cluster without tokens makes that cluster's workers fail.

    Args:
        address: `auto`, HOST:PORT of the GCS, or ray://HOST:PORT.

    Raises:
        SegsweepError: If no cluster answers, with the reason and the cure.
    """
    told = _ask(address) if _listens(address) else ""
    turned_away = _NO_TOKEN.search(told) is not None
    if turned_away and "RAY_AUTH_MODE" not in os.environ:
        os.environ["RAY_AUTH_MODE"] = "token"
        told = _ask(address)
    if told.startswith(_ANSWER):
        answer = json.loads(told)
        return ClusterAnswer(tuple(answer["nodes"]), answer["gcs"], tuple(answer["raylets"]))
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
    if turned_away and _NO_TOKEN.search(told):
        by_variable = next((name for name in ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH") if os.environ.get(name)), None)
        place = by_variable or "~/.ray/auth_token"
        return (
            f"the Ray cluster there asks for a token that is not this machine's ({place}): put the cluster's there "
            "(`ray get-auth-token` prints it on a machine of the cluster)"
        )
    if _NO_CLIENT_PACKAGE in told:
        return f"{CLIENT} needs the package grpcio: pip install 'ray[client]', or give the GCS's HOST:PORT"
    if _NO_CLIENT_SERVER.search(told):
        return (
            f"what answers there is no Ray Client server: its port is 10001 unless the head was started with another "
            f"--ray-client-server-port; if this is the GCS's port (6379 by default), leave {CLIENT} out"
        )
    if _NO_GCS.search(told):
        return (
            "what answers there is no GCS: its port is 6379 unless the head was started with another --port; if this "
            f"is Ray Client's port (10001 by default), type --address {CLIENT}{address}"
        )
    if address == AUTO:
        return (
            "no Ray cluster runs on this machine: start one (ray start --head) or join one (ray start "
            "--address=HOST:PORT), or leave --address out to start Ray for this sweep alone"
        )
    last = (told.strip().splitlines() or [""])[-1].strip()
    return (
        f"no Ray cluster answers there within {_seconds(address):g} s; see `ray status` there, and that this machine "
        "reaches it; leave --address out to start Ray here" + (f" (Ray says: {last[:300]})" if last else "")
    )


def _seconds(address: str) -> float:
    return CLIENT_SECONDS if address.startswith(CLIENT) else ANSWER_SECONDS


def _listens(address: str) -> bool:
    """Whether something listens at HOST:PORT; what is written in another way is left to Ray."""
    found = re.fullmatch(rf"(?:{CLIENT})?([^/:\s]+):(\d+)", address)
    if found is None:
        return True
    try:
        socket.create_connection((found[1], int(found[2])), timeout=5).close()
    except (OSError, OverflowError):
        return False
    return True


def _takes_connections(path: str) -> bool:
    """Whether a process of this machine listens at a Unix socket, and lets this user in."""
    with socket.socket(socket.AF_UNIX) as end:
        try:
            end.connect(path)
        except OSError:
            return False
    return True


def _ask(address: str) -> str:
    """What a cluster says of itself as JSON, or what Ray said where it got no answer.

    In a process of its own, which can be ended: Ray may try for minutes, or forever, and a process that has used Ray
    Client is no driver any more.
    """
    command = [sys.executable, "-P", "-c", _ASK, address]
    with tempfile.TemporaryFile("w+") as output, tempfile.TemporaryFile("w+") as errors:

        def read(stream: IO[str]) -> str:
            stream.seek(0)
            return stream.read()

        def refused() -> bool:
            said = read(errors)
            return any(form.search(said) for form in (_NO_TOKEN, _NO_GCS, _NO_CLIENT_SERVER))

        with subprocess.Popen(command, stdout=output, stderr=errors, stdin=subprocess.DEVNULL) as process:
            deadline, asking = time.monotonic() + IMPORT_SECONDS, False
            while process.poll() is None and time.monotonic() < deadline and not refused():
                if not asking and read(output):
                    deadline, asking = time.monotonic() + _seconds(address), True
                time.sleep(0.1)
            if process.poll() is None:
                process.kill()
        answer = (read(output).splitlines() or [""])[-1]
        return answer if answer.startswith(_ANSWER) else read(errors)
