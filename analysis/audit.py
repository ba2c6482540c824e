"""`python -m analysis.audit RUN`: the numbers of a report's tables counted again from the masks, and what differs.

It reads `RUN/report/tables/*.csv`, the true masks and the predicted ones that the report kept, counts pixels anew
(`analysis.recount`, which shares no code with the metrics) and compares cell by cell. No checkpoint is evaluated, so it
opens nothing. What masks alone cannot tell is listed as not recomputed.
"""

from __future__ import annotations

import argparse
import json
import math
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image

from analysis.formulas import as_before
from analysis.recount import STEPS, Mask, Recount, recount, recount_component
from analysis.strengths import CLASS, SIZES
from sweep.verify import load_run_split, open_data, open_run
from trainables import commands, plugins
from trainables.data.base import SegmentationData
from trainables.data.flags import add_data_root_flag
from trainables.data.reading.names import expanded
from trainables.data.splits.frozen import Split
from trainables.errors import DataError, SegsweepError
from trainables.flags import share
from trainables.labels import BASELINE, MAJORITY
from trainables.paths import within
from trainables.run_folder import TABLES_FOLDER, evaluations, report_folder

RELATIVE, ABSOLUTE = 1e-9, 1e-12
"""Numbers that lie closer are the same: what is left is the order of additions."""

MOST_SHOWN = 50

NOT_RECOMPUTED = (
    "ap and map (they need the model's probabilities)",
    "intervals, chances and outcomes",
    "causes, types and factors of failures (of the types their sums are)",
    "standings, confirmation, components, pareto, trials and cost",
    "type_changes, component_changes and label_errors",
)

CLASS_COLUMNS = ("iou", "f1", "precision", "recall")
SCORE_COLUMNS = ("pixel_accuracy", *CLASS_COLUMNS)


@dataclass(frozen=True)
class Difference:
    """A cell that does not hold what the masks give; NaN stands for an empty cell, or for none at all."""

    table: str
    row: str
    column: str
    written: float
    recomputed: float


@dataclass
class Audit:
    """What was compared so far."""

    cells: dict[str, int] = field(default_factory=dict)
    differences: list[Difference] = field(default_factory=list)

    def compare(self, table: str, row: str, column: str, written: Any, recomputed: float) -> None:
        """Compares one cell."""
        self.cells[table] = self.cells.get(table, 0) + 1
        number, expected = float(written), float(recomputed)
        both_empty = math.isnan(number) and math.isnan(expected)
        if not both_empty and not math.isclose(number, expected, rel_tol=RELATIVE, abs_tol=ABSOLUTE):
            self.differences.append(Difference(table, row, column, number, expected))


def audit_tables(
    tables: Mapping[str, pd.DataFrame],
    predictions: Mapping[str, Path],
    data: SegmentationData,
    image_ids: Sequence[str],
    *,
    iou_limit: float,
) -> Audit:
    """Counts every prediction anew and compares the tables with it.

    Args:
        tables: By name; `comparison` says which trial each label is.
        predictions: Folder with the masks of each trial, named by the places of `image_ids`.
        data: Source of the true masks.
        image_ids: Of the split.
        iou_limit: A region fails at or below it.

    Raises:
        DataError: If a mask is missing, or two masks differ in size.
    """
    names = [info.name for info in data.classes]
    trials = dict(zip(tables["comparison"]["label"], tables["comparison"]["trial_id"], strict=True))
    counted = {trial: recount(_pairs(folder, data, image_ids), len(names)) for trial, folder in predictions.items()}
    of_labels = {label: counted[trial] for label, trial in trials.items()}
    audit = Audit()
    _scores(audit, tables, of_labels, names)
    _regions(audit, tables["failures"], of_labels, image_ids, names, iou_limit)
    _sums_of_types(audit, tables, of_labels, image_ids, names)
    _strengths(audit, tables["strengths"], of_labels, names)
    _components(audit, tables["component_failures"], {label: predictions[trial] for label, trial in trials.items()},
                data, image_ids, names)  # fmt: skip
    return audit


