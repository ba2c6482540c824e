"""Where every label stands beside the baseline and beside the winner, on the evidence that there is of it.

Labels with fresh seeds are compared as configurations (`sweep.claims`, `sweep.rivals`). Of the others there is one
checkpoint each: on a split that chose nothing two checkpoints are compared, and no more is said.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from analysis.comparison import lineage
from analysis.kept import Evaluation
from analysis.scores import Classes, Scores, metric_statistic, units_of, why_no_interval
from analysis.statistics import paired_family
from sweep.claims import Contrast, Outcome
from sweep.objectives import SplitObjective
from sweep.verdict import Confirmed, Verdict, named
from trainables.labels import BASELINE, BEST
from trainables.metrics import Floats
from trainables.record import TrialRecord

FRESH_SEEDS, TWO_CHECKPOINTS = "fresh seeds", "two checkpoints"
COLUMNS = (
    *("name", "trial_id", "evidence", "seeds", "score"),
    *("difference", "difference_low", "difference_high", "chance", "improvement", "outcome"),
    *("to_winner", "to_winner_low", "to_winner_high", "to_winner_chance", "to_winner_improvement", "to_winner_outcome"),
    "may_be_best",
)
"""Of the table `standings`."""


@dataclass(frozen=True)
class Beside:
    """A label beside another.

    Attributes:
        difference: Of their scores, or of their means over seeds, in the objective's own direction.
        low: Lower bound of its interval; NaN where none can be given.
        high: Upper bound.
        chance: Of as large a difference among equals, adjusted for how many are compared; NaN where none is given.
        improvement: Share of pairs of a seed of each in which the label is the better, or how likely its checkpoint is
            to be the better on other images.
        outcome: `better`, `worse` of configurations, `higher`, `lower` of two checkpoints, `undecided`; empty where
            nothing may be said.
    """

    difference: float
    low: float = math.nan
    high: float = math.nan
    chance: float = math.nan
    improvement: float = math.nan
    outcome: str = ""


@dataclass(frozen=True)
class Standing:
    """Where a label, or a configuration with fresh seeds that no label holds, stands.

    Attributes:
        name: What it is called: its labels, `best` left out where it has another.
        labels: Its labels; none for a configuration that no label holds.
        trial_id: Of its checkpoint; of the trial of the search where no label holds it.
        source: The trial of the search that it is, or continues.
        evidence: `fresh seeds` or `two checkpoints`.
        scores: One per seed; the checkpoint's alone without fresh ones.
        to_baseline: Beside the baseline; None for itself, and where nothing is compared.
        to_winner: Beside the winner; None for itself.
        may_be_best: Whether it is not shown to be worse than any other; None without fresh seeds.
    """

    name: str
    labels: tuple[str, ...]
    trial_id: str
    source: str
    evidence: str
    scores: tuple[float, ...]
    to_baseline: Beside | None = None
    to_winner: Beside | None = None
    may_be_best: bool | None = None

    @property
    def seeds(self) -> int:
        """Behind its score."""
        return len(self.scores)

    @property
    def score(self) -> float:
        """The mean over them."""
        return float(np.mean(self.scores))


def standings(
    labels: Mapping[str, TrialRecord],
    evaluations: Mapping[str, Evaluation],
    scores: Mapping[str, Scores],
    verdict: Verdict | None,
    trials: pd.DataFrame,
    *,
    objective: SplitObjective,
    dead: Collection[str] = (),
    classes: Classes | None = None,
) -> list[Standing]:
    """Every label and every configuration with fresh seeds; the baseline first, then by the difference from it.

    Args:
        labels: Records by label.
        evaluations: By trial id, all on the split of the report.
        scores: By trial id.
        verdict: On that split; None without fresh seeds.
        trials: The rows of `trials.csv`.
        objective: What is compared.
        dead: Labels that learnt nothing, which are compared with nothing.
        classes: Of the data set.
    """
    by_trial: dict[str, list[str]] = {}
    for label, record in labels.items():
        by_trial.setdefault(record.trial_id, []).append(label)
    configurations = {} if verdict is None else {one.trial_id: one for one in verdict.configurations}
    found: dict[str, Standing] = {}
    for trial_id, own in by_trial.items():
        name = " = ".join([label for label in own if label != BEST] or own)
        source = lineage(trial_id, trials)[-1]
        held = configurations.pop(source, None) if not set(own) & set(dead) else None
        evidence = TWO_CHECKPOINTS if held is None else FRESH_SEEDS
        own_scores = (scores[trial_id][objective.metric.name].value,) if held is None else held.scores
        found[source if held else trial_id] = Standing(name, tuple(own), trial_id, source, evidence, own_scores)
    for source, held in configurations.items():
        found[source] = Standing(named(held), (), source, source, FRESH_SEEDS, held.scores)
    if verdict is not None:
        found |= _over_seeds(found, verdict, objective)
    references = {label: labels[label].trial_id for label in (BASELINE, BEST) if label in labels and label not in dead}
    alone = {
        key: one for key, one in found.items() if one.evidence == TWO_CHECKPOINTS and not set(one.labels) & set(dead)
    }
    found |= _checkpoints(alone, references, evaluations, objective, classes)
    return _ordered(list(found.values()), objective)


def _ordered(found: Sequence[Standing], objective: SplitObjective) -> list[Standing]:
    def place(one: Standing) -> tuple[bool, float]:
        return BASELINE not in one.labels, -objective.goodness(one.score)

    return sorted(found, key=place)


def _over_seeds(found: Mapping[str, Standing], verdict: Verdict, objective: SplitObjective) -> dict[str, Standing]:
    """The standings of configurations with fresh seeds, by their trials of the search."""
    baseline = verdict.configurations[0]
    winner = verdict.of(verdict.winner)
    remaining = verdict.may_be_best()
    contrasts = {one.name: one for one in verdict.contrasts}
    rivals = {one.name: one for one in verdict.rivals}
    told = {}
    for one in verdict.configurations:
        to_baseline = to_winner = None
        if one.trial_id in contrasts:
            contrast = contrasts[one.trial_id]
            to_baseline = _of_seeds(one, baseline, contrast, verdict.outcome_of(contrast), verdict, objective)
        if winner is baseline:
            to_winner = to_baseline
        elif one is baseline:
            to_winner = _mirrored(contrasts[winner.trial_id], winner, baseline, verdict, objective)
        elif one.trial_id in rivals:
            rival = rivals[one.trial_id]
            to_winner = _of_seeds(one, winner, rival, verdict.outcome_beside_winner(rival), verdict, objective)
        if one.trial_id in found:
            told[one.trial_id] = dataclasses.replace(
                found[one.trial_id],
                to_baseline=to_baseline,
                to_winner=to_winner,
                may_be_best=one.trial_id in remaining,
            )
    return told


def _of_seeds(
    first: Confirmed,
    second: Confirmed,
    contrast: Contrast,
    outcome: Outcome,
    verdict: Verdict,
    objective: SplitObjective,
) -> Beside:
    sign = objective.goodness(1.0)
    low, high = sorted((sign * contrast.low, sign * contrast.high))
    # Where val picked on these images, seeds share the luck with them.
    improvement = math.nan if verdict.chosen_from is not None else _improvement(first, second, objective)
    return Beside(sign * contrast.difference, low, high, contrast.chance, improvement, outcome.value)


def _mirrored(
    contrast: Contrast, winner: Confirmed, baseline: Confirmed, verdict: Verdict, objective: SplitObjective
) -> Beside:
    """The baseline beside the winner, from the winner beside the baseline."""
    turned = dataclasses.replace(contrast, difference=-contrast.difference, low=-contrast.high, high=-contrast.low)
    mirror = {Outcome.BETTER: Outcome.WORSE, Outcome.WORSE: Outcome.BETTER, Outcome.UNDECIDED: Outcome.UNDECIDED}
    return _of_seeds(baseline, winner, turned, mirror[verdict.outcome_of(contrast)], verdict, objective)


def _improvement(first: Confirmed, second: Confirmed, objective: SplitObjective) -> float:
    """Share of all pairs of a seed of each in which the first is the better; half of each tie."""
    one, other = (np.array([objective.goodness(score) for score in each.scores]) for each in (first, second))
    gains = one[:, None] - other[None, :]
    return float((gains > 0).mean() + (gains == 0).mean() / 2)


def _checkpoints(
    alone: Mapping[str, Standing],
    references: Mapping[str, str],
    evaluations: Mapping[str, Evaluation],
    objective: SplitObjective,
    classes: Classes | None,
) -> dict[str, Standing]:
    """The standings of labels without fresh seeds: each checkpoint beside the baseline's and the winner's."""
    pairs = [(key, label) for key, one in alone.items() for label, other in references.items() if other != one.trial_id]
    if not pairs:
        return {}

    needed = {*(alone[key].trial_id for key, _ in pairs), *references.values()}

    def differences(weights: Floats) -> Floats:
        values = {trial_id: metric_statistic(evaluations[trial_id], objective.metric)(weights) for trial_id in needed}
        return np.stack([values[alone[key].trial_id] - values[references[label]] for key, label in pairs])

    first = evaluations[next(iter(references.values()))]
    estimates = differences(np.ones((1, len(first.image_ids))))[:, 0]
    beside = {pair: Beside(float(one)) for pair, one in zip(pairs, estimates, strict=True)}
    why = why_no_interval(objective.metric, *(evaluations[trial_id] for trial_id in needed), classes=classes)
    if first.split != "val" and not why:
        family = paired_family(differences, units_of(first))
        told = zip(pairs, estimates, family.low, family.high, family.chance, family.above, strict=True)
        beside = {pair: _of_checkpoints(objective, *map(float, numbers)) for pair, *numbers in told}
    return {
        key: dataclasses.replace(one, to_baseline=beside.get((key, BASELINE)), to_winner=beside.get((key, BEST)))
        for key, one in alone.items()
    }


def _of_checkpoints(
    objective: SplitObjective, difference: float, low: float, high: float, chance: float, above: float
) -> Beside:
    if math.isnan(low):
        return Beside(difference)
    outcome = "higher" if low > 0 else "lower" if high < 0 else "undecided"
    return Beside(difference, low, high, chance, above if objective.goodness(1.0) > 0 else 1 - above, outcome)


def standings_frame(found: Sequence[Standing]) -> pd.DataFrame:
    """The table `standings`, columns `COLUMNS`."""
    rows = []
    for one in found:
        row: list[object] = [one.name, one.trial_id, one.evidence, one.seeds, one.score]
        for beside in (one.to_baseline, one.to_winner):
            told = beside or Beside(math.nan)
            row += [told.difference, told.low, told.high, told.chance, told.improvement, told.outcome]
        may_be = "" if one.may_be_best is None else "yes" if one.may_be_best else "no"
        rows.append([*row, may_be])
    return pd.DataFrame(rows, columns=list(COLUMNS))
