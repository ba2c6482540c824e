"""Everything at once."""

from collections.abc import Sequence

from search_spaces.architecture import architecture
from search_spaces.augment import augment
from search_spaces.core.compose import compose
from search_spaces.core.space import SPACES, SearchSpace
from search_spaces.loss import loss
from search_spaces.lr import lr


@SPACES.register("full")
def full(models: Sequence[str], weights: str) -> SearchSpace:
    """What is the best that this budget can find?

    The union of `architecture` (where several models are asked for), `augment`, `loss` and `lr`, with their ranges,
    reasons and sources. It needs many trials: random search needs about 60 to come within the best 5 % of a space
    with a chance of 95 % (Bergstra and Bengio, 2012: 1 - 0.95 ** 60), and that is of all its dimensions at once; with
    fewer than about a hundred a narrow space answers more. Its labels are the models, or the policies where only one
    model is asked for.
    """
    several = len(models) > 1
    parts = [augment(models, weights), loss(models, weights), lr(models, weights)]
    return compose(
        "full",
        [architecture(models, weights), *parts] if several else parts,
        description="What is the best configuration of all that this budget can find?",
        label_by="model.name" if several else "augment.policy",
    )
