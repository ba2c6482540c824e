"""What a configuration is called that val alone has chosen: what it changes, and of how many it is the best.

It is a candidate until fresh seeds have told it from the baseline.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from search_spaces import SearchSpace
from trainables.words import counted, some_of

SEED = "seed"
CHANGES_TOLD = 3
"""At most this many changes of a configuration are named in a sentence; the page lists all of them."""


@dataclass(frozen=True)
class Candidates:
    """What the search chose from.

    Attributes:
        trials: Search trials with a result: completed ones and those that were stopped early.
        configurations: Different configurations among them.
    """

    trials: int
    configurations: int

    def best(self) -> str:
        """What their winner is called, such as `the best of 5 trials on val, one seed each`."""
        if self.configurations == self.trials:
            return f"the best of {counted(self.trials, 'trial')} on val, one seed each"
        return (
            f"the best of {counted(self.configurations, 'configuration')} on val, by the mean over the seeds of each "
            f"({self.trials} trials)"
        )


def chief_keys(space: SearchSpace) -> list[str]:
    """The keys that a configuration is described by first: what names the labels, then what the space asks about."""
    asked = [parameter.key for parameter in space.parameters if parameter.role == "scientific"]
    return list(dict.fromkeys([space.label_by, *asked]))


def changes(config: Mapping[str, Any], reference: Mapping[str, Any], *, first: Sequence[str] = ()) -> list[str]:
    """What a flat configuration has that its reference has not, as short phrases; the seed left out.

    Args:
        config: Flat configuration.
        reference: Of the baseline.
        first: Keys that are named first, in this order.

    Example:
        >>> changes({"lr": 0.002, "loss": "focal", "seed": 1}, {"lr": 0.003, "loss": "dice", "p": 1}, first=("loss",))
        ['loss focal', 'lr 0.002', 'no p']
    """
    order = {key: place for place, key in enumerate(first)}
    keys = sorted(dict.fromkeys([*config, *reference]), key=lambda key: order.get(key, len(order)))
    told = []
    for key in keys:
        if key == SEED or (key in config and key in reference and config[key] == reference[key]):
            continue
        told.append(f"{key} {show_value(config[key])}" if key in config else f"no {key}")
    return told


def tell_changes(told: Sequence[str]) -> str:
    """The first `CHANGES_TOLD` of what `changes` found, and how many more there are."""
    return some_of(told, CHANGES_TOLD)


def candidate_text(
    label: str,
    config: Mapping[str, Any],
    baseline: Mapping[str, Any],
    candidates: Candidates,
    *,
    chief: Sequence[str] = (),
    unconfirmed: str = "",
) -> str:
    """What the best is while no fresh seeds have been compared: what it changes, and of how many it is the best.

    Args:
        label: Of it.
        config: Its flat configuration.
        baseline: That of the baseline.
        candidates: What it was chosen from.
        chief: Keys that it is described by first.
        unconfirmed: Why there are no fresh seeds; empty where none were asked for, or they are still to come.
    """
    told = tell_changes(changes(config, baseline, first=chief))
    why = f" ({unconfirmed})" if unconfirmed else ""
    return f"{label} ({told}) is {candidates.best()}: a candidate, not confirmed{why}"


def show_value(value: Any) -> str:
    """A configuration value as text: numbers short, truth values in lower case."""
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:.4g}" if isinstance(value, float) else str(value)
