"""Named components and the parameters that each of them takes.

A component is a factory - a function or a class - whose keyword-only parameters *are* its hyperparameters: their names
are the configuration keys (`loss.gamma`), their defaults the configuration's defaults, their annotations the types, and
a `Range` or `Choice` inside `Annotated` the bounds, a `Search` beside it what a space tries of them. Adding a component
is therefore one decorated function or class.

A registry may also answer for names that follow a pattern (`cross_entropy+dice`); see `Registry`.
"""

from __future__ import annotations

import dataclasses
import functools
import inspect
import math
import sys
import typing
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from trainables.errors import UnknownNameError

F = TypeVar("F")
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
class Parameter:
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

    A factory made for a name of a pattern has no signature of its own and lists its parameters in an attribute
    `hyperparameters` instead.
    """
    told: Mapping[str, Parameter] | None = getattr(factory, "hyperparameters", None)
    if told is not None:
        return told
    # A dataclass writes its `__init__` in its own module, where the names of its base's annotations are unknown.
    written = isinstance(factory, type) and not dataclasses.is_dataclass(factory)
    hints = typing.get_type_hints(getattr(factory, "__init__") if written else factory, include_extras=True)  # noqa: B009
    found: dict[str, Parameter] = {}
    for name, parameter in inspect.signature(factory).parameters.items():
        if parameter.kind is not inspect.Parameter.KEYWORD_ONLY:
            continue
        hint, bounds, search = hints[name], None, None
        if typing.get_origin(hint) is typing.Annotated:
            hint, *extras = typing.get_args(hint)
            bounds = next((extra for extra in extras if isinstance(extra, Range | Choice)), None)
            search = next((extra for extra in extras if isinstance(extra, Search)), None)
        default = None if parameter.default is _UNSET else parameter.default
        found[name] = Parameter(name, hint, default, bounds, search)
    return found


_TABLES: list[dict[Any, Any]] = []
_REGISTRIES: list[Registry[Any]] = []

K = TypeVar("K")
V = TypeVar("V")


def table(content: dict[K, V] | None = None) -> dict[K, V]:
    """A dictionary that is filled by registering; `snapshot` can take back what was added to it."""
    made: dict[K, V] = {} if content is None else content
    _TABLES.append(made)
    return made


def snapshot() -> Callable[[], None]:
    """Remembers what every registry and `table` holds, and returns a function that takes later additions back."""
    before = [(filled, dict(filled)) for filled in _TABLES]

    def restore() -> None:
        for filled, content in before:
            filled.clear()
            filled.update(content)

    return restore


def registered() -> set[tuple[str, str]]:
    """The kind and the name of everything that is registered."""
    return {(registry.kind, name) for registry in _REGISTRIES for name in registry.names()}


def _place() -> str:
    """The file and line of the module that is registering something."""
    frame = sys._getframe(2)
    caller = frame
    while frame.f_code.co_name != "<module>" and frame.f_back is not None:
        frame = frame.f_back
    if frame.f_back is None:  # not at the top level of a module that is being imported
        frame = caller
    return f"{frame.f_code.co_filename}:{frame.f_lineno}"


class Registry(Generic[F]):
    """Named factories of one kind.

    Args:
        kind: What they make, for messages.
        resolve: Makes a factory for a name that is not registered but follows a pattern; None if it does not.
        pattern: How such names look, for messages; a function where that depends on what is registered elsewhere.
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
        self,
        kind: str,
        *,
        resolve: Callable[[str], F | None] | None = None,
        pattern: str | Callable[[], str] = "",
        example: str = "",
    ) -> None:
        self.kind = kind
        self.example = example
        self._pattern = pattern
        self._resolver = resolve
        self._entries: dict[str, F] = table()
        self._names: dict[Any, str] = table()
        self._places: dict[str, str] = table()
        self._resolved: dict[str, F] = table()
        _REGISTRIES.append(self)

    @property
    def pattern(self) -> str:
        """How names look that are not registered but known; empty where there are none."""
        return self._pattern if isinstance(self._pattern, str) else self._pattern()

    def register(self, name: str) -> Callable[[F], F]:
        """Registers a factory under `name`.

        Raises:
            ValueError: If the name is taken; says where both stand.
        """

        def decorate(factory: F) -> F:
            place = _place()
            if name in self._entries:
                raise ValueError(
                    f"{self.kind} {name!r} is registered twice, in {self._places[name]} and in {place}: choose another "
                    "name"
                )
            self._entries[name] = factory
            self._names[factory] = name
            self._places[name] = place
            return factory

        return decorate

    def get(self, name: str) -> F:
        """Returns the factory called `name`.

        Raises:
            UnknownNameError: If there is none; lists the close names.
        """
        factory = self._find(name)
        if factory is None:
            raise UnknownNameError(self.kind, name, self._entries, pattern=self.pattern)
        return factory

    def _find(self, name: str) -> F | None:
        if name in self._entries:
            return self._entries[name]
        if name not in self._resolved and self._resolver is not None:
            found = self._resolver(name)
            if found is not None:  # what is unknown now may be registered later
                self._resolved[name] = found
        return self._resolved.get(name)

    def parameters(self, name: str) -> Mapping[str, Parameter]:
        """The hyperparameters of the component called `name`."""
        return parameters_of(typing.cast("Callable[..., Any]", self.get(name)))

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
        return isinstance(name, str) and self._find(name) is not None

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)
