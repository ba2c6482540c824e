"""Transformations against independent geometry, policies as data, and what was really built."""

from __future__ import annotations

import hashlib
import math
import subprocess
import sys
from collections import Counter
from typing import Any

import albumentations as A
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from trainables.augmentations import (
    POLICIES,
    TRANSFORMS,
    Policy,
    PolicySpec,
    ScaleCrop,
    TransformSpec,
    Warp,
    family_transforms,
    resize,
    verify_applied,
)
from trainables.data.base import VOID
from trainables.errors import ConfigError, WiringError
from trainables.registry import Range

SIZE = (60, 80)
WITH_MAGNITUDE = [name for name in TRANSFORMS if TRANSFORMS.parameters(name)]
GEOMETRIC = ("scale_crop", "hflip", "rotate", "shift")
MASK_KEEPING = [name for name in TRANSFORMS if name not in (*GEOMETRIC, "dropout")]


def blobs(size: tuple[int, int] = SIZE, seed: int = 0, classes: int = 6) -> npt.NDArray[np.uint8]:
    """A mask of large regions."""
    noise = np.random.default_rng(seed).normal(size=(classes, *size))
    return ndimage.gaussian_filter(noise, (0, 8, 8)).argmax(0).astype(np.uint8)


def photo(size: tuple[int, int] = SIZE, seed: int = 0) -> npt.NDArray[np.uint8]:
    """A smooth coloured image over most of the range of values."""
    noise = ndimage.gaussian_filter(np.random.default_rng(seed).normal(size=(*size, 3)), (4, 4, 0))
    return np.clip(128 + 55 * noise / noise.std(), 0, 255).astype(np.uint8)


def alone(name: str, **magnitude: float) -> PolicySpec:
    """A policy of one transformation that is always on."""
    defaults = {option: p.default for option, p in TRANSFORMS.parameters(name).items() if p.default is not None}
    return PolicySpec("all", (TransformSpec(name, 1.0, defaults | magnitude),))


def magnitude_of(name: str) -> tuple[str, Any]:
    ((option, parameter),) = TRANSFORMS.parameters(name).items()
    return option, parameter


def drawn(transform: Any, *, seed: int = 0, size: tuple[int, int] = SIZE) -> dict[str, Any]:
    """The random parameters of one application, and its results."""
    transform.set_random_seed(seed)
    result = transform(image=photo(size), mask=blobs(size))
    return {**transform.params, "image": result["image"], "mask": result["mask"]}


@pytest.mark.parametrize("name", GEOMETRIC)
@pytest.mark.parametrize("seed", range(4))
def test_mask_can_be_recomputed_from_an_image_that_shows_it(name: str, seed: int) -> None:
    mask = blobs((90, 120), seed)
    image = np.repeat(mask[..., None] * 40, 3, axis=2)
    policy = Policy(alone(name), SIZE)
    moved_image, moved_mask = policy(image, mask, seed=seed)
    largest = ndimage.maximum_filter(moved_mask, 5, mode="constant", cval=VOID)
    away_from_seams = largest == ndimage.minimum_filter(moved_mask, 5)
    seen = away_from_seams & (moved_mask != VOID)
    assert seen.mean() > 0.05
    assert np.array_equal(np.round(moved_image[..., 0] / 40)[seen], moved_mask[seen])


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("motion", [{"rotate_limit": 40.0}, {"shift_limit": 0.3}])
def test_warped_mask_is_scipys_with_void_from_outside(motion: dict[str, float], seed: int) -> None:
    result = drawn(Warp(**motion, p=1.0), seed=seed)
    (a, b, x), (c, d, y) = result["matrix"]
    forward = np.array([[d, c, y], [b, a, x], [0, 0, 1]])
    backward = np.linalg.inv(forward)
    expected = ndimage.affine_transform(
        blobs(), backward[:2, :2], backward[:2, 2], order=0, mode="grid-constant", cval=VOID
    )
    assert (result["mask"] == expected).mean() > 0.985
    assert (result["mask"] == VOID).mean() == pytest.approx((expected == VOID).mean(), abs=0.01)


def test_angles_and_shifts_stay_within_their_limits_and_reach_them() -> None:
    angles, shifts = [], []
    for seed in range(200):
        matrix = drawn(Warp(rotate_limit=20.0, p=1.0), seed=seed)["matrix"]
        angles.append(math.degrees(math.atan2(matrix[0, 1], matrix[0, 0])))
        matrix = drawn(Warp(shift_limit=0.2, p=1.0), seed=seed)["matrix"]
        shifts.append((matrix[0, 2] / SIZE[1], matrix[1, 2] / SIZE[0]))
    for values, limit in ((angles, 20.0), (np.ravel(shifts), 0.2)):
        assert np.abs(values).max() <= limit
        assert min(values) < -0.9 * limit and max(values) > 0.9 * limit


