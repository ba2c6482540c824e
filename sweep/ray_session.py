"""A Ray session: started on this machine or joined, watched, and taken down without anything left."""

from __future__ import annotations

import sweep.ray_environment  # noqa: F401

# isort: split
import contextlib
import logging
import os
import re
import secrets
import shlex
import signal
import socket
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import ray

from sweep.ray_folder import folder_for_ray, marked
from sweep.resources import Machines
from trainables import commands
from trainables.commands import ROOT
from trainables.errors import SegsweepError
from trainables.redact import redacted_words

_DAEMONS = {"raylet": "raylet", "gcs_server": "GCS"}
"""Processes of a local Ray without which no trial can run, by Ray's names for them, with the usual name."""
LOOK_SECONDS = 0.2
UNANSWERED_SECONDS = 10.0
"""After that time without an answer a cluster's GCS counts as gone; Ray itself would end the driver after 60 s."""
STUCK_SECONDS = 5.0
"""After that time a driver that has not left a broken session counts as waiting for it: Ray's own end takes 14 s."""


@dataclass(frozen=True)
class RaySession:
    """A Ray session.

    Attributes:
        url: Of the dashboard, or None.
        protected: Whether Ray asks for a token.
        watch: Says what of Ray has died, so that no trial can go on.
        token: Where the token is, for the user.
    """

    url: str | None
    protected: bool
    watch: Watch
    token: str = field(default_factory=lambda: f"`{commands.ray_token()}` prints it")


@contextlib.contextmanager
def ray_session(
    *,
    address: str | None,
    dashboard: bool | None,
    machines: Machines,
    on_stuck: Callable[[str], None],
    runtime_env: Mapping[str, Any] | None = None,
) -> Iterator[RaySession]:
    """Starts Ray on this machine, or joins a cluster, and leaves nothing behind.

    Args:
        address: Of a running cluster; None starts Ray here, on loopback as far as Ray allows, its token on.
        dashboard: Whether to serve the Ray dashboard; None: where Ray's token protects it.
        machines: What a local Ray may use.
        on_stuck: Called from another thread with what of Ray has died, where the body and Ray's own end take too long
            after that; is to end this process.
        runtime_env: What Ray brings to the workers of a cluster (`sweep.shipping`).

    Raises:
        SegsweepError: If Ray does not start or the cluster does not answer, or Ray is too old to be safe.
    """
    _refuse_old_ray(ray.__version__)
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(folder_for_ray()) if address is None else None
        kept = stack.enter_context(_token_in(folder)) if folder is not None else None
        context = _init(address, folder, dashboard, machines, runtime_env)
        url = f"http://{context.dashboard_url}" if context.dashboard_url else None
        if address is None:
            protected, fault = token_asked_for(os.environ), _dead_daemon
        else:
            protected, fault = _asks_for_token(url), _Unanswered(context.address_info.get("gcs_address")).fault
            url = url if (protected if dashboard is None else dashboard) else None
        watch = stack.enter_context(Watch(fault, on_stuck))
        stack.callback(_shut_down)
        yield RaySession(url, protected, watch, *([] if kept is None else [f"it is in {kept}"]))


def _init(
    address: str | None,
    folder: Path | None,
    dashboard: bool | None,
    machines: Machines,
    runtime_env: Mapping[str, Any] | None,
) -> Any:
    options: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR, "configure_logging": True}
    if folder is not None:
        options |= {
            "address": "local",
            "num_cpus": machines.cpus,
            "num_gpus": machines.gpus,
            "include_dashboard": token_asked_for(os.environ) if dashboard is None else dashboard,
            "dashboard_host": "127.0.0.1",
            "object_store_memory": 200 * 2**20,  # only paths and results travel
            "_temp_dir": str(folder),
        }
    else:
        options |= {"address": address, "runtime_env": dict(runtime_env or {})}
    for name in ("ray.tune", "ray.air", "ray.train"):
        logging.getLogger(name).setLevel(logging.CRITICAL)  # the journal says what they would
    try:
        # Ray puts the current folder first on its workers' path, where a user's folder called `trainables`
        # would be imported in place of ours.
        mark = marked(folder) if folder else contextlib.nullcontext()
        with contextlib.chdir(ROOT), _without_its_habits(), _own_sigterm(), _deaf_to_hangup(), mark:
            return ray.init(**options)
    except Exception as error:  # Ray raises plain ones, too
        where = f"the cluster at {address} does not answer" if address else "Ray does not start on this machine"
        raise SegsweepError(f"{where}: {error}") from error


@contextlib.contextmanager
def _without_its_habits() -> Iterator[None]:
    """Three things that Ray has no option for.

    It tells its cluster the driver's command line, which the dashboard shows; it prints pages of a raylet's log into
    the terminal when a node dies, which the sweep says itself, in a line; and it ends the driver at SIGTERM without a
    word, while the sweep ends as at Ctrl-C.
    """
    private = ray._private  # type: ignore[attr-defined]
    instead = (
        (private.utils, "get_entrypoint_name", lambda: shlex.join(redacted_words(sys.argv))),
        (private.worker, "listen_error_messages", lambda *of_thread: None),
        (private.utils, "set_sigterm_handler", lambda handler: None),
    )
    with contextlib.ExitStack() as stack:
        for module, name, function in instead:
            stack.callback(setattr, module, name, getattr(module, name))
            setattr(module, name, function)
        yield


