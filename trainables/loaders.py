"""What training and evaluation read: batches of decoded, augmented and normalised images."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler, get_worker_info

from trainables import shared_memory
from trainables.augmentations import Policy
from trainables.data.base import Image, Mask, SegmentationData
from trainables.data.cache.decoded import DecodedCache
from trainables.data.cache.scan import image_sizes
from trainables.data.resizing import content_size
from trainables.data.tiles import in_runs, pixels_of_classes
from trainables.data.void import mask_type
from trainables.loader_processes import start_method, with_own_errors, without_main
from trainables.options import CROP, STRETCH, TILE, way_of
from trainables.plugins import TakesPluginsAlong
from trainables.seeds import derived_seed

Normalisation = Mapping[str, Sequence[float]]


IMAGENET_NORMALISATION: Normalisation = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}
"""Channel statistics that torchvision's predefined weights expect; harmless from scratch."""


@dataclass(frozen=True)
class FeatureMaps:
    """What a frozen backbone made of a batch of images.

    Attributes:
        maps: By name, each of shape (B, C, h, w), as `SegmentationModel.decode` takes them.
        size: Height and width of the images.
    """

    maps: Mapping[str, Tensor]
    size: tuple[int, int]

    def pin_memory(self) -> FeatureMaps:
        """A copy in pinned memory."""
        return FeatureMaps({name: found.pin_memory() for name, found in self.maps.items()}, self.size)


@dataclass(frozen=True)
class Batch:
    """Images as the model's input and their masks.

    Attributes:
        ids: Image ids, length B.
        images: uint8 of shape (B, H, W, C), or what a frozen backbone made of them; where an evaluation slides windows
            over them (`tile`), B images of shape (h, w, C) as they are, read-only.
        masks: `mask_tensor`s; for training one tensor (B, H, W), for evaluation B tensors at the masks' original sizes.
        piped: Whether a loader process sends its content through a pipe, not through shared memory.
    """

    ids: Sequence[str]
    images: Tensor | FeatureMaps | Sequence[Image]
    masks: Tensor | Sequence[Tensor]
    piped: bool = False

    def __reduce__(self) -> tuple[Callable[..., Batch], tuple[Any, ...]]:
        """Tensors are passed in shared memory, arrays are written into the pipe."""
        if not self.piped:
            return Batch, (self.ids, self.images, self.masks)
        masks = self.masks.numpy() if isinstance(self.masks, Tensor) else [mask.numpy() for mask in self.masks]
        images = self.images.numpy() if isinstance(self.images, Tensor) else self.images
        return _from_arrays, (self.ids, images, masks)

    @property
    def is_input(self) -> bool:
        """Whether all images are of the model's input size: in training, and in evaluations without windows."""
        return isinstance(self.images, Tensor | FeatureMaps)

    @property
    def input(self) -> Tensor | FeatureMaps:
        """The images where they are that."""
        assert isinstance(self.images, Tensor | FeatureMaps)
        return self.images

    def sent(self) -> Batch:
        """What a loader process hands over: its tensors in shared memory, or for the pipe where there is no room.

        Another program may fill the shared memory at any time, and what writes into a full one is killed. torch's queue
        would move tensors only after it has taken the batch, in a thread in which an error is lost: then the loader
        waits for ever.
        """
        if self.piped or get_worker_info() is None:
            return self
        tensors = [one for one in (self.images, self.masks) if isinstance(one, Tensor)]
        if not isinstance(self.masks, Tensor):
            tensors += self.masks
        if not shared_memory.has_room(sum(one.nbytes for one in tensors)):
            return replace(self, piped=True)
        try:
            for one in tensors:
                one.share_memory_()
        except RuntimeError:  # no more open files, say
            return replace(self, piped=True)
        return self

    def pin_memory(self) -> Batch:
        """A copy in pinned memory, which a GPU can read directly; loaders call this method on batches that have it."""
        masks = self.masks
        pinned = masks.pin_memory() if isinstance(masks, Tensor) else [mask.pin_memory() for mask in masks]
        images = self.input.pin_memory() if self.is_input else self.images
        return Batch(self.ids, images, pinned)


