"""What can make a component hard, measured on the image and its truth alone: no prediction is looked at."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from analysis.failures.components import Components, Integers
from analysis.failures.kinds import Kind, Kinds
from trainables.data.bands import Bands, grey_of
from trainables.data.base import Image
from trainables.data.void import void_id


@dataclass(frozen=True)
class Factor:
    """Something measured.

    Attributes:
        name: Its column.
        axis: From low to high, as a figure names it.
        low: What components with a low value are, in a sentence.
        high: What those with a high value are.
        stage: What follows from what: 0 where a component is and how its image was taken, 1 how it looks for that, 2
            how strange the model finds the image for all of it. A factor is adjusted for none of a later stage.
    """

    name: str
    axis: str
    low: str
    high: str
    stage: int = 0


FACTORS = (
    Factor("light", "dark → bright image", "in dark images", "in bright images"),
    Factor("range", "flat → contrasty image", "in images of little contrast", "in images of much contrast"),
    Factor("brightness", "darker → brighter than image", "darker than their image", "brighter than their image", 1),
    Factor(
        "contrast",
        "little → much contrast",
        "of little contrast to their surroundings",
        "of much contrast to their surroundings",
        1,
    ),
    Factor("saturation", "pale → colourful", "pale", "colourful", 1),
    Factor("blur", "sharp → blurred image", "in sharp images", "in blurred images"),
    Factor("noise", "clean → noisy image", "in images with little noise", "in noisy images"),
    Factor("size", "small → large", "small", "large"),
    Factor("thinness", "compact → thin", "compact", "thin"),
    Factor("truncation", "whole → cut by the border", "away from the image's border", "cut by the image's border"),
    Factor("crowding", "alone → beside other things", "on their own", "beside other things"),
    Factor("off_centre", "middle → edge of the image", "near the image's middle", "far from the image's middle"),
    Factor("height", "high → low in the image", "high in the image", "low in the image"),
)
"""What is measured on image and truth, in the order of the columns; docs/METRICS.md has their definitions."""

DISTANCE = Factor(
    "distance",
    "like → unlike training images",
    "in images like the training images",
    "in images unlike the training images",
    2,
)
FREQUENCY = Factor(
    "frequency",
    "class rare → common in training",
    "of classes in few training images",
    "of classes in many training images",
)
ALL_FACTORS = (*FACTORS, DISTANCE, FREQUENCY)
"""With those that need the images that a model was trained on (`analysis.failures.training`)."""

EDGE_STEPS = 5
EDGE_SHARE = 0.05
LEAST_RISE = 8.0
"""Edges are the strongest share of runs of so many steps from a pixel to the next, of at least so many grey levels."""


def measure_factors(
    image: Image, truth: Components, kinds: Kinds, width: int, bands: Bands | None = None
) -> tuple[Integers, npt.NDArray[np.float64]]:
    """Measures every factor of every true component but those of background.

    Args:
        image: uint8 of shape (H, W, C).
        truth: Components of its true mask.
        kinds: Of the classes.
        width: How far beyond its outline a component's surroundings begin, in pixels.
        bands: What the image's channels are; None: red, green and blue. Grey is the mean of bands, contrast the
            distance in all of them, and saturation is measured where it is known which are red, green and blue.

    Returns:
        The numbers of the components, shape (K,), and their factors, shape (K, len(FACTORS)); NaN where one cannot be
        measured.

    Raises:
        ValueError: If image and mask differ in size.
    """
    if image.shape[:2] != truth.labels.shape:
        raise ValueError(f"the image is {image.shape[:2]}, its mask {truth.labels.shape}")
    count = len(truth)
    is_known = truth.values != void_id(len(kinds))
    kind = np.where(is_known, kinds[np.where(is_known, truth.values, 0)], Kind.BACKGROUND)
    grey = grey_of(image, bands).astype(np.float32)
    runs = _runs(truth)
    contrast, crowding = _surroundings(image, truth, runs, kind, is_known, width)
    contour, on_border = _contours(truth)
    down, across = _middles(runs, truth.labels.shape)
    thickness = _thickness(runs, contour)
    blur, noise = blur_of(grey), noise_of(grey)
    factors = {
        "light": np.full(count, grey.mean() / 255),
        "range": np.full(count, grey.std() / max(1.0, grey.mean())),
        "brightness": runs.means(grey) / max(1.0, grey.mean()) - 1,
        "contrast": contrast,
        "saturation": _saturation(image, runs, bands),
        "blur": np.full(count, blur),
        "noise": np.full(count, noise),
        "size": np.log10(truth.pixels / truth.labels.size),
        "thinness": 1 - np.minimum(1, thickness / np.sqrt(4 * truth.pixels / np.pi)),
        "truncation": on_border,
        "crowding": crowding,
        "off_centre": np.hypot(down - 0.5, across - 0.5) / np.sqrt(0.5),
        "height": down,
    }
    own = np.flatnonzero(kind > Kind.BACKGROUND)
    return own, np.stack([factors[factor.name][own] for factor in FACTORS], axis=1)


def _saturation(image: Image, runs: _Runs, bands: Bands | None) -> npt.NDArray[np.float64]:
    """Mean saturation of each component (HSV); NaN where nobody knows which bands are red, green and blue."""
    if bands is not None:
        if bands.places is None:
            return np.full(len(runs.pixels), np.nan)
        image = np.ascontiguousarray(image[..., list(bands.places)])
    return runs.means(cv2.cvtColor(image, cv2.COLOR_RGB2HSV)[..., 1]) / 255


def blur_of(grey: npt.NDArray[np.float32]) -> float:
    """How blurred an image is, 0 (sharp) .. 0.8: what of the rise of its strong edges is not in their steepest pixel.

    The width of edges after Marziliano et al., "A No-Reference Perceptual Blur Metric" (ICIP 2002), here for runs of
    six pixels along rows and columns: the strongest 5% of them are edges, whatever their noise; the median counts.

    Args:
        grey: Shape (H, W).
    """
    if min(grey.shape) <= EDGE_STEPS:
        return float("nan")
    rises, steepest = [], []
    for along in (grey, grey.T):
        # Every other line is enough, for edges are longer than two pixels.
        lines = np.ascontiguousarray(along[::2])
        steps = np.abs(np.diff(lines, axis=1))
        widest = cv2.dilate(steps, np.ones((1, EDGE_STEPS), np.uint8))
        steepest.append(widest[:, EDGE_STEPS // 2 : -(EDGE_STEPS // 2)].ravel())
        rises.append(np.abs(lines[:, EDGE_STEPS:] - lines[:, :-EDGE_STEPS]).ravel())
    rise, steep = np.concatenate(rises), np.concatenate(steepest)
    edges = max(1, int(EDGE_SHARE * len(rise)))
    is_edge = rise >= max(LEAST_RISE, float(np.partition(rise, -edges)[-edges]))
    if not is_edge.any():
        return float("nan")
    return float(1 - min(1.0, np.median(steep[is_edge] / rise[is_edge])))


def noise_of(grey: npt.NDArray[np.float32]) -> float:
    """Standard deviation of an image's noise in grey levels.

    Immerkær, "Fast Noise Variance Estimation" (CVIU 64, 1996), with the median in place of the mean, which edges and
    texture would raise.

    Args:
        grey: Shape (H, W), 0 .. 255.
    """
    if min(grey.shape) < 3:
        return float("nan")
    kernel = np.array([[1, -2, 1], [-2, 4, -2], [1, -2, 1]], np.float32)
    inside = cv2.filter2D(grey, cv2.CV_32F, kernel)[1:-1:2, 1:-1]
    # 6 is the norm of the kernel, 0.6745 the median of the absolute value of a standard normal variable.
    return float(np.median(np.abs(inside)) / 6 / 0.6745)


@dataclass(frozen=True)
class _Runs:
    """The runs of pixels of one component in a row.

    Attributes:
        first: Place of each run's first pixel in the flat image, shape (R,).
        lengths: Pixels, shape (R,).
        components: Shape (R,).
        pixels: Of each component, shape (K,).
    """

    first: Integers
    lengths: Integers
    components: Integers
    pixels: Integers

    def means(self, values: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
        """Mean of an image over each component, shape (K,)."""
        return self.mean_of_sums(np.add.reduceat(values.ravel(), self.first, dtype=np.float64))

    def mean_of_sums(self, sums: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """The same from the sums over runs."""
        return np.asarray(np.bincount(self.components, sums, len(self.pixels)) / self.pixels)


def _runs(truth: Components) -> _Runs:
    starts = np.ones(truth.labels.shape, bool)
    np.not_equal(truth.labels[:, 1:], truth.labels[:, :-1], out=starts[:, 1:])
    first = np.flatnonzero(starts)
    lengths = np.diff(np.append(first, starts.size))
    return _Runs(first, lengths, truth.labels.ravel()[first].astype(np.int64), truth.pixels)


def _middles(runs: _Runs, shape: tuple[int, ...]) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Mean row and column of each component, 0 .. 1 from the top left."""
    rows, lefts = np.divmod(runs.first, shape[1])
    down = runs.mean_of_sums((rows + 0.5) * runs.lengths)
    across = runs.mean_of_sums((lefts + runs.lengths / 2) * runs.lengths)
    return down / shape[0], across / shape[1]


