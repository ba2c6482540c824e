"""Training and evaluation of one model, in plain PyTorch: read it from top to bottom.

`train_one_epoch` and `evaluate` are the only loops of the project; trials, the report and predictions share them.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from trainables.data.resizing import Size, content_size
from trainables.errors import DivergedError
from trainables.loaders import Batch, EvaluationLoader, Normalisation, stacked
from trainables.metrics import Collector
from trainables.updates import DTYPES, Updater, autocast, training_mode

if TYPE_CHECKING:
    from trainables.features import FeaturesOnce


def train_one_epoch(
    model: nn.Module,
    loader: Iterable[Batch],
    *,
    loss: Callable[[Tensor, Tensor], Tensor],
    updater: Updater,
    aux_weight: float,
    normalisation: Normalisation,
    device: torch.device,
    features: FeaturesOnce | None = None,
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
        features: What its frozen backbone makes of the loader's images, where that is computed once.

    Returns:
        `train/loss` (mean over batches) and `train/lr` (of the head, at the last step).

    Raises:
        DivergedError: If the loss becomes NaN or infinite.
    """
    training_mode(model, updater.frozen)
    forward = Forward(model, normalisation, device, features)
    stride = updater.loss_stride
    total = torch.zeros((), device=device)
    trained = 0
    batches = iter(loader)
    while group := list(itertools.islice(batches, updater.accumulate)):
        for batch in group:
            masks = every_nth(stacked(batch.masks), stride).to(device, non_blocking=True).long()
            with updater.autocast():
                outputs = forward(batch.images) if stride == 1 else forward.on_lattice(batch.images, stride)
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
    features: FeaturesOnce | None = None,
) -> None:
    """Runs the model once over a loader and hands every image to every collector.

    Logits are enlarged bilinearly, in one step from the head's resolution, to each mask's original size before the
    class is decided, so that a score does not depend on the size that the model was trained at. What lies beside an
    image in the model's input is left out there.

    Args:
        model: Called with `resize=False` it returns `out`, logits of shape (B, C, h, w) of any resolution; put into
            evaluation mode.
        loader: From `evaluation_loader`.
        collectors: Each gets `process(image_id, logits (C, H, W), prediction (H, W), target (H, W))`; the last two are
            uint8.
        device: Where the model is.
        precision: Of the forward pass, one of `PRECISIONS`; logits are float32 from there on.
        features: As for `train_one_epoch`.

    Raises:
        DivergedError: If the model's outputs are not finite.
    """
    model.eval()
    device = torch.device(device)
    forward = Forward(model, loader.normalisation, device, features)
    for batch in loader:
        with autocast(device.type, DTYPES[precision]):
            outputs = forward(batch.images, resize=False)["out"].float()
        # The sum finds almost every fault at a small part of the cost; where it merely overflows, the outputs decide.
        if not torch.isfinite(outputs.sum()) and not torch.isfinite(outputs).all():
            raise DivergedError("the model's outputs are not finite")
        for image_id, logits, mask in zip(batch.ids, outputs, batch.masks, strict=True):
            target = mask.to(device, non_blocking=True)
            size = (target.shape[0], target.shape[1])
            full = resize_logits(logits, size, seen=seen_share(size, batch.images.shape[1:3], loader.resize))
            prediction = predicted_class(full)
            for collector in collectors:
                collector.process(image_id, full, prediction, target)


class Forward:
    """Runs a model on images as loaders give them, or its head on what its frozen backbone made of them before.

    Args:
        model: On its device.
        normalisation: Channel statistics.
        device: Where the model is.
        features: What the backbone makes of the images, where that is computed once.
    """

    def __init__(
        self, model: nn.Module, normalisation: Normalisation, device: torch.device, features: FeaturesOnce | None
    ) -> None:
        self._model, self._normalisation, self._device, self._features = model, normalisation, device, features
        self._channels_last = is_channels_last(model)

    def __call__(self, images: Tensor, **options: bool) -> dict[str, Tensor]:
        """The model's outputs for images (B, H, W, 3); `resize=False` leaves them at the head's resolution."""
        if self._features is not None:
            return self._features.outputs(self._model, images, **options)
        inputs = to_input(images, self._normalisation, self._device, channels_last=self._channels_last)
        outputs: dict[str, Tensor] = self._model(inputs, **options)
        return outputs

    def on_lattice(self, images: Tensor, stride: int) -> dict[str, Tensor]:
        """The outputs at the pixels that `every_nth` keeps of the masks, shape (B, C, H // stride, W // stride)."""
        size = (images.shape[1], images.shape[2])
        return {name: on_lattice(logits, size, stride) for name, logits in self(images, resize=False).items()}


def every_nth(masks: Tensor, stride: int) -> Tensor:
    """The pixel in the middle of each whole block of `stride` (odd) by `stride`: (B, H, W) to (B, H // n, W // n)."""
    height, width = (stride * (side // stride) for side in masks.shape[-2:])
    return masks[..., stride // 2 : height : stride, stride // 2 : width : stride]


def on_lattice(logits: Tensor, size: tuple[int, int], stride: int) -> Tensor:
    """What logits (B, C, h, w) would be at the pixels of `every_nth` if they were resized to `size` bilinearly."""
    # Whole blocks alone count, and a product of rounded numbers must not fall below their number.
    scale = [side / stride / own * (1 + 1e-9) for side, own in zip(size, logits.shape[-2:], strict=True)]
    return functional.interpolate(logits, scale_factor=scale, mode="bilinear", align_corners=False)


Share = tuple[float, float]
"""Of the height and of the width of a model's input, from its upper left corner, that an image takes."""
WHOLE: Share = (1.0, 1.0)


def seen_share(image: Size, canvas: Sequence[int], resize: str) -> Share:
    """What share of a model's input of size `canvas` an image of size `image` takes; see `content_size`."""
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
    # From logits that lie channels last a CPU takes 3.5 times as long.
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
