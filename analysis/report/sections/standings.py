"""Where each label stands beside the baseline and the winner: in words, as a table, and as the page's first figure."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from markupsafe import Markup
from matplotlib import ticker
from matplotlib.axes import Axes

from analysis.colours import light
from analysis.report.drawing import FIGURES, Drawing, empty_figure, name_rows
from analysis.report.page import SECTIONS, Claim, Evidence, Material, Section, bold, claim, render_section
from analysis.report.sections.answer import comparable
from analysis.report.tables import readable
from analysis.results import Results
from analysis.standings import COLUMNS, FRESH_SEEDS, TWO_CHECKPOINTS, Beside, Standing
from sweep.claims import Outcome
from trainables.labels import BASELINE, BEST, MAJORITY

_TO_WINNER = [column for column in COLUMNS if column.startswith("to_winner")]


@SECTIONS.register("standings")
def standings_section(material: Material) -> Section:
    """Where each label stands beside the baseline and the winner."""
    results = material.results
    evidence = Evidence.ONE_CHECKPOINT if results.verdict is None else Evidence.FRESH_SEEDS
    return render_section(
        "standings",
        "Beside the baseline and the winner",
        evidence,
        claims=standing_claims(results),
        split=results.split,
        words=results.objective.metric.words,
        to_baseline=readable(results.standings.drop(columns=[*_TO_WINNER, "trial_id"])),
        to_winner=readable(results.standings[["name", "trial_id", *_TO_WINNER]]),
        seeds_here=results.verdict is not None,
    )


def standing_claims(results: Results) -> list[Claim]:
    """Which configurations may be the best, and which checkpoints stand higher or lower than the baseline's."""
    if not comparable(results):
        return []
    return [*_seed_claims(results), *_checkpoint_claims(results)]


def _seed_claims(results: Results) -> list[Claim]:
    verdict = results.verdict
    if verdict is None:
        return []
    fresh = [one for one in results.standing if one.evidence == FRESH_SEEDS]
    claims = []
    led = verdict.leading.name
    for outcome in (Outcome.BETTER, Outcome.WORSE):
        others = [
            one
            for one in fresh
            if one.to_baseline is not None and one.to_baseline.outcome == outcome.value and one.source != led
        ]
        if others:
            told = Markup(", ").join(_with_numbers(one.name, one.to_baseline) for one in others)
            verb = "is" if len(others) == 1 else "are each"
            text = f"On {results.split}, {{}} {verb} {outcome.value} than the baseline."
            claims.append(claim(text, told, evidence=Evidence.FRESH_SEEDS))
    remaining = [one.name for one in fresh if one.may_be_best]
    if len(fresh) > 2:
        claims.append(_remaining_claim(remaining, len(fresh), told=verdict.outcome is Outcome.BETTER))
    return claims


def _remaining_claim(remaining: Sequence[str], count: int, *, told: bool) -> Claim:
    names = Markup(", ").join(map(bold, remaining))
    if len(remaining) == 1:
        text = (
            f"Of {count} configurations with fresh seeds only {{}} may be the best: each other one is told to be worse."
        )
    elif told:
        text = f"Of {count} configurations with fresh seeds these cannot be told from the winner: {{}}."
    else:
        text = (
            f"Of {count} configurations with fresh seeds the winner is not told from the baseline, so none is held "
            "against it; these may be the best: {}."
        )
    return claim(text, names, evidence=Evidence.FRESH_SEEDS)


def _checkpoint_claims(results: Results) -> list[Claim]:
    """Labels without fresh seeds on a split that chose nothing; the winner's own pair is told in the answer."""
    alone = [
        one
        for one in results.standing
        if one.evidence == TWO_CHECKPOINTS and one.to_baseline is not None and one.to_baseline.outcome
    ]
    others = [one for one in alone if BEST not in one.labels]
    if not others:
        return []
    parts = []
    for outcome in ("higher", "lower"):
        told = [one for one in others if one.to_baseline is not None and one.to_baseline.outcome == outcome]
        if told:
            names = Markup(", ").join(_with_numbers(one.name, one.to_baseline) for one in told)
            parts.append(Markup("{} {} {}").format(names, "scores" if len(told) == 1 else "score", outcome))
    even = [one for one in others if one.to_baseline is not None and one.to_baseline.outcome == "undecided"]
    if even:
        names = Markup(", ").join(bold(one.name) for one in even)
        parts.append(Markup("{} cannot be told from it").format(names))
    text = (
        f"Two checkpoints each, on these images of {results.split} and beside that of the baseline: {{}}. Another seed "
        "may change it."
    )
    return [claim(text, Markup("; ").join(parts))]


def _with_numbers(name: str, beside: Beside | None) -> Markup:
    assert beside is not None
    numbers = f"{beside.difference:+.3f} [{beside.low:+.3f}, {beside.high:+.3f}]"
    return Markup("{} ({})").format(bold(name), numbers)


