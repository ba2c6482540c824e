"""The report's figures: one function a figure, from results to a matplotlib figure, or None where there is nothing.

Every figure is saved as SVG and as PNG for papers and slides. The page embeds the SVG with its colours replaced by the
page's own variables, so that the same drawing reads on a light and on a dark page.
"""

from __future__ import annotations

import html
import io
import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import matplotlib
import numpy as np
import pandas as pd
from markupsafe import Markup
from matplotlib import ticker
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure

from analysis.colours import THEME, light, series
from analysis.failures import CONFUSED, cause_kind
from analysis.parts import FailedPart, Parts, forget
from trainables.data.cache.places import write_atomically
from trainables.registry import Registry

if TYPE_CHECKING:
    from analysis.results import Results

WIDTH = 9.6
"""Width of a full-width figure in inches."""
PNG_DPI = 144
MIN_TRIALS = 5
"""Fewer trials say nothing about a hyperparameter."""
NUMBERED_CLASSES = 14
"""A confusion matrix of more classes has no numbers in its cells."""
MAJORITY = "majority"

FIGURES: Registry[Callable[..., Drawing | None]] = Registry("figure")
"""Functions `Results -> Drawing | None`, in the order of the page."""

_STYLE: dict[Any, Any] = {
    "font.family": "sans-serif",
    "font.size": 10,
    "axes.titlesize": 10.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.labelsize": 10,
    "axes.edgecolor": light("muted"),
    "axes.labelcolor": light("ink"),
    "axes.titlecolor": light("ink"),
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": light("grid"),
    "grid.linewidth": 0.8,
    "xtick.color": light("muted"),
    "ytick.color": light("muted"),
    "xtick.labelcolor": light("ink"),
    "ytick.labelcolor": light("ink"),
    "text.color": light("ink"),
    "legend.frameon": False,
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "savefig.facecolor": "none",
    "text.parse_math": False,
    "svg.fonttype": "none",
    "svg.hashsalt": "segsweep",
}
_HEAT = LinearSegmentedColormap.from_list("heat", ["#f6f8fb", "#9ec5e6", "#2f7fc1", "#083f73"])


@dataclass(frozen=True)
class Drawing:
    """A figure and what it shows in one sentence, for readers who cannot see it."""

    figure: Figure
    caption: str


@dataclass(frozen=True)
class SavedFigure:
    """A figure on disk and as a page fragment."""

    name: str
    caption: str
    svg: Markup
    """Inline SVG whose colours are the page's variables."""
    path: Path


def save_figures(results: Results, folder: Path, parts: Parts) -> dict[str, SavedFigure | FailedPart]:
    """Draws every registered figure and writes `folder/NAME.svg` and `folder/NAME.png`.

    Returns:
        The figures that had something to show, by name, and what is to be said of those that raised.
    """
    saved: dict[str, SavedFigure | FailedPart] = {}
    for name in FIGURES:
        made = parts.make(f"figure {name}", partial(_save_figure, results, name, folder))
        if not isinstance(made, SavedFigure):
            forget(folder, name, ("svg", "png"))
        if made is not None:
            saved[name] = made
    return saved


def _save_figure(results: Results, name: str, folder: Path) -> SavedFigure | None:
    with matplotlib.rc_context(_STYLE):
        drawing = FIGURES.get(name)(results)
        if drawing is None:
            return None
        svg, png = _svg(drawing.figure), _png(drawing.figure)
    path = folder / f"{name}.png"
    write_atomically(path.with_suffix(".svg"), svg.encode())
    write_atomically(path, png)
    return SavedFigure(name, drawing.caption, themed_svg(svg, name, drawing.caption), path)


def themed_svg(text: str, name: str, caption: str) -> Markup:
    """A standalone SVG as an inline fragment: theme colours become variables, ids become unique to the figure."""
    start = text.index("<svg")
    text = re.sub(r"<metadata>.*?</metadata>", "", text[start:], flags=re.DOTALL)
    for variable, (color, _) in THEME.items():
        text = text.replace(color, f"var(--{variable})")
    text = re.sub(r'\bid="([^"]+)"', rf'id="{name}-\1"', text)
    text = re.sub(r"url\(#([^)]+)\)", rf"url(#{name}-\1)", text)
    text = re.sub(r'xlink:href="#([^"]+)"', rf'xlink:href="#{name}-\1"', text)
    text = re.sub(r"font: ([^;\"]*?)'DejaVu Sans'[^;\"]*", r"font: \1var(--sans)", text)
    return Markup(text.replace("<svg ", f'<svg role="img" aria-label="{html.escape(caption)}" ', 1))


