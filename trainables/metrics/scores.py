"""Scores of pixels, rounded and counted: what their average precision is computed from.

A pixel's score for a class is the log-odds of its softmax probability, from where they are if all logits are equal:

    score = log(p / (1 - p)) + log(C - 1) = logit - log(mean of exp(the other logits))

which ranks pixels as p does. It is rounded to float16, 10 bits after the leading one, so that it is
exact to 0.1% whatever the scale of a model's logits, and those numbers are counted: `SCORE_CELLS` of them over the
split, and `SCORE_LEVELS`, of 5 bits, for each image. docs/METRICS.md says what that costs.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from trainables.data.void import void_id
from trainables.metrics.image_rows import ImageRows

SCORE_CELLS = 2**16
"""Scores that are told apart over a whole split: those of float16."""

SCORE_LEVELS = 2**11
"""Scores that are told apart in each image: those of float16, without its last five bits."""

DOUBLE_BITS = 52
"""A softmax in double precision divides by 1 and the others' shares: their sum is a multiple of 2^-52."""

CERTAIN = 36.8
"""Log-odds of a probability that is 1 in double precision: the others' share is below 2^-53."""

FEW_DOUBLES = 30.0
"""Log-odds from which on so few numbers are left below 1 in double precision (some 400) that they matter."""

BLOCK_PIXELS = 2**13
"""Pixels of an image whose scores are worked on at once: with all classes they fit into a processor's cache."""

STRIPE_BYTES = 2**25
"""Rounded scores that are held until they are counted: 32 MiB."""


class ScoreHistogram:
    """Counts how many pixels of each class and how many others got each rounded score.

    `totals` counts over all images, as finely as the average precision of the split needs it (`average_precision`);
    `value` counts for each image, more coarsely: how the average precision moves if images are left out.

    Attributes:
        likeliest: Softmax probability of the predicted class of each pixel of the last image, float32 of shape (H, W):
            it comes with the scores, and `RegionConfidence` needs it.
    """

    def __init__(self, classes: int) -> None:
        self.classes = classes
        self.likeliest = torch.empty(0, 0)
        self._totals = np.zeros((classes, 2, SCORE_CELLS), dtype=np.int64)
        self._histograms = ImageRows((classes, 2, SCORE_LEVELS), np.int32)

    def process(self, image_id: str, logits: Tensor, prediction: Tensor, target: Tensor) -> None:
        """See `Collector`."""
        every = torch.zeros((self.classes, SCORE_CELLS), dtype=torch.int32, device=target.device)
        own: dict[int, Tensor] = {}
        self.likeliest = torch.empty(target.shape, device=target.device)
        for rows in _stripes(target.shape, self.classes):
            rounded = _rounded(logits[:, rows], prediction[rows], self.likeliest[rows].view(-1))
            _count(rounded, target[rows].reshape(-1), every, own)
        levels = np.zeros((self.classes, 2, SCORE_LEVELS), dtype=np.int32)
        # Few classes are in an image; of the others all pixels are others.
        for class_id, counts in own.items():
            every[class_id] -= counts
            levels[class_id, 0] = _levels(counts).cpu().numpy()
            self._totals[class_id, 0] += counts.cpu().numpy()
        levels[:, 1] = _levels(every).cpu().numpy()
        self._totals[:, 1] += every.cpu().numpy()
        self._histograms.append(levels)

    def totals(self) -> npt.NDArray[np.int64]:
        """Counts over all images, shape (C, 2, SCORE_CELLS): pixels of the class first, then the others."""
        return self._totals

    def value(self) -> npt.NDArray[np.int32]:
        """Counts of each image that was not taken yet, shape (N, C, 2, SCORE_LEVELS)."""
        return self._histograms.value()

    def take(self) -> npt.NDArray[np.int32]:
        """The same, which are then no longer held."""
        return self._histograms.take()


def score_cells(logits: Tensor) -> Tensor:
    """The rounded score of every pixel and class.

    Args:
        logits: Class scores before softmax, shape (C, ...).

    Returns:
        int32 tensor of the same shape, 0 .. SCORE_CELLS - 1; higher is more probable.
    """
    winner = logits.argmax(dim=0)
    return _cells(_rounded(logits, winner, torch.empty(winner.numel(), device=logits.device))).view(logits.shape)


