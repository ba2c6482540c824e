"""The few images that some policies make of one: itself at the input's size, and flipped."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar, cast

import numpy as np

from trainables.augmentations.policy import Policy
from trainables.data.base import Image, Mask
from trainables.data.resizing import fit_image, fit_mask
from trainables.options import CUTTING, way_of

Pixels = TypeVar("Pixels", bound=Mask)

FLIPS: Mapping[str, Callable[[Any], Any]] = {"hflip": lambda image: image[:, ::-1]}
"""Transformations with one result for each image or mask, by name."""

View = tuple[str, ...]
"""The flips, in their order, that make it of an image at the input's size."""

_PROBE = np.arange(12, dtype=np.uint8).reshape(2, 2, 3)
"""No two flips of it are equal."""


class Views:
    """Every image that a policy makes of one.

    Args:
        policy: Flips, or does nothing; see `views_of`.

    Attributes:
        all: Those of any image.
    """

    def __init__(self, policy: Policy) -> None:
        self._policy = policy
        self.all: tuple[View, ...] = ((),)
        for name, p in policy.probabilities.items():
            flipped = tuple((*view, name) for view in self.all)
            self.all = (*(self.all if p < 1 else ()), *(flipped if p > 0 else ()))
        # Sizes have no influence on what is drawn.
        self._small = Policy(policy.spec, (2, 2))
        self._by_result = {_flipped(_PROBE, view).tobytes(): view for view in self.all}

    def image(self, image: Image, view: View) -> Image:
        """What a view shows of an image (h, w, C): shape (*size, C)."""
        return _flipped(fit_image(image, self._policy.size, self._policy.resize), view)

    def mask(self, mask: Mask, view: View) -> Mask:
        """The mask (h, w) in step with it: shape `size`."""
        return _flipped(fit_mask(mask, self._policy.size, self._policy.resize), view)

    def drawn(self, seed: int) -> View:
        """The view that the policy makes with a seed."""
        result, _ = self._small(_PROBE, _PROBE[..., 0], seed=seed)
        return self._by_result[result.tobytes()]


def views_of(policy: Policy, *, most: int) -> Views | None:
    """The images that a policy makes of one; None if there are more than `most`, or no end of them."""
    if policy.mixes or way_of(policy.resize) in CUTTING or any(name not in FLIPS for name in policy.names):
        return None
    views = Views(policy)
    return views if len(views.all) <= most else None


def _flipped(pixels: Pixels, view: View) -> Pixels:
    """An image or a mask."""
    for name in view:
        pixels = FLIPS[name](pixels)
    return cast("Pixels", np.ascontiguousarray(pixels))
