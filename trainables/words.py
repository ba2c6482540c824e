"""Numbers and lists as messages and reports tell them."""

from __future__ import annotations

import re
from collections.abc import Sequence

_UNSEEN = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
"""Control characters but tab and line feed, and those that change the direction of text."""


NAMED = 40
"""Classes that a sentence of a report names, at most."""


def visible(text: str) -> str:
    r"""A text in which nothing moves a terminal's cursor or turns its words round; such characters are written out.

    Example:
        >>> visible("red \x1b[31m")
        'red \\x1b[31m'
    """
    return _UNSEEN.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


def counted(number: int, noun: str, plural: str = "") -> str:
    """A number and its noun, in the plural where there is not one.

    Args:
        number: Of things.
        noun: One of them.
        plural: Several of them, where an s behind the noun does not do.

    Example:
        >>> counted(1, "process", "processes"), counted(0, "image")
        ('1 process', '0 images')
    """
    return f"{number} {noun if number == 1 else plural or noun + 's'}"


def some_of(texts: Sequence[str], most: int = 5) -> str:
    """The first of some texts, and how many more there are.

    Example:
        >>> some_of(["a", "b", "c"], 2), some_of(["a", "b"], 2)
        ('a, b and 1 more', 'a, b')
    """
    more = len(texts) - most
    return ", ".join(texts[:most]) + (f" and {more} more" if more > 0 else "")


def time_text(seconds: float) -> str:
    """A time as `--time-budget` takes it, such as 90s, 30m or 1h30m."""
    whole = round(seconds)
    parts = [(whole // 86400, "d"), (whole % 86400 // 3600, "h"), (whole % 3600 // 60, "m"), (whole % 60, "s")]
    return "".join(f"{number}{unit}" for number, unit in parts if number) or "0s"


def bytes_text(number: int) -> str:
    """A size in MiB or GiB."""
    return f"{number / 2**30:.1f} GiB" if number >= 2**29 else f"{number / 2**20:.0f} MiB"
