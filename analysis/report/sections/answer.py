"""The answer: which checkpoint stands where, on what evidence, and what is missing."""

from __future__ import annotations

import math

from markupsafe import Markup, escape

from analysis.answer import Answer, Verdict
from analysis.candidates import count_candidates, flat_configuration
from analysis.failures.measure import cause_kind, causes_of, name_cause
from analysis.report.page import (
    SECTIONS,
    Claim,
    Evidence,
    Material,
    Section,
    bold,
    bold_names,
    claim,
    code,
    count_images,
    interval_text,
    render_section,
)
from analysis.results import Results
from sweep import pareto
from sweep.candidate import changes, chief_keys, tell_changes
from sweep.objectives import DEAD_MARGIN
from sweep.verdict import Confirmed, sentence
from sweep.verdict import Verdict as SeedVerdict
from trainables import commands
from trainables.labels import BASELINE, BEST, MAJORITY
from trainables.words import counted


@SECTIONS.register("answer")
def answer_section(material: Material) -> Section:
    """The answer in words, numbers first, with what a reader must know before believing it."""
    results = material.results
    return render_section(
        "answer",
        "Answer",
        Evidence.ONE_CHECKPOINT,
        leads=lead_claims(results),
        caveats=caveats(results),
        claims=other_claims(results),
        tiles=_tiles(results),
        notes=results.notes,
        figure=material.figures.get("standings"),
    )


def lead_claims(results: Results) -> list[Claim]:
    """What the page opens with: labels that learnt nothing, then the winner beside the baseline."""
    dead = _dead_claims(results)
    if all_dead(results):
        return [*dead, claim("No label learnt anything, so nothing is compared.")]
    if not comparable(results):
        return [*dead, claim("A comparison with what learnt nothing shows nothing, so none is made.")]
    told = trade_off_claim(results)
    costs = [] if told is None else [told]
    alarm = _floor_claim(results) if at_floor(results) else []
    if results.verdict is not None:
        return [*dead, *alarm, _verdict_claim(results, results.verdict), *costs]
    return [*dead, *alarm, _comparison_claim(results), *costs]


def at_floor(results: Results) -> bool:
    """Whether the winner, though not dead, cannot be told from the commonest class everywhere: an alarm."""
    above = results.above_floor
    low, high = (results.objective.goodness(bound) for bound in (above.low, above.high))
    return above.label not in results.dead and min(low, high) <= 0


def _floor_claim(results: Results) -> list[Claim]:
    """How far the winner stands above what needs no learning."""
    above = results.above_floor
    if above.label in results.dead:
        return []
    scores = f"{results.objective.metric.words} {above.score:.3f} against {above.floor:.3f} on {results.split}"
    interval = "" if math.isnan(above.low) else f" [{above.low:+.3f}, {above.high:+.3f}]"
    numbers = f"{scores}, {above.score - above.floor:+.3f}{interval}"
    name = bold(results.told(above.label))
    if at_floor(results):
        return [claim(f"{{}} cannot be told from the commonest class everywhere: {numbers}.", name)]
    if math.isnan(above.low):
        return [claim(f"Beside the commonest class everywhere {{}} has {numbers}.", name)]
    return [claim(f"{{}} beats the commonest class everywhere: {numbers}.", name)]


def caveats(results: Results) -> list[Claim]:
    """What the comparison does not show, and what is missing to show it."""
    if results.verdict is not None and comparable(results):
        return [_scope_claim(results.verdict)]
    verdict = None if results.answer is None else results.answer.verdict
    if verdict in (None, Verdict.SAME) or not comparable(results):
        return []
    why = escape(f" ({results.unconfirmed})" if results.unconfirmed else "")
    missing = "it is a candidate: what is missing is both configurations trained with fresh seeds{}. To add them: {}"
    if verdict is Verdict.CHOSEN_HERE:
        text = f"Val chose it, so its score here flatters it and proves nothing; {missing}"
    else:
        turned = "reverse it" if verdict in (Verdict.HIGHER, Verdict.LOWER) else "change that"
        text = f"This is about these two checkpoints only, and another seed may {turned}; {missing}"
    return [claim(text, why, code(commands.confirm(results.run_dir)))]


