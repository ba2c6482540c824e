"""The splits that a command asks for: given in files, drawn over groups, or the data set's own."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from trainables.data.base import SegmentationData, Splits
from trainables.data.cache.scan import scan
from trainables.data.layouts.lists import ids_of
from trainables.data.near_duplicates import grouped
from trainables.data.reading.files import read_lines, read_table
from trainables.data.reading.names import expanded, printable
from trainables.data.splits.complete import PARTS, completed
from trainables.data.splits.groups import groups_by
from trainables.data.splits.stratified import FRACTIONS, draw, how_drawn
from trainables.errors import DataError
from trainables.places import OnProgress

NEAR_DUPLICATES = "near-duplicates"
"""In place of a rule of groups: images that show nearly the same stay together."""
_FORMS = "a folder with train.txt, val.txt and test.txt, or a CSV file with the columns id,split"


def make_splits(
    data: SegmentationData,
    *,
    splits: Path | None = None,
    group_by: str | None = None,
    seed: int = 0,
    progress: OnProgress | None = None,
) -> Splits:
    """The splits for one run, in the one way that all commands share (`--splits`, `--group-by`).

    Reads every image and mask, unless that is remembered, because drawing asks for classes; a check that follows has
    next to nothing left to read.

    Args:
        data: The data set.
        splits: Where they are given (see `given_splits`); None: drawn over the groups, or those of the data set.
        group_by: What must stay in one split (see `groups_by`), or `near-duplicates`; None: the groups of the data set.
            Intervals are drawn over these groups, too.
        seed: Of all that has to be drawn.
        progress: Called with (done, total) images read.

    Raises:
        DataError: If the files or the rule do not fit the data set.
    """
    ids = list(data.ids())
    groups = groups_by(group_by, ids, source="--group-by") if group_by and group_by != NEAR_DUPLICATES else None
    records = scan(data, ids, progress=progress)
    if group_by == NEAR_DUPLICATES:
        groups = grouped(ids, {image_id: record.thumbnail for image_id, record in records.items()})
    made = _made(data, ids, splits, groups, group_by, seed)
    return replace(made, warnings=(*data.notes(), *made.warnings)) if data.notes() else made


def _made(
    data: SegmentationData,
    ids: Sequence[str],
    splits: Path | None,
    groups: Mapping[str, str] | None,
    group_by: str | None,
    seed: int,
) -> Splits:
    if splits is not None:
        return given_splits(data, splits, seed=seed, groups=groups)
    if groups is None:
        return data.splits(seed=seed)
    train, val, test = draw(data, ids, FRACTIONS, seed=seed, groups=[groups[image_id] for image_id in ids])
    together = f"{len(set(groups.values()))} groups ({group_by}) kept together"
    origin = f"drawn 60/20/20 from all {len(ids)} images, {how_drawn(seed)}, {together}"
    return Splits(train, val, test, origin=origin, groups=groups)


def given_splits(
    data: SegmentationData, path: Path, *, seed: int = 0, groups: Mapping[str, str] | None = None
) -> Splits:
    """Splits from a user's files: the parts that are given as they are, the others drawn.

    A missing val or test is 20% of the train list, stratified by class, groups kept together, and leaves it. A missing
    train is every image that no list names. Images in no list are left out, and a note says so.

    Args:
        data: The data set.
        path: A folder with `train.txt`, `val.txt`, `test.txt` (one id per line; at least one of them), or a CSV file
            with the columns `id` and `split` (train, val or test) and perhaps `group`; `FILE.csv:COLUMN` reads the
            split from another column.
        seed: Of the parts that have to be drawn.
        groups: The group of each image; None: from the table, else those of the data set.

    Raises:
        DataError: Lists every fault: ids that the data set does not have, ids named twice, values that are not a split.
    """
    file, column = _file_and_column(expanded(path))
    if file.is_dir():
        named, told = _from_lists(file), None
    elif file.suffix.lower() == ".csv":
        named, told = _from_table(file, column)
    else:
        raise DataError(f"--splits {path}: not there, or neither of {_FORMS}")
    # `a.jpg` and `images/a.jpg` are the image a.
    ids = ids_of([name for name, _ in named], _images(data))
    named = [(image_id, part) for image_id, (_, part) in zip(ids, named, strict=True)]
    if told is not None:
        told = {image_id: told[name] for name, image_id in zip(told, ids_of(list(told), _images(data)), strict=True)}
    _raise_for_faults(data, file, named)
    train, val, test = (tuple(image_id for image_id, name in named if name == part) for part in PARTS)
    given = Splits(train, val, test, origin=f"given in {path}", groups=told if groups is None else groups)
    return completed(data, given, seed)


def _images(data: SegmentationData) -> dict[str, Path]:
    return {image_id: data.paths(image_id)[0] for image_id in data.ids()}


def _file_and_column(path: Path) -> tuple[Path, str]:
    named = re.fullmatch(r"(.+\.csv):([^:/\\]+)", str(path), re.IGNORECASE)
    return (Path(named[1]), named[2]) if named else (path, "split")


def _from_lists(folder: Path) -> list[tuple[str, str]]:
    there = [part for part in PARTS if (folder / f"{part}.txt").is_file()]
    if not there:
        raise DataError(f"--splits {folder}: no train.txt, val.txt or test.txt in it; give {_FORMS}")
    return [(image_id, part) for part in there for image_id in read_lines(folder / f"{part}.txt")]


def _from_table(path: Path, column: str) -> tuple[list[tuple[str, str]], dict[str, str] | None]:
    rows = read_table(path, ("id", column), "table of splits", optional=("group",))
    groups = {row["id"]: row["group"] for row in rows if row["group"]}
    return [(row["id"], row[column]) for row in rows], groups or None


def _raise_for_faults(data: SegmentationData, source: Path, named: Sequence[tuple[str, str]]) -> None:
    known = set(data.ids())
    lonely = {orphan.image_id: f" ({orphan.kind})" for orphan in data.orphans()}
    lonely |= dict.fromkeys(data.unlabelled(), " (image without mask)")
    places: dict[str, list[str]] = defaultdict(list)
    for image_id, part in named:
        places[image_id].append(part)
    faults = {
        f"ids that {data.name} in {data.root} does not have (one it has: {min(known, default='none')})": [
            printable(i) + lonely.get(i, "") for i in places if i not in known
        ],
        "ids named more than once": [
            f"{printable(i)} ({', '.join(parts)})" for i, parts in places.items() if len(parts) > 1
        ],
        "neither train, val nor test": [
            f"{printable(i)} ({printable(part) or 'empty'})" for i, part in named if part not in PARTS
        ],
    }
    lines = [f"{what}: {', '.join(offenders)}" for what, offenders in faults.items() if offenders]
    if lines:
        raise DataError(f"--splits {source} does not fit:\n  " + "\n  ".join(lines))
