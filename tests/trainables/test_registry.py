"""Registries: names, hyperparameters read from signatures, values converted without loss."""

from __future__ import annotations

from typing import Annotated, Any

import pytest

from trainables.errors import UnknownNameError
from trainables.registry import Choice, Range, Registry, parse_scalar


@pytest.fixture
def shapes() -> Registry[Any]:
    registry: Registry[Any] = Registry("shape")

    @registry.register("square")
    def square(
        corner: int,
        *,
        side: Annotated[float, Range(0, 10, exclusive_low=True)] = 1.0,
        colour: Annotated[str, Choice(("red", "blue"))] = "red",
        filled: bool = False,
        layers: Annotated[int, Range(1)],
    ) -> tuple[object, ...]:
        return corner, side, colour, filled, layers

    return registry


def test_second_registration_of_a_name_is_refused_and_keeps_the_first(shapes: Registry[Any]) -> None:
    first = shapes.get("square")
    with pytest.raises(ValueError, match="'square' is registered twice"):
        shapes.register("square")(lambda: None)
    assert shapes.get("square") is first


def test_unknown_name_lists_the_close_ones_and_all_where_none_is_close(shapes: Registry[Any]) -> None:
    with pytest.raises(UnknownNameError, match=r"unknown shape 'sqare'; did you mean square\?") as close:
        shapes.get("sqare")
    assert close.value.exit_code == 2
    with pytest.raises(UnknownNameError, match="known: square"):
        shapes.get("xyz")


def test_hyperparameters_are_the_keyword_only_parameters_with_type_default_and_bounds(shapes: Registry[Any]) -> None:
    found = shapes.parameters("square")
    assert [(p.name, p.type, p.default, p.required) for p in found.values()] == [
        ("side", float, 1.0, False),
        ("colour", str, "red", False),
        ("filled", bool, False, False),
        ("layers", int, None, True),
    ]
    assert found["side"].bounds == Range(0, 10, exclusive_low=True)
    assert found["colour"].bounds == Choice(("red", "blue"))


@pytest.mark.parametrize(
    ("key", "value", "fault"),
    [
        ("side", 0, "must be > 0"),
        ("side", 10.5, "must be <= 10"),
        ("side", "nan", "must be finite"),
        ("side", "inf", "must be finite"),
        ("side", "wide", "must be a number"),
        ("side", True, "must be a number"),
        ("layers", 0, "must be >= 1"),
        ("layers", 2.5, "must be an integer"),
        ("colour", "green", "must be one of red, blue"),
        ("filled", "maybe", "must be true or false"),
    ],
)
def test_values_out_of_bounds_or_of_another_type_are_told(
    shapes: Registry[Any], key: str, value: object, fault: str
) -> None:
    with pytest.raises(ValueError, match=fault):
        shapes.parameters("square")[key].parse(value)


@pytest.mark.parametrize(
    ("value", "type_", "expected"),
    [("8", int, 8), (8.0, int, 8), ("8e0", int, 8), ("0.5", float, 0.5), (3, float, 3.0), ("off", bool, False),
     ("True", bool, True), (1, bool, True), (5, str, "5")],
)  # fmt: skip
def test_text_and_numbers_become_the_type_asked_for(value: object, type_: type, expected: object) -> None:
    parsed = parse_scalar(value, type_)
    assert parsed == expected
    assert type(parsed) is type_


def test_names_keep_the_order_of_registration(shapes: Registry[Any]) -> None:
    shapes.register("circle")(lambda: None)
    assert shapes.names() == list(shapes) == ["square", "circle"]
    assert "circle" in shapes
    assert "oval" not in shapes
