"""Numbers of a split counted again from masks, by comparing pixels one class at a time.

For `analysis.audit` alone: nothing here is shared with the metrics and the failure analysis that it checks.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from scipy import ndimage

if TYPE_CHECKING:
    from collections.abc import Iterator

Mask = npt.NDArray[np.uint8]
Integers = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

VOID = 255
STEPS = 10
"""IoU thresholds are 0/10, 1/10 ... 10/10."""


@dataclass(frozen=True)
class Recount:
    """Pixels of each class in each image, three arrays of shape (N, C); void truth is left out of all.

    Attributes:
        hit: Right pixels.
        truth: In the truth.
        predicted: Predicted.
    """

    hit: Integers
    truth: Integers
    predicted: Integers

    @property
    def image_iou(self) -> Floats:
        """IoU of each class in each image, shape (N, C); NaN for a class in neither mask."""
        return _share(self.hit, self.truth + self.predicted - self.hit)

    @property
    def wrong(self) -> Integers:
        """Wrong pixels of each image, shape (N,)."""
        return np.asarray((self.truth - self.hit).sum(axis=1))

    def class_values(self) -> dict[str, Floats]:
        """`iou`, `f1`, `precision`, `recall` of each class over the split, shape (C,).

        NaN for a class in neither truth nor prediction; 0 for one in only one of them.
        """
        hit, truth, predicted = (array.sum(axis=0) for array in (self.hit, self.truth, self.predicted))
        parts = {"iou": truth + predicted - hit, "f1": (truth + predicted) / 2, "precision": predicted, "recall": truth}
        absent = truth + predicted == 0
        return {name: np.where(absent, np.nan, np.nan_to_num(_share(hit, whole))) for name, whole in parts.items()}

    def scores(self) -> dict[str, float]:
        """`pixel_accuracy`, and the means over classes of `class_values`."""
        means = {name: _mean(values) for name, values in self.class_values().items()}
        return {"pixel_accuracy": float(self.hit.sum() / max(1, self.truth.sum())), **means}

    def thresholds(self) -> dict[str, Floats]:
        """`precision`, `recall` and `f1` of regions, means over classes, at each IoU threshold, shape (11,)."""
        union = self.truth + self.predicted - self.hit
        true, predicted = ((array > 0).sum(axis=0) for array in (self.truth, self.predicted))
        found: dict[str, list[float]] = {"precision": [], "recall": [], "f1": []}
        for step in range(STEPS + 1):
            # hit / union >= step / 10 in whole numbers
            matched = ((self.hit > 0) & (STEPS * self.hit >= step * union)).sum(axis=0)
            parts = {"precision": predicted, "recall": true, "f1": (true + predicted) / 2}
            for name, whole in parts.items():
                found[name].append(
                    _mean(np.where(true + predicted == 0, np.nan, np.nan_to_num(_share(matched, whole))))
                )
        return {name: np.array(values) for name, values in found.items()}

    def size_iou(self, least: float, most: float) -> float:
        """Mean IoU of the true regions whose share of their image's known pixels is in [least, most)."""
        share = self.truth / np.maximum(1, self.truth.sum(axis=1, keepdims=True))
        inside = (self.truth > 0) & (share >= least) & (share < most)
        return _mean(self.image_iou[inside])


def recount(pairs: Iterator[tuple[Mask, Mask]], classes: int) -> Recount:
    """Counts the pixels of pairs of true and predicted masks, class by class.

    Args:
        pairs: Of equal shapes (H, W).
        classes: Number of classes C.
    """
    rows = [recount_image(truth, prediction, classes) for truth, prediction in pairs]
    return Recount(*np.array(rows, dtype=np.int64).reshape(-1, 3, classes).transpose(1, 0, 2))


def recount_image(truth: Mask, prediction: Mask, classes: int) -> Integers:
    """Right, true and predicted pixels of each class in one image, shape (3, C)."""
    known = truth != VOID
    counts = np.zeros((3, classes), np.int64)
    for class_id in np.union1d(truth[known], prediction[known]).tolist():
        own, guess = truth == class_id, (prediction == class_id) & known
        counts[:, class_id] = (own & guess).sum(), own.sum(), guess.sum()
    return counts


def recount_component(
    truth: Mask, prediction: Mask, class_id: int, box: tuple[int, int, int, int], *, is_true: bool
) -> list[dict[str, float]]:
    """`pixels`, `recall` and `iou` of the components (8-connected) of a class that fill a box.

    Args:
        truth: Of the image.
        prediction: Of the image.
        class_id: The class.
        box: Top, left, bottom and right, the last two beyond the component.
        is_true: Whether components of the truth are meant, or of the prediction.

    Returns:
        One entry for each component with that box: none if there is no such component.
    """
    square = np.ones((3, 3))
    own, count = ndimage.label((truth if is_true else prediction) == class_id, square)
    place = (slice(box[0], box[2]), slice(box[1], box[3]))
    numbers = [number + 1 for number, found in enumerate(ndimage.find_objects(own, count)) if found == place]
    guessed, _ = ndimage.label(prediction == class_id, square)
    known = truth != VOID
    told = []
    for number in numbers:
        component = own == number
        if not is_true:
            told.append({"pixels": float((component & known).sum()), "recall": np.nan, "iou": 0.0})
            continue
        hit = component & (prediction == class_id)
        touching = np.isin(guessed, np.unique(guessed[hit])) & (guessed > 0) & known & (truth != class_id)
        pixels = int(component.sum())
        told.append(
            {
                "pixels": float(pixels),
                "recall": float(hit.sum() / pixels),
                "iou": float(hit.sum() / (pixels + touching.sum())),
            }
        )
    return told


def _share(part: npt.NDArray[np.generic], whole: npt.NDArray[np.generic]) -> Floats:
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(np.true_divide(part, whole), dtype=np.float64)  # type: ignore[call-overload]


def _mean(values: Floats) -> float:
    there = values[~np.isnan(values)]
    return float(there.mean()) if len(there) else float("nan")
