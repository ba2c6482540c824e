"""`python -m analysis.audit RUN`: the numbers of a report's tables counted again from the masks, and what differs.

It reads `RUN/report/tables/*.csv`, the true masks and images, and what the report kept of each checkpoint; counts everything
anew and compares cell by cell. No checkpoint is evaluated, so it opens nothing.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from analysis.audit.cells import Audit, audit_lines
from analysis.audit.intervals import units_of
from analysis.audit.looked import Sought, folder_of, look_through
from analysis.audit.of_failures import audit_failures
from analysis.audit.of_records import audit_records
from analysis.audit.of_scores import Ranked, audit_scores, dead_labels, metric_of_key
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
from trainables.data.flags import add_data_root_flag
from trainables.data.reading.names import expanded
from trainables.data.splits.frozen import load_split
from trainables.errors import DataError, SegsweepError
from trainables.flags import share
from trainables.labels import MAJORITY
from trainables.paths import within
from trainables.record import TrialRecord
from trainables.run_folder import REPORT, TABLES_FOLDER, evaluations, report_folder

TABLES = (
    *("comparison", "pareto", "standings", "strengths", "confirmation", "per_class", "iou_thresholds"),
    *("failures", "component_failures", "error_types", "error_types_per_class", "error_types_per_image"),
    *("factors", "factor_curves", "type_changes", "component_changes", "label_errors", "trials", "cost"),
)
"""Those that are compared: all but `components`."""

NOT_RECOMPUTED = (
    "whether the kept scores of pixels and confidences of regions, from which ap, map and their intervals are recomputed, "
    "are the model's: masks do not hold probabilities",
    "intervals, chances, detectable and outcomes of fresh seeds (confirmation, standings): they are drawn in 100,000 "
    "simulated sweeps",
    "components: what the trials without one component predicted on val is not kept",
    "latency_ms, latency_spread: they are measured once",
    "evidence, may_be_best, in_set, beside_best, and in pareto what val showed: words and choices, not counts",
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; returns the exit code: 0 no difference, 1 a difference or something failed, 2 bad usage."""
    options = _parser().parse_args(arguments)
    try:
        audit = _run(options)
    except SegsweepError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    print("\n".join(audit_lines(audit, NOT_RECOMPUTED)))
    return 1 if audit.differences else 0


def _run(options: argparse.Namespace) -> Audit:
    manifest = open_run(options.run)
    plugins.load_recorded(manifest.plugins, options.plugins, run=options.run, more=True)
    data = open_data(options.run, manifest, root=options.data_root)
    split = load_run_split(options.run, options.split)
    again = commands.report(options.run, *(["--split", "val"] if options.split == "val" else []))
    report = report_folder(options.run, options.split)
    tables = {name: _read_table(report, name, again) for name in TABLES}
    comparison = tables["comparison"] = tables["comparison"].fillna({"trial_id": MAJORITY})
    if set(comparison["images"]) - {len(split.ids)}:
        raise DataError(
            f"{report} was not made on {options.split}: its tables are of other images\n"
            f"give --split, or make the report again: {again}"
        )
    labels = dict(zip(comparison["label"], comparison["trial_id"], strict=True))
    records = _records(options.run, [label for label in labels if label != MAJORITY])
    trials = load_trials(options.run)
    ranked = _ranked(options.run, manifest, data, trials, labels, records, options.split)
    kept = evaluations(options.run, split.name)
    # On val the seeds' own scores are compared, and their masks are not kept.
    seeds = {one for own in ranked.seeds.values() for one in own} if options.split != "val" else set()
    wanted = [*dict.fromkeys(labels.values()), *sorted(seeds - set(labels.values()))]
    folders = {one: folder_of(within(kept, one), split.ids, again) for one in wanted}
    of_labels = [trial_id for label, trial_id in labels.items() if label != MAJORITY]
    sought = Sought(
        data=data,
        image_ids=split.ids,
        names=[info.name for info in data.classes],
        iou_limit=options.iou,
        folders=folders,
        confused=_confused(tables["failures"], labels),
        failures_of=of_labels,
    )
    looked = look_through(sought, units_of(split.groups))
    audit = Audit()
    audit_scores(audit, tables, looked, ranked)
    dead = {labels[label] for label in dead_labels(looked, ranked)}
    audit_failures(
        audit,
        tables,
        looked,
        labels,
        voters=set(wanted) - {MAJORITY} - dead,
        split=options.split,
        seed=manifest.seed,
    )
    audit_records(audit, tables, trials, records)
    return audit


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
    return {label: load_trial(folders[label]) for label in labels if label in folders}


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
    texts = ("label", "trial_id", "image_id", "class", "name", "what", "models_say", "taken_for", "confused_with", "parent")
    try:
        read = pd.read_csv(path, dtype=dict.fromkeys(texts, str), keep_default_na=False, na_values=[""])
    except (OSError, ValueError) as error:
        raise DataError(f"{path} cannot be read ({error}): make the report: {again}") from error
    return as_before(read)


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
