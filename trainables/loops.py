"""Training and evaluation of one model, in plain PyTorch: read it from top to bottom.

`train_one_epoch` and `evaluate` are the only loops of the project; trials, the report and predictions share them.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Sequence

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from trainables.data.base import Image
from trainables.data.resizing import Size
from trainables.errors import DivergedError
from trainables.loaders import Batch, EvaluationLoader, FeatureMaps, Normalisation, stacked
from trainables.logits import predicted_class, resize_logits, seen_share
from trainables.metrics import Collector
from trainables.models.base import SegmentationModel
from trainables.pixel_classes import predicted_at
from trainables.updates import DTYPES, Updater, autocast, training_mode
from trainables.windows import in_tiles


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
    """Trains one epoch; where several ranks train, this one's part of it.

    Args:
        model: Returns `out` and maybe `aux`, logits of shape (B, C, H, W).
        loader: Gives `Batch`es with masks of shape (B, H, W).
        loss: Of (logits, target); scalar.
        updater: Applies the gradients of `updater.accumulate` batches at a time (of what is left at the end), of all
            its ranks.
        aux_weight: Weight of the loss on `aux`.
        normalisation: Channel statistics.
        device: Where the model is.

    Returns:
        `train/loss` (mean over batches, of all ranks) and `train/lr` (of the head, at the last step).

    Raises:
        DivergedError: If the loss becomes NaN or infinite.
    """
    training_mode(model, updater.frozen)
    forward = Forward(model, normalisation, device)
    stride, ranks = updater.loss_stride, updater.ranks
    total = torch.zeros((), device=device)
    trained = 0
    batches = iter(loader)
    while group := list(itertools.islice(batches, updater.accumulate)):
        for batch in group:
            masks = every_nth(stacked(batch.masks), stride).to(device, non_blocking=True).long()
            with updater.autocast():
                images = batch.input
                outputs = forward(images) if stride == 1 else forward.on_lattice(images, stride)
            value = loss(outputs["out"], masks)
            if "aux" in outputs and aux_weight > 0:
                value = value + aux_weight * loss(outputs["aux"], masks)
            value = ranks.weighted(value, outputs["out"], masks)
            updater.backward(value / len(group))
            total += value.detach()
            trained += 1
        updater.step()
        if updater.done % 20 == 0 and not torch.isfinite(ranks.sum(total)):
            break
    mean = float(ranks.sum(total)) / max(trained, 1)
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
    class is decided, so that a score does not depend on the size that the model was trained at. What lies beside an
    image in the model's input is left out there. An image that the loader gives as it is (`tile`) is seen in windows
    (`in_tiles`).

    Args:
        model: Called with `resize=False` it returns `out`, logits of shape (B, C, h, w) of any resolution; put into
            evaluation mode.
        loader: From `evaluation_loader`.
        collectors: Each gets `process(image_id, logits (C, H, W), prediction (H, W), target (H, W))`; the last two are
            uint8, or int32 where classes do not fit into it.
        device: Where the model is.
        precision: Of the forward pass, one of `PRECISIONS`; logits are float32 from there on.

    Raises:
        DivergedError: If the model's outputs are not finite.
    """
    model.eval()
    device = torch.device(device)
    forward = Forward(model, loader.normalisation, device)

    def run(images: Tensor | FeatureMaps) -> Tensor:
        """Logits at the head's resolution."""
        with autocast(device.type, DTYPES[precision]):
            outputs = forward(images, resize=False)["out"].float()
        # The sum finds almost every fault at a small part of the cost; where it merely overflows, the outputs decide.
        if not torch.isfinite(outputs.sum()) and not torch.isfinite(outputs).all():
            raise DivergedError("the model's outputs are not finite")
        return outputs

    def in_windows(image: Image, size: Size, *, keep: bool) -> tuple[Tensor, Tensor]:
        """Logits, empty unless they are to be kept, and classes of an image that is seen in parts."""
        kept, classes = [], []
        for band in in_tiles(run, image, loader.size, size, at_once=loader.at_once):
            kept += [band] if keep else []
            classes.append(predicted_class(band))
        return torch.cat(kept, dim=1) if kept else torch.empty(0), torch.cat(classes)

    reads_logits = any(getattr(collector, "reads_logits", True) for collector in collectors)
    for batch in loader:
        outputs = run(batch.input) if batch.is_input else None
        for place, (image_id, mask) in enumerate(zip(batch.ids, batch.masks, strict=True)):
            target = mask.to(device, non_blocking=True)
            size = (target.shape[0], target.shape[1])
            if outputs is None:
                full, prediction = in_windows(batch.images[place], size, keep=reads_logits)
            else:
                seen = seen_share(size, input_size(batch.input), loader.resize)
                full = resize_logits(outputs[place], size, seen=seen) if reads_logits else torch.empty(0)
                prediction = predicted_class(full) if reads_logits else predicted_at(outputs[place], size, seen=seen)
            for collector in collectors:
                collector.process(image_id, full, prediction, target)


