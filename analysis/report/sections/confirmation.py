"""The best configurations over fresh seeds."""

from __future__ import annotations

from analysis.report.page import SECTIONS, Evidence, Material, Section, render_section
from analysis.report.tables import readable


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
        content=readable(results.confirmation),
        left_out=[results.unconfirmed] if results.unconfirmed else [],
    )
