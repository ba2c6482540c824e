"""Where a model fails and what can be measured about why: every (image, class) region below an IoU.

    python -m analysis.failures --truth DIR --predictions DIR --classes classes.json [--images DIR] [--out DIR]

works on masks of any model, trained here or not; with the images it draws the failures as well.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt
import pandas as pd

from analysis.failures.kinds import Kind, Kinds, kinds_by_name
from analysis.failures.shapes import box_of
from trainables.data.base import Mask
from trainables.data.void import void_of
from trainables.loaders import mask_tensor
from trainables.metrics import confusion_matrix, iou

# Limits; docs/METRICS.md has the reason of each.
MISSED_RECALL = 0.05
FOUND_RECALL = 0.25
CONFUSED_FRACTION = 0.25
BOUNDARY_FRACTION = 0.9
BOUNDARY_DIAGONAL = 0.0075
BOUNDARY_MIN_PX = 2
SMALL_AREA_FRACTION = 1 / 300
BORDER_FRACTION = 0.2

MISSED = "missed altogether"
CONFUSED = "confused with"
BOUNDARY = "boundary only"
HALLUCINATED = "hallucinated"
INCOMPLETE = "incomplete"
SPILLED = "spilled over"
SMALL = "too small"
CUT = "cut by the border"
CAUSES = (HALLUCINATED, MISSED, CONFUSED, BOUNDARY, INCOMPLETE, SPILLED, SMALL, CUT)
"""All causes; `CONFUSED` is followed by the other class's name where it stands for one region."""

MEASURES = (
    "missed_recall",
    "confused_with",
    "confused_fraction",
    "boundary_fraction",
    "area_fraction",
    "border_fraction",
    "hallucinated_pixels",
    "truth_pixels",
    "predicted_pixels",
    "thickness",
)
COLUMNS = ("label", "image_id", "class", "iou", "causes", *MEASURES)


@dataclass(frozen=True)
class RegionFailure:
    """One class in one image whose IoU is too low, and what was measured there.

    Attributes:
        class_id: The class.
        iou: IoU of the region, 0 .. 1.
        causes: Dominant first: what happened to the region, by the share of its wrong pixels that it explains; then
            what made it hard (`too small`, `cut by the border`).
        missed_recall: Share of the truth region that was found; NaN without one.
        confused_with: The class that it is confused with, otherwise the other class predicted on most of the truth
            region's pixels; None if there is no such pixel.
        confused_fraction: That class's share of the truth region; NaN without a truth region.
        boundary_fraction: Share of the wrong pixels that lie within `boundary_width` of the truth region's boundary;
            NaN without a truth region.
        area_fraction: Truth pixels over all pixels of the image.
        border_fraction: Share of the truth region's contour on the image's border; NaN without a truth region.
        hallucinated_pixels: Predicted pixels if the class is not in the image's truth, else 0.
        truth_pixels: Pixels of the truth region.
        predicted_pixels: Pixels predicted as the class, void left out.
        thickness: 2 r - 1 pixels, r the largest distance of one of the truth region's pixels to the outside: the width
            of its widest place, to a pixel; 0 without a truth region.
    """

    class_id: int
    iou: float
    causes: tuple[str, ...]
    missed_recall: float
    confused_with: int | None
    confused_fraction: float
    boundary_fraction: float
    area_fraction: float
    border_fraction: float
    hallucinated_pixels: int
    truth_pixels: int
    predicted_pixels: int
    thickness: float


def boundary_width(shape: tuple[int, int]) -> int:
    """How far from a boundary an error still is one of the boundary, in pixels, for an image of (H, W)."""
    return max(BOUNDARY_MIN_PX, round(BOUNDARY_DIAGONAL * math.hypot(*shape)))


