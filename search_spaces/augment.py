"""The augmentation policy."""

from collections.abc import Sequence

from search_spaces.common import known_good_lr, learning_rate, models_choice, start_point
from search_spaces.core.parameter import Parameter, When, choice, number
from search_spaces.core.space import SPACES, SearchSpace
from trainables.augmentations import MAGNITUDES, POLICIES, TRANSFORMS, PolicySpec, family_transforms
from trainables.registry import Scalar

KEY = "augment.policy"
START = ("none", "geometric", "photometric", "all", "trivial")
"""The baseline, then the camera's position, what the light does, everything at once, and one at a time."""

LEAST, MOST = 0.1, 0.9
"""Of a magnitude. Below a tenth a change can hardly be seen, and a probability of 0 says the same more cheaply; the
last tenth is left for widening the space if the best trials hug its edge."""

AROUND = 0.2
"""Of a magnitude, to both sides of its default, where a space stays around what is known."""


@SPACES.register("augment")
def augment(models: Sequence[str], weights: str) -> SearchSpace:
    """Which augmentation policy carries over to images unlike those trained on?

    A family decides which transformations may be on; each has a probability on a grid of quarters (0 is off; a sweep
    cannot tell finer steps apart) and a magnitude over most of its range: TrivialAugment (Müller and Hutter, 2021)
    found wide ranges safe where a new strength is drawn for every image. What a magnitude means, and why its range
    ends where it does, is in `MAGNITUDES`. The families of START are tried once at their defaults; then the search
    is free. The learning rate is a nuisance parameter, since a policy that changes more bears another one.
    """
    rate = {"optimizer.lr": known_good_lr(models[0], weights)}
    return SearchSpace(
        name="augment",
        description="Which augmentation policy generalises best?",
        parameters=(*models_choice(models), *policy_parameters(), learning_rate(models, weights)),
        label_by=KEY,
        start=tuple(start_point(models, {**family_point(name), **rate}) for name in START),
        fixed={"optimizer.name": "adamw"},
    )


def families() -> tuple[str, ...]:
    """The families that are searched; `free` would hold all of the others, with nothing on."""
    return tuple(family for family in POLICIES if family != "free")


def policy_parameters(searched: Sequence[str] = (), *, around: bool = False) -> tuple[Parameter, ...]:
    """The family, then a probability for each of its transformations, then a magnitude for each that is on.

    Args:
        searched: The families; none: all.
        around: Whether probabilities stay within a quarter of a family's own and magnitudes within `AROUND` of the
            default.
    """
    searched = searched or families()
    parameters = [choice(KEY, searched, role="scientific", reason="which kinds of change the model must handle")]
    for name in TRANSFORMS:
        owners = tuple(family for family in searched if name in family_transforms(family))
        if not owners:
            continue
        allowed = When(KEY, owners)
        chance = f"augment.{name}.p"
        usual = [_to_quarter(family_transforms(owner)[name]) for owner in owners]
        least, most = (max(0.0, min(usual) - 0.25), min(1.0, max(usual) + 0.25)) if around else (0.0, 1.0)
        why = "share of images changed; 0 is off"
        parameters.append(number(chance, least, most, step=0.25, default=usual[0], when=(allowed,), reason=why))
        if name in MAGNITUDES:
            table = MAGNITUDES[name]
            low, high = (LEAST, MOST)
            if around:
                low, high = max(LEAST, round(table.default - AROUND, 3)), min(MOST, round(table.default + AROUND, 3))
            reason = f"{table.quantity} {table.describe(low)} to {table.describe(high)}"
            on = (allowed, When(chance, above=0.0))
            parameters.append(number(f"augment.{name}.magnitude", low, high, when=on, reason=reason))
    return tuple(parameters)


def family_point(family: str) -> dict[str, Scalar]:
    """A family with its default probabilities (to the quarter) and magnitudes, as values of the space's parameters."""
    point: dict[str, Scalar] = {KEY: family}
    for name, chance in family_transforms(family).items():
        point[f"augment.{name}.p"] = _to_quarter(chance)
        if name in MAGNITUDES:
            point[f"augment.{name}.magnitude"] = min(MAGNITUDES[name].default, MOST)
    return point


def _to_quarter(chance: float) -> float:
    return round(chance * 4) / 4


def reachable(space: SearchSpace) -> tuple[PolicySpec, ...]:
    """What `preflight` must try before a sweep over the space: each transformation that some trial may have.

    Returns:
        One policy per transformation, always on and at full magnitude; empty for a space without augmentation.
    """
    by_key = {parameter.key: parameter for parameter in space.parameters}
    families = by_key[KEY].choices if KEY in by_key else (space.fixed.get(KEY, "none"),)
    names = {name: p for family in families for name, p in family_transforms(str(family)).items()}
    specs = []
    for name, default in names.items():
        key = f"augment.{name}.p"
        chance = by_key[key].choices or (by_key[key].high,) if key in by_key else (space.fixed.get(key, default),)
        if any(float(p) > 0 for p in chance):
            full = {"magnitude": 1.0} if name in MAGNITUDES else {}
            specs.append(PolicySpec.from_list([{"transform": name, "p": 1.0, **full}]))
    return tuple(specs)