def other_claims(results: Results) -> list[Claim]:
    """What else can be said, each sentence at its own level."""
    ranks = [] if not comparable(results) else [*_stages_claim(results), *_rank_claim(results)]
    if results.verdict is not None and comparable(results) and results.split != "val":
        ranks.insert(0, _comparison_claim(results))
    above = [] if at_floor(results) else _floor_claim(results)
    return [*above, *ranks, *_refit_claim(results), *_failure_claim(results), _openings_claim(results)]


def _verdict_claim(results: Results, verdict: SeedVerdict) -> Claim:
    """What fresh seeds showed on the split."""
    leading = verdict.of(verdict.leading.name)
    text = sentence(verdict, results.objective, {leading.trial_id: "{}"})
    return claim(f"On {verdict.split}, {text}.", _named_changes(results, leading), evidence=Evidence.FRESH_SEEDS)


def trade_off_claim(results: Results) -> Claim | None:
    """What the best by the first objective costs by the others; None where there is one objective alone."""
    if results.trade_off is None:
        return None
    without = [point.trial_id for point in results.trade_off.points if point.published in results.dead]
    told = pareto.sentence(results.trade_off, results.objectives, without=without)
    if results.split == "val":
        rests = pareto.evidence(results.trade_off, results.objectives, results.verdict, without=without)
    else:
        rests = "one checkpoint each, as val chose them"
    level = Evidence.FRESH_SEEDS if "fresh seeds" in rests else Evidence.ONE_CHECKPOINT
    return claim("On {}, {} ({}).", *map(escape, (results.split, told, rests)), evidence=level)


def _named_changes(results: Results, configuration: Confirmed) -> Markup:
    """A configuration by its label, and what it changes against the baseline."""
    flat = {row["trial_id"]: flat_configuration(row) for _, row in results.trials.iterrows()}
    first = results.verdict.configurations[0].trial_id if results.verdict else ""
    told = tell_changes(changes(flat[configuration.trial_id], flat[first], first=chief_keys(results.manifest.space)))
    return Markup("{} ({})").format(bold(configuration.label), told)


def _scope_claim(verdict: SeedVerdict) -> Claim:
    """What the verdict takes into account, and what it does not."""
    images = (
        f"seeds and images are both accounted for ({verdict.unit_count} {verdict.units} were left out in turn)"
        if verdict.unit_count
        else "seeds are accounted for, images are not: other images may change it"
    )
    if verdict.looks > 1:
        images += f", and so is that it was looked at {verdict.looks} times, each time with other seeds"
    picked = counted(verdict.chosen_from or 0, "configuration")
    if verdict.chosen_from is None and verdict.split == "val":
        text = f"This is about configurations: {images}. None was picked for its score."
    elif verdict.chosen_from is not None and not verdict.counts_images:
        text = f"Val picked from {picked} on these images. The test split decides."
    elif verdict.chosen_from is None:
        text = f"This is about configurations, not about two checkpoints: {images}, and this split chose nothing."
    else:
        text = (
            f"This is about configurations: {images}, and so is that val picked from {picked}. "
            "The test split, which picked nothing, decides."
        )
    return claim(text, evidence=Evidence.FRESH_SEEDS)


def comparable(results: Results) -> bool:
    """Whether winner and baseline both learnt something."""
    answer = results.answer
    return answer is None or not {answer.winner, answer.baseline} & set(results.dead)


def all_dead(results: Results) -> bool:
    """Whether no label learnt anything."""
    return all(label in results.dead for label in results.labels)


