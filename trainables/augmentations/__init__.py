"""Augmentation policies: what happens to a training image and its mask before the model sees them.

A *transformation* (`TRANSFORMS`) has a probability `p` and, except a few, one *magnitude* in 0 .. 1, which one table
(`MAGNITUDES`) maps to its own range; a *policy family* (`POLICIES`) names the transformations that may be on.
`PolicySpec` is a policy as data - flat keys or a list, validated, one readable line -, `Policy` the same policy built,
`verify_applied` compares the two, and `preflight` tries what a sweep can reach before it costs anything. This package
is the only place of the project that imports Albumentations, and only its modules that build something do.

Pixels that the camera never saw become void: what a rotation, shift or zoom-out brings in from beyond the border is
`VOID` in the mask, and so is what coarse dropout hides. In the image, space beyond the border is filled by reflection
rather than by a constant: as no loss is taken there, its only effect is on the statistics of BatchNorm and on the
context of the pixels next to it, and a reflection leaves both as they are in real images.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING

from trainables import lazy
from trainables.registry import Registry

if TYPE_CHECKING:
    from trainables.augmentations.families import family_transforms
    from trainables.augmentations.geometry import resize
    from trainables.augmentations.magnitudes import MAGNITUDES, Magnitude
    from trainables.augmentations.policy import Policy, verify_applied
    from trainables.augmentations.probes import preflight
    from trainables.augmentations.spec import PolicySpec, TransformSpec
    from trainables.augmentations.transforms import TRIVIAL, Built, transformation
    from trainables.data.resizing import Size

__all__ = [
    "MAGNITUDES",
    "POLICIES",
    "TRANSFORMS",
    "TRIVIAL",
    "Magnitude",
    "Policy",
    "PolicySpec",
    "Size",
    "TransformSpec",
    "family_transforms",
    "preflight",
    "resize",
    "transformation",
    "verify_applied",
]

os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")

TRANSFORMS: Registry[Callable[..., Built]] = Registry(
    "transformation", modules=("trainables.augmentations.transforms",)
)
"""Factories `(size, p)` or `(size, p, *, magnitude)`, in the order in which a policy applies them: where the camera
stands, the weather, the sensor's colours, lens and file, what stands in between, and last what works on the batch."""

POLICIES: Registry[Callable[[], dict[str, float]]] = Registry("policy", modules=("trainables.augmentations.families",))
"""Families: functions that give the transformations that may be on, each with its default probability."""

__getattr__ = lazy.attributes(
    __name__,
    {
        "families": ["family_transforms"],
        "geometry": ["Size", "resize"],
        "magnitudes": ["MAGNITUDES", "Magnitude"],
        "policy": ["Policy", "verify_applied"],
        "probes": ["preflight"],
        "spec": ["PolicySpec", "TransformSpec"],
        "transforms": ["TRIVIAL", "transformation"],
    },
)
