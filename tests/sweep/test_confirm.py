"""The confirmation: what is trained again, with which seeds, when it ends, and who wins, all from the journal."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sweep.claims import Outcome
from sweep.conductor import Conductor
from sweep.deciding import decide
from sweep.journal import Journal
from sweep.manifest import Budget
from sweep.objectives import Objective, objective_of
from sweep.phases.confirm import confirm_id, confirming, fresh_seed, repeated
from sweep.planning import Asked, make_plan
from sweep.ranking import configuration, identity_of
from sweep.verdict import Verdict, why_unconfirmed
from trainables.labels import BASELINE, BEST
from trainables.metrics import sampling_units
from trainables.metrics.registry import ConfusionsAlone

from .simulated import OBJECTIVE, Clock, cut, decisions, drive, drive_in_time, fraction, make
from .test_planning import setting

SAME = ConfusionsAlone(np.tile(np.array([[6, 2], [3, 9]]), (100, 1, 1)))
"""What every model does on every image, so that images move no difference."""
BUDGET = Budget(trials=8, max_epochs=4, confirm_top=2, confirm_seeds=3)
GAIN = 0.1


def lucky(config: Mapping[str, Any], epoch: int) -> dict[str, Any]:
    """Equals whose scores are luck: of the configuration's seed, and of nothing else."""
    return {"metrics": {OBJECTIVE: 0.4 + 0.03 * fraction(config) + 0.01 * epoch}}


def focal_is_better(config: Mapping[str, Any], epoch: int) -> dict[str, Any]:
    told = lucky(config, epoch)["metrics"][OBJECTIVE]
    return {"metrics": {OBJECTIVE: told + GAIN * (config["loss.name"] == "focal")}}


def run(path: Path, outcome: Any = lucky, **changes: Any) -> Conductor:
    with Journal(path) as journal:
        conductor = make(journal, **{"budget": BUDGET, **changes})
        drive(conductor, outcome=outcome)
    return conductor


def verdict(conductor: Conductor) -> Verdict:
    choice = confirming(conductor.journal.events)
    assert choice is not None
    return decide(
        conductor.confirmed(), conductor.objective, split="val", collected=lambda trial_id: SAME,
        units=sampling_units([None] * 100), chosen_from=int(choice["chosen_from"]),
    )  # fmt: skip


def test_best_few_and_the_baseline_are_trained_again_with_the_same_fresh_seeds(tmp_path: Path) -> None:
    conductor = run(tmp_path / "j.jsonl")
    table, objective = conductor.table, conductor.objective
    chosen = (confirming(conductor.journal.events) or {})["trials"]
    rest = [t for t in table.completed(objective) if t.trial_id != "t000"]
    ranked = sorted(rest, key=lambda t: -t.metrics[OBJECTIVE])
    assert chosen == ["t000", *(trial.trial_id for trial in ranked[:2])]
    again = table.of_phase("confirm")
    assert [t.trial_id for t in again] == [f"{one}-s{n}" for n in (1, 2, 3) for one in chosen], "round by round"
    of_search = {t.config["seed"] for t in table.explored()}
    for trial in again:
        source = table.trials[repeated(trial.trial_id)]
        assert configuration(trial) == configuration(source) and trial.label == source.label
        assert trial.config["seed"] not in of_search and trial.state == "completed" and trial.parent is None
    by_round = [{t.config["seed"] for t in again if t.trial_id.endswith(f"-s{n}")} for n in (1, 2, 3)]
    assert [len(seeds) for seeds in by_round] == [1, 1, 1] and len(set.union(*by_round)) == 3


