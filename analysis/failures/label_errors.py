"""Where the masks themselves may be wrong: several checkpoints agree on another class, and such models tell the two.

Nothing but predicted masks is needed. That several models agree stands in for the confidence of one (Lakshminarayanan
et al., "Simple and Scalable Predictive Uncertainty Estimation using Deep Ensembles", NeurIPS 2017); how often they
confuse the two classes elsewhere is held against it, as in confident learning (Northcutt et al., JAIR 70, 2021).
docs/METRICS.md has the definition. What is kept of an image are its few suspicious components.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import pandas as pd

from analysis.failures import shapes
from analysis.failures.components import CONNECTIVITY, Components, Integers, find_components
from analysis.failures.measure import boundary_width
from trainables.data.base import Mask
from trainables.data.void import mask_type, void_id
from trainables.machine import cores

COLUMNS = (
    "image_id",
    "class",
    "models_say",
    "agree",
    "checkpoints",
    "score",
    "pixels",
    "top",
    "left",
    "bottom",
    "right",
)
"""Of the table `label_errors`."""

# Limits; docs/METRICS.md has the reason of each.
LEAST_CHECKPOINTS = 3
LEAST_IMAGES = 20
AGREE_SHARE = 2 / 3
SIZES = 8
LEAST_SCORE = 0.8
LEAST_CONFIRMED = 0.7

_ROUNDING = 1e-9
_NO_COUNTS = np.zeros((0, 0), np.int64)

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Suspicions:
    """The components of one image where the models agree on another class than the mask, S of them.

    Attributes:
        masked: Class in the mask, shape (S,).
        said: Class that the models agree on, shape (S,).
        agreement: Mean share of the checkpoints that say it, over the component's pixels, shape (S,).
        agree: Checkpoints that say it on most of the component, shape (S,).
        whole: Share of the mask's component or of the models' one that it covers, the larger, shape (S,).
        pixels: Shape (S,).
        boxes: Top, left, bottom and right, shape (S, 4).
        sizes: Size (`_size`) of the component that each lies in, in the mask and by the models, shape (S, 2).
        counts: Components of the mask, then of the models, by class and size, and how many of them the other side
            confirms on most of their pixels; shape (2, C, SIZES, 2).
    """

    masked: Integers
    said: Integers
    agreement: Floats
    agree: Integers
    whole: Floats
    pixels: Integers
    boxes: Integers
    sizes: Integers
    counts: Integers


def consensus_of(predictions: Sequence[Mask], classes: int) -> tuple[Mask, npt.NDArray[np.uint8]]:
    """The class that most predictions have at each pixel, and how many have it.

    Args:
        predictions: Class ids, each of shape (H, W).
        classes: Number of classes.

    Returns:
        Two arrays of shape (H, W); the class is void where less than `AGREE_SHARE` of the predictions have it.
    """
    most = np.zeros(predictions[0].shape, np.uint8)
    void = void_id(classes)
    chosen: Mask = np.full(most.shape, void, mask_type(classes))
    shown = np.bincount(np.concatenate([prediction.ravel() for prediction in predictions]))
    for class_id in np.flatnonzero(shown):
        votes = np.zeros_like(most)
        for prediction in predictions:
            votes += prediction == class_id
        more = votes > most
        most[more], chosen[more] = votes[more], class_id
    chosen[most < AGREE_SHARE * len(predictions) - _ROUNDING] = void
    return chosen, most


def suspect(mask: Mask, predictions: Sequence[Mask], classes: int, *, connectivity: int = CONNECTIVITY) -> Suspicions:
    """The suspicious components of one image: connected pixels of one class in the mask and another by the models.

    Where the disagreement is no wider than the band of a boundary it is left out.

    Args:
        mask: Class ids and void, shape (H, W).
        predictions: Class ids of the same shape, of models that have not seen the mask.
        classes: Number of classes C.
        connectivity: Of components, 4 or 8.

    Raises:
        ValueError: If the shapes differ.
    """
    if any(prediction.shape != mask.shape for prediction in predictions):
        raise ValueError(f"the mask is {mask.shape}, predictions {[one.shape for one in predictions]}")
    consensus, votes = consensus_of(predictions, classes)
    void = void_id(classes)
    told = (mask != void) & (consensus != void)
    differs = told & (mask != consensus)
    pairs = np.where(differs, mask.astype(np.int64) * classes + consensus, -1)
    width = boundary_width((mask.shape[0], mask.shape[1]))
    kept = differs & shapes.wide((pairs + 1).astype(np.float32), width)
    parts = find_components(np.where(kept, pairs, -1), connectivity=connectivity)
    own = np.flatnonzero(parts.values >= 0)
    masked, said = np.divmod(parts.values[own], classes)
    sides = [find_components(side, connectivity=connectivity) for side in (mask, consensus)]
    share = np.bincount(parts.labels.ravel(), votes.ravel(), len(parts))[own] / parts.pixels[own] / len(predictions)
    agree = np.zeros(len(own), np.int64)
    if len(own):
        of_said = np.full(len(parts), void)
        of_said[own] = said
        wanted = of_said[parts.labels]
        for prediction in predictions:
            hits = np.bincount(parts.labels[prediction == wanted], minlength=len(parts))[own]
            agree += 2 * hits > parts.pixels[own]
    within = _within(parts, own, sides)
    return Suspicions(
        masked=masked,
        said=said,
        agreement=share,
        agree=agree,
        whole=(parts.pixels[own, None] / within).max(axis=1, initial=0),
        pixels=parts.pixels[own],
        boxes=parts.boxes[own],
        sizes=_size(within, mask.size),
        counts=np.stack(
            [_confirmed(one, other, told, classes) for one, other in zip(sides, (consensus, mask), strict=True)]
        ),
    )


def _within(parts: Components, own: Integers, sides: Sequence[Components]) -> Integers:
    """Pixels of the component of the mask and of the models that each part lies in, shape (S, 2)."""
    # A part lies within one component of each: its first pixel says in which.
    first = np.zeros(len(parts), np.int64)
    labels = parts.labels.ravel()
    first[labels[::-1]] = np.arange(len(labels))[::-1]
    return np.stack([side.pixels[side.labels.ravel()[first[own]]] for side in sides], axis=1)


def _size(pixels: Integers, of_image: int) -> Integers:
    """How large components are, 0 .. SIZES - 1: shares of their image in steps of four."""
    return np.clip(np.floor(-np.log2(pixels / of_image) / 2), 0, SIZES - 1).astype(np.int64)


def _confirmed(components: Components, other: Mask, told: npt.NDArray[np.bool_], classes: int) -> Integers:
    """Components by class and size, and those of them of which the other side says the same on most pixels."""
    labels = components.labels.ravel()
    same = (components.values[components.labels] == other) & told
    right = np.bincount(labels, same.ravel(), len(components))
    seen = np.bincount(labels, told.ravel(), len(components))
    # What lies in void, or where the models do not agree, was not asked.
    asked = (components.values < classes) & (2 * seen > components.pixels)
    rows = components.values[asked], _size(components.pixels[asked], labels.size)
    counts = np.zeros((classes, SIZES, 2), np.int64)
    np.add.at(counts[..., 0], rows, 1)
    np.add.at(counts[..., 1], rows, (2 * right > seen)[asked])
    return counts


def find_label_errors(
    image_ids: Sequence[str],
    masks_of: Callable[[str], tuple[Mask, Sequence[Mask]]],
    class_names: Sequence[str],
    *,
    least_score: float = LEAST_SCORE,
    least_confirmed: float = LEAST_CONFIRMED,
    progress: Callable[[int, int], None] | None = None,
) -> pd.DataFrame:
    """The suspicious components of a split, the most suspicious first.

    Args:
        image_ids: Length N.
        masks_of: From an image id to its mask and what each checkpoint predicts there.
        class_names: By class id.
        least_score: A component with a lower score is left out.
        least_confirmed: Models that confirm a smaller share of the mask's components are too weak to judge any.
        progress: Called with how many images are done, and of how many.

    Returns:
        One row each, columns `COLUMNS`; none from fewer than `LEAST_IMAGES` images or `LEAST_CHECKPOINTS` checkpoints.
    """
    nothing = pd.DataFrame(columns=list(COLUMNS)).astype({"score": float})
    if len(image_ids) < LEAST_IMAGES:
        return nothing
    checkpoints = len(masks_of(image_ids[0])[1])
    if checkpoints < LEAST_CHECKPOINTS:
        return nothing

    def of_image(image_id: str) -> Suspicions:
        mask, predictions = masks_of(image_id)
        return suspect(mask, predictions, len(class_names))

    total = np.zeros((2, len(class_names), SIZES, 2), np.int64)
    found: list[tuple[str, Suspicions, Integers]] = []
    with ThreadPoolExecutor(max_workers=cores()) as pool:
        for done, (image_id, one) in enumerate(zip(image_ids, pool.map(of_image, image_ids), strict=True), start=1):
            total += one.counts
            if len(one.masked):
                # The counts themselves are not kept: with many classes they would fill the memory.
                found.append((image_id, replace(one, counts=_NO_COUNTS), _pairs_of(one.counts, one)))
            if progress:
                progress(done, len(image_ids))
    if _share_confirmed(total) < least_confirmed:
        return nothing
    rows = []
    for image_id, one, own in found:
        scores = one.agreement * _trust(_pairs_of(total, one) - own) * one.whole
        for place in np.flatnonzero(scores >= least_score).tolist():
            names = (class_names[int(one.masked[place])], class_names[int(one.said[place])])
            numbers = (int(one.agree[place]), checkpoints, float(scores[place]), int(one.pixels[place]))
            rows.append((image_id, *names, *numbers, *one.boxes[place].tolist()))
    if not rows:
        return nothing
    frame = pd.DataFrame(rows, columns=list(COLUMNS))
    return frame.sort_values(["score", "pixels"], ascending=False, kind="stable", ignore_index=True)


def _share_confirmed(total: Integers) -> float:
    """The share of the mask's components, of all classes and sizes, that the models' agreement confirms."""
    asked, right = total[0].sum(axis=(0, 1))
    return float(right / asked) if asked else 0.0


def _pairs_of(counts: Integers, one: Suspicions) -> Integers:
    """Components like those that each suspicion lies in, and how many were confirmed: shape (S, 2, 2)."""
    sides = ((one.masked, one.sizes[:, 0]), (one.said, one.sizes[:, 1]))
    return np.stack([counts[side][of_class, size] for side, (of_class, size) in enumerate(sides)], axis=1)


def _trust(pairs: Integers) -> Floats:
    """How often the other side confirms such components, on other images: the product of both shares, shape (S,).

    One more that is not confirmed is counted in, so that few say little.
    """
    return np.asarray((pairs[..., 1] / (pairs[..., 0] + 1)).prod(axis=1))
