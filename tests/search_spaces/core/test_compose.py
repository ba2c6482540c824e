"""Spaces joined: what wins, what stays conditional, where the search begins."""

from __future__ import annotations

import optuna
import pytest

from search_spaces import SPACES, Parameter, SearchSpace, When
from search_spaces.core.compose import compose
from search_spaces.core.parameter import choice, held_at, number
from trainables.config import TrialConfig
from trainables.errors import ConfigError

BASE = {"image_size": "96x128", "epochs": 6, "model.name": "lraspp_mobilenet_v3_large", "model.weights": "none"}
FOCAL = When("loss.name", ("focal",))
LOSSES = SearchSpace(
    "losses",
    "Which loss?",
    (
        choice("loss.name", ("cross_entropy", "focal"), role="scientific"),
        number("loss.gamma", 0.5, 5.0, when=(FOCAL,)),
        number("optimizer.lr", 3e-4, 1e-2, log=True),
    ),
    "loss.name",
    start=(
        {"loss.name": "cross_entropy", "optimizer.lr": 1e-3},
        {"loss.name": "focal", "loss.gamma": 2.0, "optimizer.lr": 1e-3},
    ),
    fixed={"optimizer.name": "adamw"},
    reasons={"optimizer.name": "as usual"},
)
RATES = SearchSpace(
    "rates",
    "Which rate?",
    (
        choice("optimizer.name", ("adamw", "sgd"), role="scientific"),
        number("optimizer.lr", 1e-4, 1e-1, log=True, role="scientific"),
        number("optimizer.momentum", 0.8, 0.99, when=(When("optimizer.name", ("sgd",)),)),
    ),
    "optimizer.name",
    start=(
        {"optimizer.name": "adamw", "optimizer.lr": 3e-3},
        {"optimizer.name": "sgd", "optimizer.lr": 2e-2, "optimizer.momentum": 0.9},
    ),
    fixed={"batch_size": 4},
)


def keyed(space: SearchSpace) -> dict[str, Parameter]:
    return {parameter.key: parameter for parameter in space.parameters}


def test_later_part_decides_and_what_any_part_searches_is_searched() -> None:
    both, turned = compose("x", [LOSSES, RATES]), compose("x", [RATES, LOSSES])
    assert (keyed(both)["optimizer.lr"].high, keyed(turned)["optimizer.lr"].high) == (1e-1, 1e-2)
    assert (keyed(both)["optimizer.lr"].role, keyed(turned)["optimizer.lr"].role) == ("scientific", "nuisance")
    assert (both.start[0]["optimizer.lr"], turned.start[0]["optimizer.lr"]) == (3e-3, 1e-3)
    assert (both.label_by, turned.label_by) == ("optimizer.name", "loss.name")
    assert both.description == "Which loss? Which rate?"
    for space in (both, turned):
        assert "optimizer.name" in keyed(space), "the losses hold it, the rates search it"
        assert space.fixed == {"batch_size": 4}
        assert space.reasons == {}
    later = compose("x", [LOSSES, SearchSpace("y", "", (), "loss.name", fixed={"optimizer.name": "sgd"})])
    assert later.fixed == {"optimizer.name": "sgd"}
    assert compose("x", [LOSSES]).reasons == {"optimizer.name": "as usual"}


def test_conditions_stay_whole_whatever_the_order_of_the_parts() -> None:
    for parts in ([LOSSES, RATES], [RATES, LOSSES]):
        space = compose("x", parts)
        study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=1))
        for _ in range(40):
            sample = space.suggest(study.ask())
            assert ("loss.gamma" in sample) == (sample["loss.name"] == "focal")
            assert ("optimizer.momentum" in sample) == (sample["optimizer.name"] == "sgd")
            TrialConfig.from_flat({**BASE, **space.fixed, **sample})


def test_parameters_are_put_after_those_that_their_conditions_name() -> None:
    smoothing = number("loss.power", 0.0, 1.0, default=0.5, when=(When("training.freeze", ("none",)),))
    freeze = choice("training.freeze", ("none", "batch_norm"), default="none")
    keys = [p.key for p in compose("x", [LOSSES], parameters=[smoothing, freeze]).parameters]
    assert keys == ["loss.name", "loss.gamma", "optimizer.lr", "training.freeze", "loss.power"]
    circle = [choice("a", (1,), when=(When("b", (1,)),)), choice("b", (1,), when=(When("a", (1,)),))]
    with pytest.raises(ConfigError, match="a: condition on b, which is not before it"):
        compose("x", [LOSSES], parameters=circle)
    # An override of a parameter that others depend on keeps its place before them.
    narrower = choice("loss.name", ("focal",), default="focal", when=(When("training.freeze", ("none",)),))
    keys = [p.key for p in compose("x", [LOSSES], parameters=[narrower, freeze]).parameters]
    assert keys.index("training.freeze") < keys.index("loss.name") < keys.index("loss.gamma")


