"""Regions against the IoU threshold."""

from __future__ import annotations

from analysis.measured import Measured
from analysis.report.drawing import FIGURES, MARKERS, Drawing, drawn_once, empty_figure, label_colors, legend_above
from analysis.report.page import SECTIONS, Material, Section, render_section
from analysis.report.tables import readable
from trainables.labels import CHIEF, MAJORITY


@SECTIONS.register("thresholds")
def thresholds_section(material: Material) -> Section:
    """Regions against the IoU threshold."""
    return render_section(
        "thresholds",
        "IoU thresholds",
        material.measured.evidence,
        figure=material.figures.get("thresholds"),
        content=readable(material.measured.iou_thresholds),
    )


@FIGURES.register("thresholds")
def draw_thresholds(results: Measured) -> Drawing | None:
    """Precision, recall, F1 and AP of regions against the IoU threshold, one line per label."""
    frame = results.iou_thresholds[results.iou_thresholds["label"] != MAJORITY]
    if frame.empty:
        return None
    colors, names = label_colors(results), drawn_once(results)
    frame = frame[frame["label"].isin(list(names))]
    titles = {"precision": "precision", "recall": "recall", "f1": "F1", "ap": "AP"}
    # Masks alone have no probabilities, and so no AP.
    titles = {column: title for column, title in titles.items() if column in frame}
    figure = empty_figure(3.3)
    panels = figure.subplots(1, len(titles), sharey=True)
    for axes, (column, title) in zip(panels, titles.items(), strict=True):
        for place, (label, rows) in enumerate(frame.groupby("label", sort=False)):
            rows = rows.sort_values("threshold")
            axes.plot(
                rows["threshold"],
                rows[column],
                color=colors[str(label)],
                linewidth=2.2 if label in CHIEF else 1.5,
                marker=MARKERS[place % len(MARKERS)],
                markersize=3.4,
                label=names[str(label)],
            )
        axes.set_title(title)
        axes.set_xlim(0, 1)
        axes.set_ylim(0, 1.02)
        axes.set_xticks([0, 0.25, 0.5, 0.75, 1], ["0", "", "0.5", "", "1"])
        axes.set_xlabel("IoU threshold")
    legend_above(figure, panels[0])
    told = "Precision, recall, F1 and AP" if "ap" in titles else "Precision, recall and F1"
    return Drawing(figure, f"{told} of (image, class) regions against the IoU from which a region counts as found.")
