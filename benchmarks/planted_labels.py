"""Masks with label errors of known kinds: what `benchmarks/label_errors.py` is held against.

Kinds as in Lad and Mueller, "Estimating label quality and errors in semantic segmentation data via any model" (ICML
2023 workshop), for one connected component of a thing: `drop` (it is gone, what is behind it fills its place), `swap`
(it has another thing's class), `shift` (it lies elsewhere, by more than a boundary is wide).

Limits and seeds were written before anything was evaluated.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from analysis.failures.components import find_components
from analysis.failures.kinds import Kind, Kinds
from analysis.failures.measure import boundary_width
from trainables.data.base import VOID, Mask

KINDS = ("drop", "swap", "shift")
TUNING_SEEDS = (21, 22)
"""Looked at while the rules were written."""
EVALUATION_SEEDS = (3101, 3102, 3103)
"""For the published table only."""
SHARE_OF_IMAGES = 0.2
"""That get one error each."""
LEAST_PIXELS = 60
"""Of a component that gets one, and of what it changes."""
SHIFT = (0.3, 0.6)
"""How far a component is moved, as a share of the diameter of a disk of its size; at least three boundary widths."""
RIGHT_SHARE = 0.5
"""A claimed region is right if so much of it was changed."""

Region = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class PlantedLabel:
    """A mask with one error, and the pixels that it changed, bool of shape (H, W)."""

    mask: Mask
    kind: str
    changed: Region


def plant_labels(truths: list[Mask], kinds: Kinds, seed: int) -> dict[int, PlantedLabel]:
    """Gives a share of the masks one error each, kinds in turn; by the place of the mask.

    Args:
        truths: True masks.
        kinds: Which classes are background, stuff and things.
        seed: Of what is drawn.
    """
    rng = np.random.default_rng(seed)
    planted: dict[int, PlantedLabel] = {}
    for place in rng.permutation(len(truths)).tolist():
        if len(planted) >= SHARE_OF_IMAGES * len(truths):
            break
        made = plant_label(truths[place], kinds, KINDS[len(planted) % len(KINDS)], rng)
        if made is not None:
            planted[place] = made
    return planted


def plant_label(truth: Mask, kinds: Kinds, kind: str, rng: np.random.Generator) -> PlantedLabel | None:
    """One error in a mask; None where no component allows it."""
    components = find_components(truth)
    is_thing = (components.values != VOID) & (
        kinds[np.where(components.values == VOID, 0, components.values)] == Kind.THING
    )
    fit = np.flatnonzero(is_thing & (components.pixels >= LEAST_PIXELS))
    for component in rng.permutation(fit).tolist():
        region = components.labels == component
        class_id = int(components.values[component])
        mask = _changed(truth, region, class_id, kinds, kind, rng)
        changed = (mask != truth) & (truth != VOID)
        if changed.sum() >= LEAST_PIXELS:
            return PlantedLabel(mask, kind, changed)
    return None


def _changed(truth: Mask, region: Region, class_id: int, kinds: Kinds, kind: str, rng: np.random.Generator) -> Mask:
    if kind == "swap":
        others = np.flatnonzero((kinds == Kind.THING) & (np.arange(len(kinds)) != class_id))
        return np.where(region, np.uint8(rng.choice(others)), truth).astype(np.uint8)
    behind = (truth != VOID) & ~region & (kinds[np.where(truth == VOID, 0, truth)] < Kind.THING)
    if not behind.any():
        return truth
    rows, columns = ndimage.distance_transform_edt(~behind, return_distances=False, return_indices=True)
    filled = np.where(region, truth[rows, columns], truth).astype(np.uint8)
    if kind == "drop":
        return filled
    least = 3 * boundary_width((truth.shape[0], truth.shape[1]))
    far = max(least, rng.uniform(*SHIFT) * 2 * math.sqrt(region.sum() / math.pi))
    angle = rng.uniform(0, 2 * math.pi)
    moved = np.zeros_like(region)
    down, right = round(far * math.sin(angle)), round(far * math.cos(angle))
    height, width = region.shape
    own_rows, own_columns = np.nonzero(region)
    new_rows, new_columns = own_rows + down, own_columns + right
    inside = (new_rows >= 0) & (new_rows < height) & (new_columns >= 0) & (new_columns < width)
    moved[new_rows[inside], new_columns[inside]] = True
    return np.where(moved & (truth != VOID), np.uint8(class_id), filled).astype(np.uint8)
