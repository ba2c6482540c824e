"""Tables of pairs: CSV files with a column of images, one of masks, and perhaps one that says train, val or test."""

from __future__ import annotations

import csv
import io
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from trainables.data.layouts.finding import Pair, Pairing, Question, Said, UndecidedError
from trainables.data.layouts.sides import key_of, role_of
from trainables.data.layouts.tree import MediaFile
from trainables.data.layouts.words import PARTS, folder_name, normal, tokens
from trainables.data.reading.names import check_ids, path_fault
from trainables.errors import DataError
from trainables.limits import check_file
from trainables.words import counted, some_of

_SPLITS = frozenset(("split", "splits", "subset", "set", "partition", "phase"))
"""Words in the name of a column of splits."""

_LONGEST_HEAD = 10_000
"""Characters of a first line that names columns."""

_SHOWN = 10
"""Faults that a message names."""


@dataclass(frozen=True)
class _Table:
    """A file whose columns name images and masks of the folder."""

    name: str
    image: _Column
    mask: _Column
    split: Sequence[str]
    """In the order of the rows: train, val, test, or nothing."""


@dataclass(frozen=True)
class _Column:
    """A column of paths."""

    name: str
    paths: Sequence[str]
    """Of each row, from the data root; empty where the cell is."""
    there: int
    """How many of them are files of the folder."""
    told: str
    """How the paths were found, where they are not those from the table's folder or the root."""


def pairs_in_tables(root: Path, files: Sequence[MediaFile], said: Said) -> tuple[Pairing, tuple[str, ...]] | None:
    """The pairs that tables name, and the names of these tables; None if no table names any.

    Tables lie in the folder itself, unless they are said. Paths count from the folder of the table or from the root;
    else without their first folders, if they were written on another machine; else by the names of the files alone.

    Args:
        root: The folder.
        files: What `media_files` found in it.
        said: Perhaps which tables count.

    Raises:
        UndecidedError: If several tables could be meant.
        DataError: If a table cannot be read, or contradicts itself.
    """
    paths = sorted(root.glob("*.csv")) if said.pairs is None else [root / name for name in said.pairs]
    by_path = _by_path(files)
    found = [table for path in paths if (table := _read(root, path, files, by_path, asked=said.pairs is not None))]
    if not found:
        return None
    parts = [_part_of_name(table.name) for table in found]
    if said.pairs is None and len(found) > 1 and (None in parts or len(set(parts)) < len(parts)):
        kinds = some_of([table.name for table in found], 4)
        answers = [(("--pairs", table.name), f"read {table.name}") for table in found[:4]]
        raise UndecidedError(root, Question(f"several tables name pairs of images and masks: {kinds}", tuple(answers)))
    return _pairing(root, files, found, by_path), tuple(table.name for table in found)


def _pairing(
    root: Path, files: Sequence[MediaFile], found: Sequence[_Table], by_path: Mapping[str, MediaFile]
) -> Pairing:
    """The pairs of all tables.

    Raises:
        DataError: If images are not named, or files twice.
    """
    names = some_of([table.name for table in found], 3)
    rows: list[tuple[MediaFile, str, str | None]] = []
    faults = []
    for table in found:
        of_name = _part_of_name(table.name) if len(found) > 1 else None
        cells = zip(table.image.paths, table.mask.paths, table.split, strict=True)
        for row, (image, mask, part) in enumerate(cells, 1):
            if image:
                rows.append((_file(root, image, by_path), mask, part or of_name))
            else:
                faults.append(f"row {row} of {table.name} names no image")
    paths = [path for file, mask, _ in rows for path in (file.relative, mask) if path]
    faults += [f"{path} is named more than once in {names}" for path, count in Counter(paths).items() if count > 1]
    if faults:
        raise DataError(
            f"{root}: {some_of(faults, _SHOWN)}; put the table right, or pair files by their names with --pairs none "
            "of segsweep init"
        )
    keys = Counter(key_of(file) for file, _, _ in rows)
    pairs: dict[str, Pair] = {}
    unlabelled: dict[str, Path] = {}
    for file, mask, of_row in rows:
        own = "/".join((*file.below, file.stem)) if keys[key_of(file)] > 1 else "/".join(key_of(file))
        if mask:
            pairs[own] = Pair(file.path, _file(root, mask, by_path).path, of_row)
        else:
            unlabelled[own] = file.path
    check_ids(pairs, root)
    named = {path for file, mask, _ in rows for path in (file.relative, mask)}
    others = sum(role_of(file) != "aside" and file.relative not in named for file in files)
    one = found[0]
    notes = [f"pairs are those of {names}: images of column {one.image.name!r}, masks of {one.mask.name!r}"]
    notes += sorted({column.told for table in found for column in (table.image, table.mask) if column.told})
    notes += [f"{counted(others, 'picture')} that no table names left aside"] if others else []
    return Pairing(
        pairs=dict(sorted(pairs.items())),
        unlabelled=unlabelled,
        lonely={},
        images=f"column {one.image.name} of {names}",
        masks=f"column {one.mask.name}",
        notes=tuple(notes),
        parts_by=names,
    )


