"""What each label scores on a split, how sure that is, and what may be said of two of them: the report's tables."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum

import numpy as np
import numpy.typing as npt
import pandas as pd

from analysis.candidates import same_configuration
from analysis.evaluate import MAJORITY, Evaluation, Progress
from analysis.objectives import OBJECTIVES, Objective
from analysis.statistics import (
    Interval,
    Statistic,
    Units,
    bootstrap_interval,
    mean_over_split_classes,
    paired_interval,
    sampling_units,
    weighted_sum,
)
from trainables import metrics
from trainables.checkpoint import TrialRecord
from trainables.metrics import IOU_THRESHOLDS, mean_over_classes

Floats = npt.NDArray[np.float64]

METRICS = ("pixel_accuracy", "iou", "f1", "precision", "recall", "ap", "map")
"""Columns of `comparison`, each with `_low` and `_high`."""

COMPARISON_COLUMNS = (
    *("label", "trial_id", "model", "policy", "loss", "epochs", "seeds", "images"),
    *(f"{name}{end}" for name in METRICS for end in ("", "_low", "_high")),
    *("params", "latency_ms", "train_seconds"),
)
PER_CLASS_COLUMNS = ("label", "class", "iou", "f1", "precision", "recall", "ap", "images", "pixels")
THRESHOLD_COLUMNS = ("label", "threshold", "precision", "recall", "f1", "ap")
COST_COLUMNS = (
    *("label", "trial_id", "epochs", "train_seconds", "gpu_seconds", "params", "latency_ms"),
    "search_seconds",
)

EVIDENCE = "one checkpoint each"
"""Level of everything said here: other images are accounted for, other seeds are not."""


@dataclass(frozen=True)
class LabelScores:
    """The seven metrics of one checkpoint on a split, in the order of `METRICS`.

    Attributes:
        values: Shape (7,).
        interval: Bounds of shape (7,).
    """

    values: Floats
    interval: Interval


class Verdict(Enum):
    """What may be said about the difference of two checkpoints on a split."""

    SAME = "they are one configuration, which is never compared with itself"
    CHOSEN_HERE = "the split chose the winner, so it cannot test it"
    NO_INTERVAL = "the split is too small for an interval"
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
        evidence: Level of the statement.
    """

    winner: str
    baseline: str
    objective: Objective
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


DEAD_MARGIN = 0.001
"""A label whose mIoU is no more than this above `majority`'s has learnt nothing that the commonest class does not."""


@dataclass(frozen=True)
class Dead:
    """Why a label is dead on a split.

    Attributes:
        only_class: Id of the class that it predicts everywhere, or None if it predicts several.
        iou: Its mIoU.
        floor: That of `majority`.
    """

    only_class: int | None
    iou: float
    floor: float


def find_dead(confusion: npt.NDArray[np.integer], floor: float) -> Dead | None:
    """Whether a model learnt nothing: it predicts one class everywhere, or stands at the floor.

    Args:
        confusion: Of the whole split, shape (C, C), rows truth.
        floor: mIoU of `majority` on the split.
    """
    iou = float(mean_over_classes(metrics.iou(confusion)))
    predicted = np.flatnonzero(confusion.sum(axis=0))
    if len(predicted) == 1:
        return Dead(int(predicted[0]), iou, floor)
    return Dead(None, iou, floor) if iou - floor <= DEAD_MARGIN else None


def dead_labels(trial_ids: Mapping[str, str], evaluations: Mapping[str, Evaluation]) -> dict[str, Dead]:
    """The labels that learnt nothing, and why.

    Args:
        trial_ids: Trial id of each label.
        evaluations: By trial id, and `majority`.
    """
    floor = float(mean_over_classes(metrics.iou(evaluations[MAJORITY].confusions.sum(axis=0))))
    found = {label: find_dead(evaluations[one].confusions.sum(axis=0), floor) for label, one in trial_ids.items()}
    return {label: dead for label, dead in found.items() if dead is not None}


def score_statistic(evaluation: Evaluation) -> Statistic:
    """The seven metrics as a function of image weights of shape (R, N), giving shape (7, R)."""
    confusions, confidence = evaluation.confusions, evaluation.confidence
    split = confusions.sum(axis=0)
    in_truth = split.sum(axis=1) > 0
    functions = (metrics.iou, metrics.f1, metrics.precision, metrics.recall)
    split_values = [function(split) for function in functions]

    def of_weights(weights: Floats) -> Floats:
        matrix = weighted_sum(weights, confusions)
        held = matrix.sum(axis=-1) > 0
        pixelwise = [
            mean_over_split_classes(function(matrix), held, in_truth, values)
            for function, values in zip(functions, split_values, strict=True)
        ]
        ap = np.stack([_pixel_ap(evaluation, index, weights) for index in range(len(split))], axis=-1)
        regions = metrics.region_average_precision(confusions, confidence, weights=weights)
        return np.stack(
            [
                metrics.pixel_accuracy(matrix),
                *pixelwise,
                mean_over_classes(ap),
                mean_over_classes(np.moveaxis(regions, -1, 0)).mean(axis=0),
            ]
        )

    return of_weights


