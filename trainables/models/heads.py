"""The heads by name: from a backbone's feature maps to logits."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import cast

from torch import nn
from torchvision.models.segmentation.deeplabv3 import DeepLabHead
from torchvision.models.segmentation.fcn import FCNHead
from torchvision.models.segmentation.lraspp import LRASPPHead

from trainables.models import HEADS

LRASPP_CHANNELS = 128
"""Howard et al., 2019, and torchvision."""

CLASSIFIER_STD = 0.01
"""Standard deviation of the initial weights of a layer whose outputs are classes; so in mmsegmentation."""


@dataclass(frozen=True)
class Head:
    """What is asked of a backbone for a head, and what the trainer and the weights must know about it.

    Attributes:
        summary: The head and its source, for documentation.
        build: Channels of the feature maps by level, and the number of classes, to the head.
        levels: The feature maps that it takes (see `Backbone`).
        dilated: Whether the backbone should trade strides for dilation where it can, to keep its last maps large.
        final_layers: The layers of the model whose outputs are classes.
        input: The one map that the head takes, or None where it takes the mapping.
        auxiliary: Whether an FCN on the level `aux` can help in training.
        min_train_batch: The smallest batch that it can be trained on.
    """

    summary: str
    build: Callable[[Mapping[str, int], int], nn.Module]
    levels: tuple[str, ...]
    dilated: bool
    final_layers: tuple[str, ...]
    input: str | None = "out"
    auxiliary: bool = False
    min_train_batch: int = 1


def _lraspp(channels: Mapping[str, int], n_classes: int) -> nn.Module:
    head = LRASPPHead(channels["low"], channels["high"], n_classes, LRASPP_CHANNELS)
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


def auxiliary_head(channels: Mapping[str, int], n_classes: int) -> nn.Module:
    """A second FCN on the level `aux`, whose loss reaches the middle of the backbone directly (Zhao et al., 2017)."""
    return cast("nn.Module", FCNHead(channels["aux"], n_classes))
