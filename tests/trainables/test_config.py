"""TrialConfig: round trips, and every fault told at once with the close names."""

from __future__ import annotations

import dataclasses
import json
import re

import optuna
import pytest

from search_spaces import SPACES
from trainables.config import TrialConfig, check_keys, known_keys, parse_size, parse_value
from trainables.errors import ConfigError

from ..spaces import own_weights

BASE = {"image_size": "96x128", "epochs": 6}


def test_everything_has_a_default_but_size_and_epochs() -> None:
    config = TrialConfig.from_flat(BASE)
    assert config.image_size == (96, 128)
    assert (config.batch_size, config.epochs, config.seed) == (8, 6, 0)
    assert config.model.params["weights"] == "none"
    assert config.optimizer.params == {"lr": 3e-3, "weight_decay": 1e-2}
    assert config.augment.transforms == ()
    with pytest.raises(ConfigError) as error:
        TrialConfig.from_flat({})
    assert "image_size: needs a value, HEIGHTxWIDTH" in str(error.value)
    assert "epochs: needs a value" in str(error.value)


@pytest.mark.parametrize("name", list(SPACES))
def test_samples_of_every_space_survive_the_round_trip_through_json_and_text(name: str) -> None:
    space = SPACES.get(name)(["lraspp_mobilenet_v3_large", "fcn_resnet50"], own_weights(name))
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=1))
    for _ in range(20):
        config = TrialConfig.from_flat(
            {**BASE, "model.weights": own_weights(name), **space.fixed, **space.suggest(study.ask())}
        )
        flat = config.flat()
        assert TrialConfig.from_flat(flat) == config
        assert TrialConfig.from_flat(json.loads(json.dumps(flat))) == config
        as_text = {key: str(value) for key, value in flat.items()}
        assert TrialConfig.from_flat(as_text) == config
        assert set(flat) <= set(known_keys())


def test_configurations_are_immutable() -> None:
    config = TrialConfig.from_flat(BASE)
    with pytest.raises(dataclasses.FrozenInstanceError):
        config.epochs = 3  # type: ignore[misc]


def test_all_faults_are_told_at_once() -> None:
    with pytest.raises(ConfigError) as error:
        TrialConfig.from_flat(
            {
                "image_size": "8x128",
                "resize": "squeeze",
                "epochs": 0,
                "batch_size": "many",
                "seed": -1,
                "optimzer.lr": 0.1,
                "optimizer.lr": "fast",
                "optimizer.momentum": 0.9,
                "loss.name": "focl",
                "schedule.warmup": 0.9,
                "augment.policy": "geometric",
                "augment.rotate.p": 1.5,
                "augment.rotat.magnitude": 3,
                "colour": 1,
            }
        )
    told = str(error.value)
    for expected in (
        "image_size: each side must be at least 16 pixels",
        "resize: must be letterbox or stretch or crop or tile, or tile@SCALE with a scale of 0.05 to 1, not 'squeeze'",
        "epochs=0: must be >= 1",
        "batch_size=many: must be an integer",
        "seed=-1: must be >= 0",
        "unknown key 'optimzer.lr'; did you mean optimizer.lr",
        "optimizer.lr=fast: must be a number",
        "optimizer.momentum: adamw has no momentum; it belongs to sgd",
        "loss.name: unknown loss 'focl'; did you mean focal",
        "schedule.warmup=0.9: must be <= 0.5",
        "augment.rotate.p: must be <= 1",
        "augment.rotat.magnitude: unknown; did you mean augment.rotate.magnitude",
        "unknown key 'colour'",
    ):
        assert expected in told, expected
    assert error.value.exit_code == 2
    assert len(told.splitlines()) == 14  # the heading, and one line a fault


def test_configuration_of_a_time_before_a_key_has_what_was_done_then() -> None:
    flat = TrialConfig.from_flat(BASE).flat()
    assert flat.pop("resize") == "stretch"
    assert TrialConfig.from_flat(flat) == TrialConfig.from_flat({**flat, "resize": "stretch"})
    assert TrialConfig.from_flat(flat) != TrialConfig.from_flat({**flat, "resize": "letterbox"})


