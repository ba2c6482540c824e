"""What the trials of a search say about the search: where the best was found, edges, infeasible regions, stopping.

All of it is from val and on record; each fact has a threshold below which it is not told.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from analysis.candidates import flat_configuration
from analysis.comparison import lineage
from search_spaces.core.parameter import Parameter
from sweep.objectives import Objective
from sweep.phase_kinds import EXPLORING, SEARCH
from sweep.trials_csv import CONFIG
from trainables.metrics import Floats

MIN_TRIALS = 5
"""Fewer trials with a score say nothing about how the search went."""
EDGE, EDGE_LEVEL = 0.1, 0.05
"""Part of a range that counts as its edge, and how seldom so many more of the best may stand there by chance."""
MIN_AT_EDGE = 8
"""Trials with a score that a range needs; a quarter of them, four at least, are its best."""
MIN_INFEASIBLE = 3
MIN_EPOCHS = 8
"""Fewer epochs do not tell whether a curve was still rising."""
STILL_RISING = 0.01
"""A gain over the last half of the epochs that is worth telling, as a share of the objective's range."""


def scored(trials: pd.DataFrame, objective: Objective) -> pd.DataFrame:
    """The trials of the search that have a finite score, in the order of their suggestion."""
    values = pd.to_numeric(trials.get(objective.key, pd.Series(index=trials.index, dtype=float)), errors="coerce")
    chosen = trials["phase"].isin(EXPLORING) & trials["state"].isin(["completed", "stopped"]) & np.isfinite(values)
    found: pd.DataFrame = trials[chosen].assign(score=values[chosen])
    return found


def best_so_far(trials: pd.DataFrame, objective: Objective) -> pd.DataFrame:
    """The best score on val after each trial, with the epochs and hours that all trials had taken by then.

    Args:
        trials: The rows of `trials.csv`.
        objective: What ranks.

    Returns:
        Columns `trials`, `epochs`, `hours`, `best_so_far`; one row per trial of the search, scored or not.
    """
    explored = trials[trials["phase"].isin(EXPLORING)]
    values = pd.to_numeric(explored.get(objective.key, pd.Series(index=explored.index, dtype=float)), errors="coerce")
    values = values.where(explored["state"].isin(["completed", "stopped"]))
    goodness = values.map(objective.goodness)
    return pd.DataFrame(
        {
            "trials": np.arange(1, len(explored) + 1),
            "epochs": explored["epochs"].fillna(0).cumsum().to_numpy(),
            "hours": explored["seconds"].fillna(0).cumsum().to_numpy() / 3600,
            "best_so_far": goodness.cummax().ffill().map(objective.goodness).to_numpy(),
        }
    )


@dataclass(frozen=True)
class AtEdge:
    """The best trials stand at an end of a range.

    Attributes:
        key: Of the parameter.
        end: The value of that end.
        count: How many of the best are within a tenth of the range of it.
        of: How many are the best.
        side: `lower` or `upper`.
        others_near: How many of the other trials are that near to it.
        others: How many the others are.
    """

    key: str
    end: float
    count: int
    of: int
    side: str
    others_near: int
    others: int

    @property
    def words(self) -> str:
        """What was counted, without the end itself."""
        return (
            f"{self.count} of the best {self.of} trials and {self.others_near} of the other {self.others} lie within "
            f"a tenth of the range of the {self.side} end"
        )


