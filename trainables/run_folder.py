"""What is where in a run folder, as far as more than one package has to know it."""

from __future__ import annotations

from pathlib import Path

from trainables.paths import within

MANIFEST_FILE = "manifest.json"
REFIT = "refit"
"""The winner, trained on train and val together."""
BEST_MODELS = "best"
"""Folder with the published model of each label."""
REPORT = "report"
"""Folder of `analysis.report`; where in it a report lies is `report_folder`."""
REPORT_FILE = "report.html"
TABLES_FOLDER = "tables"
"""Folder of the report."""
NEXT_SPACE_FILE = "next_space.yaml"
"""Of the report on val: the space that a next sweep should search."""


def report_folder(run_dir: Path, split: str) -> Path:
    """The folder of the report on a split: `report/` for test, `report/val/` for val.

    Raises:
        UnsafePathError: If a part of the path is a link.
    """
    return within(run_dir, REPORT) if split == "test" else within(run_dir, REPORT, split)


def evaluations(run_dir: Path, split: str) -> Path:
    """The folder of the evaluations that are kept of a split; those of each trial are in a folder of its name.

    Raises:
        UnsafePathError: If a part of the path is a link.
    """
    return within(run_dir, REPORT, "evaluations", split)