def trial_curve(results: Results, trial_id: str) -> pd.DataFrame:
    """Epochs of a trial from its first one on: a trial of phase `finish` goes on where its parent ended.

    Returns:
        The rows of `results.curves` that belong to it, by epoch.
    """
    chain = [trial_id]
    parents = results.trials.set_index("trial_id")["parent"] if "parent" in results.trials else pd.Series(dtype=object)
    while isinstance(parent := parents.get(chain[-1]), str) and parent and parent not in chain:
        chain.append(parent)
    rows = results.curves[results.curves["trial_id"].isin(chain)].copy()
    rows["_rank"] = rows["trial_id"].map(chain.index)
    rows = rows.sort_values(["epoch", "_rank"]).drop_duplicates("epoch")
    return rows.drop(columns="_rank")


@FIGURES.register("curves")
def draw_curves(results: Results) -> Drawing | None:
    """The objective on val by epoch for every trial; labels in colour, stopped trials faint with an end mark."""
    metric = results.manifest.objective
    if results.curves.empty or metric not in results.curves:
        return None
    labelled = _labels_by_trial(results)
    colors = series(list(results.labels))
    parents = set(results.trials["parent"].dropna()) if "parent" in results.trials else set()
    states = results.trials.set_index("trial_id")["state"].to_dict()
    figure = Figure(figsize=(WIDTH, 4.4), layout="constrained")
    axes = figure.add_subplot()
    ends: list[tuple[float, float, str, str]] = []
    faint = [t for t in results.curves["trial_id"].unique() if t not in labelled and t not in parents]
    for trial_id in faint:
        curve = trial_curve(results, trial_id).dropna(subset=[metric])
        axes.plot(curve["epoch"], curve[metric], color=light("muted"), alpha=0.35, linewidth=1.1)
        if states.get(trial_id) != "completed" and len(curve):
            marker = "x" if states.get(trial_id) in ("failed", "infeasible") else "o"
            last = curve.iloc[-1]
            axes.plot(last["epoch"], last[metric], marker, color=light("muted"), alpha=0.7, markersize=4)
    for trial_id, labels in labelled.items():
        curve = trial_curve(results, trial_id).dropna(subset=[metric])
        if curve.empty:
            continue
        color = light(colors[labels[0]])
        is_main = "best" in labels or "baseline" in labels
        axes.plot(curve["epoch"], curve[metric], color=color, linewidth=2.4 if is_main else 1.6)
        last = curve.iloc[-1]
        axes.plot(last["epoch"], last[metric], "o", color=color, markersize=5)
        ends.append((float(last["epoch"]), float(last[metric]), " = ".join(labels), color))
    axes.set_xlabel("epoch")
    axes.set_ylabel(metric)
    axes.xaxis.set_major_locator(ticker.MaxNLocator(integer=True))
    axes.margins(x=0.02)
    stops = results.trials.loc[results.trials["state"] == "stopped", "epochs"].dropna()
    for rung in sorted(set(stops)):
        axes.axvline(rung, color=light("grid"), linewidth=1.2, linestyle=(0, (4, 3)), zorder=0)
    _label_ends(axes, ends)
    drawn = len(faint) + len(labelled)
    return Drawing(
        figure,
        f"{metric} by epoch for {_count(drawn, 'trial')}. Coloured lines carry a label; grey lines are the other "
        "trials, a circle marks where one was stopped early, a cross where one failed. Dashed: epochs at which "
        "trials were stopped.",
    )


