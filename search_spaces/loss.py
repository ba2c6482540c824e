"""The loss."""

from collections.abc import Sequence

from search_spaces.common import known_good_lr, learning_rate, models_choice, start_point
from search_spaces.space import SPACES, SearchSpace, When, choice, number
from trainables.losses import LOSSES
from trainables.registry import Scalar


@SPACES.register("loss")
def loss(models: Sequence[str], weights: str) -> SearchSpace:
    """Which loss helps rare and thin classes without costing the rest?

    Ranges: focal's gamma around the 2 of Lin et al. (2017), who tried 0.5 to 5; the dice share around one half, after
    Isensee et al. (nnU-Net, 2021). The learning rate is a nuisance parameter, since losses differ in scale.
    """
    rate = {"optimizer.lr": known_good_lr(models[0], weights)}
    extras: dict[str, dict[str, Scalar]] = {
        "weighted_cross_entropy": {"loss.power": 0.5},
        "focal": {"loss.gamma": 2.0},
        "cross_entropy_dice": {"loss.dice_weight": 0.5},
    }
    names = ["cross_entropy", *(name for name in LOSSES if name != "cross_entropy")]
    return SearchSpace(
        name="loss",
        description="Which loss serves all classes best?",
        parameters=(
            *models_choice(models),
            choice("loss.name", names, role="scientific", reason="every registered loss"),
            number(
                "loss.power",
                0.25,
                1.0,
                role="scientific",
                when=(When("loss.name", ("weighted_cross_entropy",)),),
                reason="0 is plain cross-entropy, 1 the full inverse frequency",
            ),
            number(
                "loss.gamma",
                0.5,
                5.0,
                role="scientific",
                when=(When("loss.name", ("focal",)),),
                reason="Lin et al. tried 0.5 to 5",
            ),
            number(
                "loss.dice_weight",
                0.1,
                0.9,
                role="scientific",
                when=(When("loss.name", ("cross_entropy_dice",)),),
                reason="from mostly cross-entropy to mostly dice",
            ),
            learning_rate(),
        ),
        label_by="loss.name",
        start=tuple(start_point(models, {"loss.name": name, **extras.get(name, {}), **rate}) for name in names),
        fixed={"optimizer.name": "adamw"},
    )
