"""Mixing on the batch: a region of an image and its mask is taken from another sample."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod

import cv2
import numpy as np

from trainables.augmentations.geometry import as_uint8
from trainables.data.base import Mask
from trainables.data.void import void_of


class Mixing(ABC):
    """Chooses what an image takes from its donor.

    Args:
        p: Probability that a sample takes something.
    """

    def __init__(self, p: float) -> None:
        self.p = p

    @abstractmethod
    def region(self, donor: Mask, generator: np.random.Generator) -> Mask:
        """Draws what is taken from the donor, image and mask alike: 1 there, 0 elsewhere, of the shape of its mask."""


class CutMix(Mixing):
    """A rectangle (Yun et al., 2019, "CutMix", with their alpha of 1; French et al., 2020, for segmentation).

    Its area is a share uniform in 0 .. 1, its aspect the image's, its centre uniform; what hangs over the border is
    cut off. Void inside it is taken too: what the donor does not know stays unknown.
    """

    def region(self, donor: Mask, generator: np.random.Generator) -> Mask:
        """Draws a rectangle."""
        part = math.sqrt(generator.random())
        chosen = np.zeros(donor.shape, np.uint8)
        ends = []
        for side in donor.shape:
            middle, half = generator.uniform(0, side), part * side / 2
            ends.append(slice(max(round(middle - half), 0), max(round(middle + half), 0)))
        chosen[tuple(ends)] = 1
        return chosen


class ClassMix(Mixing):
    """Half of the donor's classes, rounded down (Olsson et al., 2021, "ClassMix", on true masks, not predicted ones).

    Void is not a class: a donor's void pixels are never taken, and a donor of one class gives nothing.
    """

    def region(self, donor: Mask, generator: np.random.Generator) -> Mask:
        """Draws classes and takes all of their pixels."""
        void = void_of(donor)
        present = np.flatnonzero(cv2.calcHist([donor], [0], None, [void], [0, void]))
        chosen = np.zeros(void + 1, np.uint8)
        chosen[generator.choice(present, len(present) // 2, replace=False)] = 1
        return as_uint8(cv2.LUT(donor, chosen))