@FIGURES.register("standings")
def draw_standings(results: Results) -> Drawing | None:
    """The score of every label, seed by seed where there are fresh ones, and its difference from the baseline."""
    standing = results.standing
    if not standing:
        return None
    words = results.objective.metric.words
    figure = empty_figure(1.3 + 0.46 * len(standing))
    scores, gains = figure.subplots(1, 2, sharey=True, width_ratios=(3, 2))
    for place, one in enumerate(standing):
        color = light("muted" if BASELINE in one.labels else "accent")
        _draw_score(scores, place, one, results, color)
        if one.to_baseline is not None:
            _draw_difference(gains, place, one, color)
    _draw_floor(scores, results)
    scores.axvline(standing[0].score, color=light("muted"), linewidth=1, linestyle=(0, (2, 3)), zorder=0)
    gains.axvline(0, color=light("muted"), linewidth=1, linestyle=(0, (2, 3)), zorder=0)
    name_rows(scores, [_row_name(one) for one in standing])
    gains.tick_params(axis="y", length=0)
    gains.grid(axis="y", visible=False)
    scores.set_ylim(len(standing) - 0.4, -1.0)
    for axes in (scores, gains):
        axes.spines["left"].set_visible(False)
        axes.xaxis.set_major_locator(ticker.MaxNLocator(5))
    scores.set_xlabel(f"{words} on {results.split}")
    gains.set_xlabel(f"difference from the baseline{', 95%' if _has_intervals(results) else ''}")
    return Drawing(figure, _caption(results))


def _row_name(one: Standing) -> str:
    return f"{one.name} *" if one.may_be_best else one.name


def _has_intervals(results: Results) -> bool:
    """Of differences."""
    return any(one.to_baseline is not None and not math.isnan(one.to_baseline.low) for one in results.standing)


def _caption(results: Results) -> str:
    words, split = results.objective.metric.words, results.split
    told = [f"Left: {words} on {split}"]
    if any(one.evidence == FRESH_SEEDS for one in results.standing):
        told[0] += "; small dots are fresh seeds, a bar is their mean"
    told[0] += (
        "; a ring is the checkpoint of the search, with its own interval where it stands alone; the dashed line is "
    )
    told[0] += "the commonest class everywhere."
    if _has_intervals(results):
        told.append(
            "Right: the difference from the baseline; filled with fresh seeds, a ring for two checkpoints; the "
            "intervals of each kind hold for all of its labels at once."
        )
    else:
        told.append("Right: the difference from the baseline, without intervals, as there can be none.")
    if any(one.may_be_best for one in results.standing):
        told.append("An asterisk: not shown to be worse than any other, so it may be the best.")
    return " ".join(told)


def _draw_score(axes: Axes, place: int, one: Standing, results: Results, color: str) -> None:
    if one.labels:
        metric = results.objective.metric.name
        row = results.comparison.set_index("label").loc[one.labels[0]]
        low, high = np.array([row[f"{metric}_low"], row[f"{metric}_high"]], dtype=float)
        if one.evidence == TWO_CHECKPOINTS and math.isfinite(low) and math.isfinite(high):
            axes.plot([low, high], [place, place], color=color, linewidth=1.6)
        axes.plot(row[metric], place, "o", color=color, markerfacecolor="white", markersize=8, markeredgewidth=1.8)
    if one.evidence == FRESH_SEEDS:
        axes.plot(one.scores, [place] * one.seeds, "o", color=color, alpha=0.5, markersize=5)
        axes.plot(one.score, place, "|", color=color, markersize=18, markeredgewidth=2.4)
    axes.annotate(f"{one.score:.3f}", (one.score, place), (0, 9), textcoords="offset points", ha="center", fontsize=9)


def _draw_difference(axes: Axes, place: int, one: Standing, color: str) -> None:
    beside = one.to_baseline
    assert beside is not None
    if not math.isnan(beside.low):
        axes.plot([beside.low, beside.high], [place, place], color=color, linewidth=2.2)
    face = color if one.evidence == FRESH_SEEDS else "white"
    axes.plot(beside.difference, place, "o", color=color, markerfacecolor=face, markersize=8, markeredgewidth=1.8)
    axes.annotate(
        f"{beside.difference:+.3f}",
        (beside.difference, place),
        (0, 9),
        textcoords="offset points",
        ha="center",
        fontsize=9,
    )


def _draw_floor(axes: Axes, results: Results) -> None:
    floor = results.comparison.loc[results.comparison["label"] == MAJORITY, results.objective.metric.name]
    if floor.empty:
        return
    axes.axvline(floor.iloc[0], color=light("warn"), linewidth=1.4, linestyle=(0, (5, 3)))
    axes.annotate(
        f"commonest class everywhere {floor.iloc[0]:.3f}",
        (floor.iloc[0], -0.75),
        (5, 0),
        textcoords="offset points",
        color=light("warn"),
        fontsize=9,
        va="center",
    )