def _pixel_ap(evaluation: Evaluation, class_id: int, weights: Floats) -> Floats:
    """Average precision of one class's pixels, weights of shape (R, N) to (R,).

    One class at a time, for the histograms of all classes, or those of all replicates, would fill the memory.
    """
    histograms = evaluation.histograms(class_id)
    # Levels above and below all scores change nothing, and in a small or untrained model they are most.
    scored = np.flatnonzero(histograms.max(axis=(0, 1), initial=0))
    levels = slice(scored[0], scored[-1] + 1) if len(scored) else slice(1)
    return metrics.average_precision(weighted_sum(weights, histograms[..., levels]))


def score_labels(
    evaluations: Mapping[str, Evaluation], *, resamples: int = 1000, seed: int = 0, progress: Progress | None = None
) -> dict[str, LabelScores]:
    """Scores and intervals of every trial id; all resample the same images.

    Args:
        evaluations: By trial id.
        resamples: Replicates of the bootstrap.
        seed: Of its draws.
        progress: Told how many trials are scored.
    """
    scores: dict[str, LabelScores] = {}
    for trial_id, evaluation in evaluations.items():
        statistic = score_statistic(evaluation)
        values = statistic(np.ones((1, len(evaluation.image_ids))))[:, 0]
        interval = bootstrap_interval(statistic, units_of(evaluation), resamples=resamples, seed=seed)
        scores[trial_id] = LabelScores(values, interval)
        if progress:
            progress("intervals", len(scores), len(evaluations))
    return scores


def units_of(evaluation: Evaluation) -> Units:
    """What the intervals of an evaluation resample: its images, or their groups."""
    return sampling_units(evaluation.groups)


def comparison_frame(
    labels: Mapping[str, TrialRecord], evaluations: Mapping[str, Evaluation], scores: Mapping[str, LabelScores]
) -> pd.DataFrame:
    """The table `comparison`: a row a label, then the floor `majority` where it was evaluated."""
    rows: list[dict[str, object]] = []
    for label, record in labels.items():
        config = record.config.flat()
        rows.append(
            {
                "label": label,
                "trial_id": record.trial_id,
                "model": config["model.name"],
                "policy": config["augment.policy"],
                "loss": config["loss.name"],
                "epochs": record.epochs,
                "seeds": 1,
                "images": len(evaluations[record.trial_id].image_ids),
                **_score_columns(scores[record.trial_id]),
                "params": record.parameters,
                "latency_ms": evaluations[record.trial_id].latency_ms,
                "train_seconds": record.train_seconds,
            }
        )
    if MAJORITY in evaluations:
        rows.append(
            {
                **dict.fromkeys(("trial_id", "model", "policy", "loss"), ""),
                "label": MAJORITY,
                "images": len(evaluations[MAJORITY].image_ids),
                **_score_columns(scores[MAJORITY]),
            }
        )
    frame = pd.DataFrame(rows, columns=list(COMPARISON_COLUMNS))
    return frame.astype({name: "Int64" for name in ("epochs", "seeds", "images", "params")})


def _score_columns(scores: LabelScores) -> dict[str, float]:
    columns: dict[str, float] = {}
    for index, name in enumerate(METRICS):
        columns[name] = float(scores.values[index])
        columns[f"{name}_low"] = float(scores.interval.low[index])
        columns[f"{name}_high"] = float(scores.interval.high[index])
    return columns


def per_class_frame(
    trial_ids: Mapping[str, str], evaluations: Mapping[str, Evaluation], class_names: list[str]
) -> pd.DataFrame:
    """The table `per_class`: pixel metrics of every class, with the images and pixels of its truth on the split.

    Args:
        trial_ids: Trial id of each label.
        evaluations: By trial id.
        class_names: By class id.
    """
    frames = []
    for label, trial_id in trial_ids.items():
        evaluation = evaluations[trial_id]
        split = evaluation.confusions.sum(axis=0)
        truth = evaluation.confusions.sum(axis=2)
        columns = {
            "label": label,
            "class": class_names,
            "iou": metrics.iou(split),
            "f1": metrics.f1(split),
            "precision": metrics.precision(split),
            "recall": metrics.recall(split),
            "ap": [
                float(metrics.average_precision(evaluation.histograms(index).sum(axis=0, dtype=np.int64)))
                for index in range(len(class_names))
            ],
            "images": (truth > 0).sum(axis=0),
            "pixels": truth.sum(axis=0),
        }
        frames.append(pd.DataFrame(columns, columns=list(PER_CLASS_COLUMNS)))
    return pd.concat(frames, ignore_index=True)