def _from_arrays(ids: Sequence[str], images: Image | Sequence[Image], masks: Mask | Sequence[Mask]) -> Batch:
    return Batch(
        ids,
        torch.from_numpy(images) if isinstance(images, np.ndarray) else images,
        mask_tensor(masks) if isinstance(masks, np.ndarray) else [mask_tensor(mask) for mask in masks],
    )


WHOLE = slice(None)
"""Of a batch, or of the images of an evaluation: all of it."""


class TrainingSet(TakesPluginsAlong, Dataset[Any]):
    """Augmented samples; item (epoch, index) draws from a seed of its own, whatever process asks for it.

    Args:
        cache: Decoded images.
        ids: Image ids.
        policy: Makes a sample of an image.
        seed: Of the trial.
        tiles: How many samples each image gives in an epoch; one each by default.
        class_tiles: The share of samples whose part of an image shows a class, see `TrainingOptions`.

    Attributes:
        kept: What is left of a batch when it is mixed.
    """

    def __init__(
        self,
        cache: DecodedCache,
        ids: Sequence[str],
        policy: Policy,
        *,
        seed: int,
        tiles: Sequence[int] = (),
        class_tiles: float = 0.0,
    ) -> None:
        self.cache = cache
        self.ids = ids
        self.policy = policy
        self.seed = seed
        self.class_tiles = class_tiles
        self.piped = False
        self.kept = WHOLE
        self._pixels: dict[str, dict[int, npt.NDArray[np.int64]]] = {}
        self._ends = np.cumsum(tiles or [1] * len(ids))

    def __len__(self) -> int:
        return int(self._ends[-1]) if len(self.ids) else 0

    def __getitem__(self, item: tuple[int, int]) -> Any:
        image_id, parts = self.drawn_for(item)
        image, mask = self.cache.train_arrays(image_id)
        around = self._around(image_id, mask, derived_seed("class_tile", *parts)) if self.class_tiles else None
        image, mask = self.policy(image, mask, seed=derived_seed("augment", *parts), around=around)
        return Sample(image_id, image, mask, derived_seed("mix", *parts))

    def drawn_for(self, item: tuple[int, int]) -> tuple[str, tuple[str | int, ...]]:
        """The image of an item, and what the seeds of its sample are derived from."""
        epoch, index = item
        place = int(np.searchsorted(self._ends, index, side="right"))
        image_id = self.ids[place]
        tile = index - (int(self._ends[place - 1]) if place else 0)
        return image_id, (self.seed, epoch, image_id, *((tile,) if tile else ()))

    def _around(self, image_id: str, mask: Mask, seed: int) -> tuple[int, int] | None:
        """A pixel that the part of an image has to show, of a class drawn among those in its mask; None: any part."""
        generator = np.random.default_rng(seed)
        if generator.random() >= self.class_tiles:
            return None
        if image_id not in self._pixels:
            self._pixels[image_id] = pixels_of_classes(mask, seed=derived_seed("class_pixels", image_id))
        of_classes = list(self._pixels[image_id].values())
        if not of_classes:
            return None
        row, column = generator.choice(of_classes[generator.integers(len(of_classes))])
        return int(row), int(column)

    def collate(self, samples: Sequence[Any]) -> Batch:
        """Stacks samples into a batch and mixes them where the policy does; each draws from its own seed.

        Only what is `kept` of the batch is given.
        """
        images, masks = self.policy.mix(
            np.stack([sample.image for sample in samples]),
            np.stack([sample.mask for sample in samples]),
            [sample.mix_seed for sample in samples],
        )
        ids = [sample.image_id for sample in samples]
        images, masks = np.ascontiguousarray(images[self.kept]), np.ascontiguousarray(masks[self.kept])
        return Batch(ids[self.kept], torch.from_numpy(images), mask_tensor(masks), self.piped).sent()


class Sample(NamedTuple):
    """One augmented image (H, W, C) and mask (H, W), and the seed that decides whether and with what it is mixed."""

    image_id: str
    image: Image
    mask: Mask
    mix_seed: int


