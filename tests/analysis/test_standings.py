"""Where labels stand: against plain loops, just at each rule's threshold, and on sweeps of equals."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from analysis.dead import Dead
from analysis.report.sections.standings import standing_claims
from analysis.scores import score_labels
from analysis.standings import COLUMNS, Standing, _of_checkpoints, standings, standings_frame
from analysis.statistics import paired_family
from sweep.deciding import decide
from sweep.objectives import objective_of
from sweep.verdict import Confirmed, Verdict
from trainables import metrics
from trainables.metrics import sampling_units

from .synthetic_run import make_results, with_standing, with_verdict
from .test_comparison import made_evaluation, made_record

MIOU = objective_of("val/miou")


def confirmed(trial_id: str, label: str, mean: float) -> Confirmed:
    scores = tuple(mean + 0.002 * place for place in (-1.5, -0.5, 0.5, 1.5))
    return Confirmed(trial_id, label, tuple("abcd"), (1, 2, 3, 4), scores)


def decided(*configurations: Confirmed, chosen_from: int | None = None) -> Verdict:
    return decide(configurations, MIOU, split="test", collected=lambda trial: None, units=sampling_units([None] * 3),
                  chosen_from=chosen_from)  # fmt: skip


def placed(
    skills: dict[str, float],
    verdict: Verdict | None = None,
    *,
    split: str = "test",
    parents: Any = None,
    twins: dict[str, str] | None = None,
    dead: tuple[str, ...] = (),
    images: int = 40,
) -> dict[str, Standing]:
    """Standings of labels that are called after their skill's key; `best` beside its twin where it has one."""
    evaluations: Any = {
        name: made_evaluation(name, skill=skill, split=split, images=images, seed=place)
        for place, (name, skill) in enumerate(skills.items())
    }
    trial_of = {name: name for name in skills} | (twins or {})
    labels = {label: made_record(trial, 0.4) for label, trial in trial_of.items()}
    trials = pd.DataFrame({"trial_id": list(skills), "parent": [(parents or {}).get(name, "") for name in skills]})
    scores = score_labels(evaluations)
    found = standings(labels, evaluations, scores, verdict, trials, objective=MIOU, dead=dead)
    return {one.name: one for one in found}


def test_checkpoints_are_compared_in_pairs_on_the_same_images() -> None:
    found = placed({"baseline": 1.5, "best": 2.5, "flip": 1.6})
    assert list(found) == ["baseline", "best", "flip"]
    assert [one.evidence for one in found.values()] == ["two checkpoints"] * 3
    best, flip, baseline = found["best"], found["flip"], found["baseline"]
    assert best.to_baseline is not None and best.to_baseline.outcome == "higher"
    assert best.to_baseline.difference == pytest.approx(best.score - baseline.score)
    assert flip.to_winner is not None and flip.to_winner.outcome == "lower"
    assert flip.to_winner.difference == pytest.approx(flip.score - best.score)
    assert baseline.to_baseline is None and best.to_winner is None
    assert all(one.may_be_best is None for one in found.values())


def test_a_family_of_one_is_students_interval_of_a_mean() -> None:
    values = np.random.default_rng(0).normal(0.1, 1, 60)
    family = paired_family(lambda weights: (weights @ values / weights.sum(axis=1))[None], sampling_units([None] * 60))
    reach = 2.0010 * values.std(ddof=1) / np.sqrt(60)
    assert (family.low[0], family.high[0]) == pytest.approx((values.mean() - reach, values.mean() + reach), rel=0.03)


def test_intervals_of_a_family_hold_at_once() -> None:
    rng, units, held, alone = np.random.default_rng(1), sampling_units([None] * 40), 0, 0
    for _ in range(200):
        values = rng.normal(0, 1, (6, 40))
        family = paired_family(lambda weights, values=values: values @ weights.T / weights.sum(axis=1), units)
        held += bool(((family.low <= 0) & (family.high >= 0)).all())
        alone += bool((np.abs(values.mean(axis=1)) <= 2.02 * values.std(axis=1, ddof=1) / np.sqrt(40)).all())
        assert ((family.chance <= 0.05) == ((family.low > 0) | (family.high < 0))).mean() > 0.5
    # 190 are expected; fewer than 180 would come by chance in 1 of 1,000.
    assert held >= 180 and alone < 170


