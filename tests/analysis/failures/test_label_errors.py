"""Masks that several models contradict are found, and nothing is said below the thresholds."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from scipy import ndimage

from analysis.failures.kinds import class_kinds
from analysis.failures.label_errors import (
    COLUMNS,
    LEAST_CHECKPOINTS,
    LEAST_IMAGES,
    LEAST_SCORE,
    consensus_of,
    find_label_errors,
    suspect,
)
from analysis.label_errors import label_errors
from benchmarks.planted_labels import KINDS, plant_label
from trainables.data.base import VOID, ClassInfo

NAMES = ("background", "car", "bus")
IDS = [f"{number:02d}" for number in range(2 * LEAST_IMAGES)]


def street(seed):
    """A car and a bus on a background, with a column of void."""
    rng = np.random.default_rng(seed)
    mask = np.zeros((96, 128), np.uint8)
    for class_id, left in ((1, 12), (2, 70)):
        top, wide = 20 + int(rng.integers(10)), 30 + int(rng.integers(6))
        mask[top : top + 34, left : left + wide] = class_id
    mask[:, 127] = VOID
    return mask


TRUTH = {image_id: street(int(image_id)) for image_id in IDS}


def seen(mask, seed):
    """What a good model says of a true mask: its outline is off by a pixel, and void is something."""
    return np.roll(np.where(mask == VOID, 0, mask), seed % 3 - 1, axis=1).astype(np.uint8)


def errors_of(masks, *, checkpoints=LEAST_CHECKPOINTS, ids=IDS, said=TRUTH, **options):
    """The table where good models of the true masks see these masks."""

    def masks_of(image_id):
        return masks[image_id], [seen(said[image_id], one) for one in range(checkpoints)]

    return find_label_errors(ids, masks_of, NAMES, **options)


def test_masks_that_models_agree_with_claim_nothing():
    assert errors_of(TRUTH).empty
    assert list(errors_of(TRUTH).columns) == list(COLUMNS)


@pytest.mark.parametrize("kind", KINDS)
def test_planted_errors_are_found(kind):
    planted = plant_label(TRUTH["07"], class_kinds(NAMES), kind, np.random.default_rng(5))
    frame = errors_of({**TRUTH, "07": planted.mask}, least_score=0.3 if kind == "shift" else LEAST_SCORE)
    assert set(frame["image_id"]) == {"07"}
    for row in frame.to_dict("records"):
        box = slice(row["top"], row["bottom"]), slice(row["left"], row["right"])
        assert planted.changed[box].any()
        assert row["agree"] == row["checkpoints"] == LEAST_CHECKPOINTS
        assert NAMES.index(row["class"]) in planted.mask[box] and NAMES.index(row["models_say"]) in TRUTH["07"][box]


@pytest.mark.parametrize(
    ("checkpoints", "images"), [(LEAST_CHECKPOINTS - 1, len(IDS)), (LEAST_CHECKPOINTS, LEAST_IMAGES - 1)]
)
def test_too_few_checkpoints_or_images_say_nothing(checkpoints, images):
    dropped = {**TRUTH, "07": np.where(TRUTH["07"] == 1, 0, TRUTH["07"]).astype(np.uint8)}
    assert len(errors_of(dropped)) == 1
    assert errors_of(dropped, checkpoints=checkpoints, ids=IDS[:images]).empty


def test_two_of_three_agree_and_one_of_three_does_not():
    mask, said = np.zeros((40, 40), np.uint8), np.zeros((40, 40), np.uint8)
    said[5:25, 5:25] = 1
    assert suspect(mask, [said, said, mask], 3).agree.tolist() == [2]
    assert suspect(mask, [said, mask, mask], 3).agree.size == 0


def test_classes_that_models_mix_up_are_no_evidence():
    """The models call every second bus a car: that one more does is no news."""
    confused = {i: np.where(TRUTH[i] == 2, 1, TRUTH[i]) if int(i) % 2 else TRUTH[i] for i in IDS}
    assert errors_of(TRUTH, said=confused).empty
    once = {i: np.where(TRUTH[i] == 2, 1, TRUTH[i]) if i == "07" else TRUTH[i] for i in IDS}
    assert errors_of(TRUTH, said=once)["class"].tolist() == ["bus"]


def test_a_score_just_below_the_threshold_is_silent():
    dropped = {**TRUTH, "07": np.where(TRUTH["07"] == 1, 0, TRUTH["07"]).astype(np.uint8)}
    (score,) = errors_of(dropped)["score"]
    assert len(errors_of(dropped, least_score=score)) == 1
    assert errors_of(dropped, least_score=np.nextafter(score, 1)).empty


def test_scores_are_those_of_a_plain_count():
    """Against loops over components that scipy finds, on squares of three classes."""
    rng = np.random.default_rng(3)
    said = {i: rng.integers(0, 3, (4, 5)).astype(np.uint8).repeat(12, axis=0).repeat(12, axis=1) for i in IDS}
    masks = {i: said[i].copy() for i in IDS}
    for i in IDS:
        masks[i][12:24, 12:36] = rng.integers(0, 3)

    def parts(values):
        for class_id in range(3):
            labels, count = ndimage.label(values == class_id, np.ones((3, 3)))
            yield from ((class_id, labels == part) for part in range(1, count + 1))

    def size(region):
        return int(np.floor(np.log(region.size / region.sum()) / np.log(4)))

    def trust(image_id, values, others, class_id, region):
        alike = [
            (others[i][found] == one).sum() > found.sum() / 2
            for i in IDS
            if i != image_id
            for one, found in parts(values[i])
            if (one, size(found)) == (class_id, size(region))
        ]
        return sum(alike) / (len(alike) + 1)

    expected = {}
    for i in IDS:
        for mask_class, own in parts(masks[i]):
            for model_class, other in parts(said[i]):
                labels, count = ndimage.label(own & other, np.ones((3, 3)))
                for part in range(1, count + 1) if mask_class != model_class else ():
                    region = labels == part
                    whole = max(region.sum() / own.sum(), region.sum() / other.sum())
                    both = trust(i, masks, said, mask_class, own) * trust(i, said, masks, model_class, other)
                    rows, columns = np.nonzero(region)
                    expected[i, rows.min(), columns.min(), NAMES[mask_class], NAMES[model_class]] = both * whole
    frame = find_label_errors(IDS, lambda i: (masks[i], [said[i]] * 3), NAMES, least_score=0.0)
    keys = zip(*(frame[column] for column in ("image_id", "top", "left", "class", "models_say")), strict=True)
    found = dict(zip(keys, frame["score"], strict=True))
    assert len(found) > 20
    assert found == pytest.approx(expected)


def test_void_and_thin_outlines_are_left_out():
    mask, said = np.zeros((96, 128), np.uint8), np.zeros((96, 128), np.uint8)
    said[20:60, 20:60] = 1
    mask[20:60, 20:60] = VOID
    assert suspect(mask, [said] * 3, 3).pixels.size == 0
    mask[20:60, 20:60] = 1
    mask[20:60, 58:60] = 0
    assert suspect(mask, [said] * 3, 3).pixels.size == 0


def test_consensus_is_void_where_too_few_agree():
    votes = [np.array([[0, 0, 1]], np.uint8), np.array([[0, 1, 2]], np.uint8), np.array([[0, 1, 0]], np.uint8)]
    said, count = consensus_of(votes, 3)
    assert said.tolist() == [[0, 1, VOID]] and count.tolist() == [[3, 2, 1]]


def test_a_run_says_it_of_test_alone_and_without_what_learnt_nothing():
    dropped = {**TRUTH, "07": np.where(TRUTH["07"] == 1, 0, TRUTH["07"]).astype(np.uint8)}
    data = SimpleNamespace(
        mask=dropped.__getitem__,
        picture=lambda i: np.zeros((96, 128, 3), np.uint8),
        classes=[ClassInfo(name, (9, 9, 9 * place)) for place, name in enumerate(NAMES)],
    )
    made = {
        f"t{one}": SimpleNamespace(image_ids=IDS, prediction=lambda i, one=one: seen(TRUTH[i], one)) for one in range(3)
    }
    made["majority"] = SimpleNamespace(image_ids=IDS, prediction=lambda i: np.zeros((96, 128), np.uint8))
    told = label_errors(made, data, split="test")
    (row,) = told.frame.to_dict("records")
    assert (row["image_id"], row["class"], row["models_say"], row["checkpoints"]) == ("07", "background", "car", 3)
    assert len(told.pictures) == 1 and told.pictures[0].startswith("data:image/webp;base64,")
    assert label_errors(made, data, split="val").frame.empty
    assert label_errors(made, data, split="test", without=["t1"]).frame.empty


def test_models_that_miss_most_of_what_masks_hold_judge_none():
    dropped = {**TRUTH, "07": np.where(TRUTH["07"] == 1, 0, TRUTH["07"]).astype(np.uint8)}
    weak = {i: mask if int(i) % 4 == 3 else np.zeros_like(mask) for i, mask in TRUTH.items()}
    assert "07" in set(errors_of(dropped, said=weak, least_score=0.02, least_confirmed=0.0)["image_id"])
    assert errors_of(dropped, said=weak, least_score=0.02).empty
