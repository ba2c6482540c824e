"""The sections of the report: one registered function a section, from what was measured to a fragment of the page.

Every sentence that claims something carries the level of evidence that it rests on, and nothing is claimed above it.
"""

from __future__ import annotations

import functools
import shlex
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any

import jinja2
import pandas as pd
from markupsafe import Markup, escape

from analysis.candidates import changes, count_candidates, show_value, tell_changes
from analysis.colours import ELSEWHERE, HIT, INVENTED, MISSED, hexadecimal
from analysis.comparison import DEAD_MARGIN, METRICS, Answer, Verdict
from analysis.evaluate import MAJORITY
from analysis.export import readable
from analysis.failures import CAUSES, cause_kind
from analysis.figures import SavedFigure, name_cause
from analysis.gallery import Gallery
from analysis.parts import FailedPart, Parts
from analysis.results import BASELINE, BEST, Results, chief_keys
from search_spaces.space import When
from trainables import commands
from trainables.registry import Registry

TEMPLATES = Path(__file__).parent / "templates"


class Evidence(Enum):
    """What a statement rests on."""

    RECORD = "on record"
    """What the run wrote down: no inference."""
    ONE_CHECKPOINT = "one checkpoint each"
    """Holds for these weights; another seed may turn it round."""
    FRESH_SEEDS = "fresh seeds"
    """Holds for configurations: five or more seeds each."""
    ABLATION = "ablation"
    """Holds for a component of a configuration."""


@dataclass(frozen=True)
class Claim:
    """One sentence, its names escaped and in bold, and its level."""

    text: Markup
    evidence: Evidence


@dataclass(frozen=True)
class Section:
    """A part of the page.

    Attributes:
        title: Heading.
        html: The content, escaped already.
        anchor: Unique on the page; letters and hyphens.
        evidence: Level of what the section shows as a whole.
    """

    title: str
    html: Markup
    anchor: str
    evidence: Evidence


@dataclass(frozen=True)
class Material:
    """What sections are made from: results, and what was drawn of them."""

    results: Results
    figures: Mapping[str, SavedFigure | FailedPart]
    gallery: Gallery | FailedPart


SECTIONS: Registry[Callable[[Material], Section | None]] = Registry("section")
"""Functions `Material -> Section`, or None where there is nothing to show; the page has them in this order."""


def build_sections(material: Material, parts: Parts) -> list[Section]:
    """Every registered section that has something to show, in the order of registration; a card for one that raises."""
    sections: list[Section] = []
    for name in SECTIONS:
        made = parts.make(f"section {name}", functools.partial(SECTIONS.get(name), material))
        if isinstance(made, FailedPart):
            made = Section(name.capitalize(), _card(made), name, Evidence.RECORD)
        if made is not None:
            sections.append(made)
    return sections


@functools.cache
def environment() -> jinja2.Environment:
    """Templates with autoescape on; an undefined name is an error."""
    return jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


@SECTIONS.register("answer")
def answer_section(material: Material) -> Section:
    """The answer in words, numbers first, with what a reader must know before believing it."""
    results = material.results
    return _section(
        "answer",
        "Answer",
        Evidence.ONE_CHECKPOINT,
        leads=lead_claims(results),
        caveats=caveats(results),
        claims=other_claims(results),
        tiles=_tiles(results),
        notes=results.notes,
        figure=material.figures.get("comparison"),
    )


@SECTIONS.register("comparison")
def comparison_section(material: Material) -> Section:
    """Every label's metrics with intervals, and what each label is."""
    results = material.results
    scores = [f"{name}{end}" for name in METRICS for end in ("", "_low", "_high")]
    return _section(
        "comparison",
        "Comparison",
        Evidence.ONE_CHECKPOINT,
        split=results.split,
        scores=readable(results.comparison[["label", *scores]]),
        identity=readable(results.comparison.drop(columns=scores)),
        objective=results.objective,
        seeds=readable(results.seeds),
    )


@SECTIONS.register("curves")
def curves_section(material: Material) -> Section | None:
    """How every trial developed on val."""
    if "curves" not in material.figures:
        return None
    return _section("curves", "Training curves", Evidence.ONE_CHECKPOINT, figure=material.figures["curves"])


