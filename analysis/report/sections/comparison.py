"""Every label's metrics with intervals."""

from __future__ import annotations

import numpy as np

from analysis.colours import light
from analysis.comparison import score_columns
from analysis.report.drawing import FIGURES, Drawing, empty_figure, label_colors, name_rows
from analysis.report.page import SECTIONS, Evidence, Material, Section, render_section
from analysis.report.tables import readable
from analysis.results import Results
from trainables.labels import BASELINE, MAJORITY


@SECTIONS.register("comparison")
def comparison_section(material: Material) -> Section:
    """Every label's metrics with intervals, and what each label is."""
    results = material.results
    scores = list(score_columns(results.further_metrics))
    return render_section(
        "comparison",
        "Comparison",
        Evidence.ONE_CHECKPOINT,
        split=results.split,
        scores=readable(results.comparison[["label", *scores]]),
        identity=readable(results.comparison.drop(columns=scores)),
        objective=results.objective,
        seeds=readable(results.seeds),
    )


@FIGURES.register("comparison")
def draw_comparison(results: Results) -> Drawing | None:
    """The objective of every label with its 95% interval; the majority floor as a line."""
    frame = results.comparison[results.comparison["label"] != MAJORITY]
    if frame.empty:
        return None
    metric, words = results.objective.metric.name, results.objective.metric.words
    labels = list(frame["label"])
    colors = label_colors(results)
    figure = empty_figure(1.1 + 0.42 * len(labels))
    axes = figure.add_subplot()
    for place, row in enumerate(frame.to_dict("records")):
        color = colors[row["label"]]
        low, value, high = row[f"{metric}_low"], row[metric], row[f"{metric}_high"]
        if np.isfinite(low) and np.isfinite(high):
            axes.plot([low, high], [place, place], color=color, linewidth=2.2)
        axes.plot(value, place, "o", color=color, markersize=8)
        axes.annotate(f"{value:.3f}", (value, place), (0, 7), textcoords="offset points", ha="center", fontsize=9)
    baseline = frame.loc[frame["label"] == BASELINE, metric]
    if len(baseline):
        axes.axvline(baseline.iloc[0], color=colors[BASELINE], linewidth=1, linestyle=(0, (2, 3)), zorder=0)
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
    name_rows(axes, labels)
    axes.set_ylim(len(labels) - 0.4, -1.0)
    axes.spines["left"].set_visible(False)
    axes.set_xlabel(f"{words} on {results.split}, with its 95% interval over the split's images")
    return Drawing(
        figure,
        f"Each label's {words} on {results.split} with its own 95% interval; the dotted line is baseline's, the dashed "
        "one what predicting the commonest class everywhere reaches.",
    )
