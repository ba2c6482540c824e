"""Optimizer, learning rate and schedule."""

from collections.abc import Sequence

from search_spaces.common import known_good_lr, models_choice, start_point
from search_spaces.space import SPACES, SearchSpace, When, choice, number
from trainables.registry import Scalar


@SPACES.register("lr")
def lr(models: Sequence[str], weights: str) -> SearchSpace:
    """Which optimizer, at which learning rate, along which schedule?

    Ranges: SGD with polynomial decay is DeepLab's recipe (Chen et al., 2017: 0.007 to 0.01), AdamW decouples decay from
    the rate (Loshchilov and Hutter, 2019), so that both stay inside 1e-4 to 1e-1; one-cycle and warm-up after Smith
    (2018). Every schedule spans the full budget: a trial stopped early is compared at equal epochs, at a rate that has
    not yet decayed, which favours schedules that decay early.
    """
    sgd = When("optimizer.name", ("sgd",))
    good: dict[str, Scalar] = {
        "optimizer.name": "adamw",
        "optimizer.lr": known_good_lr(models[0], weights),
        "optimizer.weight_decay": 1e-2,
        "schedule.name": "one_cycle",
        "schedule.warmup": 0.3,
    }
    plain: dict[str, Scalar] = {
        "optimizer.name": "sgd",
        "optimizer.lr": 0.02,
        "optimizer.weight_decay": 1e-4,
        "optimizer.momentum": 0.9,
        "schedule.name": "polynomial",
        "schedule.warmup": 0.05,
    }
    return SearchSpace(
        name="lr",
        description="Which optimizer, learning rate and schedule train best?",
        parameters=(
            *models_choice(models),
            choice("optimizer.name", ("adamw", "sgd"), role="scientific", reason="adaptive against plain momentum"),
            number(
                "optimizer.lr",
                1e-4,
                1e-1,
                log=True,
                role="scientific",
                reason="peak rate; both optimizers' usual decades",
            ),
            number("optimizer.weight_decay", 1e-5, 1e-1, log=True, reason="1e-4 is usual for SGD, 1e-2 for AdamW"),
            number("optimizer.momentum", 0.8, 0.99, when=(sgd,), reason="0.9 is usual; higher needs a lower rate"),
            choice(
                "schedule.name", ("one_cycle", "cosine", "polynomial"), role="scientific", reason="how the rate decays"
            ),
            number("schedule.warmup", 0.0, 0.4, reason="share of the budget over which the rate rises"),
        ),
        label_by="optimizer.name",
        start=(start_point(models, good), start_point(models, plain)),
    )