def failing_regions(
    truth: Mask,
    prediction: Mask,
    class_names: Sequence[str],
    *,
    iou_limit: float = 0.5,
    confusion: npt.NDArray[np.int64] | None = None,
    kinds: Kinds | None = None,
) -> list[RegionFailure]:
    """Finds every class of one image with IoU <= `iou_limit` and measures the causes.

    Args:
        truth: Class ids, shape (H, W), void where unknown.
        prediction: Class ids of the same shape.
        class_names: Names by class id.
        iou_limit: In 0 .. 1.
        confusion: The image's confusion matrix (C, C) where it is known already.
        kinds: Which classes are background, stuff and things; by their names where it is not given.

    Returns:
        One entry per failing class that is in the truth or in the prediction (outside void), by class id. A perfect
        region is never a failure, whatever the limit.

    Raises:
        ValueError: If the shapes differ or a mask holds an unknown id.
    """
    if truth.shape != prediction.shape:
        raise ValueError(f"truth is {truth.shape}, the prediction {prediction.shape}")
    if confusion is None:
        # Copies, because torch wants writable arrays and decoders may return read-only ones.
        predicted, true = (mask_tensor(mask.copy()) for mask in (prediction, truth))
        confusion = confusion_matrix(predicted, true, len(class_names)).numpy()
    kinds = kinds_by_name(class_names) if kinds is None else kinds
    scores = iou(confusion)
    return [
        _measure(truth, prediction, int(class_id), confusion, class_names, kinds)
        for class_id in np.flatnonzero((scores <= iou_limit) & (scores < 1))
    ]


def _measure(
    truth: Mask,
    prediction: Mask,
    class_id: int,
    confusion: npt.NDArray[np.int64],
    class_names: Sequence[str],
    kinds: Kinds,
) -> RegionFailure:
    overlap, truth_pixels = int(confusion[class_id, class_id]), int(confusion[class_id].sum())
    predicted_pixels = int(confusion[:, class_id].sum())
    missing, extra = truth_pixels - overlap, predicted_pixels - overlap
    others = confusion[class_id].copy()
    others[class_id] = 0
    # What is predicted as the background or as stuff behind it is missing, not confused with it.
    rivals = np.where(kinds >= kinds[class_id], others, 0)
    is_confused = bool(rivals.max() >= CONFUSED_FRACTION * truth_pixels > 0)
    takers = rivals if is_confused else others
    confused_with = int(takers.argmax()) if takers.any() else None
    explained: dict[str, float] = {}
    hard: list[str] = []
    recall = confused_fraction = boundary = border = math.nan
    thickness = 0.0
    if truth_pixels == 0:
        explained[HALLUCINATED] = 1.0
    else:
        recall = overlap / truth_pixels
        confused_fraction = int(takers.max()) / truth_pixels
        shape = (truth.shape[0], truth.shape[1])
        region = truth == class_id
        near, thickness = _boundary_errors(truth, prediction, class_id, region, boundary_width(shape))
        boundary = near / (missing + extra)
        border = _border_share(region)
        if recall < MISSED_RECALL:
            explained[MISSED] = missing / (missing + extra)
        if boundary >= BOUNDARY_FRACTION and recall >= FOUND_RECALL:
            explained[BOUNDARY] = boundary
        if is_confused:
            name = class_names[int(takers.argmax())].replace(";", ",")
            explained[f"{CONFUSED} {name}"] = int(takers.max()) / (missing + extra)
        if truth_pixels / truth.size < SMALL_AREA_FRACTION or thickness <= 2 * boundary_width(shape) - 1:
            hard.append(SMALL)
        if border >= BORDER_FRACTION and kinds[class_id] == Kind.THING:
            hard.append(CUT)
        if not explained:
            explained[INCOMPLETE if missing >= extra else SPILLED] = 1.0
    return RegionFailure(
        class_id=class_id,
        iou=overlap / (truth_pixels + predicted_pixels - overlap),
        causes=(*sorted(explained, key=lambda cause: -explained[cause]), *hard),
        missed_recall=recall,
        confused_with=confused_with,
        confused_fraction=confused_fraction,
        boundary_fraction=boundary,
        area_fraction=truth_pixels / truth.size,
        border_fraction=border,
        hallucinated_pixels=0 if truth_pixels else predicted_pixels,
        truth_pixels=truth_pixels,
        predicted_pixels=predicted_pixels,
        thickness=thickness,
    )


