"""The backbones by name: torchvision's classifiers without their classification, as extractors of feature maps."""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol, cast

import torch
import torchvision
from torch import nn
from torchvision.models._api import WeightsEnum
from torchvision.models._utils import IntermediateLayerGetter

from trainables.models.weights import described, ensure_file, load_strictly, read_weights

IMAGENET_NORMALISATION: Mapping[str, Sequence[float]] = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}
"""What images are normalised with where weights do not say otherwise."""


@dataclass(frozen=True)
class Features:
    """A backbone as it was built.

    Attributes:
        extractor: Images (N, 3, H, W) to a mapping of the levels asked for to their feature maps; it has no layer that
            none of them needs.
        predefined: The weights that were loaded (see `SegmentationModel`).
    """

    extractor: nn.Module
    predefined: str = ""

    def channels(self, multiple: int = 1) -> dict[str, int]:
        """Channels of each feature map, found by running it on a black image with sides that are multiples of that."""
        side = -(-64 // multiple) * multiple
        self.extractor.eval()
        with torch.no_grad():
            maps = self.extractor(torch.zeros(1, 3, side, side))
        self.extractor.train()
        return {level: int(feature_map.shape[1]) for level, feature_map in maps.items()}


class Backbone(Protocol):
    """A part of a model that makes feature maps, named by level.

    Levels are `low` (stride 8), `out` (the deepest), `high` (LRASPP's word for `out`), `aux` (before `out`), and
    `stride2`, `stride4` ... `stride32`: the last maps of these strides, undilated.
    """

    @property
    def name(self) -> str:
        """As in the names of models."""

    @property
    def normalisation(self) -> Mapping[str, Sequence[float]]:
        """What the images were normalised with when its ImageNet weights were trained."""

    @property
    def strides(self) -> tuple[int, ...]:
        """The strides at which it has feature maps, undilated, from the shallowest to the deepest.

        Raises:
            UsageError: If it has none, or takes images of one size only.
        """

    @property
    def multiple(self) -> int:
        """What sides of its images must be multiples of."""

    @property
    def min_train_batch(self) -> int:
        """The smallest batch that it can be trained on."""

    def build(self, levels: Sequence[str], *, dilated: bool, imagenet: bool) -> Features:
        """Builds it, from torch's global generator or with ImageNet weights.

        Raises:
            WeightsError: If the weights cannot be obtained.
            UsageError: If it cannot be built, or has no such levels.
        """

    def ensure_weights(self) -> None:
        """Makes sure that the ImageNet weights are on this machine, downloading them once if necessary.

        Raises:
            WeightsError: If they are damaged, or neither there nor downloadable.
        """


@dataclass(frozen=True)
class _Family:
    """What torchvision's models of one kind have in common.

    Attributes:
        low: The layer at stride 8 that LRASPP takes.
        aux: The layer for the auxiliary head.
        out: The deepest layer before those that only serve classification.
        layers: The module whose children, one after another, are the layers.
        last: The last layer of each stride, undilated.
        dilation: Builder options of the dilated form.
        always_dilated: Whether torchvision uses that form for every head, and we for all that take no `stride32`.
    """

    low: str
    aux: str
    out: str
    layers: Callable[[Any], nn.Module]
    last: Mapping[int, str]
    dilation: Mapping[str, Any] = field(default_factory=dict)
    always_dilated: bool = False


def _itself(net: Any) -> nn.Module:
    return cast("nn.Module", net)


def _features(net: Any) -> nn.Module:
    return cast("nn.Module", net.features)


def _stem_and_blocks(net: Any) -> nn.Module:
    return nn.Sequential(OrderedDict(stem=net.stem, **dict(net.trunk_output.named_children())))


_TO_STRIDE_8 = {"replace_stride_with_dilation": (False, True, True)}
_TO_STRIDE_16 = {"dilated": True}

_RESNET = {2: "relu", 4: "layer1", 8: "layer2", 16: "layer3", 32: "layer4"}
_EFFICIENTNET = {2: "1", 4: "2", 8: "3", 16: "5", 32: "7"}
_REGNET = {2: "stem", 4: "block1", 8: "block2", 16: "block3", 32: "block4"}

_FAMILIES: Mapping[str, _Family] = {
    r"resnet(18|34)": _Family("layer2", "layer3", "layer4", _itself, _RESNET),
    r"resnet.+|resnext.+|wide_resnet.+": _Family("layer2", "layer3", "layer4", _itself, _RESNET, _TO_STRIDE_8),
    r"mobilenet_v2": _Family("6", "13", "17", _features, {2: "1", 4: "3", 8: "6", 16: "13", 32: "17"}),
    # torchvision's own choice for LRASPP and DeepLabV3, with the widening layer before the classifier.
    r"mobilenet_v3_large": _Family(
        "4", "4", "16", _features, {2: "1", 4: "3", 8: "6", 16: "12", 32: "16"}, _TO_STRIDE_16, always_dilated=True
    ),
    r"mobilenet_v3_small": _Family(
        "2", "2", "12", _features, {2: "0", 4: "1", 8: "3", 16: "8", 32: "12"}, _TO_STRIDE_16, always_dilated=True
    ),
    r"efficientnet_b\d": _Family("3", "5", "7", _features, _EFFICIENTNET),
    r"efficientnet_v2_s": _Family("3", "5", "6", _features, {**_EFFICIENTNET, 32: "6"}),
    r"efficientnet_v2_[ml]": _Family("3", "5", "7", _features, _EFFICIENTNET),
    r"regnet_.+": _Family("block2", "block3", "block4", _stem_and_blocks, _REGNET),
    r"convnext_.+": _Family("3", "5", "7", _features, {4: "1", 8: "3", 16: "5", 32: "7"}),
}


@dataclass(frozen=True)
class TorchvisionBackbone:
    """A classifier of torchvision as a `Backbone`."""

    name: str
    family: _Family

    multiple: ClassVar[int] = 1
    min_train_batch: ClassVar[int] = 1

    @property
    def strides(self) -> tuple[int, ...]:
        """As `Backbone.strides`."""
        return tuple(self.family.last)

    @property
    def weights(self) -> WeightsEnum:
        """Torchvision's first ImageNet weights, those that its segmentation models start from."""
        return torchvision.models.get_model_weights(self.name)["IMAGENET1K_V1"]

    @property
    def normalisation(self) -> Mapping[str, Sequence[float]]:
        """That of the weights' transforms."""
        transforms = self.weights.transforms()
        return {"mean": tuple(transforms.mean), "std": tuple(transforms.std)}

    def build(self, levels: Sequence[str], *, dilated: bool, imagenet: bool) -> Features:
        """As `Backbone.build`."""
        family = self.family
        options = family.dilation if dilated or (family.always_dilated and "stride32" not in levels) else {}
        net = torchvision.models.get_model(self.name, weights=None, **options)
        predefined = ""
        if imagenet:
            path = ensure_file(self.name, self.weights)
            load_strictly(net, read_weights(path), path, self.name)
            predefined = described("imagenet", path)
        layer = {"low": family.low, "aux": family.aux, "out": family.out, "high": family.out}
        layer |= {f"stride{stride}": name for stride, name in family.last.items()}
        extractor = IntermediateLayerGetter(family.layers(net), {layer[level]: level for level in levels})
        return Features(extractor, predefined)

    def ensure_weights(self) -> None:
        """As `Backbone.ensure_weights`."""
        ensure_file(self.name, self.weights)


def torchvision_backbones() -> list[str]:
    """The names of all backbones of torchvision's, sorted."""
    return [name for name in torchvision.models.list_models(module=torchvision.models) if torchvision_backbone(name)]


def torchvision_backbone(name: str) -> TorchvisionBackbone | None:
    """Torchvision's backbone of that name, or None."""
    family = next((family for pattern, family in _FAMILIES.items() if re.fullmatch(pattern, name)), None)
    known = family is not None and name in torchvision.models.list_models(module=torchvision.models)
    if family is None or not known or "IMAGENET1K_V1" not in torchvision.models.get_model_weights(name).__members__:
        return None
    return TorchvisionBackbone(name, family)
