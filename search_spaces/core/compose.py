"""One space of several: later parts win, conditions stay whole, known-good points are joined."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from search_spaces.core.parameter import Parameter, held_at
from search_spaces.core.space import SearchSpace
from trainables.errors import ConfigError
from trainables.registry import Scalar


def compose(
    name: str,
    parts: Sequence[SearchSpace],
    *,
    description: str = "",
    label_by: str = "",
    parameters: Sequence[Parameter] = (),
    start: Sequence[Mapping[str, Scalar]] = (),
) -> SearchSpace:
    """Joins spaces, and parameters of one's own, into one space.

    A key that any part searches is searched, whatever other parts fix it to. Of two parts that search or fix the same
    key, the later one decides; `parameters` decide over all parts, and one of role fixed holds its key for every trial
    where its conditions hold. Parameters are put after those that their conditions name.

    Args:
        name: Of the new space.
        parts: In the order in which they are laid over one another.
        description: Default: those of the parts.
        label_by: Default: that of the last part.
        parameters: Laid over the parts.
        start: Points to try first, in place of those of the parts; what a point does not say is taken from the
            known-good point, which is that of the parts, joined, under the defaults of `parameters`. Without `start`
            follows for every further label the first starting point of the parts that has it.

    Raises:
        ConfigError: If a parameter has no known-good value, or the result is not a valid space.
    """
    merged: dict[str, Parameter] = {}
    for part in parts:
        merged |= {parameter.key: parameter for parameter in part.parameters}
    for part in parts:
        for key, value in part.fixed.items():
            if key not in merged or merged[key].role == "fixed":
                merged[key] = held_at(key, value, reason=part.reasons.get(key, ""))
    merged |= {parameter.key: parameter for parameter in parameters}
    label_by = label_by or parts[-1].label_by
    description = description or " ".join(part.description for part in parts if part.description)
    whole = SearchSpace(name, description, _in_order(merged.values()), label_by)

    known_good: dict[str, Scalar] = {}
    for part in parts:
        known_good |= part.start[0] if part.start else {}
    known_good |= {parameter.key: parameter.default for parameter in parameters if parameter.default is not None}
    known_good |= start[0] if start else {}
    _check_known(whole, known_good)
    if start:
        points = [{**whole.bend({**known_good, **point}), **point} for point in start]
    else:
        further = [point for part in parts for point in part.start]
        points = _one_a_label(whole, [known_good, *({**known_good, **point} for point in further)])
    held = {p.key: p.choices[0] for p in whole.parameters if p.role == "fixed" and not p.when}
    return SearchSpace(name, description, whole.parameters, label_by, start=tuple(points)).fix(held)


def _in_order(parameters: Iterable[Parameter]) -> tuple[Parameter, ...]:
    """Each after those that its conditions name, otherwise as they come; what cannot be placed comes last."""
    waiting = list(parameters)
    placed: dict[str, Parameter] = {}
    while ready := next((p for p in waiting if all(w.key in placed for w in p.when)), None):
        placed[ready.key] = ready
        waiting.remove(ready)
    return (*placed.values(), *waiting)


def _check_known(whole: SearchSpace, known_good: Mapping[str, Scalar]) -> None:
    point = whole.bend(known_good)
    faults = [
        f"  {p.key}: needs a default within {p.range_text()}: the known-good value, which is tried first"
        for p in whole.parameters
        if p.key in point and p.default is None and not p.contains(known_good.get(p.key, ""))
    ]
    if faults:
        raise ConfigError(f"space {whole.name}:\n" + "\n".join(faults))


def _one_a_label(whole: SearchSpace, points: Iterable[Mapping[str, Scalar]]) -> list[dict[str, Scalar]]:
    by_label: dict[Scalar | None, dict[str, Scalar]] = {}
    for point in map(whole.bend, points):
        by_label.setdefault(point.get(whole.label_by), point)
    return list(by_label.values())
