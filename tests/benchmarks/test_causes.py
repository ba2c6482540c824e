"""Planted errors are what their names say, and the table counts what is claimed about them."""

from __future__ import annotations

import numpy as np
import pytest

from analysis.failures.kinds import class_kinds
from analysis.failures.names import ErrorType
from benchmarks.causes import Tally, evaluate, named
from benchmarks.planted import EVALUATION_SEEDS, MOST_PLANTS, PLANTERS, TUNING_SEEDS, plant
from trainables.data.base import VOID

NAMES = ("background", "road", "car", "bus")
KINDS = class_kinds(NAMES)


def street(seed):
    """A car, a car and a bus that touch, and a road on a background, with a column of void."""
    rng = np.random.default_rng(seed)
    mask = np.zeros((96, 128), np.uint8)
    mask[60:] = 1
    for class_id, left in ((2, 8), (2, 44), (3, 66)):
        top, wide = 30 + int(rng.integers(10)), 24 + int(rng.integers(6))
        mask[top : top + 36, left : left + wide] = class_id
    mask[:, 127] = VOID
    return mask


@pytest.mark.parametrize("kind", PLANTERS)
def test_every_kind_can_be_planted_and_changes_only_what_it_says(kind):
    planted = [plant(street(seed), KINDS, (kind,), seed=(1, seed), rough=False) for seed in range(30)]
    found = [one for one in planted if one.plants]
    assert found
    for one in found:
        (only,) = one.plants
        differs = one.prediction != np.where(one.truth == VOID, one.prediction, one.truth)
        assert only.kind == kind and only.expected == PLANTERS[kind][1]
        assert (only.changed >= differs).all() and differs.any()


def test_an_erased_component_is_gone_and_an_invented_one_is_new():
    erased = next(
        one for seed in range(9) if (one := plant(street(seed), KINDS, ("erased",), seed=(2, seed), rough=False)).plants
    )
    (classes,) = np.unique(erased.truth[erased.plants[0].changed & (erased.truth != VOID)]).tolist()
    assert not (erased.prediction[erased.plants[0].changed] == classes).any()
    invented = plant(street(0), KINDS, ("invented away",), seed=(3, 0), rough=False)
    assert (invented.truth[invented.plants[0].changed] < 2).all()


def test_rough_edges_stay_within_the_band():
    planted = plant(street(0), KINDS, (), seed=(4, 0), rough=True)
    wrong = (planted.prediction != planted.truth) & (planted.truth != VOID)
    assert 0 < wrong.mean() < 0.1
    for row, column in np.argwhere(wrong):
        near = planted.truth[max(0, row - 1) : row + 2, max(0, column - 1) : column + 2]
        assert planted.prediction[row, column] in near


def test_several_plants_do_not_touch_and_the_same_seed_gives_the_same():
    every = tuple(PLANTERS)
    first, second = (plant(street(5), KINDS, every, seed=(5, 5), rough=True) for _ in range(2))
    assert (first.prediction == second.prediction).all()
    assert 1 <= len(first.plants) <= MOST_PLANTS
    assert not (sum(one.changed.astype(int) for one in first.plants) > 1).any()
    assert not set(TUNING_SEEDS) & set(EVALUATION_SEEDS)


def test_claims_are_counted_as_right_and_false():
    planted = plant(street(1), KINDS, ("erased",), seed=(6, 1), rough=False)
    tallies = {kind: Tally() for kind in (*PLANTERS, "(no plant)")}
    evaluate(planted, KINDS, NAMES, tallies)
    tally = tallies["erased"]
    assert (tally.plants, tally.found, tally.right, tally.false_share) == (1, 1, 1, 0.0)
    # the region of the class is shown where less than half of it is left
    known = planted.truth != VOID
    class_id = int(planted.truth[planted.plants[0].changed & known][0])
    left = (planted.prediction[known & (planted.truth == class_id)] == class_id).mean()
    assert tally.shown == int(left <= 0.5)
    wrong_name = Tally(plants=2, found=1, right=1)
    wrong_name.false.update(["merged"])
    assert (wrong_name.recall, wrong_name.false_share) == (0.5, 0.5)


def test_a_type_is_named_from_a_quarter_on():
    types = np.repeat([ErrorType.MISSED, ErrorType.BOUNDARY, ErrorType.SPLIT], [25, 24, 51])
    assert list(named(types)) == [ErrorType.MISSED, ErrorType.SPLIT]
