"""What must stay in one split: groups of images by a pattern in their ids, or from a table."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from trainables.data.reading.files import read_table
from trainables.data.reading.names import expanded
from trainables.errors import DataError
from trainables.words import counted

SECONDS = 20
"""That a regular expression may take for all ids together. Honest ones take a second for a million; there are short
expressions, such as `(a+)+$`, that would not end in a lifetime, and nothing inside a process can stop them."""
_SEARCH = """
import json, re, sys
rule, ids = json.load(sys.stdin)
pattern = re.compile(rule)
matches = map(pattern.search, ids)
json.dump([match and match[1 if pattern.groups else 0] for match in matches], sys.stdout)
"""
_TABLE = re.compile(r"(?P<file>.+\.csv)(:(?P<column>[^:/\\]+))?", re.IGNORECASE)


def groups_by(rule: str, ids: Sequence[str], *, source: str, folder: Path = Path()) -> dict[str, str]:
    r"""The group of each image.

    Args:
        rule: A regular expression that is found in every id: its first group is the group, or the whole match if it
            has none. Or a CSV file with the columns `id` and `group`; `FILE.csv:COLUMN` takes another column.
        ids: The images.
        source: Where the rule was given, for messages.
        folder: What the path of a CSV file is relative to.

    Raises:
        DataError: If the rule is not a regular expression or takes too long, the table cannot be read, or an image has
            no group.

    Example:
        >>> groups_by(r"^(patient\d+)_", ["patient1_a", "patient1_b"], source="--group-by")
        {'patient1_a': 'patient1', 'patient1_b': 'patient1'}
    """
    table = _TABLE.fullmatch(rule)
    if table:
        return _from_table(folder / expanded(table["file"]), table["column"] or "group", ids)
    return _from_ids(rule, ids, source)


def _from_ids(rule: str, ids: Sequence[str], source: str) -> dict[str, str]:
    try:
        re.compile(rule)
    except (re.error, RecursionError, OverflowError) as error:
        raise DataError(f"{source}: groups is not a regular expression ({error}): {rule}") from None
    groups = dict(zip(ids, _found(rule, ids, source), strict=True))
    left = [image_id for image_id, group in groups.items() if group is None]
    if left:
        raise DataError(f"{source}: groups ({rule}) does not match the ids {', '.join(left[:10])}; it must match all")
    return {image_id: group for image_id, group in groups.items() if group is not None}


def _found(rule: str, ids: Sequence[str], source: str) -> list[str | None]:
    """The group that an expression finds in each id, searched for in a process that can be ended."""
    try:
        done = subprocess.run(
            [sys.executable, "-I", "-S", "-c", _SEARCH],
            input=json.dumps([rule, list(ids)]).encode(),
            capture_output=True,
            timeout=SECONDS,
            check=True,
        )
    except subprocess.TimeoutExpired:
        raise DataError(
            f"{source}: groups ({rule}) takes more than {SECONDS} s for {counted(len(ids), 'id')}; write it without a "
            "repetition within a repetition, or give a CSV file with the columns id and group"
        ) from None
    except subprocess.CalledProcessError as error:
        last = (error.stderr.decode(errors="replace").strip().splitlines() or ["it died"])[-1]
        raise DataError(f"{source}: groups ({rule}) cannot be searched for ({last})") from None
    found: list[str | None] = json.loads(done.stdout)
    return found


def _from_table(path: Path, column: str, ids: Sequence[str]) -> dict[str, str]:
    rows = read_table(path, ("id", column), "table of groups")
    groups = {row["id"]: row[column] for row in rows}
    torn = sorted({row["id"] for row in rows if row[column] != groups[row["id"]]})
    if torn:
        raise DataError(f"{path}: more than one {column} for the ids {', '.join(torn[:10])}; give every image one")
    left = [image_id for image_id in ids if not groups.get(image_id)]
    if left:
        raise DataError(f"{path}: no {column} for the ids {', '.join(left[:10])}; give every image one")
    return {image_id: groups[image_id] for image_id in ids}
