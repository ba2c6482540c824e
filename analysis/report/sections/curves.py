"""How every trial developed on val."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib import ticker
from matplotlib.axes import Axes

from analysis.colours import light
from analysis.comparison import lineage
from analysis.report.drawing import FIGURES, Drawing, empty_figure, label_colors, labels_by_trial, plain
from analysis.report.page import SECTIONS, Evidence, Material, Section, render_section
from analysis.results import Results
from sweep.trials_csv import PARENT
from trainables.labels import CHIEF
from trainables.words import counted

MOST_LINES = 200
"""Trials without a label that are drawn."""


@SECTIONS.register("curves")
def curves_section(material: Material) -> Section | None:
    """How every trial developed on val."""
    if "curves" not in material.figures:
        return None
    return render_section("curves", "Training curves", Evidence.ONE_CHECKPOINT, figure=material.figures["curves"])


def trial_curve(results: Results, trial_id: str) -> pd.DataFrame:
    """Epochs of a trial from its first one on: a trial of phase `finish` goes on where its parent ended.

    Returns:
        The rows of `results.curves` that belong to it, by epoch.
    """
    chain = lineage(trial_id, results.trials)
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
    labelled = labels_by_trial(results)
    colors = label_colors(results)
    parents = set(results.trials[PARENT]) if PARENT in results.trials else set()
    states = results.trials.set_index("trial_id")["state"].to_dict()
    figure = empty_figure(4.4)
    axes = figure.add_subplot()
    ends: list[tuple[float, float, str, str]] = []
    faint = [t for t in results.curves["trial_id"].unique() if t not in labelled and t not in parents]
    every = len(faint) + len(labelled)
    if len(faint) > MOST_LINES:
        faint = [faint[place] for place in np.linspace(0, len(faint) - 1, MOST_LINES).round().astype(int)]
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
        color = colors[labels[0]]
        is_main = not set(CHIEF).isdisjoint(labels)
        axes.plot(curve["epoch"], curve[metric], color=color, linewidth=2.4 if is_main else 1.6)
        last = curve.iloc[-1]
        axes.plot(last["epoch"], last[metric], "o", color=color, markersize=5)
        ends.append((float(last["epoch"]), float(last[metric]), " = ".join(labels), color))
    axes.set_xlabel("epoch")
    axes.set_ylabel(metric)
    axes.xaxis.set_major_locator(ticker.MaxNLocator(integer=True, min_n_ticks=1))
    axes.margins(x=0.02)
    stops = results.trials.loc[results.trials["state"] == "stopped", "epochs"].dropna()
    for rung in sorted(set(stops)):
        axes.axvline(rung, color=light("grid"), linewidth=1.2, linestyle=(0, (4, 3)), zorder=0)
    _label_ends(axes, ends)
    drawn = len(faint) + len(labelled)
    some = "" if drawn == every else f"{drawn} of "
    others = "the other trials" if drawn == every else f"{len(faint)} of the other trials, evenly taken"
    return Drawing(
        figure,
        f"{metric} by epoch for {some}{counted(every, 'trial')}. Coloured lines carry a label; grey lines are "
        f"{others}, a circle marks where one was stopped early, a cross where one failed. Dashed: epochs at which "
        "trials were stopped.",
    )


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
            plain(text),
            (right, height),
            (9, 0),
            textcoords="offset points",
            color=color,
            fontsize=9.5,
            va="center",
            annotation_clip=False,
        )
