"""Processes of trials that have ended are kept for the next ones, as many as there are places.

Of actors that no waiting trial asks for Ray Tune keeps one. Where two trials end before the next one is handed out - at
the end of the search, say - the other process would end, and a new one would load torch again: seconds in which its
place is idle.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from ray.tune.execution import tune_controller

_NAME = "_ObjectCache"
"""What Tune calls its cache of actors, in the module of its controller."""


@contextlib.contextmanager
def actors_are_kept() -> Iterator[None]:
    """In the body Tune keeps every actor that is free, as long as all trials ask for the same resources.

    Where some ask for others, Tune's own rule holds: an actor that is kept also keeps its resources.
    """
    usual: Any = getattr(tune_controller, _NAME, None)
    if usual is None:  # another version of Ray: its own rule holds
        yield
        return

    class Kept(usual):  # type: ignore[misc]
        """Tune's cache of actors, by the resources that they hold."""

        def cache_object(self, key: Any, obj: Any) -> bool:
            """Keeps an actor whose trial has ended; says whether it did."""
            if not self._asks_for_one_kind():
                return bool(super().cache_object(key, obj))
            self._cached_objects[key].append(obj)
            self._num_cached_objects += 1
            return True

        def flush_cached_objects(self, force_all: bool = False) -> Iterator[Any]:
            """Gives up actors that are not to be kept."""
            if force_all or not self._asks_for_one_kind():
                yield from super().flush_cached_objects(force_all)

        def _asks_for_one_kind(self) -> bool:
            return len(self._max_num_objects) == 1  # of every kind that was ever asked for

    setattr(tune_controller, _NAME, Kept)
    try:
        yield
    finally:
        setattr(tune_controller, _NAME, usual)
