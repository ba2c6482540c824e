"""Texts that a spreadsheet would take for a formula: guarded in CSV files, and read back as they were."""

from __future__ import annotations

import re
from typing import Any

_FORMULA = re.compile("'*[=+\\-@\t\r\n\uff1d\uff0b\uff0d\uff20]")
"""How a formula begins, in full-width letters too; behind apostrophes as well, so that one more can be undone."""


def safe_text(value: Any) -> Any:
    """A cell, with an apostrophe before it where it is a text that a spreadsheet would take for a formula.

    Numbers stay as they are, texts that are numbers too. See OWASP, "CSV Injection". `text_before` undoes it.
    """
    if not isinstance(value, str) or not _FORMULA.match(value):
        return value
    try:
        float(value)
    except ValueError:
        return "'" + value
    return value


def text_before(value: Any) -> Any:
    """The cell that `safe_text` made this one from."""
    is_guarded = isinstance(value, str) and value.startswith("'") and _FORMULA.match(value)
    return value[1:] if is_guarded else value
