"""What a frozen backbone makes of an image, computed once and shared by all trials.

A backbone that does not learn gives the same feature maps for the same image in every epoch, and in every trial of the
same model at the same size: only the head has to be run. That holds where a policy can make few images of one: it does
nothing, or it flips.

Maps are computed image by image, so that they depend on nothing but the image: not on the batch it is in, nor on what
is in the cache already. They are kept like decoded images, in packs of the cache folder, under a hash of the backbone's
weights, of the libraries, and of what decides the image's pixels (`Source`).
"""

from __future__ import annotations

import hashlib
import json
import logging
import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torchvision
from torch import Tensor

from trainables.data.base import Image
from trainables.data.cache.packs import Bytes, PackStore
from trainables.loaders import FeatureMaps
from trainables.loops import is_channels_last, to_input
from trainables.models.bands import input_channels
from trainables.models.base import SegmentationModel
from trainables.places import cache_root
from trainables.updates import DTYPES, autocast

_FORMAT = 2
"""Raise it with every change that makes features differ."""

_log = logging.getLogger("segsweep.cache")


@dataclass(frozen=True)
class _Map:
    """A feature map of one image: channels last, as bytes."""

    name: str
    shape: tuple[int, int, int]
    dtype: torch.dtype

    @property
    def bytes(self) -> int:
        return math.prod(self.shape) * self.dtype.itemsize


@dataclass(frozen=True)
class Source:
    """An image that maps are made of.

    Attributes:
        content: Equal only where the pixels are.
        pixels: Gives them as the model's input, uint8 of shape (H, W, C).
    """

    content: str
    pixels: Callable[[], Image]

    @classmethod
    def of_pixels(cls, pixels: Callable[[], Image]) -> Source:
        """Of an image of which nothing else tells what it shows."""
        return cls(hashlib.blake2b(np.ascontiguousarray(pixels()).data, digest_size=16).hexdigest(), pixels)


class FeaturesOnce:
    """The feature maps of a frozen backbone.

    Args:
        model: Whose backbone is frozen and in evaluation mode; on its device.
        size: Height and width of the images.
        precision: Of the backbone's forward pass, one of `PRECISIONS`.
        limit_bytes: Upper bound of the features' folder, in bytes; 0 keeps nothing, and each use computes.
    """

    def __init__(
        self,
        model: SegmentationModel,
        *,
        size: tuple[int, int],
        precision: str,
        limit_bytes: int,
    ) -> None:
        self.size = size
        self.limit_bytes = limit_bytes
        self._model, self._normalisation = model, model.normalisation
        self._device = next(model.backbone.parameters()).device
        self._precision = precision
        self._channels_last = is_channels_last(model)
        self._store = PackStore(
            cache_root() / "features",
            what="cache of features",
            otherwise="are run through the backbone again",
        )
        self._seconds, self._images = 0.0, 0
        first = self._run(np.zeros((*size, input_channels(model)), np.uint8))
        self._maps = [
            _Map(name, (found.shape[0], found.shape[1], found.shape[2]), found.dtype) for name, found in first.items()
        ]
        self._identity = _identity(model, [str(one) for one in self._maps], precision)

    @property
    def bytes(self) -> int:
        """Of the maps of one image."""
        return sum(one.bytes for one in self._maps)

    def build(self, sources: Iterable[Source]) -> None:
        """Computes what is missing and keeps it; quick if nothing is.

        Of several processes one builds, the others wait and use what it made.
        """
        by_key = {self._key(source): source for source in sources}
        try:
            self._store.fill(
                dict.fromkeys(by_key, self.bytes),
                lambda key: self._made(by_key[key].pixels()),
                limit_bytes=self.limit_bytes,
            )
        except OSError as error:
            _log.warning(
                "features in %s cannot be kept (%s): each use runs the backbone again, which is slower; free some "
                "space there, or set SEGSWEEP_CACHE to a folder that can be written",
                self._store.folder,
                error,
            )

    def row(self, source: Source) -> Bytes:
        """The maps of an image, one after another; read-only where they are kept."""
        kept = self._store.read(self._key(source))
        return self._made(source.pixels()) if kept is None else kept

    def batch(self, rows: Sequence[Bytes]) -> FeatureMaps:
        """The maps of some images, laid out in memory as the model wants them."""
        found, start = {}, 0
        for one in self._maps:
            end = start + one.bytes
            stacked = torch.from_numpy(np.stack([row[start:end] for row in rows]))
            maps = stacked.view(one.dtype).view(len(rows), *one.shape).permute(0, 3, 1, 2)
            found[one.name] = maps if self._channels_last else maps.contiguous()
            start = end
        return FeatureMaps(found, self.size)

    @property
    def seconds_per_image(self) -> float:
        """That the backbone took so far, for each image that was not kept; 0 if all were."""
        return self._seconds / self._images if self._images else 0.0

    def _made(self, image: Image) -> Bytes:
        """The maps of an image, one after another."""
        began = time.perf_counter()
        maps = self._run(image)
        self._seconds += time.perf_counter() - began
        self._images += 1
        return np.concatenate([found.reshape(-1).view(torch.uint8).numpy() for found in maps.values()])

    @torch.no_grad()
    def _run(self, image: Image) -> Mapping[str, Tensor]:
        """The maps of an image, each of shape (h, w, C), on the CPU."""
        pixels = to_input(
            torch.from_numpy(image)[None], self._normalisation, self._device, channels_last=self._channels_last
        )
        with autocast(self._device.type, DTYPES[self._precision]):
            maps = self._model.features(pixels)
        return {name: found[0].permute(1, 2, 0).contiguous().cpu() for name, found in maps.items()}

    def _key(self, source: Source) -> str:
        return hashlib.blake2b(source.content.encode(), key=self._identity, digest_size=16).hexdigest()


def _identity(model: SegmentationModel, maps: list[str], precision: str) -> bytes:
    """What decides, beside an image's pixels, what its features are."""
    weights = hashlib.sha256()
    for name, tensor in sorted(model.backbone.state_dict().items()):
        weights.update(name.encode())
        weights.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    device = next(model.backbone.parameters()).device
    chip = torch.cuda.get_device_name(device) if device.type == "cuda" else torch.backends.cpu.get_cpu_capability()
    told = [_FORMAT, model.name, maps, precision, chip, torch.__version__, torchvision.__version__]
    normalisation = {key: list(value) for key, value in model.normalisation.items()}
    weights.update(json.dumps([*told, normalisation, is_channels_last(model)]).encode())
    return weights.digest()
