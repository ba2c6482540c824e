"""Intervals against SciPy on explicit draws, known distributions and simulated coverage."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from scipy import stats

from analysis import statistics
from analysis.statistics import (
    MIN_GROUPS,
    MIN_IMAGES,
    MOST_BLOCKS,
    confidence_interval,
    leave_out,
    paired_interval,
)
from trainables import metrics
from trainables.metrics import (
    arrays,
    draw_counts,
    mean_over_split_classes,
    replicate_weights,
    resampling,
    sampling_units,
    weighted_sum,
)


def mean_of(values):
    return lambda weights: weighted_sum(weights, values) / weights.sum(axis=-1)


def images(count):
    return sampling_units([None] * count)


def test_weights_are_repeated_images():
    rng = np.random.default_rng(0)
    draws, per_image = rng.integers(0, 7, (5, 7)), rng.integers(0, 100, (7, 2, 3))
    counts = draw_counts(draws, 7)
    for row, draw in enumerate(draws):
        np.testing.assert_array_equal(counts[row], [(draw == unit).sum() for unit in range(7)])
        np.testing.assert_array_equal(weighted_sum(counts, per_image)[row], per_image[draw].sum(axis=0))


def jackknife_by_hand(values_of, units):
    """Estimate, bias, standard error and degrees of freedom, from a plain loop over units."""
    everyone = np.arange(len(units.of_image))
    estimate = values_of(everyone)
    without = np.array([values_of(everyone[units.of_image != unit]) for unit in range(units.count)])
    count = units.count
    error = np.sqrt((count - 1) / count * ((without - without.mean()) ** 2).sum())
    kurtosis = stats.kurtosis(without, fisher=False)
    return estimate, (count - 1) * (without.mean() - estimate), error, min(count - 1, 2 * count / (kurtosis - 1))


def test_interval_is_that_of_a_loop_that_leaves_out_each_image():
    values = np.random.default_rng(1).gamma(2, size=60)
    ours = confidence_interval(lambda weights: np.square(mean_of(values)(weights)), images(60))
    estimate, bias, error, freedom = jackknife_by_hand(lambda kept: values[kept].mean() ** 2, images(60))
    low, high = stats.t.interval(0.95, freedom, loc=estimate - bias, scale=error)
    assert (float(ours.low), float(ours.high)) == pytest.approx((low, high))
    assert bias > 0 and freedom < 59


def test_interval_of_a_mean_is_students():
    values = np.random.default_rng(2).uniform(size=25)  # flat tails do not take away degrees of freedom
    ours = confidence_interval(mean_of(values), images(25))
    low, high = stats.t.interval(0.95, 24, loc=values.mean(), scale=stats.sem(values))
    assert (float(ours.low), float(ours.high)) == pytest.approx((low, high))


def test_the_bias_of_a_squared_mean_is_its_variance():
    values = np.random.default_rng(2).normal(size=40)
    spread = leave_out(lambda weights: np.square(mean_of(values)(weights))[None], images(40))
    assert spread.bias[0] == pytest.approx(values.var(ddof=1) / 40)


def test_few_images_that_decide_leave_few_degrees_of_freedom():
    one, all_alike = np.zeros(100), np.random.default_rng(0).uniform(size=100)
    one[7] = 1.0
    freedom = leave_out(
        lambda weights: np.stack([mean_of(one)(weights), mean_of(all_alike)(weights)]), images(100)
    ).freedom
    assert freedom[0] == pytest.approx(2 * 100 / (stats.kurtosis(one, fisher=False) - 1))
    assert freedom[0] < 2.1 and freedom[1] == 99


def test_several_statistics_are_told_as_each_alone():
    values = np.random.default_rng(3).normal(size=40)
    both = confidence_interval(
        lambda weights: np.stack([mean_of(values)(weights), -mean_of(values)(weights)]), images(40)
    )
    single = confidence_interval(mean_of(values), images(40))
    np.testing.assert_allclose(both.low, [single.low, -single.high])
    np.testing.assert_allclose(both.high, [single.high, -single.low])


def test_many_images_are_left_out_in_blocks(monkeypatch):
    values = np.random.default_rng(4).normal(size=3000)
    exact = stats.t.interval(0.95, 2999, loc=values.mean(), scale=stats.sem(values))
    asked = []

    def watched(weights):
        asked.append(weights)
        return mean_of(values)(weights)

    interval = confidence_interval(watched, images(3000))
    assert (float(interval.low), float(interval.high)) == pytest.approx(exact, abs=0.15 * (exact[1] - exact[0]))
    weights = np.concatenate([some for some in asked if some.min() == 0])
    assert weights.shape == (MOST_BLOCKS, 3000)
    assert (weights == 0).sum(axis=0).tolist() == [1] * 3000, "every image is left out once"
    assert set((weights == 0).sum(axis=1)) == {7, 8}


@pytest.mark.parametrize("count", [MIN_IMAGES - 1, MIN_IMAGES])
def test_too_few_images_give_no_interval(count):
    interval = confidence_interval(mean_of(np.arange(count)), images(count))
    assert np.isnan(interval.low) == (count < MIN_IMAGES)


@pytest.mark.parametrize("count", [MIN_GROUPS - 1, MIN_GROUPS])
def test_too_few_groups_give_no_interval_however_many_images(count):
    units = sampling_units([f"video-{place % count}" for place in range(200)])
    interval = confidence_interval(lambda weights: np.stack([mean_of(np.arange(200))(weights)] * 2), units)
    assert interval.low.shape == (2,)
    assert np.isnan(interval.low).all() == (count < MIN_GROUPS)


def test_images_of_a_group_are_drawn_together():
    units = sampling_units(["a", "b", "a", None, None, "b"])
    assert units.grouped
    assert units.count == 4
    assert units.of_image.tolist() == [0, 1, 0, 2, 3, 1]
    assert not sampling_units([None, None]).grouped


def test_groups_are_left_out_whole():
    rng = np.random.default_rng(5)
    groups = np.repeat(np.arange(8), rng.integers(1, 9, 8))
    values = rng.normal(size=len(groups)) + groups
    units = sampling_units([str(g) for g in groups])
    grouped = confidence_interval(mean_of(values), units)
    estimate, bias, error, freedom = jackknife_by_hand(lambda kept: values[kept].mean(), units)
    low, high = stats.t.interval(0.95, freedom, loc=estimate - bias, scale=error)
    assert (float(grouped.low), float(grouped.high)) == pytest.approx((low, high))


def test_replicates_that_lose_a_class_leave_it_out_but_keep_those_only_predicted():
    # the split: 0 and 1 in the truth, 2 only predicted, 3 nowhere
    split = np.array([[8, 1, 1, 0], [2, 4, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0]])
    whole = metrics.iou(split)
    lost = np.array([[8, 1, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0]])
    replicates = np.stack([split, lost])
    means = mean_over_split_classes(metrics.iou(replicates), replicates.sum(axis=-1) > 0, split.sum(axis=-1) > 0, whole)
    assert means[0] == pytest.approx(np.nanmean(whole))
    # 1 is only predicted there by chance of the draw: left out; 2 stays a zero although nobody predicts it there
    assert means[1] == pytest.approx((8 / 9 + 0) / 2)


PRESENCE = np.array([1, 1, 0.8, 0.5, 0.25, 0.12, 0.06])


def simulated_split(rng, groups, per_group):
    """Confusion matrices of images whose quality hangs together within a group."""
    count, classes = groups * per_group, len(PRESENCE)
    area = (rng.random((count, classes)) < PRESENCE) * rng.lognormal(0, 0.7, (count, classes))
    pixels = 4000 * area / area.sum(axis=1, keepdims=True)
    shared = np.repeat(rng.normal(size=(groups, 1)), per_group, axis=0)
    quality = 1 + 0.5 * (np.sqrt(0.3) * shared + np.sqrt(0.7) * rng.normal(size=(count, 1)))
    right = pixels / (1 + np.exp(-quality - 0.9 * rng.normal(size=(count, classes))))
    # Wrong pixels go to the other classes of the image, and in some images to one that is not there.
    share = area + 0.15 * (rng.random((count, classes)) < 0.15)
    share = share[:, None, :] * (1 - np.eye(classes))
    matrix = (pixels - right)[:, :, None] * share / np.maximum(share.sum(axis=2, keepdims=True), 1e-9)
    matrix[:, np.arange(classes), np.arange(classes)] = right
    return np.round(matrix).astype(np.int64)


def keep_class_set(confusions):
    split = confusions.sum(axis=0)

    def of_weights(weights):
        matrix = weighted_sum(weights, confusions)
        return mean_over_split_classes(
            metrics.iou(matrix), matrix.sum(axis=-1) > 0, split.sum(axis=-1) > 0, metrics.iou(split)
        )

    return of_weights


def naive(confusions):
    return lambda weights: metrics.mean_over_classes(metrics.iou(weighted_sum(weights, confusions)))


def coverage(make_statistic, units, *, groups, per_group, repeats, seed):
    big = sum(simulated_split(np.random.default_rng([7, part]), 20_000, 1).sum(axis=0) for part in range(4))
    truth = metrics.mean_over_classes(metrics.iou(big))
    rng = np.random.default_rng(seed)
    hits = 0
    for _ in range(repeats):
        interval = confidence_interval(make_statistic(simulated_split(rng, groups, per_group)), units)
        hits += bool(interval.low <= truth <= interval.high)
    return hits / repeats


def test_intervals_cover_where_a_class_is_rare():
    assert coverage(keep_class_set, images(75), groups=75, per_group=1, repeats=250, seed=1) > 0.91


def test_a_replicate_without_a_class_is_not_pulled_down():
    rng = np.random.default_rng(3)
    confusions = simulated_split(rng, 60, 1)
    weights = draw_counts(rng.integers(0, 60, (2000, 60)), 60)
    whole = naive(confusions)(np.ones((1, 60)))[0]
    bias = naive(confusions)(weights).mean() - whole, keep_class_set(confusions)(weights).mean() - whole
    assert bias[0] < bias[1]


def test_correlated_frames_need_group_intervals():
    units = sampling_units([f"video-{place // 25}" for place in range(8 * 25)])
    options = {"groups": 8, "per_group": 25, "repeats": 150, "seed": 2}
    assert coverage(keep_class_set, units, **options) > 0.89
    assert coverage(keep_class_set, images(8 * 25), **options) < 0.85


def test_paired_interval_is_narrower_than_two_single_ones_on_the_same_images():
    rng = np.random.default_rng(6)
    difficulty = rng.normal(size=50)
    one, two = difficulty + 0.3 + 0.1 * rng.normal(size=50), difficulty + 0.1 * rng.normal(size=50)
    paired = paired_interval(mean_of(one), mean_of(two), images(50))
    assert paired.low > 0
    singles = [confidence_interval(mean_of(values), images(50)) for values in (one, two)]
    assert singles[0].low < singles[1].high
    expected = confidence_interval(mean_of(one - two), images(50))
    assert (float(paired.low), float(paired.high)) == pytest.approx((float(expected.low), float(expected.high)))


def test_replicates_come_in_batches_that_change_nothing(monkeypatch):
    values = np.random.default_rng(7).normal(size=50)
    whole = confidence_interval(mean_of(values), images(50))
    monkeypatch.setattr(resampling, "BATCH_WEIGHTS", 50 * 7)
    asked = []

    def watched(weights):
        asked.append(weights.shape)
        return mean_of(values)(weights)

    batched = confidence_interval(watched, images(50))
    assert (float(batched.low), float(batched.high)) == pytest.approx((float(whole.low), float(whole.high)))
    assert [shape for shape in asked if shape != (1, 50)] == [(7, 50)] * 7
    drawn = [weights.shape for weights in replicate_weights(images(50), resamples=20, seed=0)]
    assert drawn == [(7, 50), (7, 50), (6, 50)]


def test_memory_does_not_grow_with_images_times_replicates():
    units, values = images(20_000), np.ones(20_000)
    tracemalloc.start()
    try:
        confidence_interval(mean_of(values), units)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    # the weights alone of 400 replicates of 20,000 images take 64 MB
    assert peak < 50e6


@pytest.mark.parametrize("dtype", [np.int32, np.int64, np.float64])
def test_sums_over_blocks_of_images_are_those_over_all(monkeypatch, dtype):
    rng = np.random.default_rng(8)
    weights, per_image = draw_counts(rng.integers(0, 23, (4, 23)), 23), rng.integers(0, 2**30, (23, 3, 2)).astype(dtype)
    expected = np.einsum("rn,nij->rij", weights, per_image.astype(np.float64))
    for values in (1, 6, 30, 10**6):
        monkeypatch.setattr(arrays, "SUMMED_VALUES", values)
        np.testing.assert_array_equal(weighted_sum(weights, per_image), expected)
        np.testing.assert_array_equal(weighted_sum(weights, per_image[:, 1:]), expected[:, 1:])


def test_undefined_statistic_gives_no_interval():
    interval = confidence_interval(lambda weights: np.full(weights.shape[:-1], np.nan), images(30))
    assert np.isnan(interval.low)
    assert np.isnan(interval.high)


def test_limits_are_those_that_the_documentation_gives():
    assert (statistics.MIN_IMAGES, statistics.MIN_GROUPS) == (20, 8)
