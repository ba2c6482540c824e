"""`--seeds`: every configuration of a grid with the same seeds, all of them compared, none picked first."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from search_spaces import SPACES
from sweep.claims import Outcome
from sweep.compiled import plan_space, with_seeds
from sweep.config import SweepConfig, from_command_line
from sweep.deciding import decide
from sweep.journal import Journal
from sweep.manifest import Budget
from sweep.objectives import objective_of
from sweep.planning import Asked, make_plan
from trainables.errors import UsageError
from trainables.labels import BASELINE, BEST
from trainables.metrics import sampling_units

from .simulated import OBJECTIVE, drive, fraction, make
from .test_planning import DEEPLAB, FCN, LRASPP, setting

MODELS = (LRASPP, DEEPLAB, FCN)


def config(*words: str) -> SweepConfig:
    read = from_command_line(["--space", "baseline", *words])
    assert isinstance(read, SweepConfig)
    return read


def test_three_models_with_five_seeds_are_one_command() -> None:
    asked = config("--models", ",".join(MODELS), "--seeds", "5", "--max-epochs", "4", "--seed", "3")
    assert asked.sampler == "grid"
    space, base = plan_space(asked, (32, 48))
    points = [space.trial_config(base, point).flat() for point in space.grid()]
    assert len(points) == 15 and {point["model.name"] for point in points} == set(MODELS)
    seeds = {point["seed"] for point in points}
    assert len(seeds) == 5 and 3 in seeds and space.start[0]["seed"] == 3
    assert plan_space(asked, (32, 48))[0] == space, "the same seeds each time"
    plan = make_plan(setting("baseline", MODELS), Asked(15, 4, None))
    assert plan.confirm_seeds == 0, "every configuration has its seeds already"


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--seeds", "1"], "one seed cannot show"),
        (["--seeds", "3", "--sampler", "tpe"], "goes with --sampler grid, not tpe"),
        (["--seeds", "3", "--confirm", "3"], "two ways to the same"),
    ],
)
def test_what_contradicts_seeds_is_refused(words: list[str], told: str) -> None:
    with pytest.raises(UsageError, match=told):
        config(*words)


def test_ranges_and_held_seeds_are_refused() -> None:
    with pytest.raises(UsageError, match="contradict"):
        plan_space(config("--seeds", "3", "--set", "seed=4"), (32, 48))
    with pytest.raises(UsageError, match="can have any value of a range"):
        plan_space(config("--space", "lr", "--seeds", "3"), (32, 48))


def test_all_configurations_are_compared_and_the_winner_has_the_best_mean(tmp_path: Path) -> None:
    space = with_seeds(SPACES.get("baseline")(list(MODELS), "none"), 0, 4)

    def outcome(config: Mapping[str, Any], epoch: int) -> dict[str, Any]:
        return {"metrics": {OBJECTIVE: 0.4 + 0.02 * fraction(config) + 0.1 * (config["model.name"] == FCN)}}

    with Journal(tmp_path / "j.jsonl") as journal:
        conductor = make(journal, space=space, sampler="grid", scheduler="asha", budget=Budget(12, 4))
        drive(conductor, outcome=outcome, slots=2)
        found = conductor.confirmed()
        assert [one.label for one in found] == [BASELINE, *sorted([DEEPLAB, FCN], key=[o.label for o in found].index)]
        assert all(len(one.seeds) == 4 and set(one.seeds) == set(found[0].seeds) for one in found)
        assert len(conductor.table.trials) == 12 and {t.state for t in conductor.table.trials.values()} == {"completed"}
        told = decide(
            found, objective_of(OBJECTIVE), split="val", collected=lambda trial_id: None,
            units=sampling_units([None] * 50), chosen_from=None,
        )  # fmt: skip
        assert told.outcome is Outcome.BETTER and told.of(told.winner).label == FCN
        assert conductor.labels()[BEST].config["model.name"] == FCN