def test_how_likely_a_difference_is_to_be_above_zero() -> None:
    values = np.array([0.0] * 10 + [1.0] * 10)
    units = sampling_units([None] * 20)

    def differences(weights: np.ndarray) -> np.ndarray:
        mean = weights @ values / weights.sum(axis=1)
        return np.stack([mean, -mean, 0 * mean])

    family = paired_family(differences, units)
    error = values.std(ddof=1) / np.sqrt(20)
    assert family.above[0] == pytest.approx(stats.t.cdf(values.mean() / error, 19)) and family.above[2] == 0.5
    assert family.above[1] == pytest.approx(1 - family.above[0])
    assert (family.low[2], family.high[2], family.chance[2]) == (0.0, 0.0, 1.0)


def test_too_few_images_give_a_difference_alone() -> None:
    beside = placed({"baseline": 1.5, "best": 2.5}, images=39)["best"].to_baseline
    assert beside is not None and beside.difference > 0.02
    assert (beside.outcome, np.isnan(beside.low), np.isnan(beside.chance)) == ("", True, True)
    enough = placed({"baseline": 1.5, "best": 2.5}, images=40)["best"].to_baseline
    assert enough is not None and enough.outcome == "higher"


def test_val_which_chose_the_labels_shows_no_interval_of_theirs() -> None:
    for one in placed({"baseline": 1.5, "best": 2.5, "flip": 1.6}, split="val").values():
        for beside in (one.to_baseline, one.to_winner):
            assert beside is None or (beside.outcome == "" and np.isnan([beside.low, beside.improvement]).all())


def test_a_label_with_fresh_seeds_is_a_configuration_and_its_twin_is_not_told_twice() -> None:
    verdict = decided(confirmed("s0", "baseline", 0.40), confirmed("s1", "flip", 0.45), confirmed("s2", "crop", 0.42))
    found = placed(
        {"baseline": 1.5, "flip": 2.5, "blur": 1.6}, verdict, parents={"baseline": "s0", "flip": "s1"},
        twins={"best": "flip"},
    )  # fmt: skip
    assert next(iter(found)) == "baseline"
    assert set(found) == {"baseline", "flip", "crop (s2)", "blur"}
    flip, crop, blur = found["flip"], found["crop (s2)"], found["blur"]
    assert (flip.evidence, flip.seeds, flip.score, flip.labels) == (
        "fresh seeds",
        4,
        pytest.approx(0.45),
        ("flip", "best"),
    )
    assert flip.to_baseline is not None and flip.to_baseline.outcome == "better" and flip.may_be_best
    assert crop.to_winner is not None and crop.to_winner.outcome == "worse" and crop.may_be_best is False
    assert found["baseline"].may_be_best is False
    assert blur.evidence == "two checkpoints" and blur.to_baseline is not None
    assert blur.to_baseline.outcome in ("higher", "lower", "undecided") and blur.may_be_best is None


def test_the_baseline_stands_beside_the_winner_as_the_winner_beside_it() -> None:
    verdict = decided(confirmed("baseline", "baseline", 0.40), confirmed("best", "flip", 0.45))
    found = placed({"baseline": 1.5, "best": 2.5}, verdict)
    up, down = found["best"].to_baseline, found["baseline"].to_winner
    assert up is not None and down is not None
    assert (down.difference, down.low, down.high) == pytest.approx((-up.difference, -up.high, -up.low))
    assert (up.outcome, down.outcome) == ("better", "worse")
    assert (up.improvement, down.improvement) == (1.0, 0.0)


def test_improvement_is_the_share_of_pairs_of_seeds_with_half_of_the_ties() -> None:
    one, other = (0.40, 0.42, 0.44, 0.46), (0.39, 0.42, 0.45, 0.47)
    verdict = decided(
        Confirmed("baseline", "baseline", tuple("abcd"), (1, 2, 3, 4), one),
        Confirmed("best", "flip", tuple("abcd"), (1, 2, 3, 4), other),
    )
    beside = placed({"baseline": 1.5, "best": 2.5}, verdict)["best"].to_baseline
    pairs = [1.0 if b > a else 0.5 if b == a else 0.0 for a, b in itertools.product(one, other)]
    assert beside is not None and beside.improvement == pytest.approx(sum(pairs) / 16)
    picked = decided(*verdict.configurations, chosen_from=5)
    beside = placed({"baseline": 1.5, "best": 2.5}, picked)["best"].to_baseline
    assert beside is not None and np.isnan(beside.improvement), "val picked on these images"


def test_what_learnt_nothing_is_compared_with_nothing() -> None:
    found = placed({"baseline": 1.5, "best": 2.5, "flip": 1.6}, dead=("flip",))
    assert found["flip"].to_baseline is None and found["flip"].to_winner is None
    assert found["best"].to_baseline is not None
    found = placed({"baseline": 1.5, "best": 2.5, "flip": 1.6}, dead=("baseline",))
    assert all(one.to_baseline is None for one in found.values()) and found["flip"].to_winner is not None


