"""What each mask file holds, looked at once and remembered in the cache folder."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from trainables.data.base import StoredMask
from trainables.data.reading.memory import recall, remember
from trainables.data.reading.opening import raw_mode
from trainables.data.reading.read import PaletteUse, read_stored_mask
from trainables.data.reading.stored import TRANSPARENT, count_stored, is_color
from trainables.errors import DataError
from trainables.limits import opened_image
from trainables.machine import cores
from trainables.places import cache_root

_KIND = "masks"
_FORMAT = 1

_MOST_VALUES = 400
"""How many values of a file are kept; a mask of more is none."""

_FLAT = 0.7
"""Of neighbouring pixels in a mask at least this share is equal."""


@dataclass(frozen=True)
class MaskFacts:
    """What one mask file holds."""

    kind: str = ""
    """How its pixels are kept, in words: "8-bit ids", "palette", "RGB"."""
    pixels: dict[int, int] = field(default_factory=dict)
    """Of each value of `read_stored_mask`, the commonest if there are very many."""
    distinct: int = 0
    """How many values there are."""
    solid: tuple[int, ...] = ()
    """The values that fill two by two pixels somewhere; smoothed edges do not."""
    palette: dict[int, int] = field(default_factory=dict)
    """The packed colour of each id, in a file with a palette."""
    fault: str = ""
    """Why it cannot be read."""


def survey(
    root: Path, masks: Sequence[tuple[Path, int]], *, palette: PaletteUse = "ids", memory: bool = True
) -> list[MaskFacts]:
    """What each mask holds, in the order asked for.

    Args:
        root: The data root, under which it is remembered.
        masks: Files, and which page of each.
        palette: What files with a palette say.
        memory: Whether to keep what was found.
    """
    place = _memory(root)
    known = recall(place, _KIND, version=_FORMAT)
    keys = [_key(path, page, palette) for path, page in masks]
    fresh = [number for number, key in enumerate(keys) if key not in known]
    with ThreadPoolExecutor(max_workers=min(16, cores())) as pool:
        found = list(pool.map(lambda number: facts_of(*masks[number], palette=palette), fresh))
    facts = {keys[number]: fact for number, fact in zip(fresh, found, strict=True)}
    if facts and memory:
        kept = {key: known[key] for key in keys if key in known}
        facts_kept = {**kept, **{key: asdict(fact) for key, fact in facts.items()}}
        remember(place, _KIND, facts_kept, version=_FORMAT)
    return [facts[key] if key in facts else _from_json(known[key]) for key in keys]


def facts_of(path: Path, page: int = 0, *, palette: PaletteUse = "ids") -> MaskFacts:
    """What one mask file holds."""
    try:
        stored = read_stored_mask(path, page=page, palette=palette)
    except DataError as error:
        return MaskFacts(fault=str(error).removeprefix(f"{path}: "))
    counts = count_stored(stored)
    common = sorted(counts, key=lambda value: (-counts[value], value))[:_MOST_VALUES]
    kind, colors = _kind(path, page, stored)
    return MaskFacts(
        kind=kind,
        pixels={value: counts[value] for value in sorted(common)},
        distinct=len(counts),
        solid=tuple(sorted(set(common).intersection(_solid(stored)))),
        palette={value: color for value, color in colors.items() if value in counts},
    )


def looks_like_mask(path: Path) -> bool:
    """Whether the pixels of a file could be those of a mask: few values, and most neighbours equal."""
    try:
        stored = read_stored_mask(path)
    except DataError:
        return False
    if stored.shape[1] < 2:
        return False
    flat = float((stored[:, 1:] == stored[:, :-1]).mean())
    return flat >= _FLAT and len(count_stored(stored)) <= _MOST_VALUES // 2


def _solid(stored: StoredMask) -> list[int]:
    down = stored[1:] == stored[:-1]
    square = down[:, 1:] & down[:, :-1] & (stored[:-1, 1:] == stored[:-1, :-1])
    return [int(value) for value in np.unique(stored[:-1, :-1][square])]


def _kind(path: Path, page: int, stored: StoredMask) -> tuple[str, dict[int, int]]:
    """How a file keeps its pixels, in words, and its palette if it has one."""
    if path.suffix.lower() == ".npy":
        return "an array of ids", {}
    with opened_image(path, head=True) as image:
        if page:
            image.seek(page)
        raw, mode, form = raw_mode(image), image.mode, image.format
        palette = image.getpalette("RGB") if mode == "P" and form != "GIF" else None
    clear = " with transparent pixels" if bool((stored >= TRANSPARENT).any()) else ""
    if mode in ("RGB", "RGBA") or is_color(int(stored.flat[0]) if stored.size else 0):
        return f"colours ({form if form in ('GIF', 'WEBP') else mode}){clear}", {}
    if palette is not None:
        triples = np.array(palette, np.int64).reshape(-1, 3)
        colors = {
            number: int(1 << 24 | red << 16 | green << 8 | blue) for number, (red, green, blue) in enumerate(triples)
        }
        return "ids with a palette", colors
    if mode == "1":
        return "1-bit ids", {}
    bits = {"L;2": "2", "L;4": "4"}.get(raw.rstrip("IR"), "8")
    if mode.startswith("I;16"):
        bits = "16"
    elif mode.startswith(("I", "F")):
        bits = "32"
    return f"{bits}-bit ids{clear}", {}


def _key(path: Path, page: int, palette: PaletteUse) -> str:
    try:
        status = path.stat()
        return f"{path}|{page}|{palette}|{status.st_size}|{status.st_mtime_ns}"
    except OSError:
        return f"{path}|{page}|{palette}|-1|-1"


def _memory(root: Path) -> Path:
    return cache_root() / "surveys" / f"{hashlib.sha256(str(root.resolve()).encode()).hexdigest()[:16]}.json"


def _from_json(entry: Mapping[str, Any]) -> MaskFacts:
    numbers = {name: {int(key): value for key, value in entry[name].items()} for name in ("pixels", "palette")}
    return MaskFacts(
        entry["kind"], numbers["pixels"], entry["distinct"], tuple(entry["solid"]), numbers["palette"], entry["fault"]
    )
