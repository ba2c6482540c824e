"""The driver's code, as Ray brings it to the nodes of a cluster: they run it whatever they have installed."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from trainables.commands import ROOT
from trainables.errors import SegsweepError
from trainables.versions import CODE

LIMIT = 50 * 2**20
"""Bytes of the code; more is something that does not belong there, and would be brought to every node."""
LEFT_OUT = ("__pycache__", "*.pyc", ".*")


@contextmanager
def shipped_code(root: Path = ROOT) -> Iterator[dict[str, Any]]:
    """Ray's `runtime_env` with a copy of the four packages, and nothing beside them, as the working directory.

    A working directory stands first on the path of Ray's workers. It takes the place of the driver's current folder,
    which Ray would put there otherwise.

    Args:
        root: The folder that holds the packages.

    Raises:
        SegsweepError: If they are larger than `LIMIT`.
    """
    with tempfile.TemporaryDirectory(prefix="segsweep-code-") as folder:
        for package in CODE:
            shutil.copytree(root / package, Path(folder, package), ignore=shutil.ignore_patterns(*LEFT_OUT))
        sizes = {path: path.stat().st_size for path in Path(folder).rglob("*") if path.is_file()}
        if sum(sizes.values()) > LIMIT:
            largest = max(sizes, key=lambda path: sizes[path])
            raise SegsweepError(
                f"the code that every node is to run takes {sum(sizes.values()) / 2**20:.0f} MiB, at most "
                f"{LIMIT / 2**20:.0f} are brought there: move what is no code out of {root}, such as "
                f"{largest.relative_to(folder)}"
            )
        yield {"working_dir": folder}
