"""The report's tables of labels: what each scores, class by class, by IoU threshold, and what it cost."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import pandas as pd

from analysis.kept import Evaluation
from analysis.scores import Scores
from sweep.trials_csv import PARENT
from trainables.labels import MAJORITY
from trainables.metrics import (
    IOU_THRESHOLDS,
    Metric,
    all_metrics,
    mean_over_classes,
    region_average_precision,
    region_scores,
)
from trainables.record import TrialRecord

THRESHOLD_COLUMNS = ("label", "threshold", "precision", "recall", "f1", "ap")
COST_COLUMNS = (
    *("label", "trial_id", "epochs", "train_seconds", "gpu_seconds", "params", "latency_ms"),
    "search_seconds",
)


def score_columns(further: Sequence[Metric] = ()) -> tuple[str, ...]:
    """Columns of `comparison` that hold scores: of every metric its value and the bounds of its interval.

    Args:
        further: Metrics beside those of the registry: those of one class that a sweep ranks by.
    """
    return tuple(f"{metric.name}{end}" for metric in (*all_metrics(), *further) for end in ("", "_low", "_high"))


def comparison_columns(further: Sequence[Metric] = ()) -> tuple[str, ...]:
    """Columns of `comparison`; see `score_columns`."""
    return (
        *("label", "trial_id", "model", "policy", "loss", "epochs", "seeds", "images"),
        *score_columns(further),
        *("params", "latency_ms", "train_seconds", "evidence"),
    )


def per_class_columns() -> tuple[str, ...]:
    """Columns of `per_class`."""
    return ("label", "class", *(metric.name for metric in all_metrics() if metric.of_classes), "images", "pixels")


def comparison_frame(
    labels: Mapping[str, TrialRecord],
    evaluations: Mapping[str, Evaluation],
    scores: Mapping[str, Scores],
    *,
    latencies: Mapping[str, float] | None = None,
    evidence: Mapping[str, str] | None = None,
    further: Sequence[Metric] = (),
    pareto: Collection[str] | None = None,
) -> pd.DataFrame:
    """The table `comparison`: one row per label, then the floor `majority` where it was evaluated.

    Args:
        labels: Records by label.
        evaluations: By trial id.
        scores: By trial id.
        latencies: Milliseconds per image, by trial id, where they were measured otherwise than by the evaluation.
        evidence: What a label's claim to be better rests on, by label.
        further: See `score_columns`.
        pareto: Labels in the Pareto set, for a last column `pareto`; None where there is one objective alone.
    """
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
                "latency_ms": (latencies or {}).get(record.trial_id, evaluations[record.trial_id].latency_ms),
                "train_seconds": record.train_seconds,
                "evidence": (evidence or {}).get(label, ""),
                "pareto": "in the set" if label in (pareto or ()) else "",
            }
        )
    if MAJORITY in evaluations:
        rows.append(
            {
                **dict.fromkeys(("trial_id", "model", "policy", "loss", "evidence", "pareto"), ""),
                "label": MAJORITY,
                "images": len(evaluations[MAJORITY].image_ids),
                **_score_columns(scores[MAJORITY]),
            }
        )
    columns = [*comparison_columns(further), *(["pareto"] if pareto is not None else [])]
    frame = pd.DataFrame(rows, columns=columns)
    return frame.astype({name: "Int64" for name in ("epochs", "seeds", "images", "params")})


def _score_columns(scores: Scores) -> dict[str, float]:
    columns: dict[str, float] = {}
    for name, score in scores.items():
        columns |= {name: score.value, f"{name}_low": score.low, f"{name}_high": score.high}
    return columns


def per_class_frame(
    trial_ids: Mapping[str, str], evaluations: Mapping[str, Evaluation], class_names: list[str]
) -> pd.DataFrame:
    """The table `per_class`: every metric that has values of single classes, and the images and pixels of their truth.

    Args:
        trial_ids: Trial id of each label.
        evaluations: By trial id.
        class_names: By class id.
    """
    frames = []
    for label, trial_id in trial_ids.items():
        evaluation = evaluations[trial_id]
        truth = evaluation.confusions.sum(axis=2)
        columns = {
            "label": label,
            "class": class_names,
            **{metric.name: metric.of_classes(evaluation) for metric in all_metrics() if metric.of_classes},
            "images": (truth > 0).sum(axis=0),
            "pixels": truth.sum(axis=0),
        }
        frames.append(pd.DataFrame(columns, columns=list(per_class_columns())))
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
        scores = region_scores(evaluation.confusions)
        scores["ap"] = region_average_precision(evaluation.confusions, evaluation.confidence)
        means = {name: mean_over_classes(values.T) for name, values in scores.items()}
        frames.append(
            pd.DataFrame({"label": label, "threshold": IOU_THRESHOLDS, **means}, columns=list(THRESHOLD_COLUMNS))
        )
    return pd.concat(frames, ignore_index=True)


def cost_frame(
    labels: Mapping[str, TrialRecord],
    evaluations: Mapping[str, Evaluation],
    trials: pd.DataFrame,
    *,
    latencies: Mapping[str, float] | None = None,
) -> pd.DataFrame:
    """The table `cost`: what each label's trial cost, and in every row the seconds of all trials of the sweep.

    A trial that continued a search trial (`parent`) is charged with that one's GPU seconds, too.

    Args:
        labels: Records by label.
        evaluations: By trial id.
        trials: The rows of `trials.csv`.
        latencies: See `comparison_frame`.
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
            "latency_ms": (latencies or {}).get(record.trial_id, evaluations[record.trial_id].latency_ms),
            "search_seconds": float(trials["seconds"].sum()),
        }
        for label, record in labels.items()
    ]
    return pd.DataFrame(rows, columns=list(COST_COLUMNS))


def lineage(trial_id: str, trials: pd.DataFrame) -> list[str]:
    """A trial and the trials that it continued, newest first."""
    parents = dict(zip(trials["trial_id"], trials[PARENT], strict=True)) if PARENT in trials else {}
    line = [trial_id]
    while (parent := parents.get(line[-1])) and parent not in line:
        line.append(parent)
    return line
