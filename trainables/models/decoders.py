"""Heads whose decoders are those of segmentation_models.pytorch: several feature maps to logits.

Their logits have the resolution of the largest map that they take; the model enlarges them to the images' size.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from trainables.models import HEADS
from trainables.models.heads import Head, class_layer
from trainables.models.library import segmentation_models

PYRAMID = ("stride4", "stride8", "stride16", "stride32")
CHANNELS = 256
"""Of the decoders in between; that of the library, and of the papers."""
UNET_CHANNELS = (256, 128, 64, 32)
"""After each step up: the library's."""
FPN_CHANNELS = 128
"""Of the maps that are added up (Kirillov et al., 2019)."""
ATROUS_RATES = (12, 24, 36)
"""The library's for DeepLabV3+, and torchvision's for DeepLabV3."""


class _Decoded(nn.Module):
    """A decoder and the layer whose outputs are classes.

    Args:
        decoder: Of the library.
        channels: That it gives.
        n_classes: Number of classes.
    """

    def __init__(self, decoder: nn.Module, channels: int, n_classes: int) -> None:
        super().__init__()
        segmentation_models().base.initialization.initialize_decoder(decoder)
        self.decoder = decoder
        self.final = class_layer(channels, n_classes)

    def forward(self, features: Mapping[str, Tensor]) -> Tensor:
        """Logits (N, C, h, w) of feature maps by level, which stand from the shallowest to the deepest."""
        logits: Tensor = self.final(self.decode(list(features.values())))
        return logits

    def decode(self, maps: list[Any]) -> Tensor:
        """The decoder's output. It expects the image before all maps, and a map at stride 2, without a use for them."""
        raise NotImplementedError


class _UNet(_Decoded):
    def decode(self, maps: list[Any]) -> Tensor:
        decoded: Tensor = self.decoder([maps[0], *maps])
        return decoded


class _UPerNet(_Decoded):
    def decode(self, maps: list[Any]) -> Tensor:
        decoded: Tensor = self.decoder([None, None, *maps])
        return decoded


class _FPN(_Decoded):
    def decode(self, maps: list[Any]) -> Tensor:
        decoded: Tensor = self.decoder(maps)
        return decoded


class _SegFormer(_Decoded):
    def decode(self, maps: list[Any]) -> Tensor:
        decoder: Any = self.decoder
        mixed = [mlp(found) for mlp, found in zip(decoder.mlp_stage, reversed(maps), strict=True)]
        decoded: Tensor = decoder.fuse_stage(torch.cat([_as_large(one, maps[0]) for one in mixed], dim=1))
        return decoded


class _DeepLabV3Plus(_Decoded):
    """The library's own forward pass enlarges by a fixed factor, which fits even sides and one stride."""

    def decode(self, maps: list[Any]) -> Tensor:
        decoder: Any = self.decoder
        large, deep = maps
        pair = (_as_large(decoder.aspp(deep), large), decoder.block1(large))
        decoded: Tensor = decoder.block2(torch.cat(pair, dim=1))
        return decoded


def _as_large(one: Tensor, other: Tensor) -> Tensor:
    return F.interpolate(one, size=other.shape[-2:], mode="bilinear", align_corners=False)


def _unet(channels: Mapping[str, int], n_classes: int) -> nn.Module:
    widths = UNET_CHANNELS[: len(channels) - 1]
    decoder = segmentation_models().decoders.unet.decoder.UnetDecoder([0, *channels.values()], widths, len(widths))
    return _UNet(decoder, widths[-1], n_classes)


def _upernet(channels: Mapping[str, int], n_classes: int) -> nn.Module:
    made = segmentation_models().decoders.upernet.decoder.UPerNetDecoder
    return _UPerNet(made([0, 0, *channels.values()], decoder_channels=CHANNELS), CHANNELS, n_classes)


def _fpn(channels: Mapping[str, int], n_classes: int) -> nn.Module:
    made = segmentation_models().decoders.fpn.decoder.FPNDecoder
    decoder = made(list(channels.values()), pyramid_channels=CHANNELS, segmentation_channels=FPN_CHANNELS)
    return _FPN(decoder, FPN_CHANNELS, n_classes)


def _segformer(channels: Mapping[str, int], n_classes: int) -> nn.Module:
    made = segmentation_models().decoders.segformer.decoder.SegformerDecoder
    return _SegFormer(made([3, *channels.values()], segmentation_channels=CHANNELS), CHANNELS, n_classes)


def _deeplabv3plus(channels: Mapping[str, int], n_classes: int) -> nn.Module:
    decoder = segmentation_models().decoders.deeplabv3.decoder.DeepLabV3PlusDecoder(
        [0, 0, channels["stride4"], channels["out"]],
        encoder_depth=5,
        out_channels=CHANNELS,
        atrous_rates=ATROUS_RATES,
        output_stride=16,
        aspp_separable=True,
        aspp_dropout=0.5,
    )
    decoder.up = nn.Identity()
    return _DeepLabV3Plus(decoder, CHANNELS, n_classes)


HEADS.register("deeplabv3plus")(
    Head(
        "DeepLabV3+ (Chen et al., 2018)",
        _deeplabv3plus,
        levels=("stride4", "out"),
        dilated=True,
        final_layers=("classifier.final",),
        input=None,
        of_library=True,
        # As in DeepLabV3.
        min_train_batch=2,
    )
)

HEADS.register("unet")(
    Head(
        "U-Net (Ronneberger et al., 2015)",
        _unet,
        levels=PYRAMID,
        where_there=("stride2",),
        dilated=False,
        final_layers=("classifier.final",),
        input=None,
        of_library=True,
    )
)

HEADS.register("fpn")(
    Head(
        "Semantic FPN (Kirillov et al., 2019)",
        _fpn,
        levels=PYRAMID,
        dilated=False,
        final_layers=("classifier.final",),
        input=None,
        of_library=True,
        multiple=32,  # its maps are enlarged by 2 and added to the next
    )
)

HEADS.register("upernet")(
    Head(
        "UPerNet (Xiao et al., 2018)",
        _upernet,
        levels=PYRAMID,
        dilated=False,
        final_layers=("classifier.final",),
        input=None,
        of_library=True,
        # Its pyramid pooling normalises a 1x1 map.
        min_train_batch=2,
    )
)

HEADS.register("segformer")(
    Head(
        "SegFormer's MLP head (Xie et al., 2021)",
        _segformer,
        levels=PYRAMID,
        dilated=False,
        final_layers=("classifier.final",),
        input=None,
        of_library=True,
    )
)
