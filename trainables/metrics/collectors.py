"""Collectors: they see every evaluated image once and keep sums, so that any metric can be computed later.

Any interval and any subset of images can be computed from the sums, too, without the model.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from trainables.data.void import MOST_IN_BYTES, VOID, void_id
from trainables.metrics.arrays import Floats
from trainables.metrics.image_counts import ImageCounts
from trainables.metrics.image_rows import ImageRows
from trainables.metrics.scores import BLOCK_PIXELS, ScoreHistogram

IGNORE = VOID
"""Truth value of void pixels, which count in no metric, on neither side; of more classes than masks of bytes have room
for it is `void_id(C)`."""
COUNTED_AT_ONCE = 2**22
"""Pixels whose pairs of classes are numbered at a time: of a large image they take 12 times its mask."""


class Collector(Protocol):
    """Sees every evaluated image once.

    One that has an attribute `reads_logits` of False may be given none: those of a large image are much memory.
    """

    def process(self, image_id: str, logits: Tensor, prediction: Tensor, target: Tensor) -> None:
        """Takes in one image at its mask's original size, all three on one device.

        Args:
            image_id: The image's id.
            logits: Class scores before softmax, float of shape (C, H, W).
            prediction: Class ids, integers of shape (H, W): the argmax of `logits`.
            target: True class ids, integers of shape (H, W), with `void_id(C)` for void.
        """


def confusion_matrix(prediction: Tensor, target: Tensor, classes: int) -> Tensor:
    """Counts pixels by true class (row) and predicted class (column); pixels whose truth is void are left out.

    Args:
        prediction: Class ids, integers of any shape.
        target: True class ids of the same shape; `void_id(C)` is void.
        classes: Number of classes C.

    Returns:
        int64 tensor of shape (C, C) on the device of `prediction`.

    Raises:
        ValueError: If the shapes differ, or an id outside 0 .. C - 1 (void apart) occurs in either, also where the
            other is void: such pixels are never dropped in silence.
    """
    if prediction.shape != target.shape:
        raise ValueError(f"prediction has shape {tuple(prediction.shape)}, target {tuple(target.shape)}: must be equal")
    predicted, truth = prediction.reshape(-1), target.reshape(-1)
    if classes > MOST_IN_BYTES:
        return _count_pairs(predicted, truth, classes)
    if predicted.dtype != torch.uint8 or truth.dtype != torch.uint8:
        _reject_ids_beyond(255, predicted, truth, classes)
    # One count over all pairs of bytes: known ones, void ones and unknown ones come apart without a pass of their own.
    pairs = torch.zeros(256, 256, dtype=torch.int64, device=predicted.device)
    for one, other in zip(truth.split(COUNTED_AT_ONCE), predicted.split(COUNTED_AT_ONCE), strict=True):
        pairs += torch.bincount(one.int() * 256 + other, minlength=256 * 256).view(256, 256)
    known, void = pairs[:classes, :classes], pairs[IGNORE, :classes]
    if known.sum() + void.sum() != predicted.numel():
        raise ValueError(_unknown_ids(predicted, truth, classes))
    return known.clone()


def _count_pairs(predicted: Tensor, truth: Tensor, classes: int) -> Tensor:
    """`confusion_matrix` of more classes than there are bytes: void is a row of its own, which is left out."""
    rows = torch.where(truth == void_id(classes), -1, truth)
    for ids, least in ((predicted, 0), (rows, -1)):
        if ids.numel() and (ids.min() < least or ids.max() >= classes):
            raise ValueError(_unknown_ids(predicted, truth, classes))
    pairs = torch.zeros((classes + 1) * classes, dtype=torch.int64, device=predicted.device)
    for one, other in zip(rows.split(COUNTED_AT_ONCE), predicted.split(COUNTED_AT_ONCE), strict=True):
        pairs += torch.bincount((one.long() + 1) * classes + other, minlength=len(pairs))
    return pairs.view(classes + 1, classes)[1:].clone()


def _reject_ids_beyond(largest: int, predicted: Tensor, truth: Tensor, classes: int) -> None:
    """Only numbers of more than a byte can lie there, and only they are looked through."""
    for ids in (predicted, truth):
        if ids.numel() and (ids.min() < 0 or ids.max() > largest):
            raise ValueError(_unknown_ids(predicted, truth, classes))


def _unknown_ids(predicted: Tensor, truth: Tensor, classes: int) -> str:
    faults, void = [], void_id(classes)
    for side, ids in (("prediction", predicted), ("target", truth[truth != void])):
        outside = sorted(set(ids[(ids < 0) | (ids >= classes)].tolist()))
        if outside:
            faults.append(f"{side} holds the ids {', '.join(map(str, outside))}")
    return f"{' and '.join(faults)}: expected 0 .. {classes - 1}, in the target also {void} for void"


class ConfusionMatrix:
    """Sums the confusion matrix over images."""

    reads_logits = False

    def __init__(self, classes: int) -> None:
        self.classes = classes
        self._total: Tensor | None = None

    def process(self, image_id: str, logits: Tensor, prediction: Tensor, target: Tensor) -> None:
        """See `Collector`."""
        self.update(prediction, target)

    def update(self, prediction: Tensor, target: Tensor) -> None:
        """Adds pixels without scores, of any (equal) shape."""
        matrix = confusion_matrix(prediction, target, self.classes)
        self._total = matrix if self._total is None else self._total + matrix

    def value(self) -> npt.NDArray[np.int64]:
        """The sum so far, shape (C, C): rows truth, columns prediction."""
        if self._total is None:
            return np.zeros((self.classes, self.classes), dtype=np.int64)
        return self._total.cpu().numpy()


class PerImageConfusion:
    """Keeps one confusion matrix an image, without its zeros: the source of every interval and of every failure."""

    reads_logits = False

    def __init__(self, classes: int) -> None:
        self.classes = classes
        self.image_ids: list[str] = []
        self._lengths: list[int] = []
        # Arrays that grow, and none of its own for each image, for the reason that `ImageRows` gives.
        self._pairs, self._pixels = array("i"), array("q")

    def process(self, image_id: str, logits: Tensor, prediction: Tensor, target: Tensor) -> None:
        """See `Collector`."""
        matrix = confusion_matrix(prediction, target, self.classes).cpu().numpy().reshape(-1)
        pairs = np.flatnonzero(matrix)
        self.image_ids.append(image_id)
        self._lengths.append(len(pairs))
        self._pairs.frombytes(pairs.astype(np.int32).tobytes())
        self._pixels.frombytes(matrix[pairs].astype(np.int64).tobytes())

    def value(self) -> ImageCounts:
        """Of all images so far, in the order of `image_ids`."""
        image = np.repeat(np.arange(len(self._lengths), dtype=np.int32), self._lengths)
        pair, pixels = np.array(self._pairs, dtype=np.int32), np.array(self._pixels, dtype=np.int64)
        return ImageCounts(len(self._lengths), self.classes, image, pair, pixels)


class RegionConfidence:
    """Keeps the confidence of each predicted (image, class) region.

    It is the mean softmax probability of the class over the region's pixels (predicted as the class, truth not void).

    Args:
        classes: Number of classes.
        scores: Has processed each image before and knows these probabilities; without it they are computed.
    """

    def __init__(self, classes: int, scores: ScoreHistogram | None = None) -> None:
        self.classes = classes
        self._scores = scores
        self._confidences = ImageRows((classes,), np.float64)

    def process(self, image_id: str, logits: Tensor, prediction: Tensor, target: Tensor) -> None:
        """See `Collector`."""
        # Void pixels are counted as those of one more class, which is dropped.
        region = torch.where(target == void_id(self.classes), self.classes, prediction.int()).reshape(-1)
        if self._scores is None:
            blocks = [
                _probability(logits[:, rows].float(), prediction[None, rows].long())
                for rows in _row_blocks(target.shape)
            ]
            probability = torch.cat(blocks)
        else:
            probability = self._scores.likeliest
        total = torch.bincount(region, weights=probability.double().reshape(-1), minlength=self.classes + 1)
        pixels = torch.bincount(region, minlength=self.classes + 1)
        # 0 / 0 is the NaN that says: no such region.
        self._confidences.append((total / pixels)[: self.classes].cpu().numpy())

    def value(self) -> Floats:
        """Confidences in 0 .. 1 of shape (N, C); NaN where the class is not predicted in the image."""
        return self._confidences.value()


def _probability(logits: Tensor, classes: Tensor) -> Tensor:
    """Softmax probability of one class of each pixel: logits (C, ...), class ids (1, ...); float32 of shape (...)."""
    shares = (logits - logits.amax(dim=0)).exp_()
    return shares.gather(0, classes)[0].div_(shares.sum(dim=0))


def _row_blocks(shape: Sequence[int]) -> list[slice]:
    """Rows of an image (H, W), some `BLOCK_PIXELS` at a time.

    Scores of all classes and their intermediate results fit into a processor's cache that way; for a whole photograph
    they are gigabytes.
    """
    height, width = shape
    rows = max(1, BLOCK_PIXELS // max(width, 1))
    return [slice(top, top + rows) for top in range(0, height, rows)]