def _pairs(folder: Path, data: SegmentationData, image_ids: Sequence[str]) -> Iterator[tuple[Mask, Mask]]:
    for place, image_id in enumerate(image_ids):
        yield _pair(folder, data, place, image_id)


def _pair(folder: Path, data: SegmentationData, place: int, image_id: str) -> tuple[Mask, Mask]:
    path = folder / f"{place:06d}.png"
    try:
        with Image.open(path) as image:
            prediction = np.asarray(image, dtype=np.uint8)
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error}): make the report again") from error
    truth = data.mask(image_id)
    if truth.shape != prediction.shape:
        raise DataError(f"{path} is {prediction.shape}, the mask of {image_id} {truth.shape}: make the report again")
    return truth, prediction


def _scores(
    audit: Audit, tables: Mapping[str, pd.DataFrame], of_labels: Mapping[str, Recount], names: list[str]
) -> None:
    for row in tables["comparison"].to_dict("records"):
        one = of_labels[row["label"]]
        of_split, of_classes = one.scores(), one.class_values()
        audit.compare("comparison", row["label"], "images", row["images"], len(one.hit))
        for column in SCORE_COLUMNS:
            audit.compare("comparison", row["label"], column, row[column], of_split[column])
        for column in map(str, row):
            found = re.fullmatch(r"(\w+)\[(.*)\]", column)
            if found and found[1] in of_classes and found[2] in names:
                value = of_classes[found[1]][names.index(found[2])]
                audit.compare("comparison", row["label"], column, row[column], value)
    for row in tables["per_class"].to_dict("records"):
        one, class_id = of_labels[row["label"]], names.index(row["class"])
        values = {name: of_class[class_id] for name, of_class in one.class_values().items()}
        values |= {"images": (one.truth[:, class_id] > 0).sum(), "pixels": one.truth[:, class_id].sum()}
        for column, value in values.items():
            audit.compare("per_class", f"{row['label']}, {row['class']}", column, row[column], value)
    for row in tables["iou_thresholds"].to_dict("records"):
        values = of_labels[row["label"]].thresholds()
        step = round(row["threshold"] * STEPS)
        for column, at_steps in values.items():
            audit.compare(
                "iou_thresholds", f"{row['label']} at {row['threshold']}", column, row[column], at_steps[step]
            )


def _regions(
    audit: Audit,
    failures: pd.DataFrame,
    of_labels: Mapping[str, Recount],
    image_ids: Sequence[str],
    names: list[str],
    iou_limit: float,
) -> None:
    """Which regions fail, and the numbers of each."""
    places = {image_id: place for place, image_id in enumerate(image_ids)}
    written = {(row["label"], row["image_id"], row["class"]): row for row in failures.to_dict("records")}
    expected = {
        (label, image_ids[place], names[class_id])
        for label, one in of_labels.items()
        if label != MAJORITY
        for place, class_id in np.argwhere((one.image_iou <= iou_limit) & (one.image_iou < 1)).tolist()
    }
    for key in sorted(expected | set(written)):
        row = ", ".join(key)
        audit.compare("failures", row, "(the row is there)", key in written, key in expected)
        if key not in written or key[1] not in places:
            continue
        one, place, class_id = of_labels[key[0]], places[key[1]], names.index(key[2])
        hit, truth, predicted = (int(array[place, class_id]) for array in (one.hit, one.truth, one.predicted))
        values = {
            "iou": hit / (truth + predicted - hit) if truth + predicted else math.nan,
            "missed_recall": hit / truth if truth else math.nan,
            "hallucinated_pixels": 0 if truth else predicted,
            "truth_pixels": truth,
            "predicted_pixels": predicted,
        }
        for column, value in values.items():
            audit.compare("failures", row, column, written[key][column], value)


