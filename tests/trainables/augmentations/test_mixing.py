"""Mixing on the batch, followed pixel by pixel."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from trainables.augmentations import Policy, PolicySpec
from trainables.augmentations.mixing import ClassMix, CutMix
from trainables.data.base import VOID

from .drawn import SIZE, alone, blobs

Array = npt.NDArray[np.uint8]
MIXINGS = ("cutmix", "classmix")


def batch(count: int = 4) -> tuple[Array, Array]:
    """Images whose channels say which sample a pixel is from, and what its label was there; with some void."""
    masks = np.stack([blobs(seed=seed) for seed in range(count)])
    masks[:, 10:20, 30:50] = VOID
    images = np.stack([np.full_like(masks, 0), masks, masks], axis=-1)
    images[..., 0] = np.arange(count)[:, None, None]
    return images, masks


@pytest.mark.parametrize("name", MIXINGS)
def test_pixels_move_with_their_labels_from_one_other_original(name: str) -> None:
    policy = Policy(alone(name), SIZE)
    images, masks = batch()
    for start in range(0, 80, 4):
        mixed_images, mixed_masks = policy.mix(images, masks, range(start, start + 4))
        for index in range(4):
            donors = mixed_images[index, ..., 0]
            origins = set(np.unique(donors).tolist())
            assert len(origins - {index}) <= 1, "one donor a sample"
            rows, columns = np.indices(SIZE)
            assert np.array_equal(mixed_masks[index], masks[donors, rows, columns]), "donors as they came in"
            assert np.array_equal(mixed_images[index, ..., 1], mixed_masks[index])


@pytest.mark.parametrize("name", MIXINGS)
def test_inputs_are_left_alone_and_every_other_sample_can_be_the_donor(name: str) -> None:
    policy = Policy(alone(name), SIZE)
    images, masks = batch()
    seen = set()
    for seed in range(40):
        mixed, _ = policy.mix(images, masks, [seed, 1, 2, 3])
        seen |= set(np.unique(mixed[0, ..., 0]).tolist())
    assert seen == {0, 1, 2, 3}
    assert np.array_equal(images, batch()[0]) and np.array_equal(masks, batch()[1])


def test_each_sample_depends_on_its_own_seed_and_meets_its_probability() -> None:
    policy = Policy(alone("cutmix", p=0.25), SIZE)
    images, masks = batch()
    changed = 0
    for seed in range(400):
        first, _ = policy.mix(images, masks, [seed, 0, 0, 0])
        second, _ = policy.mix(images, masks, [seed, 7, 8, 9])
        assert np.array_equal(first[0], second[0])
        changed += not np.array_equal(first[0], images[0])
    assert changed / 400 == pytest.approx(0.25, abs=0.06)


def test_without_mixing_or_partners_the_inputs_come_back() -> None:
    images, masks = batch()
    assert Policy(PolicySpec.from_flat({"policy": "all"}), SIZE).mix(images, masks, range(4))[0] is images
    one = Policy(alone("cutmix"), SIZE).mix(images[:1], masks[:1], [0])
    assert np.array_equal(one[0], images[:1]) and np.array_equal(one[1], masks[:1])


def test_cutmix_takes_rectangles_whose_area_is_uniform_before_the_border_cuts_them() -> None:
    """Shares of side s = sqrt(u), centre uniform: the mean area left is the mean of (s - s^2 / 4)^2."""
    generator = np.random.default_rng(0)
    areas = []
    for _ in range(2000):
        region = CutMix(1.0).region(np.zeros(SIZE, np.uint8), generator)
        rows, columns = np.flatnonzero(region.any(axis=1)), np.flatnonzero(region.any(axis=0))
        assert region.sum() == len(rows) * len(columns), "a rectangle"
        areas.append(region.mean())
    sides = np.sqrt((np.arange(10_000) + 0.5) / 10_000)
    assert np.mean(areas) == pytest.approx(((sides - sides**2 / 4) ** 2).mean(), abs=0.01)


def test_cutmix_carries_the_donors_void() -> None:
    images, masks = batch(2)
    masks[0][masks[0] == VOID] = 0
    policy = Policy(alone("cutmix"), SIZE)
    assert any((policy.mix(images, masks, [seed, 0])[1][0] == VOID).any() for seed in range(10))


@pytest.mark.parametrize(("present", "taken"), [((2,), 0), ((2, 5), 1), ((0, 2, 5), 1), ((0, 1, 2, 3, 4, 5), 3)])
def test_classmix_takes_half_of_the_classes_whole_and_no_void(present: tuple[int, ...], taken: int) -> None:
    generator = np.random.default_rng(0)
    donor = np.random.default_rng(1).choice([*present, VOID], SIZE).astype(np.uint8)
    drawn = set()
    for _ in range(60):
        region = ClassMix(1.0).region(donor, generator).astype(bool)
        chosen = set(np.unique(donor[region]).tolist())
        assert len(chosen) == taken and VOID not in chosen
        assert np.array_equal(region, np.isin(donor, list(chosen)))
        drawn |= chosen
    assert drawn == (set(present) if taken else set())


def test_classmix_from_void_alone_takes_nothing() -> None:
    assert not ClassMix(1.0).region(np.full(SIZE, VOID, np.uint8), np.random.default_rng(0)).any()
