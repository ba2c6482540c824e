"""Flat mappings of which a sweep keeps thousands: their keys are in memory once, and values that repeat, too."""

from __future__ import annotations

import sys
from array import array
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

_PLACES: dict[tuple[str, ...], dict[str, int]] = {}
"""Of each combination of keys that occurs the place of every key; of thousands of records few differ in them."""


class Record(Mapping[str, Any]):
    """A mapping that does not change and shares its keys with others: as small as its values, without their names.

    Args:
        places: Of each key among the values, in the order of the keys.
        values: As many.
    """

    __slots__ = ("_places", "_values")

    def __init__(self, places: Mapping[str, int], values: Sequence[Any]) -> None:
        self._places = places
        self._values = values

    @classmethod
    def of(cls, mapping: Mapping[str, Any]) -> Record:
        """The same keys, in the same order, and values."""
        keys = tuple(mapping)
        places = _PLACES.get(keys)
        if places is None:
            places = _PLACES[keys] = {key: place for place, key in enumerate(keys)}
        values = tuple(mapping.values())
        of_numbers = all(type(value) is float for value in values)
        return cls(places, array("d", values) if of_numbers else values)

    def __getitem__(self, key: str) -> Any:
        return self._values[self._places[key]]

    def __iter__(self) -> Iterator[str]:
        return iter(self._places)

    def __len__(self) -> int:
        return len(self._places)

    def __repr__(self) -> str:
        return repr(dict(self))


class Records:
    """Makes records of which most values are the same: they are in memory once, and so are all texts."""

    def __init__(self) -> None:
        self._last: dict[str, Any] = {}

    def of(self, mapping: Mapping[str, Any]) -> Record:
        """A record; a value that its key had in the last one is the same object."""
        return Record.of({key: self._value(key, value) for key, value in mapping.items()})

    def _value(self, key: str, value: Any) -> Any:
        if isinstance(value, str):
            return sys.intern(value)
        last = self._last.get(key)
        if type(last) is type(value) and repr(last) == repr(value):  # 0.0 equals -0.0, but is another number
            return last
        self._last[key] = value
        return value
