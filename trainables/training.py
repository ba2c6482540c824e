"""Training and evaluation of one model, in plain PyTorch: read it from top to bottom.

`train_one_epoch` and `evaluate` are the only loops of the project; trials, the report and predictions share them.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, Dataset, Sampler

from trainables.augmentations import Policy
from trainables.data.base import Image, Mask, SegmentationData
from trainables.data.cache import DecodedCache
from trainables.errors import DivergedError
from trainables.metrics import Collector
from trainables.updates import PRECISIONS, Updater, autocast, training_mode

Normalisation = Mapping[str, Sequence[float]]

IMAGENET_NORMALISATION: Normalisation = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}
"""Channel statistics that torchvision's predefined weights expect; harmless from scratch."""


@dataclass(frozen=True)
class Batch:
    """Images as the model's input size and their masks.

    Attributes:
        ids: Image ids, length B.
        images: uint8 of shape (B, H, W, 3).
        masks: uint8; for training one tensor (B, H, W), for evaluation B tensors at the masks' original sizes.
    """

    ids: Sequence[str]
    images: Tensor
    masks: Tensor | Sequence[Tensor]

    def pin_memory(self) -> Batch:
        """The same in memory from which a GPU fetches by itself; a loader asks for it, and skips what has no such."""
        masks = self.masks
        pinned = masks.pin_memory() if isinstance(masks, Tensor) else [mask.pin_memory() for mask in masks]
        return Batch(self.ids, self.images.pin_memory(), pinned)


def derived_seed(*parts: object) -> int:
    """A 32-bit seed that depends on all parts and on nothing else: equal in every process, thread and session."""
    text = "\x1f".join(str(part) for part in parts)
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=4).digest(), "little")


class TrainingSet(Dataset["Sample"]):
    """Augmented samples; item (epoch, index) draws from a seed of its own, whatever process asks for it."""

    def __init__(self, cache: DecodedCache, ids: Sequence[str], policy: Policy, *, seed: int) -> None:
        self.cache = cache
        self.ids = ids
        self.policy = policy
        self.seed = seed

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, item: tuple[int, int]) -> Sample:
        epoch, index = item
        image_id = self.ids[index]
        image, mask = self.cache.train_arrays(image_id)
        image, mask = self.policy(image, mask, seed=derived_seed("augment", self.seed, epoch, image_id))
        return Sample(image_id, image, mask, derived_seed("mix", self.seed, epoch, image_id))

    def collate(self, samples: Sequence[Sample]) -> Batch:
        """Stacks samples into a batch and mixes them where the policy does; each draws from its own seed."""
        images, masks = self.policy.mix(
            np.stack([sample.image for sample in samples]),
            np.stack([sample.mask for sample in samples]),
            [sample.mix_seed for sample in samples],
        )
        return Batch([sample.image_id for sample in samples], torch.from_numpy(images), torch.from_numpy(masks))


class Sample(NamedTuple):
    """One augmented image (H, W, 3) and mask (H, W), and the seed that decides whether and with what it is mixed."""

    image_id: str
    image: Image
    mask: Mask
    mix_seed: int


class EvaluationSet(Dataset[tuple[str, Tensor, Tensor]]):
    """Images resized to the model's input, masks untouched."""

    def __init__(self, cache: DecodedCache, ids: Sequence[str]) -> None:
        self.cache = cache
        self.ids = ids

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, index: int) -> tuple[str, Tensor, Tensor]:
        image, mask = self.cache.eval_arrays(self.ids[index])
        return self.ids[index], torch.from_numpy(image), torch.from_numpy(mask)


class EvaluationLoader(DataLoader[Any]):
    """`Batch`es of whole images and what the model's input is normalised with."""

    def __init__(self, images: EvaluationSet, *, normalisation: Normalisation, **options: Any) -> None:
        super().__init__(images, **options)
        self.normalisation = normalisation


class EpochBatches(Sampler[list[tuple[int, int]]]):
    """Batches of (epoch, index) in an order drawn from (seed, epoch).

    An incomplete last batch is left out, so that no step trains on a batch that BatchNorm cannot use; the order changes
    every epoch, so no image is left out for good. A split smaller than one batch is one batch.
    """

    def __init__(self, length: int, batch_size: int, *, seed: int) -> None:
        self.length = length
        self.batch_size = min(batch_size, length)
        self.seed = seed
        self.epoch = 1

    def __len__(self) -> int:
        return self.length // self.batch_size

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        order = np.random.default_rng(derived_seed("order", self.seed, self.epoch)).permutation(self.length)
        for step in range(len(self)):
            chosen = order[step * self.batch_size : (step + 1) * self.batch_size]
            yield [(self.epoch, int(index)) for index in chosen]


