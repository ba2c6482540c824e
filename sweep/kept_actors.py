"""Processes of trials that have ended are kept for the next ones, as many as there are places.

Of actors that no waiting trial asks for Ray Tune keeps one. Where two trials end before the next one is handed out - at
the end of the search, say - the other process would end, and a new one would load torch again: seconds in which its
place is idle.

And a trial whose process is still starting keeps it. Tune would give the trial one that has become free and end the one
that starts: where trials are shorter than a start, most places would never have a process. The free one takes the next
trial.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from ray.tune.execution import tune_controller

_NAME = "_ObjectCache"
"""What Tune calls its cache of actors, in the module of its controller."""
_REUSE = "_maybe_reuse_cached_actor"
"""What it calls the method by which a trial gets one of them."""


@contextlib.contextmanager
def actors_are_kept() -> Iterator[None]:
    """In the body Tune keeps every actor that is free, as long as all trials ask for the same resources.

    Where some ask for others, Tune's own rule holds: an actor that is kept also keeps its resources. Those that are
    still starting are kept, too, as long as there are further trials for the free ones.
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

    with _replaced(tune_controller, _NAME, Kept), _starting_actors_are_kept():
        yield


@contextlib.contextmanager
def _starting_actors_are_kept() -> Iterator[None]:
    controller: Any = tune_controller.TuneController
    usual: Any = getattr(controller, _REUSE, None)
    if usual is None:
        yield
        return

    def reuse(self: Any, trial: Any) -> bool:
        """Gives a trial a free actor, unless its own has its resources and starts; says whether it has one."""
        own = self._trial_to_actor.get(trial) if trial not in self._resetting_trials else None
        starts = own is not None and self._actor_manager.is_actor_started(own)
        return not (starts and not self._search_alg.is_finished()) and bool(usual(self, trial))

    with _replaced(controller, _REUSE, reuse):
        yield


@contextlib.contextmanager
def _replaced(owner: Any, name: str, value: Any) -> Iterator[None]:
    """In the body an attribute has another value."""
    usual = getattr(owner, name)
    setattr(owner, name, value)
    try:
        yield
    finally:
        setattr(owner, name, usual)
