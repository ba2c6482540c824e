"""What several objectives cost one another."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from analysis.colours import light
from analysis.report.drawing import FIGURES, Drawing, empty_figure, label_colors, plain
from analysis.report.page import SECTIONS, Material, Section, render_section
from analysis.report.sections.answer import trade_off_claim
from analysis.report.tables import readable
from analysis.results import Results
from sweep.objectives import Objective
from sweep.pareto import Point
from trainables.labels import BEST
from trainables.metrics import LATENCY


@SECTIONS.register("trade_off")
def trade_off_section(material: Material) -> Section | None:
    """The Pareto set of several objectives; nothing where there is one alone."""
    results = material.results
    told = trade_off_claim(results)
    if told is None or results.trade_off is None:
        return None
    keys = [objective.key for objective in results.objectives]
    return render_section(
        "trade_off",
        "Trade-off",
        told.evidence,
        objectives=f"{', '.join(keys[:-1])} and {keys[-1]}",
        chosen_from=results.trade_off.chosen_from,
        split=results.split,
        timed=LATENCY.name in keys,
        figure=material.figures.get("trade_off"),
        content=readable(results.pareto),
    )


@FIGURES.register("trade_off")
def draw_trade_off(results: Results) -> Drawing | None:
    """The first objective against each of the others: the Pareto set as a line, the best and the baseline beside it."""
    trade_off = results.trade_off
    if trade_off is None:
        return None
    first, *further = results.objectives
    figure = empty_figure(4.2)
    panels = figure.subplots(1, len(further), sharey=True, squeeze=False)[0]
    for axes, objective in zip(panels, further, strict=True):
        if results.split == "val":
            _draw_others(axes, results.trials, first, objective)
        _draw_set(axes, results, first, objective)
        axes.set_xlabel(f"{objective.metric.words} ({objective.key})")
    panels[0].set_ylabel(f"{first.metric.words} on {results.split}")
    others = " Grey: every trial of the search at full budget." if results.split == "val" else ""
    return Drawing(
        figure,
        f"{first.metric.words} on {results.split} against {' and '.join(one.metric.words for one in further)}. Filled: "
        f"the Pareto set that val chose; hollow: what something dominates.{others}",
    )


def _draw_others(axes: Axes, trials: pd.DataFrame, first: Objective, objective: Objective) -> None:
    """Every trial of the search at full budget."""
    if {first.key, objective.key} <= set(trials):
        whole = trials[(trials["state"] == "completed") & trials["phase"].isin(("search", "finish"))]
        axes.plot(whole[objective.key], whole[first.key], "o", color=light("muted"), alpha=0.35, markersize=4)


def _draw_set(axes: Axes, results: Results, first: Objective, objective: Objective) -> None:
    """The configurations of the table, those of the set joined in the order of the further objective."""
    trade_off, colors = results.trade_off, label_colors(results)
    if trade_off is None:
        return
    values = {one.trial_id: (one.shown[objective.key], one.shown[first.key]) for one in trade_off.points}
    line = np.array(sorted(values[one.trial_id] for one in trade_off.in_set))
    if len(line):
        steps = "steps-post" if objective.metric.direction == "min" else "steps-pre"  # between them nothing was tried
        axes.plot(line[:, 0], line[:, 1], color=light("muted"), drawstyle=steps, linewidth=1, alpha=0.6, zorder=1)
    for point in trade_off.points:
        x, y = values[point.trial_id]
        color = colors.get(point.published, light("muted"))
        filled = color if point.is_in_set else "none"
        axes.plot(x, y, "o", color=color, markerfacecolor=filled, markersize=8, zorder=2)
        name = _name(point, trade_off.best)
        axes.annotate(name, (x, y), (0, 8), textcoords="offset points", ha="center", fontsize=9)
    axes.margins(x=0.2, y=0.15)


def _name(point: Point, best: str) -> str:
    name = plain(point.published or point.label)
    return f"{name} = {BEST}" if point.trial_id == best and name != BEST else name