def test_search_begins_at_the_joined_known_good_point_and_once_a_label() -> None:
    both = compose("x", [LOSSES, RATES])
    assert both.start == (
        {"loss.name": "cross_entropy", "optimizer.lr": 3e-3, "optimizer.name": "adamw"},
        {"loss.name": "cross_entropy", "optimizer.lr": 2e-2, "optimizer.name": "sgd", "optimizer.momentum": 0.9},
    )
    by_loss = compose("x", [LOSSES, RATES], label_by="loss.name")
    assert [point["loss.name"] for point in by_loss.start] == ["cross_entropy", "focal"]
    assert by_loss.start[1]["loss.gamma"] == 2.0
    own = compose("x", [LOSSES, RATES], start=[{}, {"optimizer.name": "sgd", "loss.name": "focal"}])
    assert own.start[0] == both.start[0]
    assert own.start[1] == {
        "loss.name": "focal", "loss.gamma": 2.0, "optimizer.lr": 3e-3, "optimizer.name": "sgd",
        "optimizer.momentum": 0.9,
    }  # fmt: skip


def test_own_parameters_decide_over_all_parts() -> None:
    own = [number("optimizer.lr", 1e-3, 5e-3, default=2e-3), held_at("loss.name", "focal", reason="as before")]
    space = compose("x", [LOSSES, RATES], parameters=own)
    assert (keyed(space)["optimizer.lr"].low, space.start[0]["optimizer.lr"]) == (1e-3, 2e-3)
    assert space.fixed == {"batch_size": 4, "loss.name": "focal"}
    assert space.reasons == {"loss.name": "as before"}
    assert keyed(space)["loss.gamma"].when == (), "the condition on a held key is decided"
    sgd = compose("x", [LOSSES, RATES], parameters=[held_at("optimizer.name", "sgd")], label_by="loss.name")
    assert keyed(sgd)["optimizer.momentum"].when == ()
    assert sgd.start[0]["optimizer.momentum"] == 0.9
    adamw = compose("x", [LOSSES, RATES], parameters=[held_at("optimizer.name", "adamw")], label_by="loss.name")
    assert "optimizer.momentum" not in keyed(adamw)


def test_value_may_be_held_under_a_condition() -> None:
    held = held_at("optimizer.momentum", 0.95, when=(When("optimizer.name", ("sgd",)),))
    space = compose("x", [RATES], parameters=[held])
    assert keyed(space)["optimizer.momentum"].role == "fixed"
    assert "optimizer.momentum" not in space.fixed
    assert space.start[1]["optimizer.momentum"] == 0.95


def test_parameter_without_a_known_good_value_is_told() -> None:
    with pytest.raises(ConfigError, match=r"training\.ema: needs a default within 0 \.\. 0.9"):
        compose("x", [LOSSES], parameters=[number("training.ema", 0.0, 0.9)])
    with pytest.raises(ConfigError, match=r"optimizer\.lr: needs a default within 0\.02 \.\. 0\.1"):
        compose("x", [LOSSES], parameters=[number("optimizer.lr", 0.02, 0.1)])
    gone = number("loss.gamma", 1.0, 3.0, when=(FOCAL,))
    assert keyed(compose("x", [LOSSES], parameters=[gone]))["loss.gamma"].default == 2.0


def test_full_searches_inside_the_ranges_of_the_others() -> None:
    models = ["deeplabv3_mobilenet_v3_large", "lraspp_mobilenet_v3_large"]
    others = [p for name in ("architecture", "augment", "loss", "lr") for p in make(name, models).parameters]
    full = make("full", models)
    for parameter in full.parameters:
        wider = [other for other in others if other.key == parameter.key]
        assert wider or parameter.key == "batch_size"
        for end in parameter.ends() if wider else ():
            assert any(other.contains(end) for other in wider), parameter.key
    assert {point["model.name"] for point in full.start} == set(models)
    assert make("full", models[:1]).label_by == "augment.policy"


def make(name: str, models: list[str]) -> SearchSpace:
    space: SearchSpace = SPACES.get(name)(models, "none")
    return space