def _tiles(results: Results) -> list[tuple[str, str, str]]:
    """Name, number and remark of the figures that the page opens with."""
    scores = {row["label"]: row for row in results.comparison.to_dict("records")}
    answer, metric, words = results.answer, results.objective.metric.name, results.objective.metric.words
    is_same = answer is not None and answer.verdict is Verdict.SAME
    tiles = []
    for label in (BASELINE,) if is_same else (BEST, BASELINE):
        if label in results.labels:
            row, name = scores[label], results.told(label)
            interval = interval_text(row[f"{metric}_low"], row[f"{metric}_high"])
            in_tables = "" if name == label else f", \u201c{label}\u201d in the tables"
            tiles.append((f"{words} of {name}", f"{row[metric]:.3f}", interval + in_tables))
    if results.verdict is not None and comparable(results):
        leading = results.verdict.leading
        sign = results.objective.goodness(1.0)
        low, high = sorted((sign * leading.low, sign * leading.high))
        under = f"{interval_text(low, high, sign='+')}, {leading.seeds} seeds"
        tiles.append(("difference over seeds", f"{sign * leading.difference:+.3f}", under))
    elif answer is not None and answer.verdict not in (Verdict.SAME, Verdict.CHOSEN_HERE) and comparable(results):
        interval = interval_text(answer.low, answer.high, sign="+")
        tiles.append(("difference of these two", f"{answer.difference:+.3f}", f"{interval}, same images"))
    if MAJORITY in scores:
        tiles.append(("commonest class everywhere", f"{scores[MAJORITY][metric]:.3f}", f"{words}, the floor"))
    if BEST in results.labels:
        count = int((results.failures["label"] == BEST).sum())
        name = results.told(BEST)
        tiles.append((f"failures of {name}", f"{count:,}", f"on {count_images(results)} {results.split} images"))
    return tiles


def _dead_claims(results: Results) -> list[Claim]:
    """One sentence for each reason; labels that are dead for the same one are named together."""
    by_class: dict[int | None, list[str]] = {}
    claims = []
    for label, dead in results.dead.items():
        if dead.losses is None:
            by_class.setdefault(dead.only_class, []).append(label)
        else:
            text = (
                f"{{}} is dead: its training loss never fell; it was {dead.losses[0]:.4g} in the first epoch and "
                f"{dead.losses[1]:.4g} at the lowest after it."
            )
            claims.append(claim(text, bold(label), evidence=Evidence.RECORD))
    for only_class, labels in by_class.items():
        many = len(labels) > 1
        who = f"{{}} {'are' if many else 'is'} dead"
        if only_class is None:
            floor = results.dead[labels[0]].floor
            text = (
                f"{who}: {'their' if many else 'its'} mIoU on {results.split} is at most {DEAD_MARGIN:g} above "
                f"{floor:.3f}, which is what the commonest class everywhere reaches."
            )
            claims.append(claim(text, bold_names(labels)))
        else:
            text = f"{who}: {'they predict' if many else 'it predicts'} \u201c{{}}\u201d everywhere on {results.split}."
            claims.append(claim(text, bold_names(labels), escape(results.classes[only_class].name)))
    return claims


def _comparison_claim(results: Results) -> Claim:
    """The winner beside the baseline, as two checkpoints and no more; on val, which chose it, nothing is concluded."""
    answer = results.answer
    if answer is None:
        missing = [label for label in (BASELINE, BEST) if label not in results.labels]
        return claim(
            "No comparison of {} and {}: there is no finished checkpoint for {}.",
            *(bold(BEST), bold(BASELINE), bold_names(missing)),
            evidence=Evidence.RECORD,
        )
    words, baseline = answer.objective.metric.words, bold(answer.baseline)
    if answer.verdict is Verdict.SAME:
        text = (
            f"{{}} is the baseline's own configuration, so nothing is compared: {{}} reaches {words} "
            f"{answer.baseline_score:.3f} on {results.split}."
        )
        return claim(text, bold(answer.winner), baseline)
    winner, luck = _configuration(results, answer), _luck(results)
    if answer.verdict is Verdict.CHOSEN_HERE:
        text = (
            f"{{}} is a candidate, {luck}: {words} {answer.winner_score:.3f} there, {{}} {answer.baseline_score:.3f} "
            f"({answer.difference:+.3f})."
        )
        return claim(text, winner, baseline)
    groups = f" ({answer.unit_count} groups)" if answer.units == "groups" else ""
    text = f"On these {count_images(results)} {results.split} images{groups}, {_tell_verdict(answer, luck)}."
    return claim(text, winner, baseline, escape(answer.why_none))


