"""The labels commented on in words: their order, what they cost, what each is good and bad at."""

from __future__ import annotations

from collections.abc import Sequence

from markupsafe import Markup, escape

from analysis.report.page import SECTIONS, Claim, Evidence, Material, Section, bold, claim, render_section
from analysis.report.sections.answer import comparable
from analysis.report.tables import readable
from analysis.results import Results
from analysis.standings import Standing
from analysis.strengths import SIZE, Strength
from trainables.labels import BASELINE

KINDS = {"model.name": "models", "loss.name": "losses", "augment.policy": "augmentation policies"}
"""What labels are, by the key that names them."""
LEAST_RATIO = 1.1
"""A cost that is less than a tenth above or below the baseline's is not told."""
TOLD = 3
"""At most this many classes are named in a sentence; the table has all of them."""


@SECTIONS.register("comments")
def comments_section(material: Material) -> Section | None:
    """The labels commented on in words; nothing where there is only one."""
    results = material.results
    claims = comments(results)
    if not claims:
        return None
    kind = KINDS.get(results.manifest.space.label_by, "labels")
    return render_section(
        "comments",
        f"The {kind} in words",
        Evidence.ONE_CHECKPOINT,
        claims=claims,
        content=readable(results.strengths),
    )


def comments(results: Results) -> list[Claim]:
    """Order and ties, then cost, then classes and sizes, label by label."""
    if len(results.standing) < 2 or not comparable(results):
        return []
    return [_order(results), *_costs(results), *_strengths(results)]


def _order(results: Results) -> Claim:
    """All labels from the best score to the worst, and which cannot be told from the winner."""
    objective = results.objective
    ranked = sorted(results.standing, key=lambda one: -objective.goodness(one.score))
    scores = Markup(", ").join(Markup("{} {}").format(bold(one.name), f"{one.score:.3f}") for one in ranked)
    seeds = any(one.seeds > 1 for one in ranked)
    what = "means over fresh seeds where there are any, else one checkpoint each" if seeds else "one checkpoint each"
    text = f"By {objective.metric.words} on {results.split}, {what}: {{}}."
    if results.split == "val":
        return claim(f"{text} Val chose the labels, so the order is no result.", scores)
    tied = [one for one in ranked if one.to_winner is not None and one.to_winner.outcome == "undecided"]
    if not tied:
        return claim(text, scores)
    names = Markup(", ").join(bold(one.name) for one in tied)
    return claim(f"{text} Not shown to differ from the winner: {{}}.", scores, names)


def _costs(results: Results) -> list[Claim]:
    """Parameters and training time beside the baseline's, of labels that differ by a tenth or more."""
    records = results.labels
    if BASELINE not in records:
        return []
    base = records[BASELINE]
    parts = []
    for one in _others(results):
        record = records[one.labels[0]]
        told = [
            _ratio(record.parameters, base.parameters, "the parameters"),
            _ratio(record.train_seconds, base.train_seconds, "the training time"),
        ]
        told = [text for text in told if text]
        if told:
            parts.append(Markup("{} {}").format(bold(one.name), " and ".join(told)))
    if not parts:
        return []
    return [claim("Beside the baseline: {}.", Markup("; ").join(parts), evidence=Evidence.RECORD)]


def _ratio(value: float, reference: float, what: str) -> str:
    if value <= 0 or reference <= 0 or max(value / reference, reference / value) < LEAST_RATIO:
        return ""
    return f"{value / reference:.2g} times {what}"


def _strengths(results: Results) -> list[Claim]:
    """What each label's checkpoint does better and worse, where the intervals of all classes and sizes say so."""
    claims = []
    for one in _others(results):
        found = [each for each in results.strength if each.name == one.name and each.outcome != "undecided"]
        parts = []
        for outcome in ("higher", "lower"):
            told = sorted((each for each in found if each.outcome == outcome), key=lambda each: -abs(each.difference))
            if told:
                parts.append(Markup("{} on {}").format(outcome, _named(told)))
        if parts:
            text = (
                f"Beside the baseline's, the checkpoint of {{}} has an IoU on these images of {results.split} that is "
                "{}. Another seed may change it."
            )
            claims.append(claim(text, bold(one.name), Markup("; ").join(parts)))
    if results.strength and not claims:
        parts_count = len({(each.kind, each.what) for each in results.strength})
        text = (
            f"No class and no size of region is shown to differ between a label's checkpoint and the "
            f"baseline's ({parts_count} classes and sizes for each label, tested together)."
        )
        claims.append(claim(text))
    return claims


def _named(told: Sequence[Strength]) -> Markup:
    names = []
    for one in told[:TOLD]:
        what = f"{one.what} regions" if one.kind == SIZE else one.what
        numbers = f"{one.difference:+.3f} [{one.low:+.3f}, {one.high:+.3f}]"
        names.append(Markup("{} ({})").format(escape(what), numbers))
    more = f" and {len(told) - TOLD} more" if len(told) > TOLD else ""
    return Markup(", ").join(names) + more


def _others(results: Results) -> list[Standing]:
    return [one for one in results.standing if one.labels and BASELINE not in one.labels]
