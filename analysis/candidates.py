"""What a winner was chosen from: the configurations among a run's trials, and how far a seed alone moves each.

Trials that differ in nothing but the seed are one configuration, and a configuration is never compared with itself.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from sweep.candidate import SEED, Candidates, changes
from sweep.phase_kinds import CONFIRM, EXPLORING
from sweep.trials_csv import CONFIG, config_columns
from trainables.labels import BASELINE

SEED_COLUMNS = ("label", "configuration", "seeds", "mean", "lowest", "highest")


def same_configuration(first: Mapping[str, Any], second: Mapping[str, Any]) -> bool:
    """Whether two flat configurations are equal except for the seed."""
    return {**first, SEED: None} == {**second, SEED: None}


def configurations(trials: pd.DataFrame) -> pd.Series[int]:
    """Number of each trial's configuration, in the rows of `trials.csv`; trials that differ in the seed share it."""
    keys = [column for column in config_columns(trials) if column != CONFIG + SEED]
    if not keys:
        return pd.Series(range(len(trials)), index=trials.index, dtype=int)
    return trials.groupby(keys, dropna=False, sort=False).ngroup()


def count_candidates(trials: pd.DataFrame) -> Candidates:
    """How many trials and configurations the choice on val was made from.

    Args:
        trials: The rows of `trials.csv`.
    """
    chosen_from = trials["phase"].isin(EXPLORING) & trials["state"].isin(["completed", "stopped"])
    return Candidates(int(chosen_from.sum()), int(configurations(trials)[chosen_from].nunique()))


def seeds_frame(trials: pd.DataFrame, objective: str, *, first: Sequence[str] = ()) -> pd.DataFrame:
    """The objective on val over the seeds of every configuration that was trained to the end with two or more.

    Args:
        trials: The rows of `trials.csv`.
        objective: Column of the metric that ranks, such as `val/miou`.
        first: Keys that are named first among what a configuration changes.

    Returns:
        Columns `SEED_COLUMNS`, a row for each such configuration in the order of their first trials; `configuration`
        says what it changes against the baseline.
    """
    rows: list[list[object]] = []
    if objective in trials:
        complete = trials[(trials["state"] == "completed") & trials[objective].notna()]
        complete = complete[_of_one_kind(complete)]
        reference = _flat(trials[trials["label"] == BASELINE])
        # A configuration that was suggested twice with one seed was trained once more, and says nothing new.
        once = complete.assign(configuration=configurations(complete)).drop_duplicates(["configuration", SEED])
        for _, group in once.groupby("configuration", sort=False):
            if len(group) > 1:
                names = " = ".join(dict.fromkeys(filter(None, group["label"])))
                told = ", ".join(changes(_flat(group), reference, first=first)) or "as the baseline"
                scores = group[objective]
                rows.append([names, told, len(group), scores.mean(), scores.min(), scores.max()])
    return pd.DataFrame(rows, columns=list(SEED_COLUMNS))


def _of_one_kind(complete: pd.DataFrame) -> list[bool]:
    """Which trials count: of a configuration with fresh seeds those alone, since the search picked its other ones."""
    numbers = configurations(complete)
    fresh = complete["phase"] == CONFIRM.name
    again = set(numbers[fresh])
    return [bool(own) or number not in again for own, number in zip(fresh, numbers, strict=True)]


def _flat(trials: pd.DataFrame) -> dict[str, Any]:
    """The configuration in the first of some rows of `trials.csv`; empty where there is no row."""
    return {} if trials.empty else flat_configuration(trials.iloc[0])


def flat_configuration(row: pd.Series[Any]) -> dict[str, Any]:
    """The configuration in a row of `trials.csv`."""
    row = row.dropna()
    values = {key.removeprefix(CONFIG): row[key] for key in config_columns(row.index)}
    return {key: value.item() if isinstance(value, np.generic) else value for key, value in values.items()}
