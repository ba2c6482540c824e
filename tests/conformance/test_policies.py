"""What every registered policy and transformation must do, whatever it contains."""

from __future__ import annotations

import inspect
import json

import numpy as np
import numpy.typing as npt
import pytest

from trainables.augmentations import (
    MAGNITUDES,
    POLICIES,
    TRANSFORMS,
    Policy,
    PolicySpec,
    family_transforms,
    verify_applied,
)
from trainables.data.base import VOID
from trainables.registry import Range

SIZE = (48, 64)


@pytest.fixture(params=POLICIES.names())
def policy(request: pytest.FixtureRequest) -> Policy:
    return Policy(PolicySpec.from_flat({"policy": request.param}), SIZE)


def sample(size: tuple[int, int]) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]:
    """A mask of four quarters, one of them with a hole of void, and an image whose grey value is 30 times the class."""
    mask = np.zeros(size, np.uint8)
    middle = size[0] // 2, size[1] // 2
    mask[: middle[0], middle[1] :], mask[middle[0] :, : middle[1]], mask[middle[0] :, middle[1] :] = 1, 3, 4
    image = np.repeat(mask[..., None] * 30, 3, axis=2)
    mask[3:6, 3:6] = VOID
    return image, mask


@pytest.mark.parametrize("size", [SIZE, (31, 97), (150, 40), (96, 128)])
def test_any_image_becomes_the_asked_size(policy: Policy, size: tuple[int, int]) -> None:
    for seed in range(5):
        image, mask = policy(*sample(size), seed=seed)
        assert image.shape == (*SIZE, 3) and mask.shape == SIZE
        assert image.dtype == mask.dtype == np.uint8
        images, masks = policy.mix(np.stack([image] * 3), np.stack([mask] * 3), range(3))
        assert images.shape == (3, *SIZE, 3) and masks.shape == (3, *SIZE)
        assert images.dtype == masks.dtype == np.uint8


def test_no_class_is_invented(policy: Policy) -> None:
    for seed in range(40):
        _, mask = policy(*sample((70, 90)), seed=seed)
        assert set(np.unique(mask)) <= {0, 1, 3, 4, VOID}


def test_image_and_mask_stay_in_step(policy: Policy) -> None:
    """Class medians keep their order: 30 grey values lie between neighbouring ids; only weather may cross them."""
    if any(name in policy.names for name in family_transforms("weather")):
        pytest.skip("a veil changes one place more than another; preflight compares edges")
    for seed in range(40):
        image, mask = policy(*sample(SIZE), seed=seed)
        grey = image.mean(axis=2)
        means = [np.median(grey[mask == c]) for c in (0, 1, 3, 4) if (mask == c).sum() > 30]
        assert means == sorted(means)
        assert len(set(means)) == len(means)


def test_inputs_are_left_as_they_were(policy: Policy) -> None:
    image, mask = sample(SIZE)
    for seed in range(10):
        policy(image, mask, seed=seed)
    assert np.array_equal(image, sample(SIZE)[0]) and np.array_equal(mask, sample(SIZE)[1])


def test_seeds_repeat_and_differ(policy: Policy) -> None:
    image = np.random.default_rng(0).integers(0, 256, (*SIZE, 3), dtype=np.uint8)
    mask = sample(SIZE)[1]
    results = [policy(image, mask, seed=seed)[0].tobytes() for seed in range(30)]
    again = [policy(image, mask, seed=seed)[0].tobytes() for seed in range(30)]
    assert results == again
    expected = {"none": 1, "free": 1, "flip": 2, "mix": 2}.get(policy.spec.family, 10)
    assert len(set(results)) >= expected


def test_policy_is_built_as_specified_and_written_as_data(policy: Policy) -> None:
    verify_applied(policy.spec, policy)
    assert json.loads(json.dumps(policy.applied())) == policy.applied()
    assert PolicySpec.from_flat(json.loads(json.dumps(policy.spec.flat()))) == policy.spec
    items = json.loads(json.dumps(policy.spec.to_list()))
    assert PolicySpec.from_list(items, family=policy.spec.family) == policy.spec
    assert policy.spec.family in policy.spec.describe() and "\n" not in policy.spec.describe()


@pytest.mark.parametrize("family", POLICIES.names())
def test_families_contain_registered_transformations_with_probabilities(family: str) -> None:
    probabilities = POLICIES.get(family)()
    assert family_transforms(family) == probabilities
    assert set(probabilities) <= set(TRANSFORMS)
    assert all(p == 0 if family == "free" else 0 < p <= 1 for p in probabilities.values())
    assert (inspect.getdoc(POLICIES.get(family)) or "").endswith(".")


def test_every_transformation_is_in_some_family() -> None:
    assert set().union(*map(family_transforms, set(POLICIES) - {"free"})) == set(TRANSFORMS)


@pytest.mark.parametrize("name", TRANSFORMS.names())
def test_transformations_have_one_magnitude_or_none(name: str) -> None:
    parameters = TRANSFORMS.parameters(name)
    assert list(parameters) == (["magnitude"] if name in MAGNITUDES else [])
    for parameter in parameters.values():
        assert parameter.bounds == Range(0, 1)
        assert parameter.default == MAGNITUDES[name].default
