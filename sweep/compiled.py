"""The space of a sweep, compiled from its flags: what varies and what all trials share. Needs no data and no torch."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from search_spaces import find_space
from search_spaces.common import known_good_training
from search_spaces.core.space import SearchSpace
from sweep.config import SweepConfig
from sweep.flags import DEFAULT_ARCHITECTURES, DEFAULT_EPOCHS, DEFAULT_MODELS
from sweep.samplers import check_sampler
from trainables.config import EARLIER, format_size, parse_value, refuse_secrets
from trainables.errors import ConfigError, UsageError
from trainables.models import refusal
from trainables.options import CROP, LETTERBOX
from trainables.paths import check_name
from trainables.registry import Scalar
from trainables.seeds import derived_seed

RESERVED = {"epochs": "--max-epochs", "model.name": "--models", "model.weights": "--weights"}
"""Keys with a flag of their own."""


def plan_space(config: SweepConfig, default_size: tuple[int, int]) -> tuple[SearchSpace, dict[str, Scalar]]:
    """Compiles the space with `--set` applied, and the keys that all trials share.

    Where the epochs are not asked for, the base holds a default until the sweep's plan says how many there are.

    Raises:
        UsageError: If a key is unknown, a value impossible, a starting point is not a valid configuration, or the
            sampler cannot search the space.
    """
    faults = [f"--set {key}: use {RESERVED[key]}" for key in config.set_ if key in RESERVED]
    overrides: dict[str, Scalar] = {}
    for key, value in config.set_.items():
        try:
            overrides[key] = parse_value(key, value)
        except ConfigError as error:
            faults.append(str(error))
    if faults:
        raise ConfigError("\n".join(faults))
    _check_models(config.models, config.weights)
    found = find_space(config.space, image_size=default_size)
    space = found(list(config.models), config.weights).fix(overrides)
    if config.seeds is not None:
        space = with_seeds(space, config.seed, config.seeds)
    base: dict[str, Scalar] = {
        "image_size": format_size(default_size),
        "epochs": config.max_epochs or DEFAULT_EPOCHS,
        "model.name": config.models[0],
        "model.weights": config.weights,
        "seed": config.seed,
    }
    base.update(known_good_training(config.weights))
    base["resize"] = _usual_resize(space, base)
    _check_reserved(config, space, base)
    refuse_secrets({**base, **space.fixed})
    for varied in space.parameters:
        for end in varied.ends():
            refuse_secrets({varied.key: end})
    for weights in values_of(space, base, "model.weights"):
        _check_models(map(str, values_of(space, base, "model.name")), str(weights))
    check_sampler(config.sampler, space)
    configs = [space.trial_config(base, point) for point in space.start]
    parameter = space.parameter(space.label_by)
    names = {space.label(config.flat()) for config in configs}
    names |= {space.label({space.label_by: value}) for value in (parameter.ends() if parameter else ())}
    for name in sorted(names):
        check_name(name, f"a value of {space.label_by}, which names the labels of space {space.name},")
    return space, base


def _usual_resize(space: SearchSpace, base: Mapping[str, Scalar]) -> str:
    """How images come to the model's input where nobody says it: the way that was measured best (docs/DATA.md).

    Not where the backbone is frozen in every trial: random parts of images would keep its features from being computed
    once.
    """
    frozen = space.parameter("training.freeze") is None and {**base, **space.fixed}.get("training.freeze") == "backbone"
    return LETTERBOX if frozen else CROP


def _check_models(models: Iterable[str], weights: str) -> None:
    """Refuses heads on backbones that do not go together, before anything is read or run.

    Raises:
        UsageError: One line for each such model.
    """
    refused = {model: refusal(model, weights) for model in models}
    faults = [f"model {model}: {why}" for model, why in refused.items() if why]
    if faults:
        raise UsageError("\n".join(faults))


def with_seeds(space: SearchSpace, seed: int, count: int) -> SearchSpace:
    """A space whose every configuration has so many seeds: the sweep's own, and others that follow from it.

    Raises:
        UsageError: If a seed is held already.
    """
    if "seed" in space.fixed:
        raise UsageError("--seeds and --set seed=... contradict each other: leave one of them out")
    return space.with_seeds([seed, *(derived_seed("seeds", seed, number) % 2**31 for number in range(1, count))])


def values_of(space: SearchSpace, base: Mapping[str, Scalar], key: str) -> tuple[Scalar, ...]:
    """The values that a key can have in the trials of a space: a parameter's choices, or the one that is held."""
    parameter = space.parameter(key)
    return parameter.ends() if parameter is not None else ({**EARLIER, **base, **space.fixed}[key],)


def _check_reserved(config: SweepConfig, space: SearchSpace, base: Mapping[str, Scalar]) -> None:
    """A user's space may name models and weights itself, but not against the flags.

    Raises:
        UsageError: If it does.
    """
    if "epochs" in {*space.fixed, *(parameter.key for parameter in space.parameters)}:
        raise UsageError(f"space {space.name}: epochs is the budget of every trial: use --max-epochs")
    models = values_of(space, base, "model.name")
    if set(models) != set(config.models) and config.models not in (DEFAULT_MODELS, DEFAULT_ARCHITECTURES):
        raise UsageError(f"space {space.name} names its models, {', '.join(map(str, models))}: leave --models out")
