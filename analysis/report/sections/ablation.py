"""What each component of the winner is worth."""

from __future__ import annotations

from markupsafe import escape

from analysis.report.page import SECTIONS, Evidence, Material, Section, claim, render_section
from analysis.report.tables import readable
from sweep.verdict import worth


@SECTIONS.register("ablation")
def ablation_section(material: Material) -> Section | None:
    """What each component of the winner is worth; nothing where it was not taken apart."""
    results = material.results
    if results.ablation is None:
        return None
    claims = [
        claim("{}.", escape(told[0].upper() + told[1:]), evidence=Evidence.ABLATION)
        for _, told, _ in worth(results.ablation, results.objective)
    ]
    return render_section(
        "ablation",
        "What the winner consists of",
        Evidence.ABLATION,
        claims=claims,
        content=readable(results.components),
    )
