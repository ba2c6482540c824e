"""Shares of the lost IoU: exact sums per label, class and image, and components by hand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analysis.failures.kinds import kinds_by_name
from analysis.failures.split import (
    CLASS_TYPE_COLUMNS,
    COMPONENT_COLUMNS,
    IMAGE_TYPE_COLUMNS,
    TYPE_COLUMNS,
    class_type_frame,
    component_frame,
    image_type_frame,
    lost_iou_weights,
    measure_image,
    measure_split,
    type_frame,
)
from tests.analysis.failures.test_error_types import BUS, CAR, ONE, blobs, scene
from trainables.data.base import VOID

NAMES = ("background", "road", "car", "bus")
KINDS = kinds_by_name(NAMES)


def measured(*pairs, **options):
    """One label, `model`, from pairs of truth and prediction."""
    ids = [f"i{place}" for place in range(len(pairs))]
    return measure_split(
        ids, lambda place: measure_image(pairs[place][0], [pairs[place][1]], NAMES, KINDS, **options), ["model"]
    )


def plain_ious(pairs):
    """IoU of each class over all pairs by counting; NaN where it is nowhere."""
    ious = []
    for class_id in range(len(NAMES)):
        both = either = 0
        for truth, prediction in pairs:
            known = truth != VOID
            is_true, is_predicted = (truth == class_id) & known, (prediction == class_id) & known
            both += int((is_true & is_predicted).sum())
            either += int((is_true | is_predicted).sum())
        ious.append(both / either if either else np.nan)
    return np.array(ious)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(blobs(void=True), blobs()), min_size=1, max_size=3))
def test_shares_add_up_per_label_class_and_image(pairs):
    splits = measured(*pairs)
    ious = plain_ious(pairs)
    if np.isnan(ious).all():
        return
    types, classes, images = type_frame(splits), class_type_frame(splits, NAMES), image_type_frame(splits)
    assert tuple(types.columns) == TYPE_COLUMNS
    assert tuple(classes.columns) == CLASS_TYPE_COLUMNS
    assert tuple(images.columns) == IMAGE_TYPE_COLUMNS
    wrong = sum(int(((truth != VOID) & (truth != prediction)).sum()) for truth, prediction in pairs)
    assert (
        types["pixels"].sum() == images["pixels"].sum() == classes["missing"].sum() == classes["extra"].sum() == wrong
    )
    assert types["lost_iou"].sum() == pytest.approx(1 - np.nanmean(ious))
    assert images["lost_iou"].sum() == pytest.approx(1 - np.nanmean(ious))
    assert types["share"].sum() == pytest.approx(1 if wrong else 0)
    assert images.groupby("image_id")["share"].sum().to_numpy() == pytest.approx(1)
    for name, own in classes.groupby("class"):
        assert own["share"].sum() == pytest.approx(1)
        assert own["lost_iou"].sum() == pytest.approx(1 - ious[NAMES.index(name)])
    by_type = images.groupby("type")["lost_iou"].sum()
    for row in types.itertuples():
        assert by_type.get(row.type, 0) == pytest.approx(row.lost_iou)


def test_weights_are_worked_by_hand():
    # unions: 8 + 1 + 0 = 9 of the first class, 1 + 2 = 3 of the second, the third is nowhere
    confusion = np.array([[8, 0, 0], [1, 2, 0], [0, 0, 0]])
    weights = lost_iou_weights(confusion)
    assert weights[1, 0] == (1 / 9 + 1 / 3) / 2
    assert (weights * confusion)[1, 0] == pytest.approx(1 - (8 / 9 + 2 / 3) / 2)


def test_tables_are_worked_by_hand():
    # Image 0: the car of 600 is missed. Image 1: it is called bus. Both have 4200 right pixels of background.
    splits = measured((scene(ONE), scene()), (scene(ONE), scene((BUS, *ONE[1:]))))
    types = type_frame(splits).set_index("type")
    # background: 8400 right and 600 extra; car: 1200 missing; bus: 600 extra
    background, car, bus = 600 / 9000, 1.0, 1.0
    assert types.loc["missed component", "lost_iou"] == pytest.approx((background + car / 2) / 3)
    assert types.loc["wrong class, whole", "lost_iou"] == pytest.approx((car / 2 + bus) / 3)
    classes = class_type_frame(splits, NAMES).set_index(["class", "type"])
    assert classes.loc[("car", "missed component")].tolist() == ["model", 600, 0, 0.5, 0.5]
    assert classes.loc[("bus", "wrong class, whole")].tolist() == ["model", 0, 600, 1, 1]
    components = component_frame(splits, NAMES)
    assert tuple(components.columns) == COMPONENT_COLUMNS
    assert components[["image_id", "class", "source", "iou", "type", "taken_for", "taken_share"]].values.tolist() == [
        ["i0", "car", "truth", 0, "missed component", "background", 1],
        ["i1", "car", "truth", 0, "wrong class, whole", "bus", 1],
    ]
    assert components["area_fraction"].tolist() == [600 / 4800] * 2
    assert components[["top", "left", "bottom", "right"]].values.tolist() == [[20, 20, 40, 50]] * 2


def test_one_of_three_equal_cars_is_a_failure_though_the_region_is_not():
    cars = [(CAR, 10, 30, left, left + 20) for left in (5, 30, 55)]
    splits = measured((scene(*cars), scene(*cars[:2])))
    assert splits["model"].images[0].regions == []
    components = component_frame(splits, NAMES)
    assert components[["class", "type", "left"]].values.tolist() == [["car", "missed component", 55]]


def test_only_components_at_or_below_the_limit_fail():
    splits = measured((scene(ONE), scene((CAR, 20, 40, 20, 35))))
    assert len(component_frame(splits, NAMES, iou_limit=0.5)) == 1
    assert len(component_frame(splits, NAMES, iou_limit=0.49)) == 0
    perfect = measured((scene(ONE), scene(ONE)))
    assert len(component_frame(perfect, NAMES, iou_limit=1.0)) == 0
    assert type_frame(perfect)["share"].sum() == 0


def test_connectivity_decides_what_one_component_is():
    truth = scene((CAR, 10, 20, 10, 20), (CAR, 20, 30, 20, 30))
    assert len(component_frame(measured((truth, scene())), NAMES)) == 1
    assert len(component_frame(measured((truth, scene()), connectivity=4), NAMES)) == 2


def test_known_confusions_give_the_same():
    pair = scene(ONE), scene((BUS, *ONE[1:]))
    (fresh,) = measure_image(pair[0], [pair[1]], NAMES, KINDS)
    (given_,) = measure_image(pair[0], [pair[1]], NAMES, KINDS, confusions=[fresh.confusion])
    assert given_.regions == fresh.regions
    assert (given_.counts == fresh.counts).all()
