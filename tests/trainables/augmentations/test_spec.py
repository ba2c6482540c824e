"""Policies and magnitudes as data."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trainables.augmentations import MAGNITUDES, POLICIES, TRANSFORMS, PolicySpec, TransformSpec, family_transforms
from trainables.errors import ConfigError


@pytest.mark.parametrize("name", MAGNITUDES)
def test_magnitudes_come_back_from_their_limits(name: str) -> None:
    table = MAGNITUDES[name]
    assert name in TRANSFORMS
    assert table.limit(0) == table.at_zero and table.limit(1) == table.at_one
    assert 0 < table.default <= 1
    for magnitude in (0.0, 0.1, table.default, 0.77, 1.0):
        step = 0.5 / abs(table.at_one - table.at_zero) if table.whole else 1e-9
        assert table.of_limit(table.limit(magnitude)) == pytest.approx(magnitude, abs=step)


def test_defaults_are_what_they_were_in_native_units() -> None:
    expected = {"scale_crop": 1.5, "rotate": 10, "shift": 0.1, "brightness": 0.3, "contrast": 0.3, "saturation": 0.3,
                "gamma": 1.3, "blur": 1.0, "noise": 0.05, "jpeg": 40, "dropout": 0.25}  # fmt: skip
    assert {n: MAGNITUDES[n].limit(MAGNITUDES[n].default) for n in expected} == pytest.approx(expected, rel=0.03)


def test_geometric_scale_multiplies() -> None:
    zoom = MAGNITUDES["scale_crop"]
    assert zoom.limit(0.5) == pytest.approx(3**0.5)
    assert zoom.limit(0.5) / zoom.limit(0.25) == pytest.approx(zoom.limit(1.0) / zoom.limit(0.75))


def test_family_defaults_fill_what_is_not_said() -> None:
    spec = PolicySpec.from_flat({"policy": "geometric", "rotate.p": "0.25", "rotate.magnitude": "0.5", "shift.p": 0})
    assert [item.name for item in spec.transforms] == ["scale_crop", "hflip", "rotate"]
    assert spec.transforms[2] == TransformSpec("rotate", 0.25, 0.5)
    assert spec.transforms[1].p == family_transforms("geometric")["hflip"]
    assert spec.flat()["shift.p"] == 0.0 and "shift.magnitude" not in spec.flat()
    assert spec.describe() == (
        "geometric: scale_crop p=0.80 m=0.37 (≤1.50×) · hflip p=0.50 · rotate p=0.25 m=0.50 (±15°)"
    )


def test_all_faults_of_a_policy_are_told_together() -> None:
    flat = {
        "policy": "geometric",
        "rotate.magnitud": 0.5,
        "rotate.limit": 20,
        "rotate.p": 1.5,
        "scale_crop.magnitude": 1.01,
        "hue.magnitude": 0.1,
        "shift.p": 0,
        "shift.magnitude": 0.1,
        "hflip.magnitude": 0.3,
    }
    with pytest.raises(ConfigError) as caught:
        PolicySpec.from_flat(flat)
    message = str(caught.value)
    assert len(message.splitlines()) == 7
    for said in (
        "augment.rotate.magnitud: unknown; did you mean augment.rotate.magnitude",
        "augment.rotate.limit: unknown; did you mean augment.rotate.",
        "augment.rotate.p: must be <= 1",
        "augment.scale_crop.magnitude: must be <= 1, not 1.01",
        "augment.hue.magnitude: hue is not in policy 'geometric'",
        "augment.shift.magnitude: shift is off",
        "augment.hflip.magnitude: unknown",
    ):
        assert said in message


@pytest.mark.parametrize(
    ("family", "said"), [("geometrc", "did you mean geometric"), ("qq", "known: all, blur_noise, erasing")]
)
def test_unknown_policy_is_told_with_the_close_names(family: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        PolicySpec.from_flat({"policy": family})
    with pytest.raises(ConfigError, match=said):
        PolicySpec.from_list([], family=family)


def test_list_turns_on_what_it_names_and_nothing_else() -> None:
    items = [{"transform": "rotate", "p": 0.5, "magnitude": 0.6}, {"transform": "hflip", "p": "0.5"}]
    spec = PolicySpec.from_list(items, family="geometric")
    assert spec.transforms == (TransformSpec("hflip", 0.5), TransformSpec("rotate", 0.5, 0.6))
    assert spec.to_list() == [
        {"transform": "hflip", "p": 0.5},
        {"transform": "rotate", "p": 0.5, "magnitude": 0.6},
    ]
    assert PolicySpec.from_list([{"transform": "blur", "p": 1}]).transforms[0].magnitude == MAGNITUDES["blur"].default


def test_all_faults_of_a_list_are_told_together() -> None:
    items: list[dict[str, Any]] = [
        {"transform": "rotate", "p": 0.5, "magnitude": 2},
        {"transform": "rotate", "p": 0.5},
        {"transform": "rotat", "p": 0.5},
        {"p": 0.5},
        {"transform": "hflip", "p": 0.5, "angle": 3},
    ]
    with pytest.raises(ConfigError) as caught:
        PolicySpec.from_list(items)
    message = str(caught.value)
    for said in (
        "augment.rotate.magnitude: must be <= 1, not 2",
        "augment.rotate: twice in the list",
        "augment.rotat.p: unknown; did you mean augment.rotate.p",
        "transformation 3: needs 'transform' and 'p', has p",
        "augment.hflip.angle: unknown",
    ):
        assert said in message


@st.composite
def flat_policies(draw: st.DrawFn) -> dict[str, Any]:
    family = draw(st.sampled_from(POLICIES.names()))
    flat: dict[str, Any] = {"policy": family}
    for name, default in family_transforms(family).items():
        p = draw(st.none() | st.just(0.0) | st.floats(0.001, 1.0))
        if p is not None:
            flat[f"{name}.p"] = p
        if (default if p is None else p) and name in MAGNITUDES and draw(st.booleans()):
            flat[f"{name}.magnitude"] = draw(st.floats(0.0, 1.0))
    return flat


@settings(max_examples=60, deadline=None, derandomize=True)
@given(flat_policies())
def test_any_policy_survives_being_written_and_read(flat: dict[str, Any]) -> None:
    spec = PolicySpec.from_flat(flat)
    assert PolicySpec.from_flat(json.loads(json.dumps(spec.flat()))) == spec
    assert PolicySpec.from_list(json.loads(json.dumps(spec.to_list())), family=spec.family) == spec
    assert spec.flat().items() >= flat.items()
    assert "\n" not in spec.describe()
