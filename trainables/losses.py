"""What a trial minimises: `LOSSES`, each void-safe and computed in float32.

A loss takes logits of shape (N, C, H, W) and class ids of shape (N, H, W), where `VOID` marks pixels that count
nowhere: they add nothing to the value and receive a gradient of exactly zero. A batch that is void altogether costs
exactly 0.0 (its mean over no pixel would be NaN).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

import torch
from torch import Tensor
from torch.nn import functional as F

from trainables.data.base import VOID
from trainables.registry import Range, Registry

Loss = Callable[[Tensor, Tensor], Tensor]
"""`(logits (N, C, H, W), target int64 (N, H, W)) -> scalar float32 tensor`, >= 0."""

ClassPixels = Callable[[], Tensor]
"""Counts the training split's pixels of each class, int64 of shape (C,); called only by losses that need it."""

LOSSES: Registry[Callable[..., Loss]] = Registry("loss")
"""Factories `(class_pixels, *, ...) -> Loss`."""


def mean_cross_entropy(logits: Tensor, target: Tensor, class_weights: Tensor | None = None) -> Tensor:
    """The (weighted) mean negative log-likelihood of the pixels that are not void.

    Equals `torch.nn.functional.cross_entropy(..., reduction="mean")` wherever at least one pixel counts.

    Args:
        logits: Scores of shape (N, C, H, W).
        target: Class ids or `VOID`, shape (N, H, W).
        class_weights: Positive weights of shape (C,), or None for equal ones. The mean divides by the weights of the
            pixels that count.

    Returns:
        A float32 scalar; 0.0 if all pixels are void.
    """
    total = F.cross_entropy(logits.float(), target, weight=class_weights, ignore_index=VOID, reduction="sum")
    counted = target != VOID
    if class_weights is None:
        return total / counted.sum().clamp(min=1)
    weight_sum = (class_weights[target.where(counted, 0)] * counted).sum()
    return total / weight_sum.where(weight_sum > 0, 1.0)


def inverse_frequency_weights(class_pixels: Tensor, power: float) -> Tensor:
    """Class weights proportional to (1 / frequency) ** power, scaled so that a random training pixel weighs 1.

    power 1 is inverse-frequency weighting, 0.5 its square root (Mahajan et al., "Exploring the Limits of Weakly
    Supervised Pretraining", 2018), 0 no weighting. With power 1 the weights of classes in a ratio of 1 : 10,000 differ
    by as much, and a handful of pixels steers training; the square root tempers that. A class without any training
    pixel has no frequency: it gets the largest weight of the others, which matters only if the loss is evaluated on
    images where it occurs.

    Args:
        class_pixels: Pixels of each class, shape (C,).
        power: 0 .. 1.

    Returns:
        float32 of shape (C,), all finite and > 0; all ones where no pixel was counted at all.
    """
    frequency = class_pixels.double() / class_pixels.sum().clamp(min=1)
    present = frequency > 0
    if not bool(present.any()):
        return torch.ones(len(class_pixels))
    weights = torch.where(present, frequency, frequency[present].min()) ** -power
    return (weights / (frequency * weights).sum()).float()


def soft_dice_loss(logits: Tensor, target: Tensor) -> Tensor:
    """One minus the mean soft Dice coefficient of the classes present in the batch's target.

    For class c with softmax probability p and one-hot truth y over all pixels of the batch that are not void:
    `dice_c = 2 sum(p y) / (sum p + sum y)` (Drozdzal et al., "The Importance of Skip Connections in Biomedical Image
    Segmentation", 2016, without smoothing, which only absent classes would need). Classes absent from the target are
    left out: their coefficient is 0 whatever is predicted, and mass wrongly put on them is already missing from the
    class that is there.

    Returns:
        A float32 scalar in 0 .. 1; 0.0 if all pixels are void.
    """
    counted = (target != VOID).unsqueeze(1)
    probabilities = logits.float().softmax(dim=1) * counted
    classes = torch.arange(logits.shape[1], device=logits.device).view(1, -1, 1, 1)
    truth = (target.unsqueeze(1) == classes).float()
    pixels = (0, 2, 3)
    overlap, truth_size = (probabilities * truth).sum(pixels), truth.sum(pixels)
    dice = 2 * overlap / (probabilities.sum(pixels) + truth_size).clamp(min=1)
    present = truth_size > 0
    missing = ((1 - dice) * present).sum()
    return missing / present.sum().clamp(min=1)


@LOSSES.register("cross_entropy")
def cross_entropy(class_pixels: ClassPixels) -> Loss:
    """Mean negative log-likelihood per pixel: every pixel counts the same, so large classes dominate."""
    return mean_cross_entropy


@LOSSES.register("weighted_cross_entropy")
def weighted_cross_entropy(class_pixels: ClassPixels, *, power: Annotated[float, Range(0, 1)] = 0.5) -> Loss:
    """Cross-entropy with each class weighted by (1 / its frequency in the training split) ** power."""
    weights = inverse_frequency_weights(class_pixels(), power)

    def loss(logits: Tensor, target: Tensor) -> Tensor:
        return mean_cross_entropy(logits, target, weights.to(logits.device))

    return loss


@LOSSES.register("focal")
def focal(class_pixels: ClassPixels, *, gamma: Annotated[float, Range(0, 5)] = 2.0) -> Loss:
    """Cross-entropy with pixels already right turned down: mean of -(1 - p) ** gamma * log p over counted pixels.

    Lin et al., "Focal Loss for Dense Object Detection", 2017, equation 4 (without alpha). gamma 0 is cross-entropy.
    """

    def loss(logits: Tensor, target: Tensor) -> Tensor:
        counted = target != VOID
        log_probability = logits.float().log_softmax(dim=1)
        log_p = log_probability.gather(1, target.where(counted, 0).unsqueeze(1)).squeeze(1)
        # The clamp stops the gradient where p is 1: below gamma 1 the power's slope there is infinite.
        turned_down = (-torch.expm1(log_p)).clamp(min=1e-8) ** gamma
        per_pixel = (-turned_down * log_p).where(counted, 0.0)
        return per_pixel.sum() / counted.sum().clamp(min=1)

    return loss


@LOSSES.register("dice")
def dice(class_pixels: ClassPixels) -> Loss:
    """One minus the mean soft Dice of the classes present in the batch: every class counts the same."""
    return soft_dice_loss


@LOSSES.register("cross_entropy_dice")
def cross_entropy_dice(class_pixels: ClassPixels, *, dice_weight: Annotated[float, Range(0, 1)] = 0.5) -> Loss:
    """(1 - dice_weight) * cross-entropy + dice_weight * dice: dice's even hand with cross-entropy's steady gradient."""

    def loss(logits: Tensor, target: Tensor) -> Tensor:
        cross_entropy_part = (1 - dice_weight) * mean_cross_entropy(logits, target)
        return cross_entropy_part + dice_weight * soft_dice_loss(logits, target)

    return loss