class Forward:
    """Runs a model on images as loaders give them, or its head on what its frozen backbone made of them before.

    Args:
        model: On its device.
        normalisation: Channel statistics.
        device: Where the model is.
    """

    def __init__(self, model: nn.Module, normalisation: Normalisation, device: torch.device) -> None:
        self._model, self._normalisation, self._device = model, normalisation, device
        self._channels_last = is_channels_last(model)

    def __call__(self, images: Tensor | FeatureMaps, **options: bool) -> dict[str, Tensor]:
        """The model's outputs for images (B, H, W, C); `resize=False` leaves them at the head's resolution."""
        if isinstance(images, FeatureMaps):
            assert isinstance(self._model, SegmentationModel)
            maps = {name: found.to(self._device, non_blocking=True) for name, found in images.maps.items()}
            return self._model.decode(maps, images.size, **options)
        inputs = to_input(images, self._normalisation, self._device, channels_last=self._channels_last)
        outputs: dict[str, Tensor] = self._model(inputs, **options)
        return outputs

    def on_lattice(self, images: Tensor | FeatureMaps, stride: int) -> dict[str, Tensor]:
        """The outputs at the pixels that `every_nth` keeps of the masks, shape (B, C, H // stride, W // stride)."""
        size = input_size(images)
        return {name: on_lattice(logits, size, stride) for name, logits in self(images, resize=False).items()}


def input_size(images: Tensor | FeatureMaps) -> tuple[int, int]:
    """Height and width of a model's input."""
    return images.size if isinstance(images, FeatureMaps) else (images.shape[1], images.shape[2])


def every_nth(masks: Tensor, stride: int) -> Tensor:
    """The pixel in the middle of each whole block of `stride` (odd) by `stride`: (B, H, W) to (B, H // n, W // n)."""
    height, width = (stride * (side // stride) for side in masks.shape[-2:])
    return masks[..., stride // 2 : height : stride, stride // 2 : width : stride]


def on_lattice(logits: Tensor, size: tuple[int, int], stride: int) -> Tensor:
    """What logits (B, C, h, w) would be at the pixels of `every_nth` if they were resized to `size` bilinearly."""
    # Whole blocks alone count, and a product of rounded numbers must not fall below their number.
    scale = [side / stride / own * (1 + 1e-9) for side, own in zip(size, logits.shape[-2:], strict=True)]
    return functional.interpolate(logits, scale_factor=scale, mode="bilinear", align_corners=False)


def to_input(
    images: Tensor, normalisation: Normalisation, device: torch.device | str, *, channels_last: bool = False
) -> Tensor:
    """Turns uint8 images (B, H, W, C) into normalised float32 (B, C, H, W) on the device."""
    layout = torch.channels_last if channels_last else torch.contiguous_format
    moved = images.to(device, non_blocking=True)
    mean, std = (torch.tensor(normalisation[key], device=moved.device) * 255 for key in ("mean", "std"))
    if moved.device.type == "cpu":
        return _normalised(moved, mean, std).permute(0, 3, 1, 2).contiguous(memory_format=layout)
    return (moved.float().sub_(mean).div_(std)).permute(0, 3, 1, 2).contiguous(memory_format=layout)


def _normalised(images: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    """(images - mean) / std, uint8 to float32 of the same shape (B, H, W, C), several times as fast on a CPU.

    A row of W * C values is one long vector, where the channels are many short ones; and one image at a time stays
    in the processor's cache from step to step.
    """
    batch, height, width, channels = images.shape
    mean, std = mean.repeat(width), std.repeat(width)
    normalised = torch.empty(batch, height, width * channels)
    for source, result in zip(images.reshape(batch, height, width * channels), normalised, strict=True):
        result.copy_(source).sub_(mean).div_(std)
    return normalised.view(images.shape)


def is_channels_last(model: nn.Module) -> bool:
    """Whether a model's convolutions are laid out channels last in memory; its inputs should be as well."""
    kernels = [parameter for parameter in model.parameters() if parameter.ndim == 4]
    return bool(kernels) and all(kernel.is_contiguous(memory_format=torch.channels_last) for kernel in kernels)
