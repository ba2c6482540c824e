"""Augmentation policies: what happens to a training image and its mask before the model sees them.

A *transformation* (`TRANSFORMS`) has a probability `p` and, except a few, one *magnitude* in 0 .. 1, which one table
(`MAGNITUDES`) maps to its own range; a *policy family* (`POLICIES`) names the transformations that may be on.
`PolicySpec` is a policy as data - flat keys or a list, validated, one readable line -, `Policy` the same policy built,
`verify_applied` compares the two, and `preflight` tries what a sweep can reach before it costs anything. This package
is the only place of the project that imports Albumentations.

Pixels that the camera never saw become void: what a rotation, shift or zoom-out brings in from beyond the border is
`VOID` in the mask, and so is what coarse dropout hides. In the image, space beyond the border is filled by reflection
rather than by a constant: as no loss is taken there, its only effect is on the statistics of BatchNorm and on the
context of the pixels next to it, and a reflection leaves both as they are in real images.
"""

import os

os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")

import cv2

from trainables.augmentations.families import POLICIES, family_transforms
from trainables.augmentations.geometry import Size, resize
from trainables.augmentations.magnitudes import MAGNITUDES, Magnitude
from trainables.augmentations.policy import Policy, verify_applied
from trainables.augmentations.probes import preflight
from trainables.augmentations.spec import PolicySpec, TransformSpec
from trainables.augmentations.transforms import TRANSFORMS, TRIVIAL, transformation

cv2.setNumThreads(0)

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
