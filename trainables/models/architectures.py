"""The models by name: every head on every backbone, as HEAD_BACKBONE."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from torchvision.models import get_model_weights, list_models, segmentation
from torchvision.models._api import WeightsEnum

from trainables.errors import UsageError
from trainables.models import FILE, HEADS, MODELS
from trainables.models.backbones import Backbone, torchvision_backbone
from trainables.models.base import AuxWeight, SegmentationModel, Weights
from trainables.models.efficientnet_lite import efficientnet_lite
from trainables.models.heads import Head, auxiliary_head
from trainables.models.initialisation import set_batch_norm_momentum
from trainables.models.library import library_model
from trainables.models.mit import mit_backbone
from trainables.models.own_weights import load_own
from trainables.models.timm_backbones import timm_backbone
from trainables.models.weight_files import path_of
from trainables.models.weights import described, load_whole_model

AUX_WEIGHT = 0.4
"""Zhao et al., "Pyramid Scene Parsing Network", 2017; torchvision's reference uses 0.5."""

WHOLE_MODELS = tuple(list_models(module=segmentation))
"""The models for which torchvision has weights of the whole (`coco_voc`)."""


@dataclass(frozen=True)
class Architecture:
    """A head on a backbone."""

    name: str
    head: Head
    backbone: Backbone

    @property
    def whole_weights(self) -> WeightsEnum:
        """The `coco_voc` weights.

        Raises:
            UsageError: If there are none; names the models that have them.
        """
        if self.name not in WHOLE_MODELS:
            raise UsageError(
                f"{self.name} has no coco_voc weights, only imagenet or none; these have them: "
                f"{', '.join(WHOLE_MODELS)}"
            )
        return get_model_weights(self.name)["COCO_WITH_VOC_LABELS_V1"]

    @property
    def levels(self) -> tuple[str, ...]:
        """The feature maps that the head takes of this backbone.

        Raises:
            UsageError: If it needs one that the backbone does not have; names the heads that do not.
        """
        strides = self.backbone.strides
        if lacking := self.head.lacking(strides):
            fitting = [name for name in HEADS if not HEADS.get(name).lacking(strides)]
            head = self.name.partition("_")[0]
            raise UsageError(
                f"backbone {self.backbone.name} has no feature map at stride {_listed(lacking)} for {head}, only at "
                f"{_listed(strides)}: use {_listed(fitting, 'or')}, or another backbone"
            )
        return self.head.levels_on(strides)

    def build(self, class_names: Sequence[str], *, weights: str, aux_weight: float = 0.0) -> SegmentationModel:
        """Builds the model.

        Args:
            class_names: The classes, in the order of their ids.
            weights: One of `WEIGHTS`, or a file's (see `own_weights`).
            aux_weight: Weight of the auxiliary loss; without weight there is no auxiliary head.

        Raises:
            UsageError: If the backbone cannot serve the head, or there are no such weights.
            WeightsError: If the weights cannot be obtained.
        """
        whole = self.whole_weights if weights == "coco_voc" else None
        levels = (*self.levels, "aux") if aux_weight > 0 else self.levels
        multiple = math.lcm(self.head.multiple, self.backbone.multiple)
        features = self.backbone.build(levels, dilated=self.head.dilated, imagenet=weights == "imagenet")
        channels, n_classes = features.channels(multiple), len(class_names)
        auxiliary = auxiliary_head(channels, n_classes) if aux_weight > 0 else None
        model = SegmentationModel(
            features.extractor,
            self.head.build(channels, n_classes),
            auxiliary,
            name=self.name,
            head_input=self.head.input,
            aux_weight=aux_weight,
            normalisation=self.backbone.normalisation,
            predefined=features.predefined,
            multiple=multiple,
        )
        if whole is not None:
            model.predefined = load_whole_model(self.name, model, whole, self.head.final_layers, class_names)
        if weights.startswith(FILE):
            path = path_of(weights)
            loaded = load_own(model, path, self.name)
            model.predefined = f"{described('file', path)}, {loaded}"
        if weights == "none":
            set_batch_norm_momentum(model)
        return model

    def factory(self) -> Callable[..., SegmentationModel]:
        """A function that builds it, whose keyword-only parameters are its hyperparameters."""

        def with_auxiliary_head(
            class_names: Sequence[str], *, weights: Weights = "none", aux_weight: AuxWeight = AUX_WEIGHT
        ) -> SegmentationModel:
            return self.build(class_names, weights=weights, aux_weight=aux_weight)

        def without(class_names: Sequence[str], *, weights: Weights = "none") -> SegmentationModel:
            return self.build(class_names, weights=weights)

        factory: Any = with_auxiliary_head if self.head.auxiliary else without
        factory.__name__ = self.name
        factory.may_be_refused = True
        factory.min_train_batch = max(self.head.min_train_batch, self.backbone.min_train_batch)
        factory.__doc__ = f"{self.head.summary} on {self.backbone.name}."
        return factory  # type: ignore[no-any-return]


def architecture(name: str) -> Architecture | None:
    """What a name of the form HEAD_BACKBONE stands for, or None."""
    head, _, backbone_name = name.partition("_")
    backbone = _backbone(backbone_name) if head in HEADS else None
    return Architecture(name, HEADS.get(head), backbone) if backbone else None


@cache
def _backbone(name: str) -> Backbone | None:
    return torchvision_backbone(name) or efficientnet_lite(name) or mit_backbone(name) or timm_backbone(name)


def _listed(values: Iterable[object], last: str = "and") -> str:
    """Each value once: "4, 8 and 16"."""
    *first, end = dict.fromkeys(map(str, values))
    return f"{', '.join(first)} {last} {end}" if first else end


@MODELS.resolver
def _resolve(name: str) -> Callable[..., SegmentationModel] | None:
    found = architecture(name)
    return found.factory() if found else library_model(name)


for _name in (
    "fcn_resnet50",
    "fcn_resnet101",
    "deeplabv3_resnet50",
    "deeplabv3_resnet101",
    "deeplabv3_mobilenet_v3_large",
    "lraspp_mobilenet_v3_large",
    "lraspp_mobilenet_v3_small",
    "fcn_resnet18",
    "deeplabv3_resnet18",
    "lraspp_resnet18",
    "lraspp_efficientnet_b0",
):
    MODELS.register(_name)(MODELS.get(_name))
