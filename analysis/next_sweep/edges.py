"""Ranges that end too soon."""

from __future__ import annotations

import dataclasses
import math

import pandas as pd

from analysis.next_sweep.proposal import Proposal, Searched
from analysis.search_facts import AtEdge, at_edges
from search_spaces.core.parameter import Parameter
from sweep.objectives import Objective
from trainables.errors import ConfigError

MOVES = (0.25, 0.125)
"""By which part of its width a range is moved beyond its end: the first that a configuration may have."""


def off_edges(searched: Searched, trials: pd.DataFrame, objective: Objective) -> list[Proposal]:
    """Ranges moved beyond the end at which the best trials stand (`search_facts.at_edges`), if values go on there.

    The known-good value and the winner's stay in the range.
    """
    found = []
    for edge in at_edges(trials, searched.space.parameters, objective):
        parameter = searched.space.parameter(edge.key)
        moved = None if parameter is None else _moved(parameter, edge, searched)
        if moved is not None:
            found.append(
                Proposal(
                    f"{edge.key} from {moved.low:g} to {moved.high:g}",
                    f"{edge.words}, {edge.end:.3g}, towards which scores rise",
                    (moved,),
                )
            )
    return found


def _moved(parameter: Parameter, edge: AtEdge, searched: Searched) -> Parameter | None:
    """The first of `MOVES` that gives valid configurations; None where there is none."""
    kept = (parameter.default, searched.winner.get(parameter.key))
    inside = [float(value) for value in kept if value is not None and parameter.contains(value)]
    for share in MOVES:
        low, high = _shifted(parameter, share if edge.side == "upper" else -share)
        low, high = min([low, *inside]), max([high, *inside])
        if parameter.kind == "int":
            low, high = round(low), round(high)
        reason = f"moved beyond {edge.end:.3g}, where the best trials stood"
        moved = dataclasses.replace(parameter, low=low, high=high, reason=reason)
        reaches_further = low < parameter.low if edge.side == "lower" else high > parameter.high
        if reaches_further and not list(moved.faults()) and _is_valid(moved, searched):
            return moved
    return None


def _shifted(parameter: Parameter, share: float) -> tuple[float, float]:
    """Both ends moved by a share of the width, on the parameter's scale and its grid; to three digits without one."""
    low, high = parameter.low, parameter.high
    if parameter.log:
        factor = (high / low) ** share
        return _three_digits(low * factor), _three_digits(high * factor)
    by = (high - low) * share
    step = parameter.step or (1.0 if parameter.kind == "int" else None)
    if step is None:
        return _three_digits(low + by), _three_digits(high + by)
    by = math.copysign(max(1, round(abs(by) / step)) * step, share)
    return round(low + by, 12), round(high + by, 12)


def _three_digits(value: float) -> float:
    return float(f"{value:.3g}")


def _is_valid(parameter: Parameter, searched: Searched) -> bool:
    """Whether both ends of a range are values that a configuration may have."""
    space = searched.space
    parameters = tuple(parameter if one.key == parameter.key else one for one in space.parameters)
    changed = dataclasses.replace(space, parameters=parameters, start=())
    points = [changed.reach(parameter.key, end) for end in parameter.ends()]
    try:
        for point in points:
            if point is None:
                return False
            changed.trial_config(searched.base, point)
    except ConfigError:
        return False
    return True