@pytest.mark.parametrize("wrong", ["tile@0", "tile@2", "tile@", "tile@half", "crop@0.5"])
def test_a_scale_of_tiles_is_a_share_of_the_images_own(wrong: str) -> None:
    found = [TrialConfig.from_flat({**BASE, "resize": way}) for way in ("tile@0.50", "tile@1")]
    assert [one.resize for one in found] == ["tile@0.5", "tile"]
    assert TrialConfig.from_flat(found[0].flat()) == found[0]
    with pytest.raises(ConfigError, match=rf"resize: must be .* tile@SCALE .* not '{wrong}'"):
        TrialConfig.from_flat({**BASE, "resize": wrong})


def test_parts_around_classes_need_parts() -> None:
    assert (
        TrialConfig.from_flat({**BASE, "resize": "tile@0.5", "training.class_tiles": 0.3}).training.class_tiles == 0.3
    )
    with pytest.raises(ConfigError, match=r"resize=letterbox training sees whole images.*set resize=crop or tile"):
        TrialConfig.from_flat({**BASE, "resize": "letterbox", "training.class_tiles": 0.3})


@pytest.mark.parametrize(
    "values",
    [{"loss.name": "dice", "loss.gamma": 2}, {"loss.name": "focal", "loss.power": 0.5},
     {"model.name": "lraspp_mobilenet_v3_large", "model.aux_weight": 0.4}],
)  # fmt: skip
def test_parameters_of_another_component_are_refused_with_their_owner(values: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match="it belongs to"):
        TrialConfig.from_flat({**BASE, **values})


def test_batch_of_one_is_refused_where_batch_norm_cannot_train_on_it() -> None:
    TrialConfig.from_flat({**BASE, "batch_size": 1, "model.name": "fcn_resnet50"})
    with pytest.raises(ConfigError, match="deeplabv3_resnet50 needs at least 2 images"):
        TrialConfig.from_flat({**BASE, "batch_size": 1, "model.name": "deeplabv3_resnet50"})


@pytest.mark.parametrize(("text", "size"), [("96x128", (96, 128)), ("16X16", (16, 16)), ("480x320", (480, 320))])
def test_sizes_are_height_by_width(text: str, size: tuple[int, int]) -> None:
    assert parse_size(text) == size
    assert TrialConfig.from_flat({**BASE, "image_size": size}) == TrialConfig.from_flat({**BASE, "image_size": text})


@pytest.mark.parametrize("text", ["96", "96x", "96x128x3", "-96x128", "96.5x128", "axb", "", "15x128"])
def test_other_sizes_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"HEIGHTxWIDTH|at least 16"):
        parse_size(text)


def test_text_from_the_command_line_gets_the_type_of_its_key() -> None:
    assert parse_value("optimizer.lr", "1e-2") == 0.01
    assert parse_value("batch_size", "16") == 16
    assert parse_value("augment.jpeg.magnitude", "1") == 1.0
    assert type(parse_value("augment.jpeg.magnitude", "1")) is float
    assert parse_value("training.accumulate", "4") == 4
    assert parse_value("training.decay_norms", "yes") is True
    assert parse_value("loss.second_share", "0.25") == 0.25
    assert parse_value("augment.rotate.p", "1") == 1.0
    assert parse_value("image_size", "64x64") == "64x64"
    with pytest.raises(ConfigError, match=re.escape("optimizer.lr=fast: must be a number")):
        parse_value("optimizer.lr", "fast")


def test_unknown_keys_are_told_together_with_the_close_ones() -> None:
    with pytest.raises(ConfigError) as error:
        check_keys(["optimizer.lr", "optimizer.learning_rate", "agument.rotate.p", "zzz"])
    lines = str(error.value).splitlines()
    assert len(lines) == 3
    assert "augment.rotate.p" in lines[1]