@FIGURES.register("comparison")
def draw_comparison(results: Results) -> Drawing | None:
    """The objective of every label with its 95% interval; the majority floor as a line."""
    frame = results.comparison[results.comparison["label"] != MAJORITY]
    if frame.empty:
        return None
    metric, words = results.objective.column, results.objective.words
    labels = list(frame["label"])
    colors = series(list(results.labels))
    figure = Figure(figsize=(WIDTH, 1.1 + 0.42 * len(labels)), layout="constrained")
    axes = figure.add_subplot()
    for place, row in enumerate(frame.to_dict("records")):
        color = light(colors[row["label"]])
        low, value, high = row[f"{metric}_low"], row[metric], row[f"{metric}_high"]
        if np.isfinite(low) and np.isfinite(high):
            axes.plot([low, high], [place, place], color=color, linewidth=2.2)
        axes.plot(value, place, "o", color=color, markersize=8)
        axes.annotate(f"{value:.3f}", (value, place), (0, 7), textcoords="offset points", ha="center", fontsize=9)
    baseline = frame.loc[frame["label"] == "baseline", metric]
    if len(baseline):
        axes.axvline(baseline.iloc[0], color=light("series-baseline"), linewidth=1, linestyle=(0, (2, 3)), zorder=0)
    floor = results.comparison.loc[results.comparison["label"] == MAJORITY, metric]
    if len(floor):
        axes.axvline(floor.iloc[0], color=light("warn"), linewidth=1.4, linestyle=(0, (5, 3)))
        axes.annotate(
            f"majority class everywhere {floor.iloc[0]:.3f}",
            (floor.iloc[0], -0.72),
            (5, 0),
            textcoords="offset points",
            color=light("warn"),
            fontsize=9,
            va="center",
        )
    axes.set_yticks(range(len(labels)), [_plain(label) for label in labels])
    axes.set_ylim(len(labels) - 0.4, -1.0)
    axes.grid(axis="y", visible=False)
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)
    axes.set_xlabel(f"{words} on {results.split}, with its 95% interval over the split's images")
    return Drawing(
        figure,
        f"Each label's {words} on {results.split} with its own 95% interval; the dotted line is baseline's, the dashed "
        "one what predicting the commonest class everywhere reaches.",
    )


@FIGURES.register("thresholds")
def draw_thresholds(results: Results) -> Drawing | None:
    """Precision, recall, F1 and AP of regions against the IoU threshold, a line a label."""
    frame = results.iou_thresholds[results.iou_thresholds["label"] != MAJORITY]
    if frame.empty:
        return None
    colors = series(list(results.labels))
    figure = Figure(figsize=(WIDTH, 3.3), layout="constrained")
    panels = figure.subplots(1, 4, sharey=True)
    for axes, (column, title) in zip(
        panels, [("precision", "precision"), ("recall", "recall"), ("f1", "F1"), ("ap", "AP")], strict=True
    ):
        for place, (label, rows) in enumerate(frame.groupby("label", sort=False)):
            rows = rows.sort_values("threshold")
            axes.plot(
                rows["threshold"],
                rows[column],
                color=light(colors[str(label)]),
                linewidth=2.2 if label in ("best", "baseline") else 1.5,
                marker="os^Dv*"[place % 6],
                markersize=3.4,
                label=_plain(str(label)),
            )
        axes.set_title(title)
        axes.set_xlim(0, 1)
        axes.set_ylim(0, 1.02)
        axes.set_xticks([0, 0.25, 0.5, 0.75, 1], ["0", "", "0.5", "", "1"])
        axes.set_xlabel("IoU threshold")
    handles, names = panels[0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside upper left", ncols=min(6, len(names)))
    return Drawing(
        figure,
        "Precision, recall, F1 and AP of (image, class) regions against the IoU from which a region counts as found.",
    )


@FIGURES.register("per_class")
def draw_per_class(results: Results) -> Drawing | None:
    """What the objective averages, for every class: labels beside each other, ordered by baseline."""
    frame = results.per_class[results.per_class["label"] != MAJORITY]
    if frame.empty:
        return None
    metric, words = results.objective.class_column, results.objective.class_words
    labels = list(dict.fromkeys(frame["label"]))
    colors = series(list(results.labels))
    table = frame.pivot_table(index="class", columns="label", values=metric, sort=False, dropna=False)
    reference = "baseline" if "baseline" in labels else labels[0]
    table = table.dropna(how="all").sort_values(reference, na_position="first")
    figure = Figure(figsize=(WIDTH, 1.3 + 0.27 * len(table)), layout="constrained")
    axes = figure.add_subplot()
    for place, (_, row) in enumerate(table.iterrows()):
        values = row.dropna()
        if len(values):
            axes.plot([values.min(), values.max()], [place, place], color=light("grid"), linewidth=3, zorder=1)
    order = sorted(labels, key=lambda label: label in ("baseline", "best"))
    for label in order:
        if label in table:
            axes.plot(
                table[label],
                range(len(table)),
                "os^Dv*"[labels.index(label) % 6],
                color=light(colors[label]),
                markersize=7.5 if label in ("baseline", "best") else 5,
                label=_plain(label),
            )
    axes.set_yticks(range(len(table)), [_plain(str(name)) for name in table.index])
    axes.set_ylim(-0.7, len(table) - 0.3)
    axes.set_xlim(-0.02, 1.02)
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="y", visible=False)
    axes.set_xlabel(f"{words} on {results.split}")
    handles, names = axes.get_legend_handles_labels()
    ranked = sorted(zip(names, handles, strict=True), key=lambda pair: [_plain(n) for n in labels].index(pair[0]))
    figure.legend([h for _, h in ranked], [n for n, _ in ranked], loc="outside upper left", ncols=min(6, len(ranked)))
    return Drawing(
        figure,
        f"{words} of each class on {results.split} for each label, ordered by {reference}'s; classes that occur in "
        "neither truth nor prediction are left out.",
    )


