"""Logits at a head's resolution to those of an image's pixels, and to classes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from trainables.data.resizing import Size, content_size
from trainables.data.void import mask_type
from trainables.options import CROP

BAND_VALUES = 2**26
"""Logits that are enlarged at a time, 256 MB in float32: those of a photograph with many classes would not fit."""

Share = tuple[float, float]
"""Of the height and of the width of a model's input, from its upper left corner, that an image takes."""
WHOLE: Share = (1.0, 1.0)


def seen_share(image: Size, canvas: Sequence[int], resize: str) -> Share:
    """What share of a model's input an image takes.

    Args:
        image: Size of the image.
        canvas: Size of the input; with `crop` that of the whole image, which has its aspect.
        resize: One of `RESIZES` but `tile`, of which an input shows a part of an image; see `content_size`.
    """
    if resize == CROP:
        return WHOLE
    height, width = canvas
    content = content_size(image, (height, width), resize)
    return content[0] / height, content[1] / width


def resize_logits(logits: Tensor, size: Size, *, seen: Share = WHOLE) -> Tensor:
    """Enlarges or shrinks logits (C, h, w) bilinearly to (C, H, W).

    Args:
        logits: Of a model's whole input.
        size: Height and width of the image that is in the input.
        seen: What share of the input the image takes; the logits of the rest only count in the interpolation at its
            border.
    """
    if seen == WHOLE and tuple(logits.shape[-2:]) == size:
        return logits
    # From logits that lie channels last a CPU takes longer.
    if seen == WHOLE:
        return functional.interpolate(logits[None].contiguous(), size=size, mode="bilinear", align_corners=False)[0]
    # Torch's `interpolate` with a scale factor copies a side that keeps its number of pixels, whatever the factor.
    (above, below, down), (left, right, across) = (
        neighbours(full, side, share, logits) for full, side, share in zip(size, logits.shape[-2:], seen, strict=True)
    )
    wide = logits[:, :, left].lerp_(logits[:, :, right], across)
    return wide[:, above].lerp_(wide[:, below], down[:, None])


def neighbours(pixels: int, side: int, share: float, like: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Where the centres of an image's pixels along a side lie among logits of the input that the image is in.

    Args:
        pixels: Of the image along the side.
        side: Logits along it.
        share: Of the input along it that the image takes.
        like: Has the device and the type of what is returned.

    Returns:
        Shape (pixels,) each: the logit before, the one behind, and how near to that one, 0 .. 1; as
        `align_corners=False` of torch's `interpolate` has them.
    """
    centres = ((torch.arange(pixels, dtype=torch.float64) + 0.5) * (side * share) / pixels - 0.5).clamp(min=0)
    before = centres.floor().long().clamp(max=side - 1)
    behind = (before + 1).clamp(max=side - 1)
    return before.to(like.device), behind.to(like.device), (centres - before).to(like)


def enlarged_in_bands(
    logits: Tensor, size: Size, *, seen: Share = WHOLE, values: int = BAND_VALUES
) -> Iterator[Tensor]:
    """Logits (C, h, w) resized bilinearly to (C, H, W) as `resize_logits` does, in bands of rows from the top.

    Args:
        logits: At the head's resolution.
        size: Height and width wanted.
        seen: As for `resize_logits`.
        values: Most numbers in a band, as far as one row allows.
    """
    height, width = size
    rows = max(1, values // (len(logits) * width))
    if rows >= height:
        yield resize_logits(logits, size, seen=seen)
        return
    wide = resize_logits(logits, (logits.shape[1], width), seen=(1.0, seen[1]))
    above, below, share = neighbours(height, logits.shape[1], seen[0], wide)
    for top in range(0, height, rows):
        part = slice(top, top + rows)
        yield wide[:, above[part]].lerp_(wide[:, below[part]], share[part, None])


def ids_type(classes: int) -> torch.dtype:
    """The type of ids of so many classes as tensors."""
    return torch.uint8 if mask_type(classes) == np.uint8 else torch.int32


def predicted_class(logits: Tensor) -> Tensor:
    """The class of the largest logit, the first where several are equal: (C, H, W) to (H, W).

    On the CPU many times as fast as `torch.argmax` over the first axis. uint8, or int32 where classes do not fit into
    it, as a loader's masks.
    """
    kind = ids_type(len(logits))
    if logits.device.type != "cpu":
        return logits.argmax(dim=0).to(kind)
    if logits.stride(0) == 1:  # channels last: the scores of a pixel lie side by side
        return torch.from_numpy(logits.permute(1, 2, 0).numpy().argmax(axis=-1)).to(kind)
    largest = logits[0].clone()
    chosen = torch.zeros(largest.shape, dtype=kind)
    for class_id in range(1, len(logits)):
        larger = (logits[class_id] > largest).view(torch.uint8).to(kind)
        torch.maximum(largest, logits[class_id], out=largest)
        torch.maximum(chosen, larger.mul_(class_id), out=chosen)
    return chosen
