"""What differs between two predictions: cured, new and shared failures, and lost mIoU by type with its interval."""

from __future__ import annotations

import numpy as np
import pytest

from analysis.failures.changes import (
    CHANGE_COLUMNS,
    LEAST_UNITS_OF_TYPE,
    TYPE_CHANGE_COLUMNS,
    component_changes,
    type_changes,
)
from analysis.failures.kinds import kinds_by_name
from analysis.failures.split import SplitFailures, measure_image, type_frame
from tests.analysis.failures.test_error_types import BUS, CAR, scene
from trainables.metrics import sampling_units

NAMES = ("background", "road", "car", "bus")
KINDS = kinds_by_name(NAMES)
COUNT = 50
IMAGES = sampling_units([None] * COUNT)
CARS = [(CAR, 10, 30, left, left + 15) for left in (2, 22, 42, 62)]


def measured(pairs):
    images = [measure_image(truth, [prediction], NAMES, KINDS)[0] for truth, prediction in pairs]
    return SplitFailures(tuple(f"i{place}" for place in range(len(pairs))), tuple(images))


def test_components_are_cured_new_and_shared():
    truth = scene(*CARS)
    before = measured([(truth, scene(CARS[0], CARS[2]))])
    after = measured([(truth, scene(CARS[0], CARS[1], (BUS, *CARS[3][1:])))])
    changes = component_changes(before, after, NAMES)
    assert tuple(changes.columns) == CHANGE_COLUMNS
    assert changes[["left", "change", "type_before", "type_after"]].values.tolist() == [
        [22, "cured", "missed component", ""],
        [42, "new", "", "missed component"],
        [62, "shared", "missed component", "wrong class, whole"],
    ]
    assert changes["iou_before"].tolist() == [0, 1, 0] and changes["iou_after"].tolist() == [1, 0, 0]
    assert component_changes(after, after, NAMES)["change"].tolist() == ["shared"] * 2
    # what is invented is not of the truth
    assert component_changes(measured([(scene(), scene())]), measured([(scene(), truth)]), NAMES).empty


def some(seed, share, count=COUNT):
    """Pairs in which each car is missed with some probability, and a bus is invented in half of the images."""
    rng = np.random.default_rng(seed)
    pairs = []
    for _ in range(count):
        left = [car for car in CARS if rng.random() > share]
        extra = [(BUS, 45, 55, 5, 25)] if rng.random() < 0.5 else []
        pairs.append((scene(*CARS, (BUS, 45, 55, 50, 70)), scene(*left, *extra, (BUS, 45, 55, 50, 70))))
    return pairs


def test_differences_are_those_of_the_table_of_types():
    before, after = measured(some(0, 0.6)), measured(some(1, 0.2))
    changes = type_changes(before, after, IMAGES).set_index("type")
    assert ("type", *changes.columns) == TYPE_CHANGE_COLUMNS
    for name, split in (("before", before), ("after", after)):
        table = type_frame({"x": split}).set_index("type")["lost_iou"]
        assert changes[name].to_dict() == pytest.approx(table.to_dict())
    missed = changes.loc["missed component"]
    assert missed["difference_low"] < missed["difference"] < missed["difference_high"] < 0
    invented = changes.loc["invented component"]
    assert invented["difference_low"] < 0 < invented["difference_high"]


def lost(split: SplitFailures, drawn: list[int], kind: str) -> float:
    images = tuple(split.images[place] for place in drawn)
    table = type_frame({"x": SplitFailures(tuple(map(str, drawn)), images)}).set_index("type")
    return float(table.loc[kind, "lost_iou"])


@pytest.mark.parametrize("groups", [None, 50])
def test_intervals_are_those_of_images_or_groups_left_out(groups):
    images = 2 * COUNT if groups else COUNT
    before, after = measured(some(0, 0.6, count=images)), measured(some(1, 0.2, count=images))
    of_image = [place % groups if groups else place for place in range(images)]
    changes = type_changes(before, after, sampling_units([str(one) if groups else None for one in of_image]))
    row = changes.set_index("type").loc["missed component"]
    without = []
    for unit in range(count := groups or images):
        rest = [place for place in range(images) if of_image[place] != unit]
        without.append(lost(after, rest, "missed component") - lost(before, rest, "missed component"))
    bias = (count - 1) * (np.mean(without) - row["difference"])
    error = np.sqrt((count - 1) / count * np.square(np.array(without) - np.mean(without)).sum())
    assert (row["difference_low"] + row["difference_high"]) / 2 == pytest.approx(row["difference"] - bias)
    # Wider than an interval of its own, since the types' intervals hold at once.
    assert 2.05 * error < (row["difference_high"] - row["difference_low"]) / 2 < 5 * error


def test_there_is_no_interval_where_images_chose_or_are_few():
    before, after = measured(some(0, 0.6)), measured(some(1, 0.2))
    assert type_changes(before, after, None)["difference_low"].isna().all()
    few = measured(some(0, 0.6, count=49)), measured(some(1, 0.2, count=49))
    assert type_changes(*few, sampling_units([None] * 49))["difference_low"].isna().all()
    same = type_changes(before, before, IMAGES).set_index("type")["difference_high"]
    assert same["missed component"] == 0 and np.isnan(same["split"])


def test_a_type_has_an_interval_from_so_many_images_on():
    perfect = [(scene(*CARS), scene(*CARS))]
    for count, has in ((LEAST_UNITS_OF_TYPE - 1, False), (LEAST_UNITS_OF_TYPE, True)):
        before = measured([*some(0, 1.0, count=count), *perfect * (COUNT - count)])
        after = measured(perfect * COUNT)
        told = type_changes(before, after, IMAGES).set_index("type")["difference_low"]
        assert np.isfinite(told["missed component"]) == has
