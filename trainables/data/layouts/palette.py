"""Colours for classes that nobody gave one."""

from __future__ import annotations

import colorsys
from collections.abc import Collection, Iterator

from trainables.data.base import Color

_FIRST: tuple[Color, ...] = (
    *((0, 0, 0), (230, 159, 0), (86, 180, 233), (0, 158, 115), (240, 228, 66), (0, 114, 178), (213, 94, 0)),
    *((204, 121, 167), (136, 34, 85), (187, 187, 187), (153, 153, 51), (51, 34, 136), (136, 204, 238)),
    *((170, 68, 153), (221, 204, 119), (68, 170, 153)),
)
"""Told apart by eyes that do not see red or green: Okabe and Ito (2008), then Tol's muted scheme (2021)."""


def unused_colors(taken: Collection[Color]) -> Iterator[Color]:
    """Colours that are not taken: those above, then hues a golden section apart, in three lightnesses."""
    seen = set(taken)
    for color in _all():
        if color not in seen:
            seen.add(color)
            yield color


def _all() -> Iterator[Color]:
    yield from _FIRST
    number = 0
    while True:
        hue = number * 0.618033988749895 % 1
        red, green, blue = colorsys.hls_to_rgb(hue, (0.45, 0.65, 0.3)[number % 3], 0.75)
        yield round(255 * red), round(255 * green), round(255 * blue)
        number += 1
