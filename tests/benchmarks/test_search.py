"""Searches replayed on known curves: the truth is what it says, no epoch is given away, luck is the seed's alone."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats

from benchmarks.search.__main__ import GIVEN, landscape, one_at_a_time, strategies
from benchmarks.search.families import FAMILIES, OBJECTIVE, SEED_SD, SPACE, VAL_SD, Member, member
from benchmarks.search.recorded import RECORDED, SEEDS, Recording, read_lines
from benchmarks.search.replay import ALLOCATIONS, Ledger, Strategy, length, replay
from benchmarks.search.table import Replayed, by_landscape, interval, rows
from sweep.points import Point
from sweep.samplers import SAMPLERS, Draw
from sweep.schedulers import SCHEDULERS, grace_epochs
from trainables.errors import UsageError
from trainables.registry import snapshot

every_family = pytest.mark.parametrize("family", list(FAMILIES))
GIVEN_HERE = 320


def curve(of: Member | Recording, config: Mapping[str, Any]) -> list[float]:
    """What a trial reports until it ends."""
    told = []
    for epoch in range(1, config["epochs"] + 1):
        report = of.report(config, epoch)
        if "infeasible" in report:
            break
        told.append(report["metrics"][OBJECTIVE])
    return told


def config_of(point: Mapping[str, Any], epochs: int = 20, seed: int = 0) -> dict[str, Any]:
    return {**point, "epochs": epochs, "seed": seed}


@every_family
def test_no_configuration_is_better_than_the_one_that_a_family_says_is_best(family: str) -> None:
    for instance in (0, 1):
        of = member(family, instance)
        points = list(SPACE.grid())
        assert len(points) == 4000
        assert max(of.value(config_of(point, 80)) for point in points) == of.best
        assert of.best == of.value(config_of(of.best_point, 80)) > of.value(config_of(of.best_point, 40))


def test_optimum_of_a_bowl_is_its_middle() -> None:
    of = member("parallel", 3)
    shares = [(of.best_point[p.key] - p.low) / (p.high - p.low) for p in SPACE.parameters[1:]]
    assert shares == pytest.approx(list(of.optimum))
    assert of.best == pytest.approx(0.60 - 0.15 / math.sqrt(80))
    assert member("parallel", 4).best_point != of.best_point


@every_family
def test_without_noise_a_curve_ends_at_the_true_value(family: str) -> None:
    of = member(family, 0, noise=0)
    for point in list(SPACE.grid())[::97]:
        reported = curve(of, config_of(point))
        if len(reported) == 20:
            assert reported[-1] == pytest.approx(of.value(config_of(point)))
            assert reported == sorted(reported)
        else:
            assert family == "divergence" and len(reported) <= 10 and of.value(config_of(point)) == 0


@pytest.mark.parametrize(("family", "times"), [("parallel", 1), ("noise", 3)])
def test_spread_of_seeds_and_noise_of_val_are_those_of_the_family(family: str, times: float) -> None:
    of = member(family, 0)
    curves = np.array([curve(of, config_of(of.best_point, 10, seed)) for seed in range(600)])
    assert curves[:, -1].mean() == pytest.approx(of.value(config_of(of.best_point, 10)), abs=0.005 * times)
    assert curves[:, -1].std() == pytest.approx(times * math.hypot(SEED_SD, VAL_SD), rel=0.1)
    lasting = np.corrcoef(curves[:, -1], curves[:, -2])[0, 1]
    assert lasting == pytest.approx(SEED_SD**2 / (SEED_SD**2 + VAL_SD**2), abs=0.1), "a seed's luck is no noise of val"


def test_part_of_a_space_diverges_and_the_starting_points_do_not() -> None:
    for instance in range(20):
        of = member("divergence", instance)
        assert all(of.value(config_of(point)) > 0 for point in SPACE.start)
        assert 0.1 <= np.mean([of.effect_of(point).diverges for point in list(SPACE.grid())[::7]]) <= 0.6


def test_curves_cross_in_the_family_of_that_name_only() -> None:
    points = list(SPACE.grid())[::41]
    for family, crosses in (("parallel", False), ("crossing", True)):
        of = member(family, 0, noise=0)
        curves = np.array([curve(of, config_of(point)) for point in points])
        early, late = curves[:, grace_epochs(20) - 1], curves[:, -1]
        agree = stats.kendalltau(early, late).statistic
        assert (agree < 0.7) if crosses else (agree == pytest.approx(1.0))


class Counting:
    """A landscape that counts the epochs that it is asked for."""

    def __init__(self, of: Member) -> None:
        self.of, self.asked = of, 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self.of, name)

    def report(self, config: Mapping[str, Any], epoch: int) -> dict[str, Any]:
        self.asked += 1
        return self.of.report(config, epoch)


@pytest.mark.parametrize("slots", [2, 16])
@pytest.mark.parametrize(
    ("family", "strategy"),
    [
        ("parallel", Strategy("random", "none")),
        ("parallel", Strategy("qmc", "asha")),
        ("crossing", Strategy("random", "median", "shorter")),
        ("divergence", Strategy("random", "hyperband", "rung 1/9")),
    ],
)
def test_search_spends_the_epochs_that_it_was_given_but_for_less_than_a_trial(
    family: str, strategy: Strategy, slots: int
) -> None:
    counting = Counting(member(family, 0))
    found = replay(counting, strategy, given=GIVEN_HERE, slots=slots, seed=0)
    assert counting.asked == found.spent
    assert GIVEN_HERE - found.epochs < found.spent <= GIVEN_HERE
    if strategy.rule == "none":
        assert found.spent == GIVEN_HERE == found.trials * found.epochs, "whole trials leave nothing"
    assert found.crowned["epochs"] == found.epochs


def test_trial_that_does_not_fit_is_not_begun(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without what is promised to those that run, more would be begun than can end."""
    monkeypatch.setattr(Ledger, "_promised", lambda self: 0)
    assert replay(member("parallel", 0), Strategy("random", "none"), given=310, slots=16, seed=0).spent > 310