class EvaluationSet(TakesPluginsAlong, Dataset[tuple[str, Any, Tensor]]):
    """Images as the model's input (`fit_image`), or for `tile` at their `content_size`, masks untouched."""

    def __init__(self, cache: DecodedCache, ids: Sequence[str]) -> None:
        self.cache = cache
        self.ids = ids
        self.piped = False

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, index: int) -> tuple[str, Tensor | Image, Tensor]:
        image_id = self.ids[index]
        if way_of(self.cache.resize) == TILE:
            whole, mask = self.cache.whole_arrays(image_id)
            return image_id, whole, mask_tensor(mask)
        image, mask = self.cache.eval_arrays(image_id)
        return image_id, torch.from_numpy(image), mask_tensor(mask)

    def collate(self, samples: Sequence[tuple[str, Any, Tensor]]) -> Batch:
        """Stacks the images, unless they are as they are; masks keep their sizes."""
        ids, images, masks = zip(*samples, strict=True)
        whole = torch.stack(images) if isinstance(images[0], Tensor) else images
        return Batch(ids, whole, masks, self.piped).sent()


class _Loader(DataLoader[Any]):
    """Whose processes start without the program's main module, and whose errors are those of its data."""

    def __iter__(self) -> Any:
        with without_main():
            batches = super().__iter__()
        return with_own_errors(batches) if self.num_workers else batches


class EvaluationLoader(_Loader):
    """`Batch`es of whole images and what the model's input is normalised with.

    Attributes:
        normalisation: Of the model's input.
        at_once: Windows of an image per forward pass, where an evaluation slides them.
    """

    def __init__(self, images: EvaluationSet, *, normalisation: Normalisation, at_once: int, **options: Any) -> None:
        super().__init__(images, **options)
        self.normalisation = normalisation
        self.at_once = at_once

    @property
    def resize(self) -> str:
        """How its images came to the model's input size, one of `RESIZES` or `tile@SCALE`."""
        return str(self._cache.resize)

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the model's input; of a window where an evaluation slides them."""
        return (int(self._cache.size[0]), int(self._cache.size[1]))

    @property
    def _cache(self) -> Any:
        images: Any = self.dataset
        return images.cache


class EpochBatches(Sampler[list[tuple[int, int]]]):
    """Batches of (epoch, index) in an order drawn from (seed, epoch).

    An incomplete last batch is left out, so that no step trains on a batch that BatchNorm cannot use; the order changes
    every epoch, so no image is left out for good. A split smaller than one batch is one batch.

    Args:
        length: Samples of an epoch.
        batch_size: Samples of a batch.
        seed: Of the trial.
        given: What of each batch is given.
    """

    def __init__(self, length: int, batch_size: int, *, seed: int, given: slice = WHOLE) -> None:
        self.length = length
        self.batch_size = min(batch_size, length)
        self.seed = seed
        self.given = given
        self.epoch = 1

    def __len__(self) -> int:
        return self.length // self.batch_size

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        order = np.random.default_rng(derived_seed("order", self.seed, self.epoch)).permutation(self.length)
        for step in range(len(self)):
            chosen = order[step * self.batch_size : (step + 1) * self.batch_size]
            yield [(self.epoch, int(index)) for index in chosen[self.given]]


def training_loader(
    samples: TrainingSet, *, batch_size: int, workers: int = 0, pin_memory: bool = False, own: slice = WHOLE
) -> tuple[DataLoader[Any], EpochBatches]:
    """The loader of a trial's training images and the sampler whose `epoch` is set before each epoch.

    Args:
        samples: Whose seed also decides the order of images.
        batch_size: Images per batch.
        workers: Loader processes; no influence on what is loaded.
        pin_memory: Whether batches are copied to memory that a GPU can read directly (pinned).
        own: What of each batch is loaded; where a policy mixes the samples of a batch, it needs the others, too.
    """
    given, samples.kept = (WHOLE, own) if samples.policy.mixes else (own, WHOLE)
    samples.piped = _are_piped(samples.cache, samples.cache.size, batch_size, workers)
    batches = EpochBatches(len(samples), batch_size, seed=samples.seed, given=given)
    options: dict[str, Any] = {"batch_sampler": batches, "collate_fn": samples.collate, "pin_memory": pin_memory}
    return _Loader(samples, **options, **_workers(workers)), batches


