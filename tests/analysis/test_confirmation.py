"""Fresh seeds on a split that chose nothing: what is compared, and of whom sentences speak."""

from __future__ import annotations

from typing import Any

import numpy as np

from analysis.confirmation import verdict_on_split
from sweep.deciding import decide
from sweep.objectives import objective_of
from sweep.verdict import Confirmed, Verdict, sentence
from trainables.metrics import sampling_units

from .test_comparison import made_evaluation

MIOU = objective_of("val/miou")
SKILLS = {"t0": 1.5, "t1": 1.6, "t2": 2.6}
"""On test: of the baseline, of the configuration that val chose, of one that stands far above both."""


def confirmed(trial_id: str, label: str, scores: tuple[float, ...]) -> Confirmed:
    trials = tuple(f"{trial_id}-s{number}" for number in range(1, len(scores) + 1))
    return Confirmed(trial_id, label, trials, tuple(range(len(scores))), scores)


def on_val(**options: Any) -> Verdict:
    """Val likes `t1` most."""
    found = [
        confirmed("t0", "baseline", (0.40, 0.41, 0.39)),
        confirmed("t1", "flip", (0.46, 0.47, 0.45)),
        confirmed("t2", "photometric", (0.43, 0.44, 0.42)),
    ]
    return decide(found, MIOU, split="val", collected=lambda trial: None, units=sampling_units([None] * 30),
                  chosen_from=5, **options)  # fmt: skip


def on_test(verdict: Verdict) -> Verdict:
    evaluations = {
        trial: made_evaluation(trial, skill=SKILLS[one.trial_id], seed=place)
        for one in verdict.configurations
        for place, trial in enumerate(one.trials)
    }
    return verdict_on_split(verdict, MIOU, evaluations)  # type: ignore[arg-type]


def test_on_test_sentences_speak_of_what_val_chose() -> None:
    verdict = on_test(on_val())
    assert (verdict.split, verdict.chosen_from, verdict.unit_count) == ("test", None, 40)
    differences = {one.name: one.difference for one in verdict.contrasts}
    assert differences["t2"] > differences["t1"], "the other one stands higher on test"
    assert (verdict.winner, verdict.leading.name) == ("t1", "t1")
    assert "flip (t1)" in sentence(verdict, MIOU) and "photometric" not in sentence(verdict, MIOU)
    assert Verdict.from_json(verdict.to_json()) == verdict


def test_scores_on_test_are_those_of_its_images() -> None:
    verdict = on_test(on_val())
    first = made_evaluation("t1-s1", skill=SKILLS["t1"], seed=0)
    total = np.asarray(first.confusions).sum(axis=0)
    hit = np.diagonal(total)
    union = (total.sum(axis=0) + total.sum(axis=1) - hit)[:3]
    np.testing.assert_allclose(verdict.of("t1").scores[0], np.mean(hit[:3] / union))
