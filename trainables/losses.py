"""What a trial minimises: `LOSSES`, each void-safe and computed in float32. Formulae and advice: docs/LOSSES.md.

A loss takes logits of shape (N, C, H, W) and class ids of shape (N, H, W), where `VOID` marks pixels that count
nowhere: they add nothing to the value and receive a gradient of exactly zero. A batch that is void altogether costs
exactly 0.0 (its mean over no pixel would be NaN). `A+B` is the weighted sum of any two of them.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from trainables.data.base import VOID
from trainables.registry import Choice, Parameter, Range, Registry, Scalar, parameters_of

ClassPixels = Callable[[], Tensor]
"""Counts the training split's pixels of each class, int64 of shape (C,); called only by losses that need it."""


class Loss(nn.Module, ABC):
    """A loss of logits and class ids.

    A subclass's keyword-only parameters are its hyperparameters. Each is kept in an attribute of its own name, which
    is the one that the computation reads, so that `applied` tells what is really minimised.
    """

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """Computes the loss in float32, under autocast too.

        Args:
            logits: Scores of shape (N, C, H, W), of any floating type and memory format.
            target: Class ids or `VOID`, int64 of shape (N, H, W).

        Returns:
            A float32 scalar, >= 0 up to rounding; exactly 0.0, with gradients of zero, if all pixels are void.
        """
        with torch.autocast(logits.device.type, enabled=False):
            return self.value(logits.float(), target)

    @abstractmethod
    def value(self, logits: Tensor, target: Tensor) -> Tensor:
        """The loss in the logits' own precision; shapes as in `forward`."""

    def applied(self) -> dict[str, Scalar]:
        """The hyperparameters in use, read back from what was built."""
        return {name: getattr(self, name) for name in parameters_of(type(self))}


def _resolve_sum(name: str) -> _SumFactory | None:
    first, _, second = name.partition("+")
    if first == second or not {first, second} <= set(LOSSES.names()):
        return None
    return _SumFactory(LOSSES.get(first), LOSSES.get(second))


LOSSES: Registry[Callable[..., Loss]] = Registry(
    "loss",
    resolve=_resolve_sum,
    pattern="A+B, a weighted sum of two different ones",
    example="cross_entropy+dice",
)
"""Factories `(class_pixels, *, ...) -> Loss`."""


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
    """How many of a class's samples are no near-copies of others: (1 - beta ** n) / (1 - beta), beta = 1 - 1 / N.

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
    return F.cross_entropy(logits, target, ignore_index=VOID, reduction="none")


def _per_pixel(total: Tensor, target: Tensor) -> Tensor:
    """A sum over pixels divided by how many are not void."""
    mean: Tensor = total / torch.count_nonzero(target != VOID).clamp(min=1)
    return mean


def _tversky_loss(logits: Tensor, target: Tensor, alpha: float, beta: float) -> Tensor:
    """One minus the mean soft Tversky index, over the batch's pixels, of the classes in its target."""
    counted = target != VOID
    classes = target.where(counted, 0)
    probabilities = logits.softmax(dim=1)
    predicted = (probabilities * counted.unsqueeze(1)).sum((0, 2, 3))
    right = probabilities.gather(1, classes.unsqueeze(1)).squeeze(1) * counted
    overlap, truth = _sum_by_class(torch.stack((right, counted.to(right.dtype))), classes, logits.shape[1])
    present = truth > 0
    size = overlap + alpha * (predicted - overlap) + beta * (truth - overlap)
    index = overlap / size.where(present, 1.0)
    mean: Tensor = ((1 - index) * present).sum() / torch.count_nonzero(present).clamp(min=1)
    return mean


def _sum_by_class(values: Tensor, classes: Tensor, n_classes: int) -> Tensor:
    """Sums values of shape (K, N, H, W) over the pixels of each class of (N, H, W); (K, C).

    Row by row at first: a running float32 sum over a whole batch loses the digits of what it adds.
    """
    rows = values.new_zeros(*values.shape[:3], n_classes)
    return rows.scatter_add(3, classes.expand_as(values), values).sum((1, 2))


@torch.no_grad()
def _lovasz_gradient(errors: Tensor, truth: Tensor, counted: Tensor) -> Tensor:
    """The derivative of the Lovász extension of one class's Jaccard loss with respect to its errors.

    Berman et al. (2018), algorithm 1: with the errors in falling order, each gets what the Jaccard loss grows by when
    its pixel joins the wrong ones. That is 1 / U for a pixel of the class and I / (U (U - 1)) for another, with I
    pixels of the class not yet wrong and U the union, each after the step; written so, nothing cancels. Once all pixels
    of the class are wrong the loss is 1 and grows no more: smaller errors need not be sorted.

    Args:
        errors: Shape (P,).
        truth: Which pixels are of the class, bool of shape (P,); at least one.
        counted: Which pixels are not void, bool of shape (P,).

    Returns:
        Shape (P,), >= 0; 0 where void.
    """
    reached = (counted & ~(errors < errors[truth].min())).nonzero().squeeze(1)  # NaN is reached: it must not vanish
    # Floats >= 0 are in the order of their bits, and integers are sorted several times as fast on a CPU.
    order = reached[errors[reached].float().view(torch.int32).argsort().flip(0)]
    wrong = truth[order]
    hits = wrong.cumsum(0)
    intersection = hits[-1] - hits
    union = hits[-1] + torch.arange(1, len(order) + 1, device=order.device) - hits
    steps = torch.where(wrong, 1 / union, intersection / union / (union - 1).clamp(min=1))
    return torch.zeros_like(errors).scatter_(0, order, steps.to(errors.dtype))


