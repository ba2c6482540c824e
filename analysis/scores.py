"""What each checkpoint scores on a split by every metric, and how sure that is."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

import numpy as np

from analysis.kept import Evaluation, OnStep
from analysis.statistics import Interval, Statistic, bootstrap_interval
from trainables.metrics import Floats, Metric, Replicates, Units, all_metrics, sampling_units


@dataclass(frozen=True)
class Score:
    """A metric of one checkpoint on a split, with its 95% interval; the bounds are NaN where none can be given."""

    value: float
    low: float
    high: float


Scores = Mapping[str, Score]
"""By name of the metric, in the order of the columns."""


def metric_statistic(evaluation: Evaluation, metric: Metric) -> Statistic:
    """A metric as a function of image weights of shape (R, N), giving shape (R,)."""
    return lambda weights: metric(Replicates(evaluation, weights))


def score_statistic(evaluation: Evaluation) -> Statistic:
    """Every metric as a function of image weights of shape (R, N), giving shape (K, R) in the order of the columns."""

    def of_weights(weights: Floats) -> Floats:
        replicates = Replicates(evaluation, weights)
        return np.stack([metric(replicates) for metric in all_metrics()])

    return of_weights


def score_labels(
    evaluations: Mapping[str, Evaluation],
    *,
    picked: Collection[str] = (),
    resamples: int = 1000,
    seed: int = 0,
    progress: OnStep | None = None,
) -> dict[str, Scores]:
    """Scores and intervals of every trial id; all resample the same images.

    Args:
        evaluations: By trial id.
        picked: Trials that were chosen by their scores on these images, which have no interval: it would not hold.
        resamples: Replicates of the bootstrap.
        seed: Of its draws.
        progress: Told how many trials are scored.
    """
    scores: dict[str, Scores] = {}
    for trial_id, evaluation in evaluations.items():
        statistic = score_statistic(evaluation)
        values = statistic(np.ones((1, len(evaluation.image_ids))))[:, 0]
        interval = Interval(np.full(len(values), np.nan), np.full(len(values), np.nan))
        if trial_id not in picked:
            interval = bootstrap_interval(statistic, units_of(evaluation), resamples=resamples, seed=seed)
        numbers = zip(values, interval.low, interval.high, strict=True)
        scores[trial_id] = {
            metric.name: Score(*map(float, of_metric)) for metric, of_metric in zip(all_metrics(), numbers, strict=True)
        }
        if progress:
            progress("intervals", len(scores), len(evaluations))
    return scores


def units_of(evaluation: Evaluation) -> Units:
    """What the intervals of an evaluation resample: its images, or their groups."""
    return sampling_units(evaluation.groups)