def test_same_seed_gives_the_same_search_and_another_one_another() -> None:
    def played(seed: int, instance: int = 0) -> Any:
        found = replay(member("interactions", instance), Strategy(), given=GIVEN_HERE, slots=16, seed=seed)
        return dataclasses.replace(found, driver_seconds=0.0)

    assert played(0) == played(0)
    assert played(0) != played(1) and played(0) != played(0, instance=1)


@pytest.fixture
def perfect() -> Iterator[Member]:
    """Registers a sampler that knows the optimum of a landscape without noise."""
    of, restore = member("crossing", 0, noise=0), snapshot()

    @SAMPLERS.register("perfect")
    def know(draw: Draw) -> Point:
        """Suggests it."""
        return Point(draw.space, of.best_point)

    yield of
    restore()


def test_perfect_sampler_has_no_regret_and_a_random_one_has(perfect: Member) -> None:
    search: dict[str, Any] = {"given": 640, "slots": 2, "seed": 0}
    assert replay(perfect, Strategy("perfect", "none", "longer"), **search).regret == pytest.approx(0.0, abs=1e-12)
    assert replay(perfect, Strategy("random", "none", "longer"), **search).regret > 0.001
    shorter = replay(perfect, Strategy("perfect", "none"), **search)
    assert shorter.regret == pytest.approx(0.15 / math.sqrt(40) - 0.15 / math.sqrt(80)), "of training less"
    stopped = replay(perfect, Strategy("perfect", "asha", "longer"), **search)
    assert stopped.regret > 0.001, "where curves cross, the best is stopped early"


def test_length_follows_from_the_plan_of_a_sweep() -> None:
    of = member("parallel", 0)
    assert [length(of, ALLOCATIONS[name], given=320) for name in ("planned", "shorter", "longer")] == [40, 20, 80]
    assert length(of, ALLOCATIONS["planned"], given=80) == 10
    with pytest.raises(ValueError, match="no trials that are shorter"):
        length(of, ALLOCATIONS["shorter"], given=20)


def test_first_rung_is_that_of_the_allocation() -> None:
    of = member("parallel", 0, noise=0)
    stops = {}
    for name in ("planned", "rung epoch 1", "rung 1/2"):
        counting = Counting(of)
        found = replay(counting, Strategy("random", "epoch", name), given=2 * GIVEN_HERE, slots=2, seed=0)
        stops[name] = found.trials
    assert stops["rung epoch 1"] > stops["planned"] > stops["rung 1/2"], "who stops earlier tries more"


LINES = read_lines()