@SECTIONS.register("thresholds")
def thresholds_section(material: Material) -> Section:
    """Regions against the IoU threshold."""
    return _section(
        "thresholds",
        "IoU thresholds",
        Evidence.ONE_CHECKPOINT,
        figure=material.figures.get("thresholds"),
        content=readable(material.results.iou_thresholds),
    )


@SECTIONS.register("classes")
def classes_section(material: Material) -> Section:
    """Each class: IoU by label, and what it is taken for."""
    return _section(
        "classes",
        "Classes",
        Evidence.ONE_CHECKPOINT,
        dots=material.figures.get("per_class"),
        confusion=material.figures.get("confusion"),
        content=readable(material.results.per_class),
    )


@SECTIONS.register("failures")
def failures_section(material: Material) -> Section:
    """The gallery of failures."""
    results, gallery = material.results, material.gallery
    if isinstance(gallery, FailedPart):
        return Section("Failures", _card(gallery), "failures", Evidence.RECORD)
    kinds = {kind for row in gallery.rows for kind in row["kinds"]}
    in_order = [name for cause in CAUSES if (name := name_cause(cause)) in kinds]
    return _section(
        "failures",
        "Failures",
        Evidence.ONE_CHECKPOINT,
        figure=material.figures.get("causes"),
        rows=len(gallery.rows),
        embedded=gallery.embedded,
        pictured=sum(bool(row["picture"]) for row in gallery.rows),
        files=gallery.files,
        failing=gallery.failing,
        split=results.split,
        labels=[label for label in results.labels if any(row["label"] == label for row in gallery.rows)],
        classes=[info.name for info in results.classes if any(row["class"] == info.name for row in gallery.rows)],
        kinds=in_order + sorted(kinds - set(in_order)),
        legend=[
            ("hit", hexadecimal(HIT)),
            ("missed (false negative)", hexadecimal(MISSED)),
            ("invented (false positive)", hexadecimal(INVENTED)),
            ("elsewhere", hexadecimal(ELSEWHERE)),
        ],
        colors=[(info.name, hexadecimal(info.color)) for info in results.classes],
        data={
            "rows": gallery.rows,
            "images": gallery.images,
            "predictions": gallery.predictions,
            "colors": {info.name: hexadecimal(info.color) for info in results.classes},
        },
    )


@SECTIONS.register("run")
def run_section(material: Material) -> Section:
    """What was run, in enough detail to run it again."""
    results = material.results
    manifest = results.manifest
    configs = {label: record.config.flat() for label, record in results.labels.items()}
    return _section(
        "run",
        "What was run",
        Evidence.RECORD,
        command=shlex.join(manifest.command),
        report_command=commands.report(results.run_dir, "--split", results.split),
        differences=differences(configs),
        configs=configs,
        hyperparameters=material.figures.get("hyperparameters"),
        space_name=manifest.space["name"],
        space_description=manifest.space.get("description") or "",
        space=readable(space_frame(manifest.space.get("parameters", ()))),
        splits=readable(splits_frame(manifest.data.get("splits", {}))),
        facts=run_facts(results),
        versions=manifest.versions,
        trials=readable(results.trials),
        states=_count_states(results.trials),
        cost=readable(results.cost),
    )


def lead_claims(results: Results) -> list[Claim]:
    """What the page opens with: labels that learnt nothing, then the winner beside the baseline."""
    dead = _dead_claims(results)
    if all_dead(results):
        return [*dead, _claim("No label learnt anything, so nothing is compared.")]
    return [*dead, _comparison_claim(results)]


def caveats(results: Results) -> list[Claim]:
    """What the comparison does not show, and what is missing to show it."""
    verdict = None if results.answer is None else results.answer.verdict
    if verdict in (None, Verdict.SAME) or all_dead(results):
        return []
    fresh = "both configurations trained with fresh seeds"
    if verdict is Verdict.CHOSEN_HERE:
        return [
            _claim(
                "Val chose it, so its score here flatters it and proves nothing. What is missing is other images (the "
                f"test split) and {fresh}."
            )
        ]
    turned = "turn it round" if verdict in (Verdict.HIGHER, Verdict.LOWER) else "change that"
    text = f"This speaks of these two checkpoints only; another seed may {turned}. What is missing is {fresh}."
    return [_claim(text)]


def other_claims(results: Results) -> list[Claim]:
    """What else can be said, each sentence at its own level."""
    ranks = [] if all_dead(results) else [*_val_claim(results), *_rank_claim(results)]
    return [*ranks, *_failure_claim(results), _openings_claim(results)]


