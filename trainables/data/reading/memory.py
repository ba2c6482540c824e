"""Facts about files that are kept in the cache folder, so that nothing is read twice; losing them costs time alone."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from trainables.files import write_json
from trainables.kept import read_kept


def recall(place: Path, kind: str, *, version: int) -> dict[str, Any]:
    """The facts that `remember` kept; none where there are none, or they are damaged, of another version or user.

    Args:
        place: The file.
        kind: What they are about.
        version: Of what a fact holds.
    """
    try:
        content = json.loads(read_kept(place))
    except (OSError, ValueError):
        return {}
    if not isinstance(content, dict) or content.get("format") != version:
        return {}
    facts = content.get(kind)
    return facts if isinstance(facts, dict) else {}


def remember(place: Path, kind: str, facts: Mapping[str, Any], *, version: int) -> None:
    """Keeps facts by key, as JSON; does nothing where the folder cannot be written.

    Args:
        place: The file; what it held is replaced.
        kind: What they are about.
        facts: JSON primitives, lists and mappings of texts.
        version: Of what a fact holds.
    """
    try:
        write_json(place, {"format": version, kind: facts}, indent=None)
    except OSError:
        # They only save time: where they cannot be kept, the files are read a second time.
        return
