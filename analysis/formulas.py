"""Text that a spreadsheet would take for a formula, guarded in CSV files and read back as it was."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from trainables.spreadsheets import safe_text, text_before

if TYPE_CHECKING:
    import pandas as pd


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
    return _with_texts(frame, text_before)


def _with_texts(frame: pd.DataFrame, change: Callable[[Any], Any]) -> pd.DataFrame:
    import pandas as pd  # what writes CSV without it need not load it

    made = frame.copy()
    for place, kind in enumerate(frame.dtypes):
        if not pd.api.types.is_numeric_dtype(kind):
            made.isetitem(place, frame.iloc[:, place].map(change).array)
    return made.rename(columns=change)
