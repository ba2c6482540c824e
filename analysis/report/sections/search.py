"""How the search went: where the best was found, what mattered, edges, infeasible regions, what stopping saved."""

from __future__ import annotations

from collections.abc import Callable

from markupsafe import Markup, escape
from matplotlib import ticker

from analysis.colours import light
from analysis.report.drawing import FIGURES, Drawing, empty_figure
from analysis.report.page import (
    SECTIONS,
    Claim,
    Evidence,
    Material,
    Section,
    bold,
    claim,
    format_seconds,
    render_section,
)
from analysis.report.sections.curves import trial_curve
from analysis.results import Results
from analysis.search_facts import (
    MIN_TRIALS,
    at_edges,
    best_so_far,
    infeasible_region,
    search_points,
    still_rising,
    stopping,
)
from sweep.importance import Importance, importance
from trainables.labels import BEST
from trainables.words import counted

SHARES_TOLD = 3


@SECTIONS.register("search")
def search_section(material: Material) -> Section | None:
    """How the search went; nothing of fewer than `MIN_TRIALS` trials."""
    results = material.results
    if len(best_so_far(results.trials, results.objective)) < MIN_TRIALS:
        return None
    return render_section(
        "search",
        "How the search went",
        Evidence.RECORD,
        claims=search_claims(results),
        figure=material.figures.get("best_so_far"),
    )


def search_claims(results: Results) -> list[Claim]:
    """Each fact that is above its threshold."""
    rules: tuple[Callable[[Results], list[Claim]], ...] = (
        _found_claim,
        _importance_claim,
        _edge_claims,
        _infeasible_claim,
        _stopping_claim,
        _rising_claim,
    )
    return [one for rule in rules for one in rule(results)]


def _found_claim(results: Results) -> list[Claim]:
    curve = best_so_far(results.trials, results.objective).dropna(subset=["best_so_far"])
    if len(curve) < MIN_TRIALS:
        return []
    first = curve[curve["best_so_far"] == curve["best_so_far"].iloc[-1]].iloc[0]
    last = curve.iloc[-1]
    text = (
        f"The best score on val of the search, {results.objective.show(float(last['best_so_far']))}, came with trial "
        f"{first['trials']:.0f} of {last['trials']:.0f}, after {format_seconds(3600 * first['hours'])} of "
        f"{format_seconds(3600 * last['hours'])} of training. It is the luckiest of as many, so it flatters."
    )
    return [claim(text, evidence=Evidence.RECORD)]


def _importance_claim(results: Results) -> list[Claim]:
    parameters = results.manifest.space.parameters
    found = importance(*search_points(results.trials, parameters, results.objective), parameters)  # type: ignore[arg-type]
    if not isinstance(found, Importance):
        return [claim(f"What mattered is not told: {found}.", evidence=Evidence.RECORD)]
    shares = list(found.shares.items())[:SHARES_TOLD]
    told = Markup(", ").join(Markup("{} {}%").format(bold(key), f"{100 * share:.0f}") for key, share in shares)
    text = (
        f"Of what {found.trials} trials at full budget let a forest explain (R\u00b2 {found.explained:.2f} on trials "
        "that it has not seen, one seed each), fANOVA gives {}."
    )
    return [claim(text, told, evidence=Evidence.RECORD)]


def _edge_claims(results: Results) -> list[Claim]:
    return [
        claim(
            f"{one.words} of {{}}, {one.end:.3g}, towards which scores rise: the range may end too soon.",
            bold(one.key),
            evidence=Evidence.RECORD,
        )
        for one in at_edges(results.trials, results.manifest.space.parameters, results.objective)
    ]


def _infeasible_claim(results: Results) -> list[Claim]:
    region = infeasible_region(results.trials, results.manifest.space.parameters)
    if region is None:
        return []
    text = (
        f"{region.infeasible} of {counted(region.trials, 'trial')} {{}} diverged or ran out of memory, and "
        f"{region.elsewhere} of the {region.others} others."
    )
    return [claim(text, escape(region.where), evidence=Evidence.RECORD)]


def _stopping_claim(results: Results) -> list[Claim]:
    winner = results.labels[BEST].trial_id if BEST in results.labels else None
    told = stopping(results.trials, winner, results.manifest.budget.max_epochs)
    if told is None:
        return []
    text = (
        f"Stopping {told.trials} of {told.of} trials early saved {counted(told.saved, 'epoch')}, "
        f"{100 * told.share:.0f}% of what all of them would have taken"
    )
    if told.winner_epoch is None:
        return [claim(f"{text}; the winner was not among them.", evidence=Evidence.RECORD)]
    return [
        claim(
            f"{text}; the winner, {{}}, was among them: it was stopped at epoch {told.winner_epoch}, and is known only "
            "because the best of each label is trained to the end.",
            bold(results.told(BEST)),
            evidence=Evidence.RECORD,
        )
    ]


def _rising_claim(results: Results) -> list[Claim]:
    metric = results.objective.key
    if BEST not in results.labels or metric not in results.curves:
        return []
    values = trial_curve(results, results.labels[BEST].trial_id)[metric].dropna().tolist()
    told = still_rising(values, results.objective)
    if told is None:
        return []
    text = (
        f"{{}} was still rising on val when its training ended: {told.gain:+.3f} over the last {told.epochs} of "
        f"{told.of} epochs. More epochs may bring more."
    )
    return [claim(text, bold(results.told(BEST)))]


@FIGURES.register("best_so_far")
def draw_best_so_far(results: Results) -> Drawing | None:
    """The best score on val so far against trials, epochs and hours; nothing of fewer than `MIN_TRIALS` trials."""
    curve = best_so_far(results.trials, results.objective)
    if len(curve) < MIN_TRIALS or curve["best_so_far"].isna().all():
        return None
    figure = empty_figure(2.6)
    panels = figure.subplots(1, 3, sharey=True)
    for axes, (column, title) in zip(
        panels, (("trials", "trials"), ("epochs", "epochs of all trials"), ("hours", "hours of training")), strict=True
    ):
        axes.step(curve[column], curve["best_so_far"], where="post", color=light("accent"), linewidth=2)
        axes.set_xlabel(title)
        axes.set_xlim(left=0)
        axes.xaxis.set_major_locator(ticker.MaxNLocator(5, integer=column != "hours"))
    panels[0].set_ylabel(results.objective.key)
    return Drawing(
        figure,
        f"The best {results.objective.key} of the search so far, at whatever epoch a trial ended, against trials, "
        "epochs and hours; the best of many is lucky, so the curve rises even among equals.",
    )
