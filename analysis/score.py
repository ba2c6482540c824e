"""`python -m analysis.score`: what masks of any program score, how sure that is, and what their errors are.

Tables, pictures and a page, `report.html`. With `--against` a second folder of predictions is scored beside the first,
on the same drawn images. Masks have no probabilities, so that there is no average precision.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import pandas as pd

from analysis.failures.changes import CHANGE_COLUMNS, TYPE_CHANGE_COLUMNS, changes_between
from analysis.failures.kinds import Kinds, kinds_text
from analysis.failures.masks import read_classes
from analysis.failures.reasons import CURVE_COLUMNS, EFFECT_COLUMNS
from analysis.failures.slices import SLICE_COLUMNS
from analysis.failures.split import SplitFailures
from analysis.failures.writing import (
    PICTURES_FOLDER,
    add_mask_flags,
    factor_lines,
    failure_tables,
    measure_masks,
    open_asked,
    slice_lines,
    type_lines,
    write_failures,
)
from analysis.report.gallery import Source
from analysis.report.masks import Scored, page_files, write_page
from analysis.report.parts import Parts
from analysis.scores import Classes, why_no_interval
from analysis.statistics import Statistic, confidence_interval, paired_interval
from trainables.data.base import ClassInfo
from trainables.data.reading.names import expanded
from trainables.errors import UsageError
from trainables.flags import command_parser
from trainables.guarded import guarded
from trainables.metrics import (
    IOU_THRESHOLDS,
    METRICS,
    Confusions,
    ConfusionsAlone,
    Floats,
    Metric,
    Replicates,
    all_metrics,
    mean_over_classes,
    region_scores,
    sampling_units,
)
from trainables.run_folder import REPORT_FILE

MASKS_ALONE = (
    "Frequency of the class in training and distance to the training images are not known: masks come without the "
    "model that made them and what it was trained on."
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; returns the exit code: 0 done, 1 the masks cannot be used, 2 bad usage."""
    options = _parser().parse_args(arguments)
    return guarded(lambda: _run(options), interrupted="interrupted", elsewhere="--out DIR")


def _run(options: argparse.Namespace) -> int:
    description = read_classes(options.classes)
    names = [info.name for info in description.classes]
    folders = _labels(options.predictions, options.against)
    masks, kinds = open_asked(options, description, folders)
    splits = measure_masks(masks, names, kinds, iou_limit=options.iou, connectivity=options.connectivity)
    tables = {**score_tables(splits, names), **failure_tables(splits, names, iou_limit=options.iou)}
    if len(splits) == 2:
        after, before = splits.values()
        units = sampling_units([None] * len(after.images))
        changed = changes_between(before, after, names, iou_limit=options.iou, units=units)
        tables |= dict(zip(("component_changes", "type_changes"), changed, strict=True))
    more = [] if options.no_report else page_files()
    pictures = write_failures(tables, splits, masks, description.classes, options.out, more=more)
    notes = (*masks.notes, kinds_text(names, kinds))
    made: Parts | None = None
    if not options.no_report:
        scored = _scored(tables, splits, folders, tuple(description.classes), kinds, notes)
        source = Source(
            None if masks.images is None else masks.image,
            masks.truth.mask,
            lambda label, image_id: masks.predictions[label].mask(image_id),
        )
        links = {key: quote("/".join(place)) for key, place in pictures.items()}
        made = write_page(scored, source, links, options.out, pictures_folder=PICTURES_FOLDER)
    for note in notes:
        print(f"note: {note}")
    reasons = [*factor_lines(tables["factors"]), *slice_lines(tables["slices"])] if "factors" in tables else []
    print("\n".join([*score_lines(tables), *type_lines(tables["error_types"]), *reasons, f"tables: {options.out}"]))
    if not options.no_report:
        print(f"report: {(options.out / REPORT_FILE).resolve().as_uri()}")
    for text in made.warnings if made else ():
        print(f"warning: {text}", file=sys.stderr)
    for part in made.failed if made else ():
        print(f"could not be made: {part.what}: {part.error} (traceback: {part.log})", file=sys.stderr)
    return 1 if made and made.failed else 0


