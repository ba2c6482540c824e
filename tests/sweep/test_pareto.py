"""Several objectives: the Pareto set against a brute-force search, its labels and sentence, and sweeps with them."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from search_spaces import SearchSpace
from search_spaces.core.parameter import choice, number
from sweep.claims import Contrast
from sweep.conductor import Conductor
from sweep.journal import Journal
from sweep.manifest import Budget
from sweep.objectives import Objective, objective_of
from sweep.pareto import LABEL, Point, TradeOff, evidence, last_trade_off, pareto_set, sentence, spread_out
from sweep.planning import Asked, make_plan
from sweep.ranking import configuration
from sweep.samplers import SAMPLERS
from sweep.trials import TrialTable
from sweep.verdict import Confirmed, Verdict
from trainables.errors import DataError
from trainables.labels import BASELINE, BEST
from trainables.paths import UnsafePathError

from .simulated import cut, decisions, drive, fraction, make, prefixes
from .test_planning import setting
from .test_trials import ended, result, suggested

MIOU, TIME, PARAMS = map(objective_of, ("val/miou", "latency_ms", "params"))
PERSON = Objective("val/iou[person]", objective_of("val/iou[person]").metric)


def point(trial_id: str, miou: float, ms: float, *, fresh: float | None = None, **more: Any) -> Point:
    values = {"val/miou": miou, "latency_ms": ms}
    told = {"label": trial_id.upper(), "published": "", "seeds": 1 if fresh is None else 3}
    return Point(trial_id=trial_id, values=values, fresh={} if fresh is None else {**values, "val/miou": fresh},
                 **{**told, **more})  # fmt: skip


numbers = st.integers(0, 4)
"""Few values, so that ties are common."""


@settings(deadline=None)
@given(st.lists(st.tuples(numbers, numbers, numbers), max_size=12))
def test_set_is_what_a_brute_force_search_finds(rows: list[tuple[int, int, int]]) -> None:
    objectives = (MIOU, TIME, PARAMS)
    points = [
        Point(f"t{place}", "x", "", dict(zip([one.key for one in objectives], map(float, row), strict=True)), {}, 1)
        for place, row in enumerate(rows)
    ]
    expected = {
        f"t{place}"
        for place, (miou, ms, params) in enumerate(rows)
        if rows.index((miou, ms, params)) == place
        and not any(a >= miou and b <= ms and c <= params and (a, b, c) != (miou, ms, params) for a, b, c in rows)
    }
    found = pareto_set(points, objectives)
    assert {one.trial_id for one in found} == expected
    assert [one.values["val/miou"] for one in found] == sorted((one.values["val/miou"] for one in found), reverse=True)


def test_of_equals_the_first_is_kept_and_the_dominated_are_not() -> None:
    points = [point("a", 0.5, 9), point("b", 0.5, 9), point("c", 0.5, 10), point("d", 0.4, 3), point("e", 0.4, 4)]
    assert [one.trial_id for one in pareto_set(points, (MIOU, TIME))] == ["a", "d"]


def test_fresh_seeds_are_compared_with_fresh_seeds_and_else_the_search_with_the_search() -> None:
    lucky, real = point("lucky", 0.60, 9, fresh=0.50), point("real", 0.58, 9, fresh=0.57)
    assert [one.trial_id for one in pareto_set([lucky, real], (MIOU, TIME))] == ["real"]
    # 0.575 with one seed is above the 0.57 of fresh ones, but below what that one scored with the seed of the search
    third = point("third", 0.575, 9)
    assert [one.trial_id for one in pareto_set([lucky, real, third], (MIOU, TIME))] == ["real"]
    faster = point("faster", 0.575, 5)
    assert [one.trial_id for one in pareto_set([lucky, real, faster], (MIOU, TIME))] == ["faster", "real"]


@pytest.mark.parametrize("count", [1, 2, 9, 10, 11, 37])
def test_labels_are_spread_over_the_set_with_both_ends(count: int) -> None:
    points = [point(f"t{place}", 1 - place / 100, 100 - place) for place in range(count)]
    kept = spread_out(points)
    assert len(kept) == len({one.trial_id for one in kept}) == min(10, count)
    assert (kept[0], kept[-1]) == (points[0], points[-1])
    places = [points.index(one) for one in kept]
    gaps = {b - a for a, b in itertools.pairwise(places)}
    assert not gaps or max(gaps) - min(gaps) <= 1


def trade_off(*points: Point, best: str = "a", keys: tuple[str, ...] = ("val/miou", "latency_ms")) -> TradeOff:
    return TradeOff(keys, points, best, 12)


def test_sentence_says_what_the_best_costs_beside_the_best_of_each_other_objective() -> None:
    told = trade_off(point("a", 0.612, 23.0), point("m", 0.6, 15.0), point("b", 0.591, 10.0))
    said = "A (a) has 0.021 more mIoU than B (b) and takes 2.3 times as long per image; 1 more lies between"
    assert sentence(told, (MIOU, TIME)) == said
    assert evidence(told, (MIOU, TIME)) == "one seed each, which chose them: no claim"
    # A model that learnt nothing is no rival, however fast it is
    other = "A (a) has 0.012 more mIoU than M (m) and takes 1.5 times as long per image"
    assert sentence(told, (MIOU, TIME), without=["b"]) == other


@pytest.mark.parametrize(
    ("mine", "other", "said"),
    [
        (10.4, 10.0, "takes 4% longer per image"),
        (10.0, 10.4, "takes 4% shorter per image"),
        (10.01, 10.0, "takes 1% longer per image"),
        (12.5, 10.0, "takes 1.2 times as long per image"),
        (4.3, 10.0, "takes 0.43 times as long per image"),
    ],
)
def test_factors_near_one_are_told_in_percent(mine: float, other: float, said: str) -> None:
    told = trade_off(point("a", 0.6, mine), point("b", 0.5, other), keys=("val/miou", "params", "latency_ms"))
    points = [
        Point(**{**vars(one), "values": {**one.values, "params": size}})
        for one, size in zip(told.points, (2e6, 1e6), strict=True)
    ]
    text = sentence(trade_off(*points, keys=told.objectives), (MIOU, PARAMS, TIME))
    assert text.startswith(f"A (a) has 0.100 more mIoU than B (b), has 2 times as many parameters and {said}")


def test_sentence_of_two_scores_and_of_no_trade_off() -> None:
    both = [
        Point(one, one, "", {"val/miou": miou, "val/iou[person]": person}, {}, 1)
        for one, miou, person in (("a", 0.6, 0.3), ("b", 0.55, 0.34))
    ]
    told = TradeOff(("val/miou", "val/iou[person]"), tuple(both), "a", 2)
    assert sentence(told, (MIOU, PERSON)) == "a (a) has 0.050 more mIoU than b (b) and has 0.040 less person IoU"
    alone = trade_off(point("a", 0.6, 5), point("b", 0.5, 9, is_in_set=False))
    assert sentence(alone, (MIOU, TIME)) == "nothing that was tried is better than A (a) by mIoU or time per image"
    dead = trade_off(point("a", 0.6, 5), point("b", 0.1, 2))
    assert sentence(dead, (MIOU, TIME), without=["b"]) == (
        "nothing that was tried and learnt something is better than A (a) by mIoU or time per image"
    )


def test_fresh_seeds_are_the_evidence_only_where_all_that_is_named_has_them() -> None:
    fresh = [point("a", 0.6, 9, fresh=0.58), point("b", 0.5, 5, fresh=0.52)]
    told = trade_off(*fresh)
    assert sentence(told, (MIOU, TIME)).startswith("A (a) has 0.060 more mIoU than B (b)")
    assert evidence(told, (MIOU, TIME)) == "means over 3 fresh seeds; that the mIoU differs is not shown"
    mixed = trade_off(fresh[0], point("b", 0.5, 5))
    assert sentence(mixed, (MIOU, TIME)).startswith("A (a) has 0.100 more mIoU than B (b)"), (
        "both with the search's seed"
    )
    assert evidence(mixed, (MIOU, TIME)).endswith("no claim")
    seeded = trade_off(point("a", 0.6, 9, seeds=5), point("b", 0.5, 5, seeds=5))
    assert evidence(seeded, (MIOU, TIME)) == "means over 5 seeds; that the mIoU differs is not shown"


@pytest.mark.parametrize(("low", "rival", "is_shown"), [(0.01, "b", True), (-0.01, "b", False), (0.01, "c", False)])
def test_difference_is_shown_where_the_verdict_told_the_two_apart(low: float, rival: str, is_shown: bool) -> None:
    told = trade_off(point("a", 0.6, 9, fresh=0.58), point(rival, 0.5, 5, fresh=0.52))
    configurations = tuple(Confirmed(one, one, (f"{one}-s1",), (7,), (0.5,)) for one in ("b", "a", "c"))
    contrasts = (Contrast("a", 0.06, low, 0.1, 0.01, 0.02, 3), Contrast("c", 0.02, -0.1, 0.1, 0.3, 0.02, 3))
    verdict = Verdict("val", "val/miou", configurations, contrasts, "a", "images", 100, 5)
    rests = evidence(told, (MIOU, TIME), verdict)
    assert rests.startswith("means over 3 fresh seeds") and rests.endswith("is not shown") is not is_shown


def test_trade_off_comes_back_from_the_journal_and_a_damaged_one_is_told() -> None:
    told = trade_off(point("a", 0.6, 9, fresh=0.58, published="best"), point("b", 0.5, 5))
    content = json.loads(json.dumps(told.to_json()))
    events = [{"event": "trade_off", **content}, {"event": "closed"}]
    assert last_trade_off(events, (MIOU, TIME)) == told
    assert last_trade_off([{"event": "closed"}], (MIOU, TIME)) is None
    for others in ((MIOU, PARAMS), (MIOU,)):
        with pytest.raises(DataError, match="not the objectives of the manifest"):
            last_trade_off(events, others)
    for broken in ({"points": []}, {"points": None}, {"best": "nobody"}, {"objectives": ["val/miou", "params"]}):
        with pytest.raises(DataError, match="the trade-off in the journal is damaged"):
            TradeOff.from_json({**content, **broken})
    content["points"][0]["published"] = "../../x"
    with pytest.raises(UnsafePathError):
        TradeOff.from_json(content)


def scored(trial_id: str, label: str, miou: float, ms: float, *, number: int, **more: Any) -> list[dict[str, Any]]:
    told = {**result(trial_id, 4, miou), "metrics": {"val/miou": miou, "latency_ms": ms}}
    return [suggested(trial_id, label, number=number, **more), told, ended(trial_id, "completed")]


def test_points_of_the_set_without_a_label_get_one_and_the_others_keep_theirs() -> None:
    table = TrialTable.of(
        itertools.chain(
            scored("t000", BASELINE, 0.50, 9.0, number=0),
            scored("t001", "flip", 0.60, 12.0, number=1),
            scored("t002", "flip", 0.55, 6.0, number=2),  # nothing dominates it, and flip has a better one
            scored("t003", "mix", 0.45, 3.0, number=3),
            scored("t004", "mix", 0.44, 4.0, number=4),
        )
    )
    alone = {label: trial.trial_id for label, trial in table.labels(MIOU).items()}
    assert alone == {BASELINE: "t000", BEST: "t001", "flip": "t001", "mix": "t003"}
    both = {label: trial.trial_id for label, trial in table.labels(MIOU, TIME).items()}
    assert both == {**alone, f"{LABEL}t002": "t002"}
    told = table.trade_off(MIOU, TIME)
    assert told is not None
    assert [(one.trial_id, one.published, one.is_in_set) for one in told.points] == [
        ("t001", "flip", True),
        ("t002", f"{LABEL}t002", True),
        ("t000", BASELINE, False),
        ("t003", "mix", True),
    ]
    assert (told.best, told.chosen_from, told.objectives) == ("t001", 5, ("val/miou", "latency_ms"))


def test_set_is_over_the_means_of_configurations_that_ended_at_full_budget() -> None:
    seeds = [
        scored(f"t00{n}", BASELINE if n == 0 else "a", miou, 9.0, number=n,
               config={"seed": n, "optimizer.lr": 0.01 if n == 0 else 0.02})
        for n, miou in enumerate((0.50, 0.40, 0.70))
    ]  # fmt: skip
    stopped = [*scored("t003", "b", 0.9, 1.0, number=3)[:2], ended("t003", "stopped")]
    table = TrialTable.of([*itertools.chain(*seeds), *stopped])
    told = table.trade_off(MIOU, TIME)
    assert told is not None and told.chosen_from == 2
    assert [(one.trial_id, one.seeds, one.is_in_set) for one in told.points] == [("t001", 2, True), ("t000", 1, False)]
    assert told.points[0].values == {"val/miou": pytest.approx(0.55), "latency_ms": 9.0}


SPACE = SearchSpace(
    name="two",
    description="",
    parameters=(
        number("optimizer.lr", 0.01, 0.05, step=0.005),
        number("training.ema", 0.0, 0.9, step=0.1),
        choice("loss.name", ("cross_entropy", "focal")),
    ),
    label_by="loss.name",
    start=(
        {"optimizer.lr": 0.01, "training.ema": 0.0, "loss.name": "cross_entropy"},
        {"optimizer.lr": 0.01, "training.ema": 0.0, "loss.name": "focal"},
    ),
)
"""A space for every sampler."""


def opposed(config: Any, epoch: int) -> dict[str, Any]:
    """A higher rate scores more and takes longer; a moving average costs score and time, so that 0 of it is best."""
    rate, waste = config["optimizer.lr"] * 10, float(config["training.ema"])
    luck = 0.01 * fraction(config)
    score = 0.3 + rate - 0.2 * waste + luck + 0.05 * epoch / config["epochs"]
    return {"metrics": {"val/miou": score, "latency_ms": 5 + 100 * rate + 40 * waste}}


def two(journal: Journal, **changes: Any) -> Conductor:
    return make(journal, **{"space": SPACE, "further": [TIME], "scheduler": "none", **changes})


@pytest.mark.parametrize("sampler", [*SAMPLERS])
def test_every_sampler_takes_two_objectives_and_a_resumed_sweep_decides_as_if_never_stopped(
    tmp_path: Path, sampler: str
) -> None:
    budget = Budget(trials=14, max_epochs=4)
    with Journal(tmp_path / "whole.jsonl") as journal:
        drive(two(journal, sampler=sampler, budget=budget), outcome=opposed)
        expected = decisions(journal)
    assert sum(one[0] == "ended" and one[2] == "completed" for one in expected) == 14
    for events in range(3, 95, 13):
        with Journal(cut(tmp_path / "whole.jsonl", tmp_path / f"cut-{events}.jsonl", events)) as journal:
            drive(two(journal, sampler=sampler, budget=budget), outcome=opposed)
            assert decisions(journal) == expected, f"after {events} events"


@pytest.mark.parametrize("scheduler", ["asha", "median"])
def test_sweep_with_stop_rule_fresh_seeds_and_two_objectives_resumes_at_every_event(
    tmp_path: Path, scheduler: str
) -> None:
    options: dict[str, Any] = {
        "scheduler": scheduler,
        "budget": Budget(trials=9, max_epochs=4, confirm_top=2, confirm_seeds=2),
    }
    with Journal(tmp_path / "whole.jsonl") as journal:
        whole = two(journal, **options)
        drive(whole, outcome=opposed)
        expected, told, labels = decisions(journal), whole.trade_off(), list(whole.labels())
        assert any(trial.state == "stopped" for trial in whole.table.trials.values())
        assert told is not None and any(one.fresh for one in told.points)
        last = max(prefixes(journal))
    for events in range(0, last, 5):
        with Journal(cut(tmp_path / "whole.jsonl", tmp_path / f"cut-{events}.jsonl", events)) as journal:
            again = two(journal, **options)
            drive(again, outcome=opposed)
            assert decisions(journal) == expected, f"after {events} events"
            assert (again.trade_off(), list(again.labels())) == (told, labels)


def test_stop_rule_looks_at_the_first_objective_alone(tmp_path: Path) -> None:
    def fast_when_bad(config: Any, epoch: int) -> dict[str, Any]:
        metrics = opposed(config, epoch)["metrics"]
        return {"metrics": {**metrics, "latency_ms": metrics["val/miou"]}}

    stops = []
    for further in ([], [TIME]):
        with Journal(tmp_path / f"{len(further)}.jsonl") as journal:
            conductor = two(journal, further=further, sampler="random", scheduler="asha")
            drive(conductor, outcome=fast_when_bad)
            stops.append([one for one in decisions(journal) if one[0] == "decision"])
    assert stops[0] == stops[1] != []


def test_tpe_learns_from_the_second_objective_too(tmp_path: Path) -> None:
    """The moving average costs time alone: a sweep by the score has no reason to avoid it."""

    def outcome(config: Any, epoch: int) -> dict[str, Any]:
        score, waste = 0.3 + config["optimizer.lr"] + 0.01 * fraction(config), float(config["training.ema"])
        return {"metrics": {"val/miou": score, "latency_ms": 5 + 40 * waste}}

    def waste(further: list[Objective], seed: int) -> float:
        with Journal(tmp_path / f"{len(further)}-{seed}.jsonl") as journal:
            conductor = two(journal, further=further, seed=seed, budget=Budget(trials=40, max_epochs=4))
            drive(conductor, outcome=outcome)
            return float(np.mean([t.config["training.ema"] for t in conductor.table.of_phase("search")[12:]]))

    both, alone = (np.mean([waste(further, seed) for seed in range(4)]) for further in ([TIME], []))
    assert both < alone - 0.1


def test_trade_off_is_written_once_and_names_the_folders(tmp_path: Path) -> None:
    with Journal(tmp_path / "journal.jsonl") as journal:
        conductor = two(journal, budget=Budget(trials=12, max_epochs=2))
        drive(conductor, outcome=opposed)
        labels = conductor.labels()
        told = conductor.trade_off()
        for _ in range(2):
            conductor.on_trade_off(told)
        assert len(journal.of("trade_off")) == 1
        assert last_trade_off(journal.events, conductor.objectives) == told and told is not None
        for one in told.points:
            assert configuration(labels[one.published]) == configuration(conductor.table.trials[one.trial_id])
        extra = [label for label in labels if label.startswith(LABEL)]
        assert extra and not {labels[one].trial_id for one in extra} & {
            labels[BEST].trial_id,
            labels[BASELINE].trial_id,
        }
        alone = make(Journal(tmp_path / "one.jsonl"), space=SPACE)
        assert alone.trade_off() is None


def test_labels_of_the_set_are_counted_for_the_time_of_the_report(tmp_path: Path) -> None:
    plan = make_plan(setting("loss"), Asked(8, 2, 3600.0, 0))
    with Journal(tmp_path / "journal.jsonl") as journal:
        conductor = two(journal, plan=plan, budget=Budget(trials=12, max_epochs=4, time_budget=3600.0))
        drive(conductor, outcome=opposed)
        extra = [label for label in conductor.labels() if label.startswith(LABEL)]
        explored = {trial.label for trial in conductor.table.explored()}
        assert conductor.limit is not None and extra
        assert conductor.limit.labels() == len(explored) + len(extra)
