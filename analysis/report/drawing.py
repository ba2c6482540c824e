"""The report's figures: one function per figure, from results to a matplotlib figure, or None where there is nothing.

Every figure is saved as SVG, PDF and PNG for papers and slides. The page embeds the SVG with its colours replaced by
the page's own variables, so that the same drawing reads on a light and on a dark page.
"""

from __future__ import annotations

import html
import io
import re
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import matplotlib
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_pdf import FigureCanvasPdf
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

from analysis.colours import THEME, light, series
from analysis.fonts import fonts_for, told_missing
from analysis.measured import Measured
from analysis.report.parts import FailedPart, Parts, forget
from trainables.files import write_atomically
from trainables.forked import Forked
from trainables.registry import Registry

WIDTH = 9.6
"""Width of a full-width figure in inches."""
PNG_DPI = 144
FIGURES_FOLDER = "figures"
SUFFIXES = ("svg", "pdf", "png")
"""Of the files of a figure."""
MARKERS = "os^Dv*"
"""Of the labels, by their places."""

FIGURES: Registry[Callable[..., Drawing | None]] = Registry("figure")
"""Functions `Results -> Drawing | None`, in the order of the page."""

_STYLE: dict[Any, Any] = {
    "font.family": "sans-serif",
    "font.size": 10,
    "axes.titlesize": 10.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.labelsize": 10,
    "axes.edgecolor": light("muted"),
    "axes.labelcolor": light("ink"),
    "axes.titlecolor": light("ink"),
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": light("grid"),
    "grid.linewidth": 0.8,
    "xtick.color": light("muted"),
    "ytick.color": light("muted"),
    "xtick.labelcolor": light("ink"),
    "ytick.labelcolor": light("ink"),
    "text.color": light("ink"),
    "legend.frameon": False,
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "savefig.facecolor": "none",
    "text.parse_math": False,
    "svg.fonttype": "none",
    "pdf.fonttype": 42,
    "svg.hashsalt": "segsweep",
}


@dataclass(frozen=True)
class Drawing:
    """A figure and what it shows in one sentence, for readers who cannot see it."""

    figure: Figure
    caption: str


@dataclass(frozen=True)
class SavedFigure:
    """A figure on disk and as a page fragment."""

    name: str
    caption: str
    svg: Markup
    """Inline SVG whose colours are the page's variables."""
    path: Path


def save_figures(
    results: Measured, folder: Path, parts: Parts, names: Iterable[str] = FIGURES
) -> dict[str, SavedFigure | FailedPart]:
    """Draws figures, by default every registered one, and writes `folder/NAME.svg`, `.pdf` and `.png`.

    Names whose letters matplotlib's own font does not have are drawn in installed ones; what none has is told once.

    Returns:
        The figures that had something to show, by name, and notes on those that raised.
    """
    saved: dict[str, SavedFigure | FailedPart] = {}
    more = [family for family, _ in fonts_for(results.names)]
    style, boxes = {**_STYLE, "font.family": ["sans-serif", *more]}, set[str]()
    for name in names:
        made = parts.make(_part(name), partial(_save_figure, results, name, folder, style, boxes))
        if not isinstance(made, SavedFigure):
            forget(folder, name, SUFFIXES)
        if made is not None:
            saved[name] = made
    parts.warn(told_missing(boxes))
    return saved


class Figures:
    """`save_figures` of all figures in a copy of this process, while this one makes other parts.

    Args:
        results: What is drawn.
        folder: Where the files go.
        report: Of the report, as `Parts` takes it.
        place: As `Parts` takes it.
    """

    def __init__(self, results: Measured, folder: Path, report: Path, place: Path) -> None:
        def draw() -> dict[str, Any]:
            own = Parts(report, place, begins=False)
            saved = self._draw(own)
            made = {name: one for name, one in saved.items() if isinstance(one, SavedFigure)}
            told = {name: [one.caption, str(one.svg), str(one.path)] for name, one in made.items()}
            return {"order": list(saved), "made": told, "parts": own.as_json()}

        self._draw: Callable[[Parts], dict[str, SavedFigure | FailedPart]] = lambda parts: save_figures(
            results, folder, parts
        )
        self._copy = Forked(draw, uses_torch=False)

    def result(self, parts: Parts) -> dict[str, SavedFigure | FailedPart]:
        """Waits for the figures, as `save_figures` returns them; `parts` keeps what happened to them."""
        try:
            told = self._copy.result()
        except RuntimeError:  # it was killed: there was too little memory for two, say
            return self._draw(parts)
        parts.add(told["parts"])
        failed = {one.what: one for one in parts.failed}
        saved: dict[str, SavedFigure | FailedPart] = {}
        for name in told["order"]:
            if name in told["made"]:
                caption, svg, path = told["made"][name]
                saved[name] = SavedFigure(name, caption, Markup(svg), Path(path))
            else:
                saved[name] = failed[_part(name)]
        return saved

    def __enter__(self) -> Figures:
        return self

    def __exit__(self, *exception: Any) -> None:
        self._copy.__exit__(*exception)