def training_loader(
    samples: TrainingSet, *, batch_size: int, workers: int = 0, pin_memory: bool = False
) -> tuple[DataLoader[Any], EpochBatches]:
    """The loader of a trial's training images and the sampler whose `epoch` is set before each epoch.

    Args:
        samples: Whose seed also decides the order of images.
        batch_size: Images a batch.
        workers: Loader processes; no influence on what is loaded.
        pin_memory: Whether batches are copied to memory from which a GPU can fetch them by itself.
    """
    batches = EpochBatches(len(samples), batch_size, seed=samples.seed)
    options: dict[str, Any] = {"batch_sampler": batches, "collate_fn": samples.collate, "pin_memory": pin_memory}
    return DataLoader(samples, **options, **_workers(workers)), batches


def evaluation_loader(
    data: SegmentationData | DecodedCache,
    ids: Sequence[str],
    *,
    size: tuple[int, int],
    batch_size: int,
    normalisation: Normalisation = IMAGENET_NORMALISATION,
    workers: int = 0,
    pin_memory: bool = False,
) -> EvaluationLoader:
    """A loader of all `ids` in their order, for `evaluate`.

    Args:
        data: The data set, or a cache of it that already holds decoded images of `size`.
        ids: Image ids.
        size: Height and width of the model's input.
        batch_size: Images a forward pass; no influence on the result beyond rounding.
        normalisation: Channel statistics of the model; carried by the loader for `evaluate`.
        workers: Loader processes.
        pin_memory: As for `training_loader`.
    """
    cache = data if isinstance(data, DecodedCache) else DecodedCache(data, size, limit_bytes=0)
    return EvaluationLoader(
        EvaluationSet(cache, ids),
        normalisation=normalisation,
        batch_size=batch_size,
        collate_fn=_collate_evaluation,
        pin_memory=pin_memory,
        **_workers(workers),
    )


def train_one_epoch(
    model: nn.Module,
    loader: Iterable[Batch],
    *,
    loss: Callable[[Tensor, Tensor], Tensor],
    updater: Updater,
    aux_weight: float,
    normalisation: Normalisation,
    device: torch.device,
) -> dict[str, float]:
    """Trains one epoch.

    Args:
        model: Returns `out` and maybe `aux`, logits of shape (B, C, H, W).
        loader: Gives `Batch`es with masks of shape (B, H, W).
        loss: Of (logits, target); scalar.
        updater: Applies the gradients of `updater.accumulate` batches at a time (of what is left at the end).
        aux_weight: Weight of the loss on `aux`.
        normalisation: Channel statistics.
        device: Where the model is.

    Returns:
        `train/loss` (mean over batches) and `train/lr` (of the head, at the last step).

    Raises:
        DivergedError: If the loss becomes NaN or infinite.
    """
    training_mode(model, updater.frozen)
    channels_last = is_channels_last(model)
    total = torch.zeros((), device=device)
    trained = 0
    batches = iter(loader)
    while group := list(itertools.islice(batches, updater.accumulate)):
        for batch in group:
            images = to_input(batch.images, normalisation, device, channels_last=channels_last)
            masks = stacked(batch.masks).to(device, non_blocking=True).long()
            with updater.autocast():
                outputs = model(images)
            value = loss(outputs["out"], masks)
            if "aux" in outputs and aux_weight > 0:
                value = value + aux_weight * loss(outputs["aux"], masks)
            updater.backward(value / len(group))
            total += value.detach()
            trained += 1
        updater.step()
        if updater.done % 20 == 0 and not torch.isfinite(total):
            break
    mean = float(total) / max(trained, 1)
    if not np.isfinite(mean):
        raise DivergedError(f"the training loss became {mean} within {trained} batches of the epoch")
    return {"train/loss": mean, "train/lr": float(updater.optimizer.param_groups[0]["lr"])}


