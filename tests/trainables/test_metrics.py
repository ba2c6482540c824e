"""The metrics against scikit-learn, TorchMetrics, plain loops and numbers worked by hand."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import sklearn.metrics as sk
import torch
import torchmetrics
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from trainables import metrics
from trainables.metrics import (
    IGNORE,
    IOU_THRESHOLDS,
    SCORE_CELLS,
    SCORE_LEVELS,
    ConfusionMatrix,
    PerImageConfusion,
    RegionConfidence,
    ScoreHistogram,
    average_precision,
    confusion_matrix,
    mean_over_classes,
    region_average_precision,
    region_scores,
    score_cells,
)
from trainables.metrics.image_rows import MOST_ROWS, ImageRows

CLASSES = 4


def random_images(count: int, *, classes: int = CLASSES, shape: tuple[int, int] = (12, 15), seed: int = 0):
    """Images of (id, logits, prediction, target) whose scores know something of the target; a tenth is void."""
    rng = np.random.default_rng(seed)
    images = []
    for number in range(count):
        present = rng.permutation(classes)[: rng.integers(1, classes + 1)]
        target = rng.choice(present, size=shape)
        logits = rng.normal(size=(classes, *shape)) * 2 + 2.5 * (np.arange(classes)[:, None, None] == target)
        target = np.where(rng.random(shape) < 0.1, IGNORE, target)
        logits = torch.from_numpy(logits).float()
        images.append((f"image-{number}", logits, logits.argmax(0), torch.from_numpy(target)))
    return images


masks = hnp.arrays(np.int64, (5, 6), elements=st.sampled_from([0, 1, 2, 3, IGNORE]))
predictions = hnp.arrays(np.int64, (5, 6), elements=st.integers(0, CLASSES - 1))


@settings(max_examples=60, deadline=None)
@given(predictions, masks)
def test_confusion_matrix_equals_scikit_learn_without_void(prediction, target):
    expected = np.zeros((CLASSES, CLASSES), int)
    known = target != IGNORE
    if known.any():
        expected = sk.confusion_matrix(target[known], prediction[known], labels=range(CLASSES))
    got = confusion_matrix(torch.from_numpy(prediction), torch.from_numpy(target), CLASSES)
    assert got.dtype == torch.int64
    np.testing.assert_array_equal(got.numpy(), expected)


@pytest.mark.parametrize(
    ("prediction", "target", "named"),
    [
        ([0, 1, 4, 9], [0, 1, 2, 3], "prediction holds the ids 4, 9"),
        ([0, 1, 2, 3], [0, 1, 7, 3], "target holds the ids 7"),
        ([0, 1, 2, 3], [0, -1, 2, 3], "target holds the ids -1"),
        ([0, 1, 2, 5], [0, 1, 2, IGNORE], "prediction holds the ids 5"),
        ([0, 1, 6, 3], [8, 1, 2, 3], "prediction holds the ids 6 and target holds the ids 8"),
    ],
)
def test_ids_outside_the_classes_are_named_and_never_dropped(prediction, target, named):
    with pytest.raises(ValueError, match=named):
        confusion_matrix(torch.tensor(prediction), torch.tensor(target), CLASSES)


def test_shapes_that_differ_are_refused():
    with pytest.raises(ValueError, match=r"\(2, 3\).*\(3, 2\)"):
        confusion_matrix(torch.zeros(2, 3, dtype=torch.int64), torch.zeros(3, 2, dtype=torch.int64), CLASSES)


def test_a_matrix_of_bytes_does_not_overflow():
    prediction = torch.full((100,), 199, dtype=torch.uint8)
    assert confusion_matrix(prediction, prediction, 200)[199, 199] == 100


def test_hand_worked_matrix():
    # rows truth, columns prediction; class 2 is only predicted, class 3 only in the truth, class 4 in neither
    matrix = np.array(
        [
            [6, 1, 1, 0, 0],
            [2, 4, 0, 0, 0],
            [0, 0, 0, 0, 0],
            [1, 1, 0, 0, 0],
            [0, 0, 0, 0, 0],
        ]
    )
    np.testing.assert_allclose(metrics.iou(matrix), [6 / 11, 4 / 8, 0, 0, np.nan])
    np.testing.assert_allclose(metrics.precision(matrix), [6 / 9, 4 / 6, 0, 0, np.nan])
    np.testing.assert_allclose(metrics.recall(matrix), [6 / 8, 4 / 6, 0, 0, np.nan])
    np.testing.assert_allclose(metrics.f1(matrix), [12 / 17, 8 / 12, 0, 0, np.nan])
    assert metrics.pixel_accuracy(matrix) == pytest.approx(10 / 16)
    assert metrics.summary(matrix) == pytest.approx(
        {
            "val/miou": (6 / 11 + 0.5) / 4,
            "val/pixel_accuracy": 10 / 16,
            "val/f1": (12 / 17 + 8 / 12) / 4,
            "val/precision": (6 / 9 + 4 / 6) / 4,
            "val/recall": (6 / 8 + 4 / 6) / 4,
        }
    )
    assert mean_over_classes(metrics.iou(matrix), [True, False, True, False, True]) == pytest.approx(6 / 22)


def test_metrics_broadcast_over_leading_axes():
    matrices = np.random.default_rng(0).integers(0, 9, (2, 3, CLASSES, CLASSES))
    matrices[0, 1] = 0
    for function in (metrics.iou, metrics.precision, metrics.recall, metrics.f1):
        values = function(matrices)
        assert values.shape == (2, 3, CLASSES)
        for place in np.ndindex(2, 3):
            np.testing.assert_array_equal(values[place], function(matrices[place]))
    assert np.isnan(metrics.pixel_accuracy(matrices)[0, 1])
    assert np.isnan(mean_over_classes(metrics.iou(matrices))[0, 1])


@settings(max_examples=60, deadline=None)
@given(predictions, masks)
def test_class_metrics_equal_scikit_learn_where_the_class_occurs(prediction, target):
    known = target != IGNORE
    truth, guess = target[known], prediction[known]
    matrix = confusion_matrix(torch.from_numpy(prediction), torch.from_numpy(target), CLASSES).numpy()
    occurs = np.array([(truth == c).any() or (guess == c).any() for c in range(CLASSES)])
    for function, oracle in (
        (metrics.iou, sk.jaccard_score),
        (metrics.f1, sk.f1_score),
        (metrics.precision, sk.precision_score),
        (metrics.recall, sk.recall_score),
    ):
        values = function(matrix)
        np.testing.assert_array_equal(np.isnan(values), ~occurs)
        if known.any():
            expected = oracle(truth, guess, labels=range(CLASSES), average=None, zero_division=0)
            np.testing.assert_allclose(values[occurs], expected[occurs])


def test_torchmetrics_agrees_where_every_class_occurs_and_counts_an_absent_class_as_zero():
    torch.manual_seed(0)
    target, prediction = torch.randint(0, CLASSES, (2, 500))
    index = torchmetrics.JaccardIndex(task="multiclass", num_classes=CLASSES, average="none", ignore_index=IGNORE)
    ours = metrics.iou(confusion_matrix(prediction, target, CLASSES).numpy())
    np.testing.assert_allclose(ours, index(prediction, target).numpy(), rtol=1e-6)

    wider = torchmetrics.JaccardIndex(task="multiclass", num_classes=CLASSES + 1, average="none")
    ours = metrics.iou(confusion_matrix(prediction, target, CLASSES + 1).numpy())
    assert wider(prediction, target)[CLASSES] == 0
    assert np.isnan(ours[CLASSES])


def test_torchmetrics_mean_iou_per_image_is_not_the_split_miou():
    images = random_images(20, seed=3)
    one_matrix = ConfusionMatrix(CLASSES)
    per_image = []
    for image_id, logits, prediction, target in images:
        one_matrix.process(image_id, logits, prediction, target)
        per_image.append(mean_over_classes(metrics.iou(confusion_matrix(prediction, target, CLASSES).numpy())))
    split = metrics.summary(one_matrix.value())["val/miou"]
    truth = np.concatenate([target[target != IGNORE].numpy() for *_, target in images])
    guess = np.concatenate([p[t != IGNORE].numpy() for _, _, p, t in images])
    assert split == pytest.approx(sk.jaccard_score(truth, guess, average="macro"))
    assert abs(split - np.mean(per_image)) > 0.02


def test_confusion_collectors_add_up():
    images = random_images(6)
    images.insert(2, ("void", *images[0][1:3], torch.full_like(images[0][3], IGNORE)))
    total, single = ConfusionMatrix(CLASSES), PerImageConfusion(CLASSES)
    for image in images:
        total.process(*image)
        single.process(*image)
    whole = [confusion_matrix(prediction, target, CLASSES).numpy() for _, _, prediction, target in images]
    np.testing.assert_array_equal(single.value(), whole)
    assert single.image_ids == [image[0] for image in images]
    np.testing.assert_array_equal(single.value().sum(axis=0), total.value())
    assert ConfusionMatrix(CLASSES).value().sum() == 0
    assert PerImageConfusion(CLASSES).value().shape == (0, CLASSES, CLASSES)


def pixels_of(images):
    logits = torch.cat([logits[:, target != IGNORE] for _, logits, _, target in images], dim=1)
    return logits, torch.cat([target[target != IGNORE] for *_, target in images])


def counted(images, classes=CLASSES):
    collector = ScoreHistogram(classes)
    for image in images:
        collector.process(*image)
    return collector


def test_pixel_average_precision_equals_scikit_learn_on_the_rounded_scores():
    images = random_images(8, seed=1)
    scores = counted(images)
    assert scores.totals().shape == (CLASSES, 2, SCORE_CELLS)
    assert scores.value().shape == (8, CLASSES, 2, SCORE_LEVELS)
    coarse = SCORE_CELLS // SCORE_LEVELS
    logits, truth = pixels_of(images)
    cells = score_cells(logits).numpy()
    for index in range(CLASSES):
        for levels, counts in ((cells, scores.totals()), (cells // coarse, scores.value().sum(axis=0))):
            expected = sk.average_precision_score((truth == index).numpy(), levels[index])
            assert average_precision(counts[index]) == pytest.approx(expected, abs=1e-9)


def grown(classes, *, seed=0, side=64):
    """Smooth scores as a network gives them, and a truth that they know partly; the last class is in no truth."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.randn(1, classes, side // 8 + 1, side // 8 + 1, generator=generator) * 2
    # Without the border, whose pixels are copies of one another but for their last digit.
    logits = torch.nn.functional.interpolate(coarse, size=(side + 8, side + 8), mode="bilinear")[0, :, 4:-4, 4:-4]
    noisy = logits + torch.randn(1, classes, side // 4, side // 4, generator=generator)[0].repeat(1, 4, 4) * 1.5
    target = noisy[:-1].argmax(dim=0)
    target[:3] = IGNORE
    return logits, target


SCORES = {
    "as they are": lambda logits: logits,
    "sharp": lambda logits: logits * 10,
    "very sharp": lambda logits: logits * 100,
    "flat": lambda logits: logits * 0.01,
    "nearly certain of one class": lambda logits: logits + 6 * (torch.arange(len(logits)) == 1)[:, None, None],
    "constant": torch.zeros_like,
    "few values, many ties": lambda logits: logits.round(),
}


@pytest.mark.parametrize("kind", SCORES)
@pytest.mark.parametrize("classes", [2, CLASSES, 21])
def test_pixel_average_precision_is_within_a_thousandth_of_scikit_learns(kind, classes):
    check_scikit_learn(
        classes, [SCORES[kind](logits) for logits, _ in made(classes)], [mask for _, mask in made(classes)]
    )


def test_pixel_average_precision_of_254_classes():
    for factor in (1, 10):
        logits, target = grown(254, side=96)
        check_scikit_learn(254, [logits * factor], [target])


def made(classes):
    return [grown(classes, seed=seed) for seed in range(3)]


def check_scikit_learn(classes, scores, targets):
    """Against probabilities in double precision, of every class; one without truth has no value.

    Of classes with few pixels a single one that ties with another moves the value further.
    """
    images = [("i", logits, logits.argmax(0), target) for logits, target in zip(scores, targets, strict=True)]
    got = average_precision(counted(images, classes).totals())
    logits, truth = pixels_of(images)
    probability, truth = logits.double().softmax(dim=0).numpy(), truth.numpy()
    if logits.equal(logits.round()):
        # The last digit of a sum over classes depends on their order: equal probabilities differ in it.
        probability = probability.round(12)
    assert np.isnan(got[-1])
    present, pixels = np.unique(truth, return_counts=True)
    exact = np.array([sk.average_precision_score(truth == index, probability[index]) for index in present])
    assert (np.abs(got[present] - exact) <= np.where(pixels < 400, 1 / pixels, 1e-3)).all()
    assert got[present].mean() == pytest.approx(exact.mean(), abs=1e-3)
    assert np.isnan(got).sum() == classes - len(present)


def test_scores_keep_their_order_and_their_digits_whatever_their_size():
    for factor in (1e-2, 1.0, 100.0):
        scores = factor * torch.linspace(-2, 0.3, 4001)
        cells = score_cells(torch.stack([scores, torch.zeros_like(scores)]))
        assert (cells[0].diff() >= 0).all()
        assert (cells[1].diff() <= 0).all()
        # Ten bits after the leading one: two numbers 0.1% apart are told apart.
        there = scores[scores.abs() > 0.1 * factor]
        apart = score_cells(torch.stack([torch.stack([there, there * 1.002]), torch.zeros(2, len(there))]))[0]
        below_certain = there.abs() < 37
        assert (apart[0] != apart[1])[below_certain].all()


def test_average_precision_without_positives_is_nan_and_of_a_constant_score_the_prevalence():
    histogram = np.zeros((2, 2, SCORE_LEVELS))
    histogram[0, 1, 7] = 5
    histogram[1, :, 7] = 3, 9
    values = average_precision(histogram)
    assert np.isnan(values[0])
    assert values[1] == pytest.approx(3 / 12)


def test_void_pixels_reach_no_collector_whatever_the_model_says_there():
    images = random_images(4, seed=5)
    changed = []
    for image_id, logits, _, target in images:
        other = torch.where(target == IGNORE, torch.randn(logits.shape) * 9, logits)
        changed.append((image_id, other, other.argmax(0), target))
    assert any(not torch.equal(one[2], two[2]) for one, two in zip(images, changed, strict=True))
    for make in (ConfusionMatrix, PerImageConfusion, ScoreHistogram, RegionConfidence):
        values = []
        for these in (images, changed):
            collector = make(CLASSES)
            for image in these:
                collector.process(*image)
            values.append(collector.value())
        np.testing.assert_allclose(values[0], values[1], rtol=1e-12)


def test_all_void_image_counts_nowhere():
    logits = torch.randn(CLASSES, 4, 4)
    target = torch.full((4, 4), IGNORE)
    for make in (ConfusionMatrix, ScoreHistogram):
        collector = make(CLASSES)
        collector.process("void", logits, logits.argmax(0), target)
        assert collector.value().sum() == 0
    confidence = RegionConfidence(CLASSES)
    confidence.process("void", logits, logits.argmax(0), target)
    assert np.isnan(confidence.value()).all()


@pytest.mark.parametrize("scores", [None, ScoreHistogram(CLASSES)], ids=["alone", "with the scores of pixels"])
def test_region_confidence_is_the_mean_probability_over_the_region(scores):
    images = random_images(5, seed=4)
    collector = RegionConfidence(CLASSES, scores)
    for image in images:
        if scores is not None:
            scores.process(*image)
        collector.process(*image)
    for row, (_, logits, prediction, target) in zip(collector.value(), images, strict=True):
        probability = logits.softmax(dim=0)
        for index in range(CLASSES):
            region = (prediction == index) & (target != IGNORE)
            if region.any():
                assert row[index] == pytest.approx(float(probability[index][region].mean()), rel=1e-5)
            else:
                assert np.isnan(row[index])


def brute_force_regions(images, confidence, threshold):
    """Precision, recall, F1 and VOC's all-point AP per class by loops over masks."""
    rows = []
    for index in range(CLASSES):
        ranked, truths = [], 0
        for number, (_, _, prediction, target) in enumerate(images):
            known = (target != IGNORE).numpy()
            true_region = (target.numpy() == index) & known
            region = (prediction.numpy() == index) & known
            truths += bool(true_region.any())
            if region.any():
                overlap = (true_region & region).sum()
                hit = bool(true_region.any()) and overlap > 0 and overlap / (true_region | region).sum() >= threshold
                ranked.append((confidence[number, index], hit))
        hits = sum(hit for _, hit in ranked)
        if not ranked and not truths:
            rows.append((np.nan,) * 4)
            continue
        ranked.sort(key=lambda pair: -pair[0])
        curve, found = [], 0
        for place, (_, hit) in enumerate(ranked, start=1):
            found += hit
            curve.append((found / truths if truths else 0.0, found / place))
        area, before = 0.0, 0.0
        for place, (reached, _) in enumerate(curve):
            area += (reached - before) * max(value for _, value in curve[place:])
            before = reached
        rows.append(
            (
                hits / len(ranked) if ranked else 0.0,
                hits / truths if truths else 0.0,
                2 * hits / (len(ranked) + truths),
                area if truths else np.nan,
            )
        )
    return np.array(rows)


@pytest.mark.parametrize("seed", range(4))
def test_region_metrics_equal_a_loop_over_masks(seed):
    images = random_images(12, seed=seed, shape=(5, 5))
    confusion, confidence = PerImageConfusion(CLASSES), RegionConfidence(CLASSES)
    for image in images:
        confusion.process(*image)
        confidence.process(*image)
    matrices, confidences = confusion.value(), confidence.value()
    scores = region_scores(matrices)
    ap = region_average_precision(matrices, confidences)
    for step, threshold in enumerate(IOU_THRESHOLDS):
        expected = brute_force_regions(images, confidences, threshold)
        for column, name in enumerate(("precision", "recall", "f1")):
            np.testing.assert_allclose(scores[name][:, step], expected[:, column])
        np.testing.assert_allclose(ap[:, step], expected[:, 3])


def region_matrices(overlaps):
    """Two-class matrices with class 1 of (overlap, only truth, only prediction) pixels."""
    return np.array([[[5, extra], [missing, overlap]] for overlap, missing, extra in overlaps])


def test_degenerate_thresholds_mean_any_overlap_and_equality():
    # IoU 0 without overlap, 0.1, exactly 0.3, 1
    matrices = region_matrices([(0, 4, 4), (1, 9, 0), (3, 0, 7), (6, 0, 0)])
    hits = metrics.region_matches(matrices)[:, 1, :]
    assert hits[0].sum() == 0
    assert hits[1].nonzero()[0].tolist() == [0, 1]
    assert hits[2].nonzero()[0].tolist() == [0, 1, 2, 3]
    assert hits[3].all()
    assert region_scores(matrices)["recall"][1].tolist() == [0.75, 0.75, 0.5, 0.5, *[0.25] * 7]


def test_region_ap_by_hand():
    # By falling confidence: hit, miss (hallucinated), hit; one more true region is not predicted at all.
    matrices = region_matrices([(4, 0, 0), (0, 0, 3), (4, 0, 0), (0, 4, 0)])
    confidence = np.array([[np.nan, 0.9], [np.nan, 0.8], [np.nan, 0.7], [np.nan, np.nan]])
    ap = region_average_precision(matrices, confidence, thresholds=(0.5,))[1, 0]
    assert ap == pytest.approx(1 / 3 * 1 + 1 / 3 * 2 / 3)


def test_region_ap_of_equal_confidences_does_not_depend_on_the_order_of_images():
    matrices = region_matrices([(4, 0, 0), (0, 4, 4), (4, 0, 0), (0, 4, 4)])
    confidence = np.full((4, 2), 0.5)
    forth = region_average_precision(matrices, confidence)
    back = region_average_precision(matrices[::-1], confidence)
    np.testing.assert_array_equal(forth, back)
    assert forth[1, 5] == pytest.approx(0.5 * 0.5)


def test_weights_of_region_ap_are_repeated_images():
    images = random_images(9, seed=7, shape=(4, 4))
    confusion, confidence = PerImageConfusion(CLASSES), RegionConfidence(CLASSES)
    for image in images:
        confusion.process(*image)
        confidence.process(*image)
    weights = np.random.default_rng(0).integers(0, 4, (3, 9))
    got = region_average_precision(confusion.value(), confidence.value(), weights=weights)
    for row, values in zip(weights, got, strict=True):
        repeated = np.repeat(np.arange(9), row)
        np.testing.assert_allclose(
            values, region_average_precision(confusion.value()[repeated], confidence.value()[repeated])
        )


def test_nothing_warns_on_empty_splits():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        metrics.summary(np.zeros((CLASSES, CLASSES), int))
        region_scores(np.zeros((0, CLASSES, CLASSES), int))
        region_average_precision(np.zeros((0, CLASSES, CLASSES), int), np.zeros((0, CLASSES)))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_cuda_counts_like_cpu():
    images = random_images(3)
    for make in (ConfusionMatrix, PerImageConfusion, ScoreHistogram, RegionConfidence):
        here, there = make(CLASSES), make(CLASSES)
        for image_id, *tensors in images:
            here.process(image_id, *tensors)
            there.process(image_id, *(tensor.cuda() for tensor in tensors))
        np.testing.assert_allclose(here.value(), there.value(), rtol=1e-6)


def test_rows_of_images_are_kept_in_blocks_and_taken_once():
    rows = ImageRows((2,), np.int32)
    expected = np.arange(2 * (MOST_ROWS + 3)).reshape(-1, 2)
    assert rows.value().shape == (0, 2)
    for row in expected:
        rows.append(row)
    assert len(rows) == MOST_ROWS + 3
    np.testing.assert_array_equal(rows.value(), expected)
    taken = rows.take()
    rows.append([7, 8])
    np.testing.assert_array_equal(taken, expected)
    assert rows.value().tolist() == [[7, 8]]
