"""Every colour of the report in one place: what figures draw with and what the page styles itself with.

Categorical colours are those of Okabe and Ito (https://jfly.uni-koeln.de/color/), distinguishable with the common
forms of colour blindness; each has a light-page and a dark-page variant of similar hue.
"""

from __future__ import annotations

from collections.abc import Sequence

from trainables.labels import BASELINE, BEST, CHIEF

THEME: dict[str, tuple[str, str]] = {
    "page": ("#fdfdfc", "#14171c"),
    "raised": ("#ffffff", "#1b1f26"),
    "sunken": ("#f3f4f2", "#20252d"),
    "ink": ("#1c2127", "#e4e7eb"),
    "muted": ("#5f6873", "#9aa4b0"),
    "grid": ("#e2e4e1", "#2e343d"),
    "accent": ("#0b63a8", "#6cb6f5"),
    "warn": ("#8a5a00", "#f0c060"),
    f"series-{BASELINE}": ("#6b7077", "#a3aab3"),
    f"series-{BEST}": ("#0a66b0", "#5aaef2"),
    "series-1": ("#c8500a", "#f08c4a"),
    "series-2": ("#00855f", "#3cc79c"),
    "series-3": ("#b0568a", "#e08fc0"),
    "series-4": ("#a87a00", "#e6b93a"),
    "series-5": ("#3d8fb8", "#7cc8ea"),
    "series-6": ("#7a4fb3", "#b493e6"),
}
"""Name of a CSS variable -> its colour on a light page, on a dark page."""

WRONG = (213, 94, 0)
"""Vermilion: a wrongly predicted pixel in an error map."""
MISSED = (0, 114, 178)
"""Blue: a pixel of the class that was predicted as another (false negative)."""
INVENTED = (230, 159, 0)
"""Orange: a pixel of another class that was predicted as this one (false positive)."""
HIT = (126, 176, 155)
"""Faint green: a pixel of the class that was predicted as it (true positive)."""
ELSEWHERE = (236, 238, 239)
"""Pale grey: a pixel that has nothing to do with the class."""
VOID_DARK = (112, 118, 124)
VOID_LIGHT = (196, 200, 204)
"""The two greys of the diagonal hatch that marks void, so that it is not taken for a class."""


def light(name: str) -> str:
    """The colour `name` on a light page, as `#rrggbb`."""
    return THEME[name][0]


def series(labels: Sequence[str]) -> dict[str, str]:
    """The theme name of each label's colour: baseline is grey, best is blue, the others go round the rest."""
    others = [name for name in THEME if name.startswith("series-") and name[-1].isdigit()]
    chosen: dict[str, str] = {}
    for label in labels:
        if label in CHIEF:
            chosen[label] = f"series-{label}"
        else:
            chosen[label] = others[sum(name not in CHIEF for name in chosen) % len(others)]
    return chosen


def css_variables(dark: bool) -> dict[str, str]:
    """The theme as CSS custom properties, without the leading dashes."""
    return {name: pair[dark] for name, pair in THEME.items()}


def hexadecimal(color: tuple[int, int, int]) -> str:
    """`(213, 94, 0)` -> `#d55e00`."""
    return "#{:02x}{:02x}{:02x}".format(*color)
