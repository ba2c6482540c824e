"""The best configurations over fresh seeds."""

from __future__ import annotations

from matplotlib import ticker

from analysis.colours import light
from analysis.report.drawing import FIGURES, Drawing, empty_figure, name_rows
from analysis.report.page import SECTIONS, Evidence, Material, Section, render_section
from analysis.report.tables import readable
from analysis.results import Results
from sweep.verdict import named
from trainables.labels import BASELINE


@SECTIONS.register("confirmation")
def confirmation_section(material: Material) -> Section | None:
    """The best configurations and the baseline over fresh seeds; nothing where there are none."""
    results = material.results
    if results.verdict is None:
        return None
    return render_section(
        "confirmation",
        "Seeds of the best",
        Evidence.FRESH_SEEDS,
        words=results.objective.metric.words,
        split=results.split,
        figure=material.figures.get("confirmation"),
        content=readable(results.confirmation),
        left_out=[results.unconfirmed] if results.unconfirmed else [],
    )


@FIGURES.register("confirmation")
def draw_confirmation(results: Results) -> Drawing | None:
    """The score of every fresh seed, and the difference of each configuration from the baseline with its interval."""
    verdict = results.verdict
    if verdict is None:
        return None
    rows = results.confirmation.to_dict("records")
    names = [BASELINE if one.label == BASELINE else named(one) for one in verdict.configurations]
    words = results.objective.metric.words
    figure = empty_figure(1.2 + 0.5 * len(names))
    scores, gains = figure.subplots(1, 2, sharey=True, width_ratios=(3, 2))
    for place, one in enumerate(verdict.configurations):
        color = light("muted" if place == 0 else "accent")
        scores.plot(one.scores, [place] * len(one.scores), "o", color=color, alpha=0.5, markersize=6)
        scores.plot(one.mean, place, "|", color=color, markersize=18, markeredgewidth=2.4)
        low, gain, high = (rows[place][name] for name in ("difference_low", "difference", "difference_high"))
        if place:
            gains.plot([low, high], [place, place], color=color, linewidth=2.2)
            gains.plot(gain, place, "o", color=color, markersize=8)
            gains.annotate(f"{gain:+.3f}", (gain, place), (0, 7), textcoords="offset points", ha="center", fontsize=9)
    scores.axvline(verdict.configurations[0].mean, color=light("muted"), linewidth=1, linestyle=(0, (2, 3)), zorder=0)
    gains.axvline(0, color=light("muted"), linewidth=1, linestyle=(0, (2, 3)), zorder=0)
    name_rows(scores, names)
    gains.tick_params(axis="y", length=0)
    gains.grid(axis="y", visible=False)
    scores.set_ylim(len(names) - 0.4, -0.7)
    for axes in (scores, gains):
        axes.spines["left"].set_visible(False)
    scores.set_xlabel(f"{words} on {results.split}: seeds and their mean")
    gains.xaxis.set_major_locator(ticker.MaxNLocator(4))
    gains.set_xlabel("difference from the baseline, 95%")
    return Drawing(
        figure,
        f"Left: {words} on {results.split} of every fresh seed, with a bar at the mean. Right: each configuration's "
        "difference from the baseline with its 95% interval, which holds for all of them at once.",
    )
