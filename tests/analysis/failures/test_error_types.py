"""Each wrong pixel has one type: hand-worked masks, a loop over pixels, and what must hold for any masks."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analysis.failures import error_types, overlaps
from analysis.failures.components import find_components
from analysis.failures.error_types import RIGHT, classify_errors
from analysis.failures.names import ErrorType
from tests.analysis.failures.plain_types import plain_types
from trainables.data.base import VOID

BACK, ROAD, CAR, BUS = range(4)
KINDS = np.array([0, 1, 2, 2], np.int8)
SHAPE = (60, 80)
WIDTH = 2


def scene(*boxes, background=BACK, shape=SHAPE):
    """A mask of rectangles (class, top, bottom, left, right)."""
    mask = np.full(shape, background, np.uint8)
    for class_id, top, bottom, left, right in boxes:
        mask[top:bottom, left:right] = class_id
    return mask


def classify(truth, prediction, *, width=WIDTH, connectivity=8, kinds=KINDS):
    components = (find_components(mask, connectivity=connectivity) for mask in (truth, prediction))
    return classify_errors(*components, kinds, width=width, connectivity=connectivity)


def pixels_of(errors):
    """Wrong pixels by type, those without any left out."""
    counts = np.bincount(errors.types[errors.types != RIGHT], minlength=len(ErrorType))
    return {kind.words: int(counts[kind]) for kind in ErrorType if counts[kind]}


ONE = (CAR, 20, 40, 20, 50)  # 20 x 30 = 600 pixels


@pytest.mark.parametrize(
    ("truth", "prediction", "expected"),
    [
        pytest.param(scene(ONE), scene(), {"missed component": 600}, id="background over it is missed, not confused"),
        pytest.param(scene(ONE), scene((ROAD, *ONE[1:])), {"missed component": 600}, id="so is stuff over it"),
        pytest.param(scene(ONE), scene((BUS, *ONE[1:])), {"wrong class, whole": 600}, id="another thing's name"),
        pytest.param(
            # Of the car 560 pixels are bus and 40 background; the bus is 20 pixels too wide.
            scene(ONE),
            scene((BUS, 20, 40, 22, 51)),
            {"wrong class, whole": 560, "under-extent": 40, "over-extent": 20},
            id="the outline of a renamed component",
        ),
        pytest.param(
            scene(ONE),
            scene(ONE, (BUS, 20, 40, 20, 35)),
            {"wrong class, part": 300},
            id="half of it under a name that is not there",
        ),
        pytest.param(
            # The bus reaches ten columns into the car: none has the right car and the right bus within two pixels.
            scene(ONE, (BUS, 20, 40, 50, 70)),
            scene(ONE, (BUS, 20, 40, 40, 70)),
            {"confused area": 200},
            id="between two that are there",
        ),
        pytest.param(
            scene(ONE, (BUS, 20, 40, 50, 70)),
            scene(ONE, (BUS, 20, 40, 48, 70)),
            {"boundary": 40},
            id="a boundary between two things",
        ),
        pytest.param(scene(ONE), scene((CAR, 21, 39, 21, 49)), {"boundary": 96}, id="one pixel too small all around"),
        pytest.param(scene(ONE), scene((CAR, 18, 42, 18, 52)), {"boundary": 216}, id="two pixels too large"),
        pytest.param(scene(ONE), scene((CAR, 20, 40, 20, 47)), {"under-extent": 60}, id="three columns are missing"),
        pytest.param(scene(ONE), scene((CAR, 20, 40, 20, 60)), {"over-extent": 200}, id="ten columns too many"),
        pytest.param(
            # One row too many below, and a leak of 5 x 6 from there: its square is wide, the row is not.
            scene(ONE),
            scene((CAR, 20, 41, 20, 50), (CAR, 40, 45, 30, 36)),
            {"over-extent": 30, "boundary": 24},
            id="a leak out of a boundary",
        ),
        pytest.param(
            # No right car or background is near the middle of the hole, nor of its edge: it is no boundary.
            scene(ONE),
            scene(ONE, (BACK, 28, 30, 32, 34)),
            {"under-extent": 4},
            id="a hole",
        ),
        pytest.param(scene(), scene(ONE), {"invented component": 600}, id="nothing is there"),
        pytest.param(
            scene(ONE), scene(ONE, (CAR, 50, 55, 60, 70)), {"invented component": 50}, id="away from another car"
        ),
        pytest.param(
            scene(ONE), scene(ONE, (CAR, 20, 40, 53, 60)), {"invented component": 140}, id="beside another car"
        ),
        pytest.param(
            scene(ONE), scene((CAR, 20, 40, 20, 34), (CAR, 20, 40, 36, 50)), {"split": 40}, id="cut in two"
        ),
        pytest.param(
            # The speck to the right of the cut is 1 x 20 of 600 pixels, less than a part.
            scene(ONE),
            scene((CAR, 20, 40, 20, 46), (CAR, 20, 40, 49, 50)),
            {"under-extent": 60},
            id="a speck is no part",
        ),
        pytest.param(
            scene((CAR, 20, 40, 10, 30), (CAR, 20, 40, 40, 60)),
            scene((CAR, 20, 40, 10, 60)),
            {"merged": 200},
            id="two joined",
        ),
        pytest.param(
            # A bridge one pixel wide and ten long: its ends, which are in the band, are part of it. The row too many
            # over the first car is not.
            scene((CAR, 20, 40, 10, 30), (CAR, 20, 40, 40, 60)),
            scene((CAR, 19, 40, 10, 30), (CAR, 20, 40, 40, 60), (CAR, 21, 22, 30, 40)),
            {"merged": 10, "boundary": 20},
            id="two joined by a thin bridge",
        ),
        pytest.param(
            scene((CAR, 20, 40, 10, 30), (CAR, 20, 40, 33, 60)),
            scene((CAR, 20, 40, 10, 31), (CAR, 20, 40, 32, 60)),
            {"boundary": 40},
            id="two that come nearer are not joined",
        ),
        pytest.param(
            scene((ROAD, 30, 60, 0, 80)), scene((ROAD, 30, 60, 0, 80), background=CAR), {"invented component": 2400},
            id="a thing in place of the background",
        ),
        pytest.param(scene(background=ROAD), scene(), {"missed component": 4800}, id="stuff under the background"),
    ],
)  # fmt: skip
def test_hand_worked_masks(truth, prediction, expected):
    assert pixels_of(classify(truth, prediction)) == expected


def test_ten_small_people_erased_beside_a_large_one_are_ten_missed_components():
    small = [(CAR, 4 * (i // 5), 4 * (i // 5) + 3, 10 * (i % 5), 10 * (i % 5) + 3) for i in range(10)]
    errors = classify(scene(ONE, *small), scene(ONE))
    assert pixels_of(errors) == {"missed component": 90}
    failed = errors.components.iou <= 0.5
    assert failed.sum() == 10
    assert errors.components.type_pixels[failed].argmax(axis=1).tolist() == [ErrorType.MISSED] * 10


def test_void_is_no_error_and_a_seam_is_no_distance():
    truth = scene(ONE)
    truth[18:20, 18:52] = VOID
    prediction = scene((CAR, 16, 40, 20, 50))
    # rows 16 and 17 are wrong, two pixels beyond a seam of two
    assert pixels_of(classify(truth, prediction)) == {"boundary": 60}
    assert pixels_of(classify(np.where(truth == VOID, BACK, truth), prediction))["over-extent"] > 0


def test_a_component_that_is_just_found_or_just_not():
    tenth, less = scene((CAR, 20, 40, 20, 23)), scene((CAR, 20, 39, 20, 23))
    assert ErrorType.MISSED.words not in pixels_of(classify(scene(ONE), tenth))
    assert pixels_of(classify(scene(ONE), less)) == {"missed component": 543}


def test_component_records_are_worked_by_hand():
    # A car of 600 of which 400 are found and 100 called bus; the predicted car is 60 too large.
    truth = scene(ONE)
    prediction = scene((CAR, 20, 40, 30, 53), (BUS, 20, 40, 20, 25), (BUS, 2, 6, 70, 75))
    components = classify(truth, prediction).components
    assert components.is_true.tolist() == [True, False]
    assert components.class_id.tolist() == [CAR, BUS]
    assert components.boxes.tolist() == [[20, 20, 40, 50], [2, 70, 6, 75]]
    assert components.pixels.tolist() == [600, 20]
    assert components.iou[0] == 400 / 660
    assert components.recall[0] == 400 / 600
    assert (components.taken_for[0], components.taken_share[0]) == (BUS, 1 / 6)
    assert components.taken_for[1] == -1
    assert components.type_pixels[0].sum() == 260
    assert components.type_pixels[1].tolist() == [0] * 9 + [20]


@st.composite
def blobs(draw, *, void=False):
    """A mask of a few overlapping rectangles, rather than noise."""
    mask = np.full((14, 16), draw(st.integers(0, 3)), np.uint8)
    for _ in range(draw(st.integers(1, 6))):
        top, left = draw(st.integers(0, 13)), draw(st.integers(0, 15))
        mask[top : top + draw(st.integers(1, 9)), left : left + draw(st.integers(1, 9))] = draw(
            st.sampled_from([BACK, ROAD, CAR, CAR, BUS, VOID] if void else [BACK, ROAD, CAR, CAR, BUS])
        )
    return mask


@settings(max_examples=150, deadline=None)
@given(blobs(void=True), blobs(), st.sampled_from([4, 8]), st.integers(1, 2))
def test_types_equal_a_loop_over_pixels(truth, prediction, connectivity, width):
    found = classify(truth, prediction, width=width, connectivity=connectivity).types
    expected = plain_types(truth, prediction, KINDS, width, connectivity)
    words = np.array([*(kind.words for kind in ErrorType), *[None] * 246], object)
    assert (words[found] == expected).all()


@settings(max_examples=150, deadline=None)
@given(blobs(void=True), blobs())
def test_what_holds_for_any_masks(truth, prediction):
    errors = classify(truth, prediction)
    wrong = (truth != VOID) & (truth != prediction)
    # every wrong pixel once
    assert ((errors.types != RIGHT) == wrong).all()
    assert errors.counts[:, 3].sum() == wrong.sum()
    for kind, true_class, predicted_class, pixels in errors.counts:
        here = (errors.types == kind) & (truth == true_class) & (prediction == predicted_class)
        assert here.sum() == pixels > 0
    # flipped and turned masks have flipped and turned types
    for turn in (np.fliplr, np.flipud, np.transpose):
        assert (classify(turn(truth), turn(prediction)).types == turn(errors.types)).all()
    # what a component lost is what its types say
    components = errors.components
    own = components.is_true
    hit = components.recall[own] * components.pixels[own]
    union = np.divide(hit, components.iou[own], out=components.pixels[own].astype(float), where=components.iou[own] > 0)
    lost = components.type_pixels[own].sum(axis=1)
    assert lost == pytest.approx(union - hit)


def test_masks_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="the prediction"):
        classify(scene(), scene(shape=(5, 6)))
    with pytest.raises(ValueError, match="void"):
        classify(scene(), np.full(SHAPE, VOID, np.uint8))


@pytest.mark.parametrize(
    ("limit", "value", "truth", "prediction", "without"),
    [
        ("FOUND_SHARE", 0.0, scene(ONE), scene(), "missed component"),
        ("NAMED_SHARE", 1.1, scene(ONE), scene((BUS, *ONE[1:])), "wrong class, whole"),
        ("PART_SHARE", 0.6, scene(ONE), scene((CAR, 20, 40, 20, 34), (CAR, 20, 40, 36, 50)), "split"),
    ],
)
def test_every_limit_decides_a_type(monkeypatch, limit, value, truth, prediction, without):
    assert without in pixels_of(classify(truth, prediction))
    monkeypatch.setattr(error_types if limit == "PART_SHARE" else overlaps, limit, value)
    assert without not in pixels_of(classify(truth, prediction))
