"""Policies draw by their seed alone, do more where they are told to, and are built as they were asked for."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from typing import Any

import albumentations as A
import numpy as np
import pytest

from trainables.augmentations import MAGNITUDES, TRANSFORMS, TRIVIAL, Policy, PolicySpec, verify_applied
from trainables.data.base import VOID
from trainables.errors import WiringError

from .drawn import SIZE, alone, blobs, photo


def digest(policy: Policy, seed: int) -> str:
    image, mask = policy(photo(), blobs(), seed=seed)
    return hashlib.sha256(image.tobytes() + mask.tobytes()).hexdigest()


def test_probabilities_are_met_and_independent() -> None:
    """Albumentations' own reseeding gives all transformations the same numbers: both of these on, or none."""
    policy = Policy(PolicySpec.from_list([{"transform": "hflip", "p": 0.5}, {"transform": "dropout", "p": 0.25}]), SIZE)
    mask = np.zeros(SIZE, np.uint8)
    mask[:, :40] = 1
    seen: Counter[tuple[bool, bool]] = Counter()
    for seed in range(1000):
        _, result = policy(photo(), mask, seed=seed)
        flipped = (result[:, :40] == 0).sum() > (result[:, :40] == 1).sum()
        seen[bool(flipped), bool((result == VOID).any())] += 1
    expected = {(True, True): 125, (True, False): 375, (False, True): 125, (False, False): 375}
    for outcome, count in expected.items():
        assert seen[outcome] == pytest.approx(count, abs=50), seen


@pytest.mark.parametrize("family", ["all", "trivial"])
def test_result_depends_on_the_seed_alone(family: str) -> None:
    spec = PolicySpec.from_flat({"policy": family})
    policy = Policy(spec, SIZE)
    once = [digest(policy, seed) for seed in range(30)]
    np.random.default_rng(0).random(5)
    assert [digest(policy, seed) for seed in reversed(range(30))][::-1] == once
    assert [digest(Policy(spec, SIZE), seed) for seed in range(30)] == once
    assert len(set(once)) >= 28


def test_another_process_draws_the_same() -> None:
    ramp = np.arange(SIZE[0] * SIZE[1] * 3).reshape(*SIZE, 3)
    image, mask = (ramp % 251).astype(np.uint8), (ramp[..., 0] % 7).astype(np.uint8)
    expected = []
    for family in ("all", "trivial"):
        policy = Policy(PolicySpec.from_flat({"policy": family}), SIZE)
        results = [policy(image, mask, seed=seed) for seed in range(10)]
        expected.append(hashlib.sha256(b"".join(i.tobytes() + m.tobytes() for i, m in results)).hexdigest())
    program = (
        "import numpy as np, hashlib; from trainables.augmentations import Policy, PolicySpec\n"
        f"ramp = np.arange({SIZE[0] * SIZE[1] * 3}).reshape({SIZE[0]}, {SIZE[1]}, 3)\n"
        "image, mask = (ramp % 251).astype(np.uint8), (ramp[..., 0] % 7).astype(np.uint8)\n"
        "for family in ('all', 'trivial'):\n"
        f"    policy = Policy(PolicySpec.from_flat({{'policy': family}}), {SIZE})\n"
        "    results = [policy(image, mask, seed=seed) for seed in range(10)]\n"
        "    print(hashlib.sha256(b''.join(i.tobytes() + m.tobytes() for i, m in results)).hexdigest())\n"
    )
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert ran.stdout.split() == expected


def test_trivial_applies_one_transformation_at_a_time_each_as_often() -> None:
    policy = Policy(alone("trivial"), SIZE)
    (one_of,) = (step for step in policy._compose.transforms if isinstance(step, A.OneOf))
    calls = [0] * len(one_of.transforms)

    class Counted:
        def __init__(self, index: int, built: Any) -> None:
            self.index, self.built = index, built

        def __call__(self, **data: Any) -> Any:
            calls[self.index] += 1
            return self.built(**data)

        def __getattr__(self, name: str) -> Any:
            return getattr(self.built, name)

    one_of.transforms = [Counted(index, built) for index, built in enumerate(one_of.transforms)]
    for seed in range(520):
        before = sum(calls)
        policy(photo(), blobs(), seed=seed)
        assert sum(calls) == before + 1
    assert len(calls) == len(TRIVIAL) + 1
    assert min(calls) > 18 and max(calls) < 65, calls


