"""Named components: adding one is a decorated function or class, whose keyword-only parameters are its hyperparameters.

A registry may also answer for names that follow a pattern (`cross_entropy+dice`), and it may know the names and
hyperparameters of components whose modules are not loaded; see `Registry`.
"""

from __future__ import annotations

import importlib
import sys
import typing
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import FrameType
from typing import Any, Generic, TypeVar

from trainables.errors import UnknownNameError
from trainables.hyperparameters import Choice, Hyperparameter, Range, Scalar, Search, parameters_of, parse_scalar
from trainables.remembered import memory

__all__ = [
    "Choice",
    "Hyperparameter",
    "Range",
    "Registry",
    "Scalar",
    "Search",
    "parameters_of",
    "parse_scalar",
    "registered",
    "snapshot",
    "table",
]

F = TypeVar("F")

_TABLES: list[dict[Any, Any]] = []
_REGISTRIES: list[Registry[Any]] = []

K = TypeVar("K")
V = TypeVar("V")


def table(content: dict[K, V] | None = None) -> dict[K, V]:
    """A dictionary that is filled by registering; `snapshot` can take back what was added to it."""
    made: dict[K, V] = {} if content is None else content
    _TABLES.append(made)
    return made


_ADDED: dict[str, bool] = table()
"""Has an entry for each place outside of a registry's own modules from which something was registered there."""


def snapshot() -> Callable[[], None]:
    """Remembers what every registry and `table` holds, and returns a function that takes later additions back."""
    for registry in _REGISTRIES:
        registry.load()
    before = [(filled, dict(filled)) for filled in _TABLES]

    def restore() -> None:
        for filled, content in before:
            filled.clear()
            filled.update(content)

    return restore


def registered() -> set[tuple[str, str]]:
    """The kind and the name of everything that is registered."""
    return {(registry.kind, name) for registry in _REGISTRIES for name in registry.names()}


def _place() -> FrameType:
    """The frame of the module that is registering something."""
    frame = sys._getframe(2)
    caller = frame
    while frame.f_code.co_name != "<module>" and frame.f_back is not None:
        frame = frame.f_back
    if frame.f_back is None:  # not at the top level of a module that is being imported
        frame = caller
    return frame


