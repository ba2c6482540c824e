"""The labels that every sweep has, whatever its space: their names and their order."""

from __future__ import annotations

from collections.abc import Iterable

BASELINE = "baseline"
"""The known-good point, which is trial 0."""
BEST = "best"
"""The winner on val."""
CHIEF = (BASELINE, BEST)
MAJORITY = "majority"
"""The floor in tables, and its trial id: the commonest class of train, everywhere."""


def in_order(labels: Iterable[str]) -> list[str]:
    """Labels as every table lists them: `baseline`, then `best`, then the others as they come.

    Example:
        >>> in_order(["best", "flip", "baseline"])
        ['baseline', 'best', 'flip']
    """
    return sorted(labels, key=lambda label: CHIEF.index(label) if label in CHIEF else len(CHIEF))
