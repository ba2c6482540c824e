"""The loss."""

from collections.abc import Iterator, Sequence
from typing import Any, Literal

from search_spaces.common import known_good_lr, learning_rate, models_choice, start_point
from search_spaces.core.parameter import Parameter, When, choice
from search_spaces.core.space import SPACES, SearchSpace
from trainables.errors import ConfigError
from trainables.losses import LOSSES
from trainables.registry import Choice, Hyperparameter, Scalar, Search

SUMS = ("cross_entropy+dice", "cross_entropy+lovasz")
"""Weighted sums that are labels of their own: cross-entropy for a steady gradient, an overlap for small classes."""

SHARE = "second_share"
"""What is searched of a sum; the hyperparameters of its parts keep their defaults."""


@SPACES.register("loss")
def loss(models: Sequence[str], weights: str) -> SearchSpace:
    """Which loss helps rare and thin classes without costing the rest?

    Every loss brings its ranges along (`Search`, beside its hyperparameters), a new one too. Those of ours: label
    smoothing around the 0.1 of Szegedy et al. (2016). Class weights from a quarter of the inverse frequency's power to
    the whole, or, by effective numbers (Cui et al., 2019), equal above a share of 0.1% to 10% of the pixels. Focal's
    gamma around the 2 of Lin et al. (2017), who tried 0.5 to 5. Tversky's alpha and beta span the pairs from (0.5, 0.5)
    to (0.1, 0.9) of Salehi et al. (2017), who found (0.3, 0.7) best. OHEM around the usual threshold 0.7 and least
    share 1/16 of segmentation code bases. The second share of a sum around one half, after Isensee et al. (nnU-Net,
    2021). The learning rate is a nuisance parameter, since losses differ in scale.
    """
    rate = {"optimizer.lr": known_good_lr(models[0], weights)}
    names = ["cross_entropy", *(name for name in LOSSES if name != "cross_entropy"), *SUMS]
    return SearchSpace(
        name="loss",
        description="Which loss serves all classes best?",
        parameters=(
            *models_choice(models),
            choice("loss.name", names, role="scientific", reason="every registered loss, and two sums"),
            *loss_parameters(names),
            learning_rate(models, weights),
        ),
        label_by="loss.name",
        start=tuple(start_point(models, {**loss_point(name), **rate}) for name in names),
        fixed={"optimizer.name": "adamw"},
    )


def _searched(name: str) -> dict[str, Hyperparameter]:
    """The hyperparameters of a loss that say what of them is worth searching; of a sum, only the parts' shares."""
    own = LOSSES.parameters(name)
    return {key: own[key] for key in own if own[key].search is not None and (name in LOSSES.names() or key == SHARE)}


def loss_parameters(names: Sequence[str]) -> Iterator[Parameter]:
    """One parameter for each hyperparameter that is searched, present with the losses that have it.

    Raises:
        ConfigError: If two losses search different ranges under one name.
    """
    owners: dict[str, list[str]] = {}
    for name in names:
        for key in _searched(name):
            owners.setdefault(key, []).append(name)
    for key, having in owners.items():
        hyperparameter = LOSSES.parameters(having[0])[key]
        search = hyperparameter.search or Search()
        for other in having[1:]:
            if LOSSES.parameters(other)[key].search != search:
                raise ConfigError(
                    f"loss.{key}: {having[0]} and {other} search different ranges; give one of the two another name"
                )
        conditions = [When("loss.name", tuple(having))]
        if search.when is not None:
            conditions.append(When(f"loss.{search.when[0]}", (search.when[1],)))
        rest: dict[str, Any] = {"role": "scientific", "when": tuple(conditions), "reason": search.reason}
        if isinstance(hyperparameter.bounds, Choice):
            yield choice(f"loss.{key}", hyperparameter.bounds.values, **rest)
        else:
            kind: Literal["int", "float"] = "int" if hyperparameter.type is int else "float"
            limits: dict[str, Any] = {"low": search.low, "high": search.high, "log": search.log}
            yield Parameter(f"loss.{key}", kind, default=hyperparameter.default, **limits, **rest)


def loss_point(name: str) -> dict[str, Scalar]:
    """Where a loss starts: its name and the defaults of what is searched, where they have an effect."""
    own = _searched(name)
    point: dict[str, Scalar] = {"loss.name": name}
    for key, hyperparameter in own.items():
        when = hyperparameter.search.when if hyperparameter.search else None
        if hyperparameter.default is not None and (when is None or own[when[0]].default == when[1]):
            point[f"loss.{key}"] = hyperparameter.default
    return point
