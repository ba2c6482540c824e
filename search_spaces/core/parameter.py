"""A parameter of a space: its range or choices, when it applies, and why it is varied."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Literal, Protocol

from trainables.registry import Scalar

Role = Literal["scientific", "nuisance", "fixed"]
"""Scientific: what the sweep asks about. Nuisance: must be tuned for the comparison to be fair. Fixed: held at a value,
and the answer holds for that value only (Godbole et al., "Deep Learning Tuning Playbook", 2023)."""


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
        return f"{self.key} = {' | '.join(map(readable, self.values))}"


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
        role: Scientific, nuisance or, for a choice of one value, fixed.
        when: Conditions, all of which must hold for the parameter to exist; one per key.
        reason: Why this range, in a few words.
        default: The known-good value; None takes it from the first starting point that has the parameter.
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
    default: Scalar | None = None

    def faults(self) -> Iterator[str]:
        """What is wrong with the parameter by itself, each in a few words."""
        if self.kind == "choice":
            if not self.choices:
                yield "needs at least one choice"
            if len(set(map(str, self.choices))) < len(self.choices):
                yield "names a choice twice"
        else:
            yield from self._range_faults()
        if self.role == "fixed" and len(self.choices) != 1:
            yield "role fixed needs exactly one value"
        conditions = [condition.key for condition in self.when]
        yield from (f"two conditions on {key}: write them as one" for key in {*conditions} if conditions.count(key) > 1)
        sound = bool(self.choices) if self.kind == "choice" else self.low <= self.high
        if sound and self.default is not None and not self.contains(self.default):
            yield f"default {self.default} is outside {self.range_text()}"

    def _range_faults(self) -> Iterator[str]:
        if self.low > self.high:
            yield f"low {self.low:g} is above high {self.high:g}"
        if self.log and self.low <= 0:
            yield f"a logarithmic range needs low > 0, not {self.low:g}"
        if self.step is None:
            return
        if self.step <= 0:
            yield f"step {self.step:g} must be > 0"
        elif self.kind == "int" and self.step != int(self.step):
            yield f"step {self.step:g} must be a whole number, as the values are"
        elif self.log:
            yield "a logarithmic range has no step: leave one of the two out"
        elif (Decimal(str(self.high)) - Decimal(str(self.low))) % Decimal(str(self.step)):
            yield f"step {self.step:g} does not lead from {self.low:g} to {self.high:g}"

    def suggest(self, trial: Suggester) -> Scalar:
        """Asks an Optuna trial for a value."""
        if self.kind == "choice":
            value: Scalar = trial.suggest_categorical(self.key, list(self.choices))
            return value
        if self.kind == "int":
            return trial.suggest_int(self.key, int(self.low), int(self.high), step=int(self.step or 1), log=self.log)
        return trial.suggest_float(self.key, self.low, self.high, step=self.step, log=self.log)

    def contains(self, value: Scalar) -> bool:
        """Whether the value lies in the range, and on its grid, or among the choices."""
        if self.kind == "choice":
            return value in self.choices
        if isinstance(value, str | bool) or not self.low <= value <= self.high:
            return False
        steps = (value - self.low) / self.step if self.step else 0.0
        return abs(steps - round(steps)) < 1e-6

    def ends(self) -> tuple[Scalar, ...]:
        """The least and the greatest value, or all choices."""
        if self.kind == "choice":
            return self.choices
        return (int(self.low), int(self.high)) if self.kind == "int" else (self.low, self.high)

    def grid(self) -> tuple[Scalar, ...] | None:
        """Every value, in ascending order or that of the choices; None for a range without steps."""
        if self.kind == "choice":
            return self.choices
        step = self.step or (1 if self.kind == "int" else None)
        if self.log or step is None:
            return None
        low, high, wide = (Decimal(str(number)) for number in (self.low, self.high, step))
        values = (low + index * wide for index in range(int((high - low) / wide) + 1))
        return tuple(int(value) if self.kind == "int" else float(value) for value in values)

    def range_text(self) -> str:
        """The range as a person reads it."""
        if self.kind == "choice":
            return ", ".join(map(readable, self.choices))
        extras = [
            text for text, on in (("log", self.log), (f"step {self.step:g}" if self.step else "", self.step)) if on
        ]
        return f"{self.low:g} .. {self.high:g}" + (f" ({', '.join(extras)})" if extras else "")


def readable(value: Scalar) -> str:
    """A value as a person writes it: 0.003, not 0.0030000000000000001; 0, not 0.0."""
    return f"{value:g}" if isinstance(value, float) else str(value)


def choice(key: str, values: Iterable[Scalar], **rest: Any) -> Parameter:
    """A choice parameter."""
    return Parameter(key, "choice", choices=tuple(values), **rest)


def held_at(key: str, value: Scalar, **rest: Any) -> Parameter:
    """A parameter of role fixed, for a value that is held where its conditions hold."""
    return Parameter(key, "choice", choices=(value,), role="fixed", default=value, **rest)


def number(key: str, low: float, high: float, **rest: Any) -> Parameter:
    """A real-valued parameter."""
    return Parameter(key, "float", low=low, high=high, **rest)
