"""Masks of test that may be wrong, with pictures; the page says nothing where the evidence does not hold."""

from __future__ import annotations

from analysis.failures.label_errors import AGREE_SHARE, LEAST_SCORE
from analysis.report.page import SECTIONS, Claim, Evidence, Material, Section, bold, claim, render_section
from analysis.report.tables import readable
from analysis.results import Results

SHOWN = 50
"""Rows of the table on the page; the file has all of them."""


@SECTIONS.register("label_errors")
def label_errors_section(material: Material) -> Section | None:
    """The suspicious components; nothing where there is none."""
    results = material.results
    frame = results.label_errors
    if frame.empty:
        return None
    pictured = [
        {"uri": uri, **row}
        for uri, row in zip(results.label_error_pictures, frame.to_dict("records"), strict=False)
    ]  # fmt: skip
    return render_section(
        "label_errors",
        "Masks that may be wrong",
        Evidence.ONE_CHECKPOINT,
        claims=label_error_claims(results),
        pictured=pictured,
        content=readable(frame[:SHOWN]),
        count=len(frame),
        shown=min(SHOWN, len(frame)),
        share=AGREE_SHARE,
        score=LEAST_SCORE,
    )


def label_error_claims(results: Results) -> list[Claim]:
    """How many there are, and between which two classes most."""
    frame = results.label_errors
    images, checkpoints = frame["image_id"].nunique(), int(frame["checkpoints"].iloc[0])
    pairs = frame.groupby(["class", "models_say"], sort=False).size().sort_values(ascending=False, kind="stable")
    (masked, said), most = pairs.index[0], int(pairs.iloc[0])
    where = f"{len(frame):,} connected component{'s' if len(frame) > 1 else ''} of {images:,} {results.split} image"
    claims = [
        claim(
            f"{where}{'s' if images > 1 else ''} may be labelled wrongly: at least two thirds of {checkpoints} "
            "checkpoints agree there on one other class, which they seldom mix up with the mask's. Look at them before "
            "you trust small differences."
        )
    ]
    if most > 1:
        claims.append(claim(f"{most:,} of them are {{}} in the mask and {{}} to the models.", bold(masked), bold(said)))
    return claims
