"""Copies of run folders whose weights, nearly all of their size, are links to the original's files."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from trainables.checkpoint import file_sha256

_originals: dict[Path, str] = {}
"""SHA-256 of each weight file that was linked to, before the first link."""


def copy_run(source: Path, target: Path) -> Path:
    """Copies a folder with all that is below it; every `*.safetensors` becomes a hard link to the one of `source`.

    A test may remove, rename or replace a weight file of its copy. Before it writes to one it removes it: otherwise it
    writes to the original too, which `altered_originals` finds at the end of the session.

    Args:
        source: Symbolic links in it are copied as links.
        target: Made.

    Returns:
        `target`.
    """
    return Path(shutil.copytree(source, target, symlinks=True, copy_function=_link_weights))


def altered_originals() -> list[Path]:
    """The weight files that are not what they were when they were first linked to."""
    return [path for path, digest in _originals.items() if path.is_file() and file_sha256(path) != digest]


def _link_weights(source: str, target: str) -> None:
    path = Path(source)
    if path.suffix == ".safetensors":
        if path not in _originals:
            _originals[path] = file_sha256(path)
        try:
            os.link(source, target)
            return
        except OSError:  # another file system, or one without links
            pass
    shutil.copy2(source, target, follow_symlinks=False)