@pytest.mark.parametrize("space", ["lr", "full"])
@pytest.mark.parametrize("seed", SEEDS)
def test_recorded_configuration_is_answered_by_its_own_curve(space: str, seed: int) -> None:
    of = Recording(space, seed, LINES)
    assert len(of) >= 25 and of.lengths == (4, 8, 16)
    own = [line for line in LINES if line["space"] == space and line["seed"] == seed]
    others = [line for line in LINES if line["space"] == space and line["seed"] != seed]
    worth = {(line["point"], line["epochs"]): line.get("held_out", 0.0) for line in others}
    exact = 0
    for line in own:
        config = of.space.trial_config(of.base(line["epochs"]), line["params"]).flat()
        if of.nearest(config) == line["point"]:
            exact += 1
            assert curve(of, config) == line["val"]
            assert of.value(config) == worth[line["point"], line["epochs"]], "by what it could not be chosen by"
    assert exact == len(of) * len(of.lengths)


def test_nearest_is_by_shares_of_ranges_and_keeps_the_label() -> None:
    lines = [
        {"space": "lr", "point": number, "epochs": 2, "seed": seed, "val": [0.1, 0.2], "held_out": 0.2 + 0.1 * number,
         "params": {"optimizer.name": name, "optimizer.lr": rate, "optimizer.weight_decay": 1e-3,
                    "schedule.name": "cosine", "schedule.warmup": 0.0, "training.ema": 0.0}}
        for seed in SEEDS
        for number, (name, rate) in enumerate([("adamw", 1e-4), ("adamw", 1e-2), ("sgd", 2e-3)])
    ]  # fmt: skip
    of = Recording("lr", 0, lines)
    asked = {**lines[0]["params"], "epochs": 2}
    assert of.nearest({**asked, "optimizer.lr": 2e-3}) == 1, "of a logarithmic range"
    assert of.nearest({**asked, "optimizer.lr": 5e-4}) == 0
    assert of.nearest({**asked, "optimizer.lr": 1e-4, "optimizer.name": "sgd", "optimizer.momentum": 0.9}) == 2
    assert of.best == pytest.approx(0.4)
    with pytest.raises(ValueError, match="no complete configuration"):
        Recording("lr", 0, lines[:3])


def test_recording_is_small_and_whole() -> None:
    assert RECORDED.stat().st_size < 1_000_000
    for line in LINES:
        assert "infeasible" in line or (len(line["val"]) == line["epochs"] and 0 < line["held_out"] < 1)


def played(strategy: Strategy, regrets: list[float], name: str = "parallel", slots: int = 2) -> list[Replayed]:
    return [Replayed(name, strategy, slots, n, regret, 10, 1.0, 0.05) for n, regret in enumerate(regrets)]


def test_intervals_are_those_of_a_t_test() -> None:
    values = [0.01, 0.03, 0.02, 0.06]
    low, high = stats.ttest_1samp(values, 0.0).confidence_interval(0.95)
    mean, half = interval(values)
    assert (mean - half, mean + half) == pytest.approx((low, high))


def test_table_has_paired_differences_from_the_default() -> None:
    default, other = [0.03, 0.05, 0.02], [0.02, 0.039, 0.011]
    found = [*played(Strategy(), default), *played(Strategy("qmc"), other)]
    (mean, half) = interval([b - a for a, b in zip(default, other, strict=True)])
    header, first, second = rows(found, Strategy())
    assert f"{mean:+.4f} ±{half:.4f}*" in second and f"{mean:+.4f}" not in first and "- default" in header
    assert "0.0333" in first and " 5.0 " in first, "50 ms a trial"
    assert f"{mean:+.4f} ±{half:.4f}*" in by_landscape(found, Strategy())[2]


def test_every_sampler_stop_rule_and_allocation_is_in_the_table() -> None:
    one = one_at_a_time()
    assert {s.sampler for s in one} == set(SAMPLERS) and {s.rule for s in one} == set(SCHEDULERS)
    assert {s.allocation for s in one} == set(ALLOCATIONS)
    assert one[0] == Strategy() == strategies("random:none:shorter")[0]
    assert len(strategies("all")) == len(list(SAMPLERS)) * len(list(SCHEDULERS)) * len(ALLOCATIONS)
    with pytest.raises(UsageError, match="unknown allocation"):
        strategies("tpe:asha:wide")
    assert landscape("recorded lr", 1).base(8)["seed"] == SEEDS[1]
    assert set(GIVEN) == {"simulated", "recorded"} and Path(RECORDED).is_file()
