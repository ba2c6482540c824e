"""Transformations aimed at what is proven to make components hard."""

from __future__ import annotations

import dataclasses
from collections.abc import Hashable, Mapping
from typing import Any

import numpy as np
import pandas as pd

from analysis.failures.factors import FACTORS, Factor
from analysis.next_sweep.proposal import Proposal, Searched
from search_spaces.augment import KEY as POLICY
from search_spaces.augment import LEAST, MOST
from search_spaces.core.parameter import Parameter, When, choice, number
from trainables.augmentations import MAGNITUDES, TRANSFORMS, family_transforms
from trainables.registry import Scalar

FREE = "free"
"""The policy that holds what the winner has and what is aimed at factors."""
CHANCE = 0.5
"""Probability at which an aimed transformation starts."""

AIMED: Mapping[tuple[str, str], tuple[str, ...]] = {
    ("light", "low"): ("brightness", "gamma"),
    ("light", "high"): ("brightness", "gamma"),
    ("range", "low"): ("contrast",),
    ("range", "high"): ("contrast",),
    ("contrast", "low"): ("contrast",),
    ("brightness", "low"): ("gamma",),
    ("brightness", "high"): ("gamma",),
    ("saturation", "low"): ("saturation",),
    ("saturation", "high"): ("saturation",),
    ("blur", "high"): ("blur",),
    ("noise", "high"): ("noise",),
    ("size", "low"): ("scale_crop",),
    ("size", "high"): ("scale_crop",),
    ("truncation", "high"): ("shift",),
    ("off_centre", "high"): ("shift",),
    ("height", "low"): ("shift",),
    ("height", "high"): ("shift",),
}
"""Transformations that make more of what is hard: by factor, and at which end of it components are worse."""


def aimed_at_factors(searched: Searched, effects: pd.DataFrame) -> list[Proposal]:
    """Transformations aimed at the factors that are called a reason (`failures.reasons`), the largest effect first.

    They are added to the winner's own in the policy `free`. Nothing where the user holds the policy.
    """
    if effects.empty or searched.is_held(POLICY):
        return []
    told = effects[effects["reason"].astype(bool)]
    told = told.iloc[np.argsort(-told["effect"].abs(), kind="stable")]
    by_name = {factor.name: factor for factor in FACTORS}
    aims = []
    for row in told.to_dict("records"):
        worse = "low" if row["effect"] > 0 else "high"
        names = [one for one in AIMED.get((row["factor"], worse), ()) if not searched.is_held(f"augment.{one}.p")]
        if names:
            aims.append((names, _why_aimed(by_name[row["factor"]], worse, row)))
    if not aims:
        return []
    own = _own_transformations(searched.winner)
    every = [name for name in TRANSFORMS if name in {*own, *(one for names, _ in aims for one in names)}]
    held = [parameter for name in every for parameter in _in_free(name, own, searched)]
    policy = _policy(searched)
    found = []
    for names, why in aims:
        parameters = tuple(one for one in held if _transformation(one) in names)
        along = tuple(one for one in held if _transformation(one) in own)
        point = {one.key: one.default for one in (*along, *parameters) if one.default is not None}
        what = f"{' and '.join(names)} in training"
        found.append(Proposal(what, why, (policy, *parameters), {POLICY: FREE, **point}, along))
    return found


def _transformation(parameter: Parameter) -> str:
    return parameter.key.split(".")[1]


def _why_aimed(factor: Factor, worse: str, row: Mapping[Hashable, Any]) -> str:
    hard, easy = (factor.low, factor.high) if worse == "low" else (factor.high, factor.low)
    low, high = sorted(abs(row[f"effect_{side}"]) for side in ("low", "high"))
    return (
        f"components that are {hard} have an IoU lower by {abs(row['effect']):.2f} [{low:.2f}, {high:.2f}] than those "
        f"that are {easy}, class and other measured factors being equal"
    )


def _own_transformations(winner: Mapping[str, Scalar]) -> dict[str, float]:
    """What the winner's policy has on, with its probability."""
    usual = family_transforms(str(winner.get(POLICY, "none")))
    chances = {name: float(winner.get(f"augment.{name}.p", usual.get(name, 0.0))) for name in TRANSFORMS}
    return {name: chance for name, chance in chances.items() if chance > 0}


def _policy(searched: Searched) -> Parameter:
    """The choice of policies with `free` among them."""
    now = searched.space.parameter(POLICY)
    if now is None:
        present = str(searched.common(POLICY, "none"))
        reason = "as before, or with what is aimed at proven factors"
        return choice(POLICY, dict.fromkeys((present, FREE)), default=present, role="scientific", reason=reason)
    return dataclasses.replace(now, choices=tuple(dict.fromkeys((*now.choices, FREE))))


def _in_free(name: str, own: Mapping[str, float], searched: Searched) -> list[Parameter]:
    """Probability and magnitude of a transformation, in `free` as well as wherever the space has them now."""
    free = When(POLICY, (FREE,))
    chance, magnitude = f"augment.{name}.p", f"augment.{name}.magnitude"
    is_new = name not in own
    usual = CHANCE if is_new else min(1.0, max(0.25, round(own[name] * 4) / 4))
    why = "aimed at a proven factor" if is_new else "the winner has it on"
    made = [number(chance, 0.25, 1.0, step=0.25, default=usual, when=(free,), reason=f"{why}; share of images changed")]
    if name in MAGNITUDES:
        table = MAGNITUDES[name]
        default = float(searched.winner.get(magnitude, table.default))
        reason = f"{table.quantity} {table.describe(LEAST)} to {table.describe(MOST)}"
        made.append(
            number(magnitude, LEAST, max(MOST, default), default=max(LEAST, default), when=(free,), reason=reason)
        )
    return [_beside(searched.space.parameter(one.key), one) for one in made if not searched.is_held(one.key)]


def _beside(now: Parameter | None, new: Parameter) -> Parameter:
    """A parameter that the space has already, in `free` too; the new one where it has none."""
    if now is None or now.kind != new.kind:
        return new
    when = tuple(
        When(POLICY, tuple(dict.fromkeys((*one.values, FREE)))) if one.key == POLICY and one.values else one
        for one in now.when
    )
    return dataclasses.replace(now, when=when)