def _scored(
    tables: Mapping[str, pd.DataFrame],
    splits: Mapping[str, SplitFailures],
    folders: Mapping[str, Path],
    classes: tuple[ClassInfo, ...],
    kinds: Kinds,
    notes: tuple[str, ...],
) -> Scored:
    """What the page is made from; tables that there are not are empty."""
    empty = {
        "factors": EFFECT_COLUMNS,
        "factor_curves": CURVE_COLUMNS,
        "slices": SLICE_COLUMNS,
        "component_changes": CHANGE_COLUMNS,
        "type_changes": TYPE_CHANGE_COLUMNS,
        "difference": (),
    }
    known = {name: pd.DataFrame(columns=list(columns)) for name, columns in empty.items()} | dict(tables)
    images = [_Images(split.confusions) for split in splits.values()]
    return Scored(
        split="these images",
        classes=classes,
        labels=folders,
        kinds=kinds,
        splits=splits,
        why_no_interval=why_no_interval(METRICS.get("iou"), *images, classes=_known(classes)),
        notes=notes,
        unmeasured=(MASKS_ALONE,),
        **{field.name: known[field.name] for field in dataclasses.fields(Scored) if field.name in known},
    )


def _known(classes: Sequence[ClassInfo]) -> Classes:
    """The classes by name; which of them a model learnt is not known."""
    return Classes([info.name for info in classes], np.zeros(len(classes), bool))


def score_tables(splits: Mapping[str, SplitFailures], class_names: Sequence[str]) -> dict[str, pd.DataFrame]:
    """The tables `scores`, `per_class`, `iou_thresholds`, and `difference` where there are two predictions.

    Args:
        splits: By label, all of the same images.
        class_names: By class id.
    """
    collected = {label: ConfusionsAlone(split.confusions) for label, split in splits.items()}
    tables = {
        "scores": _score_frame(collected),
        "per_class": pd.concat([_class_frame(label, one, class_names) for label, one in collected.items()]),
        "iou_thresholds": pd.concat([_threshold_frame(label, one) for label, one in collected.items()]),
    }
    if len(collected) == 2:
        tables["difference"] = _difference_frame(*collected.items())
    return tables


def score_lines(tables: Mapping[str, pd.DataFrame]) -> list[str]:
    """Scores and differences for a terminal.

    Args:
        tables: Of `score_tables`.
    """
    lines = []
    for row in tables["scores"].to_dict("records"):
        lines.append(f"{row['label']}, {row['images']} images:")
        for metric in _metrics():
            lines.append(f"  {metric.words}: {metric.show(row[metric.name])}{_interval_text(row, metric.name)}")
    for row in tables["difference"].to_dict("records") if "difference" in tables else ():
        words = next(metric.words for metric in _metrics() if metric.name == row["metric"])
        lines.append(
            f"{words}: {row['label']} less {row['against']} is {row['difference']:+.4f}"
            f"{_interval_text(row, 'difference', sign='+')}, these masks on images like these"
        )
    return lines


def _parser() -> argparse.ArgumentParser:
    parser = command_parser(
        "analysis.score",
        "Scores any program's masks against the truth, with 95%% intervals over images, and says what "
        "their errors are; docs/METRICS.md defines everything.",
    )
    add_mask_flags(parser, out="scores")
    parser.add_argument("--no-report", action="store_true", help="write the tables and pictures, and no report.html")
    parser.add_argument(
        "--against", type=expanded, metavar="DIR", help="folder of other predictions to compare --predictions with"
    )
    return parser


