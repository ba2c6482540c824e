"""What real sweeps conclude is judged by what is known, and the space of equals holds equals that are not the same."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks import verdicts
from benchmarks.verdicts import EQUALS, Settings, conclusion, counts, judged, key, read, told
from search_spaces import SPACES
from sweep.claims import Contrast
from sweep.config import SweepConfig, from_command_line
from sweep.verdict import Confirmed, Verdict
from trainables import plugins
from trainables.models import build_model

from ..plugin import nothing_left_behind

SETTINGS = Settings(trials=5, max_epochs=8, confirm=3)


def finished(space: str = "augment", seed: int = 0, **changes: Any) -> dict[str, Any]:
    """A line of a sweep that found that photometric is better."""
    known = {"space": space, "seed": seed, "settings": vars(SETTINGS), "leading": "photometric", "outcome": "better"}
    numbers = {"difference": 0.02, "low": 0.01, "high": 0.03, "chance": 0.01, "seconds": 61.2, "machine": "here"}
    on_test = {"test_difference": 0.02, "test_low": 0.0, "test_high": 0.04, "test_outcome": "undecided"}
    return {**known, **numbers, **on_test, "transformations": ["brightness", "hue"], **changes}


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({}, "right"),
        ({"transformations": ["hflip", "trivial"]}, "right"),
        ({"outcome": "undecided"}, "open"),
        ({"outcome": "worse"}, "wrong"),
        ({"transformations": ["hflip", "rotate"]}, "wrong"),
        ({"transformations": []}, "wrong"),
        ({"test_difference": -0.001}, "wrong"),
        ({"space": "equals", "transformations": []}, "wrong"),
        ({"space": "equals", "transformations": [], "outcome": "worse"}, "wrong"),
        ({"space": "equals", "transformations": [], "outcome": "undecided"}, "right"),
    ],
)
def test_sweep_is_judged_by_what_is_true(changes: dict[str, Any], word: str) -> None:
    assert judged(finished(**changes)) == word


def test_conclusion_is_that_of_the_leading_configuration() -> None:
    arms = tuple(
        Confirmed(name, label, (), (), (0.2, 0.3)) for name, label in (("t0", "baseline"), ("t1", "geometric"))
    )
    better = Confirmed("t2", "photometric", (), (), (0.3, 0.4))
    contrasts = (Contrast("t1", 0.0, -0.1, 0.1, 0.9, 0.1, 2), Contrast("t2", 0.1, 0.05, 0.15, 0.01, 0.1, 2))
    verdict = Verdict("val", "val/miou", (*arms, better), contrasts, "t2", "images", 100, 4)
    config = {"augment.policy": "photometric", "augment.brightness.p": 0.0, "augment.gamma.p": 0.5}
    suggested = [
        {"event": "suggested", "trial_id": "t1", "config": {"augment.policy": "geometric"}},
        {"event": "suggested", "trial_id": "t2", "config": config},
    ]
    rows = [
        {
            "trial_id": name,
            "difference": gain,
            "difference_low": "-0.01",
            "difference_high": "0.07",
            "outcome": "undecided",
        }
        for name, gain in (("t1", "0.01"), ("t2", "0.03"))
    ]
    # As in a journal, whose lines have lists where the verdict has tuples.
    found = conclusion(json.loads(json.dumps([*suggested, {"event": "verdict", **verdict.to_json()}])), rows)
    assert (found["leading"], found["outcome"], found["difference"], found["test_difference"]) == (
        "photometric",
        "better",
        0.1,
        0.03,
    )
    assert found["transformations"] == ["contrast", "saturation", "hue", "gamma"], "without brightness, which is off"
    with pytest.raises(ValueError, match="without a verdict"):
        conclusion(suggested, rows)


def test_finished_sweeps_are_found_again_by_what_decides_them(tmp_path: Path) -> None:
    path = tmp_path / "runs.jsonl"
    assert read(path) == {}
    path.write_text(json.dumps(finished(seed=3)) + "\n" + json.dumps(finished(seed=4))[:50])
    assert list(read(path)) == [key("augment", 3, SETTINGS)], "a line that was cut off is not a sweep"
    others = [key("equals", 3, SETTINGS), key("augment", 2, SETTINGS), key("augment", 3, Settings(5, 9, 3))]
    assert not {*others} & read(path).keys()


def test_counts_tell_claims_on_val_and_on_test() -> None:
    runs = [finished(), finished(seed=1, outcome="undecided", test_outcome="better"), finished(seed=2, outcome="worse")]
    assert counts("augment", runs).startswith("augment: right 1 of 3 (95% interval 0.06 to 0.79), open 1, wrong 1;")
    assert counts("augment", runs).endswith("2 claim a difference on val, 1 on test")
    text = told([*runs, finished("equals", outcome="undecided")], SETTINGS)
    assert "--trials 5 --max-epochs 8 --confirm 3 --set image_size=48x64" in text
    assert "equals: right 1 of 1" in text and text.count("photometric") == 4


def test_flags_are_those_of_a_sweep() -> None:
    asked = from_command_line([*verdicts.SPACES["augment"], *SETTINGS.flags()])
    assert isinstance(asked, SweepConfig)
    assert (asked.space, asked.trials, asked.max_epochs, asked.confirm) == ("augment", 5, 8, 3)


def test_equals_are_one_model_with_weights_of_their_own(tmp_path: Path) -> None:
    with nothing_left_behind(tmp_path / "cache"):
        plugins.load([EQUALS])
        space = SPACES.get("equals")(("lraspp_mobilenet_v3_large",), "none")
        names = [str(point["model.name"]) for point in space.start]
        weights = []
        for name in [*names[:2], names[0]]:
            torch.manual_seed(0)
            model = build_model(name, ["a", "b"], weights="none")
            assert model.name == name
            weights.append([parameter.detach() for parameter in model.parameters()])
        reference = build_model("lraspp_mobilenet_v3_large", ["a", "b"], weights="none")
        assert [w.shape for w in weights[0]] == [p.shape for p in reference.parameters()]
        first, second, again = ([w for w in own if w.ndim == 4] for own in weights)
        assert all(map(torch.equal, first, again)) and not any(map(torch.equal, first, second))
