"""Stop rules against Ray's own ASHA and a brute-force median."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ray.tune.schedulers.async_hyperband import _Bracket

from sweep.schedulers import (
    SCHEDULERS,
    Asha,
    EarlyDiscard,
    Hyperband,
    Median,
    comparison_note,
    grace_epochs,
    percentile,
)
from trainables.errors import UnknownNameError
from trainables.optimizers import SCHEDULES

Result = tuple[str, int, float]


def interleaved(rng: np.random.Generator, trials: int, epochs: int) -> Iterator[Result]:
    """Results of concurrent trials in a random order, each trial's own epochs in theirs."""
    levels = rng.normal(0.5, 0.1, trials)
    epoch_of = [0] * trials
    while open_trials := [index for index in range(trials) if epoch_of[index] < epochs]:
        index = int(rng.choice(open_trials))
        epoch_of[index] += 1
        score = levels[index] + 0.03 * epoch_of[index] + rng.normal(0, 0.05)
        yield f"t{index:03d}", epoch_of[index], float(np.round(score, 2))  # rounded: ties happen


@given(values=st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=30), percent=st.floats(0, 100))
def test_percentile_of_values_in_order_has_numpys_digits(values: list[float], percent: float) -> None:
    assert percentile(sorted(values), percent) == float(np.percentile(values, percent))


@dataclass(frozen=True)
class RayTrial:
    trial_id: str


@pytest.mark.parametrize(("grace", "reduction", "epochs"), [(1, 3, 9), (2, 3, 12), (2, 2, 16), (3, 4, 20), (1, 2, 5)])
@pytest.mark.parametrize("seed", range(4))
def test_asha_stops_whom_rays_bracket_stops_from_the_second_rival_on(
    grace: int, reduction: int, epochs: int, seed: int
) -> None:
    ours = Asha(grace=grace, reduction=reduction, max_epochs=epochs)
    rays = _Bracket(grace, epochs, reduction, 0)
    stops = differ = 0
    for trial_id, epoch, score in interleaved(np.random.default_rng(seed), 25, epochs):
        if epoch == epochs:
            continue  # Ray has a rung at the full budget on some ladders; there is nothing left to stop
        rivals = len(ours.rungs.get(epoch, {}))
        stop = ours.observe(trial_id, epoch, score) is not None
        ray_stops = rays.on_result(RayTrial(trial_id), epoch, score) == "STOP"  # type: ignore[arg-type]
        if rivals < reduction - 1:
            assert not stop, "the first at a rung go on"
            differ += ray_stops
        else:
            assert stop == ray_stops
        stops += stop
    assert stops > 10
    assert {epoch: len(scores) for epoch, scores in ours.rungs.items()} == {
        int(milestone): len(scores) for milestone, scores in rays._rungs if milestone < epochs
    }


def test_asha_by_hand() -> None:
    rule = Asha(grace=2, reduction=3, max_epochs=10)
    assert list(rule.rungs) == [2, 6]
    assert rule.observe("a", 1, 0.0) is None, "no rung at 1"
    assert rule.observe("a", 2, 0.5) is None
    assert rule.observe("b", 2, 0.1) is None, "one rival is a coin toss"
    # Of 0.5 and 0.1 the two-thirds quantile is 0.1 + 2/3 * 0.4.
    told = rule.observe("c", 2, 0.36)
    assert told == "0.3600 at epoch 2 is below 0.3667, the cut-off of 2 rivals there"
    assert rule.observe("d", 2, 0.5) is None, "of 0.5, 0.1, 0.36 it is 0.4067"
    assert rule.observe("d", 2, 0.0) is None, "a repeated result is not a rival of its own"
    assert rule.rungs[2] == {"a": 0.5, "b": 0.1, "c": 0.36, "d": 0.5}


