"""Training and evaluation of one model, in plain PyTorch: read it from top to bottom.

`train_one_epoch` and `evaluate` are the only loops of the project; trials, the report and predictions share them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, Dataset, Sampler

from trainables.augmentations import Policy
from trainables.data.base import SegmentationData
from trainables.data.cache import DecodedCache
from trainables.errors import DivergedError
from trainables.metrics import Collector

Normalisation = Mapping[str, Sequence[float]]

IMAGENET_NORMALISATION: Normalisation = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}
"""Channel statistics that torchvision's predefined weights expect; harmless from scratch."""

CACHE_BYTES = 2 * 2**30


@dataclass(frozen=True)
class Batch:
    """Images as the model's input size and their masks.

    Attributes:
        ids: Image ids, length B.
        images: uint8 of shape (B, H, W, 3).
        masks: For training one int64 tensor (B, H, W); for evaluation B tensors at the masks' original sizes.
    """

    ids: Sequence[str]
    images: Tensor
    masks: Tensor | Sequence[Tensor]


def derived_seed(*parts: object) -> int:
    """A 32-bit seed that depends on all parts and on nothing else: equal in every process, thread and session."""
    text = "\x1f".join(str(part) for part in parts)
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=4).digest(), "little")


class TrainingSet(Dataset[tuple[str, Tensor, Tensor]]):
    """Augmented samples; item (epoch, index) draws from a seed of its own, whatever process asks for it."""

    def __init__(self, cache: DecodedCache, ids: Sequence[str], policy: Policy, *, seed: int) -> None:
        self.cache = cache
        self.ids = ids
        self.policy = policy
        self.seed = seed

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, item: tuple[int, int]) -> tuple[str, Tensor, Tensor]:
        epoch, index = item
        image_id = self.ids[index]
        image, mask = self.cache.train_arrays(image_id)
        image, mask = self.policy(image, mask, seed=derived_seed("augment", self.seed, epoch, image_id))
        return image_id, torch.from_numpy(np.ascontiguousarray(image)), torch.from_numpy(mask.astype(np.int64))


class EvaluationSet(Dataset[tuple[str, Tensor, Tensor]]):
    """Images resized to the model's input, masks untouched."""

    def __init__(self, cache: DecodedCache, ids: Sequence[str]) -> None:
        self.cache = cache
        self.ids = ids

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, index: int) -> tuple[str, Tensor, Tensor]:
        image, mask = self.cache.eval_arrays(self.ids[index])
        return self.ids[index], torch.from_numpy(np.ascontiguousarray(image)), torch.from_numpy(mask.astype(np.int64))


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
    cache: DecodedCache, ids: Sequence[str], policy: Policy, *, batch_size: int, seed: int, workers: int = 0
) -> tuple[DataLoader[Any], EpochBatches]:
    """The loader of a trial's training images and the sampler whose `epoch` is set before each epoch."""
    batches = EpochBatches(len(ids), batch_size, seed=seed)
    loader = DataLoader(
        TrainingSet(cache, ids, policy, seed=seed),
        batch_sampler=batches,
        collate_fn=_collate_training,
        **_workers(workers),
    )
    return loader, batches


def evaluation_loader(
    data: SegmentationData | DecodedCache,
    ids: Sequence[str],
    *,
    size: tuple[int, int],
    batch_size: int,
    normalisation: Normalisation = IMAGENET_NORMALISATION,
    workers: int = 0,
) -> EvaluationLoader:
    """A loader of all `ids` in their order, for `evaluate`.

    Args:
        data: The data set, or a cache of it that already holds decoded images of `size`.
        ids: Image ids.
        size: Height and width of the model's input.
        batch_size: Images a forward pass; no influence on the result beyond rounding.
        normalisation: Channel statistics of the model; carried by the loader for `evaluate`.
        workers: Loader processes.
    """
    cache = data if isinstance(data, DecodedCache) else DecodedCache(data, size, limit_bytes=0)
    return EvaluationLoader(
        EvaluationSet(cache, ids),
        normalisation=normalisation,
        batch_size=batch_size,
        collate_fn=_collate_evaluation,
        **_workers(workers),
    )