def _surroundings(
    image: Image, truth: Components, runs: _Runs, kind: Integers, is_known: npt.NDArray[np.bool_], width: int
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Contrast and crowding: what lies `width` pixels beyond the outline, in eight directions.

    Contrast is the distance of the mean colours over the sum of their lengths (Michelson's, in all channels), which
    does not change with the exposure; crowding the share of what is there that belongs to other things. Void is left
    out of crowding; contrast takes it as it looks.
    """
    labels, count = truth.labels, len(truth)
    inner, outer = [], []
    for down, right in ((0, 1), (1, 0), (1, 1), (1, -1)):
        pair = _pair(labels.shape, down * width, right * width)
        if pair is None:
            continue
        here, there = pair
        rows, columns = np.nonzero(labels[here] != labels[there])
        one = (rows + here[0].start) * labels.shape[1] + columns + here[1].start
        other = (rows + there[0].start) * labels.shape[1] + columns + there[1].start
        inner += [one, other]
        outer += [other, one]
    inside = np.stack([runs.means(image[..., channel]) for channel in range(image.shape[2])], axis=1)
    if not inner:
        return np.full(count, np.nan), np.full(count, np.nan)
    mine, beyond = labels.ravel()[np.concatenate(inner)], np.concatenate(outer)
    beside = labels.ravel()[beyond]
    channels = image.shape[2]
    colors = image.reshape(-1, channels)[beyond]
    around = np.stack([np.bincount(mine, colors[:, channel], count) for channel in range(channels)], axis=1)
    seen = is_known[beside]
    with np.errstate(invalid="ignore", divide="ignore"):
        outside = around / np.bincount(mine, minlength=count)[:, None]
        crowding = np.bincount(mine, seen & (kind[beside] == Kind.THING), count) / np.bincount(mine, seen, count)
        lengths = np.linalg.norm(inside, axis=1) + np.linalg.norm(outside, axis=1)
        contrast = np.linalg.norm(inside - outside, axis=1) / lengths
    return contrast, crowding


def _pair(shape: tuple[int, ...], down: int, right: int) -> tuple[tuple[slice, slice], tuple[slice, slice]] | None:
    """Slices of an image and of itself moved: the same place in both is a pixel and what lies so far from it."""
    height, width = shape
    if abs(down) >= height or abs(right) >= width:
        return None
    rows = slice(0, height - down), slice(down, height)
    columns = slice(max(0, -right), width - max(0, right)), slice(max(0, right), width - max(0, -right))
    return (rows[0], columns[0]), (rows[1], columns[1])


def _contours(truth: Components) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.float64]]:
    """Pixels with another component beside them, and the share of each component's contour on the image's border."""
    labels = truth.labels
    edge = np.zeros(labels.shape, bool)
    for axis in (0, 1):
        first = [slice(None)] * 2
        second = [slice(None)] * 2
        first[axis], second[axis] = slice(None, -1), slice(1, None)
        differs = labels[tuple(first)] != labels[tuple(second)]
        edge[tuple(first)] |= differs
        edge[tuple(second)] |= differs
    border = np.ones(labels.shape, bool)
    border[1:-1, 1:-1] = False
    contour = np.bincount(labels[edge | border], minlength=len(truth))
    on_border = np.bincount(labels[border], minlength=len(truth))
    return edge, on_border / np.maximum(1, contour)


def _thickness(runs: _Runs, edge: npt.NDArray[np.bool_]) -> npt.NDArray[np.float64]:
    """Width of each component's widest place: 2 r - 1, r the largest distance of a pixel to the outside.

    The image's border is no outside. The distance to the outside is that to the nearest pixel that has another
    component beside it, and one more.
    """
    if not edge.any():
        return np.full(len(runs.pixels), float(min(edge.shape)))
    distance = cv2.distanceTransform((~edge).view(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    furthest = np.zeros(len(runs.pixels))
    np.maximum.at(furthest, runs.components, np.maximum.reduceat(distance.ravel(), runs.first))
    return 2 * (furthest + 1) - 1
