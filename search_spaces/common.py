"""Parameters that several spaces share."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from search_spaces.core.parameter import Parameter, When, choice, number
from trainables.config import format_size
from trainables.models import knows_images
from trainables.options import FREEZE
from trainables.registry import Scalar

ADAMW_LR_FROM_SCRATCH = 3e-3
"""LRASPP from scratch on 300 small scenes learns fastest near it; ten times more diverges at times."""

ADAMW_LR_DEEP_RESNET = 1e-3
"""Heads on a ResNet have no squeeze to damp large steps."""

ADAMW_LR_PREDEFINED_HEAD = 5e-4
"""Where the head is predefined as well, the whole model is to be adapted, not overwritten."""

IMAGENET_BACKBONE_LR = 0.1
"""A new head may learn faster than its predefined backbone: `docs/MODELS.md` has the runs on VOC."""

LR_FACTOR = 2.0
"""How far the rate is searched to both sides of the known-good one where it is a nuisance. A third of it, or more than
three times as much, costs more than any other lever gains: `docs/SPACES.md` has the measurement."""

BACKBONE_LR = (0.005, 1.0)
"""The backbone's share of the rate."""

BACKBONE_LR_AROUND = (0.005, 0.2)
"""Closely around the known-good share of an ImageNet backbone: half of the head's rate ruined it in a short training
(`docs/SPACES.md`)."""

_PLAIN: Mapping[str, Scalar] = {"training.freeze": "none", "training.backbone_lr": 1.0}
"""What weights get of which nothing else is known."""

LEARNS = tuple(what for what in FREEZE if what != "backbone")
"""Values of `training.freeze` with which the backbone learns, at a rate of its own."""


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
    if not knows_images(weights):
        return {}
    return {"training.backbone_lr": IMAGENET_BACKBONE_LR, "training.freeze": "batch_norm"}


def learning_rate(models: Sequence[str], weights: str) -> Parameter:
    """AdamW's peak learning rate as a nuisance parameter, closely around the known-good ones of the models."""
    known = [known_good_lr(model, weights) for model in models]
    reason = f"a factor of {LR_FACTOR:g} around the known-good rate; comparisons need it tuned"
    return number("optimizer.lr", min(known) / LR_FACTOR, max(known) * LR_FACTOR, log=True, reason=reason)


def what_learns(weights: str, *, around: bool = False) -> tuple[Parameter, ...]:
    """What of predefined weights is trained, and how fast; nothing where there are none worth keeping.

    Args:
        weights: Predefined.
        around: Whether an ImageNet backbone keeps its BatchNorm statistics and a small share of the rate: what a short
            training on small batches loses otherwise is more than anything else gains (`docs/SPACES.md`).
    """
    if weights == "none":
        return ()
    good = {**_PLAIN, **known_good_training(weights)}
    share = good["training.backbone_lr"]
    reason = "the backbone's share of the rate: it knows more than the head"
    kept = "what stays as it was predefined; the less learns, the less can be forgotten"
    closely = around and knows_images(weights)
    parts = tuple(part for part in FREEZE if part != "none" or not closely)
    learns = When("training.freeze", tuple(part for part in parts if part in LEARNS))
    shares = BACKBONE_LR_AROUND if closely else BACKBONE_LR
    return (
        choice("training.freeze", parts, default=good["training.freeze"], role="scientific", reason=kept),
        number("training.backbone_lr", *shares, log=True, when=(learns,), default=share, reason=reason),
    )


def learning_point(weights: str, freeze: str = "") -> dict[str, Scalar]:
    """The known-good values of the parameters `what_learns`, with the known-good `training.freeze` or another."""
    if weights == "none":
        return {}
    good = {**_PLAIN, **known_good_training(weights)}
    freeze = freeze or str(good["training.freeze"])
    return {
        "training.freeze": freeze,
        **({"training.backbone_lr": good["training.backbone_lr"]} if freeze in LEARNS else {}),
    }


def image_sizes(own: tuple[int, int] | None) -> tuple[Parameter, ...]:
    """The data set's own size, a smaller and a larger one, with sides that 8 divides; nothing where it is not known."""
    if own is None:
        return ()
    height, width = own

    def scaled(share: float) -> tuple[int, int]:
        return max(32, round(height * share / 8) * 8), max(32, round(width * share / 8) * 8)

    sizes = tuple(dict.fromkeys(map(format_size, (scaled(0.75), own, scaled(1.25)))))
    reason = "the data set's own, 3/4 and 5/4 of it"
    return (choice("image_size", sizes, default=format_size(own), role="scientific", reason=reason),)


def batch_size() -> Parameter:
    """Images per step."""
    reason = "small ones make more steps, large ones steadier ones"
    return choice("batch_size", (4, 8, 16), default=8, role="scientific", reason=reason)


def models_choice(models: Sequence[str]) -> tuple[Parameter, ...]:
    """A parameter for the architecture where more than one is asked for."""
    if len(models) < 2:
        return ()
    return (choice("model.name", models, role="scientific", reason="the models asked for with --models"),)


def start_point(models: Sequence[str], point: Mapping[str, Scalar]) -> dict[str, Scalar]:
    """A starting point with the first model, where the model is a parameter."""
    return {**({"model.name": models[0]} if len(models) > 1 else {}), **point}


def one_step_each(
    known: Mapping[str, Mapping[str, Scalar]], steps: Sequence[Mapping[str, Mapping[str, Scalar]]]
) -> Iterator[dict[str, Scalar]]:
    """Starting points: the known-good one, then one for each step that is taken from it.

    Args:
        known: Values of parameters by axis.
        steps: Axes whose values a point has instead.
    """
    for step in ({}, *steps):
        yield {key: value for axis in {**known, **step}.values() for key, value in axis.items()}
