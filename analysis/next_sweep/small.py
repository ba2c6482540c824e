"""A larger input where small things lose most."""

from __future__ import annotations

import math

import numpy as np

from analysis.failures.split import SplitFailures
from analysis.kept import Evaluation
from analysis.next_sweep.proposal import Proposal, Searched
from analysis.scores import units_of
from analysis.statistics import confidence_interval
from analysis.strengths import SIZES
from search_spaces.core.parameter import choice
from trainables.config import format_size, parse_size
from trainables.metrics import Floats

SMALL_SHARE = 0.5
"""Small components dominate where the interval of their share of what missing pixels cost lies above this."""
SMALL_AREA = next(most for name, _, most in SIZES if name == "small")
LARGER = (1.25, 1.5)
"""Sides of the inputs that are proposed, over the winner's."""


def larger_input(searched: Searched, failures: SplitFailures, evaluation: Evaluation) -> list[Proposal]:
    """A larger input where small components lose most of what missing pixels cost.

    Nothing where the user holds the size, or where the space has sizes larger than the winner's already.
    """
    size = searched.winner.get("image_size")
    if size is None or searched.is_held("image_size"):
        return []
    height, width = parse_size(str(size))
    now = searched.space.parameter("image_size")
    if now is not None and any(math.prod(parse_size(str(one))) > height * width for one in now.choices):
        return []
    small, total = lost_by_size(failures)
    if not total.sum():
        return []

    def share(weights: Floats) -> Floats:
        lost = weights @ total
        return np.divide(weights @ small, lost, out=np.full_like(lost, np.nan), where=lost > 0)

    interval = confidence_interval(share, units_of(evaluation))
    if not interval.low > SMALL_SHARE:
        return []
    sizes = [format_size((_by_eight(height * factor), _by_eight(width * factor))) for factor in LARGER]
    usual = str(now.default) if now is not None else str(searched.common("image_size", format_size((height, width))))
    choices = tuple(dict.fromkeys([usual, format_size((height, width)), *sizes]))
    reason = "the winner's size, and larger ones for small components"
    why = (
        f"components below {SMALL_AREA:.0%} of the image lose {small.sum() / total.sum():.2f} "
        f"[{interval.low:.2f}, {interval.high:.2f}] of the IoU that missing pixels of things and stuff cost"
    )
    parameter = choice("image_size", choices, default=usual, role="scientific", reason=reason)
    return [Proposal(f"inputs of {' and '.join(sizes)}", why, (parameter,), {"image_size": sizes[0]})]


def lost_by_size(failures: SplitFailures) -> tuple[Floats, Floats]:
    """The mIoU that missing pixels of true components cost in each image: of small ones, and of all.

    A missing pixel of class c takes 1 / union_c from the IoU of c. Both have shape (N,) and are sums over classes.
    """
    confusion = failures.confusion
    unions = confusion.sum(axis=0) + confusion.sum(axis=1) - np.diag(confusion)
    small, total = np.zeros(len(failures.images)), np.zeros(len(failures.images))
    for place, image in enumerate(failures.images):
        own = image.components
        of_truth = own.is_true
        missing = own.pixels[of_truth] * (1 - own.recall[of_truth])
        lost = missing / np.maximum(1, unions[own.class_id[of_truth]])
        is_small = own.pixels[of_truth] < SMALL_AREA * image.image_pixels
        small[place], total[place] = lost[is_small].sum(), lost.sum()
    return small, total


def _by_eight(side: float) -> int:
    return max(32, round(side / 8) * 8)
