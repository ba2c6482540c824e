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
IDS = [f"{number:02d}" for number in range(LEAST_IMAGES)]


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
    return find_label_errors(ids, lambda i: (masks[i], [seen(said[i], one) for one in range(checkpoints)]), NAMES, **options)  # fmt: skip


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
    ("checkpoints", "images"), [(LEAST_CHECKPOINTS - 1, LEAST_IMAGES), (LEAST_CHECKPOINTS, LEAST_IMAGES - 1)]
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
    """Against loops over pixels and scipy's components, on noisy masks of three classes."""
    rng = np.random.default_rng(3)
    said = {i: [np.repeat(np.repeat(rng.integers(0, 3, (6, 8)), 8, 0), 8, 1).astype(np.uint8)] * 3 for i in IDS}
    masks = {i: np.where(rng.random((48, 64)) < 0.0, VOID, said[i][0]).astype(np.uint8) for i in IDS}
    for i in IDS:
        masks[i][8:24, 8:24] = rng.integers(0, 3)
    frame = find_label_errors(IDS, lambda i: (masks[i], said[i]), NAMES, least_score=0.0)
    expected = {}
    pairs = {i: masks[i].astype(int) * 3 + said[i][0] for i in IDS}
    counts = {i: np.bincount(pairs[i].ravel(), minlength=9).reshape(3, 3) for i in IDS}
    for i in IDS:
        others = sum(counts[other] for other in IDS if other != i)
        for pair in set(pairs[i].ravel().tolist()):
            mask_class, model_class = divmod(pair, 3)
            if mask_class == model_class:
                continue
            labels, number = ndimage.label(pairs[i] == pair, np.ones((3, 3)))
            for part in range(1, number + 1):
                region = labels == part
                told = min(
                    others[c, c] / (others[c, c] + others[mask_class, model_class]) for c in (mask_class, model_class)
                )
                whole = 0.0
                for side, class_id in ((masks[i], mask_class), (said[i][0], model_class)):
                    sides = ndimage.label(side == class_id, np.ones((3, 3)))[0]
                    whole = max(whole, region.sum() / (sides == sides[region][0]).sum())
                expected[i, *(int(axis.start) for axis in ndimage.find_objects(region.astype(int))[0]), pair] = (
                    told * whole
                )
    found = {
        (row["image_id"], row["top"], row["left"], NAMES.index(row["class"]) * 3 + NAMES.index(row["models_say"])): row[
            "score"
        ]
        for row in frame.to_dict("records")
    }
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
        image=lambda i: np.zeros((96, 128, 3), np.uint8),
        classes=[ClassInfo(name, (9, 9, 9 * place)) for place, name in enumerate(NAMES)],
    )
    made = {
        f"t{one}": SimpleNamespace(image_ids=IDS, prediction=lambda i, one=one: seen(TRUTH[i], one)) for one in range(3)
    }
    made["majority"] = SimpleNamespace(image_ids=IDS, prediction=lambda i: np.zeros((96, 128), np.uint8))
    told = label_errors(made, data, split="test")
    assert told.frame[["image_id", "class", "models_say", "checkpoints"]].to_numpy().tolist() == [["07", "background", "car", 3]]  # fmt: skip
    assert len(told.pictures) == 1 and told.pictures[0].startswith("data:image/webp;base64,")
    assert label_errors(made, data, split="val").frame.empty
    assert label_errors(made, data, split="test", without=["t1"]).frame.empty