@FIGURES.register("confusion")
def draw_confusion(results: Results) -> Drawing | None:
    """The best label's confusion matrix; each row is one class's pixels as shares of 1."""
    label = "best" if "best" in results.labels else next(iter(results.labels), None)
    if label is None:
        return None
    matrix = results.evaluations[results.labels[label].trial_id].confusions.sum(axis=0).astype(float)
    totals = matrix.sum(axis=1, keepdims=True)
    shares = np.divide(matrix, totals, out=np.full_like(matrix, np.nan), where=totals > 0)
    names = [_plain(info.name) for info in results.classes]
    count = len(names)
    side = min(9.0, max(4.2, 1.8 + 0.42 * count))
    figure = Figure(figsize=(side + 0.9, side), layout="constrained")
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
        "were predicted. Empty rows: classes without a pixel in this split.",
    )


@FIGURES.register("causes")
def draw_causes(results: Results) -> Drawing | None:
    """How many failures each cause has part in, by label."""
    if results.failures.empty:
        return None
    counts = cause_counts(results.failures)
    labels = [label for label in results.labels if label in counts]
    if not labels:
        return None
    colors = series(list(results.labels))
    counts = counts.loc[counts[labels].sum(axis=1).sort_values(kind="stable").index]
    height = 0.8 / len(labels)
    figure = Figure(figsize=(WIDTH, 1.2 + len(counts) * (0.26 + 0.17 * len(labels))), layout="constrained")
    axes = figure.add_subplot()
    for place, label in enumerate(labels):
        offsets = np.arange(len(counts)) + 0.4 - (place + 0.5) * height
        bars = axes.barh(offsets, counts[label], height * 0.88, color=light(colors[label]), label=_plain(label))
        axes.bar_label(bars, padding=3, fontsize=8.5)
    axes.set_yticks(range(len(counts)), [name_cause(str(cause)) for cause in counts.index])
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="y", visible=False)
    axes.set_xlabel("failures with this cause (one may have several)")
    axes.xaxis.set_major_locator(ticker.MaxNLocator(integer=True))
    handles, names = axes.get_legend_handles_labels()
    figure.legend(handles, names, loc="outside upper left", ncols=min(6, len(names)))
    return Drawing(figure, f"Measured causes of failures on {results.split}, by label.")


@FIGURES.register("hyperparameters")
def draw_hyperparameters(results: Results) -> Drawing | None:
    """Each numeric hyperparameter against the objective, once there are `MIN_TRIALS` trials to see anything in."""
    metric = results.manifest.objective
    trials = results.trials
    if metric not in trials:
        return None
    trials = trials[(trials["phase"] == "search") & np.isfinite(pd.to_numeric(trials[metric], errors="coerce"))]
    columns = numeric_hyperparameters(trials)
    if len(trials) < MIN_TRIALS or not columns:
        return None
    log_keys = {p["key"] for p in results.manifest.space.get("parameters", ()) if p.get("log")}
    across = 4
    rows = math.ceil(len(columns) / across)
    figure = Figure(figsize=(WIDTH, 0.5 + 2.0 * rows), layout="constrained")
    panels = np.atleast_1d(figure.subplots(rows, across, sharey=True, squeeze=False)).ravel()
    finished = trials["state"] == "completed"
    for axes, column in zip(panels, columns, strict=False):
        key = column.removeprefix("config/")
        values = pd.to_numeric(trials[column], errors="coerce")
        axes.plot(values[~finished], trials.loc[~finished, metric], "o", color=light("muted"), alpha=0.55, markersize=4)
        axes.plot(values[finished], trials.loc[finished, metric], "o", color=light("accent"), markersize=5)
        axes.set_xlabel(_plain(key))
        if key in log_keys and (values.dropna() > 0).all():
            axes.set_xscale("log")
            axes.xaxis.set_major_formatter(ticker.FuncFormatter(lambda value, _: f"{value:g}"))
            axes.xaxis.set_minor_formatter(ticker.NullFormatter())
        else:
            axes.xaxis.set_major_locator(ticker.MaxNLocator(4))
    for axes in panels[len(columns) :]:
        axes.set_visible(False)
    for row in range(rows):
        panels[row * across].set_ylabel(metric)
    return Drawing(
        figure,
        f"Value of each numeric hyperparameter against the last {metric} of {_count(len(trials), 'search trial')}. "
        "Blue: trained to the end; grey: stopped early, so at fewer epochs.",
    )


