"""What Optuna is told, and that its suggestions depend on nothing but seed, number and history."""

from __future__ import annotations

import dataclasses
import itertools
import math
import operator
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest
import scipy.stats
from optuna.trial import TrialState

from search_spaces import SPACES, SearchSpace
from search_spaces.core.parameter import Parameter, When, choice
from search_spaces.core.parameter import number as real
from sweep import study_db
from sweep.objectives import objective_of
from sweep.optuna_study import INFEASIBLE, Suggestions
from sweep.samplers import MOST_GRID_POINTS, SAMPLERS, Draw, check_sampler
from sweep.study_db import mirror
from trainables.errors import UsageError

OBJECTIVE = "val/miou"
SPACE: SearchSpace = SPACES.get("lr")(["lraspp_mobilenet_v3_large"], "none")
WHOLE = SPACE.fix({"optimizer.name": "sgd"})
"""Without conditions, and with continuous ranges."""
STEPPED = SearchSpace(
    name="stepped",
    description="",
    parameters=(
        choice("optimizer.name", ("adamw", "sgd")),
        real("schedule.warmup", 0.0, 0.4, step=0.1),
        real("optimizer.momentum", 0.8, 0.95, step=0.05, when=(When("optimizer.name", ("sgd",)),)),
        real("training.ema", 0.0, 0.9, step=0.3),
    ),
    label_by="optimizer.name",
    start=({"optimizer.name": "adamw", "schedule.warmup": 0.3, "training.ema": 0.0},),
)
"""A grid of 2 choices, the second with 4 momenta: 5 * 4 * (1 + 4) points."""
SMALL = WHOLE.fix({"schedule.name": "one_cycle", "training.ema": 0.0, "optimizer.momentum": 0.9})
SPACE_FOR = {"gp": SMALL, "nsga2": WHOLE, "grid": STEPPED}
TRIALS = 20


def make(sampler: str = "tpe", seed: int = 0, space: SearchSpace | None = None, trials: int = TRIALS) -> Suggestions:
    space = space or SPACE_FOR.get(sampler, SPACE)
    return Suggestions(space, sampler=sampler, seed=seed, trials=trials, objective=objective_of(OBJECTIVE))


def asked(study: Suggestions) -> list[optuna.trial.FrozenTrial]:
    """The trials that were suggested; without those in which suggestions were drawn."""
    return [trial for trial in study.study.get_trials() if "trial_id" in trial.user_attrs]


def result(trial_id: str, epoch: int, score: float) -> dict[str, Any]:
    return {"event": "result", "trial_id": trial_id, "epoch": epoch, "seconds": 1.0, "metrics": {OBJECTIVE: score}}


def ended(trial_id: str, state: str, score: float | None = None, reason: str = "") -> dict[str, Any]:
    metrics = {} if score is None else {OBJECTIVE: score}
    return {"event": "ended", "trial_id": trial_id, "state": state, "reason": reason, "metrics": metrics}


def score_of(params: dict[str, Any]) -> float:
    return 0.7 - abs(float(params["schedule.warmup"]) - 0.1) - (0.1 if params.get("optimizer.name") == "sgd" else 0.0)


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
    trials = asked(study)
    assert [t.state for t in trials] == [TrialState.COMPLETE, TrialState.PRUNED, TrialState.PRUNED, TrialState.FAIL]
    assert trials[0].value == 0.5
    assert trials[0].intermediate_values == trials[1].intermediate_values == {1: 0.4}
    assert [t.user_attrs["trial_id"] for t in trials] == ["t000", "t001", "t002", "t003"]
    assert [t.user_attrs["state"] for t in trials] == ["completed", "stopped", "infeasible", "failed"]
    assert trials[2].user_attrs["reason"] == "why"
    feasible = [t.constraints[INFEASIBLE] <= 0 for t in trials[:3]]
    assert feasible == [True, True, False]
    assert study.study.best_trial.user_attrs["trial_id"] == "t000"


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
    (trial,) = asked(study)
    assert trial.state == TrialState.RUNNING
    assert trial.intermediate_values == {}


