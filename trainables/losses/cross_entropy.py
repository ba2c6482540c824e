"""Losses that judge each pixel on its own: cross-entropy and what re-weights it."""

from __future__ import annotations

import math
from typing import Annotated

import torch
from torch import Tensor
from torch.nn import functional as F

from trainables.data.void import void_id
from trainables.losses import LOSSES
from trainables.losses.base import ClassPixels, Loss, known_pixels
from trainables.registry import Choice, Range, Search

Smoothing = Annotated[float, Range(0, 0.5), Search(0.0, 0.2, reason="0 is off; Szegedy et al. used 0.1")]


def class_weights(class_pixels: Tensor, weighting: str, *, power: float, volume: float) -> Tensor:
    """Weights that are larger for rarer classes, scaled so that a random training pixel weighs 1.

    `inverse_frequency`: proportional to (1 / frequency) ** power. power 1 makes every class weigh the same in sum, 0.5
    is the square root (Mahajan et al., "Exploring the Limits of Weakly Supervised Pretraining", 2018), 0 no weighting.

    `effective_number`: proportional to 1 / `effective_number` (Cui et al., 2019) with N = volume * all counted pixels.

    A class without any training pixel has no frequency: it gets the largest weight of the others, which matters only if
    the loss is evaluated on images where it occurs.

    Args:
        class_pixels: Pixels of each class, shape (C,).
        weighting: `inverse_frequency` or `effective_number`.
        power: 0 .. 1, of `inverse_frequency`.
        volume: > 0, of `effective_number`.

    Returns:
        float32 of shape (C,), all finite and > 0; all ones where no pixel was counted at all.
    """
    pixels = class_pixels.double()
    total, present = pixels.sum(), pixels > 0
    if not bool(present.any()):
        return torch.ones(len(pixels))
    known = pixels.where(present, pixels[present].min())
    weights = known**-power if weighting == "inverse_frequency" else 1 / effective_number(known, volume * total)
    return (weights / (pixels / total * weights).sum()).float()


def effective_number(samples: Tensor, prototypes: Tensor) -> Tensor:
    """How many of a class's samples are not near-copies of others: (1 - beta ** n) / (1 - beta), beta = 1 - 1 / N.

    Cui et al., "Class-Balanced Loss Based on Effective Number of Samples", 2019, equations 2 and 4. It is about n for
    n far below N and about N for n far above.

    Args:
        samples: n, shape (C,), float64.
        prototypes: N, the volume of distinct samples; at least 1 is used.

    Returns:
        float64 of shape (C,), 1 .. min(n, N) where n >= 1.
    """
    prototypes = prototypes.clamp(min=1)
    return -torch.expm1(samples * torch.log1p(-1 / prototypes)) * prototypes


def _pixel_losses(logits: Tensor, target: Tensor) -> Tensor:
    """The negative log-likelihood of each pixel, shape (N, H, W); 0 where void."""
    return F.cross_entropy(logits, target, ignore_index=void_id(logits.shape[1]), reduction="none")


def _per_pixel(total: Tensor, counted: Tensor) -> Tensor:
    """A sum over pixels divided by how many of them count."""
    mean: Tensor = total / torch.count_nonzero(counted).clamp(min=1)
    return mean


@LOSSES.register("cross_entropy")
class CrossEntropy(Loss):
    """Mean negative log-likelihood per pixel: every pixel counts the same, so large classes dominate.

    Args:
        class_pixels: Not used.
        label_smoothing: Share of the truth that is spread evenly over all classes (Szegedy et al., "Rethinking the
            Inception Architecture", 2016, section 7), as in `torch.nn.functional.cross_entropy`.
    """

    def __init__(self, class_pixels: ClassPixels, *, label_smoothing: Smoothing = 0.0) -> None:
        super().__init__()
        self.label_smoothing = label_smoothing

    def value(self, logits: Tensor, target: Tensor) -> Tensor:
        """See `Loss.value`."""
        total = F.cross_entropy(
            logits, target, ignore_index=void_id(logits.shape[1]), reduction="sum", label_smoothing=self.label_smoothing
        )
        return _per_pixel(total, known_pixels(logits, target))


