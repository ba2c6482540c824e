"""Images, masks and policies that the tests of augmentation share."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from trainables.augmentations import MAGNITUDES, PolicySpec

SIZE = (60, 80)


def blobs(size: tuple[int, int] = SIZE, seed: int = 0, classes: int = 6) -> npt.NDArray[np.uint8]:
    """A mask of large regions."""
    noise = np.random.default_rng(seed).normal(size=(classes, *size))
    return ndimage.gaussian_filter(noise, (0, 8, 8)).argmax(0).astype(np.uint8)


def photo(size: tuple[int, int] = SIZE, seed: int = 0) -> npt.NDArray[np.uint8]:
    """A smooth coloured image over most of the range of values."""
    noise = ndimage.gaussian_filter(np.random.default_rng(seed).normal(size=(*size, 3)), (4, 4, 0))
    return np.clip(128 + 55 * noise / noise.std(), 0, 255).astype(np.uint8)


def alone(name: str, magnitude: float | None = None, *, p: float = 1.0) -> PolicySpec:
    """A policy of one transformation."""
    item = {"transform": name, "p": p}
    return PolicySpec.from_list(
        [item | ({} if magnitude is None or name not in MAGNITUDES else {"magnitude": magnitude})]
    )


def drawn(transform: Any, *, seed: int = 0, size: tuple[int, int] = SIZE) -> dict[str, Any]:
    """The random parameters of one application, and its results."""
    transform.set_random_seed(seed)
    result = transform(image=photo(size), mask=blobs(size))
    return {**transform.params, "image": result["image"], "mask": result["mask"]}