def _read(
    root: Path, path: Path, files: Sequence[MediaFile], by_path: Mapping[str, MediaFile], *, asked: bool
) -> _Table | None:
    """A table; None if its columns name no files of the folder.

    Raises:
        DataError: If columns contradict each other, splits are no splits, or a table that was asked for is none.
    """
    name = path.relative_to(root).as_posix()
    columns = _columns(path, asked=asked)
    best = {}
    for role in ("image", "mask"):
        named = [column for column in columns if folder_name(column).role == role]
        if not named and role == "image":
            named = [column for column in columns if not folder_name(column).role]
        tried = [_column(root, path, column, columns[column], files, by_path, role) for column in named]
        most = max((column.there for column in tried), default=0)
        fitting = [column for column in tried if column.there == most > 0]
        if len({tuple(column.paths) for column in fitting}) > 1:
            names = some_of([column.name for column in fitting], 4)
            raise DataError(
                f"{path}: the columns {names} all name files that could be the {role}s: leave one of them in a copy of "
                "the table, and name that with --pairs of segsweep init"
            )
        if not fitting:
            if asked:
                raise DataError(
                    f"{path}: no column names {role}s of {root} ({some_of(list(columns), 6)} is there): write a table "
                    "with the columns image and mask, and paths from the table's folder"
                )
            return None
        best[role] = min(fitting, key=lambda column: bool(column.told))
    outside = [entry for column in best.values() for entry in column.paths if path_fault(entry)]
    if outside:
        raise DataError(
            f"{path}: paths that lead out of {root}: {some_of(outside, 3)}; give --data-root the folder above"
        )
    split = next((column for column in columns if not _SPLITS.isdisjoint(tokens(column))), None)
    parts = [""] * len(best["image"].paths) if split is None else [_part(path, split, cell) for cell in columns[split]]
    return _Table(name, best["image"], best["mask"], parts)


def _columns(path: Path, *, asked: bool) -> dict[str, list[str]]:
    """The cells of each column; none of a file whose head names no masks, unless it was asked for.

    Raises:
        DataError: If that cannot be read.
    """
    try:
        with path.open(encoding="utf-8-sig") as file:
            head = file.readline(_LONGEST_HEAD)
        separator = max(",;\t", key=head.count)
        if not asked and not any(folder_name(name).role == "mask" for name in head.split(separator)):
            return {}
        check_file(path, what="table of pairs")
        text = path.read_text(encoding="utf-8-sig")
        rows = [row for row in csv.reader(io.StringIO(text), delimiter=separator) if any(cell.strip() for cell in row)]
    except (OSError, UnicodeDecodeError, csv.Error, DataError) as error:
        if asked:
            raise DataError(f"{path} cannot be read as a table of pairs ({error}); name another with --pairs") from None
        return {}
    if len(rows) < 2:
        return {}
    names = [cell.strip() for cell in rows[0]]
    filled = [[*(cell.strip() for cell in row), *[""] * len(names)] for row in rows[1:]]
    return {name: [row[place] for row in filled] for place, name in enumerate(names) if name}


