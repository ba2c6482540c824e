"""Fonts of what is drawn: the one that comes with matplotlib, and installed ones for letters that it does not have."""

from __future__ import annotations

import functools
from collections.abc import Iterable
from pathlib import Path

from matplotlib import font_manager, get_data_path
from matplotlib.ft2font import FT2Font

OWN = Path(get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"
PLACEHOLDERS = "Last Resort"
"""Begins the name of fonts that draw a box for every letter."""


def fonts_for(text: str) -> tuple[tuple[str, Path], ...]:
    """Names and files of installed fonts for the letters of a text that `OWN` does not have; few, best first.

    Letters that no installed font has are left out of account.

    Args:
        text: What is to be drawn.
    """
    return _fonts_for(frozenset(map(ord, text)) - _letters(OWN))


@functools.lru_cache(maxsize=512)
def _fonts_for(lacking: frozenset[int]) -> tuple[tuple[str, Path], ...]:
    found: list[tuple[str, Path]] = []
    having = {font: lacking & _letters(font[1]) for font in installed()} if lacking else {}
    while any(having.values()):
        best = max(having, key=lambda font: len(having[font]))
        found.append(best)
        having = {font: letters - having[best] for font, letters in having.items()}
    return tuple(found)


@functools.lru_cache(maxsize=1)
def installed() -> tuple[tuple[str, Path], ...]:
    """Name and file of every installed font, in one upright face of the usual weight, by name."""
    faces: dict[str, tuple[int, Path]] = {}
    for entry in font_manager.fontManager.ttflist:
        weight = entry.weight if isinstance(entry.weight, int) else 400
        face = (abs(weight - 400) + 1000 * (entry.style != "normal"), Path(entry.fname))
        if not entry.name.startswith(PLACEHOLDERS):
            faces[entry.name] = min(face, faces.get(entry.name, face))
    return tuple((name, path) for name, (_, path) in sorted(faces.items()))


@functools.cache
def _letters(path: Path) -> frozenset[int]:
    try:
        return frozenset(FT2Font(str(path)).get_charmap())
    except (OSError, RuntimeError):  # gone since, or of a kind that cannot be drawn
        return frozenset()


def told_missing(letters: Iterable[str]) -> str:
    """A sentence about letters that no font has; empty where there are none."""
    shown = "".join(sorted(set(letters)))
    if not shown:
        return ""
    more = f" and {len(shown) - 20} more" if len(shown) > 20 else ""
    return (
        f"no installed font has {shown[:20]}{more}: boxes stand for them in the pictures and in the figures' PNG and "
        "PDF files, while the page itself uses the browser's fonts; install one that has them, such as Noto Sans CJK"
    )