def _boundary_errors(
    truth: Mask, prediction: Mask, class_id: int, region: npt.NDArray[np.bool_], width: int
) -> tuple[int, float]:
    """Wrong pixels within `width` of the truth region's boundary, and the region's thickness.

    Distances are Euclidean, between pixel centres; the image's border is not a boundary. Void next to the region
    (annotators' seams) is crossed for free, up to `width`, because where in it the boundary runs is unknown.
    """
    rows, columns = box_of(region, margin=2 * width + 2)
    known, region = truth[rows, columns], region[rows, columns]
    if region.all():
        return 0, float(min(region.shape))
    void = known == void_of(truth)
    wrong = (region != (prediction[rows, columns] == class_id)) & ~void
    reach = _reach(region, void, width)
    inside, outside = (
        cv2.distanceTransform(side.view(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE) for side in (region, ~reach)
    )
    near = wrong & np.where(region, inside <= width, outside <= width)
    # Squares of distances are whole numbers: the root of one has every digit.
    return int(near.sum()), 2 * math.sqrt(round(float(inside.max()) ** 2)) - 1


def _reach(region: npt.NDArray[np.bool_], void: npt.NDArray[np.bool_], steps: int) -> npt.NDArray[np.bool_]:
    """The region and the void that is reached from it in so many steps from pixel to pixel through void."""
    if not void.any():
        return region
    open_to = (region | void).view(np.uint8)
    reached = region.view(np.uint8)
    cross = cv2.getStructuringElement(cv2.MORPH_CROSS, (3, 3))
    for _ in range(steps):
        reached = cv2.dilate(reached, cross) & open_to
    return np.asarray(reached > 0)


def _border_share(region: npt.NDArray[np.bool_]) -> float:
    """Share of a region's contour pixels (4-connected, beside the outside or another class) on the image's border."""
    height, width = region.shape
    rows, columns = box_of(region, margin=0)
    own = region[rows, columns]
    padded = np.pad(own, 1)
    contour = own & ~(padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:])
    top, left = int(rows.start == 0), int(columns.start == 0)
    inside = contour[top : len(own) - int(rows.stop == height), left : own.shape[1] - int(columns.stop == width)]
    total = int(contour.sum())
    return (total - int(inside.sum())) / total


def failures_frame(entries: Sequence[tuple[str, str, RegionFailure]], class_names: Sequence[str]) -> pd.DataFrame:
    """A frame with `COLUMNS` from (label, image id, failure); `causes` as text, `confused_with` by name."""
    rows = [
        {
            "label": label,
            "image_id": image_id,
            "class": class_names[failure.class_id],
            "iou": failure.iou,
            "causes": causes_text(failure.causes),
            **{name: getattr(failure, name) for name in MEASURES},
            "confused_with": "" if failure.confused_with is None else class_names[failure.confused_with],
        }
        for label, image_id, failure in entries
    ]
    return pd.DataFrame(rows, columns=list(COLUMNS))


def causes_text(causes: Iterable[str]) -> str:
    """Causes as a cell of the table holds them."""
    return "; ".join(causes)


def causes_of(text: str) -> list[str]:
    """The causes in a cell of the table (`causes_text`), the dominant one first; none in an empty one."""
    return text.split("; ") if text else []


def cause_kind(cause: str) -> str:
    """The cause without the other class's name: one of `CAUSES`."""
    return CONFUSED if cause.startswith(f"{CONFUSED} ") else cause


def name_cause(kind: str) -> str:
    """A kind of cause in words; only `confused with` needs an object."""
    return "confused with another class" if kind == CONFUSED else kind


def cause_summary(failures: pd.DataFrame) -> pd.DataFrame:
    """How often each cause holds for each class: rows `CAUSES`, columns the classes that fail, counts of regions.

    A region with several causes counts in several rows.
    """
    classes = list(dict.fromkeys(failures["class"]))
    counts = pd.DataFrame(0, index=pd.Index(CAUSES, name="cause"), columns=classes)
    for name, causes in zip(failures["class"], failures["causes"], strict=True):
        for kind in {cause_kind(cause) for cause in causes_of(causes)}:
            counts.loc[kind, name] += 1
    return counts
