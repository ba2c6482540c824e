"""What a winner was chosen from, and how far a seed moves a configuration."""

from __future__ import annotations

import statistics

import numpy as np
import pandas as pd
import pytest

from analysis.candidates import (
    SEED_COLUMNS,
    configurations,
    count_candidates,
    same_configuration,
    seeds_frame,
)
from sweep.candidate import Candidates


def trial(number, *, seed=0, label="flip", state="completed", phase="search", miou=0.5, **config):
    keys = {f"config/{key.replace('__', '.')}": value for key, value in config.items()}
    return {
        **{"trial_id": f"t{number:03d}", "label": label, "phase": phase, "seed": seed, "state": state},
        **{"val/miou": miou, **keys, "config/seed": seed},
    }


def three_models_five_seeds():
    """The space of a user who wants to see how far the seed moves things; scores by hand."""
    return pd.DataFrame(
        [
            trial(
                5 * place + seed,
                seed=seed,
                label="baseline" if place == seed == 0 else name,
                miou=0.4 + 0.1 * place + 0.01 * seed,
                model__name=name,
                optimizer__lr=0.003,
                model__aux=True if place else np.nan,
            )
            for place, name in enumerate(("fcn", "lraspp", "deeplab"))
            for seed in range(5)
        ]
    )


@pytest.mark.parametrize(
    ("first", "second", "same"),
    [
        ({"lr": 0.1, "seed": 0}, {"lr": 0.1, "seed": 1}, True),
        ({"lr": 0.1}, {"lr": 0.1, "seed": 1}, True),
        ({"lr": 0.1, "seed": 0}, {"lr": 0.10000000000000002, "seed": 0}, False),
        ({"lr": 0.1, "seed": 0}, {"lr": 0.1, "p": 0.5, "seed": 0}, False),
    ],
)
def test_configurations_are_the_same_if_they_differ_in_the_seed_alone(first, second, same):
    assert same_configuration(first, second) is same
    assert same_configuration(second, first) is same


def test_trials_of_several_seeds_share_a_configuration():
    trials = three_models_five_seeds()
    assert configurations(trials).tolist() == [0] * 5 + [1] * 5 + [2] * 5
    assert count_candidates(trials) == Candidates(trials=15, configurations=3)


def test_only_search_trials_with_a_result_were_chosen_from():
    states = ["completed", "stopped", "infeasible", "failed", "interrupted"]
    rows = [trial(number, state=state, optimizer__lr=0.1 * number) for number, state in enumerate(states)]
    rows.append(trial(1, phase="finish", optimizer__lr=0.1))
    assert count_candidates(pd.DataFrame(rows)) == Candidates(trials=2, configurations=2)


def test_seeds_are_told_as_mean_and_range():
    frame = seeds_frame(three_models_five_seeds(), "val/miou")
    assert tuple(frame.columns) == SEED_COLUMNS
    assert frame["label"].tolist() == ["baseline = fcn", "lraspp", "deeplab"]
    assert frame["configuration"].tolist()[:2] == ["as the baseline", "model.name lraspp, model.aux true"]
    assert frame["seeds"].tolist() == [5, 5, 5]
    scores = [0.4 + 0.01 * seed for seed in range(5)]
    assert frame.loc[0, ["mean", "lowest", "highest"]].tolist() == pytest.approx(
        [statistics.mean(scores), min(scores), max(scores)]
    )


def test_two_seeds_are_several_and_one_is_not():
    rows = [trial(0, seed=0, optimizer__lr=0.1), trial(1, seed=1, optimizer__lr=0.1)]
    assert len(seeds_frame(pd.DataFrame(rows), "val/miou")) == 1
    assert seeds_frame(pd.DataFrame(rows[:1]), "val/miou").empty
    again = pd.DataFrame([rows[0], trial(1, seed=0, optimizer__lr=0.1)])
    assert seeds_frame(again, "val/miou").empty


def test_only_trials_at_full_budget_tell_of_their_seed():
    rows = [
        trial(0, seed=0, optimizer__lr=0.1, miou=0.4),
        trial(1, seed=1, optimizer__lr=0.1, state="stopped", miou=0.9),
        trial(2, seed=2, optimizer__lr=0.1, miou=np.nan),
        trial(1, seed=1, optimizer__lr=0.1, phase="finish", miou=0.6),
    ]
    frame = seeds_frame(pd.DataFrame(rows), "val/miou")
    assert frame[["seeds", "lowest", "highest"]].to_numpy().tolist() == [[2, 0.4, 0.6]]


def test_a_run_without_the_metric_has_no_seeds_to_tell_of():
    trials = pd.DataFrame([trial(0, optimizer__lr=0.1)])
    assert seeds_frame(trials, "val/other").empty
