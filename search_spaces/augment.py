"""The augmentation policy."""

from collections.abc import Sequence

from search_spaces.common import known_good_lr, models_choice, start_point
from search_spaces.space import SPACES, Parameter, SearchSpace, When, choice, number
from trainables.augmentations import POLICIES, TRANSFORMS, family_transforms
from trainables.registry import Range, Scalar

KEY = "augment.policy"
START = ("none", "geometric", "photometric", "all")
"""The baseline, then where the camera stands, what the light does, and everything at once."""


@SPACES.register("augment")
def augment(models: Sequence[str], weights: str) -> SearchSpace:
    """Which augmentation policy carries over to images unlike those trained on?

    A family decides which transformations may be on; each has a probability on a grid of quarters (0 is off) and a
    magnitude between a quarter of its default and twice it: beyond that, TrivialAugment (Müller and Hutter, 2021) found
    images that no longer look like any. The families of START are tried once at their defaults; then the search is
    free.
    """
    return SearchSpace(
        name="augment",
        description="Which augmentation policy generalises best?",
        parameters=(*models_choice(models), *policy_parameters()),
        label_by=KEY,
        start=tuple(start_point(models, family_point(name)) for name in START),
        fixed={"optimizer.name": "adamw", "optimizer.lr": known_good_lr(models[0], weights)},
    )


def policy_parameters() -> tuple[Parameter, ...]:
    """The family, then a probability for each of its transformations, then a magnitude for each that is on."""
    parameters = [choice(KEY, list(POLICIES), role="scientific", reason="which kinds of change the model must bear")]
    for name in TRANSFORMS:
        owners = tuple(family for family in POLICIES if name in family_transforms(family))
        if not owners:
            continue
        allowed = When(KEY, owners)
        chance = f"augment.{name}.p"
        parameters.append(
            number(chance, 0.0, 1.0, step=0.25, when=(allowed,), reason="share of images changed; 0 is off")
        )
        for key in TRANSFORMS.parameters(name):
            parameters.append(_magnitude(name, key, (allowed, When(chance, above=0.0))))
    return tuple(parameters)


def family_point(family: str) -> dict[str, Scalar]:
    """A family with its default probabilities and magnitudes, as values of the space's parameters."""
    point: dict[str, Scalar] = {KEY: family}
    for name, chance in family_transforms(family).items():
        point[f"augment.{name}.p"] = round(chance * 4) / 4
        for key, parameter in TRANSFORMS.parameters(name).items():
            if parameter.default is not None:
                point[f"augment.{name}.{key}"] = parameter.default
    return point


def _magnitude(name: str, key: str, when: tuple[When, ...]) -> Parameter:
    parameter = TRANSFORMS.parameters(name)[key]
    if parameter.default is None or not isinstance(parameter.bounds, Range):
        raise ValueError(f"augment.{name}.{key} needs a default and a Range to be searched")
    default = float(parameter.default)
    bounds = parameter.bounds
    low = default / 4 if bounds.low is None else max(default / 4, bounds.low)
    high = 2 * default if bounds.high is None else min(2 * default, bounds.high)
    whole = parameter.type is int
    return Parameter(
        f"augment.{name}.{key}",
        "int" if whole else "float",
        low=round(low) if whole else low,
        high=int(high) if whole else high,
        when=when,
        reason="from a quarter of the default to twice it, where the transformation can",
    )
