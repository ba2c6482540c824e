"""`python -m analysis.audit RUN`: the numbers of a report's tables counted again from the masks, and what differs.

It reads `RUN/report/tables/*.csv`, the true masks and images, and what the report kept of each checkpoint; counts
everything anew and compares cell by cell. No checkpoint is evaluated, so it opens nothing.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from analysis.audit.cells import Audit, audit_lines
from analysis.audit.intervals import units_of
from analysis.audit.looked import Looked, Sought, folder_of, look_through
from analysis.audit.of_failures import audit_failures
from analysis.audit.of_records import audit_records
from analysis.audit.of_scores import Ranked, audit_scores, dead_labels, metric_of_key
from analysis.audit.pixels import Floats
from analysis.formulas import as_before
from analysis.label_folders import label_folders
from analysis.load import load_events, load_trials
from sweep.manifest import SweepManifest
from sweep.verdict import last_verdict
from sweep.verify import load_run_split, open_data, open_run
from trainables import commands, plugins
from trainables.checkpoint import TRIAL_FILE, load_trial
from trainables.data.base import SegmentationData
from trainables.data.cache.decoded import class_pixels
from trainables.data.flags import add_run_flags
from trainables.data.splits.frozen import load_split
from trainables.errors import DataError
from trainables.flags import command_parser, share
from trainables.guarded import guarded
from trainables.labels import MAJORITY
from trainables.paths import within
from trainables.record import TrialRecord
from trainables.run_folder import REPORT, TABLES_FOLDER, evaluations, report_folder

TABLES = (
    *("comparison", "pareto", "standings", "strengths", "confirmation", "per_class", "iou_thresholds"),
    *("failures", "component_failures", "error_types", "error_types_per_class", "error_types_per_image"),
    *("factors", "factor_curves", "type_changes", "component_changes", "label_errors", "trials", "cost"),
)
"""Those that are compared: all but `components` and `slices`."""

NOT_RECOMPUTED = (
    "whether the kept scores of pixels and confidences of regions, from which ap, map and their intervals are "
    "recomputed, are the model's: masks do not hold probabilities",
    "intervals, chances, detectable and outcomes of fresh seeds (confirmation, standings): they are drawn in 100,000 "
    "simulated sweeps",
    "distances of images from training, whose effect is recomputed (factors): they are the model's features",
    "slices: the search through all pairs of conditions is not repeated",
    "components: what the trials without one component predicted on val is not kept",
    "latency_ms, latency_spread: they are measured once",
    "evidence, may_be_best, in_set, beside_best, and in pareto what val showed: words and choices, not counts",
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; returns the exit code: 0 no difference, 1 a difference or something failed, 2 bad usage."""
    options = _parser().parse_args(arguments)

    def show() -> int:
        audit = _audit(options)
        print("\n".join(audit_lines(audit, NOT_RECOMPUTED)))
        return 1 if audit.differences else 0

    return guarded(show, interrupted="interrupted")


def _audit(options: argparse.Namespace) -> Audit:
    manifest = open_run(options.run)
    plugins.load_recorded(manifest.plugins, options.plugins, run=options.run, more=True)
    data = open_data(options.run, manifest, root=options.data_root)
    tables = read_tables(options.run, options.split)
    return compare(tables, gather(options.run, manifest, data, tables, split=options.split, iou_limit=options.iou))


@dataclass(frozen=True)
class Gathered:
    """All that tables are compared with.

    Attributes:
        looked: What was found in the masks.
        ranked: What the sweep ranked by.
        records: Of the labels' checkpoints.
        trials: The rows of `trials.csv`.
        seed: Of the sweep.
    """

    looked: Looked
    ranked: Ranked
    records: Mapping[str, TrialRecord]
    trials: pd.DataFrame
    seed: int


def gather(
    run_dir: Path,
    manifest: SweepManifest,
    data: SegmentationData,
    tables: Mapping[str, pd.DataFrame],
    *,
    split: str,
    iou_limit: float,
) -> Gathered:
    """Looks at every mask that a report kept.

    Args:
        run_dir: The run.
        manifest: Of the run.
        data: Its data set.
        tables: Of the report; they say which trial each label is.
        split: `test` or `val`.
        iou_limit: A region or component fails at or below it.

    Raises:
        DataError: If the report is of another split, or what it kept is missing, damaged or of other images.
        CheckpointError: If the record of a label cannot be read.
    """
    images = load_run_split(run_dir, split)
    again = _again(run_dir, split)
    comparison = tables["comparison"]
    if set(comparison["images"]) - {len(images.ids)}:
        raise DataError(
            f"{report_folder(run_dir, split)} was not made on {split}: its tables are of other images\n"
            f"give --split, or make the report again: {again}"
        )
    labels = dict(zip(comparison["label"], comparison["trial_id"], strict=True))
    records = _records(run_dir, [label for label in labels if label != MAJORITY])
    trials = load_trials(run_dir)
    ranked = _ranked(run_dir, manifest, data, trials, labels, records, split)
    # On val the seeds' own scores are compared, and their masks are not kept.
    seeds = {one for own in ranked.seeds.values() for one in own} if split != "val" else set()
    wanted = [*dict.fromkeys(labels.values()), *sorted(seeds - set(labels.values()))]
    kept = evaluations(run_dir, split)
    sought = Sought(
        data=data,
        image_ids=images.ids,
        names=[info.name for info in data.classes],
        iou_limit=iou_limit,
        folders={one: folder_of(within(kept, one), images.ids, again) for one in wanted},
        confused=_confused(tables["failures"], labels),
        failures_of=[trial_id for label, trial_id in labels.items() if label != MAJORITY],
        frequency=_frequency(run_dir, data),
    )
    return Gathered(look_through(sought, units_of(images.groups)), ranked, records, trials, manifest.seed)


