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
