"""Each class: its score by label, and what it is taken for."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
from matplotlib import ticker
from matplotlib.colors import LinearSegmentedColormap

from analysis.colours import light
from analysis.measured import Measured
from analysis.report.drawing import (
    FIGURES,
    MARKERS,
    Drawing,
    drawn_once,
    empty_figure,
    label_colors,
    legend_above,
    name_rows,
    plain,
)
from analysis.report.page import SECTIONS, Material, Section, render_section
from analysis.report.tables import readable
from trainables.labels import BASELINE, CHIEF, MAJORITY


@SECTIONS.register("classes")
def classes_section(material: Material) -> Section:
    """Each class: IoU by label, and what it is taken for."""
    return render_section(
        "classes",
        "Classes",
        material.measured.evidence,
        dots=material.figures.get("per_class"),
        confusion=material.figures.get("confusion"),
        content=readable(material.measured.per_class),
    )


DRAWN_CLASSES = 60
"""Of more classes those with most pixels are drawn, in a confusion matrix those with most wrong pixels."""

NUMBERED_CLASSES = 14
"""A confusion matrix of more classes has no numbers in its cells."""


_HEAT = LinearSegmentedColormap.from_list("heat", ["#f6f8fb", "#9ec5e6", "#2f7fc1", "#083f73"])


@FIGURES.register("per_class")
def draw_per_class(results: Measured) -> Drawing | None:
    """What the objective averages, for every class: labels beside each other, ordered by baseline."""
    frame = results.per_class[results.per_class["label"] != MAJORITY]
    if frame.empty:
        return None
    shown = results.class_metric
    metric, words = shown.name, shown.class_words
    names = drawn_once(results)
    labels = [label for label in dict.fromkeys(frame["label"]) if label in names]
    colors = label_colors(results)
    table = frame.pivot_table(index="class", columns="label", values=metric, sort=False, dropna=False)
    reference = BASELINE if BASELINE in labels else labels[0]
    table = table.dropna(how="all")
    pixels = frame.groupby("class", sort=False)["pixels"].max().loc[table.index]
    left_out = len(table) - DRAWN_CLASSES
    if left_out > 0:
        table = table.loc[pixels.nlargest(DRAWN_CLASSES).index]
    table = table.sort_values(reference, na_position="first")
    figure = empty_figure(1.3 + 0.27 * len(table))
    axes = figure.add_subplot()
    for place, (_, row) in enumerate(table.iterrows()):
        values = row.dropna()
        if len(values):
            axes.plot([values.min(), values.max()], [place, place], color=light("grid"), linewidth=3, zorder=1)
    for place, label in enumerate(labels):
        if label in table:
            is_main = label in CHIEF
            axes.plot(
                table[label],
                range(len(table)),
                MARKERS[place % len(MARKERS)],
                color=colors[label],
                markersize=7.5 if is_main else 5,
                zorder=3 if is_main else 2,
                label=names[label],
            )
    name_rows(axes, [str(name) for name in table.index])
    axes.set_ylim(-0.7, len(table) - 0.3)
    axes.set_xlim(-0.02, 1.02)
    axes.set_xlabel(f"{words} on {results.split}")
    legend_above(figure, axes)
    return Drawing(
        figure,
        f"{words} of each class on {results.split} for each label, ordered by {reference}'s; classes that occur in "
        "neither truth nor prediction are left out"
        + (f", and {left_out} with fewer pixels, which are in the table." if left_out > 0 else "."),
    )


@FIGURES.register("confusion")
def draw_confusion(results: Measured) -> Drawing | None:
    """The best label's confusion matrix; each row is one class's pixels as shares of 1."""
    label = results.chief
    whole = results.confusion(label)
    shown, left_out = _shown_of_confusion(whole)
    matrix, totals = whole[np.ix_(shown, shown)].astype(float), whole[shown].sum(axis=1, keepdims=True)
    shares = np.divide(matrix, totals, out=np.full_like(matrix, np.nan), where=totals > 0)
    names = [plain(results.classes[class_id].name) for class_id in shown]
    count = len(names)
    side = min(9.0, max(4.2, 1.8 + 0.42 * count))
    figure = empty_figure(side, width=side + 0.9)
    axes = figure.add_subplot()
    image = axes.pcolormesh(np.ma.masked_invalid(shares), cmap=_HEAT, vmin=0, vmax=1, rasterized=count > 40)
    if count <= NUMBERED_CLASSES:
        for row, column in np.argwhere(shares >= 0.005):
            value = shares[row, column]
            text = f"{100 * value:.0f}"
            axes.text(
                column + 0.5,
                row + 0.5,
                text,
                ha="center",
                va="center",
                fontsize=9,
                color="#fefefe" if value > 0.5 else "#0e1116",
            )
    step = max(1, math.ceil(count / 45))
    ticks = np.arange(0, count, step)
    axes.set_xticks(ticks + 0.5, [names[index] for index in ticks], rotation=45, ha="right", rotation_mode="anchor")
    axes.set_yticks(ticks + 0.5, [names[index] for index in ticks])
    axes.set_ylim(count, 0)
    axes.set_aspect("equal")
    axes.grid(visible=False)
    axes.tick_params(length=0)
    axes.set_xlabel("predicted")
    axes.set_ylabel("truth")
    bar = figure.colorbar(image, ax=axes, shrink=0.6, format=ticker.PercentFormatter(1))
    bar.outline.set_visible(False)
    return Drawing(
        figure,
        f"Confusion matrix of {label} on {results.split}: each row shows, in percent, as what the pixels of one class "
        f"were predicted. Empty rows: classes without a pixel of the truth.{left_out}",
    )


def _shown_of_confusion(matrix: npt.NDArray[np.int64]) -> tuple[npt.NDArray[np.intp], str]:
    """The classes of a drawn confusion matrix, in their order, and what is said of the others."""
    if len(matrix) <= DRAWN_CLASSES:
        return np.arange(len(matrix)), ""
    sides = matrix.sum(axis=0) + matrix.sum(axis=1)
    occur = np.flatnonzero(sides)
    shown = occur[np.argsort(2 * np.diag(matrix)[occur] - sides[occur], kind="stable")[:DRAWN_CLASSES]]
    fewer = len(occur) - len(shown)
    told = f", and {fewer} with fewer wrong pixels, so that rows may add up to less" if fewer else ""
    return np.sort(shown), f" Classes in neither truth nor prediction are left out{told}."