@torch.inference_mode()
def evaluate(
    model: nn.Module,
    loader: EvaluationLoader,
    collectors: Sequence[Collector],
    *,
    device: torch.device | str = "cpu",
    precision: str = "fp32",
) -> None:
    """Runs the model once over a loader and hands every image to every collector.

    Logits are enlarged bilinearly, in one step from the head's resolution, to each mask's original size before the
    class is decided, so that a score does not depend on the size that the model was trained at.

    Args:
        model: Called with `resize=False` it returns `out`, logits of shape (B, C, h, w) of any resolution; put into
            evaluation mode.
        loader: From `evaluation_loader`.
        collectors: Each gets `process(image_id, logits (C, H, W), prediction (H, W), target (H, W))`; the last two are
            uint8.
        device: Where the model is.
        precision: Of the forward pass, one of `PRECISIONS`; logits are float32 from there on.

    Raises:
        DivergedError: If the model's outputs are not finite.
    """
    model.eval()
    device = torch.device(device)
    channels_last = is_channels_last(model)
    for batch in loader:
        images = to_input(batch.images, loader.normalisation, device, channels_last=channels_last)
        with autocast(device.type, PRECISIONS[precision]):
            outputs = model(images, resize=False)["out"].float()
        # The sum finds almost every fault at a small part of the cost; where it merely overflows, the outputs decide.
        if not torch.isfinite(outputs.sum()) and not torch.isfinite(outputs).all():
            raise DivergedError("the model's outputs are not finite")
        for image_id, logits, mask in zip(batch.ids, outputs, batch.masks, strict=True):
            target = mask.to(device, non_blocking=True)
            full = resize_logits(logits, (target.shape[0], target.shape[1]))
            prediction = predicted_class(full)
            for collector in collectors:
                collector.process(image_id, full, prediction, target)


def resize_logits(logits: Tensor, size: tuple[int, int]) -> Tensor:
    """Enlarges or shrinks logits (C, h, w) bilinearly to (C, H, W)."""
    if tuple(logits.shape[-2:]) == size:
        return logits
    return functional.interpolate(logits[None], size=size, mode="bilinear", align_corners=False)[0]


def to_input(
    images: Tensor, normalisation: Normalisation, device: torch.device | str, *, channels_last: bool = False
) -> Tensor:
    """Turns uint8 images (B, H, W, 3) into normalised float32 (B, 3, H, W) on the device."""
    layout = torch.channels_last if channels_last else torch.contiguous_format
    moved = images.to(device, non_blocking=True)
    mean, std = (torch.tensor(normalisation[key], device=moved.device) * 255 for key in ("mean", "std"))
    if moved.device.type == "cpu":
        return _normalised(moved, mean, std).permute(0, 3, 1, 2).contiguous(memory_format=layout)
    return (moved.float().sub_(mean).div_(std)).permute(0, 3, 1, 2).contiguous(memory_format=layout)


def _normalised(images: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    """(images - mean) / std, uint8 to float32 of the same shape (B, H, W, 3), several times as fast on a CPU.

    A row of W * 3 values is one long vector, where three channels are many short ones; and one image at a time stays
    in the processor's cache from step to step.
    """
    batch, height, width, channels = images.shape
    mean, std = mean.repeat(width), std.repeat(width)
    normalised = torch.empty(batch, height, width * channels)
    for source, result in zip(images.reshape(batch, height, width * channels), normalised, strict=True):
        result.copy_(source).sub_(mean).div_(std)
    return normalised.view(images.shape)


def predicted_class(logits: Tensor) -> Tensor:
    """The class of the largest logit, the first where several are equal: (C, H, W) to uint8 (H, W).

    On the CPU many times as fast as `torch.argmax` over the first axis.
    """
    if logits.device.type != "cpu":
        return logits.argmax(dim=0).to(torch.uint8)
    if logits.stride(0) == 1:  # channels last: the scores of a pixel lie side by side
        return torch.from_numpy(logits.permute(1, 2, 0).numpy().argmax(axis=-1).astype(np.uint8))
    largest = logits[0].clone()
    chosen = torch.zeros(largest.shape, dtype=torch.uint8)
    for class_id in range(1, len(logits)):
        larger = (logits[class_id] > largest).view(torch.uint8)
        torch.maximum(largest, logits[class_id], out=largest)
        torch.maximum(chosen, larger.mul_(class_id), out=chosen)
    return chosen


def is_channels_last(model: nn.Module) -> bool:
    """Whether a model's convolutions are laid out channels last in memory; its inputs should be as well."""
    kernels = [parameter for parameter in model.parameters() if parameter.ndim == 4]
    return bool(kernels) and all(kernel.is_contiguous(memory_format=torch.channels_last) for kernel in kernels)


def stacked(masks: Tensor | Sequence[Tensor]) -> Tensor:
    """Masks of one size as one tensor (B, H, W)."""
    return masks if isinstance(masks, Tensor) else torch.stack(list(masks))


def _collate_evaluation(samples: list[tuple[str, Tensor, Tensor]]) -> Batch:
    ids, images, masks = zip(*samples, strict=True)
    return Batch(ids, torch.stack(images), masks)


def _workers(workers: int) -> dict[str, Any]:
    # A generator of its own: with torch's global one a loader draws a number for each set of workers that it starts,
    # and dropout would depend on how many there are.
    own = {"generator": torch.Generator()}
    if workers == 0:
        return own
    # Ray and the loader's own threads make forking unsafe.
    return {**own, "num_workers": workers, "persistent_workers": True, "multiprocessing_context": "spawn"}