@pytest.mark.parametrize("sampler", list(SAMPLERS))
@pytest.mark.parametrize("history", [3, 8, 12])
def test_study_rebuilt_from_its_history_suggests_the_same_next_points(sampler: str, history: int) -> None:
    """Past a start-up of 5 trials TPE, for one, reads what it was told: values, prunings, constraints."""
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
    first = make(sampler, seed=1).ask("t000", 0)
    assert make(sampler, seed=1).ask("t000", 0) == first
    assert make(sampler, seed=2).ask("t000", 0) != first
    another = make(sampler, seed=1)
    another.ask("t000", 0)
    assert another.ask("t001", 1) != first


@pytest.mark.parametrize("sampler", list(SAMPLERS))
def test_result_of_one_among_several_running_trials_does_not_depend_on_a_restart(sampler: str) -> None:
    """Three at once, ended in another order than begun: what is left open counts the same when it is replayed."""
    events: list[tuple[Any, ...]] = []
    first = make(sampler, seed=4, trials=12)
    for number in range(8):
        events.append(("ask", number, first.ask(f"t{number:03d}", number)))
        if number >= 2:
            end = ended(f"t{number - 2 + (-1) ** number:03d}", "completed", 0.3 + 0.01 * number)
            first.apply(end)
            events.append(("ended", end))
    again = make(sampler, seed=4, trials=12)
    for kind, *rest in events:
        if kind == "ask":
            again.ask(f"t{rest[0]:03d}", rest[0], fixed=rest[1])
        else:
            again.apply(rest[0])
    for number in range(8, 11):
        assert again.ask(f"t{number:03d}", number) == first.ask(f"t{number:03d}", number)


def test_some_samplers_read_their_history_and_the_others_do_not() -> None:
    def after(sampler: str, best: float) -> dict[str, Any]:
        study = make(sampler)
        for number in range(12):
            study.ask(f"t{number:03d}", number, fixed=known[number])
            study.apply(ended(f"t{number:03d}", "completed", best if number < 4 else 0.1 + 0.001 * number))
        return study.ask("next", 12)

    for sampler in SAMPLERS:
        drawn = make("random" if SPACE_FOR.get(sampler) is None else sampler, space=SPACE_FOR.get(sampler))
        known = [drawn.ask(f"t{number:03d}", number) for number in range(12)]
        assert (after(sampler, 0.9) != after(sampler, 0.0)) == (sampler in ("tpe", "gp", "nsga2")), sampler


def test_starting_point_is_taken_as_it_is() -> None:
    study = make()
    point = dict(SPACE.start[1])
    assert study.ask("t000", 0, fixed=point) == point
    (trial,) = study.study.get_trials()
    assert trial.params == point


