"""The gallery of failures and their causes."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib import ticker

from analysis.colours import ELSEWHERE, HIT, INVENTED, MISSED, hexadecimal
from analysis.failures.measure import CAUSES, cause_kind, causes_of, name_cause
from analysis.failures.names import BY_WORDS
from analysis.measured import Measured
from analysis.report.changed import KINDS, factor_groups
from analysis.report.drawing import FIGURES, Drawing, empty_figure, label_colors, legend_above, name_rows, plain
from analysis.report.page import SECTIONS, Evidence, Material, Section, failure_card, render_section
from analysis.report.parts import FailedPart

MOST_ROWS = 3000
"""Failures that the page lists; each takes about half a kilobyte."""


MOST_CLASSES = 60
"""Classes in the legend and the choice of them; of more those that the listed failures are of."""


@SECTIONS.register("failures")
def failures_section(material: Material) -> Section:
    """The gallery: what the winner changed against the baseline, and the failures of each label."""
    measured, gallery = material.measured, material.gallery
    if isinstance(gallery, FailedPart):
        return Section("Failures", failure_card(gallery), "failures", Evidence.RECORD)
    kinds = {kind for row in gallery.rows for kind in row["kinds"]}
    in_order = [name for cause in CAUSES if (name := name_cause(cause)) in kinds]
    kinds_in_order = in_order + sorted(kinds - set(in_order))
    rows, changes = gallery.rows, gallery.changes
    if len(rows) > MOST_ROWS:
        rows = sorted(rows, key=lambda row: row["iou"])[:MOST_ROWS]
    if len(changes) > MOST_ROWS:
        changes = sorted(changes, key=lambda row: -row["pixels"])[:MOST_ROWS]
    shown = measured.classes
    if len(shown) > MOST_CLASSES:
        named = {row["class"] for row in (*rows, *changes)}
        shown = tuple(info for info in shown if info.name in named)
    labels = [label for label in measured.labels if any(row["label"] == label for row in gallery.rows)]
    keys = measured.prediction_keys
    before, after = (measured.told(label) for label in measured.pair)
    return render_section(
        "failures",
        "Failures",
        material.measured.evidence,
        figure=material.figures.get("causes"),
        rows=len(gallery.rows),
        listed=len(rows),
        changes=len(gallery.changes),
        listed_changes=len(changes),
        shown_changes=sum(row["image"] in gallery.images for row in changes),
        embedded=gallery.embedded,
        pictured=sum(bool(row["picture"]) for row in gallery.rows),
        linked=any(row["picture"] for row in gallery.rows),
        files=gallery.files,
        failing=gallery.failing,
        limited=material.limited,
        folder=material.pictures_folder,
        tables=material.tables,
        thing=measured.prediction_word,
        shown=gallery.shown,
        photos=any("image" in parts for parts in gallery.images.values()),
        split=measured.split,
        before=before,
        after=after,
        labels=labels,
        classes=[info.name for info in shown],
        legend=[
            ("hit", hexadecimal(HIT)),
            ("missed (false negative)", hexadecimal(MISSED)),
            ("invented (false positive)", hexadecimal(INVENTED)),
            ("elsewhere", hexadecimal(ELSEWHERE)),
        ],
        colors=[(info.name, hexadecimal(info.color)) for info in shown],
        data={
            "rows": rows,
            "changes": changes,
            "images": gallery.images,
            "predictions": gallery.predictions,
            "maps": gallery.maps,
            "pair": [
                {"name": name, "key": keys[label]} for name, label in zip((before, after), measured.pair, strict=True)
            ]
            if changes
            else [],
            "kinds": {"changes": list(KINDS), "regions": kinds_in_order},
            "types": list(BY_WORDS),
            "factors": factor_groups(measured) if changes else [],
            "labels": labels,
            "colors": {info.name: hexadecimal(info.color) for info in shown},
        },
    )


@FIGURES.register("causes")
def draw_causes(results: Measured) -> Drawing | None:
    """How many failures have each cause, by label."""
    if results.failures.empty:
        return None
    counts = cause_counts(results.failures)
    labels = [label for label in results.labels if label in counts]
    if not labels:
        return None
    colors = label_colors(results)
    counts = counts.loc[counts[labels].sum(axis=1).sort_values(kind="stable").index]
    height = 0.8 / len(labels)
    figure = empty_figure(1.2 + len(counts) * (0.26 + 0.17 * len(labels)))
    axes = figure.add_subplot()
    for place, label in enumerate(labels):
        offsets = np.arange(len(counts)) + 0.4 - (place + 0.5) * height
        bars = axes.barh(offsets, counts[label], height * 0.88, color=colors[label], label=plain(label))
        axes.bar_label(bars, padding=3, fontsize=8.5)
    name_rows(axes, [name_cause(str(cause)) for cause in counts.index])
    axes.set_xlabel("failures with this cause (one may have several)")
    axes.xaxis.set_major_locator(ticker.MaxNLocator(integer=True))
    legend_above(figure, axes)
    return Drawing(figure, f"Measured causes of failures on {results.split}, by label.")


def cause_counts(failures: pd.DataFrame) -> pd.DataFrame:
    """How many failures of each label have each cause; `confused with X` is one kind for all X.

    Args:
        failures: With the columns `label` and `causes` (`causes_text`).

    Returns:
        Frame of int: one row per kind of cause, one column per label.
    """
    causes = failures[["label"]].assign(cause=failures["causes"].map(causes_of)).explode("cause")
    causes["cause"] = causes["cause"].map(cause_kind)
    causes = causes.reset_index(names="failure").drop_duplicates(["failure", "cause"])
    return causes.groupby(["cause", "label"], sort=False).size().unstack(fill_value=0)
