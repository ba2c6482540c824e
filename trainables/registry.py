"""Named components and the parameters that each of them takes.

A component is a factory - a function or a class - whose keyword-only parameters *are* its hyperparameters: their names
are the configuration keys (`loss.gamma`), their defaults the configuration's defaults, their annotations the types, and
a `Range` or `Choice` inside `Annotated` the bounds. Adding a component is therefore one decorated function or class.

A registry may also answer for names that follow a pattern (`cross_entropy+dice`); see `Registry`.
"""

from __future__ import annotations

import functools
import inspect
import math
import typing
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from trainables.errors import UnknownNameError

F = TypeVar("F", bound=Callable[..., Any])
Scalar = bool | int | float | str

_UNSET = inspect.Parameter.empty


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
    """The allowed values of a string parameter."""

    values: tuple[str, ...]

    def fault(self, value: Scalar) -> str | None:
        """Says why `value` is not allowed, or returns None."""
        return None if value in self.values else f"must be one of {', '.join(self.values)}"


@dataclass(frozen=True)
class Parameter:
    """One hyperparameter of a component."""

    name: str
    type: type
    default: Scalar | None
    bounds: Range | Choice | None

    @property
    def required(self) -> bool:
        """Whether the component has no default for it."""
        return self.default is None

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
def parameters_of(factory: Callable[..., Any]) -> Mapping[str, Parameter]:
    """Reads the keyword-only parameters of a factory, in their order.

    A factory made for a name of a pattern has no signature of its own and says its parameters in an attribute
    `hyperparameters` instead.
    """
    told: Mapping[str, Parameter] | None = getattr(factory, "hyperparameters", None)
    if told is not None:
        return told
    signed: Any = vars(factory)["__init__"] if isinstance(factory, type) else factory
    hints = typing.get_type_hints(signed, include_extras=True)
    found: dict[str, Parameter] = {}
    for name, parameter in inspect.signature(factory).parameters.items():
        if parameter.kind is not inspect.Parameter.KEYWORD_ONLY:
            continue
        hint, bounds = hints[name], None
        if typing.get_origin(hint) is typing.Annotated:
            hint, *extras = typing.get_args(hint)
            bounds = next((extra for extra in extras if isinstance(extra, Range | Choice)), None)
        default = None if parameter.default is _UNSET else parameter.default
        found[name] = Parameter(name, hint, default, bounds)
    return found


class Registry(Generic[F]):
    """Named factories of one kind.

    Args:
        kind: What they make, for messages.
        resolve: Makes a factory for a name that is not registered but follows a pattern; None if it does not.
        pattern: How such names look, for messages.
        example: A name of the pattern, which stands for all of them where parameters are listed.

    Example:
        >>> SHAPES: Registry = Registry("shape")
        >>> @SHAPES.register("square")
        ... def square(*, side: float = 1.0) -> float:
        ...     return side * side
        >>> SHAPES.get("square")(side=3.0)
        9.0
    """

    def __init__(
        self, kind: str, *, resolve: Callable[[str], F | None] | None = None, pattern: str = "", example: str = ""
    ) -> None:
        self.kind = kind
        self.pattern = pattern
        self.example = example
        self._resolve = functools.cache(resolve) if resolve else lambda name: None
        self._entries: dict[str, F] = {}
        self._names: dict[Any, str] = {}

    def register(self, name: str) -> Callable[[F], F]:
        """Registers a factory under `name`.

        Raises:
            ValueError: If the name is taken.
        """

        def decorate(factory: F) -> F:
            if name in self._entries:
                raise ValueError(f"{self.kind} {name!r} is registered twice: choose another name")
            self._entries[name] = factory
            self._names[factory] = name
            return factory

        return decorate

    def get(self, name: str) -> F:
        """Returns the factory called `name`.

        Raises:
            UnknownNameError: If there is none; lists the close names.
        """
        factory = self._entries.get(name) or self._resolve(name)
        if factory is None:
            raise UnknownNameError(self.kind, name, self._entries, pattern=self.pattern)
        return factory

    def parameters(self, name: str) -> Mapping[str, Parameter]:
        """The hyperparameters of the component called `name`."""
        return parameters_of(self.get(name))

    def name_of(self, built: object) -> str:
        """The name under which the class of an object was registered; objects of a pattern tell it as `name`.

        Raises:
            KeyError: If the object is of no registered class.
        """
        return str(getattr(built, "name", None) or self._names[type(built)])

    def all_parameters(self) -> dict[str, Parameter]:
        """The hyperparameters of all components by their names; one that several share is that of the first."""
        found: dict[str, Parameter] = {}
        for name in [*self._entries, *([self.example] if self.example else [])]:
            for key, parameter in self.parameters(name).items():
                found.setdefault(key, parameter)
        return found

    def names(self) -> list[str]:
        """All registered names, in the order of registration."""
        return list(self._entries)

    def __contains__(self, name: object) -> bool:
        return name in self._entries or (isinstance(name, str) and self._resolve(name) is not None)

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)
