"""The augmentation space, and what a sweep over a space can reach."""

from __future__ import annotations

from typing import Any

import pytest

from search_spaces import SPACES, SearchSpace
from search_spaces.augment import LEAST, MOST, START, families, family_point, policy_parameters, reachable
from search_spaces.core.parameter import choice, number
from trainables.augmentations import MAGNITUDES, TRANSFORMS, PolicySpec, family_transforms

MODELS = ["lraspp_mobilenet_v3_large"]


def augment(**held: Any) -> SearchSpace:
    space: SearchSpace = SPACES.get("augment")(MODELS, "none")
    return space.fix({f"augment.{key.replace('__', '.')}": value for key, value in held.items()})


def test_space_has_every_transformation_and_only_what_a_family_allows() -> None:
    by_key = {parameter.key: parameter for parameter in policy_parameters()}
    assert set(by_key) == {
        "augment.policy",
        *(f"augment.{name}.p" for name in TRANSFORMS),
        *(f"augment.{name}.magnitude" for name in MAGNITUDES),
    }
    for name in TRANSFORMS:
        (allowed,) = by_key[f"augment.{name}.p"].when
        assert allowed.values == tuple(family for family in families() if name in family_transforms(family))
    assert by_key["augment.rotate.magnitude"].reason == "angle ±3° to ±27°"


def test_magnitudes_leave_out_what_cannot_be_seen_and_room_to_widen() -> None:
    for parameter in policy_parameters():
        if parameter.key.endswith(".magnitude"):
            assert (parameter.low, parameter.high) == (LEAST, MOST) == (0.1, 0.9)


@pytest.mark.parametrize("family", families())
def test_every_family_has_a_point_at_its_defaults(family: str) -> None:
    point = {key.removeprefix("augment."): value for key, value in family_point(family).items()}
    spec = PolicySpec.from_flat(point)
    assert [item.name for item in spec.transforms] == list(family_transforms(family)), "no default rounds to off"
    for item in spec.transforms:
        assert item.p * 4 == int(item.p * 4)
        assert abs(item.p - family_transforms(family)[item.name]) <= 0.125
        if item.magnitude is not None:
            assert item.magnitude == min(MAGNITUDES[item.name].default, MOST)


def test_start_begins_without_augmentation() -> None:
    space = augment()
    assert [point["augment.policy"] for point in space.start] == list(START)
    assert space.start[0] == {"optimizer.lr": 3e-3, "augment.policy": "none"}


def names(space: SearchSpace) -> list[str]:
    specs = reachable(space)
    assert all(len(spec.transforms) == 1 for spec in specs)
    return [spec.transforms[0].name for spec in specs]


def test_reachable_is_each_transformation_always_on_at_full_magnitude() -> None:
    assert sorted(names(augment())) == sorted(TRANSFORMS)
    for spec in reachable(augment()):
        (item,) = spec.transforms
        assert item.p == 1.0
        assert item.magnitude == (1.0 if item.name in MAGNITUDES else None)


def test_what_is_held_off_or_in_no_family_is_not_reachable() -> None:
    assert names(augment(policy="mix", classmix__p=0.0)) == ["hflip", "cutmix"]
    assert names(augment(policy="none")) == []
    assert "rotate" not in names(augment(rotate__p=0.0))
    assert "rotate" in names(augment(rotate__p=0.25))


@pytest.mark.parametrize("name", ["lr", "loss"])
def test_space_without_augmentation_reaches_nothing_unless_a_policy_is_set(name: str) -> None:
    space: SearchSpace = SPACES.get(name)(MODELS, "none")
    assert reachable(space) == ()
    assert names(space.fix({"augment.policy": "flip"})) == ["hflip"]
    assert names(space.fix({"augment.policy": "free", "augment.blur.p": 0.5})) == ["blur"]


def test_own_space_reaches_what_its_ranges_allow() -> None:
    space = SearchSpace(
        name="own",
        description="?",
        label_by="augment.rotate.p",
        parameters=(
            choice("augment.rotate.p", (0.0, 0.5)),
            number("augment.shift.p", 0.0, 1.0),
            choice("augment.hflip.p", (0.0,)),
        ),
        fixed={"augment.policy": "geometric", "augment.scale_crop.p": 0.0},
    )
    assert names(space) == ["rotate", "shift"]
