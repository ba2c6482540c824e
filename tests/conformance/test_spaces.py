"""What every registered space must do: ask for configurations that exist, conditionally, and say why."""

from __future__ import annotations

import inspect
import itertools
from pathlib import Path

import optuna
import pytest

from search_spaces import SPACES, SearchSpace, find_space, to_yaml
from search_spaces.core.yaml_format import check_space
from trainables.augmentations import TRANSFORMS
from trainables.config import TrialConfig
from trainables.errors import ConfigError, UsageError
from trainables.losses import LOSSES
from trainables.models import MODELS
from trainables.optimizers import OPTIMIZERS
from trainables.registry import Registry

from ..spaces import PREDEFINED_ONLY, own_weights

ONE = ("lraspp_mobilenet_v3_large",)
THREE = ("fcn_resnet50", "deeplabv3_mobilenet_v3_large", "lraspp_mobilenet_v3_large")
MODEL_SETS = [pytest.param(ONE, id="one"), pytest.param(THREE, id="three")]
every_space = pytest.mark.parametrize("name", list(SPACES))
every_model_set = pytest.mark.parametrize("models", MODEL_SETS)


def base(models: tuple[str, ...], weights: str = "none") -> dict[str, object]:
    return {"image_size": "96x128", "epochs": 6, "model.name": models[0], "model.weights": weights, "seed": 0}


def make(name: str, models: tuple[str, ...], weights: str = "") -> SearchSpace:
    space: SearchSpace = SPACES.get(name)(list(models), weights or own_weights(name))
    return space


@every_space
@every_model_set
@pytest.mark.parametrize("weights", ["none", "imagenet", "coco_voc"])
def test_space_yields_50_valid_configurations_that_hold_every_suggested_value(
    name: str, models: tuple[str, ...], weights: str
) -> None:
    if name in PREDEFINED_ONLY and weights == "none":
        with pytest.raises(UsageError, match=f"space {name}: .*--weights imagenet"):
            make(name, models, weights)
        return
    space = make(name, models, weights)
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    for _ in range(50):
        params = space.suggest(study.ask())
        config = TrialConfig.from_flat({**base(models, weights), **space.fixed, **params})
        flat = config.flat()
        assert {key: flat[key] for key in params} == params
        assert space.label(flat)


@every_space
@every_model_set
def test_ends_of_every_range_are_valid(name: str, models: tuple[str, ...]) -> None:
    """Random draws hardly ever touch the ends; a sampler does."""
    space = make(name, models)
    for parameter in space.parameters:
        for end in parameter.ends():
            point = space.reach(parameter.key, end)
            assert point is not None and point[parameter.key] == end
            TrialConfig.from_flat({**base(models, own_weights(name)), **space.fixed, **point})
    check_space(space, models, own_weights(name))


@every_space
@every_model_set
def test_known_good_point_holds_the_defaults(name: str, models: tuple[str, ...]) -> None:
    space = make(name, models)
    assert space.bend({}) == space.start[0]
    for point in space.start:
        for parameter in space.parameters:
            assert parameter.key not in point or parameter.default is not None


@every_space
def test_space_survives_yaml(name: str, tmp_path: Path) -> None:
    space = make(name, THREE)
    path = tmp_path / "a.yaml"
    path.write_text(to_yaml(space), encoding="utf-8")
    assert find_space(str(path))(THREE, own_weights(name)) == space


@every_space
@every_model_set
def test_starting_points_are_valid_trials_and_show_every_label(name: str, models: tuple[str, ...]) -> None:
    space = make(name, models)
    assert space.start, "trial 0 is the baseline"
    configs = [
        TrialConfig.from_flat({**base(models, own_weights(name)), **space.fixed, **point}) for point in space.start
    ]
    assert len(set(map(str, configs))) == len(configs), "two starting points are the same trial"
    labels = [space.label(config.flat()) for config in configs]
    assert len(set(labels)) == len(labels) or name in ("full", "frozen"), "only these ask about more than labels"
    parameter = next((p for p in space.parameters if p.key == space.label_by), None)
    if parameter is not None and name in ("loss", "architecture", "lr"):
        assert set(labels) == set(parameter.choices), "a label without a starting point may be missing by chance"


@every_space
@every_model_set
def test_conditional_keys_exist_only_with_their_owners(name: str, models: tuple[str, ...]) -> None:
    """Momentum only for SGD, gamma only for focal, a magnitude only for a transformation that is on."""
    owners: dict[str, tuple[str, Registry[object]]] = {
        "loss": ("loss.name", LOSSES),
        "optimizer": ("optimizer.name", OPTIMIZERS),
        "model": ("model.name", MODELS),
    }
    space = make(name, models)
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=7))
    for _ in range(50):
        params = {**base(models, own_weights(name)), **space.fixed, **space.suggest(study.ask())}
        for key, (section, transform) in itertools.product(params, [(k, v) for k, v in owners.items()]):
            own, _, option = key.partition(".")
            if own == section and option != "name" and transform[0] in params:
                assert option in transform[1].parameters(str(params[transform[0]])), key
        for transform_name in TRANSFORMS:
            chance = params.get(f"augment.{transform_name}.p")
            for option in TRANSFORMS.parameters(transform_name):
                present = f"augment.{transform_name}.{option}" in params
                assert present == (chance is not None and float(str(chance)) > 0)


@every_space
def test_space_says_why(name: str) -> None:
    factory = SPACES.get(name)
    doc = inspect.getdoc(factory) or ""
    assert doc.splitlines()[0].endswith((".", "?"))
    assert len(doc.split()) >= 20, f"the docstring of {name} must give reasons for its ranges"
    space = make(name, THREE)
    assert space.name == name
    assert space.description.endswith("?")
    assert [p.key for p in space.parameters if not p.reason] == []
    assert any(p.role == "scientific" for p in space.parameters)


@every_space
def test_every_key_of_a_space_can_be_held(name: str) -> None:
    space = make(name, THREE)
    for parameter in space.parameters:
        value = parameter.choices[-1] if parameter.kind == "choice" else parameter.high
        held = space.fix({parameter.key: int(value) if parameter.kind == "int" else value})
        for point in held.start:
            try:
                TrialConfig.from_flat({**base(THREE, own_weights(name)), **held.fixed, **point})
            except ConfigError as error:  # pragma: no cover
                pytest.fail(f"--set {parameter.key}={value}: {error}")


def test_baseline_of_architecture_is_fcn_or_the_smallest() -> None:
    assert make("architecture", ("lraspp_mobilenet_v3_large", "fcn_resnet50")).start[0]["model.name"] == "fcn_resnet50"
    without = make("architecture", ("deeplabv3_mobilenet_v3_large", "lraspp_mobilenet_v3_large"))
    assert without.start[0]["model.name"] == "lraspp_mobilenet_v3_large"


def test_baseline_of_augment_has_no_augmentation_and_of_loss_has_cross_entropy() -> None:
    assert make("augment", ONE).start[0]["augment.policy"] == "none"
    assert make("loss", ONE).start[0]["loss.name"] == "cross_entropy"