def evaluation_loader(
    data: SegmentationData | DecodedCache,
    ids: Sequence[str],
    *,
    size: tuple[int, int],
    batch_size: int,
    resize: str = STRETCH,
    normalisation: Normalisation = IMAGENET_NORMALISATION,
    workers: int = 0,
    pin_memory: bool = False,
) -> EvaluationLoader:
    """A loader of all `ids` in their order, for `evaluate`.

    Args:
        data: The data set, or a cache of it that already holds decoded images of `size`, and knows `resize`.
        ids: Image ids.
        size: Height and width of the model's input.
        batch_size: Images, or windows of one (`tile`), per forward pass; no influence on the result beyond rounding.
            With `crop` only neighbours of one size are in a pass together.
        resize: How images come to that size, one of `RESIZES` or `tile@SCALE`.
        normalisation: Channel statistics of the model; carried by the loader for `evaluate`.
        workers: Loader processes.
        pin_memory: As for `training_loader`.
    """
    cache = data if isinstance(data, DecodedCache) else DecodedCache(data, size, limit_bytes=0, resize=resize)
    images = EvaluationSet(cache, ids)
    return loader_of(images, batch_size=batch_size, normalisation=normalisation, workers=workers, pin_memory=pin_memory)


def loader_of(
    images: EvaluationSet,
    *,
    batch_size: int,
    normalisation: Normalisation,
    workers: int = 0,
    pin_memory: bool = False,
    own: slice = WHOLE,
) -> EvaluationLoader:
    """`evaluation_loader` of images as they are read, or of a part of them."""
    cache, size = images.cache, images.cache.size
    places = range(len(images))[own]
    together: dict[str, Any] = {"batch_size": batch_size, "sampler": places}
    if way_of(cache.resize) == TILE:
        # Windows are read where they are seen: whole images would go through the pipes of loader processes.
        together, workers = {"batch_size": 1, "sampler": places}, 0
    elif cache.resize == CROP:
        sizes = image_sizes(cache.data, [images.ids[place] for place in places])
        shown = [content_size(size, cache.size, cache.resize) for size in sizes]
        together = {"batch_sampler": [[places[one] for one in run] for run in in_runs(shown, batch_size)]}
        size = max(shown, key=math.prod, default=size)
    images.piped = _are_piped(cache, size, batch_size, workers)
    return EvaluationLoader(
        images,
        normalisation=normalisation,
        at_once=batch_size,
        collate_fn=images.collate,
        pin_memory=pin_memory,
        **together,
        **_workers(workers),
    )


def mask_tensor(mask: Mask | npt.NDArray[np.int32]) -> Tensor:
    """A mask, or several in one array, for torch, which does little with 16 bits: uint8 or int32 of the same shape."""
    return torch.from_numpy(mask.astype(np.int32) if mask.dtype == np.uint16 else mask)


def mask_array(classes: Tensor) -> Mask:
    """The way back: class ids, uint8 or int32 of any shape, as a mask."""
    array = classes.cpu().numpy()
    return array if array.dtype == np.uint8 else array.astype(np.uint16)


def stacked(masks: Tensor | Sequence[Tensor]) -> Tensor:
    """Masks of one size as one tensor (B, H, W)."""
    return masks if isinstance(masks, Tensor) else torch.stack(list(masks))


def _are_piped(cache: DecodedCache, size: tuple[int, int], batch_size: int, workers: int) -> bool:
    of_mask = mask_tensor(np.empty(0, mask_type(len(cache.data.classes)))).element_size()
    return workers > 0 and shared_memory.is_short(batch_size * size[0] * size[1] * (3 + of_mask), workers)


def _workers(workers: int) -> dict[str, Any]:
    # A generator of its own: with torch's global one a loader draws a number for each set of workers that it starts,
    # and dropout would depend on how many there are.
    own = {"generator": torch.Generator()}
    if workers == 0:
        return own
    return {**own, "num_workers": workers, "persistent_workers": True, "multiprocessing_context": start_method()}
