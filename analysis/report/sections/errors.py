"""What the errors are: the mIoU that each label loses, by type of error, and which components fail."""

from __future__ import annotations

import pandas as pd
from markupsafe import escape
from matplotlib.figure import Figure

from analysis.colours import light
from analysis.failures.kinds import kinds_text
from analysis.failures.names import BY_WORDS, ErrorType
from analysis.measured import Measured
from analysis.report.drawing import FIGURES, Drawing, drawn_once, empty_figure, name_rows
from analysis.report.page import SECTIONS, Claim, Material, Section, bold, claim, render_section
from analysis.report.tables import readable
from trainables.labels import BASELINE, BEST

LEAST_LOST = 0.01
"""A label that loses less of its mIoU than this has no sentence about how."""
NAMED_SHARE = 0.15
"""A type is named in a sentence about a label from this share of what the label loses."""
CLASS_LOST = 0.1
CLASS_SHARE = 0.5
"""A class is named where it loses at least `CLASS_LOST` of its IoU, at least `CLASS_SHARE` of that to one type."""
MOST_CLASSES = 3
"""Classes that are named at most, those that lose most first."""
LEAST_COMPONENTS = 10
COMPONENT_SHARE = 1 / 3
"""Fewer failing components, or a smaller share of one type, are no rule."""
SHOWN_CLASSES = 25
"""Bars of classes at most; those that lose most."""

GROUPS: tuple[tuple[str, tuple[ErrorType, ...], str], ...] = (
    ("missed component", (ErrorType.MISSED,), f"series-{BEST}"),
    ("wrong class", (ErrorType.WRONG_WHOLE, ErrorType.WRONG_PART), "series-1"),
    ("confused area", (ErrorType.CONFUSED,), "series-4"),
    ("boundary", (ErrorType.BOUNDARY,), f"series-{BASELINE}"),
    ("under-extent, split", (ErrorType.UNDER, ErrorType.SPLIT), "series-5"),
    ("over-extent, merged", (ErrorType.OVER, ErrorType.MERGED), "series-2"),
    ("invented component", (ErrorType.INVENTED,), "series-6"),
)
"""How figures put types together, and their colours."""


@SECTIONS.register("errors")
def errors_section(material: Material) -> Section | None:
    """What the errors are, in sentences, figures and a table of all labels."""
    results = material.measured
    if results.error_types["pixels"].sum() == 0:
        return None
    return render_section(
        "errors",
        "What the errors are",
        material.measured.evidence,
        claims=error_claims(results),
        kinds=kinds_text([info.name for info in results.classes], results.kinds),
        figure=material.figures.get("error_types"),
        of_classes=material.figures.get("error_types_of_classes"),
        content=readable(results.error_types),
        split=results.split,
        tables=material.tables,
    )


def error_claims(results: Measured) -> list[Claim]:
    """What the winner loses most by; nothing where it is too little to say."""
    label = results.chief
    of_label = results.error_types[results.error_types["label"] == label]
    lost = float(of_label["lost_iou"].sum())
    if lost < LEAST_LOST:
        return []
    name = bold(results.told(label))
    chief = of_label[of_label["share"] >= NAMED_SHARE].sort_values("share", ascending=False)
    claims = []
    if len(chief):
        told = [f"{BY_WORDS[str(row.type)].plural} {row.lost_iou:.3f} ({row.share:.0%})" for row in chief.itertuples()]
        rest = 1 - float(chief["share"].sum())
        others = f"; all other types together {rest * lost:.3f} ({rest:.0%})" if rest > 0 else ""
        claims.append(
            claim(
                f"{{}} lacks {lost:.3f} of a perfect mIoU: {', '.join(told)}{others}.", name, evidence=results.evidence
            )
        )
    return [*claims, *_class_claims(results, label), *_component_claims(results, label)]