@pytest.mark.parametrize("slots", [2, 3])
def test_places_that_wait_for_the_last_trials_give_the_baseline_its_seeds(tmp_path: Path, slots: int) -> None:
    clock = Clock()
    with Journal(tmp_path / "j.jsonl") as journal:
        conductor = make(journal, budget=BUDGET, clock=clock)
        drive_in_time(conductor, clock, slots=slots, seconds_of=lambda config: 8 + 4 * fraction(config))
        open_trials: set[str] = set()
        ahead: list[str] = []
        for event in journal.events:
            if event["event"] == "suggested":
                open_trials.add(event["trial_id"])
                ahead += [event["trial_id"]] if event["phase"] == "confirm" else []
            elif event["event"] == "ended":
                open_trials.remove(event["trial_id"])
            elif event["event"] == "confirming":
                break
        assert ahead and ahead == [confirm_id("t000", n) for n in range(1, len(ahead) + 1)]
        assert open_trials <= set(ahead), "the others are chosen when all that may be chosen have ended"
        chosen = (confirming(journal.events) or {})["trials"]
        again = [trial.trial_id for trial in conductor.table.of_phase("confirm")]
        assert sorted(again) == sorted(confirm_id(one, n) for one in chosen for n in (1, 2, 3))


def test_luckiest_seed_is_never_crowned_and_the_winner_has_the_best_mean(tmp_path: Path) -> None:
    conductor = run(tmp_path / "j.jsonl", focal_is_better)
    groups = conductor.table.confirmed(conductor.objective)
    means = {repeated(g[0].trial_id): np.mean([t.metrics[OBJECTIVE] for t in g]) for g in groups}
    labels = conductor.labels()
    assert repeated(groups[0][0].trial_id) == "t000" and len(groups) == 3
    assert labels[BEST].trial_id == max(means, key=lambda one: means[one]) and labels[BEST].label == "focal"
    assert {trial.phase for trial in labels.values()} <= {"search", "finish"}
    assert labels[BASELINE].trial_id == "t000"


def test_baseline_wins_where_its_mean_is_best(tmp_path: Path) -> None:
    def only_lucky_once(config: Mapping[str, Any], epoch: int) -> dict[str, Any]:
        first = config["loss.name"] != "cross_entropy" and config["seed"] == 0
        return {"metrics": {OBJECTIVE: 0.4 + 0.2 * first + 0.1 * (config["loss.name"] == "cross_entropy")}}

    with Journal(tmp_path / "j.jsonl") as journal:
        conductor = make(journal, budget=BUDGET)
        drive(conductor, outcome=only_lucky_once)
        assert conductor.labels()[BEST].trial_id == "t000"
        assert verdict(conductor).outcome is Outcome.WORSE


@pytest.mark.parametrize("cuts", ["every"])
def test_killed_after_any_event_it_decides_as_one_that_never_stopped(tmp_path: Path, cuts: str) -> None:
    whole = run(tmp_path / "whole.jsonl").journal
    begun = next(place for place, event in enumerate(whole.events) if event["event"] == "confirming")
    for events in range(begun - 1, len(whole.events), 3):
        path = cut(tmp_path / "whole.jsonl", tmp_path / f"cut{events}.jsonl", events)
        with Journal(path) as journal:
            disk = {e["trial_id"]: e["epoch"] for e in journal.events if e["event"] == "result"}
            conductor = make(journal, budget=BUDGET)
            drive(conductor, outcome=lucky, disk=disk)
            assert decisions(journal) == decisions(whole)
            assert conductor.labels()[BEST].trial_id == run(tmp_path / f"again{events}.jsonl").labels()[BEST].trial_id


def test_more_trials_ask_again_and_keep_the_seeds_that_are_there(tmp_path: Path) -> None:
    path = tmp_path / "j.jsonl"
    first = run(path)
    trained = {t.trial_id for t in first.table.of_phase("confirm")}
    with Journal(path) as journal:
        conductor = make(journal, budget=Budget(trials=12, max_epochs=4, confirm_top=2, confirm_seeds=3))
        known = {configuration(trial) for trial in conductor.table.explored()}

        def new_is_better(config: Mapping[str, Any], epoch: int) -> dict[str, Any]:
            held = identity_of(config)
            return {"metrics": {OBJECTIVE: lucky(config, epoch)["metrics"][OBJECTIVE] + 0.2 * (held not in known)}}

        drive(conductor, outcome=new_is_better)
        told = [e["trials"] for e in journal.of("confirming")]
        assert len(told) == 2 and told[0] != told[1]
        ids = [e["trial_id"] for e in journal.of("suggested")]
        assert len(ids) == len(set(ids)), "nothing is trained twice"
        wanted = {confirm_id(one, n) for one in told[1] for n in (1, 2, 3)}
        assert wanted | trained == {t.trial_id for t in conductor.table.of_phase("confirm")}