def _scores(logits: Tensor, likeliest: Tensor, probability: Tensor) -> Tensor:
    """Scores (see the module) of logits (C, P), float32 of the same shape; probabilities of 1 are all `CERTAIN`.

    Args:
        logits: Float32.
        likeliest: The class of the largest logit, int64 of shape (P,).
        probability: Gets that class's softmax probability, float32 of shape (P,).
    """
    relative = logits - logits.amax(dim=0)
    shares = relative.exp().scatter_(0, likeliest[None], 0.0)
    # Of the likeliest class the others' sum is taken itself: a difference from 1 would have lost its small numbers.
    rest = shares.sum(dim=0)
    whole = 1 + rest
    torch.reciprocal(whole, out=probability)
    others = torch.sub(whole, shares, out=shares).scatter_(0, likeliest[None], rest[None])
    log_odds = relative.sub_(others.log_())
    log_odds.scatter_(0, likeliest[None], _as_double(rest.log_())[None])
    return log_odds.add_(math.log(max(1, len(logits) - 1)))


def _as_double(log_rest: Tensor) -> Tensor:
    """Log-odds of probabilities as they are in double precision, for the logarithm of the others' share over it."""
    missing = torch.round(torch.exp(log_rest + DOUBLE_BITS * math.log(2)))
    as_double = (DOUBLE_BITS * math.log(2) - missing.log()).clamp_(max=CERTAIN)
    return torch.where(log_rest > -FEW_DOUBLES, -log_rest, as_double)


def _rounded(logits: Tensor, likeliest: Tensor, probability: Tensor) -> Tensor:
    """The rounded scores of logits (C, ...) by their places, 0 in the middle: int16 of shape (C, P); see `_scores`."""
    flat, winner = logits.reshape(len(logits), -1), likeliest.reshape(-1).long()
    rounded = torch.empty(flat.shape, dtype=torch.int16, device=flat.device)
    for start in range(0, len(winner), BLOCK_PIXELS):
        block = slice(start, start + BLOCK_PIXELS)
        bits = _scores(flat[:, block].float(), winner[block], probability[block]).half().view(torch.int16)
        # Without their sign the bits of float16 rise as the numbers do.
        rounded[:, block] = (bits & 0x7FFF).bitwise_xor_(bits >> 15)
    return rounded


def _cells(rounded: Tensor) -> Tensor:
    """Places of rounded scores in a histogram by rising score, int32 of the same shape."""
    return rounded.int().add_(SCORE_CELLS // 2)


def _levels(counts: Tensor) -> Tensor:
    """Counts of scores (..., SCORE_CELLS) as those of the coarser ones, int32 of shape (..., SCORE_LEVELS)."""
    return counts.view(*counts.shape[:-1], SCORE_LEVELS, -1).sum(dim=-1, dtype=torch.int32)


def _count(rounded: Tensor, truth: Tensor, every: Tensor, own: dict[int, Tensor]) -> None:
    """Adds a stripe's counts: of all pixels that are not void, and of those of the class itself, by class."""
    known = truth != void_id(len(rounded))
    void = torch.nonzero(~known)[:, 0]
    for class_id, of_class in enumerate(rounded):
        every[class_id] += torch.bincount(_cells(of_class), minlength=SCORE_CELLS).int()
    if len(void):
        for class_id, of_class in enumerate(rounded[:, void]):
            every[class_id] -= torch.bincount(_cells(of_class), minlength=SCORE_CELLS).int()
    true = torch.where(known, truth, 0).long()
    found = _cells(rounded.gather(0, true[None])[0])
    for class_id in torch.unique(truth[known]).tolist():
        counts = torch.bincount(found[known & (truth == class_id)], minlength=SCORE_CELLS).int()
        own[class_id] = own[class_id] + counts if class_id in own else counts


def _stripes(shape: torch.Size, classes: int) -> Iterator[slice]:
    """Rows of an image (H, W), so many that their rounded scores take at most `STRIPE_BYTES`."""
    height, width = shape
    rows = max(1, STRIPE_BYTES // (2 * classes * max(width, 1)))
    for top in range(0, height, rows):
        yield slice(top, top + rows)