@pytest.mark.parametrize("seed", range(6))
def test_zoom_takes_the_nearest_pixel_centre_and_pads_with_void(seed: int) -> None:
    source = (90, 120)
    result = drawn(ScaleCrop(SIZE, (0.5, 2.0), p=1.0), seed=seed, size=source)
    rows, columns = result["cut"]
    top, _, left, _ = result["frame"]
    expected = np.full(SIZE, VOID)
    cut = blobs(source)[rows, columns]
    inner = result["inner"]
    for y in range(inner[0]):
        for x in range(inner[1]):
            nearest_y = math.floor((y + 0.5) * cut.shape[0] / inner[0])
            nearest_x = math.floor((x + 0.5) * cut.shape[1] / inner[1])
            expected[top + y, left + x] = cut[nearest_y, nearest_x]
    assert (result["mask"] == expected).mean() > 0.99
    assert np.array_equal(result["mask"] == VOID, expected == VOID)


def test_zoom_factors_are_log_uniform_in_their_limits() -> None:
    scales = []
    for seed in range(300):
        result = drawn(ScaleCrop((600, 800), (0.5, 2.0), p=1.0), seed=seed)
        zoomed_in = SIZE[0] / (result["cut"][0].stop - result["cut"][0].start)
        scales.append(math.log2(zoomed_in * result["inner"][0] / 600))
    assert min(scales) > -1.01 and max(scales) < 1.1
    assert np.histogram(scales, bins=4, range=(-1, 1))[0].min() > 45


def test_padding_shows_the_reflected_image() -> None:
    result = drawn(Warp(shift_limit=0.5, p=1.0), seed=2)
    shift_x, shift_y = round(result["matrix"][0, 2]), round(result["matrix"][1, 2])
    pad = ((max(shift_y, 0), max(-shift_y, 0)), (max(shift_x, 0), max(-shift_x, 0)), (0, 0))
    padded = np.pad(photo(), pad, mode="reflect")
    expected = padded[max(-shift_y, 0) : max(-shift_y, 0) + SIZE[0], max(-shift_x, 0) : max(-shift_x, 0) + SIZE[1]]
    assert abs(shift_x) > 5 and abs(shift_y) > 5
    assert np.abs(result["image"].astype(int) - expected).mean() < 3


def test_flip_is_numpys() -> None:
    image, mask = Policy(alone("hflip"), SIZE)(photo(), blobs(), seed=0)
    assert np.array_equal(image, photo()[:, ::-1])
    assert np.array_equal(mask, blobs()[:, ::-1])


@pytest.mark.parametrize("seed", range(5))
def test_dropout_hides_and_voids_the_same_pixels(seed: int) -> None:
    image, mask = Policy(alone("dropout"), SIZE)(photo(), blobs(), seed=seed)
    hidden = (image == (124, 116, 104)).all(axis=2)
    assert np.array_equal(hidden, mask == VOID)
    assert 0 < hidden.mean() <= 4 * 0.25**2
    assert np.array_equal(mask[~hidden], blobs()[~hidden])
    assert np.array_equal(image[~hidden], photo()[~hidden])


@pytest.mark.parametrize("name", MASK_KEEPING)
def test_transformations_of_light_and_sensor_leave_the_mask_alone(name: str) -> None:
    image, mask = Policy(alone(name), SIZE)(photo(), blobs(), seed=1)
    assert np.array_equal(mask, blobs())
    assert not np.array_equal(image, photo())


def mean_effect(name: str, magnitude: float) -> float:
    """Mean absolute change of image values over 60 seeds."""
    policy = Policy(alone(name, **{magnitude_of(name)[0]: magnitude}), SIZE)
    image = photo().astype(float)
    return float(np.mean([np.abs(policy(photo(), blobs(), seed=seed)[0] - image).mean() for seed in range(60)]))


@pytest.mark.parametrize("name", WITH_MAGNITUDE)
def test_larger_magnitude_changes_images_more(name: str) -> None:
    parameter = magnitude_of(name)[1]
    small, middle = parameter.type(max(parameter.default / 5, parameter.bounds.low)), parameter.default
    large = parameter.type(min(parameter.default * 3, parameter.bounds.high))
    effects = [mean_effect(name, magnitude) for magnitude in (small, middle, large)]
    assert 0 < effects[0] * 1.2 < effects[1]
    assert effects[1] * 1.2 < effects[2]


