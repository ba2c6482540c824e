"""Writes a report: tables, figures, pictures and the page, each a part that may fail without the others."""

from __future__ import annotations

import textwrap
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from analysis.kept import OnStep
from analysis.next_sweep.space_file import next_command, space_text
from analysis.report.draft import Draft
from analysis.report.drawing import FIGURES, FIGURES_FOLDER, SUFFIXES, Figures
from analysis.report.gallery import EMBEDDING_BUDGET, FOLDER, Gallery, build_gallery
from analysis.report.methods import FILE as METHODS_FILE
from analysis.report.methods import methods_text
from analysis.report.page import Material, count_images, render_page
from analysis.report.parts import LOG_FILE, FailedPart, Parts
from analysis.report.predictions import PREDICTIONS_FOLDER, are_outdated, save_predictions, written_before_lists
from analysis.report.tables import TABLES, write_tables
from analysis.results import Results
from trainables.data.base import SegmentationData
from trainables.files import write_atomically
from trainables.flags import MOST_PICTURES
from trainables.paths import within
from trainables.run_folder import NEXT_SPACE_FILE, REPORT_FILE, TABLES_FOLDER, report_folder


@dataclass(frozen=True)
class Report:
    """What a report run left behind."""

    path: Path
    results: Results
    gallery: Gallery | FailedPart
    predictions: int
    failed: tuple[FailedPart, ...] = ()
    warnings: tuple[str, ...] = ()


def write_report(
    results: Results,
    data: SegmentationData,
    *,
    predictions: Literal["ids", "positions"] | None = None,
    pictures: int = MOST_PICTURES,
    budget: int = EMBEDDING_BUDGET,
    progress: OnStep | None = None,
) -> Report:
    """Writes tables, figures, failure pictures and `report.html` into `RUN/report`, on val into `RUN/report/val`.

    It is written whole or not at all (`Draft`). A part that raises does not stop the others; its traceback goes to
    `report.log` there.

    Args:
        results: What was measured.
        data: Source of the images and true masks behind the failures.
        predictions: Write every predicted mask as well, as ids of the data set's own masks or as places of the classes.
        pictures: Failure pictures that may be written, worst first.
        budget: Bytes of pictures inside the page.
        progress: Called with the stage, how much of it is done, and of how much.

    Returns:
        Where the page is, and what it was made from.
    """
    step = progress or _silent
    place = report_folder(results.run_dir, results.split)
    before = written_before_lists(results.run_dir, place)
    with Draft(place, page=REPORT_FILE, before=_names_before_lists(), listing=before) as draft:
        folder = draft.folder
        parts = Parts(folder, place)
        for name in (TABLES_FOLDER, FIGURES_FOLDER):
            within(place, name)
        step("figures", 0, 1)
        with Figures(results, folder / FIGURES_FOLDER, folder, place) as drawn:
            write_tables(results, folder / TABLES_FOLDER, parts)
            gallery = parts.make(
                "failure pictures",
                lambda: build_gallery(
                    results,
                    data,
                    folder,
                    limit=pictures,
                    budget=budget,
                    before=before[FOLDER],
                    later=place,
                    advance=lambda done, total: step("pictures", done, total),
                ),
            )
            saved: int | FailedPart = 0
            if predictions:
                saved = parts.make(
                    "saved predictions",
                    lambda: save_predictions(
                        results,
                        data,
                        folder,
                        positions=predictions == "positions",
                        before=before[PREDICTIONS_FOLDER],
                        later=place,
                        advance=lambda done, total: step("predictions", done, total),
                    ),
                )
            figures = drawn.result(parts)
        step("figures", 1, 1)
        methods = parts.make("methods", lambda: methods_text(results))
        if isinstance(methods, str):
            write_atomically(folder / METHODS_FILE, (textwrap.fill(methods, 100) + "\n").encode())
        if results.proposals:
            parts.make("next space", lambda: _write_next_space(results, folder))
        page = render_page(Material(results, figures, gallery), parts)
        write_atomically(folder / REPORT_FILE, page.encode())
        stale = [PREDICTIONS_FOLDER] if predictions or are_outdated(results, place) else []
        draft.publish(outdated=[FOLDER, *stale])
    failed, warnings = tuple(parts.failed), tuple(parts.warnings)
    return Report(place / REPORT_FILE, results, gallery, saved if isinstance(saved, int) else 0, failed, warnings)


def _names_before_lists() -> list[str]:
    """The files that a version without a list wrote, but for those of `written_before_lists`."""
    tables = [f"{TABLES_FOLDER}/{name}.{suffix}" for name in TABLES for suffix in ("csv", "md", "tex")]
    figures = [f"{FIGURES_FOLDER}/{name}.{suffix}" for name in FIGURES for suffix in SUFFIXES]
    return [REPORT_FILE, LOG_FILE, NEXT_SPACE_FILE, *tables, *figures]


def _write_next_space(results: Results, folder: Path) -> None:
    """The proposals as a space file."""
    manifest = results.manifest
    text = space_text(
        manifest,
        results.labels[results.chief].config.flat(),
        results.proposals,
        images=count_images(results),
        command=next_command(manifest, results.run_dir),
    )
    write_atomically(folder / NEXT_SPACE_FILE, text.encode())


def _silent(what: str, done: int, total: int) -> None:
    pass
