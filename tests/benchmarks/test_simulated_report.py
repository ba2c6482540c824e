"""Sweeps of equals through the report's own rules: what they say, and that a true gain would be seen."""

from __future__ import annotations

import numpy as np

from benchmarks.simulated_report import Design, Sweep, play, said

SMALL = Design(tried=6, picked=2, seeds=3, images=50, labels=3)


def test_one_seed_each_never_calls_a_configuration_better() -> None:
    told = [play(Design(tried=6, picked=0, images=50, labels=3), seed) for seed in range(12)]
    assert {where for one in told for where in one} == {"val, one seed each", "test, one seed each"}
    assert not any(one.better for each in told for one in each.values())
    assert not any(each["val, one seed each"].checkpoints for each in told)


def test_equals_with_fresh_seeds_are_seldom_told_apart() -> None:
    told = [play(SMALL, seed) for seed in range(12)]
    # 5% are allowed each; more than 3 of 12 come by chance in 2 of 1,000.
    for where in ("val, fresh seeds", "test, fresh seeds"):
        assert sum(each[where].better for each in told) <= 3


def test_a_true_gain_is_said() -> None:
    for seed in range(3):
        told = play(Design(tried=6, picked=2, seeds=3, images=50, labels=3, gain=0.6), seed)
        assert told["val, fresh seeds"].better and told["test, fresh seeds"].better
        assert not told["val, one seed each"].better and not told["test, one seed each"].better


def test_what_is_said_is_counted_in_sentences_and_in_the_table() -> None:
    sweep = Sweep(Design(tried=6, picked=2, seeds=3, images=50, labels=3, gain=0.6), 1)
    results = sweep.results("test", sweep.confirm())
    assert "better" in set(results.standings["outcome"])
    assert said(results).better


def test_a_seed_and_the_images_move_scores_as_in_real_sweeps() -> None:
    sweep = Sweep(Design(tried=20, picked=0), 0)
    for number in range(20):
        sweep._train(f"t0-s{number}", 0)
    assert 0.003 < np.std([sweep.scores[f"t0-s{number}"] for number in range(20)]) < 0.015
    assert 0.004 < np.std([sweep.scores[f"t{one}"] for one in range(21)]) < 0.02