@contextlib.contextmanager
def _own_sigterm() -> Iterator[None]:
    """Puts back what SIGTERM does: Ray's compiled code replaces it, too, and prints its stack."""
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, before)


@contextlib.contextmanager
def _deaf_to_hangup() -> Iterator[None]:
    """Processes that are started in the body do not get SIGHUP, which a closed terminal sends to them all.

    It is this process that takes Ray down then; it gets the signal after the body.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGHUP})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextlib.contextmanager
def _token_in(folder: Path) -> Iterator[Path | None]:
    """A token for the Ray that is started in the body, where it has none and cannot write one in the home folder.

    Yields:
        Its file, in `folder`, which others cannot read; None where Ray has one, makes one, or asks for none.
    """
    environment = os.environ
    given = any(environment.get(name) for name in ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"))
    if given or not token_asked_for(environment) or _home_holds_token():
        yield None
        return
    path = folder / "auth_token"
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="ascii") as file:
        file.write(secrets.token_hex(32))
    environment["RAY_AUTH_TOKEN_PATH"] = str(path)
    try:
        yield path
    finally:
        environment.pop("RAY_AUTH_TOKEN_PATH", None)


def _home_holds_token() -> bool:
    """Whether Ray's token is in the home folder, or can be written there."""
    try:
        folder = Path.home() / ".ray"
        if (folder / "auth_token").is_file():
            return True
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
    except (OSError, RuntimeError):  # RuntimeError: there is no home folder
        return False
    return True


def _shut_down() -> None:
    """Leaves the session; of a local Ray that has lost a part the rest is killed first: it would be waited for."""
    node = _local_node()
    if _dead_daemon():
        with contextlib.suppress(Exception):
            node.kill_all_processes(check_alive=False, allow_graceful=False)
    ray.shutdown()


def _local_node() -> Any:
    return getattr(getattr(getattr(ray, "_private", None), "worker", None), "_global_node", None)


def _dead_daemon() -> str:
    """Names what has died of a Ray that this process started."""
    processes = getattr(_local_node(), "all_processes", {})
    for kind, name in _DAEMONS.items():
        for info in processes.get(kind, []):
            if info.process.poll() is not None:
                return f"Ray's {name} process died"
    return ""


class _Unanswered:
    """Whether the GCS of a cluster still takes connections.

    Args:
        gcs: Its HOST:PORT; None where Ray does not tell.
    """

    def __init__(self, gcs: str | None) -> None:
        host, _, port = (gcs or "").rpartition(":")
        self._at = (host, int(port)) if host and port.isdecimal() else None
        self._since: float | None = None
        self._next = 0.0

    def fault(self) -> str:
        """Says that it has not answered for a while; asks once a second at most."""
        if self._at is None or time.monotonic() < self._next:
            return ""
        self._next = time.monotonic() + 1
        try:
            socket.create_connection(self._at, timeout=2).close()
        except OSError:
            self._since = self._since or time.monotonic()
            waited = time.monotonic() - self._since
            return (
                f"the Ray cluster's GCS at {self._at[0]}:{self._at[1]} is gone" if waited > UNANSWERED_SECONDS else ""
            )
        self._since = None
        return ""


class Watch:
    """Looks after a Ray session in a thread of its own: the driver's may be waiting for what has died.

    Args:
        fault: Names what has died; empty while all is well.
        on_stuck: As for `ray_session`.
    """

    def __init__(self, fault: Callable[[], str], on_stuck: Callable[[str], None]) -> None:
        self._fault = fault
        self._on_stuck = on_stuck
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look, name="ray-watch", daemon=True)
        self._told = ""

    def told(self) -> str:
        """What has died; looks at once."""
        self._told = self._told or self._fault()
        return self._told

    def __enter__(self) -> Watch:
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._over.set()

    def _look(self) -> None:
        while not self._over.wait(LOOK_SECONDS):
            if self.told():
                if not self._over.wait(STUCK_SECONDS):
                    self._on_stuck(self._told)
                return


def token_asked_for(environment: Mapping[str, str]) -> bool:
    """Whether a Ray that is started here asks for its token: yes, unless RAY_AUTH_MODE says otherwise."""
    return environment.get("RAY_AUTH_MODE", "token").lower() == "token"


def _asks_for_token(dashboard: str | None) -> bool:
    """Whether a cluster rejects clients without a token: its dashboard is asked without one.

    Without a dashboard to ask, a cluster that let this process in without a token does not ask for one.
    """
    if dashboard is not None:
        try:
            with urllib.request.urlopen(f"{dashboard}/api/version", timeout=5):
                return False
        except urllib.error.HTTPError as error:
            if error.code in (401, 403):
                return True
        except OSError:
            pass
    return os.environ.get("RAY_AUTH_MODE", "").lower() == "token"


def _refuse_old_ray(version: str) -> None:
    """Raises a SegsweepError for a Ray that lets anybody on the network run code: before 2.60 it asks for no token."""
    numbers = [int(part) for part in re.findall(r"\d+", version)[:2]]
    if numbers < [2, 60]:
        raise SegsweepError(
            f"Ray {version} lets anybody who reaches this machine run code here: pip install --upgrade 'ray>=2.60'"
        )
