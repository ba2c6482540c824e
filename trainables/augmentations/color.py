"""The sensor's colours and its noise; Albumentations has both, at several times the cost."""

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

Matrix = npt.NDArray[np.float64]
Vector = npt.NDArray[np.float64]

GREY = np.array([0.299, 0.587, 0.114])
"""Weights of R, G and B in the luma of ITU-R BT.601."""

YIQ = np.array([GREY, [0.596, -0.274, -0.322], [0.211, -0.523, 0.312]])
"""RGB to luma and the two chroma axes of NTSC."""


class ColorMatrix(A.ImageOnlyTransform):  # type: ignore[misc]
    """An affine map of the channels, the same at every pixel; results are rounded and clipped to 0 .. 255.

    Args:
        limit: Largest value drawn, either way.
        p: Probability.
    """

    def __init__(self, limit: float, p: float) -> None:
        super().__init__(p=p)
        self.limit = limit

    def get_params(self) -> dict[str, Any]:
        """Draws the value, uniform in [-limit, limit]."""
        return {"value": self.py_random.uniform(-self.limit, self.limit)}

    def apply(self, img: Image, value: float, **params: Any) -> Image:
        """Maps every pixel."""
        return _mapped(img, self.matrix(value, mean_color(img)))

    @abstractmethod
    def matrix(self, value: float, mean: Vector) -> Matrix:
        """The map of shape (C, C + 1), offset last, for an image whose mean colour is `mean`, of shape (C,)."""


class ColorMatrices(A.Sequential):  # type: ignore[misc]
    """Several `ColorMatrix` as their product: one pass over the image, nothing rounded or clipped in between."""

    def __call__(self, *args: Any, **data: Any) -> dict[str, Any]:
        """Draws from every member as it would by itself, then maps every pixel once."""
        mean = mean_color(data["image"])
        product = np.eye(len(mean), len(mean) + 1)
        for member in self.transforms:
            if member.should_apply():
                step = member.matrix(**member.get_params(), mean=product @ [*mean, 1])
                offset = step[:, -1:]
                product = step[:, :-1] @ product
                product[:, -1:] += offset
        return {**data, "image": _mapped(data["image"], product)}


def mean_color(image: Image) -> Vector:
    """Mean of each channel of an image of shape (H, W, C)."""
    if image.shape[2] <= 4:
        return np.array(cv2.mean(image)[: image.shape[2]])
    return np.asarray(image.mean(axis=(0, 1)))


def _mapped(image: Image, matrix: Matrix) -> Image:
    return as_uint8(cv2.transform(image, matrix)).reshape(image.shape)


def _grey_weights(channels: int) -> Vector:
    """What grey is of that many channels: luma of three, the mean of others."""
    return GREY if channels == 3 else np.full(channels, 1 / channels)


def _linear(matrix: Matrix) -> Matrix:
    return np.hstack([matrix, np.zeros((3, 1))])


class Brightness(ColorMatrix):
    """All values times 1 + value."""

    def matrix(self, value: float, mean: Vector) -> Matrix:
        """A multiple of the identity."""
        return np.eye(len(mean), len(mean) + 1) * (1 + value)


class Contrast(ColorMatrix):
    """Distance from the image's mean grey times 1 + value."""

    def matrix(self, value: float, mean: Vector) -> Matrix:
        """A multiple of the identity, and what keeps the mean grey where it is."""
        grey = _grey_weights(len(mean)) @ mean
        return np.hstack([np.eye(len(mean)) * (1 + value), np.full((len(mean), 1), -value * grey)])


class Saturation(ColorMatrix):
    """Distance from the pixel's own grey times 1 + value."""

    def matrix(self, value: float, mean: Vector) -> Matrix:
        """A mixture of the identity and grey."""
        return _linear(np.eye(3) * (1 + value) - value * np.tile(GREY, (3, 1)))


class Hue(ColorMatrix):
    """Chroma turned by `value` degrees at constant luma: a rotation in the plane of I and Q (as NVIDIA DALI's `hue`).

    The circle of HSV turns at constant maximum instead; this is one matrix, and a face keeps its brightness.
    """

    def matrix(self, value: float, mean: Vector) -> Matrix:
        """To YIQ, turned, and back."""
        cosine, sine = math.cos(math.radians(value)), math.sin(math.radians(value))
        turn = np.array([[1, 0, 0], [0, cosine, -sine], [0, sine, cosine]])
        return _linear(np.linalg.solve(YIQ, turn @ YIQ))


class Noise(A.ImageOnlyTransform):  # type: ignore[misc]
    """Gaussian noise, independent at every pixel and in every channel, with a standard deviation uniform in [0, limit].

    Args:
        limit: Largest standard deviation as a fraction of full scale (255).
        p: Probability.
    """

    def __init__(self, limit: float, p: float) -> None:
        super().__init__(p=p)
        self.limit = limit

    def get_params(self) -> dict[str, Any]:
        """Draws the standard deviation, and a seed for OpenCV's generator."""
        return {"deviation": 255 * self.py_random.uniform(0, self.limit), "seed": self.py_random.getrandbits(31)}

    def apply(self, img: Image, deviation: float, seed: int, **params: Any) -> Image:
        """Adds the noise."""
        cv2.setRNGSeed(seed)
        noise = np.empty(img.shape, np.int16)
        if img.shape[2] == 3:
            cv2.randn(noise, (0, 0, 0), (deviation,) * 3)
        else:
            cv2.randn(noise.reshape(img.shape[0], -1), (0,), (deviation,))
        return as_uint8(cv2.add(img, noise, dtype=cv2.CV_8U)).reshape(img.shape)
