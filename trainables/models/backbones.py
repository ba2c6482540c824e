"""The backbones by name: torchvision's classifiers without their classification, as extractors of feature maps."""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, cast

import torch
import torchvision
from torch import nn
from torchvision.models._api import WeightsEnum
from torchvision.models._utils import IntermediateLayerGetter

from trainables.models.weights import described, ensure_file, load_strictly, read_weights


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

    def channels(self) -> dict[str, int]:
        """Channels of each feature map, found by running it on a black image."""
        self.extractor.eval()
        with torch.no_grad():
            maps = self.extractor(torch.zeros(1, 3, 64, 64))
        self.extractor.train()
        return {level: int(feature_map.shape[1]) for level, feature_map in maps.items()}


class Backbone(Protocol):
    """Levels are `low` (stride 8), `out` (the deepest), `high` (LRASPP's word for `out`) and `aux` (before `out`)."""

    @property
    def name(self) -> str:
        """As in the names of models."""

    @property
    def normalisation(self) -> Mapping[str, Sequence[float]]:
        """What the images were normalised with when its ImageNet weights were trained."""

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
        low: The layer at stride 8.
        aux: The layer for the auxiliary head.
        out: The deepest layer before those that only serve classification.
        layers: The module whose children, one after another, are the layers.
        dilation: Builder options of the dilated form.
        always_dilated: Whether torchvision uses that form for every head.
    """

    low: str
    aux: str
    out: str
    layers: Callable[[Any], nn.Module]
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

_FAMILIES: Mapping[str, _Family] = {
    r"resnet(18|34)": _Family("layer2", "layer3", "layer4", _itself),
    r"resnet.+|resnext.+|wide_resnet.+": _Family("layer2", "layer3", "layer4", _itself, _TO_STRIDE_8),
    r"mobilenet_v2": _Family("6", "13", "17", _features),
    # torchvision's own choice for LRASPP and DeepLabV3, with the widening layer before the classifier.
    r"mobilenet_v3_large": _Family("4", "4", "16", _features, _TO_STRIDE_16, always_dilated=True),
    r"mobilenet_v3_small": _Family("2", "2", "12", _features, _TO_STRIDE_16, always_dilated=True),
    r"efficientnet_b\d": _Family("3", "5", "7", _features),
    r"efficientnet_v2_s": _Family("3", "5", "6", _features),
    r"efficientnet_v2_[ml]": _Family("3", "5", "7", _features),
    r"regnet_.+": _Family("block2", "block3", "block4", _stem_and_blocks),
    r"convnext_.+": _Family("3", "5", "7", _features),
}


@dataclass(frozen=True)
class TorchvisionBackbone:
    """A classifier of torchvision as a `Backbone`."""

    name: str
    family: _Family

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
        options = self.family.dilation if dilated or self.family.always_dilated else {}
        net = torchvision.models.get_model(self.name, weights=None, **options)
        predefined = ""
        if imagenet:
            path = ensure_file(self.name, self.weights)
            load_strictly(net, read_weights(path), path, self.name)
            predefined = described("imagenet", path)
        family = self.family
        layer = {"low": family.low, "aux": family.aux, "out": family.out, "high": family.out}
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
