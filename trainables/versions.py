"""Which code this is."""

from __future__ import annotations

import hashlib
from functools import cache

from trainables.commands import ROOT

CODE = ("trainables", "search_spaces", "sweep", "analysis")
"""The packages of this project."""


@cache
def code_version() -> str:
    """The first 12 hexadecimal digits of SHA-256 over the source of the four packages."""
    digest = hashlib.sha256()
    for package in CODE:
        for path in sorted((ROOT / package).rglob("*.py")):
            digest.update(path.relative_to(ROOT).as_posix().encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()[:12]
