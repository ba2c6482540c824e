"""The models by name: torchvision's FCN, DeepLabV3 and LRASPP on the backbones that it offers for them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from torch import nn
from torchvision import models as backbones
from torchvision.models import segmentation as heads
from torchvision.models._api import WeightsEnum

from trainables.models.base import MODELS, AuxWeight, SegmentationModel, Weights
from trainables.models.initialisation import set_batch_norm_momentum
from trainables.models.weights import load_backbone, load_whole_model

AUX_WEIGHT = 0.4
"""Zhao et al., "Pyramid Scene Parsing Network", 2017; torchvision's reference uses 0.5."""


@dataclass(frozen=True)
class Architecture:
    """What the builders, the weights and the trainer must know about one model."""

    builder: Callable[..., nn.Module]
    """torchvision's, taking `weights`, `weights_backbone`, `num_classes` and, where there is one, `aux_loss`."""
    backbone_weights: WeightsEnum
    whole_weights: WeightsEnum
    final_layers: tuple[str, ...]
    """The layers whose outputs are classes."""
    head_input: str | None = "out"
    min_train_batch: int = 1
    """DeepLabV3 normalises a 1x1 map, whose statistics a batch of one does not have."""


_HEADS_WITH_AUX = ("classifier.4", "aux_classifier.4")

ARCHITECTURES: dict[str, Architecture] = {
    "fcn_resnet50": Architecture(
        heads.fcn_resnet50,
        backbones.ResNet50_Weights.IMAGENET1K_V1,
        heads.FCN_ResNet50_Weights.COCO_WITH_VOC_LABELS_V1,
        _HEADS_WITH_AUX,
    ),
    "fcn_resnet101": Architecture(
        heads.fcn_resnet101,
        backbones.ResNet101_Weights.IMAGENET1K_V1,
        heads.FCN_ResNet101_Weights.COCO_WITH_VOC_LABELS_V1,
        _HEADS_WITH_AUX,
    ),
    "deeplabv3_resnet50": Architecture(
        heads.deeplabv3_resnet50,
        backbones.ResNet50_Weights.IMAGENET1K_V1,
        heads.DeepLabV3_ResNet50_Weights.COCO_WITH_VOC_LABELS_V1,
        _HEADS_WITH_AUX,
        min_train_batch=2,
    ),
    "deeplabv3_resnet101": Architecture(
        heads.deeplabv3_resnet101,
        backbones.ResNet101_Weights.IMAGENET1K_V1,
        heads.DeepLabV3_ResNet101_Weights.COCO_WITH_VOC_LABELS_V1,
        _HEADS_WITH_AUX,
        min_train_batch=2,
    ),
    "deeplabv3_mobilenet_v3_large": Architecture(
        heads.deeplabv3_mobilenet_v3_large,
        backbones.MobileNet_V3_Large_Weights.IMAGENET1K_V1,
        heads.DeepLabV3_MobileNet_V3_Large_Weights.COCO_WITH_VOC_LABELS_V1,
        _HEADS_WITH_AUX,
        min_train_batch=2,
    ),
    "lraspp_mobilenet_v3_large": Architecture(
        heads.lraspp_mobilenet_v3_large,
        backbones.MobileNet_V3_Large_Weights.IMAGENET1K_V1,
        heads.LRASPP_MobileNet_V3_Large_Weights.COCO_WITH_VOC_LABELS_V1,
        ("classifier.low_classifier", "classifier.high_classifier"),
        head_input=None,
    ),
}


def _build(
    name: str, class_names: Sequence[str], *, weights: str, aux_weight: float | None = None
) -> SegmentationModel:
    """Builds a model of `ARCHITECTURES`; `aux_weight` is None where it has no auxiliary head."""
    architecture = ARCHITECTURES[name]
    options: dict[str, Any] = {} if aux_weight is None else {"aux_loss": aux_weight > 0}
    built: Any = architecture.builder(weights=None, weights_backbone=None, num_classes=len(class_names), **options)
    model = SegmentationModel(
        built.backbone,
        built.classifier,
        getattr(built, "aux_classifier", None),
        head_input=architecture.head_input,
        aux_weight=aux_weight or 0.0,
    )
    if weights == "imagenet":
        load_backbone(name, model.backbone, architecture.backbone_weights)
    elif weights == "coco_voc":
        load_whole_model(name, model, architecture.whole_weights, architecture.final_layers, class_names)
    else:
        set_batch_norm_momentum(model)
    return model


@MODELS.register("fcn_resnet50")
def fcn_resnet50(
    class_names: Sequence[str], *, weights: Weights = "none", aux_weight: AuxWeight = AUX_WEIGHT
) -> SegmentationModel:
    """FCN (Long et al., 2015) on a dilated ResNet-50, output stride 8."""
    return _build("fcn_resnet50", class_names, weights=weights, aux_weight=aux_weight)


@MODELS.register("fcn_resnet101")
def fcn_resnet101(
    class_names: Sequence[str], *, weights: Weights = "none", aux_weight: AuxWeight = AUX_WEIGHT
) -> SegmentationModel:
    """FCN (Long et al., 2015) on a dilated ResNet-101, output stride 8."""
    return _build("fcn_resnet101", class_names, weights=weights, aux_weight=aux_weight)


@MODELS.register("deeplabv3_resnet50")
def deeplabv3_resnet50(
    class_names: Sequence[str], *, weights: Weights = "none", aux_weight: AuxWeight = AUX_WEIGHT
) -> SegmentationModel:
    """DeepLabV3 (Chen et al., 2017) on a dilated ResNet-50, output stride 8."""
    return _build("deeplabv3_resnet50", class_names, weights=weights, aux_weight=aux_weight)


@MODELS.register("deeplabv3_resnet101")
def deeplabv3_resnet101(
    class_names: Sequence[str], *, weights: Weights = "none", aux_weight: AuxWeight = AUX_WEIGHT
) -> SegmentationModel:
    """DeepLabV3 (Chen et al., 2017) on a dilated ResNet-101, output stride 8."""
    return _build("deeplabv3_resnet101", class_names, weights=weights, aux_weight=aux_weight)


@MODELS.register("deeplabv3_mobilenet_v3_large")
def deeplabv3_mobilenet_v3_large(
    class_names: Sequence[str], *, weights: Weights = "none", aux_weight: AuxWeight = AUX_WEIGHT
) -> SegmentationModel:
    """DeepLabV3 (Chen et al., 2017) on a dilated MobileNetV3-Large, output stride 16."""
    return _build("deeplabv3_mobilenet_v3_large", class_names, weights=weights, aux_weight=aux_weight)


@MODELS.register("lraspp_mobilenet_v3_large")
def lraspp_mobilenet_v3_large(class_names: Sequence[str], *, weights: Weights = "none") -> SegmentationModel:
    """Lite R-ASPP (Howard et al., "Searching for MobileNetV3", 2019): small and fast; no auxiliary head."""
    return _build("lraspp_mobilenet_v3_large", class_names, weights=weights)