def _column(
    root: Path,
    table: Path,
    name: str,
    cells: Sequence[str],
    files: Sequence[MediaFile],
    by_path: Mapping[str, MediaFile],
    role: str,
) -> _Column:
    """A column read in the way in which most of its paths are there; of several the first.

    Folders are cut off only where they cannot be meant here, and files found by their names where there are no folders:
    a path that leads to no file must not lead to another one of the same name.
    """
    folder = PurePosixPath(table.parent.relative_to(root).as_posix())
    written = [normal(cell.replace("\\", "/")) for cell in cells]
    pieces = [[piece for piece in path.split("/") if piece not in ("", ".")] for path in written]
    ways = [(_joined(folder, pieces), ""), (["/".join(path) for path in pieces], "")]
    for cut in range(1, max(map(len, pieces), default=0)):
        if all(
            _is_elsewhere(path) or parts[cut - 1 : cut] == [root.name]
            for path, parts in zip(written, pieces, strict=True)
            if path
        ):
            told = f"column {name!r}: paths without their first {counted(cut, 'folder')} lead to the files"
            ways.append((["/".join(parts[cut:]) for parts in pieces], told))
    if all(len(parts) < 2 for parts in pieces):
        alone = _by_name(file for file in files if role_of(file) in (role, ""))
        names = [alone.get(parts[0], parts[0]) if parts else "" for parts in pieces]
        ways.append((names, f"column {name!r}: files found by their names alone"))
    there = [sum(path in by_path for path in paths) for paths, _ in ways]
    paths, told = ways[there.index(max(there))]
    return _Column(name, [by_path[path].relative if path in by_path else path for path in paths], max(there), told)


def _is_elsewhere(path: str) -> bool:
    """Whether a path is absolute, on whatever system."""
    return path.startswith("/") or re.match(r"[a-zA-Z]:", path) is not None


def _joined(folder: PurePosixPath, pieces: Sequence[Sequence[str]]) -> list[str]:
    """Paths from the folder of a table, as paths from the root."""
    joined = []
    for path in pieces:
        whole: list[str] = list(folder.parts) if path else []
        for piece in path:
            if piece == ".." and whole and whole[-1] != "..":
                whole.pop()
            else:
                whole.append(piece)
        joined.append("/".join(whole))
    return joined


def _by_path(files: Sequence[MediaFile]) -> dict[str, MediaFile]:
    """Files by their paths from the root, also without their extension where only one is called so."""
    stems = Counter("/".join((*file.below, file.stem)) for file in files)
    bare = {normal("/".join((*file.below, file.stem))): file for file in files}
    return {**{stem: file for stem, file in bare.items() if stems[stem] == 1}, **{f.relative: f for f in files}}


def _by_name(files: Iterable[MediaFile]) -> dict[str, str]:
    """Paths by the names of files, with and without extension, where no other has the name."""
    found: dict[str, set[str]] = {}
    for file in files:
        for name in (normal(file.path.name), file.stem):
            found.setdefault(name, set()).add(file.relative)
    return {name: next(iter(paths)) for name, paths in found.items() if len(paths) == 1}


def _file(root: Path, path: str, by_path: Mapping[str, MediaFile]) -> MediaFile:
    """A file by its path from the root, whether it is there or not."""
    if path in by_path:
        return by_path[path]
    below = PurePosixPath(path).parts[:-1]
    return MediaFile(root / path, below, tuple(folder_name(name) for name in below))


def _part_of_name(name: str) -> str | None:
    return next((PARTS[word] for word in tokens(PurePosixPath(name).stem) if word in PARTS), None)


def _part(path: Path, column: str, cell: str) -> str:
    """What a cell of a column of splits says.

    Raises:
        DataError: If it is no split.
    """
    if not cell:
        return ""
    if cell.lower() not in PARTS:
        raise DataError(
            f"{path}: column {column!r} holds {cell!r}: write train, val or test there, or give the column another name"
        )
    return PARTS[cell.lower()]