@LOSSES.register("cross_entropy")
class CrossEntropy(Loss):
    """Mean negative log-likelihood per pixel: every pixel counts the same, so large classes dominate.

    Args:
        class_pixels: Not used.
        label_smoothing: Share of the truth that is spread evenly over all classes (Szegedy et al., "Rethinking the
            Inception Architecture", 2016, section 7), as in `torch.nn.functional.cross_entropy`.
    """

    def __init__(self, class_pixels: ClassPixels, *, label_smoothing: Annotated[float, Range(0, 0.5)] = 0.0) -> None:
        super().__init__()
        self.label_smoothing = label_smoothing

    def value(self, logits: Tensor, target: Tensor) -> Tensor:
        """See `Loss.value`."""
        total = F.cross_entropy(
            logits, target, ignore_index=VOID, reduction="sum", label_smoothing=self.label_smoothing
        )
        return _per_pixel(total, target)


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
        weighting: Annotated[str, Choice(("inverse_frequency", "effective_number"))] = "inverse_frequency",
        power: Annotated[float, Range(0, 1)] = 0.5,
        volume: Annotated[float, Range(0, 1, exclusive_low=True)] = 0.01,
        label_smoothing: Annotated[float, Range(0, 0.5)] = 0.0,
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
            ignore_index=VOID,
            reduction="sum",
            label_smoothing=self.label_smoothing,
        )
        counted = target != VOID
        weight_sum = (self.class_weights[target.where(counted, 0)] * counted).sum()
        return total / weight_sum.where(weight_sum > 0, 1.0)


@LOSSES.register("focal")
class Focal(Loss):
    """Cross-entropy with pixels already right turned down: mean of -(1 - p) ** gamma * log p over counted pixels.

    Lin et al., "Focal Loss for Dense Object Detection", 2017, equation 4 (without alpha), with the softmax probability
    p of the true class.

    Args:
        class_pixels: Not used.
        gamma: How much; 0 is cross-entropy.
    """

    def __init__(self, class_pixels: ClassPixels, *, gamma: Annotated[float, Range(0, 5)] = 2.0) -> None:
        super().__init__()
        self.gamma = gamma

    def value(self, logits: Tensor, target: Tensor) -> Tensor:
        """See `Loss.value`."""
        losses = _pixel_losses(logits, target)
        # The clamp stops the gradient where p is 1: below gamma 1 the power's slope there is infinite.
        turned_down = (-torch.expm1(-losses)).clamp(min=1e-8) ** self.gamma
        return _per_pixel((turned_down * losses).sum(), target)


@LOSSES.register("dice")
class Dice(Loss):
    """One minus the mean soft Dice of the classes present in the batch: every class counts the same.

    For class c with softmax probability p and one-hot truth y over all pixels of the batch that are not void:
    `dice_c = 2 sum(p y) / (sum p + sum y)` (Drozdzal et al., "The Importance of Skip Connections in Biomedical Image
    Segmentation", 2016, without smoothing, which only absent classes would need). Classes absent from the target are
    left out: their coefficient is 0 whatever is predicted, and mass wrongly put on them is already missing from the
    class that is there.

    Args:
        class_pixels: Not used.
    """

    def __init__(self, class_pixels: ClassPixels) -> None:
        super().__init__()

    def value(self, logits: Tensor, target: Tensor) -> Tensor:
        """See `Loss.value`."""
        return _tversky_loss(logits, target, 0.5, 0.5)


@LOSSES.register("tversky")
class Tversky(Loss):
    """Dice with a price each for false alarms (alpha) and for misses (beta): beta above alpha finds more of a class.

    `tversky_c = TP / (TP + alpha FP + beta FN)` with the soft counts TP = sum(p y), FP = sum(p (1 - y)),
    FN = sum((1 - p) y) over the batch; one minus its mean over the classes present (Salehi et al., "Tversky Loss
    Function for Image Segmentation Using 3D Fully Convolutional Deep Networks", 2017, equation 2). Both 0.5 is dice,
    both 1 the soft Jaccard loss.

    Args:
        class_pixels: Not used.
        alpha: Weight of false positives; 0.3 with beta 0.7 was best in the paper.
        beta: Weight of false negatives.
    """

    def __init__(
        self,
        class_pixels: ClassPixels,
        *,
        alpha: Annotated[float, Range(0, 1, exclusive_low=True)] = 0.3,
        beta: Annotated[float, Range(0, 1, exclusive_low=True)] = 0.7,
    ) -> None:
        super().__init__()
        self.alpha = alpha
        self.beta = beta

    def value(self, logits: Tensor, target: Tensor) -> Tensor:
        """See `Loss.value`."""
        return _tversky_loss(logits, target, self.alpha, self.beta)