def test_the_table_has_a_row_for_each_and_empty_cells_where_nothing_is_said() -> None:
    found = placed({"baseline": 1.5, "best": 2.5})
    frame = standings_frame(list(found.values()))
    assert tuple(frame.columns) == COLUMNS and frame["name"].tolist() == ["baseline", "best"]
    assert np.isnan(frame.loc[0, "difference"]) and frame.loc[0, "outcome"] == "" == frame.loc[0, "may_be_best"]


def test_checkpoints_of_equal_skill_are_told_apart_in_few_cases() -> None:
    told = 0
    for seed in range(40):
        rng = np.random.default_rng(seed)
        matrices = rng.multinomial(60, [0.4, 0.1, 0.1, 0.4], (5, 40)).reshape(5, 40, 2, 2)

        def differences(weights: np.ndarray, matrices: np.ndarray = matrices) -> np.ndarray:
            totals = np.einsum("rn,knij->krij", weights, matrices)
            values = metrics.iou(totals).mean(axis=-1)
            return np.asarray(values[1:] - values[0])

        family = paired_family(differences, sampling_units([None] * 40))
        told += bool(((family.low > 0) | (family.high < 0)).any())
    assert told <= 6


# What is said of it.


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return make_results(tmp_path_factory.mktemp("run"), images=40)[0]


def sentences(results: Any) -> list[str]:
    return [claim.text.striptags() for claim in standing_claims(results)]


def test_labels_without_fresh_seeds_are_told_as_two_checkpoints(results) -> None:
    (text,) = sentences(results)
    photometric = next(one for one in results.standing if one.name == "photometric")
    beside = photometric.to_baseline
    numbers = f"photometric ({beside.difference:+.3f} [{beside.low:+.3f}, {beside.high:+.3f}]) scores higher"
    told = numbers if beside.outcome == "higher" else "photometric cannot be told from it"
    assert text == (
        f"Two checkpoints each, on these images of test and beside that of the baseline: {told}. Another seed may "
        "change it."
    )
    assert "better" not in text and "geometric" not in text, "geometric is the winner's own trial"


@pytest.mark.parametrize(("low", "said"), [(1e-9, "scores higher"), (0.0, "cannot be told"), (-1e-9, "cannot be told")])
def test_a_checkpoint_is_higher_only_where_its_interval_is_above_zero(results, low: float, said: str) -> None:
    beside = _of_checkpoints(MIOU, 0.02, low, 0.04, 0.05, 0.97)
    standing = tuple(replace(one, to_baseline=beside) if one.name == "photometric" else one for one in results.standing)
    (text,) = sentences(replace(results, standing=standing))
    assert said in text


def test_on_val_nothing_is_said_of_labels_without_fresh_seeds(results) -> None:
    assert sentences(with_standing(replace(results, split="val"))) == []
    with_standing(results)  # the evaluations are shared


def test_two_configurations_leave_nothing_to_say_beyond_the_verdict(results) -> None:
    assert not [text for text in sentences(with_verdict(results)) if "may be the best" in text or "better" in text]


def more_verdicts(results, *configurations: Confirmed):
    return with_standing(replace(results, verdict=decided(*configurations)))


def test_what_may_be_the_best_is_told_where_there_are_three(results) -> None:
    base, first = confirmed("0000", "baseline", 0.40), confirmed("0001", "<free>", 0.45)
    texts = sentences(more_verdicts(results, base, first, confirmed("0005", "x", 0.449)))
    assert "Of 3 configurations with fresh seeds these cannot be told from the winner: geometric, x (0005)." in texts
    assert any(
        text.startswith("On test, x (0005) (+0.049 [") and "is better than the baseline" in text for text in texts
    )
    texts = sentences(more_verdicts(results, base, first, confirmed("0005", "x", 0.42)))
    assert any("only geometric may be the best" in text for text in texts)
    texts = sentences(more_verdicts(results, base, confirmed("0001", "y", 0.401), confirmed("0005", "x", 0.38)))
    assert any("x (0005) (-0.020 [" in text and "is worse than the baseline" in text for text in texts)
    assert any("the winner is not told from the baseline" in text and ": geometric, baseline." in text.replace(
        "baseline, geometric", "geometric, baseline") for text in texts)  # fmt: skip


def test_nothing_is_said_where_winner_or_baseline_learnt_nothing(results) -> None:
    assert sentences(replace(results, dead={"baseline": Dead(1, 0.05, 0.06)})) == []
