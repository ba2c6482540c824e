"""What went wrong on a whole split: every image measured once for all predictions, and the tables of it.

What is kept of an image are its failing regions, its wrong pixels by type and pair of classes, and its components;
masks are held while their image is measured.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from analysis.failures.component_errors import ComponentErrors
from analysis.failures.components import CONNECTIVITY, Integers, find_components
from analysis.failures.error_types import classify_errors
from analysis.failures.factors import measure_factors
from analysis.failures.kinds import Kinds
from analysis.failures.measure import RegionFailure, boundary_width, failing_regions
from analysis.failures.names import ErrorType
from trainables.data.bands import Bands
from trainables.data.base import Image, Mask
from trainables.loaders import mask_tensor
from trainables.machine import cores
from trainables.metrics import ImageCounts, confusion_matrix

TYPE_COLUMNS = ("label", "type", "pixels", "lost_iou", "share")
"""Of the table `error_types`."""

CLASS_TYPE_COLUMNS = ("label", "class", "type", "missing", "extra", "lost_iou", "share")
"""Of the table `error_types_per_class`."""

IMAGE_TYPE_COLUMNS = ("label", "image_id", "type", "pixels", "lost_iou", "share")
"""Of the table `error_types_per_image`."""

COMPONENT_COLUMNS = (
    *("label", "image_id", "class", "source", "component", "iou", "recall", "type", "type_share", "taken_for"),
    *("taken_share", "pixels", "area_fraction", "top", "left", "bottom", "right"),
)
"""Of the table `component_failures`."""


@dataclass(frozen=True)
class ImageFailures:
    """What one prediction did on one image.

    Attributes:
        regions: The (image, class) regions that fail.
        pairs: Its pixels by true and predicted class: of one image.
        counts: Rows of type, true class, predicted class, pixels; shape (M, 4).
        components: What became of each component.
        image_pixels: Of the whole image.
        factors: Of the true components (`factors.measure_factors`), shape (K, F); None without the image.
    """

    regions: list[RegionFailure]
    pairs: ImageCounts
    counts: Integers
    components: ComponentErrors
    image_pixels: int
    factors: npt.NDArray[np.float64] | None = None

    @property
    def confusion(self) -> npt.NDArray[np.int64]:
        """Rows truth, columns prediction, shape (C, C)."""
        return self.pairs[0]


@dataclass(frozen=True)
class SplitFailures:
    """What one prediction did on every image of a split.

    Attributes:
        image_ids: Length N.
        images: What it did on each, length N.
    """

    image_ids: tuple[str, ...]
    images: tuple[ImageFailures, ...]

    @functools.cached_property
    def confusion(self) -> npt.NDArray[np.int64]:
        """Confusion matrix of all images, shape (C, C)."""
        return self.confusions.sum(axis=0)

    @property
    def confusions(self) -> ImageCounts:
        """Confusion matrices of the images, shape (N, C, C)."""
        return ImageCounts.joined([image.pairs for image in self.images])

    @property
    def counts(self) -> Integers:
        """Rows of image, type, true class, predicted class, pixels; shape (M, 5)."""
        rows = [np.column_stack([np.full(len(one.counts), i), one.counts]) for i, one in enumerate(self.images)]
        return np.concatenate(rows) if rows else np.zeros((0, 5), np.int64)


def measure_image(
    truth: Mask,
    predictions: Sequence[Mask],
    class_names: Sequence[str],
    kinds: Kinds,
    *,
    iou_limit: float = 0.5,
    connectivity: int = CONNECTIVITY,
    confusions: Sequence[npt.NDArray[np.int64]] | None = None,
    image: Image | None = None,
    bands: Bands | None = None,
) -> list[ImageFailures]:
    """What each of several predictions did on one image; the truth's components are found and measured once.

    Args:
        truth: Class ids, shape (H, W), void where unknown.
        predictions: Class ids of the same shape.
        class_names: By class id.
        kinds: Of the classes.
        iou_limit: A region fails at or below it.
        connectivity: Of components, 4 or 8.
        confusions: The image's confusion matrix for each prediction where they are known already.
        image: Of shape (H, W, C): the factors of its components are measured as well.
        bands: What its channels are; None: red, green and blue.

    Raises:
        ValueError: If the shapes differ, a mask holds an unknown id, or a prediction holds void.
    """
    of_truth = find_components(truth, connectivity=connectivity)
    width = boundary_width((truth.shape[0], truth.shape[1]))
    factors = None if image is None else measure_factors(image, of_truth, kinds, width, bands)[1]
    measured = []
    for place, prediction in enumerate(predictions):
        if confusions is None:
            # Copies, because torch wants writable arrays and decoders may return read-only ones.
            predicted, true = (mask_tensor(mask.copy()) for mask in (prediction, truth))
            confusion = confusion_matrix(predicted, true, len(class_names)).numpy()
        else:
            confusion = confusions[place]
        regions = failing_regions(truth, prediction, class_names, iou_limit=iou_limit, confusion=confusion, kinds=kinds)
        of_prediction = find_components(prediction, connectivity=connectivity)
        errors = classify_errors(of_truth, of_prediction, kinds, width=width, connectivity=connectivity)
        pairs = ImageCounts.of_matrices(confusion[None])
        measured.append(ImageFailures(regions, pairs, errors.counts, errors.components, truth.size, factors))
    return measured


def measure_split(
    image_ids: Sequence[str],
    measure: Callable[[int], list[ImageFailures]],
    names: Sequence[str],
    *,
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, SplitFailures]:
    """Measures every image of a split, several at a time.

    Args:
        image_ids: Length N, at least one.
        measure: From an image's place to what each prediction did there (`measure_image`).
        names: Of the predictions.
        progress: Called with how many images are done, and of how many.

    Returns:
        By name of the prediction.
    """
    found: dict[str, list[ImageFailures]] = {name: [] for name in names}
    with ThreadPoolExecutor(max_workers=cores()) as pool:
        for place, of_image in enumerate(pool.map(measure, range(len(image_ids)))):
            for name, one in zip(names, of_image, strict=True):
                found[name].append(one)
            if progress:
                progress(place + 1, len(image_ids))
    return {name: SplitFailures(tuple(image_ids), tuple(images)) for name, images in found.items()}


def region_entries(splits: Mapping[str, SplitFailures]) -> list[tuple[str, str, RegionFailure]]:
    """The failing regions as (label, image id, failure), for `measure.failures_frame`.

    Args:
        splits: By label.
    """
    return [
        (label, image_id, region)
        for label, split in splits.items()
        for image_id, image in zip(split.image_ids, split.images, strict=True)
        for region in image.regions
    ]


def lost_iou_weights(confusion: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    """What one wrong pixel takes from the mIoU, by true and predicted class, shape (C, C).

    A pixel of class t predicted as q is missing from t and extra in q. Per class, IoU = 1 - (missing + extra) / union,
    so that it takes 1 / union from the IoU of each of the two, and from their mean that by the number of classes:
    w(t, q) = (1 / union_t + 1 / union_q) / classes. Summed over all wrong pixels this is exactly 1 - mIoU.

    Args:
        confusion: Of the whole split.
    """
    unions = _unions(confusion)
    share = np.divide(1.0, unions, out=np.zeros(len(unions)), where=unions > 0)
    return np.asarray((share[:, None] + share[None, :]) / max(1, int((unions > 0).sum())))


def _unions(confusion: npt.NDArray[np.int64]) -> Integers:
    """Pixels of each class in truth or prediction, shape (C,)."""
    return np.asarray(confusion.sum(axis=0) + confusion.sum(axis=1) - np.diag(confusion))


def type_frame(splits: Mapping[str, SplitFailures]) -> pd.DataFrame:
    """How much of the mIoU each label loses to each type: a row per label and type, columns `TYPE_COLUMNS`.

    `lost_iou` adds up to 1 - mIoU over a label's types, `share` to 1. A label without an error has zeros.

    Args:
        splits: By label.
    """
    rows = []
    for label, split in splits.items():
        kind, pixels, lost = _weighted(split)[1:]
        of_pixels, of_lost = (np.bincount(kind, values, len(ErrorType)) for values in (pixels, lost))
        rows += [(label, *row) for row in _of_types(of_pixels, of_lost)]
    return pd.DataFrame(rows, columns=list(TYPE_COLUMNS)).astype({"pixels": int})


def image_type_frame(splits: Mapping[str, SplitFailures]) -> pd.DataFrame:
    """The same for each image, types without a pixel left out: columns `IMAGE_TYPE_COLUMNS`.

    `lost_iou` adds up to 1 - mIoU of the split over all of a label's images, `share` to 1 over an image's types.

    Args:
        splits: By label.
    """
    rows = []
    for label, split in splits.items():
        image, kind, pixels, lost = _weighted(split)
        keys = image * len(ErrorType) + kind
        size = len(split.images) * len(ErrorType)
        sums = [np.bincount(keys, values, size).reshape(-1, len(ErrorType)) for values in (pixels, lost)]
        for image_id, of_pixels, of_lost in zip(split.image_ids, *sums, strict=True):
            rows += [(label, image_id, *row) for row in _of_types(of_pixels, of_lost) if row[1]]
    return pd.DataFrame(rows, columns=list(IMAGE_TYPE_COLUMNS)).astype({"pixels": int})


def class_type_frame(splits: Mapping[str, SplitFailures], class_names: Sequence[str]) -> pd.DataFrame:
    """How much of its IoU each class loses to each type: columns `CLASS_TYPE_COLUMNS`.

    `missing` are its pixels predicted as others, `extra` those of others predicted as it; `lost_iou`, their sum over
    the union, adds up to 1 - IoU over a class's types, `share` to 1. Classes and types without a wrong pixel are left
    out.

    Args:
        splits: By label.
        class_names: By class id.
    """
    rows = []
    for label, split in splits.items():
        _, kind, true_class, predicted_class, pixels = split.counts.T
        size = len(class_names) * len(ErrorType)
        missing, extra = (
            np.bincount(class_id * len(ErrorType) + kind, pixels, size).reshape(-1, len(ErrorType))
            for class_id in (true_class, predicted_class)
        )
        unions = _unions(split.confusion)
        for class_id in np.flatnonzero((missing + extra).sum(axis=1)).tolist():
            wrong = missing[class_id] + extra[class_id]
            for error in np.flatnonzero(wrong).tolist():
                numbers = (wrong[error] / unions[class_id], wrong[error] / wrong.sum())
                counts = (int(missing[class_id, error]), int(extra[class_id, error]))
                rows.append((label, class_names[class_id], ErrorType(error).words, *counts, *numbers))
    return pd.DataFrame(rows, columns=list(CLASS_TYPE_COLUMNS))


def component_frame(
    splits: Mapping[str, SplitFailures], class_names: Sequence[str], *, iou_limit: float = 0.5
) -> pd.DataFrame:
    """The components that fail: true ones with an IoU at or below the limit, and invented ones.

    Args:
        splits: By label.
        class_names: By class id.
        iou_limit: In 0 .. 1; a perfect component is never a failure.

    Returns:
        One row each, columns `COMPONENT_COLUMNS`; `type` is the one of most of its wrong pixels.
    """
    rows = [
        {"label": label, "image_id": image_id, **row}
        for label, split in splits.items()
        for image_id, image in zip(split.image_ids, split.images, strict=True)
        for row in _failing(image, class_names, iou_limit)
    ]
    return pd.DataFrame(rows, columns=list(COMPONENT_COLUMNS))


def _failing(image: ImageFailures, class_names: Sequence[str], iou_limit: float) -> Iterator[dict[str, object]]:
    own = image.components
    for place in np.flatnonzero((own.iou <= iou_limit) & (own.iou < 1)):
        wrong = own.type_pixels[place]
        taken_for = int(own.taken_for[place])
        top, left, bottom, right = own.boxes[place].tolist()
        yield {
            "class": class_names[own.class_id[place]],
            "source": "truth" if own.is_true[place] else "prediction",
            "component": int(own.number[place]),
            "iou": float(own.iou[place]),
            "recall": float(own.recall[place]),
            "type": ErrorType(wrong.argmax()).words,
            "type_share": float(wrong.max() / wrong.sum()),
            "taken_for": "" if taken_for < 0 else class_names[taken_for],
            "taken_share": float(own.taken_share[place]),
            "pixels": int(own.pixels[place]),
            "area_fraction": float(own.pixels[place] / image.image_pixels),
            "top": top,
            "left": left,
            "bottom": bottom,
            "right": right,
        }


def _weighted(split: SplitFailures) -> tuple[Integers, Integers, Integers, npt.NDArray[np.float64]]:
    """Image, type, pixels and lost mIoU of each row of counts."""
    image, kind, true_class, predicted_class, pixels = split.counts.T
    return image, kind, pixels, pixels * lost_iou_weights(split.confusion)[true_class, predicted_class]


def _of_types(pixels: npt.NDArray[Any], lost: npt.NDArray[Any]) -> Iterator[tuple[str, int, float, float]]:
    """Words, pixels, lost mIoU and its share of each type."""
    total = lost.sum() or 1.0
    for error in ErrorType:
        yield error.words, int(pixels[error]), float(lost[error]), float(lost[error] / total)