def train_one_epoch(
    model: nn.Module,
    loader: Iterable[Batch],
    *,
    loss: Callable[[Tensor, Tensor], Tensor],
    aux_weight: float,
    optimizer: torch.optim.Optimizer,
    schedule: Callable[[int], float],
    first_step: int,
    normalisation: Normalisation,
    device: torch.device,
) -> dict[str, float]:
    """Trains one epoch.

    Args:
        model: Returns `out` and maybe `aux`, logits of shape (B, C, H, W).
        loader: Gives `Batch`es with masks of shape (B, H, W).
        loss: Of (logits, target); scalar.
        aux_weight: Weight of the loss on `aux`.
        optimizer: Its groups' `initial_lr` are the base learning rates.
        schedule: Multiplier of the base learning rate at an optimizer step counted from 0 over the whole trial.
        first_step: Optimizer steps done before this epoch.
        normalisation: Channel statistics.
        device: Where the model is.

    Returns:
        `train/loss` (mean over steps) and `train/lr` (of the last step).

    Raises:
        DivergedError: If the loss becomes NaN or infinite.
    """
    model.train()
    total = torch.zeros((), device=device)
    steps = 0
    for step, batch in enumerate(loader):
        multiplier = schedule(first_step + step)
        for group in optimizer.param_groups:
            group["lr"] = group["initial_lr"] * multiplier
        images = to_input(batch.images, normalisation, device)
        masks = _stacked(batch.masks).to(device, non_blocking=True)
        outputs = model(images)
        value = loss(outputs["out"], masks)
        if "aux" in outputs and aux_weight > 0:
            value = value + aux_weight * loss(outputs["aux"], masks)
        optimizer.zero_grad(set_to_none=True)
        value.backward()
        optimizer.step()
        total += value.detach()
        steps += 1
        if step % 20 == 0 and not torch.isfinite(total):
            break
    mean = float(total) / max(steps, 1)
    if not np.isfinite(mean):
        raise DivergedError(f"the training loss became {mean} within {steps} steps of the epoch")
    return {"train/loss": mean, "train/lr": float(optimizer.param_groups[0]["lr"])}


@torch.inference_mode()
def evaluate(
    model: nn.Module,
    loader: EvaluationLoader,
    collectors: Sequence[Collector],
    *,
    device: torch.device | str = "cpu",
) -> None:
    """Runs the model once over a loader and hands every image to every collector.

    Logits are enlarged bilinearly to each mask's original size before the class is decided, so that a score does not
    depend on the size that the model was trained at.

    Args:
        model: Returns `out`, logits of shape (B, C, h, w); put into evaluation mode.
        loader: From `evaluation_loader`.
        collectors: Each gets `process(image_id, logits (C, H, W), prediction (H, W), target (H, W))`.
        device: Where the model is.

    Raises:
        DivergedError: If the model's outputs are not finite.
    """
    model.eval()
    device = torch.device(device)
    for batch in loader:
        outputs = model(to_input(batch.images, loader.normalisation, device))["out"].float()
        if not torch.isfinite(outputs).all():
            raise DivergedError("the model's outputs are not finite")
        for image_id, logits, mask in zip(batch.ids, outputs, batch.masks, strict=True):
            target = mask.to(device)
            full = resize_logits(logits, (target.shape[0], target.shape[1]))
            prediction = full.argmax(dim=0)
            for collector in collectors:
                collector.process(image_id, full, prediction, target)


def resize_logits(logits: Tensor, size: tuple[int, int]) -> Tensor:
    """Enlarges or shrinks logits (C, h, w) bilinearly to (C, H, W)."""
    if tuple(logits.shape[-2:]) == size:
        return logits
    return functional.interpolate(logits[None], size=size, mode="bilinear", align_corners=False)[0]


def to_input(images: Tensor, normalisation: Normalisation, device: torch.device | str) -> Tensor:
    """Turns uint8 images (B, H, W, 3) into normalised float32 (B, 3, H, W) on the device."""
    moved = images.to(device, non_blocking=True).permute(0, 3, 1, 2).float()
    mean = torch.tensor(normalisation["mean"], device=moved.device).view(1, 3, 1, 1) * 255
    std = torch.tensor(normalisation["std"], device=moved.device).view(1, 3, 1, 1) * 255
    return (moved - mean) / std


def _stacked(masks: Tensor | Sequence[Tensor]) -> Tensor:
    return masks if isinstance(masks, Tensor) else torch.stack(list(masks))


def _collate_training(samples: list[tuple[str, Tensor, Tensor]]) -> Batch:
    ids, images, masks = zip(*samples, strict=True)
    return Batch(ids, torch.stack(images), torch.stack(masks))


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
