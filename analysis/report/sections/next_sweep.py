"""What to try next: what val speaks for, line by line, and the command that tries it; on the page of val alone."""

from __future__ import annotations

from markupsafe import escape

from analysis.next_sweep.space_file import next_command
from analysis.report.page import SECTIONS, Claim, Evidence, Material, Section, bold, claim, code, render_section
from analysis.results import Results

EVIDENCE = Evidence.ONE_CHECKPOINT
"""Of a proposal: what val showed of the winner and of the trials, one seed each."""


@SECTIONS.register("next_sweep")
def next_section(material: Material) -> Section | None:
    """What to try next, or that nothing is shown clearly enough; nothing on test, which proposes nothing."""
    results = material.results
    if results.split != "val":
        return None
    command = code(next_command(results.manifest, results.run_dir)) if results.proposals else None
    return render_section("next_sweep", "What to try next", EVIDENCE, claims=next_claims(results), command=command)


def next_claims(results: Results) -> list[Claim]:
    """A sentence for each proposal."""
    return [claim("{}: {}.", bold(one.what), escape(one.why), evidence=EVIDENCE) for one in results.proposals]
