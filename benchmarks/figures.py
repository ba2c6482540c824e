"""The figures of pixels and of regions from our collectors and from TorchMetrics, for `benchmarks/evaluation.py`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

from trainables.data import DATASETS
from trainables.data.base import VOID
from trainables.logits import predicted_class
from trainables.metrics import (
    IOU_THRESHOLDS,
    PerImageConfusion,
    RegionConfidence,
    ScoreHistogram,
    average_precision,
    f1,
    iou,
    pixel_accuracy,
    precision,
    recall,
    region_average_precision,
    region_scores,
)

Values = npt.NDArray[Any]
Figures = dict[str, Values]


@dataclass(frozen=True)
class Predicted:
    """One image as an evaluation hands it on."""

    logits: Tensor
    prediction: Tensor
    target: Tensor


def predicted_images(root: Path, count: int) -> tuple[list[Predicted], int]:
    """Logits of VOC images as a middling model gives them: the truth at an eighth of its size, with noise."""
    data = DATASETS.get("voc2012")(root=root)
    generator, classes = torch.Generator().manual_seed(0), len(data.classes)
    found = []
    for image_id in list(data.ids())[:: len(data.ids()) // count][:count]:
        target = torch.from_numpy(data.mask(image_id).copy())
        height, width = target.shape
        known = torch.where(target == VOID, 0, target).long()
        truth = functional.one_hot(known, classes).permute(2, 0, 1).float()
        low = functional.interpolate(truth[None], size=(height // 8, width // 8), mode="area") * 8
        low += 3 * torch.randn(low.shape, generator=generator)
        logits = functional.interpolate(low, size=(height, width), mode="bilinear")[0]
        found.append(Predicted(logits, predicted_class(logits), target))
    return found, classes


def our_figures(images: Sequence[Predicted], classes: int) -> Callable[[str], Figures]:
    """The figures of pixels and of regions from our collectors."""

    def work(which: str) -> Figures:
        confusions, scores, confidence = (
            collect(classes) for collect in (PerImageConfusion, ScoreHistogram, RegionConfidence)
        )
        for number, one in enumerate(images):
            confusions.process(str(number), one.logits, one.prediction, one.target)
            if which in ("pixel AP", "all"):
                scores.process(str(number), one.logits, one.prediction, one.target)
            if which in ("regions", "all"):
                confidence.process(str(number), one.logits, one.prediction, one.target)
        figures: Figures = {}
        matrices = confusions.value()
        matrix = matrices.sum(axis=0)
        if which in ("pixels", "all"):
            figures |= {"accuracy": pixel_accuracy(matrix), "iou": iou(matrix), "f1": f1(matrix)}
            figures |= {"precision": precision(matrix), "recall": recall(matrix)}
        if which in ("pixel AP", "all"):
            figures["ap"] = average_precision(scores.totals())
        if which in ("regions", "all"):
            figures |= {f"region {name}": values for name, values in region_scores(matrices).items()}
            figures["region ap"] = region_average_precision(matrices, confidence.value())
        return figures

    return work


def torchmetrics_figures(images: Sequence[Predicted], classes: int) -> Callable[[str], Figures]:
    """The same from TorchMetrics."""
    from torchmetrics import MetricCollection
    from torchmetrics.classification import (
        MulticlassAccuracy,
        MulticlassAveragePrecision,
        MulticlassF1Score,
        MulticlassJaccardIndex,
        MulticlassPrecision,
        MulticlassRecall,
        MulticlassStatScores,
    )

    def of(kind: Any, average: str | None = None, **more: Any) -> Any:
        return kind(classes, average=average, ignore_index=VOID, validate_args=False, **more)

    def work(which: str) -> Figures:
        pixels = MetricCollection(
            {
                "accuracy": of(MulticlassAccuracy, "micro"),
                "iou": of(MulticlassJaccardIndex),
                "f1": of(MulticlassF1Score),
                "precision": of(MulticlassPrecision),
                "recall": of(MulticlassRecall),
            },
            compute_groups=True,
        )
        ap = of(MulticlassAveragePrecision, thresholds=None)
        regions = of(MulticlassStatScores, multidim_average="samplewise")
        confidence = []
        for one in images:
            prediction, target = one.prediction[None].long(), one.target[None].long()
            if which in ("pixels", "all"):
                pixels.update(prediction, target)
            if which in ("pixel AP", "all"):
                ap.update(one.logits[None], target)
            if which in ("regions", "all"):
                regions.update(prediction, target)
                confidence.append(_confidence(one, classes))
        figures: Figures = {}
        if which in ("pixels", "all"):
            figures |= {name: value.numpy() for name, value in pixels.compute().items()}
        if which in ("pixel AP", "all"):
            figures["ap"] = ap.compute().numpy()
        if which in ("regions", "all"):
            figures |= _region_figures(regions.compute(), torch.stack(confidence))
        return figures

    return work


def _confidence(one: Predicted, classes: int) -> Tensor:
    """Mean probability of each predicted region, shape (C,)."""
    known = one.target != VOID
    predicted = one.prediction[known].long()
    probability = one.logits.softmax(dim=0).amax(dim=0)[known].double()
    total = torch.bincount(predicted, probability, minlength=classes)
    return total / torch.bincount(predicted, minlength=classes)


def _region_figures(counts: Tensor, confidence: Tensor) -> Figures:
    """Figures of regions from true and false positives, ..., support of shape (N, C, 5) and confidences (N, C)."""
    from torchmetrics.functional.classification import binary_precision_recall_curve

    right, extra, _, missing, truth = counts.unbind(dim=-1)
    overlap = right / (right + extra + missing)
    is_predicted = right + extra > 0
    in_truth = (truth > 0).sum(dim=0)
    steps = torch.tensor(IOU_THRESHOLDS, dtype=torch.float64)
    matches = (right > 0)[..., None] & (overlap.double()[..., None] >= steps - 1e-12)
    matched = matches.sum(dim=0)
    predicted = is_predicted.sum(dim=0)
    figures = {
        "region precision": matched / predicted[:, None],
        "region recall": matched / in_truth[:, None],
        "region f1": 2 * matched / (predicted + in_truth)[:, None],
        "region ap": torch.zeros(matched.shape, dtype=torch.float64),
    }
    for class_id in range(len(in_truth)):
        places = is_predicted[:, class_id]
        for step in range(len(steps)):
            found = matches[places, class_id, step]
            if found.any():
                precisions, recalls, _ = binary_precision_recall_curve(confidence[places, class_id], found.int())
                envelope = precisions.cummax(dim=0).values[:-1]
                share = found.sum() / in_truth[class_id]
                figures["region ap"][class_id, step] = -(recalls.diff() * envelope).sum() * share
    return {name: values.numpy() for name, values in figures.items()}