@LOSSES.register("weighted_cross_entropy")
class WeightedCrossEntropy(Loss):
    """Cross-entropy in which pixels of classes that are rare in the training split weigh more.

    The mean divides by the weights of the pixels that count, as torch's does. See `class_weights`.

    Args:
        class_pixels: Asked for the counts.
        weighting: `inverse_frequency`, tempered by `power`, or `effective_number`, capped by `volume`.
        power: Of the inverse frequency: 0 is no weighting, 1 the full inverse. Not used by `effective_number`.
        volume: N of Cui et al. as a share of the training split's counted pixels: classes with a larger share than it
            weigh about the same, those below in inverse proportion to their share. Not used by `inverse_frequency`. (A
            beta of the paper, 0.9 to 0.9999, is N = 10 to 10,000 images; each class has millions of pixels, and all
            weights would be equal.)
        label_smoothing: As in `cross_entropy`; the share spread over the classes is weighted by theirs.
    """

    class_weights: Tensor

    def __init__(
        self,
        class_pixels: ClassPixels,
        *,
        weighting: Annotated[
            str,
            Choice(("inverse_frequency", "effective_number")),
            Search(reason="tempered by a power, or capped"),
        ] = "inverse_frequency",
        power: Annotated[
            float,
            Range(0, 1),
            Search(
                0.25,
                1.0,
                when=("weighting", "inverse_frequency"),
                reason="0 is plain cross-entropy, 1 the full inverse frequency",
            ),
        ] = 0.5,
        volume: Annotated[
            float,
            Range(0, 1, exclusive_low=True),
            Search(
                1e-3,
                0.1,
                log=True,
                when=("weighting", "effective_number"),
                reason="classes above this share of the pixels weigh the same",
            ),
        ] = 0.01,
        label_smoothing: Smoothing = 0.0,
    ) -> None:
        super().__init__()
        self.weighting = weighting
        self.power = power
        self.volume = volume
        self.label_smoothing = label_smoothing
        weights = class_weights(class_pixels(), self.weighting, power=self.power, volume=self.volume)
        self.register_buffer("class_weights", weights, persistent=False)

    def value(self, logits: Tensor, target: Tensor) -> Tensor:
        """See `Loss.value`."""
        total = F.cross_entropy(
            logits,
            target,
            weight=self.class_weights,
            ignore_index=void_id(logits.shape[1]),
            reduction="sum",
            label_smoothing=self.label_smoothing,
        )
        counted = known_pixels(logits, target)
        weight_sum = (self.class_weights[target.where(counted, 0)] * counted).sum()
        return total / weight_sum.where(weight_sum > 0, 1.0)


@LOSSES.register("focal")
class Focal(Loss):
    """Cross-entropy in which pixels already right count less: mean of -(1 - p) ** gamma * log p over counted pixels.

    Lin et al., "Focal Loss for Dense Object Detection", 2017, equation 4 (without alpha), with the softmax probability
    p of the true class.

    Args:
        class_pixels: Not used.
        gamma: How much; 0 is cross-entropy.
    """

    def __init__(
        self,
        class_pixels: ClassPixels,
        *,
        gamma: Annotated[float, Range(0, 5), Search(0.5, 5.0, reason="Lin et al. tried 0.5 to 5")] = 2.0,
    ) -> None:
        super().__init__()
        self.gamma = gamma

    def value(self, logits: Tensor, target: Tensor) -> Tensor:
        """See `Loss.value`."""
        losses = _pixel_losses(logits, target)
        # The clamp stops the gradient where p is 1: below gamma 1 the power's slope there is infinite.
        turned_down = (-torch.expm1(-losses)).clamp(min=1e-8) ** self.gamma
        return _per_pixel((turned_down * losses).sum(), known_pixels(logits, target))


@LOSSES.register("ohem_cross_entropy")
class OhemCrossEntropy(Loss):
    """Mean cross-entropy of the hard pixels alone: those whose true class has a probability below a threshold.

    Online hard example mining (Shrivastava et al., "Training Region-based Object Detectors with Online Hard Example
    Mining", 2016) as the segmentation code bases do it over the pixels of a batch: if too few are below the threshold,
    the hardest `min_kept` of all; pixels that tie with the last of these are kept too.

    Args:
        class_pixels: Not used.
        threshold: Pixels with a smaller probability of their class are hard; 0 leaves the choice to `min_kept`.
        min_kept: Share of the counted pixels that is kept at least; always one pixel or more.
    """

    def __init__(
        self,
        class_pixels: ClassPixels,
        *,
        threshold: Annotated[float, Range(0, 1), Search(0.5, 0.9, reason="what counts as hard; 0.7 is usual")] = 0.7,
        min_kept: Annotated[
            float,
            Range(0, 1),
            Search(0.02, 0.5, log=True, reason="share of pixels that trains at least; 1/16 is usual"),
        ] = 0.0625,
    ) -> None:
        super().__init__()
        self.threshold = threshold
        self.min_kept = min_kept

    def value(self, logits: Tensor, target: Tensor) -> Tensor:
        """See `Loss.value`."""
        losses = _pixel_losses(logits, target)
        kept = self._hard(losses.detach(), known_pixels(logits, target))
        return (losses * kept).sum() / torch.count_nonzero(kept).clamp(min=1)

    def _hard(self, losses: Tensor, counted: Tensor) -> Tensor:
        least = max(1, math.ceil(self.min_kept * int(torch.count_nonzero(counted))))
        last = losses.flatten().kthvalue(losses.numel() - least + 1).values
        easy = (torch.exp(-losses) >= self.threshold) & (losses < last)
        return counted & ~easy  # NaN is not easy: it must not vanish
