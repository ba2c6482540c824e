"""Several configurations against the baseline: against SciPy, and on simulated sweeps whose truth is known."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from sweep.claims import (
    Arm,
    Contrast,
    Design,
    Null,
    Outcome,
    compare,
    detectable,
    pooled_variance,
    power,
)


def arms(rng: np.random.Generator, seeds: tuple[int, ...], gains: tuple[float, ...], sd: float = 0.012) -> list[Arm]:
    drawn = (rng.normal(0.4 + gain, sd, count) for gain, count in zip(gains, seeds, strict=True))
    return [Arm(f"t{place}", tuple(map(float, scores))) for place, scores in enumerate(drawn)]


@pytest.mark.parametrize("seeds", [(3, 3), (5, 5, 5), (4, 6, 3), (3, 3, 3, 3)])
def test_chances_are_dunnetts_where_the_images_count_as_given(seeds: tuple[int, ...]) -> None:
    rng = np.random.default_rng(len(seeds))
    for gain in (0.0, 0.02):
        baseline, *others = arms(rng, seeds, (0.0, gain) + (0.0,) * (len(seeds) - 2))
        ours = [contrast.chance for contrast in compare(baseline, others)]
        theirs = stats.dunnett(
            *(arm.scores for arm in others),
            control=baseline.scores,
            alternative="greater",
            rng=np.random.default_rng(0),
        )
        np.testing.assert_allclose(ours, theirs.pvalue, atol=0.008)


def test_interval_is_students_for_one_configuration() -> None:
    baseline, other = arms(np.random.default_rng(1), (5, 5), (0.0, 0.03))
    (found,) = compare(baseline, [other], draws=200_000)
    theirs = stats.ttest_ind(other.scores, baseline.scores).confidence_interval(0.95)
    assert found.difference == pytest.approx(other.mean - baseline.mean)
    assert (found.low, found.high) == pytest.approx((theirs.low, theirs.high), rel=0.02)
    assert found.chance == pytest.approx(
        stats.ttest_ind(other.scores, baseline.scores, alternative="greater").pvalue, abs=0.002
    )


def test_variance_is_pooled_within_configurations() -> None:
    assert pooled_variance([Arm("a", (1.0, 3.0)), Arm("b", (10.0, 11.0, 12.0))]) == pytest.approx((2 + 2) / 3)


def test_more_images_more_seeds_and_fewer_candidates_find_smaller_gains() -> None:
    least = detectable(Design((6, 6), 1000), 0.012, 0.003)
    for worse in (
        detectable(Design((3, 3), 1000), 0.012, 0.003),
        detectable(Design((6, 6), 30), 0.012, 0.02),
        detectable(Design((6, 6, 6, 6), 1000), 0.012, 0.003),
        detectable(Design((6, 6), 1000, chosen_from=50), 0.012, 0.01),
    ):
        assert worse > least


def test_a_design_detects_what_it_says() -> None:
    for design, image_sd in ((Design((3, 3)), 0.0), (Design((5, 5, 5), 100), 0.01), (Design((4, 4), 60, 20), 0.01)):
        assert power(detectable(design, 0.012, image_sd), design, 0.012, image_sd) == pytest.approx(0.8, abs=0.04)


def simulated(
    rng: np.random.Generator,
    *,
    tried: int,
    top: int,
    seeds: int,
    gain: float = 0.0,
    spread: float = 1.0,
    luck: float = 0.01,
    sd: float = 0.012,
    images: int = 100,
    on_val: bool = True,
) -> list[Contrast]:
    """A sweep: configurations are picked by one seed each on val, then compared over fresh seeds.

    Args:
        rng: Of everything.
        tried: Configurations beside the baseline; all are its equals, or all better by `gain`.
        top: How many are picked.
        seeds: Fresh ones of each.
        gain: True difference of every configuration from the baseline.
        spread: Ratio of the largest to the smallest standard deviation over seeds.
        luck: Standard deviation of what the images of a split do to one configuration.
        sd: Of seeds, in the geometric mean.
        images: Of the split.
        on_val: Whether fresh seeds are compared on the images that the pick was made on.
    """  # fmt: skip
    sds = sd * np.exp(rng.uniform(-0.5, 0.5, tried + 1) * math.log(spread))
    of_val, of_test = rng.normal(0, luck, (2, tried + 1))
    picked = np.argsort(-(of_val + sds * rng.normal(size=tried + 1))[1:])[:top] + 1
    own = of_val if on_val else of_test
    true = np.where(np.arange(tried + 1) > 0, gain, 0.0)
    found = [Arm(f"t{one}", tuple(true[one] + own[one] + sds[one] * rng.normal(size=seeds))) for one in (0, *picked)]
    variance = 2 * luck**2 * rng.chisquare(images - 1) / (images - 1)
    return compare(
        found[0], found[1:], image_variance={arm.name: variance for arm in found}, units=images,
        chosen_from=tried if on_val else None, draws=4000,
    )  # fmt: skip


SWEEPS = 400


@pytest.mark.parametrize(
    ("how", "on_val"),
    [
        ({"tried": 4, "top": 1, "seeds": 3}, True),
        ({"tried": 50, "top": 2, "seeds": 3}, True),
        ({"tried": 20, "top": 3, "seeds": 5, "luck": 0.02}, True),
        ({"tried": 20, "top": 2, "seeds": 3, "spread": 3.0}, True),
        ({"tried": 50, "top": 3, "seeds": 5, "luck": 0.02}, False),
        ({"tried": 20, "top": 2, "seeds": 4, "luck": 0.0}, False),
    ],
)
def test_sweeps_of_equals_claim_in_fewer_than_5_of_100(how: dict[str, float], on_val: bool) -> None:
    rng = np.random.default_rng(7)
    sweeps = [simulated(rng, on_val=on_val, **how) for _ in range(SWEEPS)]  # type: ignore[arg-type]
    better = sum(any(one.outcome is Outcome.BETTER for one in sweep) for sweep in sweeps)
    # 2.5% are allowed; of 400, chance takes that beyond 20 in 1 of 1,000.
    assert better <= 20
    leading = [min(one.chance for one in sweep) for sweep in sweeps]
    assert np.mean(np.array(leading) <= 0.1) <= 0.145, "the chance that is told is no smaller than the true one"


@pytest.mark.parametrize(("sd", "luck"), [(0.012, 0.002), (0.012, 0.007)])
def test_a_small_chance_is_not_told_where_seeds_lie_close_together_by_luck(sd: float, luck: float) -> None:
    """Where images count for less than seeds, estimates taken for the truth would say 0.003 in 7 of 1,000 sweeps."""
    rng, chances = np.random.default_rng(5), []
    for _ in range(3000):
        both = [Arm(f"t{one}", tuple(rng.normal(0, luck) + rng.normal(0, sd, 3))) for one in range(2)]
        variance = 2 * luck**2 * rng.chisquare(99) / 99
        (found,) = compare(both[0], both[1:], image_variance={"t1": variance}, units=100, draws=10_000)
        chances.append(found.chance)
    for chance, most in ((0.003, 15), (0.01, 42), (0.025, 95)):  # chance alone takes what is right beyond in 1 of 50
        assert sum(one <= chance for one in chances) <= most


def test_without_the_correction_for_picking_the_images_luck_would_be_claimed() -> None:
    rng, claimed, corrected = np.random.default_rng(3), 0, 0
    for _ in range(200):
        luck = rng.normal(0, 0.02, 51)
        picked = int(np.argmax(luck[1:] + rng.normal(0, 0.004, 50))) + 1
        both = [Arm(f"t{one}", tuple(luck[one] + rng.normal(0, 0.004, 5))) for one in (0, picked)]
        variances = {both[1].name: 2 * 0.02**2}
        for chosen_from in (None, 50):
            (found,) = compare(
                both[0], both[1:], image_variance=variances, units=100, chosen_from=chosen_from, draws=4000
            )
            claimed += chosen_from is None and found.outcome is Outcome.BETTER
            corrected += chosen_from is not None and found.outcome is Outcome.BETTER
    assert claimed > 40 and corrected <= 12


def test_components_of_a_picked_winner_that_are_worth_nothing_are_not_said_to_be_worth_anything() -> None:
    """The winner is the luckiest of many with these images and these seeds, its variants are not."""
    rng, sd, luck, tried, top, seeds = np.random.default_rng(9), 0.012, 0.015, 60, 2, 6
    said = {None: 0, (tried, top): 0}
    for _ in range(300):
        images = rng.normal(0, luck, tried)
        best = np.argsort(-(images + sd * rng.normal(size=tried)))[:top]
        runs = [images[one] + sd * rng.normal(size=seeds) for one in best]
        winner = Arm("winner", tuple(max(runs, key=np.mean)))
        variants = [Arm(f"v{one}", tuple(rng.normal(0, luck) + sd * rng.normal(size=seeds))) for one in range(4)]
        variances = {arm.name: 2 * luck**2 for arm in variants}
        for picked in said:
            found = compare(winner, variants, image_variance=variances, units=100, picked=picked, draws=4000)
            worth = Outcome.WORSE if picked is None else Outcome.BETTER
            said[picked] += any(one.outcome is worth for one in found)
    assert said[None] > 30 and said[tried, top] <= 17


def test_a_component_of_worth_is_found_with_a_chance_that_says_so() -> None:
    rng = np.random.default_rng(2)
    winner, same, worse = (Arm(name, tuple(rng.normal(mean, 0.01, 6))) for name, mean in
                           (("w", 0.5), ("same", 0.5), ("worse", 0.4)))  # fmt: skip
    of_same, of_worse = compare(winner, [same, worse], picked=(20, 2))
    assert of_worse.outcome is Outcome.BETTER and of_worse.difference > 0.08 and of_worse.chance < 0.01
    assert of_same.outcome is Outcome.UNDECIDED and of_same.chance > 0.05


def test_looking_again_after_more_seeds_is_counted() -> None:
    rng, plans = np.random.default_rng(4), (3, 6, 10)
    claimed = {True: 0, False: 0}
    for _ in range(300):
        scores = rng.normal(0.4, 0.012, (3, max(plans)))
        for counted in claimed:
            any_look = False
            for look, seeds in enumerate(plans, start=1):
                own = [Arm(f"t{one}", tuple(row[:seeds])) for one, row in enumerate(scores)]
                found = compare(own[0], own[1:], looks=len(plans) if counted else 1, draws=4000)
                any_look |= any(one.outcome is Outcome.BETTER for one in found) and look > 0
            claimed[counted] += any_look
    assert claimed[True] <= 15 and claimed[True] < claimed[False]
    once, thrice = (compare(Arm("a", (1.0, 2.0)), [Arm("b", (2.0, 3.5))], looks=looks)[0] for looks in (1, 3))
    assert thrice.chance == pytest.approx(3 * once.chance, rel=0.01) and thrice.low < once.low


@pytest.mark.parametrize("gain", [0.01, 0.02, 0.03, 0.04])
@pytest.mark.parametrize(("seeds", "top"), [(3, 1), (5, 2)])
def test_power_is_what_theory_says(gain: float, seeds: int, top: int) -> None:
    """Dunnett's test of `top` configurations, all better by the gain, is at least as powerful as theory says of one."""
    rng = np.random.default_rng(11)
    claimed = 0
    for _ in range(SWEEPS):
        sweep = simulated(rng, tried=6, top=top, seeds=seeds, gain=gain, luck=0.0, on_val=False)
        claimed += sweep[0].outcome is Outcome.BETTER
    design = Design((seeds,) * (top + 1), 100)
    assert claimed / SWEEPS == pytest.approx(power(gain, design, 0.012), abs=0.05)
    # And the theory is right: one configuration against one is Student's noncentral t.
    if top == 1:
        shift, freedom = gain / (0.012 * math.sqrt(2 / seeds)), 2 * seeds - 2
        exact = stats.nct.sf(stats.t.ppf(0.975, freedom), freedom, shift)
        assert power(gain, design, 0.012) == pytest.approx(exact, abs=0.01)