def _labels(predictions: Path, against: Path | None) -> dict[str, Path]:
    """Folders by what tables call them: their names, or the whole paths where these are the same."""
    if against is None:
        return {predictions.name: predictions}
    if predictions.resolve() == against.resolve():
        raise UsageError(f"--predictions and --against are the same folder, {predictions}")
    if predictions.name != against.name:
        return {folder.name: folder for folder in (predictions, against)}
    return {str(folder): folder for folder in (predictions, against)}


def _metrics() -> list[Metric]:
    """The metrics that masks alone give."""
    return [metric for metric in all_metrics() if metric.needs == {"confusion"}]


def _statistic(collected: ConfusionsAlone) -> Statistic:
    """Every metric as a function of image weights of shape (R, N), giving shape (K, R)."""

    def of_weights(weights: Floats) -> Floats:
        replicates = Replicates(collected, weights)
        return np.stack([metric(replicates) for metric in _metrics()])

    return of_weights


def _score_frame(collected: Mapping[str, ConfusionsAlone]) -> pd.DataFrame:
    rows = []
    for label, one in collected.items():
        images = len(one.confusions)
        statistic = _statistic(one)
        values = statistic(np.ones((1, images)))[:, 0]
        interval = confidence_interval(statistic, sampling_units([None] * images))
        low, high = (_given(bounds, one) for bounds in (interval.low, interval.high))
        row: dict[str, object] = {"label": label, "images": images}
        for place, metric in enumerate(_metrics()):
            row[metric.name] = values[place]
            row[f"{metric.name}_low"], row[f"{metric.name}_high"] = low[place], high[place]
        rows.append(row)
    return pd.DataFrame(rows)


def _difference_frame(first: tuple[str, ConfusionsAlone], second: tuple[str, ConfusionsAlone]) -> pd.DataFrame:
    (label, one), (against, other) = first, second
    images = len(one.confusions)
    statistics = _statistic(one), _statistic(other)
    values = np.subtract(*(statistic(np.ones((1, images)))[:, 0] for statistic in statistics))
    interval = paired_interval(*statistics, sampling_units([None] * images))
    return pd.DataFrame(
        {
            "label": label,
            "against": against,
            "metric": [metric.name for metric in _metrics()],
            "difference": values,
            "difference_low": _given(interval.low, one, other),
            "difference_high": _given(interval.high, one, other),
        }
    )


@dataclass(frozen=True)
class _Images:
    """Matrices of images without groups, shape (N, C, C)."""

    confusions: Confusions

    @property
    def groups(self) -> Sequence[str | None]:
        return [None] * len(self.confusions)


def _given(bounds: Floats, *collected: ConfusionsAlone) -> Floats:
    """Bounds, NaN for metrics whose interval does not hold on such images."""
    images = [_Images(one.confusions) for one in collected]
    held = [not why_no_interval(metric, *images) for metric in _metrics()]
    return np.where(held, bounds, np.nan)


def _class_frame(label: str, collected: ConfusionsAlone, class_names: Sequence[str]) -> pd.DataFrame:
    truth = collected.confusions.sum(axis=2)
    values = {metric.name: metric.of_classes(collected) for metric in _metrics() if metric.of_classes}
    images, pixels = (truth > 0).sum(axis=0), truth.sum(axis=0)
    return pd.DataFrame({"label": label, "class": class_names, **values, "images": images, "pixels": pixels})


def _threshold_frame(label: str, collected: ConfusionsAlone) -> pd.DataFrame:
    means = {name: mean_over_classes(values.T) for name, values in region_scores(collected.confusions).items()}
    return pd.DataFrame({"label": label, "threshold": IOU_THRESHOLDS, **means})


def _interval_text(row: Mapping[Any, Any], name: str, *, sign: str = "") -> str:
    low, high = row[f"{name}_low"], row[f"{name}_high"]
    return "" if np.isnan(low) or np.isnan(high) else f" 95% [{low:{sign}.4f}, {high:{sign}.4f}]"


if __name__ == "__main__":
    raise SystemExit(main())
