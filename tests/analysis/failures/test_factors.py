"""Factors on images made to have them, and their values by hand or by a loop over pixels."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy import ndimage

from analysis.failures.components import find_components
from analysis.failures.factors import FACTORS, blur_of, measure_factors, noise_of
from analysis.failures.measure import _border_share
from trainables.data.base import VOID
from trainables.data.scenes import draw_scene, scene_spec

KINDS = np.array([0, 1, 2, 2], np.int8)
NAMES = [factor.name for factor in FACTORS]


def measured(image, mask, width=2):
    """Factors by name of each component of stuff and things, in the order of their first pixels."""
    numbers, values = measure_factors(image, find_components(mask), KINDS, width)
    assert values.shape == (len(numbers), len(FACTORS))
    return [dict(zip(NAMES, row, strict=True)) for row in values]


def scene(*boxes, shape=(40, 60)):
    mask = np.zeros(shape, np.uint8)
    for class_id, top, bottom, left, right in boxes:
        mask[top:bottom, left:right] = class_id
    return mask


def painted(mask, *colors):
    return np.array(colors, np.uint8)[np.where(mask == VOID, 0, mask)]


def test_colours_size_and_place_by_hand():
    mask = scene((2, 10, 20, 30, 60))
    image = painted(mask, (0, 0, 0), (0, 0, 0), (255, 0, 0), (0, 0, 0))
    (car,) = measured(image, mask)
    assert car["light"] == pytest.approx(300 / 2400 * 76 / 255)
    # 300 pixels of luma 76 on black: the mean is 9.5
    assert car["brightness"] == pytest.approx(76 / 9.5 - 1)
    assert car["range"] == pytest.approx(76 * np.sqrt(300 / 2400 * 2100 / 2400) / 9.5)
    assert car["saturation"] == 1
    assert car["contrast"] == 1
    assert car["size"] == pytest.approx(np.log10(300 / 2400))
    assert car["height"] == pytest.approx(15 / 40)
    assert car["off_centre"] == pytest.approx(np.hypot(15 / 40 - 0.5, 45 / 60 - 0.5) / np.sqrt(0.5))
    # 76 pixels of contour, of which 10 lie on the border of the image
    assert car["truncation"] == pytest.approx(10 / 76) == _border_share(mask == 2)
    assert car["crowding"] == 0


def test_thinness_is_that_of_the_widest_place():
    disc = (np.hypot(*np.mgrid[-20:20, -30:30]) <= 15).astype(np.uint8) * 2
    (round_one,) = measured(painted(disc, *[(0, 0, 0)] * 4), disc)
    assert round_one["thinness"] < 0.1
    (thin,) = measured(*(lambda m: (painted(m, *[(0, 0, 0)] * 4), m))(scene((2, 10, 13, 5, 55))))
    assert thin["thinness"] == pytest.approx(1 - 3 / np.sqrt(4 * 150 / np.pi))
    everything = np.full((20, 30), 2, np.uint8)
    assert measured(painted(everything, *[(9, 9, 9)] * 4), everything)[0]["thinness"] == pytest.approx(
        1 - 20 / np.sqrt(4 * 600 / np.pi)
    )


def test_crowding_is_the_share_of_other_things_around():
    alone = scene((2, 10, 20, 20, 30))
    beside = scene((2, 10, 20, 20, 30), (3, 0, 40, 30, 60))
    on_road = scene((1, 0, 40, 0, 60), (2, 10, 20, 20, 30))
    image = np.zeros((40, 60, 3), np.uint8)
    assert measured(image, alone)[0]["crowding"] == 0
    assert 0.2 < measured(image, beside)[1]["crowding"] < 0.5
    assert measured(image, on_road)[1]["crowding"] == 0
    # a seam of void around hides half of the neighbour
    seam = beside.copy()
    seam[:, 30:32] = VOID
    assert measured(image, seam)[1]["crowding"] < measured(image, beside)[1]["crowding"]


def test_crowding_and_contrast_equal_a_loop_over_pixels():
    rng = np.random.default_rng(0)
    mask = scene((1, 20, 40, 0, 60), (2, 8, 25, 10, 22), (3, 12, 30, 22, 40), (2, 0, 6, 50, 60))
    mask[12:18, 40:42] = VOID
    image = rng.integers(0, 256, (*mask.shape, 3)).astype(np.uint8)
    components = find_components(mask)
    numbers, values = measure_factors(image, components, KINDS, 2)
    for number, row in zip(numbers, values, strict=True):
        colors, beside = [], []
        for r, c in np.argwhere(components.labels == number):
            for down in (-2, 0, 2):
                for right in (-2, 0, 2):
                    y, x = r + down, c + right
                    inside = 0 <= y < 40 and 0 <= x < 60
                    if inside and components.labels[y, x] != number:
                        colors.append(image[y, x].astype(float))
                        beside += [] if mask[y, x] == VOID else [KINDS[mask[y, x]] == 2]
        own, other = image[components.labels == number].mean(axis=0), np.mean(colors, axis=0)
        michelson = np.linalg.norm(own - other) / (np.linalg.norm(own) + np.linalg.norm(other))
        assert row[NAMES.index("contrast")] == pytest.approx(michelson)
        assert row[NAMES.index("crowding")] == pytest.approx(np.mean(beside))


def test_blur_and_noise_grow_with_what_they_measure():
    rng = np.random.default_rng(0)
    steps = np.kron(rng.integers(40, 220, (12, 16)), np.ones((16, 16))).astype(np.float32)
    blurs = [blur_of(ndimage.gaussian_filter(steps, sigma)) for sigma in (0, 0.5, 1, 2)]
    assert blurs[0] == 0
    assert (np.diff(blurs) > 0.05).all()
    for sigma in (2, 5, 10):
        noisy = steps + rng.normal(0, sigma, steps.shape).astype(np.float32)
        assert noise_of(noisy) == pytest.approx(sigma, rel=0.15)
        # noise is hardly taken for sharpness
        assert blur_of(ndimage.gaussian_filter(steps, 1) + noisy - steps) == pytest.approx(blurs[2], abs=0.08)
    assert np.isnan(blur_of(np.full((30, 30), 7, np.float32)))
    assert np.isnan(blur_of(np.zeros((4, 40), np.float32)))
    assert np.isnan(noise_of(np.zeros((2, 40), np.float32)))


def test_the_factors_of_a_drawn_scene_are_seen():
    spec = scene_spec("test", 3)

    def median(name, **camera):
        light = {key: camera.pop(key) for key in list(camera) if key in ("exposure", "haze")}
        changed = replace(spec, camera=replace(spec.camera, **camera), light=replace(spec.light, **light))
        drawn = draw_scene(changed)
        kinds = np.array([1, 1, 1, 1, 1, 2, 2, 2, 2, 2], np.int8)
        values = measure_factors(drawn.image, find_components(drawn.mask), kinds, 2)[1]
        return np.nanmedian(values[:, NAMES.index(name)])

    assert median("light", exposure=1.2) > 1.5 * median("light", exposure=0.6)
    assert median("blur", blur=1.0) > median("blur", blur=0.0) + 0.1
    assert median("noise", noise=9.0) > median("noise", noise=1.5) + 2
    assert median("contrast", haze=0.0) > median("contrast", haze=0.6)
    assert median("range", haze=0.0) > median("range", haze=0.6)


def test_exposure_changes_light_alone():
    rng = np.random.default_rng(1)
    mask = scene((1, 20, 40, 0, 60), (2, 8, 25, 10, 22), (3, 12, 30, 22, 40))
    image = rng.integers(0, 120, (*mask.shape, 3)).astype(np.uint8)
    for dark, bright in zip(measured(image, mask), measured(2 * image, mask), strict=True):
        assert bright.pop("light") == pytest.approx(2 * dark.pop("light"), rel=0.02)
        assert bright.pop("noise") > 1.8 * dark.pop("noise")
        assert list(bright.values()) == pytest.approx(list(dark.values()), abs=0.02)


def test_what_cannot_be_measured_is_missing_and_sizes_must_fit():
    everything = np.full((20, 30), 2, np.uint8)
    (only,) = measured(np.full((20, 30, 3), 9, np.uint8), everything)
    assert np.isnan([only["contrast"], only["crowding"], only["blur"]]).all()
    assert np.isfinite([only["size"], only["brightness"], only["noise"]]).all()
    with pytest.raises(ValueError, match="its mask"):
        measured(np.zeros((5, 6, 3), np.uint8), everything)
    assert measured(np.zeros((20, 30, 3), np.uint8), np.zeros((20, 30), np.uint8)) == []