def brute_force_bracket(history: list[Result], rungs: list[list[int]], reduction: int) -> bool:
    """Stop below the quantile of those of the same bracket who were at this rung before; brackets are dealt in turn."""
    trial_id, epoch, value = history[-1]
    order = list(dict.fromkeys(name for name, *_ in history))

    def bracket(name: str) -> int:
        return order.index(name) % len(rungs)

    if epoch not in rungs[bracket(trial_id)]:
        return False
    rivals = [
        score
        for name, at, score in history[:-1]
        if (bracket(name), at) == (bracket(trial_id), epoch) and name != trial_id
    ]
    if len(rivals) < reduction - 1:
        return False
    return bool(value < np.quantile(rivals, 1 - 1 / reduction))


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(
    ("rule", "rungs", "reduction"),
    [
        (Asha(grace=2, reduction=3, max_epochs=20), [[2, 6, 18]], 3),
        (Hyperband(grace=2, reduction=3, max_epochs=20), [[2, 6, 18], [6, 18], [18], []], 3),
        (Hyperband(grace=4, reduction=2, max_epochs=12), [[4, 8], [8], []], 2),
        (Hyperband(grace=2, reduction=2, max_epochs=2), [[]], 2),
    ],
    ids=lambda value: type(value).__name__,
)
def test_brackets_stop_whom_the_brute_force_loop_stops(
    rule: Asha | Hyperband, rungs: list[list[int]], reduction: int, seed: int
) -> None:
    rule = copy.deepcopy(rule)
    history: list[Result] = []
    stops = 0
    for result in interleaved(np.random.default_rng(seed), 24, 20):
        history.append(result)
        stop = rule.observe(*result) is not None
        assert stop == brute_force_bracket(history, rungs, reduction), result
        stops += stop
    assert (stops > 8) == any(rungs)


def test_hyperband_by_hand() -> None:
    rule = Hyperband(grace=2, reduction=2, max_epochs=6)  # rungs 2 and 4; 4; none
    for trial_id in "abcdef":
        assert rule.observe(trial_id, 1, 0.0) is None
    assert rule.observe("a", 2, 0.5) is None
    assert rule.observe("b", 2, 0.1) is None, "its bracket begins at 4"
    assert rule.observe("c", 2, 0.1) is None, "nobody of its bracket is stopped"
    assert rule.observe("d", 2, 0.4) == "0.4000 at epoch 2 is below 0.5000, the cut-off of 1 rival there"
    assert rule.observe("b", 4, 0.3) is None, "d is not of its bracket"
    assert rule.observe("e", 4, 0.2) is not None


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("share", [1 / 3, 0.25])
def test_early_discard_keeps_whom_a_sorted_list_has_on_top(seed: int, share: float) -> None:
    rule = EarlyDiscard(epoch=3, share=share, max_epochs=9)
    seen: list[float] = []
    kept = 0
    for trial_id, at, score in interleaved(np.random.default_rng(seed), 30, 9):
        told = rule.observe(trial_id, at, score)
        if at != 3:
            assert told is None
            continue
        seen.append(score)
        worst = sorted(seen, reverse=True)[max(1, int(len(seen) * share + 1e-9)) - 1]
        assert (told is None) == (score >= worst)
        kept += told is None
    assert 30 * share * 0.5 < kept < 30 * share * 2.5


def test_early_discard_by_hand() -> None:
    rule = EarlyDiscard(epoch=2, share=1 / 3, max_epochs=6)
    assert rule.observe("a", 2, 0.5) is None, "the best of one"
    assert rule.observe("b", 2, 0.4) == "0.4000 at epoch 2 is number 2 of 2 there, of which 1 may go on"
    assert rule.observe("c", 2, 0.6) is None
    assert [rule.observe(trial_id, 2, 0.5) is None for trial_id in "def"] == [False, False, True], "two of six"
    assert rule.observe("a", 2, 0.0) is None, "a repeated result is not another"
    assert SCHEDULERS.get("epoch")(2).epochs() == "", "at the full budget there is nothing to save"


def brute_force_median(history: list[Result], grace: int, least: int) -> bool:
    """Golovin et al.: stop if the best so far is strictly below the median of the others' running averages."""
    trial_id, epoch, _ = history[-1]
    averages = []
    for rival in {name for name, *_ in history} - {trial_id}:
        curve = {at: score for name, at, score in history if name == rival}
        if epoch in curve:
            averages.append(sum(score for at, score in curve.items() if at <= epoch) / sum(at <= epoch for at in curve))
    if epoch < grace or len(averages) < least:
        return False
    return max(score for name, _, score in history if name == trial_id) < float(np.median(averages))


