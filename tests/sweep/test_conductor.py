"""The conductor with simulated trials: nothing lost, nothing doubled, and a resume that decides as if never stopped."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from optuna.samplers import BaseSampler
from optuna.trial import TrialState

from search_spaces import SPACES, SearchSpace
from search_spaces.core.parameter import choice, number
from sweep.conductor import RESTARTS, Conductor, Task
from sweep.journal import Journal
from sweep.manifest import Budget
from sweep.objectives import Objective, objective_of
from sweep.samplers import SAMPLERS, Draw
from sweep.schedulers import SCHEDULERS
from sweep.trials import TrialTable
from trainables.errors import ConfigError
from trainables.labels import BASELINE, BEST

from .simulated import (
    OBJECTIVE,
    SPACE,
    Clock,
    Outcome,
    checkpoints_at,
    cut,
    decisions,
    drive,
    make,
    prefixes,
    scores,
    troubled,
)

EPOCHS = 4
TWO_NUMBERS = SearchSpace(
    name="two",
    description="",
    parameters=(
        number("optimizer.lr", 0.01, 0.05, step=0.01),
        number("training.ema", 0.0, 0.9, step=0.3),
        choice("loss.name", ("cross_entropy", "focal")),
    ),
    label_by="loss.name",
    start=(
        {"optimizer.lr": 0.01, "training.ema": 0.0, "loss.name": "cross_entropy"},
        {"optimizer.lr": 0.01, "training.ema": 0.0, "loss.name": "focal"},
    ),
)
"""A space for every sampler: without conditions, and with a grid."""

HIGHEST = objective_of(OBJECTIVE)
LOWEST = dataclasses.replace(HIGHEST, metric=dataclasses.replace(HIGHEST.metric, direction="min"))


def finished(path: Path, *, outcome: Outcome = scores, **options: Any) -> Journal:
    """The journal of a sweep that ran to its end on one slot."""
    journal = Journal(path)
    drive(make(journal, **options), outcome=outcome)
    return journal


def check_invariants(journal: Journal, *, trials: int) -> None:
    """What must hold of every journal of a finished sweep, read from its events alone."""
    table = TrialTable()
    for event in journal.events:
        table.apply(event)
    suggested = [event["trial_id"] for event in journal.of("suggested")]
    ended = [event["trial_id"] for event in journal.of("ended")]
    assert len(set(suggested)) == len(suggested), "a trial suggested twice"
    assert sorted(suggested) == sorted(ended), "a trial lost, or ended twice"
    search = [t for t in table.trials.values() if t.phase == "search"]
    assert [t.trial_id for t in search] == [f"t{n:03d}" for n in range(trials)]
    for trial in table.trials.values():
        epochs = [result["epoch"] for result in trial.results]
        assert epochs == list(range(trial.first_epoch + 1, trial.first_epoch + 1 + len(epochs))), "a result doubled"
        assert (trial.state == "completed") == (trial.epochs == EPOCHS)
    baseline = search[0]
    assert baseline.label == BASELINE
    assert baseline.state != "stopped", "everything is compared with it"
    unfinished = {event["trial_id"] for event in journal.of("unfinished")}
    assert len(unfinished) == len(journal.of("unfinished")), "told twice"
    of_baseline = {result["epoch"]: result["metrics"][OBJECTIVE] for result in baseline.results}
    for label, chosen in table.representatives(objective_of(OBJECTIVE)).items():
        final = table.final(chosen)
        if chosen.trial_id in unfinished:
            assert chosen.state == "stopped" and chosen.metrics[OBJECTIVE] < of_baseline[chosen.epochs] / 2
            assert f"{chosen.trial_id}-finish" not in table.trials
            continue
        finish = table.trials.get(f"{chosen.trial_id}-finish")
        assert final.state == "completed" or (finish is not None and finish.state in ("infeasible", "failed")), label
    for event in journal.of("decision"):
        assert table.trials[event["trial_id"]].state == "stopped"
    stopped = [t.trial_id for t in table.trials.values() if t.state == "stopped"]
    assert sorted(stopped) == sorted(event["trial_id"] for event in journal.of("decision"))


def test_sweep_ends_with_every_label_at_full_budget(tmp_path: Path) -> None:
    with finished(tmp_path / "journal.jsonl") as journal:
        check_invariants(journal, trials=12)
        conductor = make(journal)
        labels = conductor.labels()
        search = conductor.table.of_phase("search")
        assert set(labels) == {BASELINE, BEST} | {str(trial.config["loss.name"]) for trial in search[1:]}
        assert {str(point["loss.name"]) for point in SPACE.start[1:]} < set(labels)
        assert all(trial.epochs == EPOCHS for trial in labels.values())
        best = max(t.metrics[OBJECTIVE] for t in conductor.table.trials.values() if t.state == "completed")
        assert labels[BEST].metrics[OBJECTIVE] == best
        assert any(t.state == "stopped" for t in conductor.table.trials.values()), "ASHA must have had work"
        assert any(t.phase == "finish" for t in conductor.table.trials.values())


def test_trial_0_is_the_known_good_point_and_starting_points_come_next(tmp_path: Path) -> None:
    with finished(tmp_path / "journal.jsonl") as journal:
        events = [event for event in journal.of("suggested") if event["phase"] == "search"]
        for event, point in zip(events, SPACE.start, strict=False):
            assert event["params"] == dict(point)
            assert {key: event["config"][key] for key in point} == dict(point)
        starts = len(SPACE.start)
        assert [e["source"] for e in events] == ["known_good"] + ["start"] * (starts - 1) + ["sampler"] * (12 - starts)
        assert events[0]["label"] == BASELINE
        assert all(event["label"] == event["config"]["loss.name"] for event in events[1:])


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    seed=st.integers(0, 10_000),
    slots=st.integers(1, 5),
    deaths=st.sampled_from([0.0, 0.1, 0.3]),
    scheduler=st.sampled_from(list(SCHEDULERS)),
    kills=st.lists(st.integers(0, 25), max_size=3),
    interrupted=st.booleans(),
)
def test_no_trial_is_lost_or_doubled_whatever_the_order_the_deaths_and_the_kills(
    tmp_path_factory: pytest.TempPathFactory,
    seed: int,
    slots: int,
    deaths: float,
    scheduler: str,
    kills: list[int],
    interrupted: bool,
) -> None:
    path = tmp_path_factory.mktemp("sweep") / "journal.jsonl"
    rng = np.random.default_rng(seed)
    disk: dict[str, int] = {}
    options: dict[str, Any] = {"scheduler": scheduler, "sampler": "random", "budget": Budget(9, EPOCHS), "seed": seed}
    for steps in kills:
        with Journal(path) as journal:
            conductor = make(journal, **options)
            drive(conductor, slots=slots, outcome=troubled, disk=disk, rng=rng, deaths=deaths, until=steps)
            if interrupted:
                conductor.on_interrupt("SIGINT")
    with Journal(path) as journal:
        conductor = make(journal, **options)
        drive(conductor, slots=slots, outcome=troubled, disk=disk, rng=rng, deaths=deaths)
        check_invariants(journal, trials=9)
        states = {t.trial_id: (t.state, t.reason, t.epochs, t.metrics) for t in conductor.table.trials.values()}
        assert all(trial.state.is_finished() for trial in conductor.search.suggestions.study.get_trials())
    with Journal(path) as journal:
        replayed = make(journal, **options)
        assert replayed.finished
        assert replayed.next() is None
        told = {t.trial_id: (t.state, t.reason, t.epochs, t.metrics) for t in replayed.table.trials.values()}
        assert told == states


@pytest.mark.parametrize(
    ("scheduler", "ahead"), [("asha", 0), ("asha", 1), ("median", 0), ("hyperband", 0), ("epoch", 0)]
)
def test_sweep_killed_after_any_event_decides_as_one_that_never_stopped(
    tmp_path: Path, scheduler: str, ahead: int
) -> None:
    """With one slot. `ahead`: the running trial had saved an epoch that the journal had not heard of."""
    with finished(tmp_path / "whole.jsonl", outcome=troubled, scheduler=scheduler) as whole:
        expected = decisions(whole)
        assert {"decision", "ended", "suggested"} == {kind for kind, *_ in expected}
        hopeless = [event["trial_id"] for event in whole.of("unfinished")]
        assert hopeless
        for length in prefixes(whole):
            path = cut(whole.path, tmp_path / "cut.jsonl", length)
            with Journal(path) as journal:
                disk = checkpoints_at(journal.events, ahead)
                drive(make(journal, scheduler=scheduler), outcome=troubled, disk=disk)
                after = whole.events[length - 1]["event"] if length else "nothing"
                assert decisions(journal) == expected, f"cut behind event {length}, a {after!r}"
                assert [event["trial_id"] for event in journal.of("unfinished")] == hopeless


@pytest.mark.parametrize("sampler", list(SAMPLERS))
def test_killed_sweep_decides_as_one_that_never_stopped_whatever_the_sampler(tmp_path: Path, sampler: str) -> None:
    slow = sampler == "gp"  # half a second and more for each suggestion behind the starting points and two at random
    options: dict[str, Any] = {"sampler": sampler, "space": TWO_NUMBERS, "budget": Budget(6 if slow else 9, EPOCHS)}
    with finished(tmp_path / "whole.jsonl", **options) as whole:
        expected = decisions(whole)
        assert len({event["config"]["optimizer.lr"] for event in whole.of("suggested")}) > 2
        lengths = list(prefixes(whole))
        for length in lengths[24::6] if slow else lengths:
            with Journal(cut(whole.path, tmp_path / "cut.jsonl", length)) as journal:
                disk = checkpoints_at(journal.events, 0)
                drive(make(journal, **options), disk=disk)
                assert decisions(journal) == expected, f"cut behind event {length}"


def test_sampler_is_told_of_the_plan_the_trial_and_what_was_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    draws: list[tuple[int, int, int, int]] = []
    real = SAMPLERS.get("random")

    def spy(draw: Draw) -> BaseSampler:
        draws.append((draw.sweep_seed, draw.number, draw.trials, len(draw.asked)))
        return real(draw)

    monkeypatch.setattr(SAMPLERS, "get", lambda name: spy)
    finished(tmp_path / "journal.jsonl", sampler="random", budget=Budget(12, EPOCHS), seed=7).close()
    starts = len(SPACE.start)
    assert draws == [(7, number, 12, number) for number in range(starts, 12)], "starting points need no sampler"


def test_sweep_killed_again_and_again_decides_as_one_that_never_stopped(tmp_path: Path) -> None:
    with finished(tmp_path / "whole.jsonl", outcome=troubled) as whole:
        expected = decisions(whole)
    disk: dict[str, int] = {}
    path = tmp_path / "killed.jsonl"
    for _ in range(200):
        with Journal(path) as journal:
            conductor = make(journal)
            if journal.events and conductor.finished:
                break
            drive(conductor, outcome=troubled, disk=disk, until=2)
    with Journal(path) as journal:
        assert len(journal.of("resumed")) > 5
        assert decisions(journal) == expected


def test_extended_sweep_goes_on_where_a_longer_one_would_be(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    finished(path, budget=Budget(11, EPOCHS), scheduler="none").close()
    with Journal(path) as journal:
        drive(make(journal, budget=Budget(13, EPOCHS), scheduler="none"))
        check_invariants(journal, trials=13)
        extended = [event["params"] for event in journal.of("suggested")]
    with finished(tmp_path / "longer.jsonl", budget=Budget(13, EPOCHS), scheduler="none") as longer:
        assert [event["params"] for event in longer.of("suggested")] == extended


@pytest.mark.parametrize("objective", [HIGHEST, LOWEST], ids=["max", "min"])
def test_label_far_behind_the_baseline_is_not_trained_to_the_end(tmp_path: Path, objective: Objective) -> None:
    """The baseline has 0.4; just within twice as bad is finished, just beyond is not."""
    better = objective is HIGHEST

    def outcome(config: Any, epoch: int) -> dict[str, Any]:
        score = {"cross_entropy": 0.4, "focal": 0.21 if better else 0.79, "dice": 0.19 if better else 0.81}
        return {"metrics": {OBJECTIVE: score.get(config["loss.name"], 0.4)}}

    options: dict[str, Any] = {"objective": objective, "budget": Budget(len(SPACE.start), EPOCHS), "scheduler": "epoch"}
    with finished(tmp_path / "journal.jsonl", outcome=outcome, **options) as journal:
        (event,) = journal.of("unfinished")
        told = "0.1900 at epoch 2 is below 0.2000, half of" if better else "0.8100 at epoch 2 is above 0.8000, twice"
        assert event["reason"] == f"{told} what the baseline had there" and event["by"] == "baseline"
        conductor = make(journal, **options)
        trials = {trial.trial_id: trial for trial in conductor.table.trials.values()}
        assert trials[event["trial_id"]].label == "dice" and trials[event["trial_id"]].state == "stopped"
        assert "focal" in conductor.labels() and "dice" not in conductor.labels()
        finish = [trial.label for trial in conductor.table.of_phase("finish")]
        assert "focal" in finish and "dice" not in finish
        journal.append("settings", changed={"budget": {"time_budget": 900.0}})
        drive(conductor, outcome=outcome)
        assert len(journal.of("unfinished")) == 1, "more time gives no more hope"


def test_sweep_killed_before_it_gave_up_a_label_is_not_finished(tmp_path: Path) -> None:
    def outcome(config: Any, epoch: int) -> dict[str, Any]:
        return {"metrics": {OBJECTIVE: 0.1 if config["loss.name"] == "dice" else 0.4}}

    options: dict[str, Any] = {"budget": Budget(len(SPACE.start), EPOCHS), "scheduler": "epoch"}
    with finished(tmp_path / "whole.jsonl", outcome=outcome, **options) as whole:
        (at,) = [index for index, event in enumerate(whole.events) if event["event"] == "unfinished"]
        assert make(whole, **options).finished
    with Journal(cut(whole.path, tmp_path / "cut.jsonl", at)) as journal:
        conductor = make(journal, **options)
        assert not conductor.table.open() and not conductor.finished
        drive(conductor, outcome=outcome)
        assert [event["reason"] for event in journal.of("unfinished")] == [whole.events[at]["reason"]]


@pytest.mark.parametrize("score", [0.0, None])
def test_without_a_score_of_the_baseline_every_label_is_finished(tmp_path: Path, score: float | None) -> None:
    def outcome(config: Any, epoch: int) -> dict[str, Any]:
        if config["loss.name"] == "cross_entropy":
            return {"infeasible": "diverged"} if score is None else {"metrics": {OBJECTIVE: score}}
        return {"metrics": {OBJECTIVE: 0.001 * len(config["loss.name"])}}

    options: dict[str, Any] = {"budget": Budget(len(SPACE.start), EPOCHS)}
    with finished(tmp_path / "journal.jsonl", outcome=outcome, **options) as journal:
        assert not journal.of("unfinished")
        table = make(journal, **options).table
        assert table.of_phase("finish")
        assert all(table.final(t).state == "completed" for t in table.representatives(HIGHEST).values())


def test_time_budget_ends_the_search_but_not_the_labels(tmp_path: Path) -> None:
    clock = Clock()
    with Journal(tmp_path / "journal.jsonl") as journal:
        conductor = make(journal, budget=Budget(1000, EPOCHS, time_budget=200.0), clock=clock)
        drive(conductor, clock=clock, slots=3)
        search = conductor.table.of_phase("search")
        assert 3 < len(search) < 100
        assert search[0].state == "completed"
        reasons = {trial.reason for trial in search if trial.state == "stopped"}
        assert any(reason.startswith("time budget: ") for reason in reasons)
        assert clock.now > 200, "labels are finished after it"
        check_invariants(journal, trials=len(search))


def test_time_budget_counts_over_all_resumes(tmp_path: Path) -> None:
    path, disk = tmp_path / "journal.jsonl", {}
    for _ in range(3):
        clock = Clock(now=1e6)  # a new process, a new origin
        with Journal(path) as journal:
            conductor = make(journal, budget=Budget(1000, EPOCHS, time_budget=200.0), clock=clock)
            drive(conductor, clock=clock, disk=disk, until=6)
    with Journal(path) as journal:
        conductor = make(journal, budget=Budget(1000, EPOCHS, time_budget=200.0), clock=Clock())
        conductor.start()
        assert conductor.elapsed() == pytest.approx(180, abs=15)


def test_baseline_is_trained_to_the_end_even_when_the_time_is_over_at_once(tmp_path: Path) -> None:
    clock = Clock()
    with Journal(tmp_path / "journal.jsonl") as journal:
        conductor = make(journal, budget=Budget(50, EPOCHS, time_budget=5.0), clock=clock)
        drive(conductor, clock=clock)
        assert [(t.label, t.state, t.epochs) for t in conductor.table.trials.values()] == [(BASELINE, "completed", 4)]


def test_gpu_hours_end_the_search(tmp_path: Path) -> None:
    with Journal(tmp_path / "journal.jsonl") as journal:
        # 10 s an epoch on half a GPU: 0.05 GPU hours are 36 epochs.
        conductor = make(
            journal, budget=Budget(1000, EPOCHS, gpu_hours=0.05), gpus=lambda config: 0.5, scheduler="none"
        )
        drive(conductor)
        assert len(conductor.table.of_phase("search")) == 9
        assert sum(t.epochs for t in conductor.table.of_phase("search")) == 36


@pytest.mark.parametrize("kind", ["infeasible", "failed"])
def test_sweep_of_nothing_but_failures_ends_without_labels(tmp_path: Path, kind: str) -> None:
    with finished(tmp_path / "journal.jsonl", outcome=lambda config, epoch: {kind: "always"}) as journal:
        conductor = make(journal)
        assert conductor.finished
        assert conductor.labels() == {}
        assert {(t.state, t.reason) for t in conductor.table.trials.values()} == {(kind, "always")}
        assert len(conductor.table.trials) == 12


def test_infeasible_baseline_leaves_the_other_labels(tmp_path: Path) -> None:
    def first_diverges(config: Any, epoch: int) -> dict[str, Any]:
        return {"infeasible": "diverged"} if config["loss.name"] == "cross_entropy" else scores(config, epoch)

    with finished(tmp_path / "journal.jsonl", outcome=first_diverges) as journal:
        labels = make(journal).labels()
        assert BASELINE not in labels
        assert BEST in labels
        assert len(labels) > 2


def test_label_whose_continuation_fails_goes_without_and_the_sweep_ends(tmp_path: Path) -> None:
    with Journal(tmp_path / "journal.jsonl") as journal:
        conductor = make(journal)

        def fails_late(config: Any, epoch: int) -> dict[str, Any]:
            searching = any(t.is_open for t in conductor.table.of_phase("search"))
            return scores(config, epoch) if searching else {"failed": "disk full"}

        drive(conductor, outcome=fails_late)
        finish = conductor.table.of_phase("finish")
        assert finish
        assert {t.state for t in finish} == {"failed"}
        assert not {t.label for t in finish} & set(conductor.labels())


def test_result_without_the_objective_fails_the_trial_at_its_end(tmp_path: Path) -> None:
    with finished(
        tmp_path / "journal.jsonl", outcome=lambda config, epoch: {"metrics": {"train/loss": 1.0}}
    ) as journal:
        states = {(e["state"], e["reason"]) for e in journal.of("ended")}
        assert states == {("failed", "it reported no val/miou")}


def test_a_fault_of_the_machine_stops_the_sweep_and_its_trial_goes_on_when_it_is_resumed(tmp_path: Path) -> None:
    with Journal(tmp_path / "journal.jsonl") as journal:
        conductor = make(journal)
        conductor.start()
        one, other = conductor.next(), conductor.next()
        assert one is not None and other is not None
        full = "[Errno 28] No space left on device; free disk space"
        assert conductor.on_trial_result(one.trial_id, {"machine": full, "epoch": 0, "done": True}) is True
        conductor.on_machine_fault(other.trial_id, "the node ran low on memory")
        assert conductor.halted == f"{one.trial_id}: {full}", "the first fault is told"
        assert conductor.next() is None and not conductor.finished and not journal.of("ended")
    with Journal(tmp_path / "journal.jsonl") as journal:
        again = make(journal)
        again.start()
        assert not again.halted
        assert [task.trial_id for task in (again.next(), again.next()) if task] == [one.trial_id, other.trial_id]


def test_late_and_repeated_results_change_nothing(tmp_path: Path) -> None:
    with Journal(tmp_path / "journal.jsonl") as journal:
        conductor = make(journal)
        conductor.start()
        task = conductor.next()
        assert task is not None
        first = {"epoch": 1, "seconds": 1.0, **scores(task.config, 1)}
        assert conductor.on_trial_result(task.trial_id, first) is False
        length = len(journal.events)
        assert conductor.on_trial_result(task.trial_id, first) is False
        assert len(journal.events) == length
        conductor.on_trial_result(task.trial_id, {"failed": "broken", "epoch": 1})
        assert conductor.table.trials[task.trial_id].state == "failed"
        assert conductor.on_trial_result(task.trial_id, {**first, "epoch": 2}) is True
        conductor.on_worker_death(task.trial_id, "too late")
        assert len(journal.events) == length + 1


def after_one_epoch(journal: Journal) -> tuple[Conductor, Task]:
    """A sweep whose first trial has trained an epoch."""
    conductor = make(journal)
    conductor.start()
    task = conductor.next()
    assert task is not None
    conductor.on_trial_result(task.trial_id, {"epoch": 1, "seconds": 1.0, **scores(task.config, 1)})
    return conductor, task


def test_trial_whose_worker_dies_is_the_next_to_be_handed_out_and_fails_with_its_third_death(tmp_path: Path) -> None:
    with Journal(tmp_path / "journal.jsonl") as journal:
        conductor, task = after_one_epoch(journal)
        for _ in range(RESTARTS):
            conductor.on_worker_death(task.trial_id, "SIGKILL")
            again = conductor.next()
            assert again is not None
            assert (again.trial_id, again.reported) == (task.trial_id, 1), "its first epoch was heard"
        conductor.on_worker_death(task.trial_id, "SIGKILL")
        (end,) = journal.of("ended")
        assert (end["trial_id"], end["state"]) == (task.trial_id, "failed")
        assert end["reason"].startswith("its worker died 3 times (SIGKILL)")
        following = conductor.next()
        assert following is not None and following.trial_id != task.trial_id


@pytest.mark.parametrize(
    ("kind", "reason", "told"),
    [
        ("on_node_death", "its node has died", "3 nodes died under it (its node has died)"),
        ("on_memory_kill", "killed because ...", "3 times its worker was killed because ..."),
    ],
)
def test_trial_whose_node_dies_or_lacks_memory_goes_on_after_its_last_epoch_and_never_fails_for_it(
    kind: str, reason: str, told: str, tmp_path: Path
) -> None:
    with Journal(tmp_path / "journal.jsonl") as journal:
        conductor, task = after_one_epoch(journal)
        for _ in range(RESTARTS):
            getattr(conductor, kind)(task.trial_id, reason)
            again = conductor.next()
            assert again is not None and (again.trial_id, again.reported) == (task.trial_id, 1)
        assert not conductor.halted
        getattr(conductor, kind)(task.trial_id, reason)
        assert told in conductor.halted
        assert journal.of("ended") == [] and {event["reason"] for event in journal.of("restarted")} == {reason}


def test_optuna_and_the_table_agree_about_every_end(tmp_path: Path) -> None:
    budget = Budget(trials=20, max_epochs=4)
    with finished(tmp_path / "journal.jsonl", outcome=troubled, budget=budget) as journal:
        conductor = make(journal, budget=budget)
        told = {t.user_attrs["trial_id"]: t.state for t in conductor.search.suggestions.study.get_trials()}
        meant = {
            "completed": TrialState.COMPLETE,
            "stopped": TrialState.PRUNED,
            "infeasible": TrialState.PRUNED,
            "failed": TrialState.FAIL,
        }
        assert told == {t.trial_id: meant[t.state] for t in conductor.table.of_phase("search")}
        assert {t.state for t in conductor.table.of_phase("search")} == set(meant), "each kind of end must occur"


def test_minimised_objective_stops_the_large_ones(tmp_path: Path) -> None:
    with finished(tmp_path / "journal.jsonl", objective=LOWEST) as journal:
        conductor = make(journal, objective=LOWEST)
        search = conductor.table.of_phase("search")
        stopped = [t.metrics[OBJECTIVE] for t in search if t.state == "stopped"]
        completed = [t.metrics[OBJECTIVE] for t in search if t.state == "completed" and t.label != BASELINE]
        assert stopped
        assert np.mean(stopped) > np.mean(completed)
        assert conductor.labels()[BEST].metrics[OBJECTIVE] == min(
            t.metrics[OBJECTIVE] for t in conductor.table.trials.values() if t.state == "completed"
        )


def test_suggestion_that_no_configuration_holds_is_an_error_not_a_trial(tmp_path: Path) -> None:
    overridden = SPACES.get("loss")(["lraspp_mobilenet_v3_large"], "none")
    wider = [dataclasses.replace(p, high=100.0) if p.key == "optimizer.lr" else p for p in overridden.parameters]
    space = dataclasses.replace(overridden, parameters=tuple(wider), start=())
    with Journal(tmp_path / "journal.jsonl") as journal, pytest.raises(ConfigError, match=r"optimizer\.lr"):
        drive(make(journal, space=space))


def test_search_ends_when_nothing_new_can_be_suggested_also_after_a_resume(tmp_path: Path) -> None:
    models = ["fcn_resnet50", "lraspp_mobilenet_v3_large"]
    space = SPACES.get("architecture")(models, "none").fix({"optimizer.lr": 1e-3})
    with Journal(tmp_path / "journal.jsonl") as journal:
        drive(make(journal, space=space))
        assert len(journal.of("exhausted")) == 1
    with Journal(tmp_path / "journal.jsonl") as journal:
        conductor = make(journal, space=space)
        conductor.start()
        assert conductor.finished
        assert [trial.config["model.name"] for trial in conductor.table.of_phase("search")] == models


@pytest.mark.parametrize("scheduler", ["asha", "median", "none"])
def test_schedules_span_the_full_budget_whether_or_not_a_trial_is_stopped(tmp_path: Path, scheduler: str) -> None:
    with Journal(tmp_path / "journal.jsonl") as journal:
        conductor = make(journal, budget=Budget(trials=15, max_epochs=6), scheduler=scheduler, base={
            "image_size": "32x32", "epochs": 6, "model.name": "lraspp_mobilenet_v3_large", "model.weights": "none",
            "seed": 0,
        })  # fmt: skip
        drive(conductor, slots=3)
        trials = conductor.table.trials.values()
        stopped = [trial for trial in trials if trial.state == "stopped"]
        assert bool(stopped) == (scheduler != "none")
        assert {trial.config["epochs"] for trial in trials} == {6}, "the budget that schedules are built for"
        rungs = {event["epoch"] for event in journal.of("decision")}
        assert rungs <= ({2} if scheduler == "asha" else {2, 3, 4, 5})
        for trial in conductor.labels().values():
            assert trial.epochs == 6, "labels are compared at full budget"