@LOSSES.register("lovasz")
class Lovasz(Loss):
    """Lovász-softmax: a convex surrogate of 1 - mIoU over the classes present in the batch.

    Berman et al., "The Lovász-Softmax Loss: A Tractable Surrogate for the Optimization of the Intersection-Over-Union
    Measure in Neural Networks", 2018, equation 11: the mean over classes of the Lovász extension of the Jaccard loss at
    the errors 1 - p (pixels of the class) and p (others), over all pixels of the batch. It sorts each class's pixels.

    Args:
        class_pixels: Not used.
    """

    def __init__(self, class_pixels: ClassPixels) -> None:
        super().__init__()

    def value(self, logits: Tensor, target: Tensor) -> Tensor:
        """See `Loss.value`."""
        probabilities = logits.softmax(dim=1).unbind(1)
        classes, counted = target.flatten(), target.flatten() != VOID
        present = classes[counted].bincount().nonzero().squeeze(1).tolist()
        if not present:
            return logits.sum() * 0
        extensions = []
        for index in present:
            truth = classes == index
            probability = probabilities[index].flatten()
            errors = torch.where(truth, 1 - probability, probability)
            extensions.append(torch.dot(errors, _lovasz_gradient(errors, truth, counted)))
        return torch.stack(extensions).mean()


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
        threshold: Annotated[float, Range(0, 1)] = 0.7,
        min_kept: Annotated[float, Range(0, 1)] = 0.0625,
    ) -> None:
        super().__init__()
        self.threshold = threshold
        self.min_kept = min_kept

    def value(self, logits: Tensor, target: Tensor) -> Tensor:
        """See `Loss.value`."""
        losses = _pixel_losses(logits, target)
        kept = self._hard(losses.detach(), target != VOID)
        return (losses * kept).sum() / torch.count_nonzero(kept).clamp(min=1)

    def _hard(self, losses: Tensor, counted: Tensor) -> Tensor:
        least = max(1, math.ceil(self.min_kept * int(torch.count_nonzero(counted))))
        last = losses.flatten().kthvalue(losses.numel() - least + 1).values
        easy = (torch.exp(-losses) >= self.threshold) & (losses < last)
        return counted & ~easy  # NaN is not easy: it must not vanish


class WeightedSum(Loss):
    """(1 - second_share) * first + second_share * second.

    A hyperparameter that both parts have goes to both.

    Args:
        first: One loss.
        second: Another.
        second_share: Weight of the second.
    """

    def __init__(self, first: Loss, second: Loss, *, second_share: Annotated[float, Range(0, 1)] = 0.5) -> None:
        super().__init__()
        self.first = first
        self.second = second
        self.second_share = second_share

    @property
    def name(self) -> str:
        """`A+B`, from the parts that were built."""
        return f"{LOSSES.name_of(self.first)}+{LOSSES.name_of(self.second)}"

    def value(self, logits: Tensor, target: Tensor) -> Tensor:
        """See `Loss.value`."""
        first, second = self.first.value(logits, target), self.second.value(logits, target)
        return (1 - self.second_share) * first + self.second_share * second

    def applied(self) -> dict[str, Scalar]:
        """See `Loss.applied`; those of the parts are theirs."""
        return {**super().applied(), **self.first.applied(), **self.second.applied()}


@dataclass(frozen=True)
class _SumFactory:
    """The weighted sum of two losses: (1 - second_share) of the first and second_share of the second."""

    first: Callable[..., Loss]
    second: Callable[..., Loss]

    @property
    def hyperparameters(self) -> Mapping[str, Parameter]:
        """`second_share` and those of both parts."""
        return {**parameters_of(WeightedSum), **parameters_of(self.first), **parameters_of(self.second)}

    def __call__(self, class_pixels: ClassPixels, **params: Any) -> WeightedSum:
        def chosen(factory: Callable[..., Loss]) -> dict[str, Any]:
            return {key: params[key] for key in parameters_of(factory) if key in params}

        unknown = params.keys() - self.hyperparameters.keys()
        if unknown:
            raise TypeError(f"no part of the sum has the hyperparameter {', '.join(sorted(unknown))}")
        first, second = (part(class_pixels, **chosen(part)) for part in (self.first, self.second))
        return WeightedSum(first, second, **chosen(WeightedSum))
