"""What moves results most is searched: what is trained, sizes, batches, rates - each where it makes sense."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from search_spaces import SPACES, SearchSpace, find_space
from search_spaces.augment import START, family_point
from search_spaces.common import image_sizes, known_good_lr, known_good_training
from search_spaces.preview import RandomSuggester
from trainables.config import TrialConfig
from trainables.options import FREEZE
from trainables.registry import Scalar

from ..spaces import FROM_SCRATCH

MODELS = ["lraspp_mobilenet_v3_large"]
MIXED = ["lraspp_mobilenet_v3_large", "fcn_resnet50"]
VOC = (384, 384)
FREEZE_KEY, SHARE = "training.freeze", "training.backbone_lr"
every_space = pytest.mark.parametrize("name", list(SPACES))
predefined = pytest.mark.parametrize("weights", ["imagenet", "coco_voc"])


def make(name: str, weights: str, models: list[str] = MODELS, size: tuple[int, int] | None = VOC) -> SearchSpace:
    return find_space(name, image_size=size)(models, weights)


def base(weights: str) -> dict[str, Scalar]:
    own = {"image_size": "384x384", "epochs": 6, "model.name": MODELS[0], "model.weights": weights}
    return {**own, **known_good_training(weights)}


def drawn(space: SearchSpace, count: int = 1000) -> list[dict[str, Scalar]]:
    suggester = RandomSuggester(np.random.default_rng(0))
    return [space.suggest(suggester) for _ in range(count)]


@pytest.mark.parametrize("name", FROM_SCRATCH)
def test_nothing_is_frozen_or_slowed_from_scratch(name: str) -> None:
    space = make(name, "none")
    for point in [*space.start, *drawn(space)]:
        assert FREEZE_KEY not in point and SHARE not in point
        training = space.trial_config(base("none"), point).training
        assert (training.freeze, training.backbone_lr) == ("none", 1.0)


@predefined
@pytest.mark.parametrize("name", ["lr", "full"])
def test_backbone_has_a_rate_of_its_own_only_where_it_learns(name: str, weights: str) -> None:
    space = make(name, weights)
    points = [*space.start, *drawn(space)]
    for point in points:
        assert (SHARE in point) == (point[FREEZE_KEY] != "backbone")
        assert 0.005 <= float(point.get(SHARE, 1.0)) <= 1.0
    closely = name == "full" and weights == "imagenet"
    assert {point[FREEZE_KEY] for point in points} == set(FREEZE) - ({"none"} if closely else set())
    assert max(float(point.get(SHARE, 0.0)) for point in points) > (0.15 if closely else 0.8)
    assert max(float(point.get(SHARE, 0.0)) for point in points) <= (0.2 if closely else 1.0)
    known = {**known_good_training(weights)}
    assert space.start[0][FREEZE_KEY] == known.get(FREEZE_KEY, "none")


@pytest.mark.parametrize("name", ["augment", "loss", "architecture"])
@pytest.mark.parametrize("weights", ["none", "imagenet", "coco_voc"])
def test_every_label_starts_at_the_known_good_rate_and_is_searched_close_to_it(name: str, weights: str) -> None:
    space = make(name, weights, MIXED)
    known = [known_good_lr(model, weights) for model in MIXED]
    rate = next(parameter for parameter in space.parameters if parameter.key == "optimizer.lr")
    assert (rate.role, rate.log) == ("nuisance", True)
    assert (rate.low, rate.high) == (pytest.approx(min(known) / 2), pytest.approx(max(known) * 2))
    for point in space.start:
        assert point["optimizer.lr"] == known_good_lr(str(point["model.name"]), weights)


def test_policies_begin_with_the_same_configurations_as_with_a_rate_that_is_held() -> None:
    """What `--space augment` tried first on the embedded scenes before the rate was searched."""
    space = make("augment", "none")
    began = [{**family_point(policy), "optimizer.name": "adamw", "optimizer.lr": 3e-3} for policy in START]
    configs = [TrialConfig.from_flat({**base("none"), **values}) for values in began]
    assert [space.trial_config(base("none"), point) for point in space.start] == configs


@pytest.mark.parametrize(
    ("own", "sizes"),
    [
        ((384, 384), ["288x288", "384x384", "480x480"]),
        ((96, 128), ["72x96", "96x128", "120x160"]),
        ((360, 480), ["272x360", "360x480", "448x600"]),
        ((32, 32), ["32x32", "40x40"]),
    ],
)
def test_sizes_lie_around_the_data_sets_own(own: tuple[int, int], sizes: list[str]) -> None:
    (parameter,) = image_sizes(own)
    assert list(parameter.choices) == sizes
    assert parameter.default == "x".join(map(str, own))


def test_sizes_are_searched_where_the_data_set_says_its_own() -> None:
    assert "image_size" not in {parameter.key for parameter in make("full", "none", size=None).parameters}
    assert make("full", "none").start[0]["image_size"] == "384x384"
    assert {point["image_size"] for point in drawn(make("full", "none"))} == {"288x288", "384x384", "480x480"}


def test_own_spaces_learn_the_data_sets_size(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("extends: full\n", encoding="utf-8")
    (tmp_path / "mine.py").write_text(
        "from search_spaces.core.parameter import choice\n"
        "from search_spaces.core.space import SearchSpace\n"
        "def sized(models, weights, image_size):\n"
        "    sizes = choice('image_size', (f'{image_size[0]}x{image_size[1]}',), default='384x384')\n"
        "    return SearchSpace('mine', 'Which?', (sizes,), 'image_size')\n",
        encoding="utf-8",
    )
    for spec in ("mine.yaml", "mine.py:sized"):
        space = make(str(tmp_path / spec), "none")
        assert space.bend({})["image_size"] == "384x384"


def axes(point: dict[str, Any], other: dict[str, Any]) -> set[str]:
    """What differs between two points: the component or option, not how many keys it has."""
    keys = {key for key in {*point, *other} if point.get(key) != other.get(key)}
    one = {SHARE: FREEZE_KEY}
    return {key.partition(".")[0] if key.startswith(("loss", "augment")) else one.get(key, key) for key in keys}


@pytest.mark.parametrize("weights", ["none", "imagenet", "coco_voc"])
@pytest.mark.parametrize("models", [MODELS, MIXED], ids=["one", "two"])
def test_full_takes_one_step_along_each_axis_first(weights: str, models: list[str]) -> None:
    space = make("full", weights, models)
    known, *steps = [dict(point) for point in space.start]
    assert known["loss.name"] == "cross_entropy" and known["augment.policy"] == "none"
    moved = [axes(known, step) for step in steps]
    assert [axis - {"optimizer.lr"} for axis in moved if "model.name" in axis] == [{"model.name"}] * (len(models) - 1)
    assert all(step["optimizer.lr"] == known_good_lr(str(step.get("model.name", models[0])), weights) for step in steps)
    single = [axis for axis in moved if "model.name" not in axis]
    assert all(len(axis) == 1 for axis in single)
    expected = {"image_size", "batch_size", "augment", "loss", *([] if weights == "none" else [FREEZE_KEY])}
    assert set().union(*single) == expected
    tried = {str(step["loss.name"]) for step in steps} | {str(step["augment.policy"]) for step in steps}
    assert tried >= {"cross_entropy+lovasz", "cross_entropy+dice", "trivial"}


@pytest.mark.parametrize("weights", ["none", "imagenet"])
def test_full_samples_close_to_where_it_begins(weights: str) -> None:
    """No rate, probability or magnitude that `lr` and `augment` search at the ends of their ranges."""
    space = make("full", weights)
    for point in drawn(space):
        assert 1.5e-3 <= float(point["optimizer.lr"]) <= 6e-3
        assert 1e-3 <= float(point["optimizer.weight_decay"]) <= 1e-1
        usual = family_point(str(point["augment.policy"]))
        for key, value in usual.items():
            if key.endswith(".p"):
                assert abs(float(point[key]) - float(value)) <= 0.25
            elif key.endswith(".magnitude") and key in point:
                assert abs(float(point[key]) - float(value)) <= 0.2 + 1e-9
        assert space.trial_config(base(weights), point).optimizer.name == "adamw"
