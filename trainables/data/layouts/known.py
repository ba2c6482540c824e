"""Folders that hold a data set with a name of its own, which knows more about it than its files say."""

from __future__ import annotations

from pathlib import Path

from trainables import commands
from trainables.data.base import RECOGNISERS


def known_as(root: Path) -> str:
    """The data sets that a folder looks like, with the commands that read it as such; empty if it is none of them."""
    names = [name for name, recognises in RECOGNISERS.items() if recognises(root)]
    if not names:
        return ""
    ways = ", or ".join(commands.check_data(name, root) for name in names)
    return f"{' or '.join(names)}, which has classes, void and splits of its own: {ways}"
