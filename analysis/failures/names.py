"""What types of error are called."""

from __future__ import annotations

from enum import IntEnum


class ErrorType(IntEnum):
    """What a wrong pixel is."""

    MISSED = 0
    WRONG_WHOLE = 1
    WRONG_PART = 2
    CONFUSED = 3
    BOUNDARY = 4
    UNDER = 5
    SPLIT = 6
    OVER = 7
    MERGED = 8
    INVENTED = 9

    @property
    def words(self) -> str:
        """As tables and sentences name it."""
        return _WORDS[self]

    @property
    def plural(self) -> str:
        """As a sentence names what is lost to it."""
        return _PLURALS[self]


_WORDS = (
    "missed component",
    "wrong class, whole",
    "wrong class, part",
    "confused area",
    "boundary",
    "under-extent",
    "split",
    "over-extent",
    "merged",
    "invented component",
)
_PLURALS = (
    "missed components",
    "components under a wrong class",
    "parts under a wrong class",
    "confused areas",
    "boundaries",
    "under-extent",
    "splits",
    "over-extent",
    "merges",
    "invented components",
)

BY_WORDS = {words: ErrorType(place) for place, words in enumerate(_WORDS)}
"""Types as tables hold them."""
