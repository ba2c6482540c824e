"""Every label's metrics with intervals."""

from __future__ import annotations

from analysis.comparison import score_columns
from analysis.report.page import SECTIONS, Evidence, Material, Section, render_section
from analysis.report.tables import readable


@SECTIONS.register("comparison")
def comparison_section(material: Material) -> Section:
    """Every label's metrics with intervals, and what each label is."""
    results = material.results
    scores = list(score_columns(results.further_metrics))
    return render_section(
        "comparison",
        "Comparison",
        Evidence.ONE_CHECKPOINT,
        split=results.split,
        scores=readable(results.comparison[["label", *scores]]),
        identity=readable(results.comparison.drop(columns=scores)),
        objective=results.objective,
        seeds=readable(results.seeds),
    )