def _tell_verdict(answer: Answer, luck: str) -> str:
    """What the interval of the difference allows to say, with braces for the winner and for the baseline."""
    low, high = answer.low, answer.high
    if answer.verdict is Verdict.LOWER:
        low, high = -high, -low
    scores = f"{answer.objective.metric.words} {answer.winner_score:.3f} against {answer.baseline_score:.3f}"
    if answer.verdict in (Verdict.HIGHER, Verdict.LOWER):
        return (
            f"this checkpoint of {{}}, {luck}, scores {answer.verdict.name.lower()} than that of {{}} by "
            f"{abs(answer.difference):.3f} [{low:.3f}, {high:.3f}]: {scores}"
        )
    if answer.verdict is Verdict.UNDECIDED:
        return (
            f"the checkpoint of {{}}, {luck}, and that of {{}} cannot be told apart: {scores}, a difference of "
            f"{answer.difference:+.3f} whose interval [{low:+.3f}, {high:+.3f}] holds 0"
        )
    return (
        f"the checkpoint of {{}}, {luck}, stands beside that of {{}} with {scores}; the difference has no interval: "
        f"{{}}"
    )


def _configuration(results: Results, answer: Answer) -> Markup:
    """The winner by name, and what it changes against the baseline."""
    configs = [results.labels[label].config.flat() for label in (answer.winner, answer.baseline)]
    told = tell_changes(changes(*configs, first=chief_keys(results.manifest.space)))
    return Markup("{} ({})").format(bold(results.told(answer.winner)), told)


def _luck(results: Results) -> str:
    """Of how many the winner is the one that val liked most."""
    if results.verdict is not None:
        return f"the best of {len(results.verdict.configurations)} configurations by the mean over fresh seeds on val"
    return count_candidates(results.trials).best()


def _stages_claim(results: Results) -> list[Claim]:
    """The winner's score when val chose it, over fresh seeds, and on test, beside the baseline's: how far it fell."""
    told = results.stages
    if len(told) < 2 or results.answer is None or results.answer.same_configuration:
        return []
    words, winner = results.objective.metric.words, bold(results.told(BEST))
    own = ", ".join(f"{one.winner:.3f} {one.where}" for one in told)
    base = ", ".join(f"{one.baseline:.3f}" for one in told)
    evidence = Evidence.FRESH_SEEDS if any(one.seeds > 1 for one in told) else Evidence.ONE_CHECKPOINT
    text = f"{words} of {{}}: {own}; of {{}} at the same times: {base}."
    return [claim(text, winner, bold(BASELINE), evidence=evidence)]


def _rank_claim(results: Results) -> list[Claim]:
    answer = results.answer
    if answer is None or answer.chosen_here:
        return []
    val, split = answer.val_ranks, answer.split_ranks
    above = [label for label in split if split[label] < split.get(answer.winner, 0)]
    if above:
        text = (
            f"On {results.split}, {{}} {'stand' if len(above) > 1 else 'stands'} above {{}}; the winner was chosen on "
            "val and stays."
        )
        return [claim(text, bold_names(above), bold(results.told(answer.winner)))]
    if len(val) > 2 and all(split.get(label) == rank for label, rank in val.items()):
        return [claim(f"The labels stand in the same order on {results.split} as on val.")]
    return []


def _refit_claim(results: Results) -> list[Claim]:
    """What became of training the winner again on train and val."""
    if not results.refit:
        return []
    return [claim("{}.", escape(results.refit), evidence=Evidence.RECORD)]


def _failure_claim(results: Results) -> list[Claim]:
    label = BEST if BEST in results.labels else next(iter(results.labels))
    failures = results.failures[results.failures["label"] == label]
    if failures.empty:
        return []
    dominant = failures["causes"].map(causes_of).str[0].map(cause_kind).value_counts()
    return [
        claim(
            f"{{}} fails on {len(failures):,} (image, class) regions; the commonest dominant cause is "
            f"\u201c{{}}\u201d ({int(dominant.iloc[0]):,}).",
            *(bold(results.told(label)), escape(name_cause(str(dominant.index[0])))),
        )
    ]


def _openings_claim(results: Results) -> Claim:
    times = {0: "not been opened", 1: "been opened once"}.get(results.openings, f"been opened {results.openings} times")
    return claim(
        f"The test split has {times} so far by the runs of this folder; what is chosen after an opening is chosen by "
        "test, too.",
        evidence=Evidence.RECORD,
    )
