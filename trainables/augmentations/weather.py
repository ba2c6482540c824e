"""Sun, fog and rain, each as a veil over the image.

Albumentations' own are not used, after a look at their pictures: its fog is a blur (and slow), its snow turns
grass violet or bleaches by threshold, its rain draws the same few thick bars on any image.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from typing import Any

import albumentations as A
import cv2
import numpy as np
import numpy.typing as npt

from trainables.augmentations.geometry import as_uint8
from trainables.data.base import Image
from trainables.data.resizing import Size

Opacity = npt.NDArray[np.floating[Any]]
"""How much of each pixel the veil covers, 0 .. 1, of shape (H, W), or coarser where it is smooth."""


class Veil(A.ImageOnlyTransform):  # type: ignore[misc]
    """A colour laid over the image: `image * (1 - opacity) + color * opacity`.

    Args:
        limit: Largest strength; it is drawn uniformly in [0, limit].
        p: Probability.
    """

    color: tuple[int, int, int]

    def __init__(self, limit: float, p: float) -> None:
        super().__init__(p=p)
        self.limit = limit

    def get_params_dependent_on_data(self, params: dict[str, Any], data: dict[str, Any]) -> dict[str, Any]:
        """Draws the strength and the veil."""
        return {"opacity": self.opacity(self.py_random.uniform(0, self.limit), params["shape"][:2])}

    def apply(self, img: Image, opacity: Opacity, **params: Any) -> Image:
        """Lays the veil over the image; opacity in steps of 1/255."""
        veil = cv2.resize((255 * opacity).round().astype(np.uint8), img.shape[1::-1], interpolation=cv2.INTER_LINEAR)
        seen = cv2.multiply(img, cv2.merge([255 - veil] * img.shape[2]), scale=1 / 255)
        color = np.resize(self.color, img.shape[2])
        return as_uint8(cv2.add(seen, cv2.transform(veil, color[:, None] / 255))).reshape(img.shape)

    @abstractmethod
    def opacity(self, strength: float, size: Size) -> Opacity:
        """Draws the veil of that strength for an image of that size."""


class Shadow(Veil):
    """The shadow of something tall: a dark band with a soft edge, at any angle and place; strength is its darkness."""

    color = (0, 0, 0)

    def opacity(self, strength: float, size: Size) -> Opacity:
        """Distance from the band's middle line, in units of the diagonal, through a ramp."""
        angle = self.py_random.uniform(0, math.pi)
        middle = self.py_random.uniform(-0.35, 0.35)
        half_width = self.py_random.uniform(0.08, 0.3)
        penumbra = self.py_random.uniform(0.005, 0.04)
        y, x = _centred(size)
        distance = np.abs(y * math.sin(angle) + x * math.cos(angle) - middle)
        return np.asarray(strength * np.clip((half_width - distance) / penumbra + 0.5, 0, 1))


class Fog(Veil):
    """Koschmieder's law, `opacity = 1 - exp(-depth)`, as in Foggy Cityscapes (Sakaridis et al., 2018).

    The distance that they measure is guessed here: farthest at the top, a third of it at the bottom, in patches.
    Strength is the optical depth at the far end.
    """

    color = (215, 218, 222)
    GRID = 16

    def opacity(self, strength: float, size: Size) -> Opacity:
        """Optical depth on a coarse grid."""
        distance = np.linspace(1, 1 / 3, self.GRID, dtype=np.float32)[:, None]
        corners = self.random_generator.uniform(0.6, 1.4, (4, 4)).astype(np.float32)
        patches = cv2.resize(corners, (self.GRID, self.GRID), interpolation=cv2.INTER_CUBIC)
        return np.asarray(1 - np.exp(-strength * distance * patches.clip(0)))


class Rain(Veil):
    """Streaks of falling drops, all along one slant, many faint ones and some near; strength is their number."""

    color = (200, 205, 210)
    LAYERS = ((0.75, 0.04, 0.25), (0.25, 0.1, 0.45))
    """Share of the streaks, their length as a fraction of the height, and their opacity: far, then near."""

    def opacity(self, strength: float, size: Size) -> Opacity:
        """Lines one pixel wide, anti-aliased."""
        height, width = size
        slant = self.py_random.uniform(-0.3, 0.3)
        veil = np.zeros(size, np.uint8)
        for share, length, opacity in self.LAYERS:
            count = round(strength * share)
            fall = np.array([slant, 1.0]) * length * height * self.random_generator.uniform(0.5, 1, (count, 1))
            start = self.random_generator.uniform((0, -length * height), (width, height), (count, 2))
            streaks = np.stack([start, start + fall], axis=1).round().astype(np.int32)
            cv2.polylines(veil, list(streaks), False, round(255 * opacity), 1, cv2.LINE_AA)
        return veil / 255


class Glare(Veil):
    """Light scattered in the lens by a sun in or near the upper half of the image; strength is the veil's centre."""

    color = (255, 250, 238)
    STEP = 8

    def opacity(self, strength: float, size: Size) -> Opacity:
        """Falls with the square of the distance left to the veil's rim; on a grid, as it is smooth."""
        y, x = _centred((math.ceil(size[0] / self.STEP), math.ceil(size[1] / self.STEP)))
        height = self.py_random.uniform(y.min(), 0.0)
        side = self.py_random.uniform(x.min(), x.max())
        radius = self.py_random.uniform(0.3, 0.8)
        within = np.clip(1 - np.hypot(y - height, x - side) / radius, 0, 1)
        return np.asarray(strength * within**2)


def _centred(size: Size) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """Coordinates of shape (H, 1) and (1, W) from the centre, in units of the diagonal."""
    diagonal = math.hypot(*size)
    y, x = ((np.arange(side, dtype=np.float32) - (side - 1) / 2) / diagonal for side in size)
    return y[:, None], x[None]
