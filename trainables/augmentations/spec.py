"""A policy as data: validated, written as flat keys or as a list, readable as one line."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from trainables.augmentations import TRANSFORMS
from trainables.augmentations.families import family_transforms
from trainables.augmentations.magnitudes import MAGNITUDES
from trainables.errors import ConfigError, UnknownNameError
from trainables.registry import Hyperparameter, Range, Scalar

_PROBABILITY = Hyperparameter("p", float, None, Range(0, 1))


@dataclass(frozen=True)
class TransformSpec:
    """One transformation that is on: its probability (0 < p <= 1) and its magnitude (0 .. 1), if it has one."""

    name: str
    p: float
    magnitude: float | None = None

    def settings(self) -> dict[str, float]:
        """`p`, and `magnitude` where there is one."""
        return {"p": self.p} | ({} if self.magnitude is None else {"magnitude": self.magnitude})

    def describe(self) -> str:
        """E.g. `rotate p=0.50 m=0.33 (±9.9°)`."""
        said = f"{self.name} p={self.p:.2f}"
        if self.magnitude is None:
            return said
        return f"{said} m={self.magnitude:.2f} ({MAGNITUDES[self.name].describe(self.magnitude)})"


@dataclass(frozen=True)
class PolicySpec:
    """A policy as data: the transformations that are on, in the order of application."""

    family: str
    transforms: tuple[TransformSpec, ...]

    @classmethod
    def from_flat(cls, flat: Mapping[str, Any]) -> PolicySpec:
        """Reads a policy from keys without their `augment.` prefix.

        Transformations of the family that are not mentioned have the family's defaults; `p` 0 turns one off.

        Args:
            flat: E.g. `{"policy": "geometric", "rotate.p": 0.5, "rotate.magnitude": 0.6}`; values may be text.

        Raises:
            ConfigError: If anything is wrong; lists all faults under their full keys.
        """
        family = str(flat.get("policy", "none"))
        try:
            probabilities = family_transforms(family)
        except UnknownNameError as error:
            raise ConfigError(f"augment.policy: {error}") from error
        settings: dict[str, dict[str, Any]] = {name: {} for name in probabilities}
        faults: list[str] = []
        for key, value in flat.items():
            if key == "policy":
                continue
            name, _, parameter = key.partition(".")
            fault = _key_fault(key, family, probabilities)
            if fault is None:
                settings[name][parameter] = value
            else:
                faults.append(fault)
        transforms = []
        for name, p in probabilities.items():
            spec = _read_transform(name, p, settings[name], faults)
            if spec is not None:
                transforms.append(spec)
        if faults:
            raise ConfigError("\n".join(faults))
        return cls(family, tuple(transforms))

    @classmethod
    def from_list(cls, items: Iterable[Mapping[str, Any]], *, family: str = "free") -> PolicySpec:
        """Reads a policy from what `to_list` wrote: the transformations named are on, all others off.

        Args:
            items: E.g. `[{"transform": "hflip", "p": 0.5}, {"transform": "rotate", "p": 0.5, "magnitude": 0.6}]`, each
                transformation once; a magnitude left out is the default. They are applied in the order of `TRANSFORMS`.
            family: One that has all of them; `free` has any.

        Raises:
            ConfigError: If anything is wrong; lists all faults.
        """
        try:
            flat: dict[str, Any] = {"policy": family, **{f"{name}.p": 0.0 for name in family_transforms(family)}}
        except UnknownNameError as error:
            raise ConfigError(f"augment.policy: {error}") from error
        faults: list[str] = []
        seen: set[str] = set()
        for index, item in enumerate(items):
            name = item.get("transform")
            if name is None or "p" not in item:
                faults.append(f"transformation {index}: needs 'transform' and 'p', has {', '.join(item) or 'nothing'}")
            elif name in seen:
                faults.append(f"augment.{name}: twice in the list; a policy applies a transformation once")
            else:
                seen.add(name)
                flat |= {f"{name}.{option}": value for option, value in item.items() if option != "transform"}
        try:
            policy = cls.from_flat(flat)
        except ConfigError as error:
            faults.append(str(error))
        if faults:
            raise ConfigError("\n".join(faults))
        return policy

    def flat(self) -> dict[str, Scalar]:
        """All of the policy as keys without prefix; `from_flat` reads the same policy from it."""
        flat: dict[str, Scalar] = {"policy": self.family}
        on = {item.name: item for item in self.transforms}
        for name in family_transforms(self.family):
            settings = on[name].settings() if name in on else {"p": 0.0}
            flat |= {f"{name}.{option}": value for option, value in settings.items()}
        return flat

    def to_list(self) -> list[dict[str, Scalar]]:
        """The transformations that are on, for JSON: `from_list(policy.to_list(), family=policy.family) == policy`."""
        return [{"transform": item.name, **item.settings()} for item in self.transforms]

    def describe(self) -> str:
        """One readable line, e.g. `geometric: hflip p=0.50 · rotate p=0.50 m=0.33 (±9.9°)`."""
        return f"{self.family}: {' · '.join(item.describe() for item in self.transforms) or 'images as they are'}"


def _key_fault(key: str, family: str, members: Mapping[str, float]) -> str | None:
    """Says what is wrong with a key of a policy of that family, or returns None."""
    name = key.partition(".")[0]
    if name in TRANSFORMS and name not in members:
        return f"augment.{key}: {name} is not in policy {family!r}, which has {', '.join(members) or 'none'}"
    known = [f"{member}.{option}" for member in members for option in ("p", *TRANSFORMS.parameters(member))]
    if key in known:
        return None
    close = [f"augment.{match}" for match in difflib.get_close_matches(key, known, n=3, cutoff=0.6)]
    hint = f"did you mean {' or '.join(close)}?" if close else f"known: {', '.join(known) or 'none in this policy'}"
    return f"augment.{key}: unknown; {hint}"


def _read_transform(name: str, p: float, settings: Mapping[str, Any], faults: list[str]) -> TransformSpec | None:
    """Validates one transformation's settings; adds what is wrong to `faults`. None if it is off."""
    parameters: dict[str, Hyperparameter] = {"p": _PROBABILITY, **TRANSFORMS.parameters(name)}
    values: dict[str, Any] = {option: parameter.default for option, parameter in parameters.items()} | {"p": p}
    for option, value in settings.items():
        try:
            values[option] = parameters[option].parse(value)
        except ValueError as error:
            faults.append(f"augment.{name}.{option}: {error}, not {value!r}")
    if values["p"] > 0:
        return TransformSpec(name, **values)
    faults.extend(
        f"augment.{name}.{option}: {name} is off (augment.{name}.p is 0); leave it out"
        for option in settings
        if option != "p"
    )
    return None
