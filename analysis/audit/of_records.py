"""What tables repeat from the run's own files: `trials`, `cost`, and what `comparison` says a label is."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from analysis.audit.cells import Audit
from trainables.labels import MAJORITY
from trainables.record import TrialRecord


def audit_records(
    audit: Audit, tables: Mapping[str, pd.DataFrame], trials: pd.DataFrame, records: Mapping[str, TrialRecord]
) -> None:
    """Compares what the tables repeat.

    Args:
        audit: What was compared so far.
        tables: By name.
        trials: The rows of the run's `trials.csv`.
        records: Of the labels' checkpoints.
    """
    written = {row["trial_id"]: row for row in tables["trials"].to_dict("records")}
    own = {row["trial_id"]: row for row in trials.to_dict("records")}
    audit.compare_rows("trials", written, own)
    for trial_id, row in own.items():
        audit.compare_row("trials", trial_id, written.get(trial_id, {}), {str(name): _plain(row[name]) for name in row})
    comparison = {row["label"]: row for row in tables["comparison"].to_dict("records")}
    costs = {row["label"]: row for row in tables["cost"].to_dict("records")}
    audit.compare_rows("comparison", comparison, [*records, MAJORITY])
    audit.compare_rows("cost", costs, records)
    for label, record in records.items():
        config = record.config.flat()
        cost = {"epochs": record.epochs, "train_seconds": record.train_seconds, "params": record.parameters}
        told = {"model": config["model.name"], "policy": config["augment.policy"], "loss": config["loss.name"]}
        audit.compare_row("comparison", label, comparison.get(label, {}), {**told, **cost, "seeds": 1})
        seconds = {"gpu_seconds": _gpu_seconds(record.trial_id, own), "search_seconds": trials["seconds"].sum()}
        audit.compare_row("cost", label, costs.get(label, {}), {"trial_id": record.trial_id, **cost, **seconds})


def _gpu_seconds(trial_id: str, trials: Mapping[str, Mapping[Any, Any]]) -> float:
    """Of a trial and of those that it continued."""
    total, seen = 0.0, set()
    while trial_id and trial_id not in seen:
        seen.add(trial_id)
        row = trials.get(trial_id, {})
        total += float(row.get("gpu_seconds", 0.0))
        trial_id = str(row.get("parent") or "")
    return total


def _plain(value: Any) -> Any:
    """Text as text, and everything else as a number."""
    return value if isinstance(value, str) else float(value)
