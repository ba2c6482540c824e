"""What goes with failing components: measured factors, adjusted for one another, and how the IoU runs along them."""

from __future__ import annotations

import math

import numpy as np
from matplotlib.figure import Figure

from analysis.colours import light
from analysis.failures.factors import ALL_FACTORS, FREQUENCY
from analysis.measured import Measured
from analysis.report.drawing import (
    FIGURES,
    MARKERS,
    Drawing,
    empty_figure,
    label_colors,
    legend_above,
    name_rows,
    plain,
)
from analysis.report.page import SECTIONS, Claim, Material, Section, claim, render_section
from analysis.report.tables import readable

MOST_REASONS = 4
"""Factors that have a sentence at most, those of the largest effect."""
MOST_CURVES = 6
"""Factors whose curves are drawn at most."""

BY_NAME = {factor.name: factor for factor in ALL_FACTORS}


@SECTIONS.register("factors")
def factors_section(material: Material) -> Section | None:
    """What goes with failing components; nothing where it could not be measured."""
    results = material.measured
    frame = results.factors
    if frame.empty:
        return None
    own = frame[frame["label"] == results.chief]
    return render_section(
        "factors",
        "What goes with failures",
        material.measured.evidence,
        claims=factor_claims(results),
        figure=material.figures.get("factors"),
        curves=material.figures.get("factor_curves"),
        content=readable(frame),
        components=int(frame["components"].iloc[0]) if own.empty else int(own["components"].iloc[0]),
        images=int(frame["images"].iloc[0]),
        kind=results.images_word if results.units == "images" else f"groups of {results.images_word}",
        unit=results.units,
        unmeasured=results.unmeasured,
    )


def factor_claims(results: Measured) -> list[Claim]:
    """A sentence for each factor of the winner that is called a reason, the largest effect first."""
    frame = results.factors
    own = frame[(frame["label"] == results.chief) & frame["reason"].astype(bool)]
    own = own.iloc[np.argsort(-own["effect"].abs(), kind="stable")][:MOST_REASONS]
    claims = []
    for row in own.to_dict("records"):
        factor = BY_NAME[row["factor"]]
        worse, better = (factor.low, factor.high) if row["effect"] > 0 else (factor.high, factor.low)
        low, high = sorted(abs(row[f"effect_{side}"]) for side in ("low", "high"))
        equal = (
            "other measured factors being equal; what else sets these classes apart is not known"
            if factor == FREQUENCY
            else "class and other measured factors being equal"
        )
        claims.append(
            claim(
                f"Components that are {worse} have an IoU lower by {abs(row['effect']):.2f} [{low:.2f}, {high:.2f}] "
                f"than those that are {better}, {equal}.",
                evidence=results.evidence,
            )
        )
    return claims


@FIGURES.register("factors")
def draw_factors(results: Measured) -> Drawing | None:
    """The adjusted effect of each factor on the winner's components, with intervals that hold together."""
    label = results.chief
    own = results.factors[results.factors["label"] == label]
    if own.empty:
        return None
    own = own.iloc[np.argsort(own["effect"].abs(), kind="stable")]
    figure = empty_figure(1.0 + 0.27 * len(own))
    axes = figure.add_subplot()
    axes.axvline(0, color=light("muted"), linewidth=1)
    color = label_colors(results)[label]
    for place, row in enumerate(own.to_dict("records")):
        axes.plot([row["effect_low"], row["effect_high"]], [place, place], color=color, linewidth=2.2)
        filled = color if row["reason"] else light("page")
        axes.plot(row["effect"], place, "o", color=color, markerfacecolor=filled, markersize=7)
    name_rows(axes, [BY_NAME[name].axis for name in own["factor"]])
    axes.set_ylim(-0.6, len(own) - 0.4)
    axes.set_xlabel(f"what the IoU of a component gains from one to the other on {results.split}")
    between = ", that of the frequency between classes" if FREQUENCY.name in set(own["factor"]) else ""
    return Drawing(
        figure,
        f"Effect of each measured factor on the IoU of {label}'s components from its 10th to its 90th percentile, "
        f"class and the other factors being equal{between}; the intervals hold all at once (95%), filled dots are "
        "called a reason.",
    )


@FIGURES.register("factor_curves")
def draw_factor_curves(results: Measured) -> Drawing | None:
    """The mean IoU of components along the factors that matter most, for the winner and the baseline."""
    label = results.chief
    own = results.factors[(results.factors["label"] == label) & results.factors["reason"].astype(bool)]
    if own.empty:
        return None
    curves = results.factor_curves
    drawn = set(curves.loc[curves["label"] == label, "factor"])
    names = own.iloc[np.argsort(-own["effect"].abs(), kind="stable")]["factor"].tolist()
    names = [name for name in names if name in drawn][:MOST_CURVES]
    if not names:
        return None
    labels = [one for one in dict.fromkeys((results.pair[0], label)) if one in set(results.factor_curves["label"])]
    columns = min(3, len(names))
    rows = math.ceil(len(names) / columns)
    figure = empty_figure(0.6 + 2.5 * rows)
    _draw_curves(figure, results, names, labels, rows, columns)
    return Drawing(
        figure,
        f"Mean IoU of components of {' and '.join(labels)} in each fifth of a factor on {results.split}, with 95% "
        f"intervals over {results.units}; not adjusted for anything.",
    )


def _draw_curves(
    figure: Figure, results: Measured, names: list[str], labels: list[str], rows: int, columns: int
) -> None:
    colors = label_colors(results)
    panels = figure.subplots(rows, columns, sharey=True, squeeze=False).ravel()
    for axes, name in zip(panels, names, strict=False):
        for place, label in enumerate(labels):
            frame = results.factor_curves
            own = frame[(frame["factor"] == name) & (frame["label"] == label) & (frame["components"] > 0)]
            low, high, iou, iou_low, iou_high = (
                own[column].to_numpy(float) for column in ("low", "high", "iou", "iou_low", "iou_high")
            )
            errors = np.maximum([iou - iou_low, iou_high - iou], 0)
            axes.errorbar((low + high) / 2, iou, errors, color=colors[label], marker=MARKERS[place], label=plain(label))
        axes.set_title(name.replace("_", " "))
        axes.set_ylim(0, 1)
    for axes in panels[len(names) :]:
        axes.set_visible(False)
    legend_above(figure, panels[0])