def all_dead(results: Results) -> bool:
    """Whether no label learnt anything."""
    return all(label in results.dead for label in results.labels)


def told_name(results: Results, label: str) -> str:
    """What sentences call a label: `best`, which is a mere name, by the label of the trial that won."""
    if label != BEST or label not in results.labels:
        return label
    own = results.trials.loc[results.trials["trial_id"] == results.labels[label].trial_id, "label"]
    return (str(own.iloc[0]) if len(own) else "") or label


def differences(configs: Mapping[str, Mapping[str, Any]]) -> tuple[list[str], list[tuple[str, list[str]]]]:
    """Configuration keys in which the labels differ.

    Args:
        configs: Flat configuration by label, the reference first.

    Returns:
        The labels, and for each differing key its values in their order; `-` where a label does not have the key.
    """
    labels = list(configs)
    keys = dict.fromkeys(key for config in configs.values() for key in config)
    rows = []
    for key in keys:
        values = [show_value(configs[label][key]) if key in configs[label] else "-" for label in labels]
        if len(set(values)) > 1:
            rows.append((key, values))
    return labels, rows


def space_frame(parameters: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """The compiled space as a table: key, range or choices, scale, role, condition, reason."""
    columns = ["key", "range", "scale", "role", "when", "reason"]
    rows = []
    for parameter in parameters:
        if parameter.get("choices"):
            range_ = ", ".join(show_value(choice) for choice in parameter["choices"])
        else:
            range_ = f"{show_value(parameter.get('low'))} .. {show_value(parameter.get('high'))}"
            if parameter.get("step"):
                range_ += f", step {show_value(parameter['step'])}"
        scale = "" if parameter.get("choices") else "log" if parameter.get("log") else "linear"
        when = " and ".join(str(When(w["key"], tuple(w["values"]), w["above"])) for w in parameter.get("when") or ())
        rows.append([parameter["key"], range_, scale, parameter["role"], when, parameter.get("reason") or ""])
    return pd.DataFrame(rows, columns=columns)


def splits_frame(splits: Mapping[str, Mapping[str, Any]]) -> pd.DataFrame:
    """Images and content hash of each split."""
    rows = [[name, split.get("images"), str(split.get("hash", ""))] for name, split in splits.items()]
    return pd.DataFrame(rows, columns=["split", "images", "sha256"])


def run_facts(results: Results) -> list[tuple[str, str]]:
    """Data, budget and machine as pairs of name and value."""
    manifest = results.manifest
    budget, hardware, resources, execution = manifest.budget, manifest.hardware, manifest.resources, manifest.execution
    return [
        ("Started", manifest.created),
        ("Data", f"{manifest.data['name']}, {len(results.classes)} classes"),
        ("Splits", str(manifest.data.get("origin") or "")),
        ("Objective", f"{manifest.objective} ({manifest.mode})"),
        ("Sampler, scheduler", f"{budget.get('sampler')}, {budget.get('scheduler')}"),
        ("Budget", f"{budget.get('trials')} trials of up to {budget.get('max_epochs')} epochs"),
        ("Concurrent trials", str(budget.get("concurrent"))),
        ("Seed", str(manifest.seed)),
        (
            "A trial's share",
            f"{resources.get('cpus_per_trial')} CPU, {resources.get('gpus_per_trial')} GPU, "
            f"{execution.get('threads')} threads",
        ),
        ("Precision", f"{execution.get('precision')} on {execution.get('device')}"),
        ("Machine", f"{hardware.get('cpu')}, {hardware.get('cores')} cores, {hardware.get('memory_gib')} GiB"),
        ("GPUs", ", ".join(hardware.get("gpus") or ()) or "none"),
        ("Platform", str(hardware.get("platform"))),
    ]


def _card(part: FailedPart) -> Markup:
    """What stands in the place of a part that could not be made."""
    module: Any = environment().get_template("macros.html").module
    return Markup(module.failed(part))


def _section(name: str, title: str, evidence: Evidence, **content: Any) -> Section:
    html = environment().get_template(f"section_{name}.html").render(**content)
    return Section(title, Markup(html), name, evidence)


def _tiles(results: Results) -> list[tuple[str, str, str]]:
    """Name, number and remark of the figures that the page opens with."""
    scores = {row["label"]: row for row in results.comparison.to_dict("records")}
    answer, metric, words = results.answer, results.objective.column, results.objective.words
    is_same = answer is not None and answer.verdict is Verdict.SAME
    tiles = []
    for label in (BASELINE,) if is_same else (BEST, BASELINE):
        if label in results.labels:
            row, name = scores[label], told_name(results, label)
            interval = _interval(row[f"{metric}_low"], row[f"{metric}_high"])
            in_tables = "" if name == label else f", \u201c{label}\u201d in the tables"
            tiles.append((f"{words} of {name}", f"{row[metric]:.3f}", interval + in_tables))
    if answer is not None and answer.verdict not in (Verdict.SAME, Verdict.CHOSEN_HERE) and not all_dead(results):
        interval = _interval(answer.low, answer.high, sign="+")
        tiles.append(("difference of these two", f"{answer.difference:+.3f}", f"{interval}, same images"))
    if MAJORITY in scores:
        tiles.append(("commonest class everywhere", f"{scores[MAJORITY][metric]:.3f}", f"{words}, the floor"))
    if BEST in results.labels:
        count = int((results.failures["label"] == BEST).sum())
        name = told_name(results, BEST)
        tiles.append((f"failures of {name}", f"{count:,}", f"on {_images(results)} {results.split} images"))
    return tiles


def _interval(low: float, high: float, *, sign: str = "") -> str:
    return "no interval" if pd.isna(low) or pd.isna(high) else f"95% [{low:{sign}.3f}, {high:{sign}.3f}]"


def _images(results: Results) -> int:
    return int(results.comparison["images"].iloc[0])


def _claim(text: str, *names: Markup, evidence: Evidence = Evidence.ONE_CHECKPOINT) -> Claim:
    """A claim from a text of this file and names from elsewhere, one for each pair of braces."""
    return Claim(Markup(text).format(*names), evidence)


def _name(text: str) -> Markup:
    return Markup("<b>{}</b>").format(text)


def _names(texts: Sequence[str]) -> Markup:
    *others, last = map(_name, texts)
    return Markup(" and ").join([Markup(", ").join(others), last]) if others else last


def _dead_claims(results: Results) -> list[Claim]:
    """One sentence for each reason; labels that are dead for the same one stand together."""
    by_class: dict[int | None, list[str]] = {}
    for label, dead in results.dead.items():
        by_class.setdefault(dead.only_class, []).append(label)
    claims = []
    for only_class, labels in by_class.items():
        many = len(labels) > 1
        who = f"{{}} {'are' if many else 'is'} dead"
        if only_class is None:
            floor = results.dead[labels[0]].floor
            text = (
                f"{who}: {'their' if many else 'its'} mIoU on {results.split} is at most {DEAD_MARGIN:g} above "
                f"{floor:.3f}, which is what the commonest class everywhere reaches."
            )
            claims.append(_claim(text, _names(labels)))
        else:
            text = f"{who}: {'they predict' if many else 'it predicts'} \u201c{{}}\u201d everywhere on {results.split}."
            claims.append(_claim(text, _names(labels), escape(results.classes[only_class].name)))
    return claims


def _comparison_claim(results: Results) -> Claim:
    """The winner beside the baseline, as two checkpoints and no more; on val, which chose it, nothing is concluded."""
    answer = results.answer
    if answer is None:
        missing = [label for label in (BASELINE, BEST) if label not in results.labels]
        return _claim(
            "No comparison of {} and {}: there is no finished checkpoint for {}.",
            *(_name(BEST), _name(BASELINE), _names(missing)),
            evidence=Evidence.RECORD,
        )
    words, baseline = answer.objective.words, _name(answer.baseline)
    if answer.verdict is Verdict.SAME:
        text = (
            f"{{}} is the baseline's own configuration, so nothing is compared: {{}} reaches {words} "
            f"{answer.baseline_score:.3f} on {results.split}."
        )
        return _claim(text, _name(answer.winner), baseline)
    winner, luck = _configuration(results, answer), _luck(results)
    if answer.verdict is Verdict.CHOSEN_HERE:
        text = f"{{}} is {luck}: {words} {answer.winner_score:.3f} there, {{}} {answer.baseline_score:.3f}."
        return _claim(text, winner, baseline)
    groups = f" ({answer.unit_count} groups)" if answer.units == "groups" else ""
    text = f"On these {_images(results)} {results.split} images{groups}, {_tell_verdict(answer, luck)}."
    return _claim(text, winner, baseline)


def _tell_verdict(answer: Answer, luck: str) -> str:
    """What the interval of the difference allows to say, with braces for the winner and for the baseline."""
    low, high = answer.low, answer.high
    if answer.verdict is Verdict.LOWER:
        low, high = -high, -low
    scores = f"{answer.objective.words} {answer.winner_score:.3f} against {answer.baseline_score:.3f}"
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
        f"the checkpoint of {{}}, {luck}, stands beside that of {{}} with {scores}; {answer.unit_count} {answer.units} "
        "are too few for an interval of the difference"
    )


