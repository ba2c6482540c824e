"""Where the IoU is lost: components with one or two things in common that lose more than their share."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import pandas as pd
from markupsafe import Markup

from analysis.failures.factors import ALL_FACTORS
from analysis.failures.slices import CLASS, LOWEST
from analysis.measured import Measured
from analysis.report.page import SECTIONS, Claim, Material, Section, bold, claim, render_section
from analysis.report.tables import readable

MOST_CLAIMS = 3
"""Slices that have a sentence at most, those of the largest excess."""

BY_NAME = {factor.name: factor for factor in ALL_FACTORS}


@SECTIONS.register("slices")
def slices_section(material: Material) -> Section | None:
    """Where the winner loses more than elsewhere; nothing where no factors were measured."""
    results = material.measured
    if results.factors.empty:
        return None
    own = results.slices[results.slices["label"] == results.chief]
    return render_section(
        "slices",
        "Where the IoU is lost",
        results.evidence,
        claims=slice_claims(results),
        content=readable(shown(own)),
        looked_at=int(own["looked_at"].max()) if len(own) else 0,
    )


def shown(slices: pd.DataFrame) -> pd.DataFrame:
    """The table as the page has it: a slice in one column, without what its sentence does not need."""
    names = [
        " and ".join(f"{row[part]}: {row[f'{part}_is']}" for part in ("first", "second") if row[part])
        for row in slices.to_dict("records")
    ]
    hidden = [f"{part}{of}" for part in ("first", "second") for of in ("", "_is", "_limit")]
    kept = slices.drop(columns=["label", *hidden, "images", "looked_at"])
    kept.insert(0, "slice", names)
    return kept


def slice_claims(results: Measured) -> list[Claim]:
    """A sentence for each of the first slices of the winner."""
    own = results.slices[results.slices["label"] == results.chief]
    claims = []
    for row in own.iloc[:MOST_CLAIMS].to_dict("records"):
        what = [_words(row, part) for part in ("first", "second") if row[part]]
        share, lost = (f"{row[name]:.0%}" for name in ("component_share", "lost_share"))
        more, low, high = (f"{100 * row[name]:.0f}" for name in ("excess", "excess_low", "excess_high"))
        claims.append(
            claim(
                f"Components that are {' and '.join('{}' for _ in what)} are {share} of all and hold {lost} of the "
                f"lost IoU, {more} points [{low}, {high}] more than their share: their mean IoU is "
                f"{row['mean_iou']:.2f}, that of the others {row['others_iou']:.2f}.",
                *what,
                evidence=results.evidence,
            )
        )
    return claims


def _words(row: Mapping[Hashable, Any], part: str) -> Markup:
    """What the components of a condition are."""
    name, value = str(row[part]), str(row[f"{part}_is"])
    if name == CLASS:
        return Markup("of class {}").format(bold(value))
    factor = BY_NAME[name]
    words = factor.low if value.startswith(LOWEST) else factor.high
    return Markup("{} ({})").format(words, value)