def test_what_can_win_no_more_is_left_out(tmp_path: Path) -> None:
    def far_apart(config: Mapping[str, Any], epoch: int) -> dict[str, Any]:
        told = lucky(config, epoch)["metrics"][OBJECTIVE]
        if config["loss.name"] == "focal":
            told += 0.3
        return {"metrics": {OBJECTIVE: told + (0.3 if config["seed"] == 0 and config["loss.name"] == "dice" else 0.0)}}

    conductor = run(
        tmp_path / "j.jsonl", far_apart, budget=Budget(trials=7, max_epochs=4, confirm_top=2, confirm_seeds=6)
    )
    labels = {repeated(t.trial_id): t.label for t in conductor.table.of_phase("confirm")}
    assert sorted(labels.values()) == ["baseline", "dice", "focal"]
    (told,) = conductor.journal.of("left_out")
    assert labels[told["trial_id"]] == "dice" and "behind" in told["reason"]
    seeds = {
        label: len([t for t in conductor.table.of_phase("confirm") if t.label == label]) for label in labels.values()
    }
    assert seeds == {"baseline": 6, "focal": 6, "dice": 2}
    found = verdict(conductor)
    assert found.outcome is Outcome.BETTER and found.of(found.winner).label == "focal"


def test_nothing_is_confirmed_where_there_is_nothing_to_compare(tmp_path: Path) -> None:
    def fails(config: Mapping[str, Any], epoch: int) -> dict[str, Any]:
        return {"failed": "broken"} if config["loss.name"] == "cross_entropy" else lucky(config, epoch)

    conductor = run(tmp_path / "no-baseline.jsonl", fails)
    assert not conductor.table.of_phase("confirm") and conductor.confirmed() == []
    assert "the baseline did not finish" in why_unconfirmed(conductor.journal.events)
    alone = run(tmp_path / "alone.jsonl", budget=Budget(trials=1, max_epochs=4, confirm_top=1, confirm_seeds=3))
    assert "no other configuration" in why_unconfirmed(alone.journal.events)
    without = run(tmp_path / "without.jsonl", budget=Budget(trials=4, max_epochs=4))
    assert not without.table.of_phase("confirm") and why_unconfirmed(without.journal.events) == ""


def test_failed_seed_is_left_out_and_one_seed_is_none(tmp_path: Path) -> None:
    def broken(config: Mapping[str, Any], epoch: int) -> dict[str, Any]:
        if config["seed"] == fresh_seed(3, 2):
            return {"infeasible": "diverged"}
        return lucky(config, epoch)

    conductor = run(tmp_path / "j.jsonl", broken)
    assert [len(one.seeds) for one in conductor.confirmed()] == [2, 2, 2]
    assert [one.lost for one in conductor.confirmed()] == [1, 1, 1]

    def all_but_one(config: Mapping[str, Any], epoch: int) -> dict[str, Any]:
        return lucky(config, epoch) if config["seed"] in (0, fresh_seed(3, 1)) else {"infeasible": "diverged"}

    conductor = run(tmp_path / "k.jsonl", all_but_one)
    assert conductor.confirmed() == [] and conductor.labels()[BEST].phase in ("search", "finish")