def test_brightness_contrast_saturation_follow_their_formulas() -> None:
    image = photo().astype(float)
    grey_of = np.array([0.299, 0.587, 0.114])
    for name in ("brightness", "contrast", "saturation"):
        built = TRANSFORMS.get(name)(SIZE, 1.0, limit=0.5)
        result = drawn(built, seed=5)
        factor = result[name]
        anchor = {"brightness": 0.0, "contrast": (image @ grey_of).mean(), "saturation": (image @ grey_of)[..., None]}
        expected = np.clip(anchor[name] + factor * (image - anchor[name]), 0, 255)
        assert abs(factor - 1) > 0.1
        assert np.abs(result["image"] - expected).max() <= 2, name


def test_probabilities_are_met_and_independent() -> None:
    """Albumentations' own reseeding gives all transformations the same numbers: both of these on, or none."""
    flat = {"policy": "all", **{f"{name}.p": 0.0 for name in TRANSFORMS}, "hflip.p": 0.5, "dropout.p": 0.25}
    policy = Policy(PolicySpec.from_flat(flat), SIZE)
    mask = np.zeros(SIZE, np.uint8)
    mask[:, :40] = 1
    seen: Counter[tuple[bool, bool]] = Counter()
    for seed in range(1000):
        _, result = policy(photo(), mask, seed=seed)
        flipped = (result[:, :40] == 0).sum() > (result[:, :40] == 1).sum()
        seen[flipped, bool((result == VOID).any())] += 1
    expected = {(True, True): 125, (True, False): 375, (False, True): 125, (False, False): 375}
    for outcome, count in expected.items():
        assert seen[outcome] == pytest.approx(count, abs=50), seen


def digest(policy: Policy, seed: int) -> str:
    image, mask = policy(photo(), blobs(), seed=seed)
    return hashlib.sha256(image.tobytes() + mask.tobytes()).hexdigest()


def test_result_depends_on_the_seed_alone() -> None:
    spec = PolicySpec.from_flat({"policy": "all"})
    policy = Policy(spec, SIZE)
    once = [digest(policy, seed) for seed in range(30)]
    np.random.default_rng(0).random(5)
    assert [digest(policy, seed) for seed in reversed(range(30))][::-1] == once
    assert [digest(Policy(spec, SIZE), seed) for seed in range(30)] == once
    assert len(set(once)) == 30


def test_another_process_draws_the_same() -> None:
    policy = Policy(PolicySpec.from_flat({"policy": "all"}), SIZE)
    program = (
        "import numpy as np; from trainables.augmentations import Policy, PolicySpec; import hashlib\n"
        f"policy = Policy(PolicySpec.from_flat({{'policy': 'all'}}), {SIZE})\n"
        f"ramp = np.arange({SIZE[0] * SIZE[1] * 3}).reshape({SIZE[0]}, {SIZE[1]}, 3)\n"
        "image, mask = (ramp % 251).astype(np.uint8), (ramp[..., 0] % 7).astype(np.uint8)\n"
        "results = [policy(image, mask, seed=seed) for seed in range(10)]\n"
        "print(hashlib.sha256(b''.join(i.tobytes() + m.tobytes() for i, m in results)).hexdigest())\n"
    )
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    ramp = np.arange(SIZE[0] * SIZE[1] * 3).reshape(*SIZE, 3)
    image, mask = (ramp % 251).astype(np.uint8), (ramp[..., 0] % 7).astype(np.uint8)
    results = [policy(image, mask, seed=seed) for seed in range(10)]
    expected = hashlib.sha256(b"".join(i.tobytes() + m.tobytes() for i, m in results)).hexdigest()
    assert ran.stdout.strip() == expected


def test_resizing_keeps_image_and_mask_in_step() -> None:
    mask = blobs((95, 133))
    image = np.repeat(mask[..., None] * 40, 3, axis=2)
    small_image, small_mask = resize(image, mask, (40, 50))
    expected = mask[np.floor((np.arange(40) + 0.5) * 95 / 40).astype(int)]
    expected = expected[:, np.floor((np.arange(50) + 0.5) * 133 / 50).astype(int)]
    assert (small_mask == expected).mean() > 0.99
    inside = ndimage.maximum_filter(small_mask, 3) == ndimage.minimum_filter(small_mask, 3)
    assert np.array_equal(np.round(small_image[..., 0] / 40)[inside], small_mask[inside])


