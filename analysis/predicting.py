"""One image of any size, whole or in overlapping tiles, to the class of each pixel."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from analysis.model import TrainedModel
from trainables.data.base import Image, Mask
from trainables.data.resizing import content_size, fit_image, resize_image
from trainables.errors import DivergedError
from trainables.loops import WHOLE, Forward, Share, neighbours, predicted_class, resize_logits, seen_share

Size = tuple[int, int]

LEAST_SIDE = 32
"""Pixels of the smallest input that every model takes (`SegmentationModel`)."""
BAND_VALUES = 2**26
"""Logits that are enlarged at a time, 256 MB in float32: those of a photograph with many classes would not fit."""
TILES_AT_ONCE = 4


@dataclass(frozen=True)
class Prediction:
    """What a model sees in an image.

    Attributes:
        classes: The class of each pixel, uint8 of shape (H, W).
        confidence: Mean over the pixels of the probability of that class (softmax; not calibrated).
        tiles: How many parts the image was predicted in; 1 is whole.
    """

    classes: Mask
    confidence: float
    tiles: int


class Predictor:
    """Predicts images one at a time.

    Whole images are treated as in evaluation: brought to the model's input size as in training, the logits of what
    shows the image enlarged bilinearly to its size. With `tile`, larger images are cut into overlapping windows of that
    size. Each is scaled as one of that size would be, and where windows overlap, their probabilities are averaged, with
    weights that fall linearly from the middle of a window to its border.

    Args:
        trained: The model; it is moved to the device.
        device: `cpu` or `cuda`.
        tile: Height and width of a window in pixels of the image; None predicts every image whole.
        overlap: How much of a window the next one covers, 0 .. 0.9.
    """

    def __init__(
        self, trained: TrainedModel, *, device: str = "cpu", tile: Size | None = None, overlap: float = 0.25
    ) -> None:
        if not 0 <= overlap <= 0.9:
            raise ValueError(f"overlap {overlap} must lie within 0 .. 0.9")
        self.size, self.resize, self.tile, self.overlap = trained.size, trained.resize, tile, overlap
        self._device = torch.device(device)
        self._forward = Forward(trained.model.to(device).eval(), trained.normalisation, self._device, None)

    @torch.inference_mode()
    def __call__(self, image: Image) -> Prediction:
        """Predicts an image.

        Args:
            image: RGB, uint8 of shape (H, W, 3).

        Raises:
            DivergedError: If the model's outputs are not finite.
        """
        height, width = image.shape[:2]
        if self.tile is None or (height <= self.tile[0] and width <= self.tile[1]):
            return self._whole(image)
        return self._tiled(image, self.tile)

    def _whole(self, image: Image) -> Prediction:
        height, width = image.shape[:2]
        logits = self._logits([fit_image(image, self.size, self.resize)])[0]
        seen = seen_share((height, width), self.size, self.resize)
        classes = np.empty((height, width), np.uint8)
        confidence, top = 0.0, 0
        for band in enlarged_in_bands(logits, (height, width), seen=seen):
            bottom = top + band.shape[1]
            classes[top:bottom] = predicted_class(band).cpu().numpy()
            confidence += float(_largest_probability(band).sum(dtype=torch.float64))
            top = bottom
        return Prediction(classes, confidence / (height * width), 1)

    def _tiled(self, image: Image, tile: Size) -> Prediction:
        height, width = image.shape[:2]
        window = min(tile[0], height), min(tile[1], width)
        tops, lefts = (starts(side, part, self.overlap) for side, part in zip((height, width), window, strict=True))
        content = content_size(tile, self.size, self.resize)
        scaled = tuple(
            max(LEAST_SIDE, round(part * size / full)) for part, size, full in zip(window, content, tile, strict=True)
        )
        weight = torch.outer(*map(fading, window)).to(self._device)
        classes = np.empty((height, width), np.uint8)
        confidence = 0.0
        total = torch.zeros(0)
        for row, top in enumerate(tops):
            # Only as many rows are in memory as a window is high.
            kept = total[:, top - tops[row - 1] :] if row else torch.zeros(0)
            fresh = self._row_of_windows(image[top : top + window[0]], lefts, window, scaled, weight)
            if row:
                fresh[:, : kept.shape[1]] += kept
            total = fresh
            done = (tops[row + 1] if row + 1 < len(tops) else height) - top
            sums = total[:, :done]
            classes[top : top + done] = predicted_class(sums[:-1]).cpu().numpy()
            confidence += float((sums[:-1].amax(0) / sums[-1]).sum(dtype=torch.float64))
        return Prediction(classes, confidence / (height * width), len(tops) * len(lefts))

    def _row_of_windows(
        self, strip: Image, lefts: list[int], window: Size, scaled: tuple[int, ...], weight: Tensor
    ) -> Tensor:
        """Weighted sums of the probabilities and, last, of the weights, shape (C + 1, h, W)."""
        sums: Tensor | None = None
        for begin in range(0, len(lefts), TILES_AT_ONCE):
            chosen = lefts[begin : begin + TILES_AT_ONCE]
            parts = [strip[:, left : left + window[1]] for left in chosen]
            inputs = [resize_image(np.ascontiguousarray(part), (scaled[0], scaled[1])) for part in parts]
            for left, logits in zip(chosen, self._logits(inputs), strict=True):
                probabilities = resize_logits(logits, window).softmax(dim=0)
                if sums is None:
                    sums = torch.zeros(len(logits) + 1, window[0], strip.shape[1], device=self._device)
                sums[:-1, :, left : left + window[1]] += probabilities * weight
                sums[-1, :, left : left + window[1]] += weight
        assert sums is not None
        return sums

    def _logits(self, inputs: list[Image]) -> Tensor:
        """Logits (B, C, h, w) at the head's resolution."""
        outputs = self._forward(torch.from_numpy(np.stack(inputs)), resize=False)["out"].float()
        if not torch.isfinite(outputs).all():
            raise DivergedError("the model's outputs are not finite")
        return outputs


def starts(side: int, window: int, overlap: float) -> list[int]:
    """Where windows along a side begin: the first at 0, the last ends with the side, evenly spaced between.

    Args:
        side: Pixels.
        window: Pixels of each window, at most `side`.
        overlap: The least share of a window that the next one covers.

    Example:
        >>> starts(1000, 400, 0.25), starts(400, 400, 0.5)
        ([0, 300, 600], [0])
    """
    step = max(1, math.floor(window * (1 - overlap)))
    count = 1 + math.ceil((side - window) / step)
    return [round(place * (side - window) / max(1, count - 1)) for place in range(count)]


def fading(length: int) -> Tensor:
    """Weights along a side of a window, shape (length,): 1 in the middle, falling linearly, above 0 at the border."""
    centres = torch.arange(length, dtype=torch.float32) + 0.5
    return 1 - (2 * centres / length - 1).abs() * (1 - 1 / length)


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


def _largest_probability(logits: Tensor) -> Tensor:
    """Softmax of the largest of logits (C, H, W), shape (H, W)."""
    return (logits.amax(dim=0) - torch.logsumexp(logits, dim=0)).exp()
