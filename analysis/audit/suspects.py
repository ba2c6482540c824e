"""Masks that may be wrong, found again: docs/METRICS.md, "Label errors"."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from analysis.audit.components import find_parts
from analysis.audit.pixels import Flags, Integers, Mask
from analysis.audit.types import band_width, wide

# The limits of docs/METRICS.md.
LEAST_CHECKPOINTS = 3
LEAST_IMAGES = 20
AGREE_SHARE = 2 / 3
LEAST_CONFIRMED = 0.6
LEAST_SCORE = 0.8
SIZES = 8


@dataclass(frozen=True)
class _Suspect:
    """A connected part of a mask that the models contradict.

    Attributes:
        image: Place of the image.
        masked: Class in the mask.
        said: Class that the models agree on.
        agreement: Mean share of them that say it.
        agree: How many say it on most of the part.
        whole: Share of the mask's component, or of the models', that it covers: the larger.
        pixels: Size.
        box: Top, left, bottom, right.
        sizes: Of the component in the mask, and of that of the models.
    """

    image: int
    masked: int
    said: int
    agreement: float
    agree: int
    whole: float
    pixels: int
    box: tuple[int, int, int, int]
    sizes: tuple[int, int]


def suspects(
    image_ids: Sequence[str],
    masks_of: Callable[[int], tuple[Mask, Sequence[Mask]]],
    names: Sequence[str],
) -> list[dict[str, float | str]]:
    """Rows of the table `label_errors`, in no order.

    Args:
        image_ids: Of the split.
        masks_of: From the place of an image to its mask and what each checkpoint predicts.
        names: Of the classes.
    """
    if len(image_ids) < LEAST_IMAGES or len(masks_of(0)[1]) < LEAST_CHECKPOINTS:
        return []
    counts = np.zeros((len(image_ids), 2, len(names), SIZES, 2), np.int64)
    found: list[_Suspect] = []
    checkpoints = 0
    for image in range(len(image_ids)):
        mask, predictions = masks_of(image)
        checkpoints = len(predictions)
        votes = np.stack(
            [sum((one == class_id).astype(np.int64) for one in predictions) for class_id in range(len(names))]
        )
        void = np.iinfo(mask.dtype).max
        said = votes.argmax(axis=0).astype(mask.dtype)
        said[votes.max(axis=0) < AGREE_SHARE * checkpoints - 1e-9] = void
        for side, (own, other) in enumerate(((mask, said), (said, mask))):
            _count_confirmed(own, other, (mask != void) & (said != void), counts[image, side])
        found += _parts_of(image, mask, said, votes.max(axis=0), predictions)
    total = counts.sum(axis=0)
    asked, right = total[0].sum(axis=(0, 1))
    if not asked or right / asked < LEAST_CONFIRMED:
        return []
    rows: list[dict[str, float | str]] = []
    for one in found:
        trust = 1.0
        for side, class_id in enumerate((one.masked, one.said)):
            # On all other images.
            all_of, confirmed = (total - counts[one.image])[side, class_id, one.sizes[side]]
            trust *= confirmed / (all_of + 1)
        score = one.agreement * trust * one.whole
        if score >= LEAST_SCORE:
            rows.append(
                {
                    "image_id": image_ids[one.image],
                    "class": names[one.masked],
                    "models_say": names[one.said],
                    "agree": one.agree,
                    "checkpoints": checkpoints,
                    "score": score,
                    "pixels": one.pixels,
                    **dict(zip(("top", "left", "bottom", "right"), one.box, strict=True)),
                }
            )
    return rows


def _parts_of(image: int, mask: Mask, said: Mask, votes: Integers, predictions: Sequence[Mask]) -> list[_Suspect]:
    void = np.iinfo(mask.dtype).max
    differs = (mask != void) & (said != void) & (mask != said)
    pairs = np.where(differs, 1 + mask.astype(np.int64) * void + said, 0)
    pairs[~wide(pairs, band_width(mask.shape))] = 0
    parts, in_mask, by_models = find_parts(pairs), find_parts(mask), find_parts(said)
    found = []
    for number, place in enumerate(parts.places()):
        if not parts.values[number]:
            continue
        own = parts.labels == number
        size = int(own.sum())
        masked, name = divmod(int(parts.values[number]) - 1, void)
        around = [int(side.pixels[side.labels[own][0]]) for side in (in_mask, by_models)]
        found.append(
            _Suspect(
                image=image,
                masked=masked,
                said=name,
                agreement=float(votes[own].mean() / len(predictions)),
                agree=sum(int((one[own] == name).sum() * 2 > size) for one in predictions),
                whole=max(size / pixels for pixels in around),
                pixels=size,
                box=(place[0].start, place[1].start, place[0].stop, place[1].stop),
                sizes=(_size(around[0], mask.size), _size(around[1], mask.size)),
            )
        )
    return found


def _count_confirmed(own: Mask, other: Mask, told: Flags, counts: Integers) -> None:
    """Adds the components of one side by class and size, and those that the other side confirms on most pixels."""
    parts = find_parts(own)
    for number, (rows, columns) in enumerate(parts.places()):
        value = int(parts.values[number])
        inside = parts.labels[rows, columns] == number
        seen = int((inside & told[rows, columns]).sum())
        if value == np.iinfo(own.dtype).max or 2 * seen <= parts.pixels[number]:
            continue
        right = int((inside & told[rows, columns] & (other[rows, columns] == value)).sum())
        counts[value, _size(int(parts.pixels[number]), own.size)] += (1, int(2 * right > seen))


def _size(pixels: int, of_image: int) -> int:
    """Of a component: its share of the image in steps of four, 0 for the largest."""
    step = 0
    while step < SIZES - 1 and pixels * 4 ** (step + 1) <= of_image:
        step += 1
    return step
