"""Text that a spreadsheet would take for a formula, guarded in CSV files and read back as it was."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd

_FORMULA = re.compile("'*[=+\\-@\t\r\n\uff1d\uff0b\uff0d\uff20]")
"""How a formula begins, in full-width letters too; behind apostrophes as well, so that one more can be undone."""


def formula_safe(frame: pd.DataFrame) -> pd.DataFrame:
    """A frame whose texts no spreadsheet takes for a formula: an apostrophe before those that begin as one does.

    Numbers stay as they are, texts that are numbers too. See OWASP, "CSV Injection". `as_before` undoes it.

    Args:
        frame: About to be written as CSV.
    """
    return _with_texts(frame, safe_text)


def as_before(frame: pd.DataFrame) -> pd.DataFrame:
    """The frame that `formula_safe` made this one from.

    Args:
        frame: As read from CSV.
    """
    return _with_texts(frame, _text_before)


def safe_text(value: Any) -> Any:
    """A cell, with an apostrophe before it where it is a text that a spreadsheet would take for a formula."""
    if not isinstance(value, str) or not _FORMULA.match(value):
        return value
    try:
        float(value)
    except ValueError:
        return "'" + value
    return value


def _text_before(value: Any) -> Any:
    is_guarded = isinstance(value, str) and value.startswith("'") and _FORMULA.match(value)
    return value[1:] if is_guarded else value


def _with_texts(frame: pd.DataFrame, change: Callable[[Any], Any]) -> pd.DataFrame:
    import pandas as pd  # what writes CSV without it need not load it

    made = frame.copy()
    for place, kind in enumerate(frame.dtypes):
        if not pd.api.types.is_numeric_dtype(kind):
            made.isetitem(place, frame.iloc[:, place].map(change).array)
    return made.rename(columns=change)
