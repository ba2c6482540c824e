"""Actors of ended trials: every free one is kept, unless trials ask for different resources."""

from __future__ import annotations

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
