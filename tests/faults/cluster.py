"""Ray nodes started apart, as on machines that share nothing: each with its own home, cache and temp folder."""

from __future__ import annotations

import contextlib
import os
import secrets
import shlex
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path

from ..command import RAY_TMPDIR, REPO, end_orphans, environment, wait_until
from .twin import below

MOUNTS_OF_ITS_OWN = shutil.which("unshare") is not None and (
    subprocess.run(["unshare", "-rm", "true"], capture_output=True).returncode == 0
)
"""Whether this machine lets a process have mounts of its own."""


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


def without(hidden: Iterable[Path], empty: Path) -> list[str]:
    """Words before a command that let it see folders as empty, as they are on another machine."""
    hide = "".join(f"mount --bind {shlex.quote(str(empty))} {shlex.quote(str(one))} && " for one in hidden)
    return ["unshare", "-rm", "bash", "-c", f'{hide}exec "$@"', "node"] if hide else []


class Nodes:
    """A head, and nodes that join it; ended by their process groups.

    Args:
        folder: For homes, caches and logs.
        token: That they ask for; None for one of their own, empty for none.

    Attributes:
        address: Of the GCS.
        client: Of the Ray Client server.
        ray_folder: Where Ray keeps the sockets of all nodes.
    """

    def __init__(self, folder: Path, *, token: str | None = None) -> None:
        self.token = secrets.token_hex(32) if token is None else token
        self._folder = folder
        self._port, self._client_port = free_port(), free_port()
        self._started: dict[str, subprocess.Popen[bytes]] = {}
        self.address = f"127.0.0.1:{self._port}"
        self.client = f"ray://127.0.0.1:{self._client_port}"
        self.ray_folder = Path(RAY_TMPDIR, secrets.token_hex(2))

    def start(self, name: str, *flags: str, hidden: Iterable[Path] = ()) -> None:
        """Starts a node; the first is the head.

        Args:
            name: Of its folder.
            flags: Of `ray start`, such as `--num-cpus=1`.
            hidden: Folders that look empty there, as they do on another machine.
        """
        place, empty = self._folder / name, self.empty(name)
        joining = [f"--address={self.address}"] if self._started else ["--head", f"--port={self._port}"]
        client = f"--ray-client-server-port={self._client_port}"
        own = [] if self._started else [f"--temp-dir={self.ray_folder}", client, "--include-dashboard=false"]
        words = [str(Path(sys.executable).with_name("ray")), "start", *joining, *own, *flags, "--block"]
        apart = without(hidden, empty)
        log = place / "log"
        with log.open("wb") as stream:
            self._started[name] = subprocess.Popen(
                [*apart, *words],
                cwd=place,
                env={**os.environ, **self._settings(place)},
                stdout=stream,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        wait_until(lambda: b"Ray runtime started" in log.read_bytes(), timeout=240, what=f"node {name}: {log}")

    def empty(self, name: str) -> Path:
        """The folder that stands in the place of those which a node does not see."""
        folder = self._folder / name / "empty"
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def _settings(self, place: Path) -> Mapping[str, str]:
        asks = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": self.token} if self.token else {"RAY_AUTH_MODE": "disabled"}
        seen_soon = {"RAY_health_check_period_ms": "500", "RAY_health_check_failure_threshold": "4"}
        patient = {"RAY_CLIENT_SERVER_CHECK_CHANNEL_TIMEOUT_S": "120"}  # a server of Ray Client's may start slowly
        own = {"HOME": str(place), "SEGSWEEP_CACHE": str(place / "cache"), "TMPDIR": str(place)}
        return {
            **asks,
            **seen_soon,
            **patient,
            **own,
            "RAY_worker_niceness": "0",
            "RAY_memory_monitor_refresh_ms": "0",
            "PYTHONPATH": "",
        }

    def kill(self, name: str) -> None:
        """Ends a node as a power cut does."""
        process = self._started.pop(name)
        for pid in (process.pid, *below(process.pid)):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        process.wait(20)

    def close(self) -> None:
        """Ends all."""
        for name in list(self._started):
            self.kill(name)
        end_orphans()


def sweep_run(
    *flags: str,
    nodes: Nodes,
    address: str | None = None,
    code: Path = REPO,
    token: str | None = None,
    before: Iterable[str] = (),
) -> subprocess.Popen[str]:
    """Starts `python -m sweep.run` on a cluster with its token in the environment.

    Args:
        flags: Of the sweep.
        nodes: The cluster.
        address: That of its GCS by default.
        code: The folder that holds the packages.
        token: The cluster's by default.
        before: Words before the command, such as those of `without`.
    """
    given = {"RAY_AUTH_TOKEN": nodes.token if token is None else token}
    return subprocess.Popen(
        [*before, sys.executable, "-m", "sweep.run", *flags, "--address", address or nodes.address],
        cwd=code,
        env={**environment(), **{key: value for key, value in given.items() if value}, "PYTHONPATH": str(code)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        stdin=subprocess.DEVNULL,
        text=True,
    )
