"""Whether classes that few training images have are segmented worse: a comparison between classes.

The frequency of a class is one number for all of its components, so that a class is the unit: however many components
there are, ten classes are ten observations. What else sets classes apart goes into the scatter around the line.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy import special, stats

LEAST_CLASSES = 10
"""Classes for a line through them: ten for one slope (Harrell, "Regression Modeling Strategies", 2001, section 4.4)."""

Floats = npt.NDArray[np.float64]


def can_tell(frequency: Floats) -> bool:
    """Whether there are enough classes, and of enough different frequencies.

    Args:
        frequency: Share of the training images that have each class that is compared, shape (C,).
    """
    ranks = stats.rankdata(frequency) / max(1, len(frequency))
    return len(frequency) >= LEAST_CLASSES and bool(np.subtract(*np.quantile(ranks, (0.9, 0.1))) > 0)


def effect_between_classes(
    frequency: Floats, levels: Floats, *, level: float, draws: npt.NDArray[np.int64]
) -> tuple[float, float, float]:
    """What the IoU gains from the class at the 10th percentile of frequency to that at the 90th.

    Least squares of the classes' levels on their mid-ranks.

    Args:
        frequency: Of each class, shape (C,).
        levels: IoU of each class, other factors being equal, shape (C,).
        level: Of the interval.
        draws: How often each class counts in replicates, shape (R, C).

    Returns:
        The effect; half the width of its interval (Student's t with C - 2 degrees of freedom); the share of the
        replicates with the same sign and at least half the size.
    """
    classes = len(frequency)
    ranks = (stats.rankdata(frequency) - 0.5) / classes - 0.5
    span = float(np.quantile(ranks, 0.9) - np.quantile(ranks, 0.1))
    line = stats.linregress(ranks, levels)
    half = float(special.stdtrit(classes - 2, (1 + level) / 2) * line.stderr)
    weights = draws / draws.sum(axis=1, keepdims=True)
    across = ranks - (weights @ ranks)[:, None]
    spread = (weights * across**2).sum(axis=1)
    slopes = np.divide((weights * across * levels).sum(axis=1), spread, out=np.zeros(len(draws)), where=spread > 1e-12)
    stable = float(np.mean((np.sign(slopes) == np.sign(line.slope)) & (np.abs(slopes) >= abs(line.slope) / 2)))
    return float(line.slope) * span, half * span, stable
