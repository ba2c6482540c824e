"""Facts of the code that are slow to find out, kept between processes in the cache folder.

What a component is called and which hyperparameters it has stands in modules that load torch, which takes seconds.
Help texts and search spaces need nothing else of them. So a registry that was asked once tells it to all later
processes (`Registry`), in one file for each version of the code and of the packages that bring names of their own.
"""

from __future__ import annotations

import atexit
import contextlib
import hashlib
import json
import time
from collections.abc import Callable
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

from trainables.files import write_json
from trainables.kept import read_kept
from trainables.places import cache_root
from trainables.versions import code_version

_PACKAGES = ("torchvision", "timm", "segmentation-models-pytorch", "transformers", "optuna")
"""Packages whose version may change a fact."""
_PREFIX = "remembered-"
_KEPT_SECONDS = 30 * 24 * 3600


class Memory:
    """Facts by name, all of them JSON. What was learnt anew is written when the process ends.

    A file that cannot be read or written costs time, and nothing else.

    Args:
        folder: Of the file.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / f"{_PREFIX}{_key()}.json"
        self._learnt: dict[str, Any] = {}
        try:
            facts = json.loads(read_kept(self.path))
        except (OSError, ValueError):
            facts = {}
        self._facts: dict[str, Any] = facts if isinstance(facts, dict) else {}

    def recall(self, fact: str, find_out: Callable[[], Any]) -> Any:
        """A fact; `find_out` is called if it is not known yet.

        Args:
            fact: Its name.
            find_out: Returns JSON primitives, lists and dicts.
        """
        if fact not in self._facts:
            self.note(fact, find_out())
        return self._facts[fact]

    def note(self, fact: str, value: Any) -> None:
        """Keeps a fact that was found out elsewhere."""
        if fact not in self._facts:
            self._facts[fact] = self._learnt[fact] = value

    def save(self) -> None:
        """Writes what was learnt, and removes files of other versions that are a month old."""
        if not self._learnt:
            return
        with contextlib.suppress(OSError):
            write_json(self.path, self._facts, indent=None)
            self._learnt.clear()
            for other in self.path.parent.glob(f"{_PREFIX}*.json"):
                if other.stat().st_mtime < time.time() - _KEPT_SECONDS:
                    other.unlink(missing_ok=True)


def memory() -> Memory:
    """The memory in the cache folder."""
    return _opened(cache_root())


@cache
def _opened(folder: Path) -> Memory:
    opened = Memory(folder)
    atexit.register(opened.save)
    return opened


def _key() -> str:
    versions = []
    for package in _PACKAGES:
        try:
            versions.append(f"{package} {metadata.version(package)}")
        except metadata.PackageNotFoundError:
            versions.append(f"{package} absent")
    return hashlib.sha256("\n".join([code_version(), *versions]).encode()).hexdigest()[:16]
