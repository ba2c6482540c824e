"""Everything at once."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from search_spaces.augment import KEY, family_point, policy_parameters
from search_spaces.common import (
    batch_size,
    image_sizes,
    known_good_lr,
    learning_point,
    learning_rate,
    models_choice,
    one_step_each,
    what_learns,
)
from search_spaces.core.parameter import Parameter, choice, number
from search_spaces.core.space import IN_SHORT, SPACES, SearchSpace
from search_spaces.loss import loss_parameters, loss_point
from trainables.registry import Scalar

LOSSES = ("cross_entropy", "cross_entropy+lovasz", "cross_entropy+dice")
POLICIES = ("none", "trivial", "flip", "geometric")


@SPACES.register("full")
def full(models: Sequence[str], weights: str, image_size: tuple[int, int] | None = None) -> SearchSpace:
    """What is the best that this budget can find?

    The levers that move results most, each searched closely around values that are known to be good (docs/SPACES.md
    has what each of them did): what of predefined weights is trained, and at which share of the rate; the input's size
    where the data set says its own (`image_size`); images per step; cross-entropy alone or with an overlap loss; a few
    families of augmentation; AdamW's rate, decay and schedule. What lies far from there is the question of `lr`, `loss`
    and `augment`, which search whole ranges.

    The search begins at the known-good point and takes one step along each axis, the largest lever first. Random search
    needs about 60 trials to come within the best 5 % of a space with a chance of 95 % (Bergstra and Bengio, 2012:
    1 - 0.95 ** 60); with fewer, what it finds is close to where it began. Its labels are the models, or the policies
    where only one model is asked for.
    """
    sizes = image_sizes(image_size)
    several = len(models) > 1
    return SearchSpace(
        name="full",
        description="What is the best configuration of all that this budget can find?",
        parameters=(
            *models_choice(models),
            *what_learns(weights, around=True),
            *sizes,
            batch_size(),
            choice("loss.name", LOSSES, role="scientific", reason="alone, or with an overlap for small classes"),
            *loss_parameters(LOSSES),
            *policy_parameters(POLICIES, around=True),
            learning_rate(models, weights),
            number("optimizer.weight_decay", 1e-3, 1e-1, log=True, reason="a decade around AdamW's usual 1e-2"),
            choice(
                "schedule.name", ("one_cycle", "cosine", "polynomial"), role="scientific", reason="how the rate decays"
            ),
            number("schedule.warmup", 0.1, 0.4, reason="share of the budget over which the rate rises"),
            choice("training.ema", (0.0, 0.99), reason="averaged weights, over about the last 100 steps, or none"),
        ),
        label_by="model.name" if several else KEY,
        start=tuple(_start(models, weights, sizes)),
        fixed={"optimizer.name": "adamw"},
    )


setattr(full, IN_SHORT, "frozen")


def _start(models: Sequence[str], weights: str, sizes: Sequence[Parameter]) -> Iterator[dict[str, Scalar]]:
    """The known-good point, every other model at its own rate, then one step along each axis."""
    known: dict[str, Mapping[str, Scalar]] = {
        "model": {"model.name": models[0]} if len(models) > 1 else {},
        "learns": learning_point(weights),
        "size": {size.key: size.default for size in sizes if size.default is not None},
        "batch": {"batch_size": 8},
        "loss": loss_point(LOSSES[0]),
        "policy": family_point(POLICIES[0]),
        "rate": {"optimizer.lr": known_good_lr(models[0], weights)},
        "rest": {
            "optimizer.weight_decay": 1e-2,
            "schedule.name": "one_cycle",
            "schedule.warmup": 0.3,
            "training.ema": 0.0,
        },
    }
    steps: list[Mapping[str, Mapping[str, Scalar]]] = []
    for model in models[1:]:
        steps.append({"model": {"model.name": model}, "rate": {"optimizer.lr": known_good_lr(model, weights)}})
    if weights != "none":
        frozen = known["learns"]["training.freeze"] == "backbone"
        steps.append({"learns": learning_point(weights, "batch_norm" if frozen else "backbone")})
    steps += [{"size": {size.key: size.choices[-1]}} for size in sizes]
    steps.append({"batch": {"batch_size": 4}})
    steps += [{"loss": loss_point(name)} for name in LOSSES[1:]]
    steps += [{"policy": family_point(policy)} for policy in POLICIES[1:]]
    return one_step_each(known, steps)