def _sums_of_types(
    audit: Audit,
    tables: Mapping[str, pd.DataFrame],
    of_labels: Mapping[str, Recount],
    image_ids: Sequence[str],
    names: list[str],
) -> None:
    """The types of a label, class or image add up to its wrong pixels, and to the IoU that it lacks."""
    for label in dict.fromkeys(tables["error_types"]["label"]):
        one, rows = of_labels[label], tables["error_types"][tables["error_types"]["label"] == label]
        audit.compare("error_types", f"{label}, all types", "pixels", rows["pixels"].sum(), one.wrong.sum())
        lacking = 1 - one.scores()["iou"]
        audit.compare("error_types", f"{label}, all types", "lost_iou", rows["lost_iou"].sum(), lacking)
    for key, rows in tables["error_types_per_class"].groupby(["label", "class"], sort=False):
        label, name = map(str, key)
        one, class_id = of_labels[label], names.index(name)
        hit, truth, predicted = (array[:, class_id].sum() for array in (one.hit, one.truth, one.predicted))
        values = {"missing": truth - hit, "extra": predicted - hit, "lost_iou": 1 - hit / (truth + predicted - hit)}
        for column, value in values.items():
            audit.compare("error_types_per_class", f"{label}, {name}, all types", column, rows[column].sum(), value)
    pixels = tables["error_types_per_image"].groupby(["label", "image_id"], sort=False)["pixels"].sum().to_dict()
    for label in dict.fromkeys(tables["error_types"]["label"]):
        for image_id, wrong in zip(image_ids, of_labels[label].wrong, strict=True):
            row = f"{label}, {image_id}, all types"
            audit.compare("error_types_per_image", row, "pixels", pixels.get((label, image_id), 0), wrong)


def _strengths(audit: Audit, frame: pd.DataFrame, of_labels: Mapping[str, Recount], names: list[str]) -> None:
    """The differences of two checkpoints by class and by size of regions."""
    bounds = {name: (least, most) for name, least, most in SIZES}
    for row in frame.to_dict("records"):
        values = []
        for label in (BASELINE, row["name"].split(" = ")[0]):
            one = of_labels[label]
            if row["kind"] == CLASS:
                values.append(float(one.class_values()["iou"][names.index(row["what"])]))
            else:
                values.append(one.size_iou(*bounds[row["what"]]))
        told = {BASELINE: values[0], "score": values[1], "difference": values[1] - values[0]}
        for column, value in told.items():
            audit.compare("strengths", f"{row['name']}, {row['what']}", column, row[column], value)


