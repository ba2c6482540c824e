"""Slices: a planted pair is found under its name with its numbers, equals are not; the arithmetic is least squares."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats
from sklearn.linear_model import LinearRegression

from analysis.failures import slices
from analysis.failures.factors import FACTORS
from analysis.failures.reasons import ComponentTable, mid_ranks
from analysis.failures.slices import CLASS, SLICE_COLUMNS, find_slices, is_large, slice_conditions, slice_frame

from .test_reasons import NAMES, made

CLASSES = ("road", "car", "pole", "sky")


def end(table, name, part, *, high=False):
    """The components at one end of a factor."""
    ranks = stats.rankdata(table.factors[:, NAMES.index(name)]) / len(table.iou)
    return ranks > 1 - part if high else ranks <= part


def lowered(table, inside, by):
    return ComponentTable(np.clip(table.iou - by * inside, 0, 1), table.class_id, table.image, table.factors)


def told(table):
    return [tuple((one.name, one.value) for one in found.conditions) for found in find_slices(table, CLASSES)[0]]


def test_two_things_that_fail_together_are_found_with_their_numbers():
    table = made(1, images=150)
    dark_and_small = end(table, "light", 1 / 3) & end(table, "size", 1 / 3)
    table = lowered(table, dark_and_small, 0.25)
    frame = slice_frame({"best": table}, CLASSES)
    assert tuple(frame.columns) == SLICE_COLUMNS
    row = frame[frame["first"] != CLASS].iloc[0]
    assert (row["label"], row["first"], row["first_is"]) == ("best", "light", "lowest third")
    assert (row["second"], row["second_is"]) == ("size", "lowest third")
    assert row["components"] == dark_and_small.sum()
    assert row["images"] == len(set(table.image[dark_and_small]))
    lost = 1 - table.iou
    share, of_lost = dark_and_small.mean(), lost[dark_and_small].sum() / lost.sum()
    assert (row["component_share"], row["lost_share"], row["excess"]) == pytest.approx(
        (share, of_lost, of_lost - share)
    )
    assert row["excess_low"] > 0 and row["difference_low"] < 0.25 < row["difference_high"]
    assert row["others_iou"] == pytest.approx(table.iou[~dark_and_small].mean())
    # Neither of the two is told alone, and no third thing beside them.
    assert [one for one in told(table) if one[0][0] != CLASS] == [(("light", "lowest third"), ("size", "lowest third"))]


def test_one_thing_that_fails_is_told_alone():
    table = made(2, images=150)
    blurred = end(table, "thinness", 1 / 5, high=True)
    assert told(lowered(table, blurred, 0.3))[0] == (("thinness", "highest fifth"),)
    pole = table.class_id == 2
    thin = end(table, "thinness", 1 / 3, high=True)
    assert (("thinness", "highest third"), (CLASS, "pole")) in told(lowered(table, pole & thin, 0.4))


def test_no_slice_is_told_of_components_that_are_equal():
    for seed in range(8):
        table = made(seed, images=60)
        # Classes differ, and are told; of factors none has an effect.
        assert all(name == CLASS for one in told(table) for name, _ in one)
        alike = ComponentTable(table.iou - 0.1 * table.class_id, table.class_id, table.image, table.factors)
        assert told(alike) == []
    perfect = ComponentTable(np.ones_like(table.iou), table.class_id, table.image, table.factors)
    assert told(perfect) == [] and slice_frame({"best": perfect}, CLASSES).empty
    assert find_slices(made(images=19), CLASSES) == ([], 0)


@pytest.mark.parametrize(
    ("limit", "value"), [("LEAST_EXCESS", 0.5), ("LEAST_DIFFERENCE", 0.5), ("FAMILY_LEVEL", 1.0), ("LEAST_IMAGES", 200)]
)
def test_every_limit_decides_what_is_told(monkeypatch, limit, value):
    table = made(3, images=150)
    table = lowered(table, end(table, "size", 1 / 3), 0.3)
    assert (("size", "lowest third"),) in told(table)
    monkeypatch.setattr(slices, limit, value)
    assert told(table) == []


def test_slices_do_not_overlap_and_are_few():
    table = made(4, images=200, noise=0.05)
    for name in ("size", "thinness", "crowding", "contrast", "saturation", "off_centre"):
        table = lowered(table, end(table, name, 1 / 5), 0.15)
    found, looked_at = find_slices(table, CLASSES)
    assert len(found) == slices.MOST_SLICES and looked_at > 1000
    assert [one.excess.value for one in found] == sorted((one.excess.value for one in found), reverse=True)


def test_ends_hold_at_most_half_and_nothing_unknown():
    table = made(5)
    factors = table.factors.copy()
    whole = NAMES.index("truncation")
    factors[:, whole] = np.where(np.arange(len(table.iou)) % 4, 0.0, factors[:, whole])
    factors[::2, NAMES.index("blur")] = np.nan
    factors[:, NAMES.index("noise")] = np.nan
    table = ComponentTable(table.iou, table.class_id, table.image, factors)
    conditions = slice_conditions(table, CLASSES)
    of = {(one.name, one.value): one for one in conditions}
    assert len(of) == len(conditions) and {name for name, _ in of} == {*NAMES, CLASS} - {"noise"}
    assert not any(name == "truncation" and value.startswith("lowest") for name, value in of)
    assert all(one.inside.mean() <= 0.5 for one in conditions)
    low = of["blur", "lowest third"]
    assert low.inside.sum() == pytest.approx(np.isfinite(factors[:, NAMES.index("blur")]).sum() / 3, abs=1)
    assert factors[low.inside, NAMES.index("blur")].max() <= low.limit
    assert of[CLASS, "car"].inside.tolist() == (table.class_id == 1).tolist()
    assert not is_large(np.arange(len(table.iou)) < 29, np.arange(len(table.iou)))
    assert not is_large(np.ones(60, bool), np.arange(60) % 19) and is_large(np.ones(60, bool), np.arange(60) % 20)


@pytest.mark.parametrize("others", [[], [2, 7]])
def test_differences_and_intervals_are_those_of_least_squares_by_image(others):
    table = made(6, images=60)
    inside, parent = end(table, "size", 1 / 3), end(table, "light", 0.6)
    ranks = mid_ranks(table.factors)[0][:, others]
    found = slices.difference(table, inside & parent, parent, 0.95, of_classes=False, others=ranks)
    design = np.column_stack([inside, np.eye(4)[table.class_id], ranks])[parent].astype(float)
    fit = LinearRegression(fit_intercept=False).fit(design, table.iou[parent])
    assert found.value == pytest.approx(-fit.coef_[0])
    errors, bread = table.iou[parent] - fit.predict(design), np.linalg.inv(design.T @ design)
    scores = np.stack([(design * errors[:, None])[table.image[parent] == image].sum(axis=0) for image in range(60)])
    images = min(len(set(table.image[parent & part])) for part in (inside, ~inside))
    deviation = np.sqrt((bread @ scores.T @ scores @ bread)[0, 0] * images / (images - 1))
    assert found.half == pytest.approx(stats.t.ppf(0.975, images - 1) * deviation)


def test_what_another_factor_does_is_no_slice():
    # Thin components are small ones here, and thinness does nothing by itself.
    table = made(8, images=150)
    factors = table.factors.copy()
    factors[:, NAMES.index("thinness")] = -np.log(factors[:, NAMES.index("size")]) + np.random.default_rng(0).normal(
        0, 0.7, len(table.iou)
    )
    small = stats.rankdata(factors[:, NAMES.index("size")]) / len(table.iou) - 0.5
    table = ComponentTable(np.clip(table.iou + 0.5 * small, 0, 1), table.class_id, table.image, factors)
    thin = end(table, "thinness", 1 / 3, high=True)
    assert slices.difference(table, thin, np.ones(len(thin), bool), 0.95, of_classes=False).value > 0.15
    assert ("size", "lowest third") in [name for one in told(table) for name in one]
    assert not any(name == "thinness" for one in told(table) for name, _ in one)


def test_the_interval_of_the_excess_is_that_of_drawn_images():
    table = lowered(made(7, images=120), end(made(7, images=120), "size", 1 / 3), 0.2)
    inside, lost = end(table, "size", 1 / 3), 1 - table.iou
    found = slices._excess(table, inside, np.ones(len(lost), bool), 0.95)
    assert found.value == pytest.approx(lost[inside].sum() / lost.sum() - inside.mean())
    sums = [np.bincount(table.image, values) for values in (lost * inside, lost, inside, np.ones(len(lost)))]
    draws = np.random.default_rng(0).multinomial(120, np.full(120, 1 / 120), 4000)
    own, of_all, count, everything = (draws @ one for one in sums)
    images = len(set(table.image[inside]))
    half = stats.t.ppf(0.975, images - 1) * (own / of_all - count / everything).std()
    assert found.half == pytest.approx(half, rel=0.06)


def test_names_of_factors_are_no_class():
    assert CLASS not in [factor.name for factor in FACTORS]
