"""Losses that judge the overlap of a whole class: dice, Tversky, Lovász."""

from __future__ import annotations

from typing import Annotated

import torch
from torch import Tensor

from trainables.losses import LOSSES
from trainables.losses.base import ClassPixels, Loss, known_pixels
from trainables.registry import Range, Search


def _tversky_loss(logits: Tensor, target: Tensor, alpha: float, beta: float) -> Tensor:
    """One minus the mean soft Tversky index, over the batch's pixels, of the classes in its target."""
    counted = known_pixels(logits, target)
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
    """Dice with separate weights for false alarms (alpha) and misses (beta): beta above alpha finds more of a class.

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
        alpha: Annotated[
            float,
            Range(0, 1, exclusive_low=True),
            Search(0.1, 0.5, reason="price of false alarms; Salehi et al. tried 0.1 to 0.5"),
        ] = 0.3,
        beta: Annotated[
            float,
            Range(0, 1, exclusive_low=True),
            Search(0.5, 0.9, reason="price of misses; Salehi et al. tried 0.5 to 0.9"),
        ] = 0.7,
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
        classes, counted = target.flatten(), known_pixels(logits, target).flatten()
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