def test_family_defaults_fill_what_is_not_said() -> None:
    spec = PolicySpec.from_flat({"policy": "geometric", "rotate.p": "0.25", "rotate.limit": 20, "shift.p": 0})
    assert [item.name for item in spec.transforms] == ["scale_crop", "hflip", "rotate"]
    assert spec.transforms[2] == TransformSpec("rotate", 0.25, {"limit": 20.0})
    assert spec.transforms[1].p == family_transforms("geometric")["hflip"]
    assert spec.flat()["shift.p"] == 0.0 and "shift.limit" not in spec.flat()
    assert spec.describe() == "geometric: scale_crop p=0.80 limit=0.5 · hflip p=0.50 · rotate p=0.25 limit=20"


def test_all_faults_of_a_policy_are_told_together() -> None:
    flat = {
        "policy": "geometric",
        "rotate.limt": 5,
        "rotate.p": 1.5,
        "scale_crop.limit": -1,
        "hue.limit": 0.1,
        "shift.p": 0,
        "shift.limit": 0.1,
        "hflip.limit": 3,
    }
    with pytest.raises(ConfigError) as caught:
        PolicySpec.from_flat(flat)
    message = str(caught.value)
    assert len(message.splitlines()) == 6
    for said in (
        "augment.rotate.limt: unknown; did you mean augment.rotate.limit",
        "augment.rotate.p: must be <= 1",
        "augment.scale_crop.limit: must be > 0",
        "augment.hue.limit: hue is not in policy 'geometric'",
        "augment.shift.limit: shift is off",
        "augment.hflip.limit: unknown",
    ):
        assert said in message


@pytest.mark.parametrize(("family", "said"), [("geometrc", "did you mean geometric"), ("x", "known: all, blur_noise")])
def test_unknown_policy_is_told_with_the_close_names(family: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        PolicySpec.from_flat({"policy": family})


@st.composite
def flat_policies(draw: st.DrawFn) -> dict[str, Any]:
    family = draw(st.sampled_from(POLICIES.names()))
    flat: dict[str, Any] = {"policy": family}
    for name in family_transforms(family):
        p = draw(st.none() | st.just(0.0) | st.floats(0.001, 1.0))
        if p is not None:
            flat[f"{name}.p"] = p
        if p == 0.0:
            continue
        for option, parameter in TRANSFORMS.parameters(name).items():
            assert isinstance(parameter.bounds, Range)
            low, high = parameter.bounds.low, parameter.bounds.high
            if draw(st.booleans()):
                number = st.integers(low, high) if parameter.type is int else st.floats(low, high, exclude_min=True)
                flat[f"{name}.{option}"] = draw(number)
    return flat


@settings(max_examples=60, deadline=None, derandomize=True)
@given(flat_policies())
def test_any_policy_survives_being_written_and_read(flat: dict[str, Any]) -> None:
    spec = PolicySpec.from_flat(flat)
    assert PolicySpec.from_flat(spec.flat()) == spec
    assert spec.flat().items() >= flat.items()


@pytest.mark.parametrize(("name", "option"), [(n, o) for n in TRANSFORMS for o in ("p", *TRANSFORMS.parameters(n))])
def test_every_setting_that_is_not_built_as_asked_is_noticed(name: str, option: str) -> None:
    asked = alone(name)
    if option == "p":
        other = PolicySpec("all", (TransformSpec(name, 0.5, asked.transforms[0].params),))
    else:
        parameter = TRANSFORMS.parameters(name)[option]
        other = alone(name, **{option: parameter.type(parameter.default * 0.5)})
    verify_applied(asked, Policy(asked, SIZE))
    with pytest.raises(WiringError, match=f"{name}.{option}: asked for"):
        verify_applied(asked, Policy(other, SIZE))


def test_missing_and_surplus_transformations_are_noticed() -> None:
    with pytest.raises(WiringError, match="hflip: built but not asked for; rotate: not built"):
        verify_applied(alone("rotate"), Policy(alone("hflip"), SIZE))


def test_masks_filled_with_a_class_are_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    def wrong(size: tuple[int, int], p: float, *, extent: float = 0.25) -> A.BasicTransform:
        return A.CoarseDropout(hole_height_range=(extent / 4, extent), fill_mask=0, p=p)

    monkeypatch.setitem(TRANSFORMS._entries, "dropout", wrong)
    with pytest.raises(WiringError, match="dropout: fills masks with 0"):
        verify_applied(alone("dropout"), Policy(alone("dropout"), SIZE))


def test_argument_that_the_library_does_not_know_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def removed_argument(size: tuple[int, int], p: float, *, std: float = 0.05) -> A.BasicTransform:
        return A.GaussNoise(var_limit=(0.0, std), p=p)

    monkeypatch.setitem(TRANSFORMS._entries, "noise", removed_argument)
    with pytest.raises(WiringError, match="var_limit"):
        Policy(alone("noise"), SIZE)