def test_coverage_of_the_interval_of_a_true_gain() -> None:
    rng = np.random.default_rng(5)
    held = 0
    for _ in range(SWEEPS):
        (found,) = simulated(rng, tried=1, top=1, seeds=4, gain=0.02, on_val=False)
        held += found.low <= 0.02 <= found.high
    assert held / SWEEPS >= 0.93


def test_seeds_that_do_not_differ_decide_by_the_images_alone() -> None:
    same = [Arm("t0", (0.4, 0.4)), Arm("t1", (0.4, 0.4))]
    (found,) = compare(same[0], same[1:])
    assert (found.outcome, found.difference, found.chance) == (Outcome.UNDECIDED, 0.0, 1.0)
    (found,) = compare(Arm("t0", (0.4, 0.4)), [Arm("t1", (0.5, 0.5))])
    assert found.outcome is Outcome.BETTER and found.low == pytest.approx(0.1)
    (found,) = compare(same[0], [Arm("t1", (0.41, 0.41))], image_variance={"t1": 0.01**2}, units=50)
    assert found.outcome is Outcome.UNDECIDED


@pytest.mark.parametrize("scores", [(), (0.4,)])
def test_one_seed_is_refused(scores: tuple[float, ...]) -> None:
    with pytest.raises(ValueError, match="too few seeds of t1"):
        compare(Arm("t0", (0.4, 0.5)), [Arm("t1", scores)])
    with pytest.raises(ValueError, match="nothing to compare"):
        compare(Arm("t0", (0.4, 0.5)), [])


def test_chance_is_never_none() -> None:
    null = Null(Design((3, 3)), 1.0, draws=1000)
    assert null.chance(1e9) == pytest.approx(1 / 1001) and null.chance(-1e9) == 1.0
