"""Names and colours of classes in the files that other programs put beside masks."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable
from pathlib import Path

from trainables.data.base import Color
from trainables.data.layouts.finding import Said, SaidClass

_LONGEST = 1 << 20
"""Bytes; a longer file is no table of classes."""

_VOID_NAMES = frozenset(
    ["void", "ignore", "ignored", "unlabeled", "unlabelled", "__ignore__", "ignore_label", "dontcare"]
)
"""Names that tables give to what is no class."""

Table = list[SaidClass]


def class_table(root: Path) -> Said | None:
    """The classes by the first such file in a folder, or None; see `_READERS` for the files."""
    for name, reader in _READERS.items():
        path = root / name
        if not path.is_file() or path.stat().st_size > _LONGEST:
            continue
        try:
            table = reader(path.read_text(encoding="utf-8-sig"))
        except (OSError, UnicodeDecodeError, ValueError, csv.Error):
            continue
        if table and len({entry.name for entry in table}) == len(table):
            return _without_void(table, name)
    return None


def _without_void(table: Table, source: str) -> Said:
    void = [entry for entry in table if entry.name.lower() in _VOID_NAMES]
    kept = [entry for entry in table if entry not in void]
    if not void or not kept:
        return Said(classes=tuple(table), source=source)
    ids = tuple(entry.id for entry in void if entry.id is not None)
    colors = tuple(entry.color for entry in void if entry.color is not None)
    return Said(classes=tuple(kept), void=ids or None, void_colors=colors, source=source)


def _names(text: str) -> Table:
    """One name a line; or id and name, in either order, with a colon, comma, tab or spaces between them."""
    lines = [line.strip() for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    numbered = [re.fullmatch(r"(-?\d+)\s*[:,;\t ]\s*(.+)", line) for line in lines]
    if all(numbered):
        return [SaidClass(match[2].strip().strip("'\""), int(match[1])) for match in numbered if match]
    behind = [re.fullmatch(r"(.+?)\s*[:,;\t ]\s*(-?\d+)", line) for line in lines]
    if all(behind):
        return [SaidClass(match[1].strip().strip("'\""), int(match[2])) for match in behind if match]
    if any(re.fullmatch(r"[\d\s.,;:-]+", line) or len(line) > 80 for line in lines):
        return []
    if lines[:1] == ["__ignore__"]:
        # labelme's list: this one is -1, so that the next is 0.
        lines = lines[1:]
    return [SaidClass(line.rstrip(",").strip("'\"")) for line in lines]


def _color_table(text: str) -> Table:
    """A CSV with a name and r, g, b."""
    rows = list(csv.DictReader(io.StringIO(text)))
    table = []
    for row in rows:
        cells = {(key or "").strip().lower(): (value or "").strip() for key, value in row.items()}
        name = cells.get("name") or cells.get("class") or cells.get("class_name") or cells.get("label")
        channels = [cells.get(key) or cells.get(key[0]) or "" for key in ("red", "green", "blue")]
        if not name:
            return []
        table.append(SaidClass(name, color=_color(channels) if all(channels) else None))
    return table


def _cvat(text: str) -> Table:
    """CVAT's `# label:color_rgb:parts:actions`."""
    rows = [line.split(":") for line in text.splitlines() if line.strip() and not line.startswith("#")]
    if not all(len(row) >= 2 and row[1].count(",") == 2 for row in rows):
        return _names(text)
    return [SaidClass(row[0].strip(), color=_color(row[1].split(","))) for row in rows]


def _camvid_colors(text: str) -> Table:
    """Lines of `R G B name`."""
    rows = [line.split(maxsplit=3) for line in text.splitlines() if line.strip()]
    return [SaidClass(row[3].strip(), color=_color(row[:3])) for row in rows]


def _roboflow(text: str) -> Table:
    """Roboflow's `Pixel Value, Class`."""
    rows = [[cell.strip() for cell in row] for row in csv.reader(io.StringIO(text)) if row]
    return [SaidClass(row[1], int(row[0])) for row in rows[1:]]


def _ade20k(text: str) -> Table:
    """ADE20K's `objectInfo150.txt`: tabs between id and names; 0 is what belongs to none of the classes."""
    rows = [line.split("\t") for line in text.splitlines()[1:] if line.strip()]
    names = [row[-1].strip() for row in rows]
    short = [name.partition(",")[0].strip() for name in names]
    unique = [one if short.count(one) == 1 else name for one, name in zip(short, names, strict=True)]
    return [SaidClass("void", 0), *(SaidClass(name, int(row[0])) for name, row in zip(unique, rows, strict=True))]


def _color(cells: list[str]) -> Color:
    red, green, blue = (int(cell) for cell in cells)
    if not all(0 <= channel <= 255 for channel in (red, green, blue)):
        raise ValueError("no colour")
    return red, green, blue


_READERS: dict[str, Callable[[str], Table]] = {
    "class_dict.csv": _color_table,
    "class_dict_seg.csv": _color_table,
    "classes.csv": _color_table,
    "labelmap.txt": _cvat,
    "label_colors.txt": _camvid_colors,
    "_classes.csv": _roboflow,
    "train/_classes.csv": _roboflow,
    "objectInfo150.txt": _ade20k,
    "classes.txt": _names,
    "class_names.txt": _names,
    "label_names.txt": _names,
    "labels.txt": _names,
    "names.txt": _names,
}
"""The files that are looked for, in this order."""
