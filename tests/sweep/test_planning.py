"""From a budget to a plan, and a sweep that keeps it: predictions against hand-worked ones, ends against the budget."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Any

import pytest

from search_spaces import SPACES, SearchSpace
from sweep.conductor import Conductor
from sweep.forecast import TOLERANCE, TRIAL_SECONDS, WORKER_SECONDS
from sweep.journal import Journal
from sweep.manifest import Budget
from sweep.plan import MeasuredCost, Plan
from sweep.planning import Asked, make_plan, propose
from sweep.predicting import END_SECONDS, REPORT_SECONDS, Setting, predict
from sweep.schedulers import SCHEDULERS
from trainables.cost import Cost
from trainables.errors import UsageError
from trainables.labels import BASELINE, BEST

from .simulated import Clock, cut, decisions, drive_in_time, fraction, make

LRASPP, DEEPLAB, FCN = "lraspp_mobilenet_v3_large", "deeplabv3_mobilenet_v3_large", "fcn_resnet50"
COSTS = {LRASPP: 3.0, DEEPLAB: 8.0, FCN: 60.0}
"""Seconds of an epoch."""


def setting(space: str = "augment", models: tuple[str, ...] = (LRASPP,), **changes: Any) -> Setting:
    compiled: SearchSpace = SPACES.get(space)(list(models), "none")
    base = {"image_size": "96x128", "model.name": models[0], "model.weights": "none", "epochs": 5, "seed": 0}
    costs = tuple(
        MeasuredCost(model, "96x128", Cost(0.3, 0.9 * COSTS[model], 0.1 * COSTS[model], 10**9, 10**7))
        for model in models
    )
    options: dict[str, Any] = {"scheduler": "asha", "slots": 2, "gpus_per_trial": 0.0, "spent": 10.0, "report": True}
    options |= {"train_images": 300, "val_images": 100, "val_pixels": 12288.0, "val_units": 100}
    return Setting(compiled, base, costs, **{**options, **changes})


@pytest.mark.parametrize(("trials", "slots"), [(1, 1), (5, 1), (5, 2), (6, 4)])
def test_prediction_without_a_stop_rule_is_that_of_an_abacus(trials: int, slots: int) -> None:
    found = predict(setting(scheduler="none", slots=slots), trials, 4)
    rounds = math.ceil(trials / slots)
    assert found.search_epochs == 4 * trials and found.finish_epochs == 0
    assert found.seconds == pytest.approx(WORKER_SECONDS + rounds * (TRIAL_SECONDS + 4 * 3.0))
    assert found.busy_seconds == pytest.approx(slots * WORKER_SECONDS + trials * (TRIAL_SECONDS + 4 * 3.0))


def test_a_stop_rule_saves_epochs_and_costs_those_that_finish_labels() -> None:
    stopped, whole = predict(setting(), 30, 12), predict(setting(scheduler="none"), 30, 12)
    assert 0.3 * whole.search_epochs < stopped.search_epochs < 0.8 * whole.search_epochs
    assert stopped.finish_epochs > 0 and stopped.seconds < whole.seconds


@pytest.mark.parametrize("rule", list(SCHEDULERS))
def test_every_stop_rule_can_be_planned_with(rule: str) -> None:
    found, whole = predict(setting(scheduler=rule), 30, 12), predict(setting(scheduler="none"), 30, 12)
    third = 30 * 4  # epochs that every trial gets
    assert third < found.search_epochs <= whole.search_epochs
    assert (found.search_epochs < whole.search_epochs) == (found.finish_epochs > 0) == (rule != "none")
    assert make_plan(setting(scheduler=rule), Asked(30, 12, None)).compared == SCHEDULERS.get(rule)(12).epochs()


def test_hyperband_spends_more_than_asha_and_early_discarding_less() -> None:
    epochs = {rule: predict(setting(scheduler=rule), 40, 12).search_epochs for rule in SCHEDULERS}
    assert epochs["epoch"] < epochs["asha"] < epochs["hyperband"] < epochs["none"]
    assert epochs["epoch"] == pytest.approx(40 * 4 + 40 / 3 * 8, rel=0.15), "a third of them goes on for the other 8"


@pytest.mark.parametrize("minutes", [2, 4, 10, 60, 600])
@pytest.mark.parametrize(("space", "models"), [("augment", (LRASPP,)), ("architecture", (FCN, DEEPLAB, LRASPP))])
def test_plan_stays_within_its_budget_and_uses_it(space: str, models: tuple[str, ...], minutes: int) -> None:
    if space == "architecture" and minutes < 10:
        pytest.skip("too short for three models, the largest of which takes a minute per epoch")
    plan = make_plan(setting(space, models), Asked(None, None, 60.0 * minutes))
    assert plan.seconds <= 60 * minutes
    if plan.trials < 400 and plan.max_epochs < 100 and minutes >= 10:
        assert plan.seconds > 0.7 * 60 * minutes, "what is given is spent"
    assert plan.search_is_possible == (plan.trials > len(SPACES.get(space)(list(models), "none").start))


def test_longer_budgets_buy_more() -> None:
    plans = [make_plan(setting(), Asked(None, None, 60.0 * minutes)) for minutes in (2, 4, 10, 60, 600)]
    assert [plan.max_epochs for plan in plans] == sorted(plan.max_epochs for plan in plans)
    assert [plan.trials for plan in plans] == sorted(plan.trials for plan in plans)


def test_what_is_asked_for_is_kept() -> None:
    assert make_plan(setting(), Asked(7, 9, None)).trials == 7
    assert make_plan(setting(), Asked(None, 9, 600.0)).max_epochs == 9
    given = make_plan(setting(), Asked(20, None, 600.0))
    assert given.trials == 20 and given.seconds <= 600
    assert make_plan(setting(), Asked(7, 9, 30.0)).max_epochs == 9, "both given: the budget is only a bound"


def test_budget_without_room_for_one_trial_says_the_least_that_has_it() -> None:
    with pytest.raises(UsageError, match=r"--time-budget of 20 s is too short.*give --time-budget (\d+)m") as caught:
        make_plan(setting(), Asked(None, None, 20.0))
    minutes = int(str(caught.value).rsplit("--time-budget ", 1)[1].split("m")[0])
    assert make_plan(setting(), Asked(None, None, 60.0 * minutes)).trials >= 1


def test_without_measurements_the_epochs_must_be_given() -> None:
    blind = dataclasses.replace(setting(), costs=())
    with pytest.raises(UsageError, match="give --max-epochs beside --time-budget"):
        make_plan(blind, Asked(None, None, 600.0))
    plan = make_plan(blind, Asked(None, 9, 600.0))
    assert (plan.trials, plan.max_epochs, plan.costs) == (plan.starting_points, 9, ())


def test_report_is_given_time_for_each_label_and_its_images() -> None:
    few, many = (make_plan(setting(val_images=images), Asked(20, 5, None)) for images in (100, 1000))
    assert few.labels == many.labels == len([*SPACES.get("augment")([LRASPP], "none").parameters[0].choices])
    assert few.report_seconds == pytest.approx(END_SECONDS + REPORT_SECONDS + few.labels * few.label_seconds, abs=0.2)
    assert many.label_seconds > 8 * few.label_seconds - 8 * 0.3
    none = make_plan(setting(report=False), Asked(20, 5, None))
    assert none.report_seconds == END_SECONDS and none.label_seconds == 0


def test_proposal_has_room_for_every_starting_point_and_as_many_suggestions() -> None:
    for models in ((LRASPP,), (FCN, DEEPLAB, LRASPP)):
        of = setting("augment" if len(models) == 1 else "architecture", models)
        plan = make_plan(of, Asked(None, None, propose(of)))
        assert plan.trials >= 2 * plan.starting_points and plan.max_epochs >= 8


def conducted(journal: Journal, budget: float, *, slots: int, clock: Clock) -> tuple[Conductor, Plan]:
    """The conductor of a sweep over losses, and its plan."""
    of = setting("loss", slots=slots)
    plan = make_plan(of, Asked(None, None, budget))
    conductor = make(
        journal,
        space=SPACES.get("loss")([LRASPP], "none"),
        base={**of.base, "epochs": plan.max_epochs},
        budget=Budget(plan.trials, plan.max_epochs, time_budget=budget, open_ended=True),
        plan=plan,
        slots=slots,
        clock=clock,
    )
    return conductor, plan


def timed(
    path: Path,
    budget: float,
    *,
    slots: int,
    off: float,
    until: float = float("inf"),
    clock: Clock,
    disk: dict[str, int],
) -> tuple[Journal, bool, Plan]:
    """A sweep over losses whose epochs take `off` times what was measured, and vary by a tenth."""
    journal = Journal(path)
    conductor, plan = conducted(journal, budget, slots=slots, clock=clock)
    if not journal.events:
        clock.now += plan.prepare_seconds
    ended = drive_in_time(
        conductor,
        clock,
        slots=slots,
        seconds_of=lambda config: 3.0 * off * (0.95 + 0.1 * fraction(config)),
        disk=disk,
        until=until,
    )
    return journal, ended, plan


@pytest.mark.parametrize("slots", [1, 3])
@pytest.mark.parametrize("off", [0.5, 1.0, 1.6])
def test_sweep_ends_in_time_whatever_was_measured(tmp_path: Path, slots: int, off: float) -> None:
    budget, clock = 900.0, Clock()
    journal, ended, plan = timed(tmp_path / "journal.jsonl", budget, slots=slots, off=off, clock=clock, disk={})
    with journal:
        assert ended
        conductor = make(journal, space=SPACES.get("loss")([LRASPP], "none"))
        known = len({event["label"] for event in journal.of("suggested")})
        end = budget - plan.report_seconds - max(0, known - plan.labels) * plan.label_seconds
        assert clock.now <= end + TOLERANCE * budget
        assert clock.now > 0.8 * end, "and is not given away"
        labels = conductor.labels()
        assert BASELINE in labels and BEST in labels
        trials = conductor.table.of_phase("search")
        assert (len(trials) > plan.trials) == (off < 1) or off == 1.0
        for event in journal.of("suggested"):
            assert event["spent_s"] < end
        best = conductor.labels()[BEST].config
        epoch = 3.0 * off * (0.95 + 0.1 * fraction(best)) * plan.refit_growth(best)
        assert plan.refit_seconds > 0
        assert clock.now + plan.max_epochs * epoch <= end + TOLERANCE * budget, "the refit ends in time, too"


def test_killed_and_resumed_sweep_ends_in_time_too(tmp_path: Path) -> None:
    budget, path, disk = 900.0, tmp_path / "journal.jsonl", {}
    spent, ended = 0.0, False
    for kill in (200.0, 210.0, 450.0, float("inf")):
        clock = Clock()
        clock.now = 5000.0 * len(disk)  # the pause is not counted
        begun = clock.now
        journal, ended, plan = timed(
            path, budget, slots=2, off=1.2, until=begun + kill - spent if spent else kill, clock=clock, disk=disk
        )
        with journal:
            spent += clock.now - begun
    assert ended and spent <= budget - plan.report_seconds + TOLERANCE * budget + 3 * 3.0 * 1.2
    with Journal(path) as journal:
        again = decisions(journal)
        assert len({event[1] for event in again if event[0] == "suggested"}) == len(journal.of("suggested"))


def test_last_epochs_of_a_label_are_given_up_where_a_pause_left_too_little(tmp_path: Path) -> None:
    whole, path = tmp_path / "whole.jsonl", tmp_path / "journal.jsonl"
    journal, ended, _ = timed(whole, 240.0, slots=2, off=1.0, clock=Clock(), disk={})
    with journal:
        assert ended
        events = list(journal.events)
    (begun, *_) = [n for n, event in enumerate(events) if event["event"] == "suggested" and event["phase"] == "finish"]
    parent = events[begun]["parent"]
    cut(whole, path, begun + 1)
    with Journal(path) as journal:
        conductor, _ = conducted(journal, 240.0, slots=2, clock=Clock())
        conductor.start(before=conductor.limit.left() if conductor.limit else 0.0)  # the driver lived on without a word
        trial = conductor.table.trials[events[begun]["trial_id"]]
        assert (trial.state, trial.reason[:12]) == ("stopped", "time budget:")
        assert conductor.next() is None and conductor.finished
        (told,) = [event for event in journal.of("unfinished") if event["trial_id"] == parent]
        assert told["by"] == "time budget" and told["reason"].endswith("s too late")


def test_what_there_was_no_time_for_is_written_down(tmp_path: Path) -> None:
    clock = Clock()
    journal, ended, _ = timed(tmp_path / "journal.jsonl", 150.0, slots=1, off=3.0, clock=clock, disk={})
    with journal:
        assert ended
        told = [event for event in journal.events if event["event"] in ("skipped", "time_over", "unfinished")]
        told = [event for event in told if event.get("by") != "baseline"]
        assert told and all("s left" in event["reason"] or "s are left" in event["reason"] for event in told)


def test_without_a_plan_the_budget_is_that_of_the_search(tmp_path: Path) -> None:
    clock = Clock()
    with Journal(tmp_path / "journal.jsonl") as journal:
        conductor = make(journal, budget=Budget(50, 4, time_budget=60.0), clock=clock)
        drive_in_time(conductor, clock, slots=1, seconds_of=lambda config: 3.0)
        assert clock.now > 60
        assert {event["by"] for event in journal.of("unfinished")} <= {"baseline"}


def test_groups_of_images_and_fewer_seeds_hope_for_less() -> None:
    plan, grouped = (make_plan(setting(val_units=units), Asked(20, 8, None)) for units in (100, 6))
    assert plan.confirm_seeds == grouped.confirm_seeds and grouped.detectable > plan.detectable > 0
    assert grouped.power < plan.power
    fewer = make_plan(setting(), Asked(20, 8, None, confirm=2))
    assert fewer.confirm_seeds == 2 and fewer.detectable > plan.detectable


@pytest.mark.parametrize("minutes", [3, 5, 10, 30, 240])
def test_a_budget_is_spent_on_a_confirmation_and_more_of_it_on_a_larger_one(minutes: int) -> None:
    plan = make_plan(setting(), Asked(None, None, 60.0 * minutes))
    assert plan.confirm_seeds >= 3 and plan.confirm_top >= 1
    others = plan.search_epochs + plan.finish_epochs + plan.max_epochs * bool(plan.refit_seconds)
    share = plan.confirm_epochs / (others + plan.confirm_epochs)
    assert share < (0.61 if plan.confirm_seeds == 3 and plan.confirm_top == 1 else 0.36)
    assert make_plan(setting(), Asked(None, None, 60.0 * minutes, confirm=0)).confirm_epochs == 0
    given = make_plan(setting(), Asked(None, None, 60.0 * minutes, confirm=4))
    assert given.confirm_seeds in (0, 4) and given.seconds <= 60 * minutes


@pytest.mark.parametrize("minutes", [3, 5, 10, 30, 240])
def test_time_is_kept_for_a_refit_that_takes_at_most_a_tenth_of_the_budget(minutes: int) -> None:
    budget = 60.0 * minutes
    plan, without = (make_plan(setting(), Asked(None, None, budget, refit=refit)) for refit in (None, False))
    # 300 images of train and 100 of val, 2.7 s of training in an epoch of 3 s
    seconds = WORKER_SECONDS + TRIAL_SECONDS + plan.max_epochs * 2.7 * 4 / 3
    assert plan.refit_seconds == (pytest.approx(seconds, abs=0.1) if seconds <= budget / 10 else 0.0)
    assert (plan.refit_seconds > 0) == (minutes >= 10) and without.refit_seconds == 0
    assert (plan.max_epochs, plan.confirm_top, plan.confirm_seeds) == (
        *(without.max_epochs, without.confirm_top, without.confirm_seeds),
    )
    assert plan.trials <= without.trials and plan.seconds <= budget
    parts = (plan.prepare_seconds, plan.trials_seconds, plan.confirm_seconds, plan.refit_seconds, plan.report_seconds)
    assert plan.seconds == pytest.approx(sum(parts))


def test_refit_is_for_sweeps_with_a_time_budget_and_a_confirmation_or_where_it_is_asked_for() -> None:
    assert make_plan(setting(), Asked(20, 8, None)).refit_seconds == 0
    assert make_plan(setting(), Asked(None, None, 1800.0, confirm=0)).refit_seconds == 0
    assert make_plan(setting("baseline"), Asked(1, 8, 1800.0)).refit_seconds == 0
    asked = make_plan(setting(), Asked(20, 8, None, refit=True))
    assert asked.refit_seconds > 0 and asked.trials == 20
    small = make_plan(setting(), Asked(None, None, 300.0, refit=True))
    assert small.refit_seconds > 30 and small.seconds <= 300, "more than a tenth, for it is asked for"
    none = make_plan(setting(), Asked(7, 9, 30.0, refit=True))
    assert none.refit_seconds == 0 and none.trials == 7, "there is no room"
    blind = make_plan(dataclasses.replace(setting(), costs=()), Asked(None, 9, 600.0, refit=True))
    assert blind.refit_seconds == 0


def test_an_epoch_of_the_refit_has_more_images_and_no_validation() -> None:
    plan = make_plan(setting(), Asked(20, 8, 1800.0))
    known = {"model.name": LRASPP, "image_size": "96x128"}
    assert plan.refit_growth(known) == pytest.approx(0.9 * 4 / 3)
    assert plan.refit_growth({**known, "model.name": "another"}) == pytest.approx(4 / 3)


def test_one_configuration_and_a_space_of_seeds_have_nothing_to_confirm() -> None:
    assert make_plan(setting(), Asked(1, 8, None)).confirm_seeds == 0
    assert make_plan(setting("baseline"), Asked(5, 8, None)).confirm_seeds == 0
