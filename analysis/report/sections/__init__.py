"""The sections of the report in their order on the page; each file holds the text, the figures and the template."""

from analysis.report.sections import answer, comparison, curves, thresholds, classes, failures, run  # isort: skip

__all__ = ["answer", "classes", "comparison", "curves", "failures", "run", "thresholds"]
