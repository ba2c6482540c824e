"""Classes that few training images have: the class is the unit, and equal classes are not told apart."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from analysis.audit.effects import Cases, effects
from analysis.failures.class_frequency import can_tell, effect_between_classes
from analysis.failures.factors import DISTANCE, FACTORS
from analysis.failures.reasons import EFFECT_COLUMNS, ComponentTable, factor_effects, why_no_frequency

from .test_reasons import made

NAMES = ("effect", "low", "high", "alone", "stable", "reason")


def with_classes(seed, *, classes=20, effect=0.0, images=100):
    """Components of classes whose IoU grows by so much from the 10th to the 90th percentile of their frequency."""
    rng = np.random.default_rng(seed)
    table = made(seed, images=images, effects={"size": 0.2})
    frequency = 10 ** rng.uniform(-2, 0, classes)
    class_id = rng.integers(0, classes, len(table.iou))
    ranks = stats.rankdata(frequency) / classes - 0.5
    levels = rng.uniform(0, 0.25, classes) + effect / 0.8 * ranks
    return ComponentTable(table.iou + levels[class_id], class_id, table.image, table.factors, frequency=frequency)


def told(table):
    """What is said of the frequency; None where it is not compared."""
    rows = {row[0]: row for row in factor_effects(table, resamples=200)}
    return dict(zip(NAMES, rows["frequency"][3:9], strict=True)) if "frequency" in rows else None


def test_an_effect_between_classes_is_found_with_its_size():
    found = told(with_classes(1, effect=0.4))
    assert found["reason"] and found["low"] < 0.4 < found["high"]
    assert found["effect"] == pytest.approx(0.4, abs=0.15) and found["alone"] == pytest.approx(0.4, abs=0.15)


def test_rare_classes_that_are_as_good_as_others_are_no_reason():
    claims = [told(with_classes(seed, images=60))["reason"] for seed in range(20)]
    assert sum(claims) == 0
    # Many components of few classes say no more: a class is one observation.
    many, few = (told(with_classes(3, images=images)) for images in (400, 60))
    assert many["high"] - many["low"] > 0.7 * (few["high"] - few["low"])


def test_it_takes_ten_classes_of_different_frequency():
    assert told(with_classes(0, classes=9)) is None and told(with_classes(0, classes=10)) is not None
    table = with_classes(0)
    assert why_no_frequency(table) == () and why_no_frequency(made()) == () and why_no_frequency(None) == ()
    even = ComponentTable(table.iou, table.class_id, table.image, table.factors, frequency=np.full(20, 0.5))
    assert told(even) is None and not can_tell(even.frequency)
    assert "it takes 10 classes of different frequency with 5 components each" in why_no_frequency(even)[0]
    # Classes with too few components do not count.
    class_id = np.where(table.class_id > 8, 9, np.maximum(table.class_id, 1))
    rare = ComponentTable(table.iou, class_id, table.image, table.factors, frequency=table.frequency)
    assert told(rare) is None and why_no_frequency(rare)


def test_the_audit_finds_the_same_effects_by_other_code():
    table = with_classes(1, effect=0.4, images=60)
    distance = np.random.default_rng(0).random(60)[table.image]
    factors = np.column_stack([table.factors, distance])
    of = (*FACTORS, DISTANCE)
    rows = factor_effects(ComponentTable(table.iou, table.class_id, table.image, factors, of, table.frequency), seed=3)
    names = tuple(factor.name for factor in of)
    audited = effects(Cases(table.iou, table.class_id, table.image, factors, names, table.frequency), 3)
    assert [row[0] for row in rows] == [row["factor"] for row in audited] == [*names, "frequency"]
    for row, other in zip(rows, audited, strict=True):
        assert row[1:8] == pytest.approx([other[name] for name in EFFECT_COLUMNS[2:9]], abs=1e-6)


def test_the_line_is_least_squares_with_students_interval():
    rng = np.random.default_rng(0)
    frequency, levels = rng.random(12), rng.random(12)
    ranks = (stats.rankdata(frequency) - 0.5) / 12 - 0.5
    span = np.quantile(ranks, 0.9) - np.quantile(ranks, 0.1)
    design = np.column_stack([np.ones(12), ranks])
    solution, residual = np.linalg.lstsq(design, levels, rcond=None)[:2]
    error = np.sqrt(residual[0] / 10 * np.linalg.inv(design.T @ design)[1, 1])
    draws = rng.multinomial(12, np.full(12, 1 / 12), 300)
    effect, half, stable = effect_between_classes(frequency, levels, level=0.95, draws=draws)
    assert (effect, half) == pytest.approx((solution[1] * span, stats.t.ppf(0.975, 10) * error * span))
    slopes = np.array([np.polyfit(np.repeat(ranks, one), np.repeat(levels, one), 1)[0] for one in draws])
    agree = (np.sign(slopes) == np.sign(solution[1])) & (np.abs(slopes) >= abs(solution[1]) / 2)
    assert stable == pytest.approx(agree.mean(), abs=0.005)