@pytest.mark.parametrize("known", [True, False], ids=["by difference", "tables of another Optuna"])
def test_mirror_is_an_sqlite_study_with_the_same_trials(
    known: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not known:
        monkeypatch.setitem(study_db._TABLES, "trials", "trial_id, number, study_id, state, began, completed")
    study = make()
    for number in range(7):
        live(study, number)
    study.ask("t007", 7)  # still running: not in the mirror
    path = tmp_path / "study.db"
    path.write_bytes(b"an old file")
    mirror(study.study, path)
    mirror(study.study, path)
    loaded = optuna.load_study(study_name=None, storage=optuna.storages.RDBStorage(f"sqlite:///{path}"))
    theirs, ours = loaded.get_trials(), asked(study)[:7]
    assert [(t.state, t.params, t.user_attrs, t.intermediate_values) for t in theirs] == [
        (t.state, t.params, t.user_attrs, t.intermediate_values) for t in ours
    ]
    assert [t.values for t in theirs] == [t.values for t in ours]
    assert loaded.directions == study.study.directions
    assert [entry.name for entry in tmp_path.iterdir()] == ["study.db"]


def test_samplers_for_conditional_spaces_are_multivariate_and_grouped() -> None:
    sampler = SAMPLERS.get("tpe")(Draw(SPACE, 0))
    assert isinstance(sampler, optuna.samplers.TPESampler)
    assert sampler._multivariate
    assert sampler._group


def small_study(choices: tuple[str, ...], sampler: str) -> Suggestions:
    space = SearchSpace(
        name="small",
        description="",
        parameters=(choice("loss.name", choices),),
        label_by="loss.name",
        start=({"loss.name": choices[0]},),
    )
    return make(sampler, space=space)


@pytest.mark.parametrize("sampler", list(SAMPLERS))
def test_no_parameters_are_suggested_twice_and_an_exhausted_space_says_so(sampler: str, tmp_path: Path) -> None:
    study = small_study(("cross_entropy", "focal", "dice"), sampler)
    first = study.ask("t000", 0, fixed={"loss.name": "cross_entropy"})
    then = [study.ask(f"t{number:03d}", number) for number in (1, 2)]
    assert first == {"loss.name": "cross_entropy"}
    assert sorted(params["loss.name"] for params in then if params) == ["dice", "focal"]
    assert study.ask("t003", 3) is None
    for number in range(3):
        study.apply(ended(f"t{number:03d}", "completed", 0.5))
    mirror(study.study, tmp_path / "study.db")
    kept = optuna.load_study(study_name="sweep", storage=f"sqlite:///{tmp_path / 'study.db'}").trials
    assert [t.user_attrs["trial_id"] for t in kept] == ["t000", "t001", "t002"]


@pytest.mark.parametrize("sampler", ["tpe", "nsga2"])
def test_sampler_that_learnt_which_of_few_is_best_still_tries_the_others(sampler: str) -> None:
    losses, sizes = ("cross_entropy", "focal", "dice"), ("48x64", "72x96", "96x128", "120x160")
    space = SearchSpace(
        name="few",
        description="",
        parameters=(choice("loss.name", losses), choice("image_size", sizes)),
        label_by="loss.name",
        start=({"loss.name": losses[0], "image_size": sizes[0]},),
    )
    study = make(sampler, space=space, trials=8)
    found = [study.ask("t000", 0, fixed=dict(space.start[0]))]
    while found[-1] is not None:
        study.apply(ended(f"t{len(found) - 1:03d}", "completed", 0.3 + 0.02 * losses.index(found[-1]["loss.name"])))
        found.append(study.ask(f"t{len(found):03d}", len(found)))
    assert len(found[:-1]) == len(losses) * len(sizes)


def test_grid_tries_every_configuration_once_in_an_order_of_its_own() -> None:
    orders = []
    for seed in (0, 1):
        study = make("grid", seed=seed)
        study.ask("t000", 0, fixed=STEPPED.start[0])
        found = [dict(STEPPED.start[0])]
        while (params := study.ask(f"t{len(found):03d}", len(found))) is not None:
            found.append(params)
        warmups, emas, momenta = (0.0, 0.1, 0.2, 0.3, 0.4), (0.0, 0.3, 0.6, 0.9), (0.8, 0.85, 0.9, 0.95)
        expected = [
            {"optimizer.name": "adamw", "schedule.warmup": w, "training.ema": e}
            for w, e in itertools.product(warmups, emas)
        ] + [
            {"optimizer.name": "sgd", "schedule.warmup": w, "optimizer.momentum": m, "training.ema": e}
            for w, m, e in itertools.product(warmups, momenta, emas)
        ]
        key = operator.methodcaller("__repr__")
        assert sorted((sorted(p.items()) for p in found), key=key) == sorted(
            (sorted(p.items()) for p in expected), key=key
        )
        orders.append(found)
    assert orders[0] != orders[1]
    assert [p["schedule.warmup"] for p in orders[0]] != sorted(p["schedule.warmup"] for p in orders[0])


def test_dropped_points_of_a_grid_are_not_asked_for_again() -> None:
    study = make("grid")
    seen = []
    for _ in range(100):
        seen.append(study.ask("t000", 0))
        study.drop("t000")
    assert None not in seen and study.ask("t000", 0) is None, "one trial walked over all of the 100 points"


def unit(space: SearchSpace, points: list[dict[str, Any]]) -> np.ndarray:
    """The numbers that all trials have, each over its range as 0 .. 1."""

    def share(p: Parameter, value: float) -> float:
        return math.log(value / p.low) / math.log(p.high / p.low) if p.log else (value - p.low) / (p.high - p.low)

    ranges = [p for p in space.parameters if p.kind == "float" and not p.when]
    return np.asarray([[share(p, point[p.key]) for p in ranges] for point in points])


def test_sobol_points_cover_the_ranges_more_evenly_than_random_ones() -> None:
    def discrepancy(sampler: str, seed: int) -> float:
        study = make(sampler, seed=seed)
        points = [study.ask(f"t{number:03d}", number) for number in range(2, 34)]
        assert all(set(point) == set(SPACE.complete(point)) for point in points), "conditions are kept"
        return float(scipy.stats.qmc.discrepancy(unit(SPACE, points)))

    assert all(discrepancy("qmc", seed) < 0.7 * discrepancy("random", seed) for seed in range(3))


def test_sobol_numbers_become_every_kind_of_value() -> None:
    whole = Parameter("batch_size", "int", low=1, high=64, log=True)
    space = dataclasses.replace(STEPPED, parameters=(*STEPPED.parameters, whole), start=())
    study = make("qmc", space=space)
    points = [study.ask(f"t{number:03d}", number) for number in range(64)]
    for parameter in space.parameters:
        values = [point[parameter.key] for point in points if parameter.key in point]
        assert all(map(parameter.contains, values)) and set(parameter.ends()) - set(values) <= {1, 64}
    sizes = [int(point["batch_size"]) for point in points]
    assert 28 <= sum(size <= 8 for size in sizes) <= 36, "half below the geometric middle"


@pytest.mark.parametrize("sampler", ["gp", "nsga2"])
def test_conditional_space_is_refused_by_samplers_that_would_draw_it_at_random(sampler: str) -> None:
    with pytest.raises(
        UsageError, match=f"--sampler {sampler} cannot search the space lr: .*momentum: use tpe, qmc or"
    ):
        check_sampler(sampler, SPACE)
    check_sampler(sampler, WHOLE)


def test_grid_refuses_what_cannot_be_tried_one_by_one() -> None:
    with pytest.raises(UsageError, match=r"optimizer.lr, .* can have any value of a range: give a step .* --set"):
        check_sampler("grid", SPACE)
    check_sampler("grid", STEPPED)
    many = tuple(real(f"training.x{n}", 0, 9, step=1) for n in range(5))
    with pytest.raises(UsageError, match=f"more than {MOST_GRID_POINTS} configurations: hold some"):
        check_sampler("grid", SearchSpace("many", "", many, label_by="training.x0"))
    check_sampler("grid", SearchSpace("fewer", "", many[:4], label_by="training.x0"))


def spread(points: np.ndarray) -> float:
    """The mean distance of a point to its nearest neighbour."""
    distances = np.linalg.norm(points[:, None] - points[None], axis=-1) + 9 * np.eye(len(points))
    return float(distances.min(axis=1).mean())


def test_suggestions_asked_for_at_once_are_not_one_and_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """16 after 30 results: as far apart as random ones nearly, and farther than without the liar."""

    def asked_at_once(sampler: str, seed: int) -> float:
        study = make(sampler, seed=seed, trials=60, space=WHOLE)
        draws = make("random", seed=seed, space=WHOLE)
        for number in range(30):
            known = draws.ask(f"t{number:03d}", number)
            study.ask(f"t{number:03d}", number, fixed=known)
            study.apply(ended(f"t{number:03d}", "completed", score_of(known)))
        return spread(unit(WHOLE, [study.ask(f"t{number:03d}", number) for number in range(30, 46)]))

    def mean(sampler: str) -> float:
        return float(np.mean([asked_at_once(sampler, seed) for seed in range(3)]))

    with_liar, at_random = mean("tpe"), mean("random")
    real = optuna.samplers.TPESampler
    monkeypatch.setattr(optuna.samplers, "TPESampler", lambda **given: real(**{**given, "constant_liar": False}))
    without = mean("tpe")
    print(with_liar, at_random, without)
    assert with_liar > 0.5 * at_random
    assert with_liar > without


@pytest.mark.parametrize(("trials", "startup"), [(1, 2), (8, 2), (12, 3), (40, 10), (400, 10)])
def test_sampler_begins_to_learn_after_a_quarter_of_the_plan(trials: int, startup: int) -> None:
    assert Draw(SPACE, 0, trials=trials).startup == startup

    def nth(number: int, best: float) -> dict[str, Any]:
        study = make(trials=trials)
        for n in range(number):
            study.ask(f"t{n:03d}", n)
            study.apply(ended(f"t{n:03d}", "completed", best if n == 0 else 0.3))
        return study.ask("next", number)

    if startup > 2:
        assert nth(startup - 1, 0.9) == nth(startup - 1, 0.0), "still at random"
    assert nth(startup + 1, 0.9) != nth(startup + 1, 0.0)
