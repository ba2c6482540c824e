"""What a reader must know before believing the numbers of a report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from analysis.kept import Evaluation
from analysis.scores import Classes, units_of, why_no_interval
from analysis.statistics import MIN_GROUPS, MIN_IMAGES, enough
from trainables.labels import BASELINE, BEST, MAJORITY
from trainables.metrics import Metric, all_metrics
from trainables.record import TrialRecord
from trainables.words import NAMED, some_of

_OF_MANY = 5
"""How many of more than `NAMED` classes are named: a reader looks the others up in the table."""


def _without_interval(evaluations: Mapping[str, Evaluation], classes: Classes, further: Sequence[Metric]) -> list[str]:
    """Which metrics of checkpoints have no interval, and why."""
    words: dict[str, list[str]] = {}
    for trial_id, evaluation in evaluations.items():
        for metric in (*all_metrics(), *further) if trial_id != MAJORITY else ():
            why = why_no_interval(metric, evaluation, classes=classes)
            if why and metric.words not in words.setdefault(why, []):
                words[why].append(metric.words)
    return [f"no interval of {', '.join(of_reason)}: {why}" for why, of_reason in words.items() if of_reason]


def reader_notes(
    labels: Mapping[str, TrialRecord],
    warnings: Sequence[str],
    evaluations: Mapping[str, Evaluation],
    classes: Classes,
    *,
    further: Sequence[Metric] = (),
) -> list[str]:
    """What is special about a run and a split: warnings of the data, groups, missing intervals, classes and labels.

    Args:
        labels: Records by label.
        warnings: Of the data, and of times per image that are not to be relied on.
        evaluations: By trial id, and `majority`.
        classes: Of the data set.
        further: Metrics of one class that the sweep ranked by.
    """
    notes, floor = [*warnings], evaluations[MAJORITY]
    units = units_of(floor)
    if units.grouped:
        notes.append(f"images come in {units.count} groups of similar ones; intervals are over groups, not over images")
    if floor.split == "val":
        notes.append(
            "val chose every label but the baseline, as the best of its kind: their scores on it are too good, and "
            "have no intervals"
        )
    if not enough(units):
        least, what = (MIN_GROUPS, "groups") if units.grouped else (MIN_IMAGES, "images")
        notes.append(
            f"{floor.split} has {units.count} {what}: too few for intervals, which need at least {least} {what}"
        )
    elif floor.split != "val":
        notes += _without_interval(evaluations, classes, further)
    absent = [name for name, pixels in zip(classes.names, floor.confusions.sum(axis=(0, 2)), strict=True) if not pixels]
    if absent:
        told = some_of(absent, NAMED if len(absent) <= NAMED else _OF_MANY)
        notes.append(f"not in the truth of {floor.split}, so without a true score there: {told}")
    by_trial: dict[str, list[str]] = {}
    for label, record in labels.items():
        by_trial.setdefault(record.trial_id, []).append(label)
    notes += [
        f"{' and '.join(shared)} are one trial ({trial_id}): their numbers are the same checkpoint's"
        for trial_id, shared in by_trial.items()
        if len(shared) > 1
    ]
    notes += [
        f"no checkpoint for {label}: {reason}"
        for label, reason in ((BASELINE, "the known-good point did not finish"), (BEST, "no trial finished"))
        if label not in labels
    ]
    return notes
