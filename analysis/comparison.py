"""Which label is better on a split, by how much, and how sure that is: the tables of the report."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from analysis.evaluate import MAJORITY, Evaluation
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


@dataclass(frozen=True)
class Answer:
    """The winner of the search beside the baseline, on the split of the report.

    Attributes:
        winner: Label with the best score on val (the search's choice; never chosen on this split).
        baseline: The known-good point's label.
        metric: What is compared: `iou`, the mean over classes.
        winner_score: Of the winner on the split.
        baseline_score: Of the baseline on the split.
        difference: Winner minus baseline.
        low: Lower bound of the difference's 95% interval, over the same images; NaN where none can be given.
        high: Upper bound.
        same_trial: The search found nothing better on val than the baseline itself.
        val_ranks: Rank of each label by mIoU on val at its last epoch, 1 is best; labels of one trial share theirs.
        split_ranks: The same on the split.
        units: `images` or `groups`.
        unit_count: How many of them.
        evidence: Level of the statement.
    """

    winner: str
    baseline: str
    metric: str
    winner_score: float
    baseline_score: float
    difference: float
    low: float
    high: float
    same_trial: bool
    val_ranks: Mapping[str, int]
    split_ranks: Mapping[str, int]
    units: str
    unit_count: int
    evidence: str = EVIDENCE

    @property
    def distinguishable(self) -> bool | None:
        """Whether the interval leaves 0 out; None where there is no interval."""
        if math.isnan(self.low) or math.isnan(self.high):
            return None
        return self.low > 0 or self.high < 0


def score_statistic(evaluation: Evaluation) -> Statistic:
    """The seven metrics as a function of image weights of shape (R, N), giving shape (7, R)."""
    confusions, confidence, histograms = evaluation.confusions, evaluation.confidence, evaluation.histograms
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
        # A class at a time: the histograms of all classes and replicates at once would fill the memory.
        ap = np.stack(
            [
                metrics.average_precision(weighted_sum(weights, histograms[:, index]))
                for index in range(confusions.shape[1])
            ],
            axis=-1,
        )
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


def score_labels(
    evaluations: Mapping[str, Evaluation], *, resamples: int = 1000, seed: int = 0
) -> dict[str, LabelScores]:
    """Scores and intervals of every trial id; all resample the same images."""
    scores = {}
    for trial_id, evaluation in evaluations.items():
        statistic = score_statistic(evaluation)
        values = statistic(np.ones((1, len(evaluation.image_ids))))[:, 0]
        interval = bootstrap_interval(statistic, units_of(evaluation), resamples=resamples, seed=seed)
        scores[trial_id] = LabelScores(values, interval)
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
            "ap": metrics.average_precision(evaluation.histograms.sum(axis=0, dtype=np.int64)),
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
    winner: str = "best",
    baseline: str = "baseline",
    resamples: int = 1000,
    seed: int = 0,
) -> Answer:
    """Compares the winner of the search (chosen on val) with the baseline, by mIoU on the split.

    Args:
        labels: Records by label; holds `winner` and `baseline`.
        evaluations: By trial id.
        scores: By trial id.
        winner: Label of the search's winner.
        baseline: Label of the known-good point.
        resamples: Of the paired bootstrap.
        seed: Of its draws.
    """
    first, second = (evaluations[labels[label].trial_id] for label in (winner, baseline))
    place = METRICS.index("iou")
    split = {label: float(scores[record.trial_id].values[place]) for label, record in labels.items()}
    same = first.trial_id == second.trial_id
    units = units_of(first)
    interval = (
        Interval(np.array(math.nan), np.array(math.nan))
        if same
        else paired_interval(iou_statistic(first), iou_statistic(second), units, resamples=resamples, seed=seed)
    )
    return Answer(
        winner=winner,
        baseline=baseline,
        metric="iou",
        winner_score=split[winner],
        baseline_score=split[baseline],
        difference=split[winner] - split[baseline],
        low=float(interval.low),
        high=float(interval.high),
        same_trial=same,
        val_ranks=_ranks({label: record.metrics.get("val/miou", math.nan) for label, record in labels.items()}),
        split_ranks=_ranks(split),
        units="groups" if units.grouped else "images",
        unit_count=units.count,
    )


def iou_statistic(evaluation: Evaluation) -> Statistic:
    """Mean IoU over classes as a function of image weights of shape (R, N), giving shape (R,)."""
    confusions = evaluation.confusions
    split = confusions.sum(axis=0)

    def of_weights(weights: Floats) -> Floats:
        matrix = weighted_sum(weights, confusions)
        return mean_over_split_classes(
            metrics.iou(matrix), matrix.sum(axis=-1) > 0, split.sum(axis=1) > 0, metrics.iou(split)
        )

    return of_weights


def _ranks(values: Mapping[str, float]) -> dict[str, int]:
    numbers = {label: value for label, value in values.items() if not math.isnan(value)}
    return {label: 1 + len({other for other in numbers.values() if other > value}) for label, value in numbers.items()}
