"""The shape that every model has: a backbone, a head, and a second head that exists for training only."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated

from torch import Tensor, nn
from torch.nn import functional as F

from trainables.models import FILE, WEIGHTS
from trainables.registry import Choice, Range

Weights = Annotated[str, Choice(WEIGHTS, prefix=FILE)]
AuxWeight = Annotated[float, Range(0, 1)]


class SegmentationModel(nn.Module):
    """Images of shape (N, 3, H, W) to `{"out": logits (N, C, H, W)}`, for any H and W of 32 pixels and more.

    After `trainables.models.bands.widen` images have as many channels as that says.

    Where torchvision has the same model, parameters are named as there, so that its weights files fit.

    Args:
        backbone: Images to a mapping of feature maps; what predefined ImageNet weights are for.
        classifier: Those features (see `head_input`) to logits at a lower resolution.
        aux_classifier: The features named "aux" to logits, for an auxiliary loss; adds `"aux"` to the output in
            training mode. In evaluation mode it would cost time and change nothing, and is not run.
        head_input: The feature map that `classifier` takes, or None for the whole mapping.
        aux_weight: The weight that the trainer gives the auxiliary loss.
        name: As in `MODELS`.
        normalisation: `mean` and `std` of each channel on the scale 0 .. 1, with which the images must be normalised.
        multiple: Sides of the images that the backbone is given are multiples of it: others are stretched to the next
            ones, bilinearly. The logits are those of the whole image.
        predefined: The weights that were loaded, as `KIND: FILE sha256:FIRST_DIGITS`; empty from scratch.
    """

    def __init__(
        self,
        backbone: nn.Module,
        classifier: nn.Module,
        aux_classifier: nn.Module | None = None,
        *,
        name: str,
        normalisation: Mapping[str, Sequence[float]],
        head_input: str | None = "out",
        aux_weight: float = 0.0,
        predefined: str = "",
        multiple: int = 1,
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.classifier = classifier
        self.aux_classifier = aux_classifier
        self.head_input = head_input
        self.aux_weight = aux_weight
        self.name = name
        self.normalisation = normalisation
        self.predefined = predefined
        self.multiple = multiple

    def forward(self, images: Tensor, *, resize: bool = True) -> dict[str, Tensor]:
        """Logits; see the class.

        Args:
            images: Shape (N, 3, H, W).
            resize: Whether to enlarge the logits to H and W; otherwise they have the head's resolution.
        """
        return self.decode(self.features(images), (images.shape[-2], images.shape[-1]), resize=resize)

    def features(self, images: Tensor) -> Mapping[str, Tensor]:
        """What the backbone makes of images of shape (N, 3, H, W): maps by name, each of shape (N, C, h, w)."""
        if self.multiple > 1:
            height, width = (-(-side // self.multiple) * self.multiple for side in images.shape[-2:])
            if (height, width) != tuple(images.shape[-2:]):
                images = _resize(images, (height, width))
        maps: Mapping[str, Tensor] = self.backbone(images)
        return maps

    def decode(
        self, features: Mapping[str, Tensor], size: tuple[int, int], *, resize: bool = True
    ) -> dict[str, Tensor]:
        """Logits of what the backbone made of images; `forward` is this after the backbone.

        Args:
            features: Maps by name, each of shape (N, C, h, w).
            size: Height and width of the images.
            resize: As for `forward`.
        """
        logits = self.classifier(features if self.head_input is None else features[self.head_input])
        output = {"out": _resize(logits, size) if resize else logits}
        if self.aux_classifier is not None and self.training:
            output["aux"] = _resize(self.aux_classifier(features["aux"]), size)
        return output


def _resize(logits: Tensor, size: tuple[int, int]) -> Tensor:
    return F.interpolate(logits, size=size, mode="bilinear", align_corners=False)
