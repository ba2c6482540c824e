"""Colours, noise and weather against their formulas in slow floating point."""

from __future__ import annotations

import colorsys
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from trainables.augmentations import TRANSFORMS, Policy, PolicySpec
from trainables.augmentations.color import Noise
from trainables.augmentations.weather import Fog, Glare, Rain, Shadow

from .drawn import SIZE, alone, blobs, drawn, photo

Float = npt.NDArray[np.float64]
GREY = np.array([0.299, 0.587, 0.114])
CHROMA = np.array([[0.596, -0.274, -0.322], [0.211, -0.523, 0.312]])


def turned(image: Float, degrees: float) -> Float:
    """Hue turned pixel by pixel: to luma and a complex chroma, times exp(i angle), and back."""
    to_yiq = np.vstack([GREY, CHROMA])
    y, i, q = np.moveaxis(image @ to_yiq.T, -1, 0)
    chroma = (i + 1j * q) * np.exp(1j * math.radians(degrees))
    return np.asarray(np.stack([y, chroma.real, chroma.imag], axis=-1) @ np.linalg.inv(to_yiq).T)


FORMULAS: dict[str, Callable[[Float, float], Float]] = {
    "brightness": lambda image, value: image * (1 + value),
    "contrast": lambda image, value: image + value * (image - (image @ GREY).mean()),
    "saturation": lambda image, value: image + value * (image - (image @ GREY)[..., None]),
    "hue": turned,
}


@pytest.mark.parametrize("name", FORMULAS)
@pytest.mark.parametrize("seed", range(6))
def test_color_follows_its_formula(name: str, seed: int) -> None:
    result = drawn(TRANSFORMS.get(name)(SIZE, 1.0, magnitude=0.6), seed=seed)
    expected = np.clip(FORMULAS[name](photo().astype(float), result["value"]), 0, 255)
    assert np.abs(result["image"] - expected).max() <= 1.01
    assert np.abs(expected - photo()).max() > 2


def test_positive_hue_turns_the_circle_one_way() -> None:
    """An independent circle, HSV's, goes the same way all around."""
    steps = []
    for hue in np.arange(0, 1, 1 / 12):
        color = 255 * np.array(colorsys.hsv_to_rgb(hue, 0.4, 0.6))
        after = colorsys.rgb_to_hsv(*turned(color[None, None], 20)[0, 0] / 255)[0]
        steps.append((after - hue + 0.5) % 1 - 0.5)
    assert np.ptp(np.sign(steps)) == 0
    assert np.abs(steps).mean() == pytest.approx(20 / 360, rel=0.2)


@pytest.mark.parametrize("seed", range(6))
def test_colors_in_one_pass_are_their_formulas_in_turn(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Unrounded and unclipped between."""
    names = list(FORMULAS)
    spec = PolicySpec.from_list([{"transform": name, "p": 0.9, "magnitude": 0.4} for name in names])
    policy = Policy(spec, SIZE)
    values: dict[str, float] = {}
    for name in names:
        draw = policy._built[name].get_params
        monkeypatch.setattr(
            policy._built[name], "get_params", lambda n=name, d=draw: {"value": values.setdefault(n, d()["value"])}
        )
    image, _ = policy(photo(), blobs(), seed=seed)
    expected = photo().astype(float)
    for name, value in values.items():
        expected = FORMULAS[name](expected, value)
    assert np.abs(image - np.clip(expected, 0, 255)).max() <= 1.01


@pytest.mark.parametrize("seed", range(4))
def test_gamma_is_a_power(seed: int) -> None:
    result = drawn(TRANSFORMS.get("gamma")(SIZE, 1.0, magnitude=1.0), seed=seed)
    assert 0.5 <= result["gamma"] <= 2
    assert np.abs(result["image"] - 255 * (photo() / 255) ** result["gamma"]).max() <= 1.01


def test_noise_is_gaussian_without_bias_and_independent() -> None:
    transform = Noise(0.1, 1.0)
    grey = np.full((200, 200, 3), 128, np.uint8)
    transform.set_random_seed(3)
    noise = transform(image=grey)["image"].astype(float) - 128
    deviation = transform.params["deviation"]
    assert 0 < deviation <= 25.5
    assert noise.mean() == pytest.approx(0, abs=0.02 * deviation)
    assert noise.std() == pytest.approx(math.hypot(deviation, 12**-0.5), rel=0.02)
    assert np.abs(np.corrcoef(noise.reshape(-1, 3).T) - np.eye(3)).max() < 0.02
    for levels in (1, int(deviation), int(2 * deviation)):
        within = (np.abs(noise) <= levels).mean()
        assert within == pytest.approx(math.erf((levels + 0.5) / deviation / 2**0.5), abs=0.01)


@pytest.mark.parametrize("veil", [Shadow, Fog, Rain, Glare])
@pytest.mark.parametrize("seed", range(3))
def test_weather_is_a_veil(veil: Any, seed: int) -> None:
    limit = {Shadow: 0.7, Fog: 2.0, Rain: 300, Glare: 0.9}[veil]
    result = drawn(veil(limit, 1.0), seed=seed)
    opacity = np.asarray(result["opacity"], float)
    assert opacity.min() >= 0 and opacity.max() <= 1
    if opacity.shape == SIZE:
        expected = photo() * (1 - opacity[..., None]) + np.array(veil.color) * opacity[..., None]
        assert np.abs(result["image"] - expected).max() <= 3
    towards = (np.array(veil.color) - photo().astype(float)) * (result["image"].astype(float) - photo())
    assert towards.min() >= -3 * 255
    assert np.abs(result["image"].astype(float) - photo()).max() > 5


def test_fog_is_thickest_at_the_top_and_follows_koschmieder() -> None:
    fog = Fog(2.0, 1.0)
    fog.set_random_seed(0)
    opacity = np.mean([fog.opacity(1.0, SIZE) for _ in range(200)], axis=0).mean(axis=1)
    assert opacity[0] == pytest.approx(1 - math.exp(-1), abs=0.03)
    assert opacity[-1] == pytest.approx(1 - math.exp(-1 / 3), abs=0.03)
    assert np.all(np.diff(opacity) < 0)


def test_shadow_is_a_band_of_its_strength_with_light_beside_it() -> None:
    shadow = Shadow(0.7, 1.0)
    for seed in range(20):
        shadow.set_random_seed(seed)
        opacity = shadow.opacity(0.5, (120, 160))
        assert opacity.max() == pytest.approx(0.5)
        assert opacity.min() == 0.0


def test_rain_covers_more_with_more_streaks() -> None:
    rain = Rain(600, 1.0)
    rain.set_random_seed(0)
    covered = [(np.asarray(rain.opacity(count, (240, 320))) > 0.1).mean() for count in (0, 100, 600)]
    assert covered[0] == 0
    assert 0 < covered[1] < covered[2] < 0.4


@pytest.mark.parametrize("name", ["shadow", "fog", "rain", "glare", "brightness", "hue", "blur", "noise", "jpeg"])
def test_light_and_sensor_leave_the_mask_alone(name: str) -> None:
    image, mask = Policy(alone(name), SIZE)(photo(), blobs(), seed=1)
    assert np.array_equal(mask, blobs())
    assert not np.array_equal(image, photo())
