"""The head alone, on what a predefined backbone makes of the images."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from search_spaces.augment import family_point, policy_parameters
from search_spaces.common import batch_size, image_sizes, models_choice, one_step_each
from search_spaces.core.parameter import Parameter, choice, number
from search_spaces.core.space import SPACES, SearchSpace
from search_spaces.loss import loss_parameters, loss_point
from trainables.errors import UsageError
from trainables.registry import Scalar

LOSSES = ("cross_entropy", "cross_entropy+lovasz", "cross_entropy+dice")
POLICIES = ("none", "flip")
"""Those that make few images of one, so that features can be computed once."""
LR, LR_FACTOR = 5e-3, 4.0
"""AdamW's rate for a head alone, and how far it is searched to both sides: after 155 steps 1e-2 was ahead of 3e-3
(docs/SPACES.md), and a longer training needs less."""


@SPACES.register("frozen")
def frozen(models: Sequence[str], weights: str, image_size: tuple[int, int] | None = None) -> SearchSpace:
    """How good is a head on a backbone that stays as it was predefined?

    The backbone's features are computed once per image and shared by all trials, so that a short budget has room for
    whole trainings. The loss looks at every third row and column: enlarging logits and the loss are nearly all that is
    left of a step. On few images for few epochs a frozen backbone was ahead of one that learns (docs/MODELS.md); with
    more time that is what to compare it with.

    Raises:
        UsageError: Without predefined weights.
    """
    if weights == "none":
        raise UsageError("space frozen: a backbone that knows nothing must learn; give --weights imagenet")
    sizes = image_sizes(image_size)
    several = len(models) > 1
    return SearchSpace(
        name="frozen",
        description="How good is a head on a backbone that stays as it was predefined?",
        parameters=(
            *models_choice(models),
            *sizes,
            batch_size(),
            choice("loss.name", LOSSES, role="scientific", reason="alone, or with an overlap for small classes"),
            *loss_parameters(LOSSES),
            *policy_parameters(POLICIES, around=True),
            number("optimizer.lr", LR / LR_FACTOR, LR * LR_FACTOR, log=True, reason="around what suits a head alone"),
            number("optimizer.weight_decay", 1e-4, 1e-1, log=True, reason="around AdamW's usual 1e-2, mostly below"),
            number("schedule.warmup", 0.1, 0.4, reason="share of the budget over which the rate rises"),
            choice("training.ema", (0.0, 0.99), reason="averaged weights, over about the last 100 steps, or none"),
        ),
        label_by="model.name" if several else "loss.name",
        start=tuple(_start(models, sizes)),
        fixed={
            "optimizer.name": "adamw",
            "schedule.name": "one_cycle",
            "training.freeze": "backbone",
            "training.backbone_lr": 1.0,
            "training.loss_stride": 3,
        },
        reasons={
            "training.freeze": "features are computed once",
            "training.loss_stride": "the loss takes most of what is left of a step",
        },
    )


def _start(models: Sequence[str], sizes: Sequence[Parameter]) -> Iterator[dict[str, Scalar]]:
    """The known-good point, every other model, then one step along each axis, what gains most first."""
    known: dict[str, Mapping[str, Scalar]] = {
        "model": {"model.name": models[0]} if len(models) > 1 else {},
        "size": {size.key: size.default for size in sizes if size.default is not None},
        "batch": {"batch_size": 8},
        "loss": loss_point(LOSSES[0]),
        "policy": family_point(POLICIES[0]),
        "rest": {"optimizer.lr": LR, "optimizer.weight_decay": 1e-2, "schedule.warmup": 0.3, "training.ema": 0.0},
    }
    steps: list[Mapping[str, Mapping[str, Scalar]]] = []
    steps += [{"model": {"model.name": model}} for model in models[1:]]
    steps += [{"size": {size.key: size.choices[-1]}} for size in sizes]
    steps += [{"loss": loss_point(name)} for name in LOSSES[1:]]
    steps.append({"policy": family_point("flip")})
    steps.append({"batch": {"batch_size": 4}})
    return one_step_each(known, steps)