@pytest.mark.parametrize("seed", range(4))
def test_median_stops_whom_the_brute_force_loop_stops(seed: int) -> None:
    rule = Median(grace=2, max_epochs=6, min_rivals=3)
    history: list[Result] = []
    stops = 0
    for result in interleaved(np.random.default_rng(seed), 12, 6):
        history.append(result)
        stop = rule.observe(*result) is not None
        assert stop == brute_force_median(history, 2, 3)
        stops += stop
    assert stops > 3


@settings(max_examples=30, deadline=None)
@given(st.sampled_from(list(SCHEDULERS)), st.integers(0, 1000), st.integers(3, 12))
def test_replayed_results_give_the_same_answers(name: str, seed: int, epochs: int) -> None:
    results = list(interleaved(np.random.default_rng(seed), 8, epochs))
    first, again = SCHEDULERS.get(name)(epochs), SCHEDULERS.get(name)(epochs)
    assert [first.observe(*result) for result in results] == [again.observe(*result) for result in results]


@pytest.mark.parametrize(("epochs", "grace"), [(1, 2), (3, 2), (5, 2), (6, 2), (7, 3), (9, 3), (12, 4), (100, 34)])
def test_every_trial_gets_a_third_of_the_budget(epochs: int, grace: int) -> None:
    assert grace_epochs(epochs) == grace
    for name in SCHEDULERS:
        rule = SCHEDULERS.get(name)(epochs)
        for number in range(10):
            for epoch in range(1, grace):
                assert rule.observe(f"t{number}", epoch, -float(number)) is None


def test_without_a_scheduler_nobody_is_stopped() -> None:
    rule = SCHEDULERS.get("none")(4)
    assert all(rule.observe(f"t{n}", epoch, -n) is None for n in range(20) for epoch in range(1, 5))
    with pytest.raises(UnknownNameError, match="did you mean asha"):
        SCHEDULERS.get("ahsa")


@pytest.mark.parametrize("epochs", [5, 9, 30, 100])
def test_first_comparison_comes_after_the_known_good_schedule_has_peaked(epochs: int) -> None:
    schedule = SCHEDULES.get("one_cycle")(epochs * 40)
    peak = max(range(epochs * 40), key=schedule)
    assert grace_epochs(epochs) * 40 > peak


@settings(max_examples=40, deadline=None)
@given(
    st.sampled_from(["asha", "median", "hyperband", "epoch"]),
    st.integers(0, 1000),
    st.integers(4, 12),
    st.floats(-1, 1),
    st.integers(1, 3),
)
def test_trial_is_only_ranked_against_others_at_its_own_epoch(
    name: str, seed: int, epochs: int, shift: float, past: int
) -> None:
    """What rivals scored later, or (but for the median rule) at any other epoch, changes no verdict."""
    results = list(interleaved(np.random.default_rng(seed), 8, epochs))
    rule = SCHEDULERS.get(name)(epochs)
    for index, (trial_id, epoch, score) in enumerate(results):
        verdict = rule.observe(trial_id, epoch, score)
        again = SCHEDULERS.get(name)(epochs)
        for rival, at, value in results[:index]:
            elsewhere = at > epoch if name == "median" else at != epoch
            again.observe(rival, at, value + shift * past if elsewhere and rival != trial_id else value)
        assert again.observe(trial_id, epoch, score) == verdict


def test_note_says_when_trials_are_compared_and_how_to_compare_finished_ones() -> None:
    note = comparison_note("asha", 5)
    assert "span all 5 epochs" in note
    assert "asha compares trials at epoch 2, each with others at the same epoch" in note
    assert "--scheduler none" in note
    assert "every epoch from 3 on" in comparison_note("median", 9)
    assert "hyperband compares trials at epochs 4 and 8, or at epoch 8, or never, by bracket, each" in comparison_note(
        "hyperband", 12
    )
    assert "epoch compares trials at epoch 4, each" in comparison_note("epoch", 12)
    for scheduler, epochs in (("none", 5), ("asha", 2), ("median", 2), ("asha", 1), ("hyperband", 2), ("epoch", 2)):
        assert comparison_note(scheduler, epochs).endswith("every trial runs to its end")
    assert Asha(grace=2, reduction=3, max_epochs=20).epochs() == "at epochs 2, 6 and 18"
    assert Asha(grace=2, reduction=3, max_epochs=8).epochs() == "at epochs 2 and 6"
