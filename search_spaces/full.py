"""Everything at once."""

from collections.abc import Sequence

from search_spaces.augment import augment
from search_spaces.common import known_good_lr, models_choice
from search_spaces.loss import loss
from search_spaces.lr import lr
from search_spaces.space import SPACES, Parameter, SearchSpace
from trainables.registry import Scalar


@SPACES.register("full")
def full(models: Sequence[str], weights: str) -> SearchSpace:
    """What is the best that this budget can find?

    The union of `architecture`, `lr`, `loss` and `augment`. It asks for many trials: with fewer than about a hundred,
    a narrow space answers more. Its labels are the models, or the policies where only one model is asked for.
    """
    merged: dict[str, Parameter] = {p.key: p for p in models_choice(models)}
    good: dict[str, Scalar] = {}
    for part in (lr, loss, augment):
        space = part(models[:1], weights)
        for parameter in space.parameters:
            merged.setdefault(parameter.key, parameter)
        good.update({key: value for key, value in space.start[0].items() if key in merged})
    good["optimizer.lr"] = known_good_lr(models[0], weights)
    several = len(models) > 1
    return SearchSpace(
        name="full",
        description="What is the best configuration of all that this budget can find?",
        parameters=tuple(merged.values()),
        label_by="model.name" if several else "augment.policy",
        start=({**({"model.name": models[0]} if several else {}), **good},),
    )
