"""The known-good configuration, repeated with different seeds."""

from collections.abc import Sequence

from search_spaces.common import known_good_lr, models_choice, start_point
from search_spaces.core.parameter import Parameter
from search_spaces.core.space import SPACES, SearchSpace


@SPACES.register("baseline")
def baseline(models: Sequence[str], weights: str) -> SearchSpace:
    """Only the seed varies: the spread of the trials shows how far chance alone moves the score.

    Read it before any other sweep: a gain smaller than this spread is not a gain (Bouthillier et al., "Accounting for
    Variance in Machine Learning Benchmarks", MLSys 2021).
    """
    return SearchSpace(
        name="baseline",
        description="How much does the seed alone move the score of the known-good configuration?",
        parameters=(
            *models_choice(models),
            Parameter("seed", "int", low=0, high=9999, role="scientific", reason="how far chance moves the score"),
        ),
        label_by="model.name",
        start=(start_point(models, {"seed": 0}),),
        fixed={"optimizer.name": "adamw", "optimizer.lr": known_good_lr(models[0], weights)},
    )
