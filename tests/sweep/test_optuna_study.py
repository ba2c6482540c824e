"""What Optuna is told, and that its suggestions depend on nothing but seed, number and history."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.trial import TrialState

from search_spaces import SPACES, SearchSpace
from search_spaces.core.parameter import choice
from sweep.objectives import objective_of
from sweep.optuna_study import INFEASIBLE, Suggestions, mirror
from sweep.samplers import SAMPLERS

OBJECTIVE = "val/miou"
SPACE: SearchSpace = SPACES.get("lr")(["lraspp_mobilenet_v3_large"], "none")


def make(sampler: str = "tpe", seed: int = 0) -> Suggestions:
    return Suggestions(SPACE, sampler=sampler, seed=seed, objective=objective_of(OBJECTIVE))


def result(trial_id: str, epoch: int, score: float) -> dict[str, Any]:
    return {"event": "result", "trial_id": trial_id, "epoch": epoch, "seconds": 1.0, "metrics": {OBJECTIVE: score}}


def ended(trial_id: str, state: str, score: float | None = None, reason: str = "") -> dict[str, Any]:
    metrics = {} if score is None else {OBJECTIVE: score}
    return {"event": "ended", "trial_id": trial_id, "state": state, "reason": reason, "metrics": metrics}


def score_of(params: dict[str, Any]) -> float:
    return 0.7 - abs(float(params["schedule.warmup"]) - 0.1) - (0.1 if params["optimizer.name"] == "sgd" else 0.0)


def live(study: Suggestions, number: int) -> dict[str, Any]:
    """One trial as a sweep runs it; every fourth is stopped, one is infeasible and one failed. Returns its params."""
    trial_id = f"t{number:03d}"
    params = study.ask(trial_id, number)
    study.apply(result(trial_id, 1, score_of(params) / 2))
    if number == 3:
        study.apply(ended(trial_id, "infeasible", reason="diverged"))
    elif number == 5:
        study.apply(ended(trial_id, "failed", reason="disk"))
    elif number % 4 == 2:
        study.apply(ended(trial_id, "stopped", score_of(params) / 2, reason="asha"))
    else:
        study.apply(result(trial_id, 2, score_of(params)))
        study.apply(ended(trial_id, "completed", score_of(params)))
    return params


def test_optuna_hears_the_truth_about_every_end() -> None:
    study = make()
    for number, state in enumerate(("completed", "stopped", "infeasible", "failed")):
        study.ask(f"t{number:03d}", number)
        study.apply(result(f"t{number:03d}", 1, 0.4))
        study.apply(ended(f"t{number:03d}", state, 0.5, reason="why" if number else ""))
    trials = study.study.get_trials()
    assert [t.state for t in trials] == [TrialState.COMPLETE, TrialState.PRUNED, TrialState.PRUNED, TrialState.FAIL]
    assert trials[0].value == 0.5
    assert trials[0].intermediate_values == trials[1].intermediate_values == {1: 0.4}
    assert [t.user_attrs["trial_id"] for t in trials] == ["t000", "t001", "t002", "t003"]
    assert [t.user_attrs["state"] for t in trials] == ["completed", "stopped", "infeasible", "failed"]
    assert trials[2].user_attrs["reason"] == "why"
    feasible = [t.constraints[INFEASIBLE] <= 0 for t in trials[:3]]
    assert feasible == [True, True, False]
    assert study.study.best_trial.number == 0


def test_no_ended_trial_stays_running() -> None:
    study = make()
    for number in range(14):
        live(study, number)
    assert all(trial.state.is_finished() for trial in study.study.get_trials())


def test_trials_that_the_study_did_not_suggest_are_none_of_its_business() -> None:
    study = make()
    study.ask("t000", 0)
    study.apply(result("t000-finish", 3, 0.9))
    study.apply(ended("t000-finish", "completed", 0.9))
    study.apply({"event": "resumed", "spent_s": 1.0})
    (trial,) = study.study.get_trials()
    assert trial.state == TrialState.RUNNING
    assert trial.intermediate_values == {}


@pytest.mark.parametrize("sampler", list(SAMPLERS))
@pytest.mark.parametrize("history", [3, 13, 17])
def test_study_rebuilt_from_its_history_suggests_the_same_next_points(sampler: str, history: int) -> None:
    """Past its start-up of 10 trials TPE reads what it was told: values, prunings, constraints."""
    first = make(sampler, seed=5)
    params = [live(first, number) for number in range(history)]
    again = make(sampler, seed=5)
    real_ask = again.ask
    for number, known in enumerate(params):
        again.ask = lambda trial_id, n, known=known: real_ask(trial_id, n, fixed=known)  # type: ignore[assignment, misc]
        assert live(again, number) == known
    again.ask = real_ask  # type: ignore[method-assign]
    assert [again.ask(f"t{n}", n) for n in range(history, history + 3)] == [
        first.ask(f"t{n}", n) for n in range(history, history + 3)
    ]


@pytest.mark.parametrize("sampler", list(SAMPLERS))
def test_suggestions_depend_on_seed_and_number(sampler: str) -> None:
    assert make(sampler, seed=1).ask("t000", 0) == make(sampler, seed=1).ask("t000", 0)
    assert make(sampler, seed=1).ask("t000", 0) != make(sampler, seed=2).ask("t000", 0)
    assert make(sampler, seed=1).ask("t000", 0) != make(sampler, seed=1).ask("t001", 1)


def test_tpe_reads_its_history_and_random_search_does_not() -> None:
    def after(sampler: str, best: float) -> dict[str, Any]:
        study = make(sampler)
        for number in range(12):
            study.ask(f"t{number:03d}", number)
            study.apply(ended(f"t{number:03d}", "completed", best if number < 4 else 0.1))
        return study.ask("next", 12)

    assert after("tpe", 0.9) != after("tpe", 0.0)
    assert after("random", 0.9) == after("random", 0.0)


def test_starting_point_is_taken_as_it_is() -> None:
    study = make()
    point = dict(SPACE.start[1])
    assert study.ask("t000", 0, fixed=point) == point
    (trial,) = study.study.get_trials()
    assert trial.params == point


def test_mirror_is_an_sqlite_study_with_the_same_trials(tmp_path: Path) -> None:
    study = make()
    for number in range(7):
        live(study, number)
    study.ask("t007", 7)  # still running: not in the mirror
    path = tmp_path / "study.db"
    path.write_bytes(b"an old file")
    mirror(study.study, path)
    mirror(study.study, path)
    loaded = optuna.load_study(study_name=None, storage=optuna.storages.RDBStorage(f"sqlite:///{path}"))
    theirs, ours = loaded.get_trials(), study.study.get_trials()[:7]
    assert [(t.state, t.params, t.user_attrs, t.intermediate_values) for t in theirs] == [
        (t.state, t.params, t.user_attrs, t.intermediate_values) for t in ours
    ]
    assert [t.values for t in theirs] == [t.values for t in ours]
    assert loaded.directions == study.study.directions
    assert [entry.name for entry in tmp_path.iterdir()] == ["study.db"]


def test_samplers_for_conditional_spaces_are_multivariate_and_grouped() -> None:
    sampler = SAMPLERS.get("tpe")(0)
    assert isinstance(sampler, optuna.samplers.TPESampler)
    assert sampler._multivariate
    assert sampler._group


def small_study(choices: tuple[str, ...]) -> Suggestions:
    space = SearchSpace(
        name="small",
        description="",
        parameters=(choice("loss.name", choices),),
        label_by="loss.name",
        start=({"loss.name": choices[0]},),
    )
    return Suggestions(space, sampler="random", seed=0, objective=objective_of(OBJECTIVE))


def test_no_parameters_are_suggested_twice_and_an_exhausted_space_says_so(tmp_path: Path) -> None:
    study = small_study(("cross_entropy", "focal", "dice"))
    first = study.ask("t000", 0, fixed={"loss.name": "cross_entropy"})
    asked = [study.ask(f"t{number:03d}", number) for number in (1, 2)]
    assert first == {"loss.name": "cross_entropy"}
    assert sorted(params["loss.name"] for params in asked if params) == ["dice", "focal"]
    assert study.ask("t003", 3) is None
    for number in range(3):
        study.apply(ended(f"t{number:03d}", "completed", 0.5))
    mirror(study.study, tmp_path / "study.db")
    kept = optuna.load_study(study_name="sweep", storage=f"sqlite:///{tmp_path / 'study.db'}").trials
    assert [t.user_attrs["trial_id"] for t in kept] == ["t000", "t001", "t002"]
