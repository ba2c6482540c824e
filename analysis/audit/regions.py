"""Regions that fail and what is measured about them, again from the definitions of docs/METRICS.md."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from analysis.audit.pixels import Flags, Integers, Mask, first_of_ties
from analysis.audit.types import band_width

# The limits of docs/METRICS.md ("Causes of failure").
MISSED_RECALL = 0.05
FOUND_RECALL = 0.25
CONFUSED_FRACTION = 0.25
BOUNDARY_FRACTION = 0.9
SMALL_AREA_FRACTION = 1 / 300
BORDER_FRACTION = 0.2
THING = 2

ACROSS = ndimage.generate_binary_structure(2, 1)


def region_row(
    truth: Mask,
    prediction: Mask,
    class_id: int,
    pairs: Integers,
    names: Sequence[str],
    kinds: npt.NDArray[np.integer],
    *,
    written: str,
) -> dict[str, float | str]:
    """The row of the table `failures` of a class in an image, but for its keys.

    Args:
        truth: Of the image.
        prediction: Of the image.
        class_id: The class, in one of them.
        pairs: Pixels of the image by true and predicted class, shape (C, C).
        names: By class id.
        kinds: Background 0, stuff 1 or thing 2 of each class.
        written: The class that the table says it is confused with, which decides between equals.
    """
    hit, own, guessed = int(pairs[class_id, class_id]), int(pairs[class_id].sum()), int(pairs[:, class_id].sum())
    row: dict[str, float | str] = {
        "iou": hit / (own + guessed - hit),
        "truth_pixels": own,
        "predicted_pixels": guessed,
        "hallucinated_pixels": 0 if own else guessed,
        "area_fraction": own / truth.size,
    }
    if not own:
        nothing = dict.fromkeys(
            ("missed_recall", "confused_fraction", "boundary_fraction", "border_fraction"), math.nan
        )
        return row | nothing | {"thickness": 0, "confused_with": "", "causes": "hallucinated"}
    region, wrong = truth == class_id, own + guessed - 2 * hit
    near, thickness = _near_boundary(truth, prediction == class_id, region)
    taken = {name: int(pixels) for name, pixels in zip(names, pairs[class_id], strict=True) if name != names[class_id]}
    rivals = {
        name: taken[name] for place, name in enumerate(names) if name in taken and kinds[place] >= kinds[class_id]
    }
    is_confused = max(rivals.values(), default=0) >= CONFUSED_FRACTION * own
    with_class = first_of_ties(rivals if is_confused else taken, written)
    row |= {
        "missed_recall": hit / own,
        "confused_with": with_class,
        "confused_fraction": taken.get(with_class, 0) / own,
        "boundary_fraction": near / wrong,
        "border_fraction": _on_border(region),
        "thickness": thickness,
    }
    explained = {}
    if hit / own < MISSED_RECALL:
        explained["missed altogether"] = (own - hit) / wrong
    if near / wrong >= BOUNDARY_FRACTION and hit / own >= FOUND_RECALL:
        explained["boundary only"] = near / wrong
    if is_confused:
        explained[f"confused with {with_class.replace(';', ',')}"] = taken[with_class] / wrong
    causes = sorted(explained, key=lambda cause: explained[cause], reverse=True)
    causes = causes or ["incomplete" if own - hit >= guessed - hit else "spilled over"]
    if own / truth.size < SMALL_AREA_FRACTION or thickness <= 2 * band_width(truth.shape) - 1:
        causes.append("too small")
    if kinds[class_id] == THING and _on_border(region) >= BORDER_FRACTION:
        causes.append("cut by the border")
    return row | {"causes": "; ".join(causes)}


def _near_boundary(truth: Mask, guessed: Flags, region: Flags) -> tuple[int, float]:
    """Wrong pixels within the band of the region's outline, and twice its largest distance to the outside, less 1."""
    if region.all():
        return 0, float(min(region.shape))
    width, void = band_width(truth.shape), truth == np.iinfo(truth.dtype).max
    # Void beside the region is crossed for free: the region grows into it, step by step.
    reached = region
    for _ in range(width):
        grown = ndimage.binary_dilation(reached, ACROSS) & (region | void)
        if (grown == reached).all():
            break
        reached = grown
    inside = ndimage.distance_transform_edt(region)
    outside = ndimage.distance_transform_edt(~reached)
    wrong = (region != guessed) & ~void
    near = wrong & np.where(region, inside <= width, outside <= width)
    return int(near.sum()), 2 * float(inside.max()) - 1


def _on_border(region: Flags) -> float:
    """Share of the region's contour, pixels beside its outside or at the image's border, that lies on that border."""
    contour = region & ~ndimage.binary_erosion(region, ACROSS, border_value=0)
    border = np.ones(region.shape, bool)
    border[1:-1, 1:-1] = False
    return float((contour & border).sum() / contour.sum())
