"""One image of any size, whole or in overlapping tiles, to the class of each pixel."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from analysis.model import TrainedModel
from trainables.data.base import Image, Mask
from trainables.data.resizing import Size, content_size, fit_image, resize_image
from trainables.data.tiles import OVERLAP, window_count
from trainables.errors import DivergedError
from trainables.loaders import mask_array
from trainables.logits import enlarged_in_bands, predicted_class, seen_share
from trainables.loops import Forward
from trainables.options import TILE, scale_of, way_of
from trainables.windows import blended, in_tiles

TILES_AT_ONCE = 4


@dataclass(frozen=True)
class Prediction:
    """What a model sees in an image.

    Attributes:
        classes: The class of each pixel, shape (H, W).
        confidence: Mean over the pixels of the probability of that class (softmax; not calibrated).
        tiles: How many parts the image was predicted in; 1 is whole.
    """

    classes: Mask
    confidence: float
    tiles: int


class Predictor:
    """Predicts images one at a time.

    Whole images are treated as in evaluation: brought to the model's input as in training, the logits of what shows the
    image enlarged bilinearly to its size; those of a model that was trained on tiles are seen in windows of its input's
    size (`trainables.windows.in_tiles`). With `tile`, images that are larger are cut into overlapping windows of that
    size, each scaled as an image of that size would be, and their logits blended (`trainables.windows.blended`).

    Args:
        trained: The model; it is moved to the device.
        device: `cpu` or `cuda`.
        tile: Height and width of a window in pixels of the image; None predicts every image as an evaluation does.
        overlap: How much of a window the next one covers, 0 .. 0.9.
    """

    def __init__(
        self, trained: TrainedModel, *, device: str = "cpu", tile: Size | None = None, overlap: float = OVERLAP
    ) -> None:
        if not 0 <= overlap <= 0.9:
            raise ValueError(f"overlap {overlap} must lie within 0 .. 0.9")
        self.size, self.resize, self.overlap = trained.size, trained.resize, overlap
        self._as_trained = way_of(self.resize) == TILE and (tile is None or (tile == self.size and self.resize == TILE))
        self.tile = self._trained_tile() if self._as_trained else tile
        self._device = torch.device(device)
        self._forward = Forward(trained.model.to(device).eval(), trained.normalisation, self._device)

    @torch.inference_mode()
    def __call__(self, image: Image) -> Prediction:
        """Predicts an image.

        Args:
            image: uint8 of shape (H, W, C), with the channels of the model.

        Raises:
            DivergedError: If the model's outputs are not finite.
        """
        whole: Size = (image.shape[0], image.shape[1])
        if self._as_trained:
            shown = resize_image(image, content_size(whole, self.size, self.resize))
            bands = in_tiles(self._logits, shown, self.size, whole, at_once=TILES_AT_ONCE, overlap=self.overlap)
            return self._joined(image, bands, window_count((shown.shape[0], shown.shape[1]), self.size, self.overlap))
        if self.tile is None or (whole[0] <= self.tile[0] and whole[1] <= self.tile[1]):
            return self._joined(image, self._whole(image), 1)
        scaled = content_size(self.tile, self.size, self.resize)
        bands = blended(self._logits, image, self.tile, at_once=TILES_AT_ONCE, overlap=self.overlap, scaled=scaled)
        return self._joined(image, bands, window_count(whole, self.tile, self.overlap))

    def _trained_tile(self) -> Size:
        """Height and width, in pixels of an image, of what the model saw of it in training."""
        height, width = (round(side / scale_of(self.resize)) for side in self.size)
        return height, width

    def _whole(self, image: Image) -> Iterator[Tensor]:
        """Logits (C, h, W) in bands of rows from the top."""
        height, width = image.shape[:2]
        shown = fit_image(image, self.size, self.resize)
        logits = self._logits(torch.from_numpy(shown[None]))[0]
        seen = seen_share((height, width), shown.shape[:2], self.resize)
        return enlarged_in_bands(logits, (height, width), seen=seen)

    def _joined(self, image: Image, bands: Iterator[Tensor], tiles: int) -> Prediction:
        height, width = image.shape[:2]
        classes, confidence = [], 0.0
        for band in bands:
            classes.append(mask_array(predicted_class(band)))
            confidence += float(_largest_probability(band).sum(dtype=torch.float64))
        return Prediction(np.concatenate(classes), confidence / (height * width), tiles)

    def _logits(self, inputs: Tensor) -> Tensor:
        """Images (B, h, w, C) to logits (B, C, h', w') at the head's resolution."""
        outputs = self._forward(inputs, resize=False)["out"].float()
        if not torch.isfinite(outputs).all():
            raise DivergedError("the model's outputs are not finite")
        return outputs


def _largest_probability(logits: Tensor) -> Tensor:
    """Softmax of the largest of logits (C, H, W), shape (H, W)."""
    return (logits.amax(dim=0) - torch.logsumexp(logits, dim=0)).exp()
