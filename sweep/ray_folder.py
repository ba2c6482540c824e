"""A folder of its own for each Ray that is started here, and a process that removes it, however the driver ends.

Ray's daemons outlive a driver that is killed by up to a minute, and what they wrote stays for good. A small process
waits beside the driver: when the driver has ended, however it ended, it ends what is left of that Ray and removes the
folder.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from trainables.errors import SegsweepError

MARK = "SEGSWEEP_RAY_FOLDER"
"""Variable in the environment of all processes of a Ray that was started here; its folder."""
LONGEST = 40
"""Bytes that the folder's path may have: Ray adds up to 66 for its Unix sockets, whose paths end at 107 (Linux)."""
_PREFIX = "segsweep-"
_CLEANING_SECONDS = 10.0

_GUARD = """
import os, shutil, signal, subprocess, sys, time
folder, mark = sys.argv[1], sys.argv[2]
sys.stdin.buffer.read()  # ends with the driver
def left():
    if os.path.isdir("/proc/self"):
        for entry in os.listdir("/proc"):
            if entry.isdigit() and int(entry) != os.getpid():
                try:
                    with open(f"/proc/{entry}/environ", "rb") as stream:
                        if f"{mark}={folder}".encode() in stream.read().split(b"\\0"):
                            yield int(entry)
                except OSError:
                    pass
    else:
        listing = subprocess.run(["ps", "-axo", "pid=,command="], capture_output=True, text=True).stdout
        for line in listing.splitlines():
            pid, _, command = line.strip().partition(" ")
            if folder + "/" in command and int(pid) != os.getpid():
                yield int(pid)
for _ in range(50):
    found = list(left())
    for pid in found:
        try:
            os.kill(pid, signal.SIGKILL)
        except OSError:
            pass
    if not found:
        break
    time.sleep(0.1)
shutil.rmtree(folder, ignore_errors=True)
"""


def place_for_ray(environment: Mapping[str, str] = os.environ) -> Path:
    """An existing folder in which Ray's own can be made: of RAY_TMPDIR, the usual one and /tmp the first that will do.

    Raises:
        SegsweepError: If none can be written to, or all their paths are too long.
    """
    asked = [environment.get("RAY_TMPDIR"), tempfile.gettempdir(), "/tmp"]
    faults = []
    for place in dict.fromkeys(Path(one).expanduser().absolute() for one in asked if one):
        if len(os.fsencode(place)) + len(_PREFIX) + 9 > LONGEST:
            faults.append(f"{place} is too long for the paths of Ray's sockets")
            continue
        try:
            place.mkdir(parents=True, exist_ok=True)
            tempfile.TemporaryFile(dir=place).close()
        except OSError as error:
            faults.append(f"{place} cannot be written to ({error.strerror})")
            continue
        return place
    raise SegsweepError(
        f"Ray has no folder for its files: {'; '.join(faults)}\n"
        f"name one by RAY_TMPDIR=DIR whose path has at most {LONGEST - len(_PREFIX) - 9} characters"
    )


@contextmanager
def folder_for_ray() -> Iterator[Path]:
    """A folder for the files of a Ray that is started in the body; it and what is left of that Ray go afterwards.

    They also go when this process is killed.

    Raises:
        SegsweepError: As `place_for_ray`.
    """
    folder = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=place_for_ray()))
    guard = subprocess.Popen(
        [sys.executable, "-I", "-S", "-c", _GUARD, str(folder), MARK],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        cwd="/",
        start_new_session=True,  # Ctrl-C in the terminal is not meant for it
    )
    try:
        yield folder
    finally:
        assert guard.stdin is not None
        guard.stdin.close()
        with suppress(subprocess.TimeoutExpired):
            guard.wait(_CLEANING_SECONDS)
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def marked(folder: Path) -> Iterator[None]:
    """Processes that are started in the body carry the mark by which `folder_for_ray` finds them."""
    os.environ[MARK] = str(folder)
    try:
        yield
    finally:
        os.environ.pop(MARK, None)
