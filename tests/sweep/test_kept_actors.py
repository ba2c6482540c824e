"""Actors of ended trials: every free one is kept, unless trials ask for different resources."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from ray.tune.execution import tune_controller

from sweep.kept_actors import actors_are_kept


def test_free_actors_are_kept_until_trials_ask_for_other_resources() -> None:
    usual = tune_controller._ObjectCache
    with actors_are_kept():
        cache = tune_controller._ObjectCache(may_keep_one=True)
    assert tune_controller._ObjectCache is usual
    for _ in range(2):  # two trials wait for an actor, and have got one
        cache.increase_max("one CPU")
        cache.decrease_max("one CPU")
    assert [cache.cache_object("one CPU", name) for name in ("a", "b")] == [True, True]
    assert list(cache.flush_cached_objects()) == []
    assert cache.pop_cached_object("one CPU") == "a"
    assert cache.cache_object("one CPU", "a")
    cache.increase_max("a GPU")  # which the two may hold
    assert list(cache.flush_cached_objects()) == ["b", "a"]
    assert not cache.has_cached_object("one CPU")
    cache.decrease_max("a GPU")
    assert [cache.cache_object("one CPU", name) for name in ("a", "b")] == [True, False], "Tune's own rule"
    assert list(cache.flush_cached_objects(force_all=True)) == ["a"]


@pytest.mark.parametrize(
    ("own", "resetting", "finished", "asked"),
    [
        ("starting", False, False, False),  # another one is not taken, which would end it
        ("starting", False, True, True),  # no further trial would take the free one
        ("without resources", False, False, True),  # the free one may hold what it waits for
        (None, False, False, True),
        ("starting", True, False, True),  # it has got a free one, and waits for it
    ],
)
def test_trial_whose_actor_starts_leaves_a_free_one_to_the_next_trial(
    monkeypatch: pytest.MonkeyPatch, own: str | None, resetting: bool, finished: bool, asked: bool
) -> None:
    trial, seen = object(), list[Any]()

    def usual(self: Any, trial: Any) -> bool:
        seen.append(trial)
        return True

    monkeypatch.setattr(tune_controller.TuneController, "_maybe_reuse_cached_actor", usual)
    controller = SimpleNamespace(
        _trial_to_actor={trial: own} if own else {},
        _actor_manager=SimpleNamespace(is_actor_started=lambda actor: actor == "starting"),
        _resetting_trials={trial} if resetting else set(),
        _search_alg=SimpleNamespace(is_finished=lambda: finished),
    )
    with actors_are_kept():
        assert tune_controller.TuneController._maybe_reuse_cached_actor(controller, trial) is asked
    assert seen == [trial] * asked
    assert tune_controller.TuneController._maybe_reuse_cached_actor is usual
