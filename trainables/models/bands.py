"""Models for images of other channels than red, green and blue.

Libraries build models for three channels and have weights for these. A model for C channels is built for three, with
its weights, and the convolutions that take the image are widened afterwards, all models by one rule:

- With weights, each kernel `w[:, c]` of C channels is one of the three, or their mean, times 3 / C. Where red, green
  and blue are among the channels, these keep their own kernels and every other channel gets the mean; where they are
  not all known, every channel gets the mean; three channels, whatever they are, keep the three in their order. So an
  image that is grey, the same in all channels, gives exactly what it gave before (the sum over channels is kept). timm
  (`adapt_input_conv`) and segmentation_models.pytorch (`patch_first_conv`) scale by the same 3 / C, but repeat the
  three kernels in turn, which keeps that sum only where 3 divides C.
- From scratch the kernels are drawn anew, normally, with the variance of those that were there times 3 / C, so that
  the variance of what comes out stays.

Biases stay. Normalisation: red, green and blue keep the mean and deviation of the weights, where they are known; every
other channel has those of the training images.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from trainables.data.bands import Bands
from trainables.errors import UsageError

RGB = 3
_SIDE = 64


def input_channels(model: nn.Module) -> int:
    """How many channels a model's images have, by its normalisation; 3 for one that tells nothing."""
    told: Any = getattr(model, "normalisation", None)
    return len(told["mean"]) if told else RGB


def normalisation_of(
    weights: Mapping[str, Sequence[float]], bands: Bands, statistics: Sequence[tuple[float, float]]
) -> dict[str, tuple[float, ...]]:
    """What the channels of images are normalised with; see the module.

    Args:
        weights: `mean` and `std` of red, green and blue, as the weights want them.
        bands: What the channels are.
        statistics: Mean and deviation of each channel over the training images, on the scale 0 .. 1.
    """
    found = {"mean": [mean for mean, _ in statistics], "std": [std for _, std in statistics]}
    for key, values in found.items():
        for color, place in enumerate(bands.places or ()):
            values[place] = float(weights[key][color])
    return {key: tuple(values) for key, values in found.items()}


def widened(kernels: Tensor, channels: int, places: Sequence[int] | None, *, fresh: bool) -> Tensor:
    """Kernels of a convolution of three channels for `channels` of them; see the module.

    Args:
        kernels: Shape (O, 3, h, w).
        channels: How many.
        places: Where red, green and blue are among them; None where that is not known.
        fresh: Whether the kernels are an initialisation, not weights.

    Returns:
        Shape (O, channels, h, w).
    """
    if channels == RGB:
        return kernels
    if fresh:
        shape = (kernels.shape[0], channels, *kernels.shape[2:])
        deviation = float(kernels.std()) if kernels.device.type != "meta" else 0.0
        return torch.empty(shape, dtype=kernels.dtype, device=kernels.device).normal_(
            0.0, deviation * (RGB / channels) ** 0.5
        )
    wide = kernels.mean(dim=1, keepdim=True).repeat(1, channels, 1, 1)
    for color, place in enumerate(places or ()):
        wide[:, place] = kernels[:, color]
    return wide * (RGB / channels)


def widen(model: nn.Module, bands: Bands, *, fresh: bool) -> None:
    """Makes a model for three channels one for the bands of a data set; its normalisation is left to the caller.

    Args:
        model: Built, with whatever weights.
        bands: What the channels are.
        fresh: Whether it was built from scratch.

    Raises:
        UsageError: If its parts take three channels elsewhere than in a convolution of the image, and so cannot.
    """
    if bands.channels == RGB:
        return
    name, probe = str(getattr(model, "name", type(model).__name__)), _probe(model, RGB)
    layers = _input_layers(model, probe)
    if not layers:
        raise UsageError(_refusal(name, bands.channels, "no convolution of it takes the image"))
    for layer in layers:
        with torch.no_grad():
            kernels = widened(layer.weight, bands.channels, bands.places, fresh=fresh)
        layer.weight = nn.Parameter(kernels, requires_grad=layer.weight.requires_grad)
        layer.in_channels = bands.channels
    try:
        _run(model, _probe(model, bands.channels))
    except Exception as error:  # each part of a library refuses in a way of its own
        told = f"{type(error).__name__}: {' '.join(str(error).split())[:120]}"
        raise UsageError(_refusal(name, bands.channels, f"parts of it take three ({told})")) from error


def _refusal(name: str, channels: int, why: str) -> str:
    return (
        f"model {name} cannot take images of {channels} channels: {why}; take another model, or choose three bands "
        "(segsweep init FOLDER --channels 3,2,1)"
    )


def _input_layers(model: nn.Module, probe: Tensor) -> list[nn.Conv2d]:
    """The convolutions of three channels that take the image at its full size."""
    found: dict[nn.Conv2d, None] = {}

    def look(layer: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        if inputs and inputs[0].shape[-2:] == probe.shape[-2:] and isinstance(layer, nn.Conv2d):
            found[layer] = None

    convolutions = [one for one in model.modules() if isinstance(one, nn.Conv2d)]
    hooks = [one.register_forward_pre_hook(look) for one in convolutions if one.in_channels == RGB and one.groups == 1]
    try:
        _run(model, probe)
    finally:
        for hook in hooks:
            hook.remove()
    return list(found)


def _probe(model: nn.Module, channels: int) -> Tensor:
    multiple = int(getattr(model, "multiple", 1))
    side = -(-_SIDE // multiple) * multiple
    return torch.zeros(1, channels, side, side, device=next(model.parameters()).device)


@torch.no_grad()
def _run(model: nn.Module, images: Tensor) -> None:
    training = model.training
    model.eval()
    try:
        model(images)
    finally:
        model.train(training)
