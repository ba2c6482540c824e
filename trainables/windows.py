"""Large images in overlapping windows: the logits of all of them, blended into those of the image."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from trainables.data.base import Image
from trainables.data.resizing import Size, fill_image, resize_image
from trainables.data.tiles import OVERLAP, windows
from trainables.logits import enlarged_in_bands, resize_logits

LEAST_SIDE = 32
"""Pixels of the smallest input that every model takes (`SegmentationModel`)."""

Run = Callable[[Tensor], Tensor]
"""Images (B, h, w, C) to logits (B, C, h', w') of any resolution."""


def blended(
    run: Run,
    image: Image,
    window: Size,
    *,
    at_once: int,
    overlap: float = OVERLAP,
    scaled: Size | None = None,
    filled: Size | None = None,
) -> Iterator[Tensor]:
    """Logits of an image (C, H, W), in bands of rows from the top, as soon as they are done.

    The logits of each window are enlarged bilinearly to its pixels. Where windows overlap, their logits are averaged
    with the weights of `trainables.data.tiles.Side.weights`: what a model sees at a border that is none of the image
    does not count. A model that looks no further than a quarter of the overlap, and whose strides divide the starts of
    the windows, gives the logits that it gives of the whole image. Beside a band no more is in memory than the windows
    of one row.

    Args:
        run: The model.
        image: uint8 of shape (H, W, C); only windows of it are read.
        window: Height and width in pixels of the image; a side of the image that is shorter is taken whole.
        at_once: Windows per call of `run`.
        overlap: The least share of a window that the next one covers, 0 .. 0.9.
        scaled: What windows of the full size are resized to for the model, smaller ones alike, to `LEAST_SIDE` at
            least; None leaves them.
        filled: What windows that are smaller then are filled up to with their reflection; None: they stay smaller.
    """
    size = (image.shape[0], image.shape[1])
    rows, columns = windows(size, window, overlap)
    part = (rows.window, columns.window)
    inner = part
    if scaled is not None:
        height, width = (max(LEAST_SIDE, round(a * b / c)) for a, b, c in zip(part, scaled, window, strict=True))
        inner = (height, width)
    seen = tuple(min(1.0, a / b) for a, b in zip(inner, filled or inner, strict=True))
    down, across = ([torch.from_numpy(one.copy()) for one in side.weights()] for side in (rows, columns))
    total_across = _total(across, columns.starts, size[1])
    total_down = _total(down, rows.starts, size[0])
    above: Tensor | None = None
    for place, top in enumerate(rows.starts):
        sums: Tensor | None = None
        for first in range(0, len(columns.starts), at_once):
            lefts = columns.starts[first : first + at_once]
            cuts = [np.ascontiguousarray(image[top : top + part[0], left : left + part[1]]) for left in lefts]
            inputs = [fill_image(resize_image(cut, inner), filled or inner) for cut in cuts]
            outputs = run(torch.from_numpy(np.stack(inputs)))
            if sums is None:
                sums = torch.zeros(outputs.shape[1], part[0], size[1], device=outputs.device)
                weight_down = down[place].to(outputs.device)[:, None]
            for number, (left, logits) in enumerate(zip(lefts, outputs, strict=True), first):
                weight = weight_down * across[number].to(outputs.device)
                sums[:, :, left : left + part[1]] += resize_logits(logits, part, seen=(seen[0], seen[1])) * weight
        assert sums is not None
        if above is not None:
            sums[:, : above.shape[1]] += above
        done = rows.done(place)
        weights = total_down[top:done, None] * total_across
        yield sums[:, : done - top] / weights.to(sums.device)
        above = sums[:, done - top :]


def in_tiles(
    run: Run, shown: Image, window: Size, size: Size, *, at_once: int, overlap: float = OVERLAP
) -> Iterator[Tensor]:
    """Logits of an image (C, H, W) as a model sees it that was trained on tiles, in bands of rows from the top.

    Args:
        run: The model.
        shown: The image at the scale at which it is seen (`content_size`), uint8 of shape (h, w, C).
        window: Height and width of the model's input.
        size: Height and width of the logits wanted: those of the mask. Where `shown` is smaller, the blended logits of
            all of it are in memory, and are enlarged bilinearly.
        at_once: Windows per call of `run`.
        overlap: The least share of a window that the next one covers, 0 .. 0.9.
    """
    bands = blended(run, shown, window, at_once=at_once, overlap=overlap, filled=window)
    if shown.shape[:2] == size:
        yield from bands
    else:
        yield from enlarged_in_bands(torch.cat(list(bands), dim=1), size)


def _total(weights: Sequence[Tensor], starts: Sequence[int], length: int) -> Tensor:
    """The sum of the windows' weights at each pixel of a side, shape (length,)."""
    total = torch.zeros(length)
    for weight, start in zip(weights, starts, strict=True):
        total[start : start + len(weight)] += weight
    return total