def at_edges(trials: pd.DataFrame, parameters: Sequence[Parameter], objective: Objective) -> list[AtEdge]:
    """Ranges at whose end the best quarter of their trials stands more often than the others do, and scores still rise.

    A sampler that learns goes where it once was lucky, so that many trials at an end say nothing by themselves. The
    best are held against the others (Fisher's exact test; all ends together at `EDGE_LEVEL` by Bonferroni), and a
    parabola through all scores must rise at the end. benchmarks/proposals.py has how often that is told in vain.

    Args:
        trials: The rows of `trials.csv`.
        parameters: Of the space.
        objective: What ranks.
    """
    found = []
    ranges = [parameter for parameter in parameters if parameter.kind != "choice" and parameter.low < parameter.high]
    rows = scored(trials, objective)
    for parameter in ranges:
        column = f"{CONFIG}{parameter.key}"
        if column not in rows:
            continue
        values = pd.to_numeric(rows[column], errors="coerce")
        own = rows[np.isfinite(values)]
        if len(own) < MIN_AT_EDGE:
            continue
        goodness = own["score"].map(objective.goodness).to_numpy(dtype=float)
        places = _place(parameter, values[own.index].to_numpy(dtype=float))
        best = np.argsort(-goodness, kind="stable")[: max(4, len(own) // 4)]
        rises = _slopes_at_ends(places, goodness)
        for side, near, end, slope in (
            ("lower", places <= EDGE, parameter.low, -rises[0]),
            ("upper", places >= 1 - EDGE, parameter.high, rises[1]),
        ):
            count, every = int(near[best].sum()), int(near.sum())
            chance = stats.hypergeom.sf(count - 1, len(own), every, len(best))
            if chance * 2 * len(ranges) <= EDGE_LEVEL and slope > 0:
                others = (every - count, len(own) - len(best))
                found.append(AtEdge(parameter.key, end, count, len(best), side, *others))
    return found


def _slopes_at_ends(places: Floats, values: Floats) -> tuple[float, float]:
    """The slopes at 0 and 1 of the parabola that fits values best."""
    centred = places - 0.5
    terms = np.stack([np.ones_like(centred), centred, centred**2], axis=1)
    _, linear, square = np.linalg.lstsq(terms, values, rcond=None)[0]
    return float(linear - square), float(linear + square)


def _place(parameter: Parameter, values: Floats) -> Floats:
    """Where values lie in a range, 0 at its lower end and 1 at its upper."""
    low, high = parameter.low, parameter.high
    if parameter.log:
        low, high, values = math.log(low), math.log(high), np.log(values)
    return np.asarray((values - low) / (high - low))


@dataclass(frozen=True)
class Region:
    """A part of the space in which trials were infeasible more often than elsewhere.

    Attributes:
        where: In words, such as `optimizer.lr above 0.01`.
        infeasible: Of the trials there.
        trials: There.
        elsewhere: Infeasible ones among the others.
        others: How many they are.
    """

    where: str
    infeasible: int
    trials: int
    elsewhere: int
    others: int


def infeasible_region(trials: pd.DataFrame, parameters: Sequence[Parameter]) -> Region | None:
    """The part of the space, halved by one parameter, that tells infeasible trials apart best, if that is no chance.

    Fisher's exact test of each value of a choice and of each quartile of a range, all of them together at 5%
    (Bonferroni). Nothing below `MIN_INFEASIBLE` infeasible trials.

    Args:
        trials: The rows of `trials.csv`.
        parameters: Of the space.
    """
    explored = trials[trials["phase"].isin(EXPLORING) & trials["state"].isin(["completed", "stopped", "infeasible"])]
    bad = explored["state"] == "infeasible"
    if bad.sum() < MIN_INFEASIBLE:
        return None
    candidates: list[tuple[float, Region]] = []
    for parameter in parameters:
        column = f"{CONFIG}{parameter.key}"
        if column in explored:
            candidates += [_held_apart(where, inside, bad) for where, inside in _halves(parameter, explored[column])]
    candidates = [one for one in candidates if 0 < one[1].trials < len(explored)]
    if not candidates:
        return None
    chance, region = min(candidates, key=lambda one: one[0])
    return region if chance * len(candidates) <= 0.05 else None


def _halves(parameter: Parameter, column: pd.Series[Any]) -> list[tuple[str, pd.Series[bool]]]:
    """Parts of the trials by one parameter, each with its words."""
    if parameter.kind == "choice":
        return [(f"with {parameter.key} {choice}", column.astype(str) == str(choice)) for choice in parameter.choices]
    values = pd.to_numeric(column, errors="coerce")
    found = []
    for limit in sorted(set(values.dropna().quantile([0.25, 0.5, 0.75]))):
        found += [
            (f"with {parameter.key} above {limit:.3g}", values > limit),
            (f"with {parameter.key} of at most {limit:.3g}", values <= limit),
        ]
    return found


def _held_apart(where: str, inside: pd.Series[bool], bad: pd.Series[bool]) -> tuple[float, Region]:
    region = Region(
        where, int((inside & bad).sum()), int(inside.sum()), int((~inside & bad).sum()), int((~inside).sum())
    )
    table = [
        [region.infeasible, region.trials - region.infeasible],
        [region.elsewhere, region.others - region.elsewhere],
    ]
    return float(stats.fisher_exact(table, alternative="greater").pvalue), region


@dataclass(frozen=True)
class Stopped:
    """What stopping early did.

    Attributes:
        trials: Stopped ones.
        of: Trials of the search that were not infeasible and did not fail.
        saved: Epochs that they did not train.
        share: Of the epochs that all would have trained.
        winner_epoch: At which the winner itself was stopped, to be finished later; None if it was not.
    """

    trials: int
    of: int
    saved: int
    share: float
    winner_epoch: int | None


def stopping(trials: pd.DataFrame, winner: str | None, max_epochs: int) -> Stopped | None:
    """What stopping early saved, and whether it stopped the winner; None where nothing was stopped.

    Args:
        trials: The rows of `trials.csv`.
        winner: Trial id of the winner's checkpoint.
        max_epochs: Of a trial that is not stopped, where a trial's configuration does not say.
    """
    explored = trials[trials["phase"].isin(EXPLORING) & trials["state"].isin(["completed", "stopped"])]
    stopped = explored[explored["state"] == "stopped"]
    if stopped.empty:
        return None
    full = pd.to_numeric(explored.get(f"{CONFIG}epochs", pd.Series(index=explored.index, dtype=float)), errors="coerce")
    full = full.fillna(max_epochs)
    saved = int((full[stopped.index] - stopped["epochs"]).clip(lower=0).sum())
    ids = set(lineage(winner, trials)) if winner else set()
    own = stopped.loc[stopped["trial_id"].isin(ids), "epochs"]
    epoch = int(own.iloc[0]) if len(own) else None
    return Stopped(len(stopped), len(explored), saved, saved / float(full.sum()), epoch)


@dataclass(frozen=True)
class Rising:
    """A curve that was still rising when it ended.

    Attributes:
        gain: Over the last half of the epochs, by a straight line.
        epochs: In that half.
        of: All epochs.
    """

    gain: float
    epochs: int
    of: int


def still_rising(values: Sequence[float], objective: Objective) -> Rising | None:
    """Whether a curve of an objective on val was still getting better at its last epoch.

    A straight line through the last half must rise by its 95% interval, by `STILL_RISING` of the objective's range in
    all, and its last quarter must rise as well. None below `MIN_EPOCHS`.

    Args:
        values: One per epoch.
        objective: Of them.
    """
    goodness = np.array([objective.goodness(value) for value in values], dtype=float)
    if len(goodness) < MIN_EPOCHS or not np.isfinite(goodness).all():
        return None
    half = goodness[len(goodness) // 2 :]
    line = stats.linregress(np.arange(len(half)), half)
    reach = stats.t.ppf(0.975, len(half) - 2) * line.stderr
    gain = float(line.slope * (len(half) - 1))
    quarter = half[len(half) // 2 :]
    rises = quarter[-1] > quarter[0] and line.slope - reach > 0
    spread = objective.metric.bounds[1] - objective.metric.bounds[0]
    least = STILL_RISING * (spread if math.isfinite(spread) else abs(float(half.mean())))
    if not rises or gain < least:
        return None
    return Rising(objective.goodness(gain), len(half), len(goodness))


def search_points(
    trials: pd.DataFrame, parameters: Sequence[Parameter], objective: Objective
) -> tuple[list[dict[str, Any]], list[float]]:
    """What each trial of the search at full budget chose, and its score turned so that higher is better."""
    rows = scored(trials, objective)
    rows = rows[(rows["state"] == "completed") & (rows["phase"] == SEARCH.name)]
    keys = {parameter.key for parameter in parameters}
    points = [
        {key: value for key, value in flat_configuration(row).items() if key in keys} for _, row in rows.iterrows()
    ]
    return points, [objective.goodness(float(score)) for score in rows["score"]]