def _class_claims(results: Measured, label: str) -> list[Claim]:
    frame = results.error_types_per_class
    frame = frame[frame["label"] == label]
    losses = frame.groupby("class", sort=False)["lost_iou"].sum()
    chief = frame[(frame["share"] >= CLASS_SHARE) & (frame["class"].map(losses) >= CLASS_LOST)]
    chief = chief.sort_values("lost_iou", ascending=False)[:MOST_CLASSES]
    return [
        claim(
            f"{{}} loses {losses[row['class']]:.3f} of its IoU, {row['share']:.0%} of that to {{}}.",
            bold(row["class"]),
            escape(BY_WORDS[row["type"]].plural),
            evidence=results.evidence,
        )
        for row in chief.to_dict("records")
    ]


def _component_claims(results: Measured, label: str) -> list[Claim]:
    frame = results.component_failures
    frame = frame[(frame["label"] == label) & (frame["source"] == "truth")]
    if len(frame) < LEAST_COMPONENTS:
        return []
    chief = frame[frame["type"] == frame["type"].value_counts().index[0]]
    if len(chief) < COMPONENT_SHARE * len(frame):
        return []
    return [
        claim(
            f"{len(frame):,} connected components of the truth have too low an IoU, {len(chief):,} of them mostly by "
            f"{{}}; half of these cover less than {100 * chief['area_fraction'].median():.2g}% of their image.",
            escape(BY_WORDS[chief["type"].iloc[0]].plural),
            evidence=results.evidence,
        )
    ]


@FIGURES.register("error_types")
def draw_error_types(results: Measured) -> Drawing | None:
    """What each label loses of its mIoU, by type: one stacked bar per label."""
    frame = results.error_types
    if frame["pixels"].sum() == 0:
        return None
    table = frame.pivot_table(index="label", columns="type", values="lost_iou", sort=False)
    names = {label: name for label, name in reversed(drawn_once(results).items()) if label in table.index}
    table = table.loc[list(names)].rename(index=names)
    return Drawing(
        _stacked_bars(table, f"mIoU lost on {results.split} (1 - mIoU)"),
        f"What each label lacks of a perfect mIoU on {results.split}, by type of error; each wrong pixel has one type.",
    )


@FIGURES.register("error_types_of_classes")
def draw_class_error_types(results: Measured) -> Drawing | None:
    """What the winner loses of each class's IoU, by type: one stacked bar per class, the largest loss on top."""
    label = results.chief
    frame = results.error_types_per_class
    frame = frame[frame["label"] == label]
    if frame.empty:
        return None
    table = frame.pivot_table(index="class", columns="type", values="lost_iou", sort=False).fillna(0)
    losses = table.sum(axis=1).sort_values(kind="stable")
    table = table.loc[losses.index[-SHOWN_CLASSES:]]
    left_out = len(losses) - len(table)
    caption = f"What {label} lacks of each class's IoU on {results.split}, by type of error"
    if left_out:
        caption += f"; the {SHOWN_CLASSES} classes that lose most, {left_out} others are in the table"
    return Drawing(_stacked_bars(table, f"IoU of the class lost on {results.split}"), f"{caption}.")


def _stacked_bars(table: pd.DataFrame, words: str) -> Figure:
    figure = empty_figure(1.2 + 0.3 * len(table))
    axes = figure.add_subplot()
    left = pd.Series(0.0, index=table.index)
    for name, types, color in GROUPS:
        width = sum((table[error.words] for error in types if error.words in table), start=left * 0)
        axes.barh(range(len(table)), width, 0.72, left=left, color=light(color), label=name)
        left = left + width
    name_rows(axes, [str(name) for name in table.index])
    axes.set_xlabel(words)
    axes.set_xlim(0, max(0.01, float(left.max()) * 1.02))
    axes.set_ylim(-0.6, len(table) - 0.4)
    handles, names = axes.get_legend_handles_labels()
    figure.legend(handles, names, loc="outside upper left", ncols=4)
    return figure
