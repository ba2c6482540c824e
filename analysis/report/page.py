"""The sections of the report: one registered function per section, from what was measured to a fragment of the page.

Every sentence that claims something carries the level of evidence that it rests on, and nothing is claimed above it.
"""

from __future__ import annotations

import base64
import functools
import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2
import pandas as pd
from markupsafe import Markup

from analysis.colours import css_variables
from analysis.measured import Evidence as Evidence
from analysis.measured import Measured
from analysis.report.drawing import SavedFigure
from analysis.report.gallery import FOLDER, Gallery
from analysis.report.parts import FailedPart, Parts
from analysis.results import Results
from trainables.labels import MAJORITY
from trainables.registry import Registry

TEMPLATES = Path(__file__).parent / "templates"
MOST_ROWS = 300
"""Rows of a table on the page; its CSV file holds all."""
SECTION_TEMPLATES = Path(__file__).parent / "sections"
"""Each section's template is beside its code."""


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
    """What sections are made from: what was measured, and what was drawn of it.

    Attributes:
        measured: Of a sweep (`results`) or of masks.
        figures: By name.
        gallery: The failures.
        pictures_folder: Where the pictures of failures are, beside the page.
        limited: Whether `--pictures` limits how many there are.
        tables: What stands before the name of a table's file, seen from the page.
    """

    measured: Measured
    figures: Mapping[str, SavedFigure | FailedPart]
    gallery: Gallery | FailedPart
    pictures_folder: str = FOLDER
    limited: bool = True
    tables: str = "tables/"

    @property
    def results(self) -> Results:
        """What was measured, of a sweep."""
        if not isinstance(self.measured, Results):
            raise TypeError("this section is about a sweep, and there was none")
        return self.measured


SECTIONS: Registry[Callable[[Material], Section | None]] = Registry("section")
"""Functions `Material -> Section`, or None where there is nothing to show; the page has them in this order."""


def build_sections(material: Material, parts: Parts, names: Iterable[str] = SECTIONS) -> list[Section]:
    """The registered sections that have something to show, in the order of registration; a card for one that raises."""
    sections: list[Section] = []
    for name in names:
        made = parts.make(f"section {name}", functools.partial(SECTIONS.get(name), material))
        if isinstance(made, FailedPart):
            made = Section(name.capitalize(), failure_card(made), name, Evidence.RECORD)
        if made is not None:
            sections.append(made)
    return sections


@functools.cache
def environment() -> jinja2.Environment:
    """Templates with autoescape on; an undefined name is an error."""
    made = jinja2.Environment(
        loader=jinja2.FileSystemLoader([TEMPLATES, SECTION_TEMPLATES]),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.globals |= {"MAJORITY": MAJORITY, "MOST_ROWS": MOST_ROWS}
    return made


def failure_card(part: FailedPart) -> Markup:
    """What replaces a part that could not be made."""
    module: Any = environment().get_template("macros.html").module
    return Markup(module.failed(part))


def render_section(name: str, title: str, evidence: Evidence, **content: Any) -> Section:
    """A section from its template `NAME.html`."""
    html = environment().get_template(f"{name}.html").render(**content)
    return Section(title, Markup(html), name, evidence)


def interval_text(low: float, high: float, *, sign: str = "") -> str:
    """An interval as text, or that there is none."""
    return "no interval" if pd.isna(low) or pd.isna(high) else f"95% [{low:{sign}.3f}, {high:{sign}.3f}]"


def count_images(results: Results) -> int:
    """Images of the split that the report is about."""
    return int(results.comparison["images"].iloc[0])


def claim(text: str, *names: Markup, evidence: Evidence = Evidence.ONE_CHECKPOINT) -> Claim:
    """A claim from a text of this file and names from elsewhere, one for each pair of braces."""
    return Claim(Markup(text).format(*names), evidence)


def bold(text: str) -> Markup:
    """A name from elsewhere, escaped and in bold."""
    return Markup("<b>{}</b>").format(text)


def code(text: str) -> Markup:
    """A command, escaped, as it is typed."""
    return Markup("<code>{}</code>").format(text)


def bold_names(texts: Sequence[str]) -> Markup:
    """Several names, the last after an "and"."""
    *others, last = map(bold, texts)
    return Markup(" and ").join([Markup(", ").join(others), last]) if others else last


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
    """What is shown below the page's title."""
    seconds = float(results.trials["seconds"].sum())
    return [
        ("space", results.manifest.space.name),
        ("data", results.manifest.data.name),
        ("evaluated on", f"{results.split}, {count_images(results)} images"),
        ("trials", f"{len(results.trials)}, {format_seconds(seconds)}"),
        ("swept", results.manifest.created[:10]),
    ]


def render_page(material: Material, parts: Parts) -> str:
    """The page of a sweep's report, with every registered section."""
    return render_sections(
        build_sections(material, parts),
        parts,
        kind="Segmentation sweep report",
        title=material.results.manifest.name,
        summary=page_summary(material.results),
        beside=("tables/", "figures/", f"{FOLDER}/"),
    )


def render_sections(
    sections: Sequence[Section],
    parts: Parts,
    *,
    kind: str,
    title: str,
    summary: Sequence[tuple[str, str]],
    beside: Sequence[str],
) -> str:
    """The whole page as one text: styles, script and pictures inside, nothing to be fetched.

    The content security policy admits data URIs, inline styles, and the one script whose hash it names.

    Args:
        sections: In their order.
        parts: Says what could not be made.
        kind: What the page is, above its title.
        title: Heading.
        summary: Names and values below it.
        beside: Files and folders that belong to the page.
    """
    script = "".join((TEMPLATES / name).read_text(encoding="utf-8") for name in ("script.js", "gallery.js"))
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    policy = (
        f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-{digest}'; "
        "base-uri 'none'; form-action 'none'"
    )
    return (
        environment()
        .get_template("report.html")
        .render(
            kind=kind,
            title=title,
            policy=policy,
            light=css_variables(dark=False),
            dark=css_variables(dark=True),
            style=Markup((TEMPLATES / "style.css").read_text(encoding="utf-8")),
            script=Markup(script),
            summary=summary,
            sections=sections,
            failed=parts.failed,
            beside=beside,
        )
    )
