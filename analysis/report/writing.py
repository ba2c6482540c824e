"""Writes a report: tables, figures, pictures and the page, each a part that may fail without the others."""

from __future__ import annotations

import textwrap
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from analysis.kept import OnStep
from analysis.next_sweep.space_file import next_command, place_of_file, space_text
from analysis.report.drawing import save_figures
from analysis.report.gallery import EMBEDDING_BUDGET, FOLDER, Gallery, build_gallery
from analysis.report.methods import FILE as METHODS_FILE
from analysis.report.methods import methods_text
from analysis.report.page import Material, count_images, render_page
from analysis.report.parts import FailedPart, Parts
from analysis.report.predictions import PREDICTIONS_FOLDER, save_predictions, written_before_lists
from analysis.report.tables import write_tables
from analysis.results import Results
from trainables.data.base import SegmentationData
from trainables.files import write_atomically
from trainables.flags import MOST_PICTURES
from trainables.paths import within
from trainables.run_folder import REPORT, REPORT_FILE, TABLES_FOLDER


@dataclass(frozen=True)
class Report:
    """What a report run left behind."""

    path: Path
    results: Results
    gallery: Gallery | FailedPart
    predictions: int
    failed: tuple[FailedPart, ...] = ()


def write_report(
    results: Results,
    data: SegmentationData,
    *,
    predictions: Literal["ids", "positions"] | None = None,
    pictures: int = MOST_PICTURES,
    budget: int = EMBEDDING_BUDGET,
    progress: OnStep | None = None,
) -> Report:
    """Writes tables, figures, failure pictures and `report.html` into `RUN/report`.

    A part that raises does not stop the others; its traceback goes to `RUN/report/report.log`.

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
    folder = within(results.run_dir, REPORT)
    parts = Parts(folder)
    before = written_before_lists(results.run_dir)
    write_tables(results, within(folder, TABLES_FOLDER), parts)
    step("figures", 0, 1)
    figures = save_figures(results, within(folder, "figures"), parts)
    step("figures", 1, 1)
    gallery = parts.make(
        "failure pictures",
        lambda: build_gallery(
            results,
            data,
            folder,
            limit=pictures,
            budget=budget,
            before=before[FOLDER],
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
                advance=lambda done, total: step("predictions", done, total),
            ),
        )
    methods = parts.make("methods", lambda: methods_text(results))
    if isinstance(methods, str):
        write_atomically(folder / METHODS_FILE, (textwrap.fill(methods, 100) + "\n").encode())
    else:
        (folder / METHODS_FILE).unlink(missing_ok=True)
    if results.split == "val":
        parts.make("next space", lambda: _write_next_space(results))
    page = render_page(Material(results, figures, gallery), parts)
    path = folder / REPORT_FILE
    write_atomically(path, page.encode())
    return Report(path, results, gallery, saved if isinstance(saved, int) else 0, tuple(parts.failed))


def _write_next_space(results: Results) -> None:
    """The proposals as a space file; where there are none, that of an earlier report is removed."""
    path = place_of_file(results.run_dir)
    path.unlink(missing_ok=True)
    if results.proposals:
        manifest = results.manifest
        text = space_text(
            manifest,
            results.labels[results.chief].config.flat(),
            results.proposals,
            images=count_images(results),
            command=next_command(manifest, results.run_dir),
        )
        write_atomically(path, text.encode())


def _silent(what: str, done: int, total: int) -> None:
    pass
