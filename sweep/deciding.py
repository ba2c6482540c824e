"""From the scores of fresh seeds, and what their models did on each image, to a verdict."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from sweep.claims import Arm, compare, pooled_variance
from sweep.objectives import SplitObjective
from sweep.rivals import compare_with_winner
from sweep.verdict import Confirmed, Verdict
from trainables.metrics import Collected, Floats, Replicates, Units, leave_out_weights

MOST_BLOCKS = 400
"""More images or groups are left out in blocks, for the variance that they bring."""
LEAST_UNITS = 5
"""Fewer images, or groups of them, do not tell how far other images would move a difference."""


def decide(
    configurations: Sequence[Confirmed],
    objective: SplitObjective,
    *,
    split: str,
    collected: Callable[[str], Collected | None],
    units: Units,
    chosen_from: int | None,
    picked: tuple[int, int] | None = None,
    looks: int = 1,
    chosen: Verdict | None = None,
) -> Verdict:
    """Compares configurations with the baseline over fresh seeds and over images, and the candidates with the winner.

    Args:
        configurations: The baseline first; each with at least two seeds.
        objective: What is compared.
        split: Of the scores.
        collected: What the model of a trial did on each image; None where that was not kept.
        units: Of the split's images.
        chosen_from: See `Verdict`.
        picked: See `sweep.claims.Design`: the first is the winner that is taken apart.
        looks: See `Verdict`.
        chosen: The verdict on another split, whose winner it is that this one speaks of.
    """
    arms = [Arm(one.trial_id, tuple(map(objective.goodness, one.scores))) for one in configurations]
    means = over_images(configurations, objective, collected, units) if units.count >= LEAST_UNITS else None
    unit_count = units.count if means is not None else 0
    tried = None if chosen_from is None else max(chosen_from, len(arms) - 1)
    contrasts = compare(
        arms[0],
        arms[1:],
        image_variance=None if means is None else image_variances(means, arms[0].name),
        units=unit_count,
        chosen_from=tried,
        picked=picked,
        looks=looks,
    )
    whole = [arm for arm, one in zip(arms, configurations, strict=True) if not one.lost] or arms
    verdict = Verdict(
        split=split,
        objective=objective.key,
        configurations=tuple(configurations),
        contrasts=tuple(contrasts),
        winner=max(whole, key=lambda arm: arm.mean).name if chosen is None else chosen.winner,
        units=units.name,
        unit_count=unit_count,
        chosen_from=chosen_from,
        looks=looks,
        subject="" if chosen is None else chosen.leading.name,
    )
    if picked is not None or verdict.winner == arms[0].name:
        return verdict
    winner = next(arm for arm in arms if arm.name == verdict.winner)
    rivals = compare_with_winner(
        winner,
        [arm for arm in arms[1:] if arm is not winner],
        seed_variance=pooled_variance(arms),
        freedom=sum(len(arm.scores) for arm in arms) - len(arms),
        image_variance=None if means is None else image_variances(means, winner.name),
        units=unit_count,
        chosen_from=tried,
        looks=looks,
    )
    return dataclasses.replace(verdict, rivals=tuple(rivals))


def over_images(
    configurations: Sequence[Confirmed],
    objective: SplitObjective,
    collected: Callable[[str], Collected | None],
    units: Units,
) -> dict[str, Floats] | None:
    """Mean score over its seeds of each configuration without each image, group or block of them in turn.

    Args:
        configurations: Of the verdict.
        objective: Of the scores.
        collected: See `decide`.
        units: What is left out.

    Returns:
        By `trial_id`, one value for each of up to `MOST_BLOCKS` blocks; None where a trial's counts are missing.
    """
    means = {}
    for one in configurations:
        values: list[Floats] = []
        for trial_id in one.trials:
            of_trial = collected(trial_id)
            if of_trial is None:
                return None
            weights = leave_out_weights(units, most=MOST_BLOCKS)
            values.append(np.concatenate([objective.metric(Replicates(of_trial, some)) for some in weights]))
        means[one.trial_id] = np.asarray(np.mean(values, axis=0))
    return means


def image_variances(means: Mapping[str, Floats], reference: str) -> dict[str, float]:
    """Variance over images of each configuration's mean over seeds less that of one of them, by the jackknife.

    Args:
        means: From `over_images`.
        reference: The one, by `trial_id`.
    """
    return {
        trial_id: float(np.nanvar(mean - means[reference])) * (len(mean) - 1)
        for trial_id, mean in means.items()
        if trial_id != reference
    }
