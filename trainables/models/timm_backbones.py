"""Backbones of timm: every model of it that gives feature maps of images of any size."""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from trainables.errors import UsageError, WeightsError
from trainables.models import EXTRA
from trainables.models.backbones import Backbone, Features
from trainables.models.hub_files import by_hand
from trainables.models.weights import tensors_digest

M = TypeVar("M", bound=nn.Module)
_DILATED_STRIDE = 16
_ANY_SIZE = {"dynamic_img_size": True}
"""timm's option for a transformer that was made for images of one size."""
_SIZES = ((2, 3), (5, 4))
"""Height and width on which a model is tried, in multiples of what it needs, of 48 pixels and more each."""
_ODD = (97, 131)


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
        told = timm().get_pretrained_cfg(self.name)
        return {"mean": told.mean, "std": told.std}

    @property
    def strides(self) -> tuple[int, ...]:
        """As `Backbone.strides`."""
        return known(self.name).strides

    @property
    def multiple(self) -> int:
        """As `Backbone.multiple`: the patches or windows of a transformer."""
        return known(self.name).multiple

    @property
    def min_train_batch(self) -> int:
        """As `Backbone.min_train_batch`; 1 of one that cannot be used."""
        try:
            return known(self.name).min_train_batch
        except UsageError:
            return 1

    def build(self, levels: Sequence[str], *, dilated: bool, imagenet: bool) -> Features:
        """As `Backbone.build`."""
        features = extractor(self.name, levels, dilated=dilated, pretrained=imagenet)
        if not imagenet:
            return Features(features)
        told = timm().get_pretrained_cfg(self.name)
        source = told.hf_hub_id or told.url
        return Features(features, f"imagenet: {source} tensors sha256:{tensors_digest(features.body)[:8]}")

    def ensure_weights(self) -> None:
        """As `Backbone.ensure_weights`; timm cannot fetch a file without building the model."""
        extractor(self.name, ("out",), dilated=False, pretrained=True)


def with_synchronised_norms(model: M) -> M:
    """The model with `SyncBatchNorm` for its BatchNorm; where timm put an activation into one, it stays."""
    converted: M = timm().layers.convert_sync_batchnorm(model)
    return converted


def timm_backbone(name: str) -> Backbone | None:
    """Timm's model of that name, where timm is installed, or None."""
    try:
        package = timm()
    except UsageError:
        return None
    is_known = package.is_model(name) and ("." not in name or name in package.list_models(name, pretrained=True))
    return TimmBackbone(name) if is_known else None


def extractor(name: str, levels: Sequence[str], *, dilated: bool, pretrained: bool) -> TimmFeatures:
    """Builds the part of a model of timm's that some levels need (see `Backbone`).

    Raises:
        UsageError: If it gives no such maps.
        WeightsError: If predefined weights cannot be obtained.
    """
    of_model = known(name)
    strides = of_model.strides
    place = {"aux": len(strides) - 2, "out": len(strides) - 1, "high": len(strides) - 1}
    if 8 in strides:
        place["low"] = strides.index(8)
    place |= {f"stride{stride}": strides.index(stride) for stride in strides}
    ordered = sorted(levels, key=place.__getitem__)
    options = dict(of_model.options)
    if dilated and _dilates(name):
        options["output_stride"] = _DILATED_STRIDE
    places = tuple(place[level] for level in ordered)
    try:
        body = _quietly(name, out_indices=places, pretrained=pretrained, **options)
    except Exception as error:
        if not pretrained:
            raise
        raise WeightsError(
            f"no ImageNet weights for timm's {name}: {' '.join(str(error).split())[:200]}; connect to the network "
            f"once{weights_by_hand(name)}, or train from scratch with --weights none"
        ) from error
    return TimmFeatures(body, ordered)


def weights_by_hand(name: str) -> str:
    """Where the weights of a model of timm's come from and where they go, to stand within an error.

    Empty of a model that has none.
    """
    told = timm().get_pretrained_cfg(name)
    if told is None or not told.hf_hub_id:
        return ""
    repository, _, revision = told.hf_hub_id.partition("@")
    return f", or {by_hand(repository, ['model.safetensors'], revision or 'main')}"


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


@dataclass(frozen=True)
class Known:
    """What is found out about a model of timm's without computing anything.

    Attributes:
        strides: Of its feature maps, from the shallowest to the deepest.
        options: With which it takes images of any size.
        multiple: What height and width of these must be multiples of.
        min_train_batch: The smallest batch that it can be trained on.
    """

    strides: tuple[int, ...]
    options: tuple[tuple[str, Any], ...]
    multiple: int
    min_train_batch: int


@lru_cache
def known(name: str) -> Known:
    """Looks at a model of timm's.

    Raises:
        UsageError: If it gives no feature maps, or does not take images of any size.
    """
    try:
        body = _sketch(name)
    except (AssertionError, RuntimeError, TypeError, NotImplementedError) as error:
        raise UsageError(f"timm's {name} gives no feature maps ({error}): choose another backbone") from error
    strides = tuple(body.feature_info.reduction())
    ways: list[tuple[Mapping[str, Any], int]] = [({}, strides[-1]), (_ANY_SIZE, strides[-1])]
    if not body.pretrained_cfg["fixed_input_size"] and len(set(strides)) > 1:
        ways.insert(0, ({}, 1))
    first = ""
    for options, multiple in ways:
        try:
            body = _sketch(name, **options).eval()
            part = -(-48 // multiple) * multiple
            for height, width in _SIZES:
                _run(body, 1, height * part, width * part)
            if multiple == 1:
                _run(body, 1, *_ODD)
        except Exception as error:  # what a model of timm's does not take, it tells in many ways
            first = first or f"{type(error).__name__}: {' '.join(str(error).split())[:80]}"
        else:
            return Known(strides, tuple(options.items()), multiple, _least_batch(body.train(), multiple))
    raise UsageError(f"timm's {name} does not take images of any size ({first}): choose another backbone")


def _least_batch(body: nn.Module, multiple: int) -> int:
    """2 where a layer normalises over a single value per channel, which a batch of one does not allow."""
    side = -(-64 // multiple) * multiple
    try:
        _run(body, 1, side, side)
    except ValueError:
        return 2
    return 1


@torch.no_grad()
def _run(body: nn.Module, batch: int, height: int, width: int) -> None:
    with torch.random.fork_rng(devices=[]), torch.device("meta"):
        body(torch.zeros(batch, 3, height, width))


@lru_cache
def _dilates(name: str) -> bool:
    """Whether a model has a dilated form, which timm tells by failing or not."""
    try:
        _sketch(name, output_stride=_DILATED_STRIDE, **dict(known(name).options))
    except (AssertionError, NotImplementedError, TypeError):
        return False
    return True


def _sketch(name: str, **options: Any) -> Any:
    """A feature extractor without values."""
    with torch.random.fork_rng(devices=[]), torch.device("meta"):
        return _quietly(name, **options)


def _quietly(name: str, **options: Any) -> Any:
    """A feature extractor, built without timm's and torch's warnings, which tell a user nothing to act on."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return timm().create_model(name, features_only=True, **options)


def timm() -> Any:
    """The package timm.

    Raises:
        UsageError: If it is not installed.
    """
    try:
        return importlib.import_module("timm")
    except ImportError as error:
        raise UsageError(f"this backbone is built by timm, which is not installed: {EXTRA}") from error
