"""Parameters that several spaces share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from search_spaces.core.parameter import Parameter, choice, number
from trainables.registry import Scalar

ADAMW_LR_FROM_SCRATCH = 3e-3
"""LRASPP from scratch on 300 small scenes learns fastest near it; ten times more diverges at times."""

ADAMW_LR_DEEP_RESNET = 1e-3
"""Heads on a ResNet have no squeeze to damp large steps."""

ADAMW_LR_PREDEFINED_HEAD = 5e-4
"""Where the head is predefined as well, the whole model is to be adapted, not overwritten."""

IMAGENET_BACKBONE_LR = 0.1
"""A new head may learn faster than its predefined backbone: `docs/MODELS.md` has the runs on VOC."""


def known_good_lr(model: str, weights: str) -> float:
    """The peak learning rate of AdamW that the known-good point uses: that of the head, where the backbone has less."""
    if weights == "coco_voc":
        return ADAMW_LR_PREDEFINED_HEAD
    return ADAMW_LR_DEEP_RESNET if "resnet" in model else ADAMW_LR_FROM_SCRATCH


def known_good_training(weights: str) -> dict[str, Scalar]:
    """The keys `training.*` that the known-good point sets for a kind of predefined weights.

    With ImageNet weights in the backbone, BatchNorm keeps its statistics: those of a few small batches are worse than
    those of a million images, and a short fine-tune does not correct them.
    """
    if weights != "imagenet":
        return {}
    return {"training.backbone_lr": IMAGENET_BACKBONE_LR, "training.freeze": "batch_norm"}


def learning_rate() -> Parameter:
    """AdamW's peak learning rate as a nuisance parameter: every candidate gets its own."""
    return number(
        "optimizer.lr", 3e-4, 1e-2, log=True, reason="a decade around the known-good rate; comparisons need it tuned"
    )


def models_choice(models: Sequence[str]) -> tuple[Parameter, ...]:
    """A parameter for the architecture where more than one is asked for."""
    if len(models) < 2:
        return ()
    return (choice("model.name", models, role="scientific", reason="the models asked for with --models"),)


def start_point(models: Sequence[str], point: Mapping[str, Scalar]) -> dict[str, Scalar]:
    """A starting point with the first model, where the model is a parameter."""
    return {**({"model.name": models[0]} if len(models) > 1 else {}), **point}
