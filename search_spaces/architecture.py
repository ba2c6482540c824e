"""The model."""

from collections.abc import Sequence

from search_spaces.common import known_good_lr, learning_rate
from search_spaces.core.parameter import choice
from search_spaces.core.space import SPACES, SearchSpace
from trainables.models import MODELS
from trainables.registry import Scalar


def _parameters(model: str) -> int:
    def count() -> int:
        from trainables.models import parameter_count  # loads torch

        return parameter_count(model, 21)

    return int(MODELS.recall(f"parameters of {model} for 21 classes", count))


@SPACES.register("architecture")
def architecture(models: Sequence[str], weights: str) -> SearchSpace:
    """Which architecture, each with a learning rate tuned for it?

    The baseline is FCN-ResNet50 (Long et al., 2015, in torchvision's form) if it is among the models, else the model
    with the fewest parameters. Every model is tried once at its known-good rate before the search begins. The rate is
    the one nuisance parameter: one rate for all would favour the architecture that it suits (Godbole et al., "Deep
    Learning Tuning Playbook", 2023); its range goes from below the least known-good rate of the models to above the
    greatest.
    """
    first = "fcn_resnet50" if "fcn_resnet50" in models else min(models, key=_parameters)
    ordered = [first, *(name for name in models if name != first)]

    def point(name: str) -> dict[str, Scalar]:
        return {"model.name": name, "optimizer.lr": known_good_lr(name, weights)}

    return SearchSpace(
        name="architecture",
        description="Which architecture segments best for its cost?",
        parameters=(
            choice("model.name", ordered, role="scientific", reason="the models asked for with --models"),
            learning_rate(models, weights),
        ),
        label_by="model.name",
        start=tuple(point(name) for name in ordered),
        fixed={"optimizer.name": "adamw"},
    )
