"""The factors of an image's true components, measured again with NumPy and SciPy on the whole image.

docs/METRICS.md, "Factors", has the definitions. Nothing is predicted here: image and truth alone.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from analysis.audit.components import Parts, by_value
from analysis.audit.pixels import Flags, Floats, Integers, Mask
from analysis.audit.types import band_width
from trainables.data.bands import Bands

NAMES = (
    *("light", "range", "brightness", "contrast", "saturation", "blur", "noise", "size", "thinness", "truncation"),
    *("crowding", "off_centre", "height"),
)
"""In the order of the columns."""

LOOKS = ("brightness", "contrast", "saturation")
"""How a component looks, which follows from the others."""

DISTANCE, FREQUENCY = "distance", "frequency"
"""Of the image from training, which the report kept, and of the class in training."""

THING = 2
LUMA = np.array([9798, 19235, 3735])
"""0.299, 0.587 and 0.114 of Rec. 601 in parts of 2^15."""
EDGE_STEPS, EDGE_SHARE, LEAST_RISE = 5, 0.05, 8
DIRECTIONS = ((0, 1), (1, 0), (1, 1), (1, -1))


def measure(
    image: npt.NDArray[np.uint8],
    truth: Mask,
    parts: Parts,
    kinds: npt.NDArray[np.integer],
    bands: Bands | None = None,
) -> Floats:
    """The factors of every true component that is no background, in the order of their numbers, shape (K, 13).

    Args:
        image: Shape (H, W, C).
        truth: Class ids and void, shape (H, W).
        parts: Its components.
        kinds: Background 0, stuff 1 or thing 2 of each class.
        bands: What its channels are; None: red, green and blue.
    """
    kind_of = by_value(kinds)
    numbers = np.arange(len(parts))
    if bands is None:
        grey, colours = (image.astype(np.int64) @ LUMA + 2**14) >> 15, image
    else:
        grey = np.rint(image.sum(axis=2, dtype=np.int64) / image.shape[2]).astype(np.int64)
        named = [bands.numbers.index(number) for number in bands.colours or ()]
        colours = image[..., named]
    saturation = _saturation(colours) if colours.shape[2] else np.full(truth.shape, np.nan)

    def mean_of(values: npt.NDArray[np.generic]) -> Floats:
        return np.bincount(parts.labels.ravel(), values.ravel(), len(parts)) / parts.pixels

    height, width = truth.shape
    rows, columns = np.mgrid[:height, :width]
    down = (mean_of(rows) + 0.5) / height
    across = (mean_of(columns) + 0.5) / width
    light = grey.mean()
    edge = _edges(parts.labels)
    border = np.ones(truth.shape, bool)
    border[1:-1, 1:-1] = False
    on_border = mean_of(border) * parts.pixels
    contrast, crowding = _surroundings(image, parts.labels, truth, truth < len(kinds), kind_of)
    thickness = _thickness(parts.labels, edge, numbers)
    same = np.ones(len(parts))
    found = {
        "light": same * light / 255,
        "range": same * grey.std() / max(1, light),
        "brightness": mean_of(grey) / max(1, light) - 1,
        "contrast": contrast,
        "saturation": mean_of(saturation) / 255,
        "blur": same * _blur(grey),
        "noise": same * _noise(grey),
        "size": np.log10(parts.pixels / truth.size),
        "thinness": 1 - np.minimum(1, thickness / (2 * np.sqrt(parts.pixels / np.pi))),
        "truncation": on_border / np.maximum(1, mean_of(edge | border) * parts.pixels),
        "crowding": crowding,
        "off_centre": np.sqrt(((down - 0.5) ** 2 + (across - 0.5) ** 2) / 0.5),
        "height": down,
    }
    own = kind_of[parts.values] > 0
    return np.stack([np.asarray(found[name])[own] for name in NAMES], axis=1)


def _saturation(image: npt.NDArray[np.uint8]) -> Integers:
    """Saturation of HSV in 0 .. 255, rounded as OpenCV does: 255 / value in parts of 2^12 first."""
    value = image.max(axis=2).astype(np.int64)
    scale = np.rint(np.divide(255 * 2**12, value, out=np.zeros(value.shape), where=value > 0)).astype(np.int64)
    return np.asarray(((value - image.min(axis=2)) * scale + 2**11) >> 12)


def _edges(labels: Integers) -> Flags:
    """Pixels beside another component."""
    edge = np.zeros(labels.shape, bool)
    for one, other in ((np.s_[1:], np.s_[:-1]), (np.s_[:, 1:], np.s_[:, :-1])):
        differs = labels[one] != labels[other]
        edge[one] |= differs
        edge[other] |= differs
    return edge


def _thickness(labels: Integers, edge: Flags, numbers: Integers) -> Floats:
    """Twice the largest distance of a component's pixel to its outside, less 1; the image's border is no outside."""
    if not edge.any():
        return np.full(len(numbers), float(min(edge.shape)))
    distance = ndimage.distance_transform_edt(~edge) + 1
    return 2 * np.asarray(ndimage.maximum(distance, labels, numbers), np.float64) - 1


def _surroundings(
    image: npt.NDArray[np.uint8], labels: Integers, truth: Mask, told: Flags, kind_of: Integers
) -> tuple[Floats, Floats]:
    """Contrast to, and share of things in, what lies the band's width beyond the outline in eight directions."""
    count, step = int(labels.max()) + 1, band_width(labels.shape)
    channels = image.shape[2]
    colors, seen, known, things = np.zeros((count, channels)), np.zeros(count), np.zeros(count), np.zeros(count)
    for down, right in DIRECTIONS:
        for sign in (1, -1):
            here, there = _moved(labels.shape, sign * down * step, sign * right * step)
            beyond = labels[here] != labels[there]
            mine, theirs = labels[here][beyond], truth[there][beyond]
            looks = image[there][beyond]
            colors += np.stack([np.bincount(mine, looks[:, channel], count) for channel in range(channels)], axis=1)
            seen += np.bincount(mine, minlength=count)
            known += np.bincount(mine, told[there][beyond], count)
            things += np.bincount(mine, kind_of[theirs] == THING, count)
    sizes = np.bincount(labels.ravel())[:, None]
    inside = np.stack([np.bincount(labels.ravel(), image[..., one].ravel()) for one in range(channels)], axis=1) / sizes
    with np.errstate(invalid="ignore", divide="ignore"):
        outside = colors / seen[:, None]
        apart = np.sqrt(((inside - outside) ** 2).sum(axis=1))
        lengths = np.sqrt((inside**2).sum(axis=1)) + np.sqrt((outside**2).sum(axis=1))
        return apart / lengths, things / known


