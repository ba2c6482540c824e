"""What becomes of images before a model sees them, in words for the plan."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence

from search_spaces.core.space import SearchSpace
from sweep.compiled import values_of
from trainables.config import format_size, parse_size
from trainables.data.base import SegmentationData
from trainables.data.resizing import content_size
from trainables.data.small_objects import lost_parts
from trainables.data.tiles import MOST_TILES, OVERLAP, tiles_per_epoch, window_count
from trainables.data.usual_size import UsualSize
from trainables.options import CROP, LETTERBOX, TILE, scale_of, way_of
from trainables.registry import Scalar
from trainables.words import some_of

RGB = 3
MUCH = 1.1
"""From which factor between the two sides' scales on stretched images are told to be out of shape."""


def inputs_text(space: SearchSpace, base: Mapping[str, Scalar], usual: UsualSize) -> str:
    """Sizes of the images and of the model's input, and how the one becomes the other.

    Args:
        space: With overrides fixed.
        base: Keys common to all trials.
        usual: The data set's input size where nobody says one.
    """
    sizes = [str(size) for size in values_of(space, base, "image_size")]
    ways = [str(way) for way in values_of(space, base, "resize")]
    images = _images(usual)
    if len(ways) > 1:
        return f"{images}; inputs of {some_of(sizes)}, each with {' and with '.join(ways)}"
    height, width = parse_size(sizes[0])
    if len(sizes) == 1 and set(usual.sizes) == {(height, width)} and scale_of(ways[0]) == 1:
        return f"{images}, as large as the model's input"
    if way_of(ways[0]) == TILE:
        return f"{images}; {_tiles(usual, sizes, ways[0])}{_drawn(space, base)}"
    if ways[0] == CROP:
        each = "each resized to cover" if len(sizes) == 1 else "each resized to cover one of"
        return (
            f"{images}; {each} {some_of(sizes)} with its aspect kept: training sees a random part of that size, an "
            f"evaluation the whole image{_why(usual, sizes)}{_drawn(space, base)}"
        )
    if ways[0] == LETTERBOX:
        void = usual.void_share((height, width))
        beside = f"; {void:.0%} of an input of {sizes[0]} is void on average" if void >= 0.005 else ""
        return f"{images}; resized to fit within {some_of(sizes)} with their aspect kept{beside}{_why(usual, sizes)}"
    told = f"{images}; stretched to {some_of(sizes)}"
    if usual.median is None:
        return told
    factor = (height / usual.median[0]) / (width / usual.median[1])
    if max(factor, 1 / factor) < MUCH:
        return told
    shape = "tall for their width" if factor > 1 else "wide for their height"
    return f"{told}: what they show becomes {max(factor, 1 / factor):.2f} times as {shape} (resize=crop keeps it)"


def lost_text(space: SearchSpace, base: Mapping[str, Scalar], data: SegmentationData, ids: Sequence[str]) -> str:
    """Says that images lose much of what they show when they are resized, and what to do; empty if they do not.

    Args:
        space: With overrides fixed.
        base: Keys common to all trials.
        data: The data set.
        ids: Images of which a few are looked at.
    """
    ways = values_of(space, base, "resize")
    if TILE in map(way_of, map(str, ways)):
        return ""
    largest = max((parse_size(str(size)) for size in values_of(space, base, "image_size")), key=math.prod)
    lost = lost_parts(data, ids, largest, str(ways[0]))
    return str(lost) if lost.much else ""


def bands_text(data: SegmentationData, left_out: str) -> str:
    """What is done for images of other channels than red, green and blue, to follow `inputs_text`; empty for others.

    Args:
        data: The data set.
        left_out: What of the space is not for such images.
    """
    bands = data.bands
    if bands is None:
        return ""
    known = "" if bands.colours is None else ", but for red, green and blue, which keep the model's own"
    told = f"; {bands}, normalised with the mean and deviation of the training images{known}"
    if bands.channels != RGB:
        told += f"; first convolutions widened from {RGB} channels to {bands.channels}"
    return told + (f"; {left_out}" if left_out else "")


def _images(usual: UsualSize) -> str:
    if usual.median is None:
        return "images of sizes that are not known"
    median = format_size(usual.median)
    return f"all {median}" if len(set(usual.sizes)) == 1 else f"median {median}"


def _tiles(usual: UsualSize, sizes: list[str], resize: str) -> str:
    """How many tiles training draws of an image in an epoch, and how many windows an evaluation slides over it."""
    scale = scale_of(resize)
    seen = "not resized" if scale == 1 else f"resized to {scale:g} of their height and width, masks scored at full size"
    told = f"{seen}: training sees random tiles of {some_of(sizes)}"
    if not usual.sizes or len(sizes) > 1:
        return f"{told}, an evaluation slides windows of that size over whole images"
    tile = parse_size(sizes[0])
    shown = [content_size(size, tile, resize) for size in usual.sizes]
    drawn, slid = (statistics.fmean(count(size, tile) for size in shown) for count in (tiles_per_epoch, window_count))
    return (
        f"{told}, {drawn:.3g} of an image in an epoch (as many as its pixels fill, at most {MOST_TILES}); an "
        f"evaluation slides {slid:.3g} windows over an image, which overlap by {OVERLAP:.0%} or more"
    )


def _drawn(space: SearchSpace, base: Mapping[str, Scalar]) -> str:
    """What share of the parts that training sees is drawn to show a class; empty where none is."""
    shares = sorted(
        {float(share) for share in values_of(space, {"training.class_tiles": 0, **base}, "training.class_tiles")}
    )
    if shares[-1] == 0:
        return ""
    return (
        f"; {' or '.join(f'{share:.0%}' for share in shares)} of training's parts are drawn around a class of the mask"
    )


def _why(usual: UsualSize, sizes: list[str]) -> str:
    """Where a size comes from that nobody chose and that is not the data set's own."""
    if format_size(usual.size) not in sizes or usual.size == usual.own:
        return ""
    return f" ({format_size(usual.size)}: the median's aspect, about as many pixels as {format_size(usual.own)})"
