"""What became of the winner's score."""

from __future__ import annotations

from typing import Any

import pandas as pd

from analysis.stages import Stage, stages
from sweep.objectives import objective_of
from sweep.verdict import Confirmed, Verdict

from .test_comparison import made_record

MIOU = objective_of("val/miou")
TRIALS = pd.DataFrame({"trial_id": ["t0", "t1", "t1-finish"], "parent": ["", "", "t1"]})
SCORES = {"baseline": 0.45, "best": 0.5}


def verdict(split: str, own: tuple[float, ...], base: tuple[float, ...] = (0.4, 0.42)) -> Verdict:
    configurations = tuple(
        Confirmed(trial, label, tuple("ab"), (1, 2), scores)
        for trial, label, scores in (("t0", "baseline", base), ("t1", "flip", own))
    )
    return Verdict(split, "val/miou", configurations, (), "t1", "images", 40, None)


def told(on_val: Verdict | None, on_split: Verdict | None, *, split: str = "test", **labels: Any) -> list[Stage]:
    records = {"baseline": made_record("t0", 0.44), "best": made_record("t1-finish", 0.55)} | labels
    records = {label: record for label, record in records.items() if record is not None}
    return stages(records, SCORES, on_val, on_split, TRIALS, objective=MIOU, split=split)


def test_without_fresh_seeds_val_and_test_stand_side_by_side() -> None:
    assert told(None, None) == [Stage("on val when it was chosen", 0.55, 0.44), Stage("on test", 0.5, 0.45)]
    assert told(None, None, split="val") == [Stage("on val when it was chosen", 0.55, 0.44)]


def test_fresh_seeds_stand_between_and_take_the_checkpoints_place_on_test() -> None:
    on_val, on_test = verdict("val", (0.5, 0.52)), verdict("test", (0.48, 0.5))
    found = told(on_val, on_test)
    assert [(one.where, round(one.winner, 3), round(one.baseline, 3), one.seeds) for one in found] == [
        ("on val when it was chosen", 0.55, 0.44, 1),
        ("on val over 2 fresh seeds", 0.51, 0.41, 2),
        ("on test over 2 fresh seeds", 0.49, 0.41, 2),
    ]
    assert len(told(on_val, on_val, split="val")) == 2


def test_a_winner_without_fresh_seeds_has_only_its_own_scores() -> None:
    other = made_record("t9", 0.6)
    assert [one.where for one in told(verdict("val", (0.5, 0.52)), None, best=other)] == [
        "on val when it was chosen", "on test",
    ]  # fmt: skip


def test_nothing_is_told_where_the_winner_is_the_baseline_or_one_is_missing() -> None:
    assert told(None, None, best=made_record("t0", 0.44)) == []
    assert told(None, None, baseline=None) == []