def _moved(shape: tuple[int, ...], down: int, right: int) -> tuple[tuple[slice, slice], tuple[slice, slice]]:
    """Where pixels are that have one so far away, and where that is."""

    def sides(length: int, step: int) -> tuple[slice, slice]:
        first, last = max(0, -step), max(0, length - max(0, step))
        last = max(first, last)
        return slice(first, last), slice(first + step, last + step)

    rows, columns = sides(shape[0], down), sides(shape[1], right)
    return (rows[0], columns[0]), (rows[1], columns[1])


def _blur(grey: Integers) -> float:
    """What of the rise of an image's strong edges over six pixels is not in the steepest step, median."""
    if min(grey.shape) <= EDGE_STEPS:
        return float("nan")
    rises, steepest = [], []
    for lines in (grey[::2], grey.T[::2]):
        steps = np.lib.stride_tricks.sliding_window_view(np.abs(np.diff(lines, axis=1)), EDGE_STEPS, axis=1)
        steepest.append(steps.max(axis=2).ravel())
        rises.append(np.abs(lines[:, EDGE_STEPS:] - lines[:, :-EDGE_STEPS]).ravel())
    rise, steep = np.concatenate(rises), np.concatenate(steepest)
    strongest = np.sort(rise)[-max(1, int(EDGE_SHARE * len(rise)))]
    edges = rise >= max(LEAST_RISE, strongest)
    return float(1 - min(1.0, np.median(steep[edges] / rise[edges]))) if edges.any() else float("nan")


def _noise(grey: Integers) -> float:
    """Immerkær's estimate with a median: of what is left of the rows' and columns' second differences."""
    if min(grey.shape) < 3:
        return float("nan")
    left = np.diff(np.diff(grey, n=2, axis=0), n=2, axis=1)[::2]
    return float(np.median(np.abs(left)) / 6 / 0.6745)
