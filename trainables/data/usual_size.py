"""The input size of a data set where nobody says one: its images' aspect, its own default's number of pixels."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from trainables.data.base import SegmentationData
from trainables.data.reading.read import stored_size
from trainables.data.resizing import Size, content_size
from trainables.options import LETTERBOX

SAMPLE = 400
"""Most files whose heads are looked at, spread over the data set."""
LEAST_SIDE = 32
"""The least that every model takes."""
STEP = 8
"""Sides are multiples of it."""
AROUND = (0.9, 1.1)
"""Pixels of the size, as a share of those of the data set's own default."""


@dataclass(frozen=True)
class UsualSize:
    """An input size and what it follows from.

    Attributes:
        size: Height and width.
        sizes: Of the images that were looked at, each once per image; empty where none could be read.
        own: The data set's own default, which gives the number of pixels.
    """

    size: Size
    sizes: tuple[Size, ...]
    own: Size

    @property
    def median(self) -> Size | None:
        """Median height and median width of the images."""
        return _median(self.sizes)

    def void_share(self, size: Size) -> float:
        """Share of an input of some size that images leave void on average where they keep their aspect."""
        if not self.sizes:
            return 0.0
        taken = statistics.fmean(math.prod(content_size(one, size, LETTERBOX)) for one in self.sizes)
        return 1 - taken / math.prod(size)


def usual_size(data: SegmentationData) -> UsualSize:
    """The default input size for a data set.

    Where images of the median size fill the data set's own default, that is it. Otherwise its sides are multiples of 8
    with about as many pixels as that, of which an image of the median size leaves the least void.

    Args:
        data: The heads of at most `SAMPLE` of its masks are read: masks lie as images do once those are turned.
    """
    ids = data.ids()
    some = ids if len(ids) <= SAMPLE else [ids[place * len(ids) // SAMPLE] for place in range(SAMPLE)]
    found = (stored_size(data.paths(image_id)[1], data.page(image_id)) for image_id in some)
    sizes = tuple(size for size in found if size is not None and min(size) > 0)
    return UsualSize(_chosen(_median(sizes), data.default_image_size), sizes, data.default_image_size)


def _chosen(median: Size | None, own: Size) -> Size:
    if median is None or content_size(median, own, LETTERBOX) == own:
        return own
    pixels = math.prod(own)

    def void(size: Size) -> tuple[float, float]:
        taken = math.prod(content_size(median, size, LETTERBOX)) / math.prod(size)
        return 1 - taken, abs(math.log(math.prod(size) / pixels))

    return min(_candidates(median, pixels), key=void, default=own)


def _candidates(median: Size, pixels: int) -> Iterator[Size]:
    """Sizes of about the aspect and the number of pixels wanted; a side of very thin images is as short as may be."""
    height = math.sqrt(pixels * median[0] / median[1])
    for rows in _multiples(0.8 * height, 1.25 * height):
        for columns in _multiples(AROUND[0] * pixels / rows, AROUND[1] * pixels / rows):
            yield rows, columns


def _multiples(low: float, high: float) -> range:
    first = max(LEAST_SIDE, STEP * math.ceil(low / STEP))
    return range(first, max(first, math.floor(high)) + 1, STEP)


def _median(sizes: Sequence[Size]) -> Size | None:
    if not sizes:
        return None
    return round(statistics.median(h for h, _ in sizes)), round(statistics.median(w for _, w in sizes))
