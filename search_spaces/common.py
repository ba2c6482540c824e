"""Parameters that several spaces share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from search_spaces.space import Parameter, choice, number
from trainables.registry import Scalar

ADAMW_LR_FROM_SCRATCH = 3e-3
"""LRASPP from scratch on 300 small scenes learns fastest near it; ten times more diverges at times."""

ADAMW_LR_DEEP_RESNET = 1e-3
"""Heads on a ResNet have no squeeze to damp large steps."""

ADAMW_LR_PREDEFINED = 5e-4
"""Predefined weights are to be adapted, not overwritten."""


def known_good_lr(model: str, weights: str) -> float:
    """The peak learning rate of AdamW that the known-good point uses."""
    if weights != "none":
        return ADAMW_LR_PREDEFINED
    return ADAMW_LR_DEEP_RESNET if "resnet" in model else ADAMW_LR_FROM_SCRATCH


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