@pytest.mark.parametrize("seconds", [150.0, 260.0, 420.0, 700.0])
@pytest.mark.parametrize("slots", [1, 2])
def test_confirmation_keeps_the_time_budget_and_the_search_leaves_it_its_share(
    tmp_path: Path, seconds: float, slots: int
) -> None:

    plan = make_plan(setting("loss", slots=slots), Asked(None, None, seconds))
    left = seconds - plan.prepare_seconds
    clock = Clock()
    with Journal(tmp_path / "j.jsonl") as journal:
        conductor = make(
            journal, plan=plan, slots=slots, clock=clock,
            budget=Budget(plan.trials, plan.max_epochs, left, None, True, plan.confirm_top, plan.confirm_seeds),
            base={"image_size": "96x128", "epochs": plan.max_epochs, "model.name": "lraspp_mobilenet_v3_large",
                  "model.weights": "none", "seed": 0},
        )  # fmt: skip
        assert drive_in_time(conductor, clock, slots=slots, seconds_of=lambda config: 3.0)
        assert clock.now + plan.report_seconds <= left + 0.03 * seconds
        trained = conductor.table.of_phase("confirm")
        if plan.confirm_seeds:
            assert len(trained) >= 2 * (1 + plan.confirm_top), "two seeds of each at the least"
            assert len({t.config["seed"] for t in trained if t.state == "completed"}) >= 2


def test_round_that_was_begun_is_left_where_its_next_trial_cannot_end_in_time(tmp_path: Path) -> None:
    """A trial that is not begun costs nothing; one that is begun and stopped was for nothing."""
    plan = make_plan(setting("loss"), Asked(None, None, 260.0))
    base = {"image_size": "96x128", "epochs": plan.max_epochs, "model.name": "lraspp_mobilenet_v3_large",
            "model.weights": "none", "seed": 0}  # fmt: skip
    budget = Budget(plan.trials, plan.max_epochs, 240.0, None, True, plan.confirm_top, plan.confirm_seeds)
    path, whole = tmp_path / "j.jsonl", tmp_path / "whole.jsonl"
    with Journal(whole) as journal:
        clock = Clock()
        conductor = make(journal, plan=plan, slots=1, clock=clock, base=base, budget=budget)
        drive_in_time(conductor, clock, slots=1, seconds_of=lambda config: 3.0)
        seen = [n for n, event in enumerate(journal.events) if event.get("trial_id", "").endswith("-s1")]
    cut(whole, path, seen[0] + 1)
    with Journal(path) as journal:
        clock = Clock()
        conductor = make(journal, plan=plan, slots=1, clock=clock, base=base, budget=budget)
        conductor.start(before=conductor.limit.left() if conductor.limit else 0.0)  # the pause took all that was left
        assert conductor.next() is None
        (event,) = journal.of("confirm_over")
        assert event["reason"].startswith("seed 1 of ") and event["reason"].endswith("and 0 s are left")
        assert [one["trial_id"] for one in journal.of("suggested") if one["phase"] == "confirm"] == ["t000-s1"]


def test_sweeps_of_equals_claim_nothing_and_a_true_gain_is_found(tmp_path: Path) -> None:
    """Through the real conductor: search, stop rule, finish, confirmation, claim."""
    claims = {0.0: 0, 0.06: 0}
    right = 0
    for sweep in range(20):
        for gain in claims:

            def outcome(
                config: Mapping[str, Any], epoch: int, sweep: int = sweep, gain: float = gain
            ) -> dict[str, Any]:
                rng = np.random.default_rng([sweep, int(fraction(config) * 1e9)])
                told = 0.4 + 0.012 * rng.normal() + gain * (config["loss.name"] == "focal") - 0.1 / epoch
                return {"metrics": {OBJECTIVE: told}}

            with Journal(tmp_path / f"{sweep}-{gain}.jsonl") as journal:
                conductor = make(journal, budget=BUDGET, sampler="random", seed=sweep)
                drive(conductor, outcome=outcome)
                found = verdict(conductor)
                claims[gain] += any(one.outcome is Outcome.BETTER for one in found.contrasts)
                right += bool(gain) and found.of(found.winner).label == "focal"
    assert claims[0.0] <= 2 and claims[0.06] >= 18 and right >= 19


