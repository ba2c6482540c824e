"""Applied, not asked: whatever a space varies, breaking its way into the trial fails the trial."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch

import trainables.trial
from search_spaces import SPACES
from search_spaces.core.parameter import Parameter
from search_spaces.core.space import SearchSpace
from trainables.applied import images_digest, read_back, verify
from trainables.augmentations import TRANSFORMS, Policy, PolicySpec
from trainables.config import COMPONENTS, TrialConfig
from trainables.errors import WiringError
from trainables.execution import Execution, TrialData
from trainables.optimizers import SCHEDULES
from trainables.options import CROP, TrainingOptions
from trainables.registry import Choice, Hyperparameter, Range, Scalar
from trainables.trial import Trial
from trainables.updates import freeze

from ..spaces import FROM_SCRATCH

BASE: dict[str, Any] = {"image_size": "24x32", "epochs": 2, "batch_size": 4}
OTHER_POLICY = Policy(PolicySpec.from_flat({"policy": "flip"}), (24, 32))
MODELS = ["lraspp_mobilenet_v3_large", "fcn_resnet50"]

pytestmark = pytest.mark.usefixtures("tiny_model")


def config_of(values: dict[str, Any]) -> TrialConfig:
    return TrialConfig.from_flat({**BASE, **values})


def make(data: TrialData, **values: Any) -> Trial:
    return Trial(config_of(values), data)


def test_applied_record_says_what_was_built_in_primitives(mini_data: TrialData) -> None:
    trial = make(
        mini_data,
        **{
            "optimizer.name": "sgd",
            "optimizer.lr": 0.02,
            "optimizer.momentum": 0.8,
            "augment.policy": "geometric",
            "loss.name": "focal",
            "loss.gamma": 1.5,
            "training.backbone_lr": 0.5,
            "training.ema": 0.9,
            "seed": 3,
        },
    )
    applied = json.loads(json.dumps(trial.applied, allow_nan=False))
    assert applied["optimizer"]["name"] == "sgd"
    assert {group["momentum"] for group in applied["optimizer"]["groups"]} == {0.8}
    assert {group["name"]: (group["lr"], group["weight_decay"]) for group in applied["optimizer"]["groups"]} == {
        "head, no decay": (0.02, 0.0),
        "head, decay": (0.02, 1e-4),
        "backbone, no decay": (0.01, 0.0),
        "backbone, decay": (0.01, 1e-4),
    }
    assert applied["loss"] == {"name": "focal", "gamma": 1.5}
    assert applied["training"]["backbone_lr"] == 0.5
    assert applied["training"]["ema"] == 0.9
    assert (applied["batch_size"], applied["steps_per_epoch"], applied["seed"], applied["epochs"]) == (4, 3, 3, 2)
    assert (applied["train_images"], applied["val_images"]) == (14, 5)
    assert applied["augment"]["rotate"]["p"] == 0.5
    assert applied["model"]["outputs"] == 3
    assert applied["model"]["parameters"] == sum(p.numel() for p in trial.model.parameters())
    assert applied["schedule"] == {"name": "one_cycle", "total_steps": 6, "warmup": 0.3}
    trial.run_epoch()
    assert {group["lr"] for group in trial.applied["optimizer"]["groups"]} == {0.01, 0.02}, "base rates"


# Every key of every space: a trial built with one value is not taken for a trial of another.


def space_cases() -> Iterator[Any]:
    seen: set[str] = set()
    for name in FROM_SCRATCH:
        space: SearchSpace = SPACES.get(name)(MODELS, "none")
        for parameter in space.parameters:
            if parameter.key not in seen:
                seen.add(parameter.key)
                yield pytest.param(space, parameter, id=parameter.key)


def two_points(space: SearchSpace, parameter: Parameter) -> tuple[dict[str, Any], dict[str, Any]]:
    """Two configurations of a space that differ in the parameter (and in what depends on it), and in nothing else."""
    held: dict[str, Scalar] = {}
    conditions = list(parameter.when)
    for condition in conditions:
        held[condition.key] = condition.values[0] if condition.above is None else 1.0
        conditions += [w for p in space.parameters if p.key == condition.key for w in p.when if w.key not in held]
    if parameter.kind == "choice":
        one, other = parameter.choices[:2]
    else:
        half = parameter.high // 2 if parameter.kind == "int" else parameter.high / 2
        one, other = parameter.low or half, parameter.high
    points = []
    for value in (one, other):
        point = {**(space.start[0] if space.start else {}), **held, parameter.key: value}
        points.append({**space.fixed, **space.bend(point)})
        assert points[-1][parameter.key] == value
    return points[0], points[1]


@pytest.mark.parametrize(("space", "parameter"), list(space_cases()))
def test_trial_of_another_value_is_told_apart(mini_data: TrialData, space: SearchSpace, parameter: Parameter) -> None:
    built, asked = map(config_of, two_points(space, parameter))
    trial = Trial(built, mini_data)
    verify(built, trial.built(), trial.applied)
    with pytest.raises(WiringError) as told:
        verify(asked, trial.built(), trial.applied)
    named = parameter.key.removeprefix("augment.") if parameter.key != "augment.policy" else ""
    assert named in str(told.value)


# Every hyperparameter of every component: a factory that ignores it fails the trial.


def another(parameter: Hyperparameter) -> Scalar:
    """A valid value that is not the default."""
    if isinstance(parameter.bounds, Choice):
        return next(value for value in parameter.bounds.values if value != parameter.default)
    if parameter.type is bool:
        return not parameter.default
    default = float(parameter.default or 0)
    bounds = parameter.bounds or Range()
    options = [default * 0.5, default * 2, default + 0.25, default + 1, default - 0.25]
    good = [parameter.type(o) for o in options if bounds.fault(parameter.type(o)) is None]
    return next(value for value in good if value != parameter.default)


def component_cases() -> Iterator[Any]:
    for section, registry in COMPONENTS.items():
        if section == "model":
            continue  # below: a model is not asked for its weights, it tells them
        for name in registry:
            for key in registry.parameters(name):
                yield pytest.param(section, name, key, id=f"{section}-{name}-{key}")


@pytest.mark.parametrize(("section", "name", "key"), list(component_cases()))
def test_factory_that_ignores_a_hyperparameter_fails_the_trial(
    mini_data: TrialData, monkeypatch: pytest.MonkeyPatch, section: str, name: str, key: str
) -> None:
    registry = COMPONENTS[section]
    parameter = registry.parameters(name)[key]
    config = config_of({f"{section}.name": name, f"{section}.{key}": another(parameter)})
    Trial(config, mini_data)
    real = registry.get(name)

    def ignoring(*arguments: Any, **params: Any) -> Any:
        if section == "optimizer" and key in arguments[0][0]:
            arguments = ([{k: v for k, v in group.items() if k != key} for group in arguments[0]],)
        return real(*arguments, **{k: v for k, v in params.items() if k != key})

    monkeypatch.setitem(registry._entries, name, ignoring)
    with pytest.raises(WiringError, match=rf"{section}\.{key}: asked for"):
        Trial(config, mini_data)


@pytest.mark.parametrize("section", ["loss", "optimizer", "schedule"])
def test_component_that_is_another_one_fails_the_trial(
    mini_data: TrialData, monkeypatch: pytest.MonkeyPatch, section: str
) -> None:
    registry = COMPONENTS[section]
    name, other = registry.names()[:2]
    config = config_of({f"{section}.name": name})
    swapped = registry.get(other)
    accepted = registry.parameters(other)
    monkeypatch.setitem(
        registry._entries, name, lambda *a, **k: swapped(*a, **{p: v for p, v in k.items() if p in accepted})
    )
    with pytest.raises(WiringError, match=rf"{section}\.name: asked for {name}, built {other}"):
        Trial(config, mini_data)


@pytest.mark.parametrize(
    ("asked", "built"),
    [
        ({"model.name": "fcn_resnet50"}, {"model.name": "deeplabv3_resnet50"}),
        ({"model.name": "fcn_resnet50", "model.aux_weight": 0.2}, {"model.aux_weight": 0.4}),
        ({"model.weights": "imagenet"}, {"model.weights": "none"}),
    ],
)
def test_model_that_is_another_one_fails_the_trial(
    mini_data: TrialData, monkeypatch: pytest.MonkeyPatch, asked: dict[str, Any], built: dict[str, Any]
) -> None:
    real = trainables.trial.build_model

    def wrong(name: str, classes: list[str], **params: Any) -> Any:
        changed = {key.removeprefix("model."): value for key, value in built.items()}
        return real(str(changed.pop("name", name)), classes, **{**params, **changed})

    config = config_of(asked)
    Trial(config, mini_data)
    monkeypatch.setattr(trainables.trial, "build_model", wrong)
    (key,) = built
    with pytest.raises(WiringError, match=rf"{key}: asked for"):
        Trial(config, mini_data)


@pytest.mark.parametrize("key", [field.name for field in dataclasses.fields(TrainingOptions)])
def test_training_option_that_is_ignored_fails_the_trial(
    mini_data: TrialData, monkeypatch: pytest.MonkeyPatch, key: str
) -> None:
    value = {
        "backbone_lr": 0.5, "decay_norms": True, "clip_norm": 2.0, "accumulate": 2, "ema": 0.5, "freeze": "batch_norm",
        "loss_stride": 3, "class_tiles": 0.5
    }[key]  # fmt: skip
    config = config_of({f"training.{key}": value, "model.weights": "imagenet", "resize": CROP})
    Trial(config, mini_data)
    groups, updater = trainables.trial.parameter_groups, trainables.trial.Updater
    default = getattr(TrainingOptions(), key)
    if key == "class_tiles":
        samples = trainables.trial.TrainingSet
        monkeypatch.setattr(trainables.trial, "TrainingSet", lambda *a, **o: samples(*a, **{**o, key: default}))
    elif key in ("backbone_lr", "decay_norms"):
        monkeypatch.setattr(trainables.trial, "parameter_groups", lambda m, **o: groups(m, **{**o, key: default}))
    else:
        monkeypatch.setattr(
            trainables.trial,
            "Updater",
            lambda m, o, s, options, **rest: updater(m, o, s, dataclasses.replace(options, **{key: default}), **rest),
        )
    with pytest.raises(WiringError, match=rf"training\.{key}: asked for"):
        Trial(config, mini_data)


@pytest.mark.parametrize(("asked", "done"), [("backbone", "none"), ("stages", "backbone"), ("none", "backbone")])
def test_backbone_that_was_frozen_otherwise_fails_the_trial(
    mini_data: TrialData, monkeypatch: pytest.MonkeyPatch, asked: str, done: str
) -> None:
    """A backbone of one layer has no first half: `stages` freezes no weight of it."""
    config = config_of({"training.freeze": asked, "model.weights": "imagenet"})
    trial = Trial(config, mini_data)
    learning = {name.partition(".")[0] for name, p in trial.model.named_parameters() if p.requires_grad}
    assert learning == {"head", "aux"} | (set() if asked == "backbone" else {"backbone"})
    monkeypatch.setattr(trainables.trial, "freeze", lambda model, what: freeze(model, done))
    with pytest.raises(WiringError, match=r"training\.freeze"):
        Trial(config, mini_data)


def lose_one(groups: list[dict[str, Any]]) -> list[dict[str, Any]]:
    groups[-1]["params"] = groups[-1]["params"][1:]
    return groups


def stranger(groups: list[dict[str, Any]]) -> list[dict[str, Any]]:
    groups[0]["params"] = [*groups[0]["params"], torch.nn.Parameter(torch.zeros(1))]
    return groups


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lose_one, r"optimizer: a weight is in 0 groups \([\w.]+\.weight\)"),
        (stranger, "optimizer: 1 of its tensors are not the model's"),
    ],
)
def test_weights_that_the_optimizer_lacks_or_does_not_know_fail_the_trial(
    mini_data: TrialData, monkeypatch: pytest.MonkeyPatch, change: Callable[..., Any], told: str
) -> None:
    real = trainables.trial.parameter_groups
    monkeypatch.setattr(trainables.trial, "parameter_groups", lambda *a, **k: change(real(*a, **k)))
    with pytest.raises(WiringError, match=told):
        make(mini_data)


# The rest of a configuration.


def test_batch_size_that_is_not_the_loaders_fails_the_trial(
    mini_data: TrialData, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = trainables.trial.training_loader
    monkeypatch.setattr(
        trainables.trial, "training_loader", lambda s, *, batch_size, **o: real(s, batch_size=batch_size // 2, **o)
    )
    with pytest.raises(WiringError, match="batch_size: asked for 4, built 2"):
        make(mini_data)


def test_image_size_that_is_not_the_policys_fails_the_trial(
    mini_data: TrialData, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = trainables.trial.Policy
    monkeypatch.setattr(trainables.trial, "Policy", lambda spec, size, **how: real(spec, (size[1], size[0]), **how))
    with pytest.raises(WiringError, match="image_size: asked for 24x32, built 32x24"):
        make(mini_data)


def test_images_that_are_stretched_where_they_should_keep_their_aspect_fail_the_trial(
    mini_data: TrialData, monkeypatch: pytest.MonkeyPatch
) -> None:
    trial = make(mini_data, resize="letterbox")
    assert trial.applied["resize"] == "letterbox"
    real = trainables.trial.Policy
    monkeypatch.setattr(trainables.trial, "Policy", lambda spec, size, **how: real(spec, size))
    with pytest.raises(WiringError, match="resize: asked for letterbox, built None"):
        make(mini_data, resize="letterbox")


def test_seed_that_does_not_reach_the_augmentations_fails_the_trial(
    mini_data: TrialData, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = trainables.trial.TrainingSet
    monkeypatch.setattr(trainables.trial, "TrainingSet", lambda *a, seed, **k: real(*a, seed=0, **k))
    make(mini_data, seed=0)
    with pytest.raises(WiringError, match="seed: asked for 5, built 0"):
        make(mini_data, seed=5)


def test_budget_that_the_schedule_does_not_span_fails_the_trial(
    mini_data: TrialData, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = COMPONENTS["schedule"].get("one_cycle")
    monkeypatch.setitem(COMPONENTS["schedule"]._entries, "one_cycle", lambda steps, **p: real(steps // 2, **p))
    with pytest.raises(WiringError, match=r"epochs: asked for 2, built 1\.0"):
        make(mini_data)


@pytest.mark.parametrize("name", [name for name in TRANSFORMS if TRANSFORMS.parameters(name)])
def test_magnitude_that_the_installed_library_ignores_fails_the_trial(
    mini_data: TrialData, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    original = TRANSFORMS.get(name)
    (key,) = TRANSFORMS.parameters(name)
    config = config_of({"augment.policy": "free", f"augment.{name}.p": 1.0, f"augment.{name}.{key}": 0.9})
    Trial(config, mini_data)
    monkeypatch.setitem(TRANSFORMS._entries, name, lambda size, p, **options: original(size, p, **{key: 0.1}))
    with pytest.raises(WiringError, match=name):
        Trial(config, mini_data)


def test_precision_and_layout_are_what_the_built_model_has(mini_data: TrialData) -> None:
    trial = Trial(config_of({}), mini_data, execution=Execution(precision="bf16", channels_last=True))
    assert (trial.applied["precision"], trial.applied["weights_precision"]) == ("bf16", "float32")
    assert trial.applied["channels_last"] is True
    assert trial.model.head.weight.is_contiguous(memory_format=torch.channels_last)  # type: ignore[union-attr]
    plain = Trial(config_of({}), mini_data, execution=Execution(channels_last=False))
    assert plain.applied["precision"] == "fp32"
    assert plain.model.head.weight.is_contiguous()  # type: ignore[union-attr]


# What is trained and validated with is read where it is used, not where it was made.


@pytest.mark.parametrize(
    ("key", "break_it"),
    [
        ("schedule.name", lambda trial: setattr(trial.updater, "schedule", SCHEDULES.get("constant")(6))),
        ("augment", lambda trial: setattr(trial.train_loader.dataset, "policy", OTHER_POLICY)),
        ("val_image_size", lambda trial: setattr(trial.val_loader.dataset.cache, "size", (48, 64))),
        ("seed", lambda trial: setattr(trial.train_loader.batch_sampler, "seed", 9)),
        ("batch_size", lambda trial: setattr(trial.train_loader.batch_sampler, "batch_size", 2)),
    ],
)
def test_part_that_is_swapped_where_it_is_used_fails_the_trial(
    mini_data: TrialData, key: str, break_it: Callable[[Trial], None]
) -> None:
    config = config_of({})
    trial = Trial(config, mini_data)
    verify(config, trial.built(), trial.applied)
    break_it(trial)
    trial.applied = read_back(trial.built())
    with pytest.raises(WiringError, match=key):
        verify(config, trial.built(), trial.applied)


def test_images_of_a_trial_are_told_apart_by_split_and_order() -> None:
    digests = {images_digest(*split) for split in [(["a", "b"], ["c"]), (["b", "a"], ["c"]), (["a"], ["b", "c"])]}
    assert len(digests) == 3


def test_compiling_is_done_once_and_told(mini_data: TrialData, monkeypatch: pytest.MonkeyPatch) -> None:
    compiled: list[str] = []
    monkeypatch.setattr(torch.nn.Module, "compile", lambda self: compiled.append(type(self).__name__))
    assert make(mini_data).applied["compile"] is False
    trial = Trial(config_of({}), mini_data, execution=Execution(compile=True))
    assert compiled == ["TinyNet"]
    assert trial.record().to_json()["applied"]["compile"] is True
