"""The sections of the report in their order on the page; each file holds the text, the figures and the template."""

from analysis.report.sections import answer, trade_off, standings, comments  # isort: skip
from analysis.report.sections import confirmation, ablation, comparison  # isort: skip
from analysis.report.sections import search, curves, thresholds, classes, errors  # isort: skip
from analysis.report.sections import factors, slices, changes, failures, label_errors, next_sweep, run  # isort: skip

__all__ = [
    "ablation",
    "answer",
    "changes",
    "classes",
    "comments",
    "comparison",
    "confirmation",
    "curves",
    "errors",
    "factors",
    "failures",
    "label_errors",
    "next_sweep",
    "run",
    "search",
    "slices",
    "standings",
    "thresholds",
    "trade_off",
]
