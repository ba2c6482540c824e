"""A search space: what varies, within which bounds, under which condition, and why."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from trainables.errors import ConfigError
from trainables.registry import Registry, Scalar

Role = Literal["scientific", "nuisance"]
"""Scientific: what the sweep asks about. Nuisance: must be tuned for the comparison to be fair (Tuning Playbook)."""


class Suggester(Protocol):
    """The part of `optuna.Trial` that a space needs."""

    def suggest_float(
        self, name: str, low: float, high: float, *, step: float | None = None, log: bool = False
    ) -> float:
        """Suggests a real number."""

    def suggest_int(self, name: str, low: int, high: int, *, step: int = 1, log: bool = False) -> int:
        """Suggests a whole number."""

    def suggest_categorical(self, name: str, choices: Any) -> Any:
        """Suggests one of the choices."""


@dataclass(frozen=True)
class When:
    """A condition on a parameter that was suggested before: one of `values`, or above `above`."""

    key: str
    values: tuple[Scalar, ...] = ()
    above: float | None = None

    def holds(self, chosen: Mapping[str, Scalar]) -> bool:
        """Whether the condition holds for the values chosen so far; a key that was not chosen fails it."""
        if self.key not in chosen:
            return False
        value = chosen[self.key]
        return value in self.values if self.above is None else float(value) > self.above

    def __str__(self) -> str:
        if self.above is not None:
            return f"{self.key} > {self.above:g}"
        return f"{self.key} = {' | '.join(map(str, self.values))}"


@dataclass(frozen=True)
class Parameter:
    """One dimension of a space.

    Attributes:
        key: Flat key of `TrialConfig`.
        kind: `float`, `int` or `choice`.
        low: Least value of a number.
        high: Greatest value of a number.
        choices: Values of a choice.
        log: Whether a number is searched on a logarithmic scale.
        step: Grid of a number.
        role: Scientific or nuisance.
        when: Conditions, all of which must hold for the parameter to exist.
        reason: Why this range, in a few words.
    """

    key: str
    kind: Literal["float", "int", "choice"]
    low: float = 0.0
    high: float = 0.0
    choices: tuple[Scalar, ...] = ()
    log: bool = False
    step: float | None = None
    role: Role = "nuisance"
    when: tuple[When, ...] = ()
    reason: str = ""

    def suggest(self, trial: Suggester) -> Scalar:
        """Asks an Optuna trial for a value."""
        if self.kind == "choice":
            value: Scalar = trial.suggest_categorical(self.key, list(self.choices))
            return value
        if self.kind == "int":
            return trial.suggest_int(self.key, int(self.low), int(self.high), step=int(self.step or 1), log=self.log)
        return trial.suggest_float(self.key, self.low, self.high, step=self.step, log=self.log)

    def contains(self, value: Scalar) -> bool:
        """Whether the value lies in the range or among the choices."""
        if self.kind == "choice":
            return value in self.choices
        return not isinstance(value, str) and self.low <= float(value) <= self.high

    def range_text(self) -> str:
        """The range as a person reads it."""
        if self.kind == "choice":
            return ", ".join(map(str, self.choices))
        extras = [
            text for text, on in (("log", self.log), (f"step {self.step:g}" if self.step else "", self.step)) if on
        ]
        return f"{self.low:g} .. {self.high:g}" + (f" ({', '.join(extras)})" if extras else "")


@dataclass(frozen=True)
class SearchSpace:
    """Parameters in the order in which they are asked for, and points to begin with.

    Attributes:
        name: Name in the registry.
        description: What question the space answers; one sentence.
        parameters: A condition may only name a parameter that stands before.
        label_by: The key whose values name the labels of the report.
        start: Points tried first, as values of the parameters; `start[0]` is the known-good point, trial 0, whose label
            is `baseline`. The others make sure that no label is missing by chance.
        fixed: Flat keys that the space sets for every trial.
    """

    name: str
    description: str
    parameters: tuple[Parameter, ...]
    label_by: str
    start: tuple[Mapping[str, Scalar], ...] = ()
    fixed: Mapping[str, Scalar] = field(default_factory=dict)

    def __post_init__(self) -> None:
        faults: list[str] = []
        seen: set[str] = set()
        for parameter in self.parameters:
            if parameter.key in seen:
                faults.append(f"{parameter.key}: twice")
            faults += [
                f"{parameter.key}: condition on {w.key}, which is not before it"
                for w in parameter.when
                if w.key not in seen
            ]
            seen.add(parameter.key)
        for index, point in enumerate(self.start):
            chosen = self.complete(point)
            faults += [f"start[{index}]: unexpected {key}" for key in point if key not in chosen]
            faults += [f"start[{index}]: {key} is missing" for key in chosen if key not in point]
            for parameter in self.parameters:
                if parameter.key in point and not parameter.contains(point[parameter.key]):
                    faults.append(
                        f"start[{index}]: {parameter.key}={point[parameter.key]} is outside {parameter.range_text()}"
                    )
        if faults:
            raise ConfigError(f"space {self.name}:\n" + "\n".join(f"  {fault}" for fault in faults))

    def suggest(self, trial: Suggester) -> dict[str, Scalar]:
        """Asks for every parameter whose conditions hold."""
        chosen: dict[str, Scalar] = {}
        for parameter in self.parameters:
            if all(condition.holds(chosen) for condition in parameter.when):
                chosen[parameter.key] = parameter.suggest(trial)
        return chosen

    def complete(self, point: Mapping[str, Scalar]) -> dict[str, Scalar]:
        """The parameters that exist at a point, with its values (a missing one keeps its place with a 0)."""
        chosen: dict[str, Scalar] = {}
        for parameter in self.parameters:
            if all(condition.holds(chosen) for condition in parameter.when):
                chosen[parameter.key] = point.get(parameter.key, 0)
        return chosen

    def fix(self, overrides: Mapping[str, Scalar]) -> SearchSpace:
        """The space with some keys held at a value for every trial.

        A condition on a fixed key is decided; parameters whose condition fails are dropped. Starting points are bent to
        the values; where the label itself is held, those of other labels are dropped.
        """
        parameters: list[Parameter] = []
        gone: set[str] = set()
        held: dict[str, Scalar] = {}
        for parameter in self.parameters:
            decided = [w for w in parameter.when if w.key in held]
            if any(not w.holds(held) for w in decided) or any(w.key in gone for w in parameter.when):
                gone.add(parameter.key)
                continue
            remaining = tuple(w for w in parameter.when if w not in decided)
            if parameter.key not in overrides:
                parameters.append(dataclasses.replace(parameter, when=remaining))
            elif remaining:
                only = choice(
                    parameter.key,
                    (overrides[parameter.key],),
                    when=remaining,
                    reason="held by --set",
                    role=parameter.role,
                )
                parameters.append(only)
            else:
                held[parameter.key] = overrides[parameter.key]
        own = {p.key for p in parameters} | gone
        held.update({key: value for key, value in overrides.items() if key not in own})
        useless = [key for key in overrides if key in gone]
        if useless:
            raise ConfigError(
                "\n".join(f"{key}: no trial could have it with the other values that are set" for key in useless)
            )
        kept = dataclasses.replace(self, parameters=tuple(parameters), start=(), fixed={**self.fixed, **held})
        wanted = held.get(self.label_by)
        agreeing = [point for point in self.start if wanted is None or point.get(self.label_by, wanted) == wanted]
        starts: list[Mapping[str, Scalar]] = []
        for point in agreeing or self.start[:1]:
            bent = kept.bend(point)
            if bent not in starts:
                starts.append(bent)
        return dataclasses.replace(kept, start=tuple(starts))

    def bend(self, point: Mapping[str, Scalar]) -> dict[str, Scalar]:
        """The nearest point of this space: known values where they are allowed, the middle of the range elsewhere."""
        chosen: dict[str, Scalar] = {}
        for parameter in self.parameters:
            if all(condition.holds(chosen) for condition in parameter.when):
                value = point.get(parameter.key)
                chosen[parameter.key] = value if value is not None and parameter.contains(value) else _middle(parameter)
        return chosen

    def label(self, flat: Mapping[str, Scalar]) -> str:
        """The label of a trial that is not the baseline."""
        return str(flat[self.label_by])

    def to_dict(self) -> dict[str, Any]:
        """Primitives for the manifest and for `--show`."""
        return {
            "name": self.name,
            "description": self.description,
            "label_by": self.label_by,
            "fixed": dict(self.fixed),
            "known_good": dict(self.start[0]) if self.start else {},
            "start": [dict(point) for point in self.start],
            "parameters": [
                {
                    "key": p.key,
                    "kind": p.kind,
                    "low": None if p.kind == "choice" else p.low,
                    "high": None if p.kind == "choice" else p.high,
                    "choices": list(p.choices),
                    "log": p.log,
                    "step": p.step,
                    "role": p.role,
                    "when": [dataclasses.asdict(w) | {"values": list(w.values)} for w in p.when],
                    "reason": p.reason,
                }
                for p in self.parameters
            ],
        }

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> SearchSpace:
        """The space that `to_dict` wrote."""
        return cls(
            name=content["name"],
            description=content["description"],
            label_by=content["label_by"],
            fixed=dict(content["fixed"]),
            start=tuple(dict(point) for point in content["start"]),
            parameters=tuple(
                Parameter(
                    key=p["key"],
                    kind=p["kind"],
                    low=p["low"] if p["low"] is not None else 0.0,
                    high=p["high"] if p["high"] is not None else 0.0,
                    choices=tuple(p["choices"]),
                    log=p["log"],
                    step=p["step"],
                    role=p["role"],
                    when=tuple(When(w["key"], tuple(w["values"]), w["above"]) for w in p["when"]),
                    reason=p["reason"],
                )
                for p in content["parameters"]
            ),
        )


def choice(key: str, values: Iterable[Scalar], **rest: Any) -> Parameter:
    """A choice parameter."""
    return Parameter(key, "choice", choices=tuple(values), **rest)


def number(key: str, low: float, high: float, **rest: Any) -> Parameter:
    """A real-valued parameter."""
    return Parameter(key, "float", low=low, high=high, **rest)


def _middle(parameter: Parameter) -> Scalar:
    if parameter.kind == "choice":
        return parameter.choices[0]
    middle = (parameter.low * parameter.high) ** 0.5 if parameter.log else (parameter.low + parameter.high) / 2
    if parameter.step:
        middle = parameter.low + round((middle - parameter.low) / parameter.step) * parameter.step
    return int(middle) if parameter.kind == "int" else middle


SPACES: Registry[Any] = Registry("search space")
"""Factories `(models: Sequence[str], weights: str) -> SearchSpace`."""
