"""Segmentation models by name: `MODELS`, every head of `HEADS` on every backbone.

The package does not load torch: names and hyperparameters of models do not need it. Building one does, as does counting
its parameters.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from trainables import lazy
from trainables.commands import EXTRA_LITE, EXTRA_SMP, EXTRA_TRANSFORMERS
from trainables.registry import Registry

if TYPE_CHECKING:
    from trainables.models.base import SegmentationModel
    from trainables.models.build import (
        build_for_bands,
        build_model,
        ensure_weights,
        parameter_count,
        predefined_categories,
        why_refused,
    )
    from trainables.models.heads import Head

__all__ = [
    "FILE",
    "HEADS",
    "MODELS",
    "WEIGHTS",
    "Head",
    "SegmentationModel",
    "build_for_bands",
    "build_model",
    "ensure_weights",
    "knows_images",
    "min_train_batch",
    "parameter_count",
    "predefined_categories",
    "refusal",
    "why_refused",
]

WEIGHTS = ("none", "imagenet", "coco_voc")
"""From scratch; the backbone trained on ImageNet; the whole model trained on COCO images with VOC's 21 classes."""

FILE = "file:"
"""Begins the weights that a user's file holds: `file:PLACE@SHA256`, as `trainables.models.own_weights` writes it."""

EXTRA = f"{EXTRA_LITE} in the folder of this project's source"
"""What makes further backbones available."""

HEADS: Registry[Head] = Registry("head", modules=("trainables.models.heads", "trainables.models.decoders"))
"""Every head goes with every backbone, as the model HEAD_BACKBONE; a name has no underscore."""


def _pattern() -> str:
    of_library = [name for name in HEADS if HEADS.get(name).of_library]
    return (
        f"HEAD_BACKBONE with a head of {', '.join(HEADS)} and a backbone of torchvision such as resnet34, "
        f"efficientnet_b0 or convnext_tiny; with {EXTRA} also efficientnet_lite0 to 2 and timm's backbones; with "
        f"{EXTRA_TRANSFORMERS} there SegFormer's mit_b0 to mit_b5; with {EXTRA_SMP} there the heads "
        f"{', '.join(of_library)}, and whole models as smp/ARCHITECTURE_ENCODER such as smp/unetplusplus_resnet34"
    )


MODELS: Registry[Callable[..., SegmentationModel]] = Registry(
    "model",
    modules=("trainables.models.architectures",),
    pattern=_pattern,
    example="lraspp_efficientnet_lite0",
)
"""Factories `(class_names, *, weights, ...) -> SegmentationModel`; listed are the usual models."""


def knows_images(weights: str) -> bool:
    """Whether weights are those of a backbone that was trained on other images: ImageNet's, or a file's."""
    return weights == "imagenet" or weights.startswith(FILE)


def min_train_batch(name: str) -> int:
    """The smallest batch that a model can be trained on (evaluation takes any).

    The model's factory says it by an attribute `min_train_batch`; without one it is 1.

    Raises:
        UnknownNameError: If there is no such model.
    """
    return int(MODELS.fact(name, "min_train_batch", 1))


def refusal(name: str, weights: str) -> str:
    """Why a model cannot be used, in one line with what to use instead; empty if it can. It is remembered.

    Args:
        name: A name in `MODELS`.
        weights: One of `WEIGHTS`, or a file's.
    """
    kind = "coco_voc" if weights == "coco_voc" else "none"

    def find_out() -> str:
        from trainables.models.build import why_refused  # loads torch

        return why_refused(name, kind)

    return str(MODELS.recall(f"refusal of {name} with {kind}", find_out))


__getattr__ = lazy.attributes(
    __name__,
    {
        "base": ["SegmentationModel"],
        "build": [
            "build_for_bands",
            "build_model",
            "ensure_weights",
            "parameter_count",
            "predefined_categories",
            "why_refused",
        ],
        "heads": ["Head"],
    },
)
