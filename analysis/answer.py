"""The winner of the search beside the baseline: what may be said of the two on a split."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum

import numpy as np

from analysis.candidates import same_configuration
from analysis.kept import Evaluation
from analysis.scores import Classes, Scores, metric_statistic, units_of, why_no_interval
from analysis.statistics import Interval, paired_interval
from sweep.objectives import SplitObjective
from trainables.labels import BASELINE, BEST
from trainables.record import TrialRecord

EVIDENCE = "one checkpoint each"
"""Level of everything said here: other images are accounted for, other seeds are not."""


class Verdict(Enum):
    """What may be said about the difference of two checkpoints on a split."""

    SAME = "they are one configuration, which is never compared with itself"
    CHOSEN_HERE = "the split chose the winner, so it cannot test it"
    NO_INTERVAL = "no interval can be given on the split"
    HIGHER = "the interval lies above 0"
    LOWER = "the interval lies below 0"
    UNDECIDED = "the interval holds 0"


@dataclass(frozen=True)
class Answer:
    """The winner of the search beside the baseline, on the split of the report.

    Attributes:
        winner: Label with the best score on val (the search's choice; never chosen on this split).
        baseline: The known-good point's label.
        objective: What is compared.
        winner_score: Of the winner on the split.
        baseline_score: Of the baseline on the split.
        difference: Winner minus baseline.
        low: Lower bound of the difference's 95% interval, over the same images; NaN where none is given.
        high: Upper bound.
        same_configuration: The two differ in nothing but perhaps the seed.
        chosen_here: The split is val, which chose the winner: there is no interval of the difference on it.
        val_ranks: Rank of each label by the objective on val at its last epoch, 1 is best; labels of one trial share
            theirs.
        split_ranks: The same on the split.
        units: `images` or `groups`.
        unit_count: How many of them.
        why_none: Why there is no interval; empty where there is one, or where none is to be given.
        evidence: Level of the statement.
    """

    winner: str
    baseline: str
    objective: SplitObjective
    winner_score: float
    baseline_score: float
    difference: float
    low: float
    high: float
    same_configuration: bool
    chosen_here: bool
    val_ranks: Mapping[str, int]
    split_ranks: Mapping[str, int]
    units: str
    unit_count: int
    why_none: str = ""
    evidence: str = EVIDENCE

    @property
    def verdict(self) -> Verdict:
        """What may be said; an interval that ends at 0 holds it."""
        if self.same_configuration:
            return Verdict.SAME
        if self.chosen_here:
            return Verdict.CHOSEN_HERE
        if math.isnan(self.low) or math.isnan(self.high):
            return Verdict.NO_INTERVAL
        if self.low > 0:
            return Verdict.HIGHER
        return Verdict.LOWER if self.high < 0 else Verdict.UNDECIDED


def answer(
    labels: Mapping[str, TrialRecord],
    evaluations: Mapping[str, Evaluation],
    scores: Mapping[str, Scores],
    *,
    objective: SplitObjective,
    winner: str = BEST,
    baseline: str = BASELINE,
    classes: Classes | None = None,
) -> Answer:
    """Compares the winner of the search (chosen on val) with the baseline, by the sweep's objective on the split.

    On val itself there is no interval of the difference: it would test the winner on the images that chose it.

    Args:
        labels: Records by label; holds `winner` and `baseline`.
        evaluations: By trial id.
        scores: By trial id.
        objective: What the sweep ranked by.
        winner: Label of the search's winner.
        baseline: Label of the known-good point.
        classes: Of the data set.
    """
    first, second = (evaluations[labels[label].trial_id] for label in (winner, baseline))
    metric = objective.metric
    split = {label: scores[record.trial_id][metric.name].value for label, record in labels.items()}
    same = same_configuration(labels[winner].config.flat(), labels[baseline].config.flat())
    chosen_here = first.split == "val"
    units = units_of(first)
    interval = Interval(np.array(math.nan), np.array(math.nan))
    why = why_no_interval(metric, first, second, classes=classes)
    if not (same or chosen_here or why):
        interval = paired_interval(metric_statistic(first, metric), metric_statistic(second, metric), units)
    return Answer(
        winner=winner,
        baseline=baseline,
        objective=objective,
        winner_score=split[winner],
        baseline_score=split[baseline],
        difference=split[winner] - split[baseline],
        low=float(interval.low),
        high=float(interval.high),
        same_configuration=same,
        chosen_here=chosen_here,
        val_ranks=objective.ranks({one: record.metrics.get(objective.key, math.nan) for one, record in labels.items()}),
        split_ranks=objective.ranks(split),
        units=units.name,
        unit_count=units.count,
        why_none=why,
    )