def _configuration(results: Results, answer: Answer) -> Markup:
    """The winner by name, and what it changes against the baseline."""
    configs = [results.labels[label].config.flat() for label in (answer.winner, answer.baseline)]
    told = tell_changes(changes(*configs, first=chief_keys(results.manifest)))
    return Markup("{} ({})").format(_name(told_name(results, answer.winner)), told)


def _luck(results: Results) -> str:
    """Of how many the winner is the one that val liked most."""
    found = count_candidates(results.trials)
    if found.configurations == found.trials:
        return f"the luckiest of {found.trials} trials on val, one seed each"
    return (
        f"the luckiest of {found.configurations} configurations on val, by the mean over the seeds of each "
        f"({found.trials} trials)"
    )


def _val_claim(results: Results) -> list[Claim]:
    answer = results.answer
    if answer is None or answer.verdict in (Verdict.SAME, Verdict.CHOSEN_HERE):
        return []
    key = answer.objective.key
    best, base = (results.labels[label].metrics.get(key) for label in (answer.winner, answer.baseline))
    if best is None or base is None:
        return []
    text = (
        f"On val, which chose it, {{}} had {answer.objective.words} {best:.3f} and {{}} {base:.3f} "
        f"({best - base:+.3f}); on {results.split} the difference is {answer.difference:+.3f}."
    )
    return [_claim(text, _name(told_name(results, answer.winner)), _name(answer.baseline))]


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
        return [_claim(text, _names(above), _name(told_name(results, answer.winner)))]
    if len(val) > 2 and all(split.get(label) == rank for label, rank in val.items()):
        return [_claim(f"The labels stand in the same order on {results.split} as on val.")]
    return []