def _components(
    audit: Audit,
    frame: pd.DataFrame,
    folders: Mapping[str, Path],
    data: SegmentationData,
    image_ids: Sequence[str],
    names: list[str],
) -> None:
    """Size, recall and IoU of the components that fail, found again by their boxes."""
    places = {image_id: place for place, image_id in enumerate(image_ids)}
    for (label, image_id), rows in frame.groupby(["label", "image_id"], sort=False):
        truth, prediction = _pair(folders[str(label)], data, places[str(image_id)], str(image_id))
        for row in rows.to_dict("records"):
            box = (int(row["top"]), int(row["left"]), int(row["bottom"]), int(row["right"]))
            found = recount_component(
                truth, prediction, names.index(row["class"]), box, is_true=row["source"] == "truth"
            )
            told = f"{label}, {image_id}, {row['class']} in rows {box[0]}-{box[2]}, columns {box[1]}-{box[3]}"
            # Of several components with one box the nearest is meant.
            best = min(found, key=lambda one: abs(one["pixels"] - row["pixels"]), default={})
            for column in ("pixels", "recall", "iou"):
                audit.compare("component_failures", told, column, row[column], best.get(column, math.nan))
            share_of_image = best.get("pixels", math.nan) / truth.size
            audit.compare("component_failures", told, "area_fraction", row["area_fraction"], share_of_image)


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; returns the exit code: 0 no difference, 1 a difference or something failed, 2 bad usage."""
    options = _parser().parse_args(arguments)
    try:
        audit = _run(options)
    except SegsweepError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    print("\n".join(audit_lines(audit)))
    return 1 if audit.differences else 0


def audit_lines(audit: Audit) -> list[str]:
    """What was recomputed, what differs and what was not looked at, for a terminal."""
    lines = [f"{'table':<24}{'cells':>8}{'differ':>8}"]
    for table, cells in audit.cells.items():
        differ = sum(one.table == table for one in audit.differences)
        lines.append(f"{table:<24}{cells:>8}{differ:>8}")
    if audit.differences:
        lines += ["", f"{'table':<24}{'written':>14}{'recomputed':>14}  column, row"]
    for one in audit.differences[:MOST_SHOWN]:
        lines.append(f"{one.table:<24}{one.written:>14.8g}{one.recomputed:>14.8g}  {one.column}, {one.row}")
    if len(audit.differences) > MOST_SHOWN:
        lines.append(f"and {len(audit.differences) - MOST_SHOWN} more")
    lines += ["", *(f"not recomputed: {what}" for what in NOT_RECOMPUTED)]
    return ["".join(letter if letter.isprintable() else " " for letter in line) for line in lines]


def _run(options: argparse.Namespace) -> Audit:
    manifest = open_run(options.run)
    plugins.load_recorded(manifest.plugins, options.plugins, run=options.run, more=True)
    data = open_data(options.run, manifest, root=options.data_root)
    split = load_run_split(options.run, options.split)
    again = commands.report(options.run, *(["--split", "val"] if options.split == "val" else []))
    report = report_folder(options.run, options.split)
    tables = {name: _read_table(report, name, again) for name in _TABLES}
    comparison = tables["comparison"] = tables["comparison"].fillna({"trial_id": MAJORITY})
    if set(comparison["images"]) - {len(split.ids)}:
        raise DataError(
            f"{report} was not made on {options.split}: its tables are of other images\n"
            f"give --split, or make the report again: {again}"
        )
    trial_ids = [str(trial_id) for trial_id in dict.fromkeys(comparison["trial_id"])]
    predictions = {trial_id: _folder(options.run, split, trial_id, again) for trial_id in trial_ids}
    return audit_tables(tables, predictions, data, split.ids, iou_limit=options.iou)


_TABLES = (
    *("comparison", "per_class", "iou_thresholds", "failures", "component_failures", "error_types"),
    *("error_types_per_class", "error_types_per_image", "strengths"),
)


def _read_table(report: Path, name: str, again: str) -> pd.DataFrame:
    path = within(report, TABLES_FOLDER, f"{name}.csv")
    text = dict.fromkeys(("label", "trial_id", "image_id", "class", "name", "what"), str)
    try:
        return as_before(pd.read_csv(path, dtype=text, keep_default_na=False, na_values=[""]))
    except (OSError, ValueError) as error:
        raise DataError(f"{path} cannot be read ({error}): make the report: {again}") from error


def _folder(run: Path, split: Split, trial_id: str, again: str) -> Path:
    """Where the report kept a trial's masks, of these images in this order."""
    folder = within(evaluations(run, split.name), trial_id)
    path = folder / "evaluation.json"
    try:
        image_ids = json.loads(path.read_bytes())["image_ids"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path} cannot be read ({error}): make the report: {again}") from error
    if tuple(image_ids) != split.ids:
        raise DataError(f"{path} is of other images than the run's {split.name} split: make the report: {again}")
    return folder


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=commands.prog("analysis.audit"),
        description="Counts the numbers of a report's tables again from the masks, by other code than the report's, "
        "and prints what differs. Exit code 1 if anything does.",
    )
    parser.add_argument(
        "run", type=expanded, metavar="RUN", help="the folder of a run with a report, such as runs/NAME"
    )
    add_data_root_flag(parser)
    plugins.add_flag(parser)
    parser.add_argument("--split", choices=("test", "val"), default="test", help="of the report (default: test)")
    parser.add_argument(
        "--iou", type=share, default=0.5, metavar="T", help="the --iou that the report was made with (default: 0.5)"
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
