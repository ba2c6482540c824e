"""A search space: what varies, within which bounds, under which condition, and why."""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from search_spaces.core.parameter import Parameter, Suggester, When, choice, held_at
from trainables.config import TrialConfig
from trainables.errors import ConfigError
from trainables.registry import Registry, Scalar

HELD = "held by --set"
"""The reason of keys that `SearchSpace.fix` holds."""


@dataclass(frozen=True)
class SearchSpace:
    """Parameters in the order in which they are asked for, and points to begin with.

    Attributes:
        name: Name in the registry.
        description: What question the space answers; one sentence.
        parameters: A condition may only name a parameter that comes before.
        label_by: The key whose values name the labels of the report.
        start: Points tried first, as values of the parameters; `start[0]` is the known-good point, trial 0, whose label
            is `baseline`. The others make sure that no label is missing by chance. Where none is given and every
            parameter has a default, the defaults are the known-good point.
        fixed: Flat keys that the space sets for every trial.
        reasons: Why fixed keys have their values.

    Raises:
        ConfigError: Listing every fault.
    """

    name: str
    description: str
    parameters: tuple[Parameter, ...]
    label_by: str
    start: tuple[Mapping[str, Scalar], ...] = ()
    fixed: Mapping[str, Scalar] = field(default_factory=dict)
    reasons: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        faults = [*self._parameter_faults(), *self._start_faults()]
        if faults:
            raise ConfigError(f"space {self.name}:\n" + "\n".join(f"  {fault}" for fault in faults))
        filled = tuple(self._with_default(parameter) for parameter in self.parameters)
        object.__setattr__(self, "parameters", filled)
        if not self.start and filled and all(parameter.default is not None for parameter in filled):
            object.__setattr__(self, "start", (self.bend({}),))

    def _parameter_faults(self) -> Iterator[str]:
        seen: set[str] = set()
        keys = [parameter.key for parameter in self.parameters]
        for parameter in self.parameters:
            if parameter.key in seen:
                yield f"{parameter.key}: twice"
            yield from (f"{parameter.key}: {fault}" for fault in parameter.faults())
            for condition in parameter.when:
                if condition.key not in keys:
                    close = difflib.get_close_matches(condition.key, keys, n=2)
                    hint = f"; did you mean {' or '.join(close)}?" if close else ""
                    yield f"{parameter.key}: condition on {condition.key}, which the space does not have{hint}"
                elif condition.key not in seen:
                    yield f"{parameter.key}: condition on {condition.key}, which is not before it"
            seen.add(parameter.key)
            if parameter.key == self.label_by and parameter.kind == "float" and not parameter.step:
                yield f"label_by {self.label_by}: every trial would have a label of its own; name a choice"

    def _start_faults(self) -> Iterator[str]:
        for index, point in enumerate(self.start):
            chosen = self.complete(point)
            yield from (f"start[{index}]: unexpected {key}" for key in point if key not in chosen)
            yield from (f"start[{index}]: {key} is missing" for key in chosen if key not in point)
            for parameter in self.parameters:
                if parameter.key in point and not parameter.contains(point[parameter.key]):
                    yield f"start[{index}]: {parameter.key}={point[parameter.key]} is outside {parameter.range_text()}"

    def _with_default(self, parameter: Parameter) -> Parameter:
        if parameter.default is not None:
            return parameter
        known = (point[parameter.key] for point in self.start if parameter.key in point)
        return dataclasses.replace(parameter, default=next(known, None))

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

    def grid(self) -> Iterator[dict[str, Scalar]]:
        """Every point that a trial can have, conditions kept.

        Raises:
            ValueError: If a parameter has a range without steps.
        """

        def follow(chosen: dict[str, Scalar], rest: tuple[Parameter, ...]) -> Iterator[dict[str, Scalar]]:
            if not rest:
                yield chosen
                return
            first, *others = rest
            if not all(condition.holds(chosen) for condition in first.when):
                yield from follow(chosen, tuple(others))
                return
            values = first.grid()
            if values is None:
                raise ValueError(f"{first.key} has no grid")
            for value in values:
                yield from follow({**chosen, first.key: value}, tuple(others))

        yield from follow({}, self.parameters)

    def fix(self, overrides: Mapping[str, Scalar], *, reason: str = HELD) -> SearchSpace:
        """The space with some keys held at a value for every trial.

        A condition on a fixed key is decided; parameters whose condition fails are dropped. Starting points are bent to
        the values; where the label itself is held, those of other labels are dropped.

        Args:
            overrides: Values by key.
            reason: Why they are held; a parameter of role fixed has its own.

        Raises:
            ConfigError: For a key that no trial could have.
        """
        parameters: list[Parameter] = []
        gone: set[str] = set()
        held: dict[str, Scalar] = {}
        reasons: dict[str, str] = {}
        for parameter in self.parameters:
            decided = [w for w in parameter.when if w.key in held]
            if any(not w.holds(held) for w in decided) or any(w.key in gone for w in parameter.when):
                gone.add(parameter.key)
                continue
            remaining = tuple(w for w in parameter.when if w not in decided)
            if parameter.key not in overrides:
                parameters.append(dataclasses.replace(parameter, when=remaining))
            else:
                value = overrides[parameter.key]
                why = parameter.reason if parameter.role == "fixed" else reason
                if remaining:
                    parameters.append(held_at(parameter.key, value, when=remaining, reason=why))
                else:
                    held[parameter.key], reasons[parameter.key] = value, why
        own = {p.key for p in parameters} | gone | set(held)
        others = {key: value for key, value in overrides.items() if key not in own}
        held |= others
        reasons |= dict.fromkeys(others, reason)
        useless = [key for key in overrides if key in gone]
        if useless:
            raise ConfigError(
                "\n".join(f"{key}: no trial could have it with the other values that are set" for key in useless)
            )
        kept = dataclasses.replace(
            self,
            parameters=tuple(parameters),
            start=(),
            fixed={**self.fixed, **held},
            reasons={key: why for key, why in {**self.reasons, **reasons}.items() if why},
        )
        wanted = held.get(self.label_by)
        agreeing = [point for point in self.start if wanted is None or point.get(self.label_by, wanted) == wanted]
        starts: list[Mapping[str, Scalar]] = []
        for point in agreeing or self.start[:1]:
            bent = kept.bend(point)
            if bent not in starts:
                starts.append(bent)
        return dataclasses.replace(kept, start=tuple(starts))

    def with_seeds(self, seeds: Sequence[int]) -> SearchSpace:
        """The space with each of these seeds for every configuration; the starting points have the first."""
        parameters = [parameter for parameter in self.parameters if parameter.key != "seed"]
        return dataclasses.replace(
            self,
            parameters=(*parameters, choice("seed", tuple(seeds), reason="every configuration is trained with each")),
            start=tuple({**point, "seed": seeds[0]} for point in self.start),
        )

    def held(self) -> dict[str, Scalar]:
        """What `fix` was told to hold, by key."""
        values = {key: value for key, value in self.fixed.items() if self.reasons.get(key) == HELD}
        return values | {p.key: p.choices[0] for p in self.parameters if p.reason == HELD}

    def without_texts(self) -> SearchSpace:
        """The space without description and reasons: equal for spaces that try the same."""
        parameters = tuple(dataclasses.replace(parameter, reason="") for parameter in self.parameters)
        return dataclasses.replace(self, description="", reasons={}, parameters=parameters)

    def bend(self, point: Mapping[str, Scalar]) -> dict[str, Scalar]:
        """The nearest point of this space: known values where they are allowed, elsewhere the default.

        A parameter without a default takes the middle of its range.
        """
        chosen: dict[str, Scalar] = {}
        for parameter in self.parameters:
            if all(condition.holds(chosen) for condition in parameter.when):
                known = (point.get(parameter.key), parameter.default)
                allowed = (value for value in known if value is not None and parameter.contains(value))
                chosen[parameter.key] = next(allowed, _middle(parameter))
        return chosen

    def reach(self, key: str, value: Scalar) -> dict[str, Scalar] | None:
        """A point at which a parameter exists and has a value; None if no trial can have it."""
        wanted: dict[str, Scalar] = {key: value}
        needed: dict[str, list[When]] = {}
        for parameter in reversed(self.parameters):
            conditions = needed.get(parameter.key, [])
            if conditions:
                values = [v for v in parameter.ends() if all(c.holds({parameter.key: v}) for c in conditions)]
                wanted.setdefault(parameter.key, values[-1] if values else parameter.ends()[0])
            if parameter.key in wanted:
                for condition in parameter.when:
                    needed.setdefault(condition.key, []).append(condition)
        point = self.bend(wanted)
        return point if point.get(key) == value else None

    def trial_config(self, base: Mapping[str, Scalar], point: Mapping[str, Scalar]) -> TrialConfig:
        """The configuration of a trial.

        Args:
            base: Flat keys common to all trials of a sweep.
            point: What was suggested for this one.

        Raises:
            ConfigError: If it is not a valid configuration.
        """
        return TrialConfig.from_flat({**base, **self.fixed, **point})

    def parameter(self, key: str) -> Parameter | None:
        """The parameter of a key; None if the space does not search it."""
        return next((parameter for parameter in self.parameters if parameter.key == key), None)

    def label(self, flat: Mapping[str, Scalar]) -> str:
        """The label of a trial that is not the baseline; it names a folder, so that a slash becomes a dash."""
        return str(flat[self.label_by]).replace("/", "-")


def _middle(parameter: Parameter) -> Scalar:
    if parameter.kind == "choice":
        return parameter.choices[0]
    middle = (parameter.low * parameter.high) ** 0.5 if parameter.log else (parameter.low + parameter.high) / 2
    if parameter.step:
        middle = parameter.low + round((middle - parameter.low) / parameter.step) * parameter.step
    return int(middle) if parameter.kind == "int" else middle


IN_SHORT = "in_short"
"""Attribute of a factory: the name of the space that stands for it where a time budget has no room for whole trainings
of this one."""

SPACES: Registry[Any] = Registry("search space")
"""Factories `(models: Sequence[str], weights: str) -> SearchSpace`; one that searches image sizes takes `image_size` as
well: the height and width that the data set has by default, or None where they are not known."""


def shorter_space(name: str) -> str:
    """The space that stands for a registered one in a short budget; empty if there is none."""
    return str(getattr(SPACES.get(name), IN_SHORT, "")) if name in SPACES else ""
