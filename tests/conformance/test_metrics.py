"""Every registered metric equals a loop over pixels and keeps the rules of void, order, weights and lost classes.

What runs over `METRICS` tests a new metric without being told. Its value needs an oracle of its own in `LOOPS`, and the
values of its classes one in `CLASS_ORACLES`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import sklearn.metrics as sk
import torch

from trainables.metrics import (
    IGNORE,
    IOU_THRESHOLDS,
    METRICS,
    ConfusionMatrix,
    PerImageConfusion,
    RegionConfidence,
    Replicates,
    ScoreHistogram,
    score_cells,
    summary,
)

ROOT = Path(__file__).resolve().parents[2]

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


@dataclass(frozen=True)
class Split:
    """What the collectors kept of some images; refuses what a metric does not say it needs."""

    images: list
    needs: frozenset = frozenset({"confusion", "scores", "regions"})

    @property
    def confusions(self):
        assert "confusion" in self.needs
        return collected(PerImageConfusion, self.images)

    @property
    def confidence(self):
        assert "regions" in self.needs
        return collected(RegionConfidence, self.images)

    def histograms(self, class_id):
        assert "scores" in self.needs
        # As fine as those of the split, so that a replicate is exactly what its images give.
        return np.stack([totals([image])[class_id] for image in self.images])

    def histogram_blocks(self, class_id):
        whole = self.histograms(class_id)
        return [whole[:1], whole[1:]]

    def score_totals(self, class_id):
        assert "scores" in self.needs
        return totals(self.images)[class_id]


def totals(images):
    collector = ScoreHistogram(CLASSES)
    for image in images:
        collector.process(*image)
    return collector.totals()


def value(name, images, weights=None):
    """A metric of images, shape (), or of replicates of them, shape (R,)."""
    metric = METRICS.get(name)
    values = metric(Replicates(Split(images, metric.needs), np.ones((1, len(images))) if weights is None else weights))
    return values[0] if weights is None else values


def class_values(name, images):
    metric = METRICS.get(name)
    return metric.of_classes(Split(images, metric.needs))


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
            levels = score_cells(logits)[index]
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
@pytest.mark.parametrize("name", METRICS.names())
def test_every_metric_equals_a_loop_over_pixels(name, absent):
    for seed in range(3):
        images = make_images(seed, absent=absent)
        assert value(name, images) == pytest.approx(LOOPS[name](images), rel=1e-6)


def known_pixels(images):
    """Truth, prediction and quantised scores (C, P) of every pixel that is not void."""
    truth = torch.cat([target.flatten() for *_, target in images])
    guess = torch.cat([prediction.flatten() for _, _, prediction, _ in images])
    scores = torch.cat([score_cells(logits).flatten(1) for _, logits, _, _ in images], dim=1)
    known = truth != IGNORE
    return truth[known].numpy(), guess[known].numpy(), scores[:, known].numpy()


def of_scikit_learn(function):
    def of_images(images):
        truth, guess, _ = known_pixels(images)
        return function(truth, guess, labels=range(CLASSES), average=None, zero_division=0)

    return of_images


def ap_of_scikit_learn(images):
    truth, _, scores = known_pixels(images)
    return [sk.average_precision_score(truth == index, scores[index]) for index in range(CLASSES)]


CLASS_ORACLES = {
    "iou": of_scikit_learn(sk.jaccard_score),
    "f1": of_scikit_learn(sk.f1_score),
    "precision": of_scikit_learn(sk.precision_score),
    "recall": of_scikit_learn(sk.recall_score),
    "ap": ap_of_scikit_learn,
}


@pytest.mark.parametrize("name", [name for name in METRICS if METRICS.get(name).of_classes])
def test_values_of_classes_are_those_of_scikit_learn(name):
    for seed in range(3):
        images = make_images(seed)
        np.testing.assert_allclose(class_values(name, images), CLASS_ORACLES[name](images), rtol=1e-9)


@pytest.mark.parametrize("name", [name for name in METRICS if METRICS.get(name).of_classes])
def test_a_class_in_neither_truth_nor_prediction_has_no_value(name):
    values = class_values(name, make_images(0, absent=True))
    assert np.isnan(values).tolist()[::2] == [False, True]


def check_bounds(name):
    low, high = METRICS.get(name).bounds
    for seed in range(4):
        images = make_images(seed, absent=seed % 2 == 1)
        weights = np.random.default_rng(seed).integers(0, 4, (6, len(images))).astype(float)
        values = np.append(value(name, images, weights), value(name, images))
        assert np.isfinite(values[-1])
        assert ((values >= low) & (values <= high) | np.isnan(values)).all()


def check_perfect(name):
    perfect = []
    for image_id, logits, _, target in make_images(0):
        certain = torch.where(torch.arange(CLASSES)[:, None, None] == target, 9.0, -9.0)
        perfect.append((image_id, certain, certain.argmax(dim=0), target))
        assert certain.shape == logits.shape
    assert value(name, perfect) == pytest.approx(METRICS.get(name).best)
    assert value(name, make_images(0)) != pytest.approx(METRICS.get(name).best)


def check_void(name):
    images = make_images(1)
    void = [(f"void {i}", scores, guess, torch.full_like(truth, IGNORE)) for i, scores, guess, truth in make_images(2)]
    assert value(name, images + void) == value(name, images)
    assert value(name, void + images) == pytest.approx(value(name, images), rel=1e-12)


def check_weights_repeat_images(name):
    images = make_images(3)
    weights = np.random.default_rng(3).integers(1, 4, (5, len(images)))
    repeated = [[image for image, count in zip(images, row, strict=True) for _ in range(count)] for row in weights]
    expected = [value(name, each) for each in repeated]
    np.testing.assert_allclose(value(name, images, weights.astype(float)), expected, rtol=1e-12)
    assert len(set(expected)) > 1


def check_order(name):
    images = make_images(4)
    assert value(name, images[::-1]) == pytest.approx(value(name, images), rel=1e-12)


RULES = [check_bounds, check_perfect, check_void, check_weights_repeat_images, check_order]


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("name", METRICS.names())
def test_every_metric_keeps_the_rules(name, rule):
    rule(name)


@pytest.mark.parametrize("name", [name for name in METRICS if METRICS.get(name).of_classes])
def test_a_class_that_a_replicate_lost_is_left_out_even_where_it_is_predicted(name):
    held = make_images(5, absent=True)  # class 0 in the truth, 1 in predictions too
    lost = [image for image in make_images(6) if set(image[3].unique().tolist()) >= {0, 1}]
    weights = np.array([[1.0] * len(held) + [0.0] * len(lost)])
    assert value(name, held + lost, weights)[0] == pytest.approx(class_values(name, held)[0])


def anchors(path):
    """The explicit anchors of a Markdown file."""
    return re.findall(r'<a id="([^"]+)"></a>', path.read_text(encoding="utf-8"))


@pytest.mark.parametrize("name", METRICS.names())
def test_every_metric_is_defined_in_the_documentation(name):
    path, _, anchor = METRICS.get(name).definition.partition("#")
    assert anchors(ROOT / path).count(anchor) == 1


def test_what_a_trial_reports_is_what_the_report_computes():
    images = make_images(1)
    reported = summary(collected(ConfusionMatrix, images))
    assert set(reported) == {"val/miou", "val/pixel_accuracy", "val/f1", "val/precision", "val/recall"}
    for metric in map(METRICS.get, METRICS):
        if metric.reported_as:
            assert reported[f"val/{metric.reported_as}"] == value(metric.name, images)


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
