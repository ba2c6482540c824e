"""What a component's factory says of its hyperparameters: names, types, bounds, defaults, and what is worth searching.

The keyword-only parameters of a factory - a function or a class - *are* its hyperparameters: their names are the
configuration keys (`loss.gamma`), their defaults the configuration's defaults, their annotations the types, and a
`Range` or `Choice` inside `Annotated` the bounds, a `Search` beside it what a space tries of them.
"""

from __future__ import annotations

import dataclasses
import functools
import inspect
import math
import types
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

Scalar = bool | int | float | str

_UNSET = inspect.Parameter.empty
_SCALARS: Mapping[str, type] = {type_.__name__: type_ for type_ in (bool, int, float, str)}


@dataclass(frozen=True)
class Range:
    """Bounds of a number; `None` leaves a side open. `exclusive_low` forbids `low` itself."""

    low: float | None = None
    high: float | None = None
    exclusive_low: bool = False

    def fault(self, value: Scalar) -> str | None:
        """Says why `value` is out of range, or returns None."""
        number = float(value)
        if not math.isfinite(number):
            return "must be finite"
        if self.low is not None and (number < self.low or (self.exclusive_low and number == self.low)):
            return f"must be {'>' if self.exclusive_low else '>='} {self.low:g}"
        if self.high is not None and number > self.high:
            return f"must be <= {self.high:g}"
        return None


@dataclass(frozen=True)
class Choice:
    """The allowed values of a parameter."""

    values: tuple[Scalar, ...]
    prefix: str = ""
    """With what other allowed values begin; empty if there are none."""

    def fault(self, value: Scalar) -> str | None:
        """Says why `value` is not allowed, or returns None."""
        if value in self.values or (self.prefix and str(value).startswith(self.prefix)):
            return None
        return f"must be one of {', '.join(map(str, self.values))}"


@dataclass(frozen=True)
class Search:
    """What of a parameter's bounds is worth searching, for spaces that try every component of a kind.

    Attributes:
        low: Least value of a number; a choice is searched whole.
        high: Greatest value.
        log: Whether on a logarithmic scale.
        when: Another parameter of the same component and its value at which this one has an effect.
        reason: Why this range, in a few words.
    """

    low: float = 0.0
    high: float = 0.0
    log: bool = False
    when: tuple[str, str] | None = None
    reason: str = ""


@dataclass(frozen=True)
class Hyperparameter:
    """One hyperparameter of a component."""

    name: str
    type: type
    default: Scalar | None
    bounds: Range | Choice | None
    search: Search | None = None

    @property
    def required(self) -> bool:
        """Whether the component has no default for it."""
        return self.default is None

    def to_json(self) -> dict[str, Any]:
        """All of it as JSON primitives; `from_json` reads it."""
        return {**dataclasses.asdict(self), "type": self.type.__name__}

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Hyperparameter:
        """The hyperparameter that `to_json` wrote."""
        bounds, search = content["bounds"], content["search"]
        if bounds is not None:
            bounds = (
                Choice(tuple(bounds["values"]), bounds.get("prefix", "")) if "values" in bounds else Range(**bounds)
            )
        if search is not None:
            search = Search(**{**search, "when": search["when"] and tuple(search["when"])})
        return cls(content["name"], _SCALARS[content["type"]], content["default"], bounds, search)

    def parse(self, value: Any) -> Scalar:
        """Converts `value` (possibly text from a command line) to the parameter's type.

        Raises:
            ValueError: If the value cannot be converted or is out of bounds.
        """
        parsed = parse_scalar(value, self.type)
        fault = self.bounds.fault(parsed) if self.bounds else None
        if fault:
            raise ValueError(fault)
        return parsed


def parse_scalar(value: Any, type_: type) -> Scalar:
    """Converts a value to `type_` without losing information ("8" and 8.0 are an int 8; 8.5 is not).

    Raises:
        ValueError: If it cannot be converted.
    """
    if type_ is bool:
        if isinstance(value, bool):
            return value
        if str(value).lower() in ("true", "yes", "on", "1"):
            return True
        if str(value).lower() in ("false", "no", "off", "0"):
            return False
        raise ValueError("must be true or false")
    if type_ is str:
        return str(value)
    if isinstance(value, bool):
        raise ValueError(f"must be a number, not {value}")
    try:
        number = float(value)
    except (TypeError, ValueError):
        raise ValueError(f"must be {'an integer' if type_ is int else 'a number'}") from None
    if type_ is int:
        if not number.is_integer():
            raise ValueError("must be an integer")
        return int(number)
    return number


@functools.cache
def parameters_of(factory: Callable[..., Any]) -> Mapping[str, Hyperparameter]:
    """Reads the keyword-only parameters of a factory, in their order.

    A factory made for a name of a pattern has no signature of its own and lists its parameters in an attribute
    `hyperparameters` instead.
    """
    told: Mapping[str, Hyperparameter] | None = getattr(factory, "hyperparameters", None)
    if told is not None:
        return told
    signature = inspect.signature(factory).parameters.items()
    own = {name: parameter for name, parameter in signature if parameter.kind is inspect.Parameter.KEYWORD_ONLY}
    hints = _hints(factory, own)
    found: dict[str, Hyperparameter] = {}
    for name, parameter in own.items():
        hint, bounds, search = hints[name], None, None
        if typing.get_origin(hint) is typing.Annotated:
            hint, *extras = typing.get_args(hint)
            bounds = next((extra for extra in extras if isinstance(extra, Range | Choice)), None)
            search = next((extra for extra in extras if isinstance(extra, Search)), None)
        default = None if parameter.default is _UNSET else parameter.default
        found[name] = Hyperparameter(name, hint, default, bounds, search)
    return found


def _hints(factory: Callable[..., Any], names: Mapping[str, Any]) -> Mapping[str, Any]:
    """The annotations of some parameters; those of the others may name what is only imported for type checkers."""
    if dataclasses.is_dataclass(factory):
        # It writes its `__init__` in its own module, where the names of its base's annotations are unknown.
        return typing.get_type_hints(factory, include_extras=True)
    function = inspect.unwrap(getattr(factory, "__init__") if isinstance(factory, type) else factory)  # noqa: B009
    told = types.SimpleNamespace(__annotations__={name: function.__annotations__[name] for name in names})
    return typing.get_type_hints(told, globalns=function.__globals__, include_extras=True)