def threshold_frame(trial_ids: Mapping[str, str], evaluations: Mapping[str, Evaluation]) -> pd.DataFrame:
    """The table `iou_thresholds`: precision, recall, F1 and AP of regions at each threshold, means over classes.

    Args:
        trial_ids: Trial id of each label.
        evaluations: By trial id.
    """
    frames = []
    for label, trial_id in trial_ids.items():
        evaluation = evaluations[trial_id]
        scores = metrics.region_scores(evaluation.confusions)
        scores["ap"] = metrics.region_average_precision(evaluation.confusions, evaluation.confidence)
        means = {name: mean_over_classes(values.T) for name, values in scores.items()}
        frames.append(
            pd.DataFrame({"label": label, "threshold": IOU_THRESHOLDS, **means}, columns=list(THRESHOLD_COLUMNS))
        )
    return pd.concat(frames, ignore_index=True)


def cost_frame(
    labels: Mapping[str, TrialRecord], evaluations: Mapping[str, Evaluation], trials: pd.DataFrame
) -> pd.DataFrame:
    """The table `cost`: what each label's trial cost, and in every row the seconds of all trials of the sweep.

    A trial that continued a search trial (`parent`) is charged with that one's GPU seconds, too.
    """
    by_id = trials.set_index("trial_id")
    rows = [
        {
            "label": label,
            "trial_id": record.trial_id,
            "epochs": record.epochs,
            "train_seconds": record.train_seconds,
            "gpu_seconds": sum(float(by_id["gpu_seconds"].get(one, 0.0)) for one in lineage(record.trial_id, trials)),
            "params": record.parameters,
            "latency_ms": evaluations[record.trial_id].latency_ms,
            "search_seconds": float(trials["seconds"].sum()),
        }
        for label, record in labels.items()
    ]
    return pd.DataFrame(rows, columns=list(COST_COLUMNS))


def lineage(trial_id: str, trials: pd.DataFrame) -> list[str]:
    """A trial and the trials that it continued, newest first."""
    parents = dict(zip(trials["trial_id"], trials["parent"], strict=True)) if "parent" in trials else {}
    line = [trial_id]
    while (parent := parents.get(line[-1])) and parent not in line:
        line.append(parent)
    return line


def answer(
    labels: Mapping[str, TrialRecord],
    evaluations: Mapping[str, Evaluation],
    scores: Mapping[str, LabelScores],
    *,
    objective: Objective = OBJECTIVES["val/miou"],
    winner: str = "best",
    baseline: str = "baseline",
    resamples: int = 1000,
    seed: int = 0,
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
        resamples: Of the paired bootstrap.
        seed: Of its draws.
    """
    first, second = (evaluations[labels[label].trial_id] for label in (winner, baseline))
    place = METRICS.index(objective.column)
    split = {label: float(scores[record.trial_id].values[place]) for label, record in labels.items()}
    same = same_configuration(labels[winner].config.flat(), labels[baseline].config.flat())
    chosen_here = first.split == "val"
    units = units_of(first)
    interval = Interval(np.array(math.nan), np.array(math.nan))
    if not (same or chosen_here):
        interval = paired_interval(
            objective_statistic(first, objective),
            objective_statistic(second, objective),
            units,
            resamples=resamples,
            seed=seed,
        )
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
        units="groups" if units.grouped else "images",
        unit_count=units.count,
    )


def objective_statistic(evaluation: Evaluation, objective: Objective) -> Statistic:
    """The objective as a function of image weights of shape (R, N), giving shape (R,)."""
    confusions = evaluation.confusions
    split = confusions.sum(axis=0)
    function = getattr(metrics, objective.column)

    def of_weights(weights: Floats) -> Floats:
        matrix = weighted_sum(weights, confusions)
        values: Floats = function(matrix)
        if values.ndim == 1:  # one number for all classes: pixel accuracy
            return values
        return mean_over_split_classes(values, matrix.sum(axis=-1) > 0, split.sum(axis=1) > 0, function(split))

    return of_weights