@pytest.mark.parametrize("name", MAGNITUDES)
def test_larger_magnitude_changes_images_more(name: str) -> None:
    image = photo().astype(float)
    effects = [
        np.mean([np.abs(policy(photo(), blobs(), seed=seed)[0] - image).mean() for seed in range(24)])
        for policy in (Policy(alone(name, magnitude), SIZE) for magnitude in (0.0, 0.15, 0.4, 1.0))
    ]
    assert effects[0] < (2 if name == "jpeg" else 0.5), "JPEG rounds even at its best"
    assert effects[0] * 1.2 < effects[1] and effects[1] * 1.2 < effects[2] and effects[2] * 1.2 < effects[3]


@pytest.mark.parametrize("seed", range(5))
def test_dropout_hides_and_voids_the_same_pixels(seed: int) -> None:
    image, mask = Policy(alone("dropout", 0.5), SIZE)(photo(), blobs(), seed=seed)
    hidden = (image == (124, 116, 104)).all(axis=2)
    assert np.array_equal(hidden, mask == VOID)
    assert 0 < hidden.mean() <= 4 * 0.25**2
    assert np.array_equal(mask[~hidden], blobs()[~hidden])
    assert np.array_equal(image[~hidden], photo()[~hidden])


@pytest.mark.parametrize("name", TRANSFORMS.names())
@pytest.mark.parametrize("magnitude", [0.0, 0.01, 0.5, 1.0])
def test_what_was_built_is_read_back(name: str, magnitude: float) -> None:
    spec = alone(name, magnitude, p=0.3)
    policy = Policy(spec, SIZE)
    verify_applied(spec, policy)
    applied = policy.applied()[name]
    assert json.loads(json.dumps(applied)) == applied
    assert applied["p"] == 0.3
    if name in MAGNITUDES:
        assert applied["magnitude"] == pytest.approx(magnitude, abs=0.006 if name == "jpeg" else 1e-9)
        assert applied["limit"] == pytest.approx(MAGNITUDES[name].limit(magnitude))


BREAKS: dict[str, Callable[[Callable[..., Any]], Callable[..., Any]]] = {
    "p": lambda build: lambda size, p, **magnitude: build(size, 1.0, **magnitude),
    "magnitude": lambda build: lambda size, p, *, magnitude: build(size, p, magnitude=0.9),
}


@pytest.mark.parametrize(("name", "option"), [(n, o) for n in TRANSFORMS for o in ("p", *TRANSFORMS.parameters(n))])
def test_every_setting_that_is_not_built_as_asked_is_noticed(
    name: str, option: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = alone(name, 0.3, p=0.5)
    verify_applied(spec, Policy(spec, SIZE))
    monkeypatch.setitem(TRANSFORMS._entries, name, BREAKS[option](TRANSFORMS.get(name)))
    with pytest.raises(WiringError, match=f"{name}.{option}: asked for 0.[35].*built"):
        verify_applied(spec, Policy(spec, SIZE))


def test_member_of_trivial_that_ignores_its_magnitude_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    spec = alone("trivial", 0.3)
    monkeypatch.setitem(TRANSFORMS._entries, "noise", BREAKS["magnitude"](TRANSFORMS.get("noise")))
    with pytest.raises(WiringError, match=r"trivial.magnitude: asked for 0.3 .*built nan"):
        verify_applied(spec, Policy(spec, SIZE))


def test_missing_and_surplus_transformations_are_noticed() -> None:
    with pytest.raises(WiringError, match="hflip: built but not asked for; rotate: not built"):
        verify_applied(alone("rotate"), Policy(alone("hflip"), SIZE))


@pytest.mark.parametrize("name", ["dropout", "trivial"])
def test_masks_filled_with_a_class_are_noticed(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def wrong(size: tuple[int, int], p: float, *, magnitude: float) -> A.BasicTransform:
        sides = (magnitude / 8, magnitude / 2)
        return A.CoarseDropout(hole_height_range=sides, hole_width_range=sides, fill_mask=0, p=p)

    spec = alone(name)
    monkeypatch.setitem(TRANSFORMS._entries, "dropout", wrong)
    with pytest.raises(WiringError, match=f"{name}: fills masks with 0"):
        verify_applied(spec, Policy(spec, SIZE))


@pytest.mark.parametrize("name", TRANSFORMS.names())
def test_argument_that_the_library_ignores_with_a_warning_is_an_error(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def removed_argument(size: tuple[int, int], p: float, **magnitude: float) -> A.BasicTransform:
        return A.GaussNoise(var_limit=(0.0, 0.1), p=p)

    spec = alone(name)
    monkeypatch.setitem(TRANSFORMS._entries, name, removed_argument)
    with pytest.raises(WiringError, match=f"var_limit.*{name}"):
        Policy(spec, SIZE)
