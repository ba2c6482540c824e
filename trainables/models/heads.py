"""The heads by name: from a backbone's feature maps to logits."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import cast

from torch import Tensor, nn
from torch.nn import functional
from torchvision.models.segmentation.deeplabv3 import DeepLabHead
from torchvision.models.segmentation.fcn import FCNHead
from torchvision.models.segmentation.lraspp import LRASPPHead

from trainables.models import HEADS

LRASPP_CHANNELS = 128
"""Howard et al., 2019, and torchvision."""

LOW_STRIDE = 8
"""Of the shallow map that LRASPP takes."""

CLASSIFIER_STD = 0.01
"""Standard deviation of the initial weights of a layer whose outputs are classes; so in mmsegmentation."""


@dataclass(frozen=True)
class Head:
    """What is asked of a backbone for a head, and what the trainer and the weights must know about it.

    Attributes:
        summary: The head and its source, for documentation.
        build: Channels of the feature maps by level, and the number of classes, to the head.
        levels: The feature maps that it takes (see `Backbone`).
        where_there: Further levels that it takes of a backbone which has them.
        dilated: Whether the backbone should trade strides for dilation where it can, to keep its last maps large.
        final_layers: The layers of the model whose outputs are classes.
        input: The one map that the head takes, or None where it takes the mapping.
        auxiliary: Whether an FCN on the level `aux` can help in training.
        min_train_batch: The smallest batch that it can be trained on.
        multiple: What sides of the images must be multiples of (see `SegmentationModel`).
        of_library: Whether its decoder is that of segmentation_models.pytorch.
    """

    summary: str
    build: Callable[[Mapping[str, int], int], nn.Module]
    levels: tuple[str, ...]
    dilated: bool
    final_layers: tuple[str, ...]
    input: str | None = "out"
    auxiliary: bool = False
    min_train_batch: int = 1
    where_there: tuple[str, ...] = ()
    multiple: int = 1
    of_library: bool = False

    def levels_on(self, strides: Sequence[int]) -> tuple[str, ...]:
        """The levels that it takes of a backbone with maps at some strides, from the shallowest to the deepest."""
        there = [level for level in self.where_there if needed_stride(level) in strides]
        return (*sorted(there, key=needed_stride), *self.levels)

    def lacking(self, strides: Sequence[int]) -> list[int]:
        """The strides at which it needs maps that a backbone does not have."""
        needed = [needed_stride(level) for level in self.levels]
        return [stride for stride in needed if stride and stride not in strides]


def needed_stride(level: str) -> int:
    """The stride that a backbone must have for a level; 0 if every backbone has such a map."""
    return LOW_STRIDE if level == "low" else int(level.removeprefix("stride") if level.startswith("stride") else 0)


def class_layer(channels: int, n_classes: int) -> nn.Conv2d:
    """A 1x1 convolution whose outputs are classes, which begins undecided between them."""
    layer = nn.Conv2d(channels, n_classes, 1)
    assert layer.bias is not None
    nn.init.normal_(layer.weight, std=CLASSIFIER_STD)
    nn.init.zeros_(layer.bias)
    return layer


class _Lraspp(LRASPPHead):  # type: ignore[misc]
    """Torchvision's, whose deep scores are enlarged instead of the features that they are made of.

    A convolution of one pixel and a bilinear enlargement give the same in either order, and classes are fewer.
    """

    def forward(self, input: Mapping[str, Tensor]) -> Tensor:
        low, high = input["low"], input["high"]
        deep = self.high_classifier(self.cbr(high) * self.scale(high))
        enlarged = functional.interpolate(deep, size=low.shape[-2:], mode="bilinear", align_corners=False)
        return cast("Tensor", self.low_classifier(low) + enlarged)


def _lraspp(channels: Mapping[str, int], n_classes: int) -> nn.Module:
    head = _Lraspp(channels["low"], channels["high"], n_classes, LRASPP_CHANNELS)
    # Nothing normalises the low-level features: with larger weights training begins at a loss far above log(classes).
    for layer in (head.low_classifier, head.high_classifier):
        nn.init.normal_(layer.weight, std=CLASSIFIER_STD)
        nn.init.zeros_(layer.bias)
    return cast("nn.Module", head)


_WITH_AUXILIARY = ("classifier.4", "aux_classifier.4")

HEADS.register("fcn")(
    Head(
        "FCN (Long et al., 2015)",
        lambda channels, n_classes: FCNHead(channels["out"], n_classes),
        levels=("out",),
        dilated=True,
        final_layers=_WITH_AUXILIARY,
        auxiliary=True,
    )
)

HEADS.register("deeplabv3")(
    Head(
        "DeepLabV3 (Chen et al., 2017)",
        lambda channels, n_classes: DeepLabHead(channels["out"], n_classes),
        levels=("out",),
        dilated=True,
        final_layers=_WITH_AUXILIARY,
        auxiliary=True,
        # Its image pooling normalises a 1x1 map, whose statistics a batch of one does not have.
        min_train_batch=2,
    )
)

HEADS.register("lraspp")(
    Head(
        'Lite R-ASPP (Howard et al., "Searching for MobileNetV3", 2019)',
        _lraspp,
        levels=("low", "high"),
        dilated=False,
        final_layers=("classifier.low_classifier", "classifier.high_classifier"),
        input=None,
    )
)


HEADS.register("linear")(
    Head(
        'One linear layer on normalised features (Oquab et al., "DINOv2", 2023)',
        lambda channels, n_classes: nn.Sequential(
            nn.BatchNorm2d(channels["out"]), class_layer(channels["out"], n_classes)
        ),
        levels=("out",),
        dilated=True,
        final_layers=("classifier.1",),
    )
)


def auxiliary_head(channels: Mapping[str, int], n_classes: int) -> nn.Module:
    """A second FCN on the level `aux`, whose loss reaches the middle of the backbone directly (Zhao et al., 2017)."""
    return cast("nn.Module", FCNHead(channels["aux"], n_classes))
