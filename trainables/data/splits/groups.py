"""What must stay in one split: groups of images by a pattern in their ids, or from a table."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from trainables.data.reading.files import read_table
from trainables.data.reading.names import expanded
from trainables.errors import DataError

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
        DataError: If the rule is not a regular expression, the table cannot be read, or an image has no group.

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
        pattern = re.compile(rule)
    except re.error as error:
        raise DataError(f"{source}: groups is not a regular expression ({error}): {rule}") from None
    matches = ((image_id, pattern.search(image_id)) for image_id in ids)
    groups = {image_id: match and match[1 if pattern.groups else 0] for image_id, match in matches}
    left = [image_id for image_id, group in groups.items() if group is None]
    if left:
        raise DataError(f"{source}: groups ({rule}) does not match the ids {', '.join(left[:10])}; it must match all")
    return {image_id: group for image_id, group in groups.items() if group is not None}


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
