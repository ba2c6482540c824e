"""Optimizer, learning rate and schedule."""

from collections.abc import Sequence

from search_spaces.common import known_good_lr, learning_point, models_choice, start_point, what_learns
from search_spaces.core.parameter import When, choice, number
from search_spaces.core.space import SPACES, SearchSpace
from trainables.registry import Scalar


@SPACES.register("lr")
def lr(models: Sequence[str], weights: str) -> SearchSpace:
    """Which optimizer, at which learning rate, along which schedule?

    Ranges: SGD with polynomial decay is DeepLab's recipe (Chen et al., 2017: 0.007 to 0.01), AdamW decouples decay from
    the rate (Loshchilov and Hutter, 2019), so that both stay inside 1e-4 to 1e-1; one-cycle and warm-up after Smith
    and Topin (2018). Momentum 0.8 to 0.99 is the span in which Smith (2018) found the best to lie. With predefined
    weights it is also asked what of the backbone is trained, and at which share of the head's rate, from 0.005 to the
    same (layer-wise rates after Howard and Ruder, 2018). Averaged weights (Izmailov et al., 2018) act as a decayed rate
    does and are tried for that reason.

    Every schedule spans the full budget, also in a trial that is stopped early. Trials are ranked at equal epochs, so
    that a longer one has no advantage; but at a rung the rate of a one-cycle or cosine schedule has not yet decayed,
    which favours schedules that decay early. `--scheduler none` compares finished trials only.
    """
    sgd = When("optimizer.name", ("sgd",))
    good: dict[str, Scalar] = {
        "optimizer.name": "adamw",
        "optimizer.lr": known_good_lr(models[0], weights),
        "optimizer.weight_decay": 1e-2,
        "schedule.name": "one_cycle",
        "schedule.warmup": 0.3,
        "training.ema": 0.0,
        **learning_point(weights),
    }
    plain: dict[str, Scalar] = {
        "optimizer.name": "sgd",
        "optimizer.lr": 0.02,
        "optimizer.weight_decay": 1e-4,
        "optimizer.momentum": 0.9,
        "schedule.name": "polynomial",
        "schedule.warmup": 0.05,
        "training.ema": 0.0,
        **learning_point(weights),
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
            choice("training.ema", (0.0, 0.99), reason="averaged weights, over about the last 100 steps, or none"),
            *what_learns(weights),
        ),
        label_by="optimizer.name",
        start=(start_point(models, good), start_point(models, plain)),
    )
