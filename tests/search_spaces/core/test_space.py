"""SearchSpace: conditions, held keys, starting points, text."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import optuna
import pytest

from search_spaces import SPACES, Parameter, SearchSpace, When
from search_spaces.core.parameter import choice, number
from trainables.errors import ConfigError
from trainables.registry import Scalar


def toy(**changes: Any) -> SearchSpace:
    content: dict[str, Any] = {
        "name": "toy",
        "description": "Is it?",
        "parameters": (
            choice("loss.name", ("cross_entropy", "focal", "dice"), role="scientific", reason="a"),
            number("loss.gamma", 0.5, 5.0, when=(When("loss.name", ("focal",)),), reason="b"),
            number("optimizer.lr", 1e-4, 1e-1, log=True, reason="c"),
            number("augment.rotate.p", 0.0, 1.0, step=0.25, reason="d"),
            number("augment.rotate.magnitude", 2.0, 20.0, when=(When("augment.rotate.p", above=0.0),), reason="e"),
        ),
        "label_by": "loss.name",
        "start": (
            {"loss.name": "cross_entropy", "optimizer.lr": 0.003, "augment.rotate.p": 0.0},
            {"loss.name": "focal", "loss.gamma": 2.0, "optimizer.lr": 0.003, "augment.rotate.p": 0.5,
             "augment.rotate.magnitude": 10.0},
        ),
        "fixed": {"optimizer.name": "adamw"},
        **changes,
    }  # fmt: skip
    return SearchSpace(**content)


def samples(space: SearchSpace, count: int = 60, seed: int = 0) -> list[dict[str, Scalar]]:
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=seed))
    return [space.suggest(study.ask()) for _ in range(count)]


def test_parameter_exists_exactly_when_its_conditions_hold() -> None:
    drawn = samples(toy())
    assert {s["loss.name"] for s in drawn} == {"cross_entropy", "focal", "dice"}
    for sample in drawn:
        assert ("loss.gamma" in sample) == (sample["loss.name"] == "focal")
        assert ("augment.rotate.magnitude" in sample) == (float(sample["augment.rotate.p"]) > 0)
        assert float(sample["augment.rotate.p"]) in (0.0, 0.25, 0.5, 0.75, 1.0)
        assert 1e-4 <= float(sample["optimizer.lr"]) <= 1e-1
    assert sum(float(s["optimizer.lr"]) < 10**-2.5 for s in drawn) > 15, "half of a logarithmic range"


@pytest.mark.parametrize(
    ("chosen", "holds"),
    [({}, False), ({"a": 0}, False), ({"a": 1}, True), ({"a": 0.01}, True), ({"b": 3}, False)],
)
def test_condition_above_holds_for_larger_values_only(chosen: Mapping[str, Scalar], holds: bool) -> None:
    assert When("a", above=0.0).holds(chosen) is holds


def test_chain_of_conditions_falls_with_its_first_link() -> None:
    space = SearchSpace(
        name="chain",
        description="",
        label_by="a",
        parameters=(
            choice("a", (0, 1)),
            choice("b", (0, 1), when=(When("a", (1,)),)),
            choice("c", (0, 1), when=(When("b", (1,)),)),
        ),
    )
    for sample in samples(space):
        assert ("c" in sample) == (sample.get("b") == 1)
    assert [p.key for p in space.fix({"a": 0}).parameters] == []
    assert [p.key for p in space.fix({"b": 0}).parameters] == ["a", "b", "c"]
    assert all("c" not in sample for sample in samples(space.fix({"b": 0})))


def test_all_faults_of_a_space_are_told_at_once() -> None:
    with pytest.raises(ConfigError) as error:
        toy(
            parameters=(
                number("optimizer.lr", 1e-4, 1e-1, when=(When("loss.name", ("focal",)),)),
                choice("loss.name", ("cross_entropy", "focal")),
                choice("loss.name", ("dice",)),
            ),
            start=({"loss.name": "tversky", "optimizer.lr": 1.0, "zoom": 3}, {}),
        )
    told = str(error.value)
    for fault in (
        "space toy",
        "optimizer.lr: condition on loss.name, which is not before it",
        "loss.name: twice",
        "start[0]: unexpected zoom",
        "start[0]: loss.name=tversky is outside cross_entropy, focal",
        "start[1]: loss.name is missing",
    ):
        assert fault in told, fault


def test_held_key_leaves_the_space_and_enters_every_trial() -> None:
    space = toy().fix({"optimizer.lr": 0.02, "batch_size": 4})
    assert "optimizer.lr" not in [p.key for p in space.parameters]
    assert space.fixed == {"optimizer.name": "adamw", "optimizer.lr": 0.02, "batch_size": 4}
    assert len(space.start) == 2, "a starting point at another value still starts"
    assert all("optimizer.lr" not in point for point in space.start)


def test_held_key_overrides_what_the_space_fixes() -> None:
    assert toy().fix({"optimizer.name": "sgd"}).fixed["optimizer.name"] == "sgd"


def test_holding_a_choice_decides_the_conditions_on_it() -> None:
    focal = toy().fix({"loss.name": "focal"})
    gamma = next(p for p in focal.parameters if p.key == "loss.gamma")
    assert gamma.when == ()
    assert all("loss.gamma" in sample for sample in samples(focal, 10))
    dice = toy().fix({"loss.name": "dice"})
    assert "loss.gamma" not in [p.key for p in dice.parameters]


def test_label_key_may_be_held_and_the_agreeing_starting_point_leads() -> None:
    space = toy().fix({"loss.name": "focal"})
    assert space.start == (
        {"loss.gamma": 2.0, "optimizer.lr": 0.003, "augment.rotate.p": 0.5, "augment.rotate.magnitude": 10.0},
    )
    assert space.label({**space.fixed, **space.start[0]}) == "focal"
    without = toy().fix({"loss.name": "dice"})
    assert len(without.start) == 1, "no starting point has it: the known-good one is bent to it"


def test_holding_a_nuisance_parameter_keeps_a_starting_point_for_every_label() -> None:
    space = SPACES.get("loss")(["lraspp_mobilenet_v3_large"], "none")
    held = space.fix({"optimizer.lr": 0.002})
    assert [point["loss.name"] for point in held.start] == [point["loss.name"] for point in space.start]


def test_conditional_key_is_held_where_it_exists_and_nowhere_else() -> None:
    space = toy().fix({"loss.gamma": 3.0})
    for sample in samples(space):
        assert sample.get("loss.gamma") == (3.0 if sample["loss.name"] == "focal" else None)
    assert space.start[1]["loss.gamma"] == 3.0
    assert "loss.gamma" not in space.fixed


@pytest.mark.parametrize(
    "overrides",
    [{"loss.name": "dice", "loss.gamma": 2.0}, {"augment.rotate.p": 0.0, "augment.rotate.magnitude": 5.0}],
)
def test_contradictory_overrides_are_refused(overrides: dict[str, Scalar]) -> None:
    with pytest.raises(ConfigError, match="no trial could have it"):
        toy().fix(overrides)


def test_bending_keeps_what_is_allowed_then_takes_the_default_then_the_middle() -> None:
    space = toy(start=(toy().start[0],))
    assert toy().bend({"loss.name": "focal", "loss.gamma": 99.0})["loss.gamma"] == 2.0, "the second point knows it"
    bent = space.bend({"loss.name": "focal", "loss.gamma": 99.0, "augment.rotate.p": 0.25, "unknown": 1})
    assert bent["loss.name"] == "focal"
    assert bent["loss.gamma"] == 2.75
    assert bent["optimizer.lr"] == 0.003
    assert toy(start=()).bend({})["optimizer.lr"] == pytest.approx(10**-2.5), "the middle of a logarithmic range"
    assert bent["augment.rotate.p"] == 0.25
    assert bent["augment.rotate.magnitude"] == 11.0
    assert "unknown" not in bent
    assert "loss.gamma" not in space.bend({"loss.name": "dice", "loss.gamma": 2.0})
    whole = Parameter("k", "int", low=15, high=95)
    assert SearchSpace("x", "", (whole,), "k").bend({}) == {"k": 55}
    assert SearchSpace("x", "", (number("p", 0, 1, step=0.25),), "p").bend({}) == {"p": 0.5}


def test_ranges_read_as_a_person_writes_them() -> None:
    texts = [p.range_text() for p in toy().parameters]
    assert texts[0] == "cross_entropy, focal, dice"
    assert texts[2] == "0.0001 .. 0.1 (log)"
    assert texts[3] == "0 .. 1 (step 0.25)"
    assert choice("training.ema", (0.0, 0.99)).range_text() == "0, 0.99"


@pytest.mark.parametrize(
    ("parameter", "fault"),
    [
        (number("k", 2.0, 1.0), "low 2 is above high 1"),
        (number("k", 0.0, 1.0, log=True), "needs low > 0, not 0"),
        (number("k", 0.1, 1.0, log=True, step=0.1), "has no step"),
        (number("k", 0.0, 1.0, step=0.3), "step 0.3 does not lead from 0 to 1"),
        (number("k", 0.0, 1.0, step=0.0), "step 0 must be > 0"),
        (Parameter("k", "int", low=2, high=8, step=0.5), "step 0.5 must be a whole number"),
        (number("k", 2.0, 1.0, default=1.5), "low 2 is above high 1"),
        (choice("k", (), default="a"), "needs at least one choice"),
        (number("k", 0.0, 1.0, default=1.5), "default 1.5 is outside 0 .. 1"),
        (number("k", 0.0, 1.0, step=0.25, default=0.3), "default 0.3 is outside 0 .. 1 (step 0.25)"),
        (number("k", 0.0, 1.0, default=True), "default True is outside"),
        (number("k", 0.0, 1.0, role="fixed"), "role fixed needs exactly one value"),
        (choice("k", ()), "needs at least one choice"),
        (choice("k", ("a", "a")), "names a choice twice"),
        (choice("k", ("a", "b"), default="c"), "default c is outside a, b"),
        (choice("k", ("a", "b"), role="fixed"), "role fixed needs exactly one value"),
        (choice("k", ("a",), when=(When("a", (1,)), When("a", (2,)))), "two conditions on a"),
    ],
)
def test_parameter_that_makes_no_sense_says_so(parameter: Parameter, fault: str) -> None:
    (told,) = parameter.faults()
    assert fault in told


@pytest.mark.parametrize(("high", "step"), [(0.6, 0.1), (0.35, 0.05), (1.5, 0.25), (2.1, 0.3)])
def test_grid_holds_the_values_that_optuna_draws_from_it(high: float, step: float) -> None:
    parameter = number("k", 0.0, high, step=step)
    assert [*parameter.faults()] == []
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    drawn = [parameter.suggest(study.ask()) for _ in range(30)]
    assert all(parameter.contains(value) for value in drawn)
    assert len(set(drawn)) > 4
    assert not parameter.contains(step / 2)


def test_defaults_are_the_known_good_point_where_no_point_is_given() -> None:
    parameters = (
        choice("loss.name", ("cross_entropy", "focal"), default="cross_entropy"),
        number("loss.gamma", 0.5, 5.0, default=2.0, when=(When("loss.name", ("focal",)),)),
    )
    assert toy(parameters=parameters, start=()).start == ({"loss.name": "cross_entropy"},)
    without = (dataclasses.replace(parameters[0], default=None), parameters[1])
    assert toy(parameters=without, start=()).start == ()


def test_starting_points_give_defaults_where_none_are_given() -> None:
    by_key = {parameter.key: parameter for parameter in toy().parameters}
    assert by_key["optimizer.lr"].default == 0.003
    assert by_key["loss.gamma"].default == 2.0, "of the first point that has it"
    own = dataclasses.replace(by_key["optimizer.lr"], default=0.01)
    kept = toy(parameters=tuple(own if p.key == own.key else p for p in toy().parameters))
    assert next(p for p in kept.parameters if p.key == own.key).default == 0.01


def test_label_of_a_number_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"label_by optimizer\.lr: every trial would have a label of its own"):
        toy(label_by="optimizer.lr")


def test_condition_on_a_misspelt_key_names_the_close_one() -> None:
    with pytest.raises(ConfigError, match=r"condition on loss\.nam, which the space does not have; did you mean loss"):
        toy(parameters=(choice("loss.name", ("focal",)), number("x", 0, 1, when=(When("loss.nam", ("focal",)),))))


def test_reaching_finds_a_point_through_every_condition() -> None:
    space = toy()
    assert space.reach("loss.gamma", 5.0) == {
        "loss.name": "focal", "loss.gamma": 5.0, "optimizer.lr": 0.003, "augment.rotate.p": 0.0,
    }  # fmt: skip
    point = space.reach("augment.rotate.magnitude", 2.0)
    assert point is not None
    assert (point["augment.rotate.p"], point["augment.rotate.magnitude"]) == (1.0, 2.0)
    never = (choice("a", ("x", "y")), choice("b", (1,), when=(When("a", ("z",)),)))
    assert SearchSpace("never", "", never, "a").reach("b", 1) is None
    # Only one of a's values lets both exist.
    both = (
        choice("a", ("x", "y", "z")),
        choice("b", (1, 2), when=(When("a", ("x", "y")),)),
        choice("c", (3,), when=(When("b", (2,)), When("a", ("x",)))),
    )
    assert SearchSpace("both", "", both, "a").reach("c", 3) == {"a": "x", "b": 2, "c": 3}


def test_held_key_says_why() -> None:
    space = toy(reasons={"optimizer.name": "decay apart from the rate"}).fix({"optimizer.lr": 0.02})
    assert space.reasons == {"optimizer.name": "decay apart from the rate", "optimizer.lr": "held by --set"}
    gamma = next(p for p in toy().fix({"loss.gamma": 3.0}).parameters if p.key == "loss.gamma")
    assert (gamma.role, gamma.choices, gamma.default, gamma.reason) == ("fixed", (3.0,), 3.0, "held by --set")
    assert toy().fix({"loss.gamma": 3.0, "optimizer.lr": 0.02}).held() == {"loss.gamma": 3.0, "optimizer.lr": 0.02}


def test_spaces_that_differ_in_their_texts_only_try_the_same() -> None:
    space = toy()
    told = dataclasses.replace(
        space, description="x", parameters=tuple(dataclasses.replace(p, reason="x") for p in space.parameters)
    )
    assert told != space and told.without_texts() == space.without_texts()
    assert toy().fix({"loss.gamma": 3.0}).without_texts() != space.without_texts()
