"""The report page of masks that any program predicted: the sections that need no sweep, below their scores."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from markupsafe import escape

from analysis.failures.split import SplitFailures
from analysis.measured import Evidence, Measured
from analysis.outputs import Names
from analysis.report.drawing import FIGURES_FOLDER, SUFFIXES, save_figures
from analysis.report.gallery import Source, gallery_of_masks
from analysis.report.page import (
    Claim,
    Material,
    Section,
    bold,
    build_sections,
    claim,
    interval_text,
    render_section,
    render_sections,
)
from analysis.report.parts import LOG_FILE, Parts
from analysis.report.tables import readable
from trainables.files import write_atomically
from trainables.run_folder import REPORT_FILE

FIGURE_NAMES = (
    *("per_class", "confusion", "thresholds", "error_types", "error_types_of_classes"),
    *("factors", "factor_curves", "type_changes", "causes"),
)
SECTION_NAMES = ("classes", "thresholds", "errors", "factors", "slices", "changes", "failures")
"""Of a sweep's report, those that are about predictions alone."""


@dataclass(frozen=True)
class Scored(Measured):
    """Scores and failures of masks.

    Attributes:
        splits: What was measured, by label; all of the same images.
        scores: One row per label (`analysis.score`).
        difference: One row per metric; empty where there is one folder of predictions alone.
        why_no_interval: Why the mIoU has no interval; empty where it has one.
        notes: What was taken for granted about the files.
    """

    splits: Mapping[str, SplitFailures]
    scores: pd.DataFrame
    difference: pd.DataFrame
    why_no_interval: str
    notes: tuple[str, ...]

    @property
    def chief(self) -> str:
        """The label of `--predictions`."""
        return next(iter(self.labels))

    @property
    def pair(self) -> tuple[str, str]:
        """The labels of `--against` and `--predictions`; one twice where it is alone."""
        return list(self.labels)[-1], self.chief

    @property
    def evidence(self) -> Evidence:
        """Masks speak of themselves alone."""
        return Evidence.MASKS

    @property
    def prediction_word(self) -> str:
        """What one prediction is."""
        return "prediction"

    @property
    def images_word(self) -> str:
        """What the images are called: they are no split of a sweep."""
        return "images"

    def confusion(self, label: str) -> npt.NDArray[np.int64]:
        """The confusion matrix of a label over all images: rows truth, columns prediction, shape (C, C)."""
        return self.splits[label].confusion


def page_files() -> list[Names]:
    """The files that `write_page` may write, below its folder."""
    figures = [(FIGURES_FOLDER, f"{name}.{suffix}") for name in FIGURE_NAMES for suffix in SUFFIXES]
    return [(REPORT_FILE,), (LOG_FILE,), *figures]


def write_page(
    scored: Scored, source: Source, links: Mapping[tuple[str, str], str], folder: Path, *, pictures_folder: str
) -> Parts:
    """Writes `report.html`, and its figures into `figures/`.

    A part that raises does not stop the others; its traceback goes to `report.log`.

    Args:
        scored: Scores and failures.
        source: Of masks and images.
        links: Where the picture of a label and image is, from the page.
        folder: Where to write; what is there already is replaced.
        pictures_folder: Where the pictures are, as the page calls it.

    Returns:
        What could not be made, and what the reader should know of how the page was made.
    """
    parts = Parts(folder)
    figures = save_figures(scored, folder / FIGURES_FOLDER, parts, FIGURE_NAMES)
    gallery = parts.make("failure pictures", lambda: gallery_of_masks(scored, source, links))
    material = Material(scored, figures, gallery, pictures_folder=pictures_folder, limited=False, tables="")
    sections = [_scores_section(scored), *build_sections(material, parts, SECTION_NAMES)]
    images = int(scored.scores["images"].iloc[0])
    page = render_sections(
        sections,
        parts,
        kind="Segmentation scores",
        title=" against ".join(dict.fromkeys(reversed(scored.pair))),
        summary=[("images", f"{images:,}"), ("classes", f"{len(scored.classes):,}")],
        beside=("the tables (.csv)", f"{FIGURES_FOLDER}/", *([f"{pictures_folder}/"] if links else [])),
    )
    write_atomically(folder / REPORT_FILE, page.encode())
    return parts


def score_claims(scored: Scored) -> list[Claim]:
    """What the masks score, or which of two scores higher, as far as the images tell."""
    rows: dict[str, dict[Any, Any]] = {str(row["label"]): row for row in scored.scores.to_dict("records")}
    own = rows[scored.chief]
    images = f"{int(own['images']):,} images"
    if scored.difference.empty:
        interval = interval_text(own["iou_low"], own["iou_high"])
        text = f"{{}} scores a mIoU of {own['iou']:.3f}, {interval}, on these {images}."
        return [claim(text, bold(scored.chief), evidence=Evidence.MASKS), *_without_interval(scored)]
    other = scored.pair[0]
    (row,) = scored.difference[scored.difference["metric"] == "iou"].to_dict("records")
    low, high, difference = row["difference_low"], row["difference_high"], row["difference"]
    both = f"mIoU {own['iou']:.3f} against {rows[other]['iou']:.3f}"
    names = (bold(scored.chief), bold(other))
    if np.isnan(low):
        text = f"{{}} and {{}} on these {images}: {both}, {difference:+.3f} without an interval."
    elif low > 0 or high < 0:
        more = "higher" if low > 0 else "lower"
        bounds = sorted(map(abs, (low, high)))
        text = (
            f"{{}} scores {more} than {{}} by {abs(difference):.3f} [{bounds[0]:.3f}, {bounds[1]:.3f}] on these "
            f"{images}: {both}."
        )
    else:
        text = (
            f"{{}} and {{}} cannot be told apart on these {images}: {both}, a difference of {difference:+.3f} "
            f"[{low:+.3f}, {high:+.3f}]."
        )
    return [claim(text, *names, evidence=Evidence.MASKS), *_without_interval(scored)]


def _without_interval(scored: Scored) -> list[Claim]:
    if not scored.why_no_interval:
        return []
    return [claim("No interval of the mIoU can be given: {}.", escape(scored.why_no_interval), evidence=Evidence.MASKS)]


def _scores_section(scored: Scored) -> Section:
    return render_section(
        "scores",
        "Scores",
        Evidence.MASKS,
        claims=score_claims(scored),
        scores=readable(scored.scores),
        difference=readable(scored.difference),
        notes=scored.notes,
        has_difference=not scored.difference.empty,
        labels=[(label, str(folder)) for label, folder in scored.labels.items()],
    )
