"""What several objectives cost one another: the Pareto set that val chose, on the split of the report."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import pandas as pd

from analysis.scores import Scores
from sweep.latencies import MeasuredLatency, latency_of
from sweep.objectives import Objective, SplitObjective
from sweep.pareto import Point, TradeOff, beside
from trainables.metrics import LATENCY
from trainables.record import TrialRecord

COLUMNS = ("label", "trial_id", "in_set", "seeds")
"""First of the table `pareto`; then the objectives, and what the text of `beside_best` says."""
SPREAD = "latency_spread"


def on_split(
    trade_off: TradeOff,
    objectives: Sequence[Objective],
    labels: Mapping[str, TrialRecord],
    scores: Mapping[str, Scores],
) -> TradeOff:
    """The trade-off as the checkpoints of the labels show it on a split that chose nothing.

    Who is in the set stays as val chose it. Configurations that no label holds are left out.

    Args:
        trade_off: Of the sweep, on val.
        objectives: Of the sweep, in its order.
        labels: Records by label.
        scores: By trial id.
    """

    def values(point: Point) -> dict[str, float]:
        of_label = scores[labels[point.published].trial_id]
        measured = {one.key: of_label[one.metric.name].value for one in objectives if isinstance(one, SplitObjective)}
        return {**point.values, **measured}

    points = [
        dataclasses.replace(point, values=values(point), fresh={}, seeds=1)
        for point in trade_off.points
        if point.published in labels
    ]
    if trade_off.best not in [point.trial_id for point in points]:
        return trade_off
    first = objectives[0]
    points.sort(key=lambda point: -first.goodness(point.values[first.key]))
    return dataclasses.replace(trade_off, points=tuple(points))


def pareto_columns(objectives: Sequence[Objective], split: str) -> list[str]:
    """Columns of the table `pareto`."""
    keys = [objective.key for objective in objectives]
    spread = [SPREAD] if LATENCY.name in keys else []
    measured = [one.metric.name for one in objectives if isinstance(one, SplitObjective)] if split != "val" else []
    return [*COLUMNS, *keys, *spread, *measured, "beside_best"]


def pareto_frame(
    chosen: TradeOff | None,
    shown: TradeOff | None,
    objectives: Sequence[Objective],
    *,
    split: str,
    latencies: Sequence[MeasuredLatency],
    labels: Mapping[str, TrialRecord],
) -> pd.DataFrame:
    """The table `pareto`: a row for each configuration of the Pareto set, the best and the baseline.

    Args:
        chosen: Of the sweep, on val; None for one objective, which gives an empty table.
        shown: On the split of the report.
        objectives: Of the sweep, in its order.
        split: Of the report.
        latencies: As they were measured before the sweep.
        labels: Records by label.

    Returns:
        Columns `pareto_columns`: objectives by their keys are as the sweep had them (means over so many seeds), on
        another split those that are measured there follow by their metrics' names. `beside_best` compares with `best`.
    """
    rows: list[dict[str, object]] = []
    on_val = {point.trial_id: point for point in chosen.points} if chosen else {}
    points = shown.points if shown else ()
    best = next((point for point in points if shown and point.trial_id == shown.best), None)
    for point in points:
        own = on_val[point.trial_id]
        record = labels.get(point.published)
        latency = latency_of(latencies, record.config.flat()) if record is not None else None
        rows.append(
            {
                "label": point.published or point.label,
                "trial_id": point.trial_id,
                "in_set": "yes" if point.is_in_set else "no",
                "seeds": own.seeds,
                **own.shown,
                SPREAD: None if latency is None else latency.spread,
                **{one.metric.name: point.values[one.key] for one in objectives if isinstance(one, SplitObjective)},
                "beside_best": "" if best is None or point is best else beside(point, best, objectives),
            }
        )
    return pd.DataFrame(rows, columns=pareto_columns(objectives, split))


def labels_in_set(trade_off: TradeOff | None, labels: Mapping[str, TrialRecord]) -> set[str]:
    """The labels whose trial is in the Pareto set, `best` among them where it is."""
    published = {point.published for point in trade_off.in_set} if trade_off else set()
    held = {labels[label].trial_id for label in published & labels.keys()}
    return {label for label, record in labels.items() if record.trial_id in held}