def _frequency(run_dir: Path, data: SegmentationData) -> Floats | None:
    """Share of the training images that have each class; None where one cannot be read."""
    try:
        masks = [data.mask(image_id) for image_id in load_split(run_dir, "train").ids]
    except (OSError, DataError):
        return None
    shown = [np.bincount(mask.ravel(), minlength=len(data.classes))[: len(data.classes)] > 0 for mask in masks]
    return np.asarray(np.mean(shown, axis=0))


def compare(tables: Mapping[str, pd.DataFrame], gathered: Gathered) -> Audit:
    """Compares every cell of tables that can be recomputed."""
    audit = Audit()
    looked, ranked = gathered.looked, gathered.ranked
    audit_scores(audit, tables, looked, ranked)
    dead = {ranked.trials[label] for label in dead_labels(looked, ranked)}
    audit_failures(
        audit,
        tables,
        looked,
        ranked.trials,
        voters=set(looked.trials) - {MAJORITY} - dead,
        split=ranked.split,
        seed=gathered.seed,
    )
    audit_records(audit, tables, gathered.trials, gathered.records)
    return audit


def read_tables(run_dir: Path, split: str) -> dict[str, pd.DataFrame]:
    """The tables of a report, by name.

    Raises:
        DataError: If one is missing or damaged.
    """
    tables = {name: _read_table(report_folder(run_dir, split), name, _again(run_dir, split)) for name in TABLES}
    tables["comparison"] = tables["comparison"].fillna({"trial_id": MAJORITY})
    return tables


def _again(run_dir: Path, split: str) -> str:
    """The command that makes the report."""
    return commands.report(run_dir, *(["--split", "val"] if split == "val" else []))


def _ranked(
    run_dir: Path,
    manifest: SweepManifest,
    data: SegmentationData,
    trials: pd.DataFrame,
    labels: Mapping[str, str],
    records: Mapping[str, TrialRecord],
    split: str,
) -> Ranked:
    names = [info.name for info in data.classes]
    metric = metric_of_key(manifest.objective, names)
    if metric is None:
        raise DataError(f"the sweep was ranked by {manifest.objective}, which is not a metric of this version's own")
    parents = dict(zip(trials["trial_id"], trials["parent"], strict=True)) if "parent" in trials else {}
    verdict = last_verdict(load_events(run_dir))
    return Ranked(
        metric=metric,
        is_min=manifest.direction == "min",
        split=split,
        trials=labels,
        losses={label: _losses(record) for label, record in records.items()},
        learnt=np.asarray(class_pixels(data, load_split(run_dir, "train").ids)) > 0,
        seeds={one.trial_id: one.trials for one in verdict.configurations} if verdict else {},
        sources={trial_id: _source(trial_id, parents) for trial_id in {*labels.values(), *parents}},
        winner=verdict.winner if verdict else "",
    )


def _source(trial_id: str, parents: Mapping[str, str]) -> str:
    """The trial of the search that a trial continues, over others where need be."""
    seen = {trial_id}
    while (parent := parents.get(trial_id)) and parent not in seen:
        seen.add(parent)
        trial_id = parent
    return trial_id


def _records(run_dir: Path, labels: Sequence[str]) -> dict[str, TrialRecord]:
    """The records of labels' checkpoints: those of the sweep, and those that the report added by `--top`."""
    folders = label_folders(run_dir)
    added = {label: within(run_dir, REPORT, "checkpoints", label) for label in labels if label not in folders}
    folders |= {label: folder for label, folder in added.items() if (folder / TRIAL_FILE).is_file()}
    return {label: load_trial(folder) for label, folder in folders.items()}


def _losses(record: TrialRecord) -> list[float]:
    return [float(epoch["metrics"]["train/loss"]) for epoch in record.history if "train/loss" in epoch["metrics"]]


def _confused(failures: pd.DataFrame, labels: Mapping[str, str]) -> dict[tuple[str, str, str], str]:
    """The class that regions are confused with, by trial, image and class."""
    return {
        (labels.get(row["label"], ""), row["image_id"], row["class"]): str(row["confused_with"])
        for row in failures.to_dict("records")
    }


def _read_table(report: Path, name: str, again: str) -> pd.DataFrame:
    path = within(report, TABLES_FOLDER, f"{name}.csv")
    texts = (
        "label",
        "trial_id",
        "image_id",
        "class",
        "name",
        "what",
        "models_say",
        "taken_for",
        "confused_with",
        "parent",
    )
    try:
        read = pd.read_csv(path, dtype=dict.fromkeys(texts, str), keep_default_na=False, na_values=[""])
    except (OSError, ValueError) as error:
        raise DataError(f"{path} cannot be read ({error}): make the report: {again}") from error
    return as_before(read)


def _parser() -> argparse.ArgumentParser:
    parser = command_parser(
        "analysis.audit",
        "Counts the numbers of a report's tables again from the masks, by other code than the report's, "
        "and prints what differs. Exit code 1 if anything does.",
    )
    add_run_flags(parser)
    parser.add_argument("--split", choices=("test", "val"), default="test", help="of the report (default: test)")
    parser.add_argument(
        "--iou", type=share, default=0.5, metavar="T", help="the --iou that the report was made with (default: 0.5)"
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