def _part(name: str) -> str:
    """A figure as a part of the report."""
    return f"figure {name}"


def _save_figure(
    results: Measured, name: str, folder: Path, style: Mapping[Any, Any], boxes: set[str]
) -> SavedFigure | None:
    with matplotlib.rc_context(dict(style)), warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        drawing = FIGURES.get(name)(results)
        if drawing is None:
            return None
        svg, pdf, png = _svg(drawing.figure), _pdf(drawing.figure), _png(drawing.figure)
    for one in told:
        found = re.match(r"Glyph (\d+) ", str(one.message))
        if found:
            boxes.add(chr(int(found[1])))
        else:
            warnings.warn_explicit(one.message, one.category, one.filename, one.lineno)
    path = folder / f"{name}.png"
    write_atomically(path.with_suffix(".svg"), svg.encode())
    write_atomically(path.with_suffix(".pdf"), pdf)
    write_atomically(path, png)
    return SavedFigure(name, drawing.caption, themed_svg(svg, name, drawing.caption), path)


def themed_svg(text: str, name: str, caption: str) -> Markup:
    """A standalone SVG as an inline fragment: theme colours become variables, ids become unique to the figure."""
    start = text.index("<svg")
    text = re.sub(r"<metadata>.*?</metadata>", "", text[start:], flags=re.DOTALL)
    for variable, (color, _) in THEME.items():
        text = text.replace(color, f"var(--{variable})")
    text = re.sub(r'\bid="([^"]+)"', rf'id="{name}-\1"', text)
    text = re.sub(r"url\(#([^)]+)\)", rf"url(#{name}-\1)", text)
    text = re.sub(r'xlink:href="#([^"]+)"', rf'xlink:href="#{name}-\1"', text)
    text = re.sub(r"font: ([^;\"]*?)'DejaVu Sans'[^;\"]*", r"font: \1var(--sans)", text)
    return Markup(text.replace("<svg ", f'<svg role="img" aria-label="{html.escape(caption)}" ', 1))


def empty_figure(height: float, *, width: float = WIDTH) -> Figure:
    """A figure of a size in inches that makes room for its texts by itself."""
    return Figure(figsize=(width, height), layout="constrained")


def name_rows(axes: Axes, names: Sequence[str]) -> None:
    """Writes a name beside each of the rows 0, 1, ..., which need no ticks and no grid."""
    axes.set_yticks(range(len(names)), [plain(name) for name in names])
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="y", visible=False)


def legend_above(figure: Figure, axes: Axes) -> None:
    """Puts the legend of some axes above the whole figure."""
    handles, names = axes.get_legend_handles_labels()
    figure.legend(handles, names, loc="outside upper left", ncols=min(6, len(names)))


def label_colors(measured: Measured) -> dict[str, str]:
    """The colour that each label is drawn in."""
    return {label: light(name) for label, name in series(list(measured.labels)).items()}


def labels_by_trial(measured: Measured) -> dict[str, list[str]]:
    """Trial id (of masks: what names them) -> the labels it holds; two labels may hold the same trial."""
    found: dict[str, list[str]] = {}
    for label, key in measured.prediction_keys.items():
        found.setdefault(key, []).append(label)
    return found


def drawn_once(measured: Measured) -> dict[str, str]:
    """The labels to draw, with their names: those of one trial are drawn once, as the first, under all their names."""
    return {labels[0]: " = ".join(map(plain, labels)) for labels in labels_by_trial(measured).values()}


def _svg(figure: Figure) -> str:
    buffer = io.StringIO()
    FigureCanvasSVG(figure).print_svg(buffer, metadata={"Date": None, "Creator": None})
    return buffer.getvalue()


def _pdf(figure: Figure) -> bytes:
    buffer = io.BytesIO()
    FigureCanvasPdf(figure).print_pdf(buffer, metadata={"CreationDate": None, "Creator": None, "Producer": None})
    return buffer.getvalue()


def _png(figure: Figure) -> bytes:
    figure.set_facecolor("white")
    figure.set_dpi(PNG_DPI)
    buffer = io.BytesIO()
    FigureCanvasAgg(figure).print_png(buffer, metadata={"Software": None}, pil_kwargs={"compress_level": 4})
    return buffer.getvalue()


def plain(text: str) -> str:
    """Text that can stand in a drawing: one line of printable characters, at most 32."""
    text = " ".join("".join(letter if letter.isprintable() else " " for letter in text).split())
    return text if len(text) <= 32 else text[:31] + "…"
