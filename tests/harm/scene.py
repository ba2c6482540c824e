"""A run folder from a stranger, beside things that belong to the user."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path


class Scene:
    """A run in `runs/mine`, made by nobody we know, beside things that belong to the user.

    Attributes:
        base: Everything lies below it.
        run_dir: The run.
        victim: A folder of the user's.
    """

    def __init__(self, base: Path) -> None:
        self.base = base
        self.run_dir = base / "runs" / "mine"
        self.victim = base / "victim"

    def snapshot(self) -> dict[str, str]:
        """The hash of every file outside the run folder, and where links lead."""
        found = {}
        for path in sorted(self.base.rglob("*")):
            if self.run_dir in (path, *path.parents) or "cache" in path.relative_to(self.base).parts:
                continue
            name = path.relative_to(self.base).as_posix()
            if path.is_symlink():
                found[name] = f"-> {os.readlink(path)}"
            elif path.is_file():
                found[name] = hashlib.sha256(path.read_bytes()).hexdigest()
            else:
                found[name] = "folder"
        return found


def unharmed(before: dict[str, str], scene: Scene) -> bool:
    after = scene.snapshot()
    openings = "runs/test_openings.jsonl"  # ours, and written down before test is looked at
    return {k: v for k, v in after.items() if k != openings} == {k: v for k, v in before.items() if k != openings}
