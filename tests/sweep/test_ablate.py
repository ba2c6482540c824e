"""The ablation: which components a winner has, what is trained, what it says, also after a kill."""

from __future__ import annotations

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
from sweep.objectives import objective_of
from sweep.phases.ablate import without_each
from sweep.verdict import Verdict, current_ablation, worth
from trainables.config import TrialConfig
from trainables.labels import BASELINE, BEST
from trainables.metrics import sampling_units
from trainables.metrics.registry import ConfusionsAlone

from .simulated import OBJECTIVE, cut, decisions, drive, fraction, make

BASE = {"image_size": "32x32", "epochs": 4, "seed": 0}
MIOU = objective_of(OBJECTIVE)


def flat(**changes: Any) -> dict[str, Any]:
    return TrialConfig.from_flat({**BASE, **changes}).flat()


def test_components_are_sections_that_differ_in_kind_and_single_keys_otherwise() -> None:
    winner = flat(**{"augment.policy": "geometric", "optimizer.lr": 0.01, "loss.name": "focal", "loss.gamma": 3.0})
    found = without_each(flat(), winner)
    assert sorted(found) == ["augment", "loss", "optimizer.lr"]
    baseline = {key: value for key, value in flat().items() if key != "seed"}
    for component, config in found.items():
        assert TrialConfig.from_flat({**config, "seed": 1})
        back = {key for key in {*baseline, *config} if config.get(key) != baseline.get(key)}
        assert not any(key == component or key.startswith(f"{component}.") for key in back), "it is the baseline's"
        for other in set(found) - {component}:
            assert any(key == other or key.startswith(f"{other}.") for key in back), "the others are the winner's"


@pytest.mark.parametrize("changes", [{}, {"optimizer.lr": 0.01}, {"augment.policy": "geometric"}, {"seed": 9}])
def test_one_component_is_the_baseline_again(changes: Mapping[str, Any]) -> None:
    assert without_each(flat(), flat(**changes)) == {}


def focal_counts(config: Mapping[str, Any], epoch: int) -> dict[str, Any]:
    """The loss is worth 0.1, the learning rate nothing."""
    return {"metrics": {OBJECTIVE: 0.4 + 0.02 * fraction(config) + 0.1 * (config["loss.name"] == "focal")}}


SAME = ConfusionsAlone(np.tile(np.array([[6, 2], [3, 9]]), (50, 1, 1)))
"""What every model does on every image, so that images move no difference."""
BUDGET = Budget(trials=12, max_epochs=4, confirm_top=1, confirm_seeds=3)


def with_ablation(path: Path, seeds: int = 4) -> Conductor:
    with Journal(path) as journal:
        conductor = make(journal, budget=BUDGET, sampler="random")
        drive(conductor, outcome=focal_counts)
    with Journal(path) as journal:
        journal.append("confirm_asked", top=1, seeds=seeds, at_least=True)
        journal.append("ablate_asked", seeds=seeds)
        conductor = make(journal, budget=BUDGET, sampler="random")
        drive(conductor, outcome=focal_counts)
    return conductor


def verdict(conductor: Conductor) -> Verdict:
    return decide(
        conductor.ablated(), MIOU, split="val", collected=lambda trial_id: SAME, units=sampling_units([None] * 50),
        chosen_from=None, picked=(12, 1),
    )  # fmt: skip


def test_each_component_of_the_winner_is_taken_away_over_fresh_seeds(tmp_path: Path) -> None:
    conductor = with_ablation(tmp_path / "j.jsonl")
    (choice,) = conductor.journal.of("ablating")
    winner = conductor.table.trials[choice["winner"]]
    assert winner.label == "focal" and conductor.labels()[BEST].trial_id == winner.trial_id
    assert set(choice["components"]) >= {"loss", "optimizer.lr"}
    trained = conductor.table.of_phase("ablate")
    assert len(trained) == 4 * len(choice["components"])
    of_winner = {t.config["seed"] for t in conductor.table.of_phase("confirm") if t.label == "focal"}
    assert {t.config["seed"] for t in trained} == of_winner, "the winner's own seeds"
    assert not {"focal", BASELINE} & {t.label for t in trained} and not conductor.labels().keys() & {
        t.label for t in trained
    }
    found = {component: (told, outcome) for component, told, outcome in worth(verdict(conductor), MIOU)}
    assert found["loss"][1] is Outcome.BETTER and "loss is worth +0." in found["loss"][0]
    assert found["optimizer.lr"][1] is Outcome.UNDECIDED and "cannot be told from nothing" in found["optimizer.lr"][0]


def test_killed_ablation_goes_on_where_it_was(tmp_path: Path) -> None:
    whole = with_ablation(tmp_path / "whole.jsonl").journal
    asked = next(place for place, event in enumerate(whole.events) if event["event"] == "ablate_asked")
    for events in range(asked + 1, len(whole.events), 11):
        with Journal(cut(tmp_path / "whole.jsonl", tmp_path / f"{events}.jsonl", events)) as journal:
            conductor = make(journal, budget=BUDGET, sampler="random")
            disk = {e["trial_id"]: e["epoch"] for e in journal.events if e["event"] == "result"}
            drive(conductor, outcome=focal_counts, disk=disk)
            assert decisions(journal) == decisions(whole)


def test_nothing_is_taken_apart_where_nothing_won(tmp_path: Path) -> None:
    path = tmp_path / "j.jsonl"
    with Journal(path) as journal:
        drive(make(journal, budget=Budget(trials=1, max_epochs=4)), outcome=focal_counts)
    with Journal(path) as journal:
        journal.append("confirm_asked", top=1, seeds=3, at_least=True)
        journal.append("ablate_asked", seeds=3)
        conductor = make(journal, budget=Budget(trials=1, max_epochs=4))
        drive(conductor, outcome=focal_counts)
        assert conductor.finished and not conductor.table.of_phase("ablate") and conductor.ablated() == []
        assert "not two fresh seeds" in current_ablation(journal.events)[1]
