"""The one table that says what a magnitude in 0 .. 1 means for each transformation."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from trainables.registry import table


@dataclass(frozen=True)
class Magnitude:
    """How a magnitude becomes the limit within which a transformation draws, in its own unit.

    A transformation draws its strength uniformly (the zoom log-uniformly) between no effect and the limit, so that a
    magnitude bounds the change and does not fix it.

    Attributes:
        quantity: What the limit limits.
        at_zero: Limit at magnitude 0: no effect.
        at_one: Limit at magnitude 1: the strongest that is still sensible.
        default: Magnitude where a policy gives none.
        text: Format of a limit with its unit.
        reason: Why `at_one`.
        scale: Linear or geometric between the two ends.
        whole: Whether limits are whole numbers.
    """

    quantity: str
    at_zero: float
    at_one: float
    default: float
    text: str
    reason: str
    scale: Literal["linear", "geometric"] = "linear"
    whole: bool = False

    def limit(self, magnitude: float) -> float:
        """The limit in the transformation's own unit at a magnitude in 0 .. 1."""
        if self.scale == "geometric":
            value = self.at_zero * (self.at_one / self.at_zero) ** magnitude
        else:
            value = self.at_zero + (self.at_one - self.at_zero) * magnitude
        return float(round(value) if self.whole else value)

    def of_limit(self, limit: float) -> float:
        """The magnitude that gives a limit: the inverse of `limit`; NaN for a limit that no magnitude gives."""
        if self.scale == "linear":
            return (limit - self.at_zero) / (self.at_one - self.at_zero)
        ratio = limit / self.at_zero
        return math.log(ratio) / math.log(self.at_one / self.at_zero) if ratio > 0 else math.nan

    def describe(self, magnitude: float) -> str:
        """The limit at a magnitude as a person reads it, e.g. `±10°`."""
        return self.text.format(self.limit(magnitude))


MAGNITUDES: dict[str, Magnitude] = table({
    "scale_crop": Magnitude(
        "zoom factor, in and out", 1, 3, 0.37, "≤{:.2f}×", "DeepLab zooms to 2; beyond 3 little but sky is left",
        scale="geometric",
    ),
    "rotate": Magnitude("angle", 0, 30, 0.33, "±{:.3g}°", "RandAugment's"),
    "shift": Magnitude("share of the side", 0, 0.3, 0.33, "±{:.0%}", "beyond, half of the image is void"),
    "shadow": Magnitude("share of the light taken", 0, 0.7, 0.5, "≤{:.0%}", "the sky lights what the sun does not"),
    "fog": Magnitude("optical depth at the far end", 0, 2, 0.4, "≤{:.2g}", "at 2 a seventh of the contrast is left"),
    "rain": Magnitude("streaks", 0, 600, 0.33, "≤{:.0f}", "a downpour"),
    "glare": Magnitude("veil at its centre", 0, 0.9, 0.5, "≤{:.0%}", "at 1 the centre is white"),
    "brightness": Magnitude("change of the factor", 0, 0.9, 0.33, "±{:.0%}", "RandAugment's factors, 0.1 to 1.9"),
    "contrast": Magnitude("change of the factor", 0, 0.9, 0.33, "±{:.0%}", "RandAugment's factors, 0.1 to 1.9"),
    "saturation": Magnitude("change of the factor", 0, 0.9, 0.33, "±{:.0%}", "RandAugment's factors, 0.1 to 1.9"),
    "hue": Magnitude("angle on the colour circle", 0, 36, 0.3, "±{:.3g}°", "SSD's; beyond, skin and grass turn odd"),
    "gamma": Magnitude(
        "exponent, or one over it", 1, 2, 0.38, "≤{:.2f}", "squaring hides what lies in shadow", scale="geometric"
    ),
    "blur": Magnitude("standard deviation", 0.1, 4, 0.23, "σ≤{:.2g} px", "beyond, thin classes disappear"),
    "noise": Magnitude("standard deviation", 0, 0.2, 0.25, "σ≤{:.0%}", "of full scale; a sensor at night"),
    "jpeg": Magnitude("lowest quality", 100, 10, 0.67, "quality≥{:.0f}", "below 10 blocks replace shapes", whole=True),
    "dropout": Magnitude("side of a rectangle", 0, 0.5, 0.5, "≤{:.0%}", "four of them hide most of the image"),
    "trivial": Magnitude("share of each range", 0, 1, 1.0, "≤{:.0%} of each range", "nothing is left to widen"),
})  # fmt: skip
"""Of every transformation that has a magnitude; one from elsewhere brings its own (`transformation`)."""
