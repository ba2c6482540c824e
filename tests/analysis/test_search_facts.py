"""Facts about a search, each just under and just above its threshold."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from analysis.report.sections.search import search_claims, search_section
from analysis.search_facts import (
    MIN_AT_EDGE,
    MIN_EPOCHS,
    MIN_TRIALS,
    STILL_RISING,
    at_edges,
    best_so_far,
    infeasible_region,
    search_points,
    still_rising,
    stopping,
)
from search_spaces.core.parameter import Parameter, choice
from sweep.objectives import objective_of

from .synthetic_run import make_results

MIOU = objective_of("val/miou")
RATE = Parameter("optimizer.lr", "float", 1e-4, 1e-2, log=True)
DECAY = Parameter("optimizer.weight_decay", "float", 0.0, 1.0)
LOSS = choice("loss.name", ("focal", "dice"))


def frame(rows: list[dict[str, Any]]) -> pd.DataFrame:
    made = [
        {
            "trial_id": f"t{number}", "label": "x", "phase": "search", "state": "completed", "epochs": 4,
            "seconds": 3600.0, "val/miou": 0.5, "parent": "", **row,
        }
        for number, row in enumerate(rows)
    ]  # fmt: skip
    return pd.DataFrame(made)


def test_the_best_so_far_is_a_running_maximum_of_the_search_alone() -> None:
    scores = [0.3, 0.5, np.nan, 0.4, 0.6]
    rows = [{"val/miou": score, "state": "infeasible" if np.isnan(score) else "completed"} for score in scores]
    rows.append({"val/miou": 0.9, "phase": "confirm"})
    curve = best_so_far(frame(rows), MIOU)
    assert curve["best_so_far"].tolist() == [0.3, 0.5, 0.5, 0.5, 0.6]
    assert curve["trials"].tolist() == [1, 2, 3, 4, 5]
    assert curve["epochs"].tolist() == [4, 8, 12, 16, 20] and curve["hours"].tolist() == pytest.approx([1, 2, 3, 4, 5])
    least = replace(MIOU, metric=replace(MIOU.metric, direction="min"))
    assert best_so_far(frame(rows), least)["best_so_far"].tolist() == [0.3] * 5


def edge_trials(
    near: int,
    *,
    of: int = 16,
    value: float = 0.98,
    middle: float = 0.5,
    parameter: str = "optimizer.weight_decay",
) -> pd.DataFrame:
    """The best quarter, of which so many lie near an end; the others are in the middle."""
    best = max(4, of // 4)
    places = [value] * near + [middle] * (of - near)
    scores = [0.8] * best + [0.4] * (of - best)
    return frame(
        [{"val/miou": score, f"config/{parameter}": place} for score, place in zip(scores, places, strict=True)]
    )


def test_the_best_at_an_end_of_a_range_are_told_where_chance_would_not_put_them() -> None:
    assert stats.hypergeom.sf(2, 16, 3, 4) * 2 <= 0.05 < stats.hypergeom.sf(1, 16, 2, 4) * 2
    assert at_edges(edge_trials(2), [DECAY], MIOU) == []
    (found,) = at_edges(edge_trials(3), [DECAY], MIOU)
    assert (found.key, found.end, found.count, found.of, found.side) == ("optimizer.weight_decay", 1.0, 3, 4, "upper")
    (found,) = at_edges(edge_trials(3, value=0.02), [DECAY], MIOU)
    assert (found.end, found.side) == (0.0, "lower")
    assert (
        at_edges(edge_trials(3, value=0.89), [DECAY], MIOU) == [] != at_edges(edge_trials(3, value=0.9), [DECAY], MIOU)
    )


def test_many_ranges_need_more_to_be_told() -> None:
    many = [DECAY, *(replace(DECAY, key=f"other.{number}") for number in range(6))]
    assert at_edges(edge_trials(3), many, MIOU) == [] != at_edges(edge_trials(4), many, MIOU)


def test_edges_follow_the_scale_of_the_range_and_the_objectives_direction() -> None:
    near = 10 ** (-2 - 0.19)  # within a tenth of two decades
    assert len(at_edges(edge_trials(4, value=near, middle=0.001, parameter="optimizer.lr"), [RATE], MIOU)) == 1
    linear = replace(RATE, log=False)
    assert at_edges(edge_trials(4, value=near, middle=0.001, parameter="optimizer.lr"), [linear], MIOU) == []
    least = replace(MIOU, metric=replace(MIOU.metric, direction="min"))
    assert at_edges(edge_trials(4), [DECAY], least) == []


@pytest.mark.parametrize(("count", "told"), [(MIN_AT_EDGE - 1, False), (MIN_AT_EDGE, True)])
def test_edges_need_trials(count: int, told: bool) -> None:
    assert bool(at_edges(edge_trials(4, of=count), [DECAY], MIOU)) is told


def test_uniform_trials_stand_at_an_edge_in_few_sweeps() -> None:
    rng, told = np.random.default_rng(0), 0
    for _ in range(200):
        rows = [{"val/miou": rng.random(), **{f"config/p{k}": rng.random() for k in range(6)}} for _ in range(32)]
        told += bool(at_edges(frame(rows), [replace(DECAY, key=f"p{k}") for k in range(6)], MIOU))
    assert told <= 18


def test_a_sampler_that_goes_where_it_was_lucky_proves_no_edge() -> None:
    rng, told, crowded = np.random.default_rng(0), 0, 0
    for _ in range(200):
        places, scores = [], []
        for _ in range(40):
            lucky = places[int(np.argmax(scores))] if places and rng.random() < 0.7 else rng.random()
            places.append(float(np.clip(lucky + rng.normal(0, 0.05), 0, 1)))
            scores.append(float(rng.random()))
        rows = [{"val/miou": y, "config/optimizer.weight_decay": x} for x, y in zip(places, scores, strict=True)]
        told += bool(at_edges(frame(rows), [DECAY], MIOU))
        best = np.array(places)[np.argsort(scores)[-10:]]
        crowded += min(stats.binom.sf(sum(side <= 0.1) - 1, 10, 0.1) for side in (best, 1 - best)) * 2 <= 0.05
    assert told <= 16 < 30 <= crowded


def test_an_end_that_scores_fall_towards_is_none() -> None:
    places = np.linspace(0, 1, 200)
    for top, side in ((0.15, None), (-0.1, "lower"), (0.85, None), (1.1, "upper")):
        rows = [{"val/miou": 0.5 - (x - top) ** 2 / 9, "config/optimizer.weight_decay": x} for x in places]
        found = at_edges(frame(rows), [DECAY], MIOU)
        assert [one.side for one in found] == ([side] if side else [])


def infeasible_trials(bad_high: int, high: int, bad_low: int, low: int) -> pd.DataFrame:
    rows = [{"config/optimizer.lr": 5e-3 + 1e-5 * one, "state": "infeasible" if one < bad_high else "completed"}
            for one in range(high)]  # fmt: skip
    rows += [{"config/optimizer.lr": 2e-4 + 1e-6 * one, "state": "infeasible" if one < bad_low else "stopped"}
             for one in range(low)]  # fmt: skip
    return frame(rows)


def test_a_region_of_infeasible_trials_is_told_with_its_counts() -> None:
    found = infeasible_region(infeasible_trials(8, 10, 0, 10), [RATE, LOSS])
    assert found is not None and found.where.startswith("with optimizer.lr above")
    assert (found.infeasible, found.elsewhere) == (8, 0) and found.trials + found.others == 20
    assert infeasible_region(infeasible_trials(5, 10, 4, 10), [RATE]) is None, "no part stands out"
    assert infeasible_region(infeasible_trials(2, 10, 0, 10), [RATE]) is None, "two are too few"


def test_a_choice_that_fails_is_a_region() -> None:
    rows = [{"config/loss.name": name, "state": "infeasible" if name == "dice" else "completed"}
            for name in ["dice"] * 6 + ["focal"] * 10]  # fmt: skip
    found = infeasible_region(frame(rows), [LOSS])
    assert found is not None and (found.where, found.infeasible, found.trials) == ("with loss.name dice", 6, 6)


def test_infeasible_trials_anywhere_are_no_region_in_most_sweeps() -> None:
    rng, told = np.random.default_rng(1), 0
    for _ in range(100):
        rows = [
            {
                "config/optimizer.lr": 10 ** rng.uniform(-4, -2),
                "config/loss.name": str(rng.choice(["focal", "dice"])),
                "state": "infeasible" if rng.random() < 0.25 else "completed",
            }
            for _ in range(24)
        ]
        told += infeasible_region(frame(rows), [RATE, LOSS]) is not None
    assert told <= 11


def test_what_stopping_saved_and_whether_it_stopped_the_winner() -> None:
    rows = [{"epochs": 8}, {"epochs": 2, "state": "stopped"}, {"epochs": 4, "state": "stopped"},
            {"epochs": 1, "state": "infeasible"}, {"phase": "finish", "epochs": 8, "parent": "t1"}]  # fmt: skip
    found = stopping(frame(rows), "t4", 8)
    assert found is not None
    assert (found.trials, found.of, found.saved, found.winner_epoch) == (2, 3, 10, 2)
    assert found.share == pytest.approx(10 / 24)
    other = stopping(frame(rows), "t0", 8)
    assert other is not None and other.winner_epoch is None
    assert stopping(frame(rows[:1]), "t0", 8) is None


def line(gain: float, *, epochs: int = 16, noise: float = 0.0) -> list[float]:
    rise = np.linspace(0, gain, epochs // 2)
    values = np.concatenate([np.full(epochs - len(rise), 0.4), 0.4 + rise])
    return list(values + noise * np.random.default_rng(0).normal(size=epochs))


def test_a_curve_was_still_rising_if_a_line_says_so() -> None:
    found = still_rising(line(STILL_RISING * 1.01), MIOU)
    assert found is not None and (found.epochs, found.of) == (8, 16)
    assert found.gain == pytest.approx(STILL_RISING * 1.01)
    assert still_rising(line(STILL_RISING * 0.99), MIOU) is None, "too little to be worth more epochs"
    assert still_rising(line(0.02, noise=0.05), MIOU) is None, "noise"
    assert still_rising([*line(0.05)[:-2], 0.4, 0.4], MIOU) is None, "it fell at the end"
    assert still_rising(line(0.05)[::-1], MIOU) is None
    least = replace(MIOU, metric=replace(MIOU.metric, direction="min"))
    assert still_rising([1 - value for value in line(0.05)], least) is not None


@pytest.mark.parametrize(("epochs", "told"), [(MIN_EPOCHS - 1, False), (MIN_EPOCHS, True)])
def test_few_epochs_say_nothing_about_the_end_of_a_curve(epochs: int, told: bool) -> None:
    assert (still_rising(list(np.linspace(0.2, 0.4, epochs)), MIOU) is not None) is told


def test_points_are_those_of_trials_at_full_budget() -> None:
    rows = [{"config/optimizer.lr": 0.001, "config/other": 3}, {"config/optimizer.lr": 0.01, "state": "stopped"},
            {"config/optimizer.lr": 0.002, "phase": "finish"}]  # fmt: skip
    assert search_points(frame(rows), [RATE], MIOU) == ([{"optimizer.lr": 0.001}], [0.5])


# What is said of them.


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return make_results(tmp_path_factory.mktemp("run"), images=3)[0]


def texts(results: Any) -> list[str]:
    return [one.text.striptags() for one in search_claims(results)]


def test_the_page_says_where_the_best_was_found_and_why_importance_is_not_told(results) -> None:
    told = texts(results)
    assert told[0].startswith("The best score on val of the search, 0.") and " of 12, after " in told[0]
    assert told[1].startswith("What mattered is not told: ") and "trials at full budget are too few" in told[1]
    assert any(text.startswith("Stopping 4 of 11 trials early saved ") for text in told)


@pytest.mark.parametrize(("count", "told"), [(MIN_TRIALS - 1, False), (MIN_TRIALS, True)])
def test_few_trials_have_no_section(results, count: int, told: bool) -> None:
    from analysis.report.gallery import Gallery
    from analysis.report.page import Material

    few = replace(results, trials=results.trials.iloc[:count])
    assert (search_section(Material(few, {}, Gallery([]))) is not None) is told
