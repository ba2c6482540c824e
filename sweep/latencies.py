"""The time per image of every model that a space can reach: which these are, and what was measured of each.

A trial does not measure it: other trials run beside it. It is measured once before the sweep, kept in the manifest, and
every result of a trial of that model and size carries it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from search_spaces.core.parameter import choice
from search_spaces.core.space import SearchSpace
from trainables.errors import UsageError
from trainables.latency import STEADY
from trainables.metrics import LATENCY
from trainables.registry import Scalar
from trainables.words import some_of

MOST = 60
"""Models and sizes that are timed at most: each takes a second or more."""
SIZE = "image_size"
WITHOUT_EFFECT = ("model.weights", "model.aux_weight")
"""Keys of the model that change nothing about the time of a prediction."""


@dataclass(frozen=True)
class MeasuredLatency:
    """The time per image of a model at a size (`trainables.latency`).

    Attributes:
        settings: The flat keys that decide it: the model's, and `image_size`.
        precision: Of the pass.
        device: `cpu`, or the GPU's name.
        ms: Median, in milliseconds.
        spread: Distance of the quartiles, as a share of the median.
    """

    settings: Mapping[str, Scalar]
    precision: str
    device: str
    ms: float
    spread: float

    @property
    def name(self) -> str:
        """The model, its size and what else tells it from others."""
        others = {key: value for key, value in self.settings.items() if key not in ("model.name", SIZE)}
        rest = "".join(f", {key} {value}" for key, value in others.items())
        return f"{self.settings['model.name']} at {self.settings[SIZE]}{rest}"

    def __str__(self) -> str:
        return f"{self.name} {LATENCY.show(self.ms)} (spread {self.spread:.0%})"


def unsteady_text(latencies: Iterable[MeasuredLatency]) -> str:
    """Which times are not to be relied on, in a sentence without a full stop; empty if all are."""
    moved = [f"of {one.name} by {one.spread:.0%}" for one in latencies if one.spread > STEADY]
    return f"the time per image moved, {', '.join(moved)}: the machine was busy" if moved else ""


def decides_latency(key: str) -> bool:
    """Whether a flat key decides how long a prediction takes."""
    return key == SIZE or (key.startswith("model.") and key not in WITHOUT_EFFECT)


def settings_of(config: Mapping[str, Any]) -> dict[str, Scalar]:
    """What of a whole flat configuration decides how long a prediction takes."""
    return {key: value for key, value in config.items() if decides_latency(key)}


def latency_of(latencies: Iterable[MeasuredLatency], config: Mapping[str, Any]) -> MeasuredLatency | None:
    """What was measured of a configuration's model at its size; None if that was not measured."""
    asked = settings_of(config)
    return next((one for one in latencies if one.settings == asked), None)


def of_model(latencies: Iterable[MeasuredLatency], config: Mapping[str, Any]) -> dict[str, float]:
    """What the results of a trial carry beside what it reports itself."""
    found = latency_of(latencies, config)
    return {} if found is None else {LATENCY.name: found.ms}


def models_to_time(space: SearchSpace, base: Mapping[str, Scalar]) -> list[dict[str, Any]]:
    """A configuration for every model and size that a trial of a space can have.

    Args:
        space: With overrides fixed.
        base: Keys common to all trials.

    Returns:
        Whole flat configurations that differ in `settings_of`.

    Raises:
        UsageError: If they cannot be listed, or are more than `MOST`.
    """
    endless = [p.key for p in space.parameters if decides_latency(p.key) and p.grid() is None]
    if endless:
        raise UsageError(
            f"--objective {LATENCY.name} is measured for every model before the search, and {some_of(endless, 3)} can "
            "have any value of a range: give a step or choices in a space of your own (docs/SPACES.md), or hold it "
            "with --set"
        )
    # What only decides whether a model's parameter exists is tried at both ends of its range.
    keys = _with_conditions(space)
    parts = [
        p if p.grid() is not None else choice(p.key, p.ends(), when=p.when) for p in space.parameters if p.key in keys
    ]
    first = space.start[0] if space.start else {}
    points = dataclasses.replace(space, parameters=tuple(parts), start=()).grid()
    found: dict[tuple[tuple[str, Scalar], ...], dict[str, Any]] = {}
    for point in points:
        config = space.trial_config(base, space.bend({**first, **point})).flat()
        found.setdefault(tuple(settings_of(config).items()), config)
        if len(found) > MOST:
            raise UsageError(
                f"--objective {LATENCY.name} is measured for every model and size before the search, and the space "
                f"{space.name} has more than {MOST} of them: hold some with --set, or name fewer --models"
            )
    return list(found.values())


def _with_conditions(space: SearchSpace) -> set[str]:
    """The keys that decide the time, and those on which it depends whether a trial has them."""
    keys: set[str] = set()
    for parameter in reversed(space.parameters):
        if decides_latency(parameter.key) or parameter.key in keys:
            keys |= {parameter.key, *(condition.key for condition in parameter.when)}
    return keys
