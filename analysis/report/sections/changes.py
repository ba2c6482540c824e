"""What the winner changed against the baseline: failures cured, new and shared, and the mIoU lost to each type."""

from __future__ import annotations

import numpy as np
import pandas as pd

from analysis.colours import light
from analysis.failures.changes import CURED, NEW, SHARED
from analysis.failures.names import BY_WORDS
from analysis.measured import Measured
from analysis.report.drawing import FIGURES, Drawing, empty_figure, name_rows, plain
from analysis.report.page import SECTIONS, Claim, Material, Section, bold, claim, render_section
from analysis.report.tables import readable
from trainables.labels import BASELINE, BEST

LEAST_COMPONENTS = 10
"""Fewer components that fail under one of the two have no sentence."""
LEAST_DIFFERENCE = 0.005
"""A type is named from this difference of the mIoU on, if its interval leaves out 0."""
MOST_TYPES = 3


@SECTIONS.register("changes")
def changes_section(material: Material) -> Section | None:
    """What the winner changed; nothing where winner and baseline are one, or one of them is missing."""
    results = material.measured
    if results.type_changes.empty:
        return None
    return render_section(
        "changes",
        "What the winner changed" if results.pair == (BASELINE, BEST) else f"What {results.pair[1]} changed",
        material.measured.evidence,
        claims=change_claims(results),
        figure=material.figures.get("type_changes"),
        counts=readable(change_counts(results.component_changes)),
        content=readable(results.type_changes),
        split=results.split,
        tables=material.tables,
        before=results.told(results.pair[0]),
        after=results.told(results.pair[1]),
        chosen=results.split == "val",
    )


def change_claims(results: Measured) -> list[Claim]:
    """Failures cured and new, and the types to which the winner loses less or more beyond chance."""
    changes = results.component_changes["change"].value_counts()
    cured, new, shared = (int(changes.get(kind, 0)) for kind in (CURED, NEW, SHARED))
    before, winner = (bold(results.told(label)) for label in results.pair)
    claims = []
    if cured + new + shared >= LEAST_COMPONENTS:
        claims.append(
            claim(
                f"Of {cured + shared:,} connected components that fail under {{}}, {{}} cures {cured:,}; {new:,} "
                "others fail under it.",
                before,
                winner,
                evidence=results.evidence,
            )
        )
    frame = results.type_changes
    beyond = (frame["difference_low"] > 0) | (frame["difference_high"] < 0)
    told = frame[beyond & (frame["difference"].abs() >= LEAST_DIFFERENCE)]
    told = told.iloc[np.argsort(-told["difference"].abs(), kind="stable")][:MOST_TYPES]
    for row in told.to_dict("records"):
        low, high = sorted(abs(row[f"difference_{side}"]) for side in ("low", "high"))
        more = "less" if row["difference"] < 0 else "more"
        claims.append(
            claim(
                f"This {results.prediction_word} of {{}} loses {abs(row['difference']):.3f} [{low:.3f}, {high:.3f}] "
                f"{more} mIoU to {BY_WORDS[row['type']].plural} than that of {{}}.",
                winner,
                before,
                evidence=results.evidence,
            )
        )
    return claims


def change_counts(changes: pd.DataFrame) -> pd.DataFrame:
    """How many components are cured, new and shared, by the type of most of their wrong pixels before (new: after)."""
    types = changes["type_before"].where(changes["change"] != NEW, changes["type_after"])
    counts = pd.crosstab(types, changes["change"]).reindex(columns=[CURED, NEW, SHARED], fill_value=0)
    order = [words for words in BY_WORDS if words in counts.index]
    return counts.loc[order].rename_axis(index="type", columns=None).reset_index()


@FIGURES.register("type_changes")
def draw_type_changes(results: Measured) -> Drawing | None:
    """How much more or less mIoU the winner loses to each type than the baseline."""
    frame = results.type_changes
    shown = frame[(frame["before"] > 0) | (frame["after"] > 0)] if len(frame) else frame
    if shown.empty:
        return None
    shown = shown.iloc[::-1]
    figure = empty_figure(1.0 + 0.27 * len(shown))
    axes = figure.add_subplot()
    axes.axvline(0, color=light("muted"), linewidth=1)
    for place, row in enumerate(shown.to_dict("records")):
        color = light(f"series-{BEST}")
        if row["difference_low"] == row["difference_low"]:
            axes.plot([row["difference_low"], row["difference_high"]], [place, place], color=color, linewidth=2.2)
        axes.plot(row["difference"], place, "o", color=color, markersize=7)
    name_rows(axes, shown["type"].tolist())
    axes.set_ylim(-0.6, len(shown) - 0.4)
    before, after = (plain(label) for label in results.pair)
    axes.set_xlabel(f"mIoU that {after} loses to it less what {before} loses, on {results.split}; left is less loss")
    intervals = (
        "" if shown["difference_low"].isna().all() else ", with intervals over images that hold all at once (95%)"
    )
    return Drawing(
        figure,
        f"What {after} loses of the mIoU to each type of error less what {before} loses to it on {results.split}"
        f"{intervals}.",
    )