def _failure_claim(results: Results) -> list[Claim]:
    label = BEST if BEST in results.labels else next(iter(results.labels))
    failures = results.failures[results.failures["label"] == label]
    if failures.empty:
        return []
    dominant = failures["causes"].str.split("; ").str[0].map(cause_kind).value_counts()
    return [
        _claim(
            f"{{}} fails on {len(failures):,} (image, class) regions; the commonest dominant cause is "
            f"\u201c{{}}\u201d ({int(dominant.iloc[0]):,}).",
            *(_name(told_name(results, label)), escape(name_cause(str(dominant.index[0])))),
        )
    ]


def _openings_claim(results: Results) -> Claim:
    times = {0: "not been opened", 1: "been opened once"}.get(results.openings, f"been opened {results.openings} times")
    return _claim(
        f"The test split has {times} so far by the runs of this folder; each opening makes its numbers a little less "
        "of a surprise.",
        evidence=Evidence.RECORD,
    )


def _count_states(trials: pd.DataFrame) -> str:
    counts = Counter(zip(trials["phase"], trials["state"], strict=True))
    return ", ".join(f"{count} {state} ({phase})" for (phase, state), count in counts.items())


def format_seconds(seconds: float) -> str:
    """Seconds as people say them.

    Example:
        >>> format_seconds(42.4), format_seconds(3700)
        ('42 s', '1 h 02 min')
    """
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"


def page_summary(results: Results) -> list[tuple[str, str]]:
    """What stands below the page's title."""
    seconds = float(results.trials["seconds"].sum())
    return [
        ("space", str(results.manifest.space["name"])),
        ("data", str(results.manifest.data["name"])),
        ("evaluated on", f"{results.split}, {_images(results)} images"),
        ("trials", f"{len(results.trials)}, {format_seconds(seconds)}"),
        ("swept", results.manifest.created[:10]),
    ]