class Registry(Generic[F]):
    """Named factories of one kind.

    Where they stand in modules that take long to load, the registry stands elsewhere and names them. They are loaded
    when a factory is asked for. Names and hyperparameters do not need them: once known they are remembered, also for
    other processes (`trainables.remembered`), as long as nothing was registered from elsewhere.

    Args:
        kind: What they make, for messages.
        modules: Full names of the modules that register factories here, in the order of their names; empty where the
            registry stands in the same module.
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
        modules: Sequence[str] = (),
        resolve: Callable[[str], F | None] | None = None,
        pattern: str | Callable[[], str] = "",
        example: str = "",
    ) -> None:
        self.kind = kind
        self.example = example
        self._modules = tuple(modules)
        self._loaded = not modules
        self._pattern = pattern
        self._resolver = resolve
        self._entries: dict[str, F] = table()
        self._names: dict[Any, str] = table()
        self._places: dict[str, str] = table()
        self._ranks: dict[str, int] = table()
        self._resolved: dict[str, F] = table()
        self._noted: set[str] = set()
        self._told: dict[str, Mapping[str, Hyperparameter]] = {}
        _REGISTRIES.append(self)

    def load(self) -> None:
        """Loads the modules that register here, once."""
        if not self._loaded:
            self._loaded = True  # they ask this registry themselves
            try:
                for module in self._modules:
                    importlib.import_module(module)
            except BaseException:
                self._loaded = False
                raise

    def recall(self, fact: str, find_out: Callable[[], Any]) -> Any:
        """A fact about what is registered; it is remembered as long as nothing is registered from elsewhere.

        Args:
            fact: Its name.
            find_out: Returns JSON primitives, lists and dicts; called with the modules loaded.
        """
        if not self._modules:
            return find_out()

        def loaded() -> Any:
            self.load()
            return find_out()

        fact = f"{self.kind}: {fact}"
        if not self._loaded and not _ADDED:
            return memory().recall(fact, loaded)
        found = loaded()
        if not _ADDED and fact not in self._noted:
            self._noted.add(fact)
            memory().note(fact, found)
        return found

    @property
    def pattern(self) -> str:
        """How names look that are not registered but known; empty where there are none."""
        pattern = self._pattern
        return pattern if isinstance(pattern, str) else str(self.recall("pattern", pattern))

    def resolver(self, resolve: Callable[[str], F | None]) -> Callable[[str], F | None]:
        """Sets what `resolve` does, where that can only be written beside the factories."""
        self._resolver = resolve
        return resolve

    def register(self, name: str) -> Callable[[F], F]:
        """Registers a factory under `name`.

        Raises:
            ValueError: If the name is taken; says where both stand.
        """

        def decorate(factory: F) -> F:
            frame = _place()
            place = f"{frame.f_code.co_filename}:{frame.f_lineno}"
            module = frame.f_globals.get("__name__")
            if module in self._modules:
                self._ranks[name] = self._modules.index(module)
            elif self._modules:
                self.load()
                _ADDED[place] = True
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
            raise UnknownNameError(self.kind, name, self.names(), pattern=self.pattern)
        return factory

    def check(self, name: str) -> None:
        """Makes sure that there is a factory called `name`, without loading it.

        Raises:
            UnknownNameError: If there is none; lists the close names.
        """
        if name not in self:
            raise UnknownNameError(self.kind, name, self.names(), pattern=self.pattern)

    def _find(self, name: str) -> F | None:
        self.load()
        if name in self._entries:
            return self._entries[name]
        if name not in self._resolved and self._resolver is not None:
            found = self._resolver(name)
            if found is not None:  # what is unknown now may be registered later
                self._resolved[name] = found
        return self._resolved.get(name)

    def parameters(self, name: str) -> Mapping[str, Hyperparameter]:
        """The hyperparameters of the component called `name`.

        Raises:
            UnknownNameError: If there is none; lists the close names.
        """

        def read() -> Mapping[str, Hyperparameter]:
            return parameters_of(typing.cast("Callable[..., Any]", self.get(name)))

        if not self._modules or _ADDED:
            return read()
        if name not in self._told:
            told = self.recall(f"parameters of {name}", lambda: [one.to_json() for one in read().values()])
            self._told[name] = {one["name"]: Hyperparameter.from_json(one) for one in told}
        return self._told[name]

    def fact(self, name: str, attribute: str, default: Scalar) -> Scalar:
        """What the component called `name` says of itself in an attribute of its factory.

        Raises:
            UnknownNameError: If there is no such component; lists the close names.
        """

        def read() -> Scalar:
            return typing.cast("Scalar", getattr(self.get(name), attribute, default))

        return typing.cast("Scalar", self.recall(f"{attribute} of {name}", read))

    def name_of(self, built: object) -> str:
        """The name under which the class of an object was registered; objects of a pattern tell it as `name`.

        Raises:
            KeyError: If the object is of no registered class.
        """
        self.load()
        return str(getattr(built, "name", None) or self._names[type(built)])

    def all_parameters(self) -> dict[str, Hyperparameter]:
        """The hyperparameters of all components by their names; one that several share is that of the first."""
        found: dict[str, Hyperparameter] = {}
        for name in [*self.names(), *([self.example] if self.example else [])]:
            for key, parameter in self.parameters(name).items():
                found.setdefault(key, parameter)
        return found

    def names(self) -> list[str]:
        """All registered names, in the order of the registry's modules and of registration."""

        def sort() -> list[str]:
            return sorted(self._entries, key=lambda name: self._ranks.get(name, len(self._modules)))

        return list(self.recall("names", sort))

    def __contains__(self, name: object) -> bool:
        if not isinstance(name, str):
            return False
        return name in self.names() or bool(self.recall(f"has {name}", lambda: self._find(name) is not None))

    def __iter__(self) -> Iterator[str]:
        return iter(self.names())
