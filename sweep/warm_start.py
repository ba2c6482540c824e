"""`--warm-start RUN`: the best points of an earlier run, tried first where they lie in the space of this one."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from search_spaces.core.parameter import readable
from search_spaces.core.space import SearchSpace
from sweep.journal import JOURNAL_FILE, read_events
from sweep.manifest import SweepManifest
from sweep.objectives import Objective
from sweep.trials import TrialTable
from trainables.errors import DataError
from trainables.paths import within
from trainables.registry import Scalar

MOST = 5
"""Points that are taken over at most: the best ones at full budget."""


@dataclass(frozen=True)
class WarmStart:
    """What an earlier run gives to a space.

    Attributes:
        space: With the points behind its own starting points.
        taken: Trial ids of the earlier run whose points are among them, the best first.
        left: Why the others of its best are not, by trial id.
    """

    space: SearchSpace
    taken: tuple[str, ...]
    left: Mapping[str, str]

    def lines(self, run_dir: Path) -> list[str]:
        """What a person is told."""
        which = ", ".join(self.taken) or "no point of it"
        told = f"warm start from {run_dir}: {which} will be tried after the starting points"
        return [told, *(f"  {trial_id} is left out: {why}" for trial_id, why in self.left.items())]


def warm_start(space: SearchSpace, base: Mapping[str, Scalar], run_dir: Path, objective: Objective) -> WarmStart:
    """Takes the best points of a run over into a space.

    A point lies in the space if every value that the earlier run had searched is allowed by a parameter, or is the
    value at which the space holds the key. Parameters that the earlier run did not search take the value that it had,
    where that is allowed, else their default.

    Args:
        space: With overrides fixed.
        base: Keys common to all trials of the new sweep.
        run_dir: The earlier run.
        objective: Of the new sweep: what ranks the points.

    Raises:
        DataError: If there is no run, its journal was altered, or no trial of it ended at full budget with a value of
            the objective.
    """
    SweepManifest.load(run_dir)
    table = TrialTable.of(read_events(within(run_dir, JOURNAL_FILE)))
    complete = [trial for trial in table.completed(objective) if trial.params]
    if not complete:
        raise DataError(f"--warm-start {run_dir}: no trial of it ended at full budget with a value of {objective.key}")
    ranked = sorted(complete, key=lambda trial: -objective.goodness(trial.metrics[objective.key]))
    points = [dict(point) for point in space.start]
    taken: list[str] = []
    left: dict[str, str] = {}
    seen: list[Mapping[str, Any]] = []
    for trial in ranked:
        if trial.params in seen or len(taken) + len(left) == MOST:
            continue
        seen.append(trial.params)
        why = _misfit(space, base, trial.params)
        point = space.bend(trial.config) if not why else {}
        if not why and point in points:
            why = "it is a starting point already"
        if why:
            left[trial.trial_id] = why
        else:
            points.append(point)
            taken.append(trial.trial_id)
    return WarmStart(dataclasses.replace(space, start=tuple(points)), tuple(taken), left)


def _misfit(space: SearchSpace, base: Mapping[str, Scalar], params: Mapping[str, Any]) -> str:
    """Why a point does not lie in a space, by the first value that does not; empty if it does."""
    held = {**base, **space.fixed}
    parameters = {parameter.key: parameter for parameter in space.parameters}
    for key, value in params.items():
        if key in parameters:
            if not parameters[key].contains(value):
                return f"{key}={readable(value)} is outside {parameters[key].range_text()}"
        elif key not in held:
            return f"{key} is not in the space {space.name}"
        elif held[key] != value:
            return f"{key} is {readable(value)} there and held at {readable(held[key])} here"
    return ""
