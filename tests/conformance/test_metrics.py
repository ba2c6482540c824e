"""Every metric of the comparison equals a loop over pixels; every collector keeps the rules of void and of order."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from analysis.comparison import METRICS, score_statistic
from trainables.metrics import (
    IGNORE,
    IOU_THRESHOLDS,
    ConfusionMatrix,
    PerImageConfusion,
    RegionConfidence,
    ScoreHistogram,
    quantise_scores,
    summary,
)

CLASSES = 3
COLLECTORS = (ConfusionMatrix, PerImageConfusion, ScoreHistogram, RegionConfidence)


def make_images(seed, *, absent=False, count=5):
    """Small images; with `absent` class 1 is never in the truth and class 2 in nothing."""
    rng = np.random.default_rng(seed)
    images = []
    for number in range(count):
        target = rng.choice([0] if absent else [0, 1, 2], (4, 5))
        logits = rng.normal(size=(CLASSES, 4, 5)) + 1.5 * (np.arange(CLASSES)[:, None, None] == target)
        if absent:
            logits[2] = -20
        target[rng.random((4, 5)) < 0.15] = IGNORE
        scores = torch.from_numpy(logits).float()
        images.append((str(number), scores, scores.argmax(dim=0), torch.from_numpy(target)))
    return images


def collected(make, images):
    collector = make(CLASSES)
    for image in images:
        collector.process(*image)
    return collector.value()


def pixel_counts(images):
    """True positives, false positives, false negatives per class, one pixel at a time."""
    right, false_alarm, missed = [0] * CLASSES, [0] * CLASSES, [0] * CLASSES
    for _, _, prediction, target in images:
        for guess, truth in zip(prediction.flatten().tolist(), target.flatten().tolist(), strict=True):
            if truth == IGNORE:
                continue
            if guess == truth:
                right[truth] += 1
            else:
                false_alarm[guess] += 1
                missed[truth] += 1
    return right, false_alarm, missed


def mean_over_present(formula, images):
    values = []
    for tp, fp, fn in zip(*pixel_counts(images), strict=True):
        if tp + fp + fn:
            numerator, denominator = formula(tp, fp, fn)
            values.append(numerator / denominator if denominator else 0.0)
    return sum(values) / len(values)


def loop_accuracy(images):
    right, _, missed = pixel_counts(images)
    return sum(right) / (sum(right) + sum(missed))


def ranked_areas(entries, positives, *, envelope):
    """Area under the precision-recall curve of (score, hit) pairs; equal scores enter together."""
    curve = []
    for level in sorted({score for score, _ in entries}, reverse=True):
        above = [hit for score, hit in entries if score >= level]
        curve.append((sum(above) / positives, sum(above) / len(above)))
    area, reached = 0.0, 0.0
    for place, (recall, precision) in enumerate(curve):
        height = max(value for _, value in curve[place:]) if envelope else precision
        area += (recall - reached) * height
        reached = recall
    return area


def loop_ap(images):
    areas = []
    for index in range(CLASSES):
        entries = []
        for _, logits, _, target in images:
            levels = quantise_scores(logits)[index]
            entries += [
                (int(level), int(truth) == index)
                for level, truth in zip(levels.flatten(), target.flatten(), strict=True)
                if int(truth) != IGNORE
            ]
        positives = sum(hit for _, hit in entries)
        if positives:
            areas.append(ranked_areas(entries, positives, envelope=False))
    return sum(areas) / len(areas)


def loop_map(images):
    of_thresholds = []
    for threshold in IOU_THRESHOLDS:
        areas = []
        for index in range(CLASSES):
            entries, positives = [], 0
            for _, logits, prediction, target in images:
                pixels = [
                    (int(p), int(t), float(s))
                    for p, t, s in zip(
                        prediction.flatten(), target.flatten(), logits.softmax(dim=0)[index].flatten(), strict=True
                    )
                    if int(t) != IGNORE
                ]
                both = sum(p == index and t == index for p, t, _ in pixels)
                either = sum(p == index or t == index for p, t, _ in pixels)
                confidence = [s for p, _, s in pixels if p == index]
                in_truth = any(t == index for _, t, _ in pixels)
                positives += in_truth
                if confidence:
                    hit = in_truth and both > 0 and both / either >= threshold
                    entries.append((sum(confidence) / len(confidence), hit))
            if positives:
                areas.append(ranked_areas(entries, positives, envelope=True))
        of_thresholds.append(sum(areas) / len(areas))
    return sum(of_thresholds) / len(of_thresholds)


LOOPS = {
    "pixel_accuracy": loop_accuracy,
    "iou": lambda images: mean_over_present(lambda tp, fp, fn: (tp, tp + fp + fn), images),
    "f1": lambda images: mean_over_present(lambda tp, fp, fn: (2 * tp, 2 * tp + fp + fn), images),
    "precision": lambda images: mean_over_present(lambda tp, fp, fn: (tp, tp + fp), images),
    "recall": lambda images: mean_over_present(lambda tp, fp, fn: (tp, tp + fn), images),
    "ap": loop_ap,
    "map": loop_map,
}


@pytest.mark.parametrize("absent", [False, True])
@pytest.mark.parametrize("name", METRICS)
def test_every_metric_equals_a_loop_over_pixels(name, absent):
    for seed in range(3):
        images = make_images(seed, absent=absent)
        histograms = collected(ScoreHistogram, images)
        evaluation = SimpleNamespace(
            confusions=collected(PerImageConfusion, images),
            histograms=lambda class_id, every=histograms: every[:, class_id],
            confidence=collected(RegionConfidence, images),
        )
        got = score_statistic(evaluation)(np.ones((1, len(images))))[METRICS.index(name), 0]
        assert got == pytest.approx(LOOPS[name](images), rel=1e-6)


def test_what_a_trial_reports_is_what_the_report_computes():
    images = make_images(1)
    reported = summary(collected(ConfusionMatrix, images))
    for key, name in (("val/miou", "iou"), *((f"val/{name}", name) for name in METRICS[:5] if name != "iou")):
        assert reported[key] == pytest.approx(LOOPS[name](images))


@pytest.mark.parametrize("make", COLLECTORS)
def test_no_collector_depends_on_the_order_of_images(make):
    images = make_images(2)
    forth, back = collected(make, images), collected(make, images[::-1])
    np.testing.assert_array_equal(forth, back if make is ConfusionMatrix else back[::-1])


@pytest.mark.parametrize("make", COLLECTORS)
def test_no_collector_changes_what_it_is_given(make):
    images = make_images(3)
    copies = [[tensor.clone() for tensor in image[1:]] for image in images]
    collected(make, images)
    for image, copy in zip(images, copies, strict=True):
        assert all(torch.equal(one, two) for one, two in zip(image[1:], copy, strict=True))
