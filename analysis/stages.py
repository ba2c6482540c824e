"""What became of the winner's score: on val when it was chosen, over fresh seeds, and on test."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import pandas as pd

from analysis.comparison import lineage
from sweep.objectives import Objective
from sweep.verdict import Verdict
from trainables.labels import BASELINE, BEST
from trainables.record import TrialRecord
from trainables.words import counted


@dataclass(frozen=True)
class Stage:
    """A measurement of the winner, and the same of the baseline.

    Attributes:
        where: Such as `on val when it was chosen`.
        winner: Score of it.
        baseline: Score of the baseline.
        seeds: Behind each score.
    """

    where: str
    winner: float
    baseline: float
    seeds: int = 1


def stages(
    labels: Mapping[str, TrialRecord],
    split_scores: Mapping[str, float],
    on_val: Verdict | None,
    on_split: Verdict | None,
    trials: pd.DataFrame,
    *,
    objective: Objective,
    split: str,
) -> list[Stage]:
    """The winner's scores beside the baseline's, in the order in which they were measured.

    Args:
        labels: Records by label.
        split_scores: Of each label's checkpoint on the split of the report.
        on_val: The sweep's own verdict; None without fresh seeds.
        on_split: The verdict on the split of the report.
        trials: The rows of `trials.csv`.
        objective: What ranks.
        split: Of the report.

    Returns:
        Nothing where the winner is the baseline, or one of them is not there.
    """
    if BEST not in labels or BASELINE not in labels or labels[BEST].trial_id == labels[BASELINE].trial_id:
        return []
    winner, baseline = labels[BEST], labels[BASELINE]
    found = []
    own_val, base_val = objective.value(winner.metrics), objective.value(baseline.metrics)
    if own_val is not None and base_val is not None:
        found.append(Stage("on val when it was chosen", own_val, base_val))
    source = lineage(winner.trial_id, trials)[-1]
    fresh = [("val", on_val)] if split == "val" else [("val", on_val), (split, on_split)]
    for where, verdict in fresh:
        held = {} if verdict is None else {one.trial_id: one for one in verdict.configurations}
        if source in held and verdict is not None:
            own = held[source]
            told = f"on {where} over {counted(len(own.scores), 'fresh seed')}"
            found.append(Stage(told, own.mean, verdict.configurations[0].mean, len(own.scores)))
    if split != "val" and on_split is None:
        found.append(Stage(f"on {split}", split_scores[BEST], split_scores[BASELINE]))
    return found