def test_more_seeds_go_to_the_winner_and_each_look_is_counted(tmp_path: Path) -> None:
    path = tmp_path / "j.jsonl"

    def third_wins(config: Mapping[str, Any], epoch: int) -> dict[str, Any]:
        told = lucky(config, epoch)["metrics"][OBJECTIVE]
        best = {"focal": 0.3, "dice": 0.2, "tversky": 0.1}.get(config["loss.name"], 0.0)
        fresh = {"focal": 0.0, "dice": 0.1, "tversky": 0.3}.get(config["loss.name"], 0.0)
        return {"metrics": {OBJECTIVE: told + (best if config["seed"] == 0 else fresh)}}

    with Journal(path) as journal:
        conductor = make(journal, budget=Budget(trials=8, max_epochs=4, confirm_top=3, confirm_seeds=3))
        drive(conductor, outcome=third_wins)
        won = conductor.labels()[BEST]
        assert conductor.looks(conductor.confirmed()) == 1
        conductor.on_verdict(verdict(conductor))
    with Journal(path) as journal:
        journal.append("confirm_asked", top=1, seeds=5)
        conductor = make(journal, budget=Budget(trials=8, max_epochs=4, confirm_top=3, confirm_seeds=3))
        drive(conductor, outcome=third_wins)
        seeds = {one.trial_id: len(one.seeds) for one in conductor.confirmed()}
        assert (
            seeds["t000"] == seeds[won.parent or won.trial_id] == 5
            and conductor.labels()[BEST].trial_id == won.trial_id
        )
        assert conductor.looks(conductor.confirmed()) == 2


def test_going_on_with_the_search_keeps_time_for_the_new_best(tmp_path: Path) -> None:
    plan = make_plan(setting("loss"), Asked(None, None, 260.0))
    path = tmp_path / "j.jsonl"
    base = {"image_size": "96x128", "epochs": plan.max_epochs, "model.name": "lraspp_mobilenet_v3_large",
            "model.weights": "none", "seed": 0}  # fmt: skip

    def conduct(journal: Journal, clock: Clock, seconds: float) -> Conductor:
        budget = Budget(plan.trials, plan.max_epochs, seconds, None, True, plan.confirm_top, plan.confirm_seeds)
        return make(journal, plan=plan, slots=2, clock=clock, base=base, budget=budget)

    with Journal(path) as journal:
        clock = Clock()
        drive_in_time(conduct(journal, clock, 240.0), clock, slots=2, seconds_of=lambda config: 3.0)
        before = {event["trial_id"] for event in journal.of("suggested") if event["phase"] == "confirm"}
        assert before
    with Journal(path) as journal:
        journal.append("settings", changed={"budget": {"time_budget": 480.0}})
        clock = Clock()
        conductor = conduct(journal, clock, 480.0)
        conductor.table.trials["t000"]  # there
        assert conductor.confirm.seconds() >= 0.0
        drive_in_time(conductor, clock, slots=2, seconds_of=lambda config: 3.0)
        chosen = journal.of("confirming")[-1]["trials"]
        complete = [one for one in chosen if conductor.table.trials.get(confirm_id(one, 2)) is not None]
        assert complete == chosen, "whoever is best now has two seeds at the least"
        assert conductor.elapsed() + plan.report_seconds <= 1.03 * 480.0


def test_a_lower_objective_is_better_where_the_metric_says_so(tmp_path: Path) -> None:
    metric = dataclasses.replace(objective_of(OBJECTIVE).metric, direction="min")
    conductor = run(tmp_path / "j.jsonl", focal_is_better, objective=Objective(OBJECTIVE, metric))
    found = verdict(conductor)
    best = min(found.configurations, key=lambda one: one.mean)
    assert found.winner == best.trial_id and best.label != "focal"
    assert json.loads(json.dumps(found.to_json())) == json.loads(
        json.dumps(type(found).from_json(found.to_json()).to_json())
    )