def numeric_hyperparameters(trials: pd.DataFrame) -> list[str]:
    """Columns `config/...` that hold at least three different numbers, the seed left out."""
    found = []
    for column in trials.columns:
        if not column.startswith("config/") or column == "config/seed":
            continue
        values = pd.to_numeric(trials[column].dropna(), errors="coerce")
        if values.notna().all() and values.nunique() >= 3 and trials[column].dtype != bool:
            found.append(column)
    return found


def cause_counts(failures: pd.DataFrame) -> pd.DataFrame:
    """How many failures of each label have part in each cause; `confused with X` is one kind for all X.

    Args:
        failures: With the columns `label` and `causes` ("; "-joined).

    Returns:
        int frame, a row a kind of cause, a column a label.
    """
    causes = failures[["label"]].assign(cause=failures["causes"].str.split("; ")).explode("cause")
    causes["cause"] = causes["cause"].map(cause_kind)
    causes = causes.reset_index(names="failure").drop_duplicates(["failure", "cause"])
    return causes.groupby(["cause", "label"], sort=False).size().unstack(fill_value=0)


def name_cause(kind: str) -> str:
    """A kind of cause as it is told: `confused with` alone needs an object."""
    return "confused with another class" if kind == CONFUSED else kind


def _labels_by_trial(results: Results) -> dict[str, list[str]]:
    """Trial id -> the labels it holds; two labels may hold the same trial."""
    found: dict[str, list[str]] = {}
    for label, record in results.labels.items():
        found.setdefault(record.trial_id, []).append(label)
    return found


def _label_ends(axes: Axes, ends: Sequence[tuple[float, float, str, str]]) -> None:
    """Writes each line's name at its end, moved apart where they would lie on each other."""
    if not ends:
        return
    low, high = axes.get_ylim()
    axes.set_ylim(low, high)
    spacing = (high - low) * 0.055
    right = max(end[0] for end in ends)
    heights: list[float] = []
    for _, value, _, _ in sorted(ends, key=lambda end: end[1]):
        heights.append(max(value, heights[-1] + spacing) if heights else value)
    overflow = heights[-1] - high if heights else 0.0
    if overflow > 0:
        heights = [height - overflow for height in heights]
    for (_, _, text, color), height in zip(sorted(ends, key=lambda end: end[1]), heights, strict=True):
        axes.annotate(
            _plain(text),
            (right, height),
            (9, 0),
            textcoords="offset points",
            color=color,
            fontsize=9.5,
            va="center",
            annotation_clip=False,
        )


def _svg(figure: Figure) -> str:
    buffer = io.StringIO()
    FigureCanvasSVG(figure).print_svg(buffer, metadata={"Date": None, "Creator": None})
    return buffer.getvalue()


def _png(figure: Figure) -> bytes:
    figure.set_facecolor("white")
    figure.set_dpi(PNG_DPI)
    buffer = io.BytesIO()
    FigureCanvasAgg(figure).print_png(buffer, metadata={"Software": None}, pil_kwargs={"compress_level": 4})
    return buffer.getvalue()


def _plain(text: str) -> str:
    """Text that can stand in a drawing: one line of printable characters, at most 32."""
    text = " ".join("".join(letter if letter.isprintable() else " " for letter in text).split())
    return text if len(text) <= 32 else text[:31] + "…"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
