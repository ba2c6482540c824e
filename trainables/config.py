"""The configuration of one trial: validated, immutable, and the same flat dotted keys everywhere."""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from trainables import commands
from trainables.augmentations import POLICIES, TRANSFORMS, PolicySpec
from trainables.errors import ConfigError, UnknownNameError
from trainables.limits import MAX_PIXELS, max_pixels
from trainables.losses import LOSSES
from trainables.models import HEADS, MODELS, min_train_batch
from trainables.optimizers import OPTIMIZERS, SCHEDULES
from trainables.options import CUTTING, STRETCH, TrainingOptions, parse_resize, way_of
from trainables.redact import secrets_in
from trainables.registry import Range, Registry, Scalar, parameters_of, parse_scalar

COMPONENTS: Mapping[str, Registry[Any]] = {
    "model": MODELS,
    "loss": LOSSES,
    "optimizer": OPTIMIZERS,
    "schedule": SCHEDULES,
}
"""Sections of a configuration that name one component and its parameters: `loss.name`, `loss.gamma`."""

TRAINING = "training"
"""The section of options beside the named components: `training.clip_norm`; see `TrainingOptions`."""

DEFAULT_NAMES: Mapping[str, str] = {
    "model": "lraspp_mobilenet_v3_large",
    "loss": "cross_entropy",
    "optimizer": "adamw",
    "schedule": "one_cycle",
}

EARLIER: Mapping[str, Scalar] = {"resize": STRETCH}
"""What keys were worth before there were such keys: a configuration without them is of that time."""

NUMBERS: Mapping[str, tuple[Range, int | None]] = {
    "batch_size": (Range(1), 8),
    "epochs": (Range(1), None),
    "seed": (Range(0, 2**31 - 1), 0),
}
"""Whole-number keys: bounds and default (None: must be given)."""


@dataclass(frozen=True)
class Component:
    """A component by name, with every one of its parameters."""

    name: str
    params: Mapping[str, Scalar] = field(default_factory=dict)


@dataclass(frozen=True)
class TrialConfig:
    """Everything that decides what one trial trains; two equal configurations give equal digits on CPU.

    Attributes:
        model: Architecture, `weights` (none, imagenet, coco_voc) and, where it has one, `aux_weight`.
        loss: Loss and its parameters.
        optimizer: Optimizer and its parameters; `lr` is the peak learning rate.
        schedule: Learning-rate schedule over the whole of `epochs`.
        training: Layer-wise rates, clipping, accumulation, averaged and frozen weights.
        augment: Augmentation policy.
        image_size: Height and width in pixels of what the model sees.
        resize: How images come to that size, one of `trainables.options.RESIZES` or `tile@SCALE`.
        batch_size: Images per step.
        epochs: The full budget; the schedule ends there, whether or not the trial is stopped before.
        seed: Decides initial weights, order of images, augmentations and dropout.
    """

    model: Component
    loss: Component
    optimizer: Component
    schedule: Component
    training: TrainingOptions
    augment: PolicySpec
    image_size: tuple[int, int]
    resize: str
    batch_size: int
    epochs: int
    seed: int

    @classmethod
    def from_flat(cls, values: Mapping[str, Any]) -> TrialConfig:
        """Builds a configuration from flat keys; what is not named takes its component's default.

        Args:
            values: Such as `{"image_size": "96x128", "epochs": 6, "optimizer.lr": 0.003}`; text is converted.

        Raises:
            ConfigError: Listing every fault: unknown keys with the close ones, parameters of another component,
                values out of range.
        """
        faults: list[str] = []
        built: dict[str, Any] = {}
        for section, registry in COMPONENTS.items():
            built[section] = _component(section, registry, values, faults)
        built[TRAINING] = _training(values, faults)
        built["augment"] = _policy(values, faults)
        built["image_size"] = _size(values.get("image_size"), faults)
        built["resize"] = _resize(values.get("resize", EARLIER["resize"]), faults)
        for key, (bounds, default) in NUMBERS.items():
            built[key] = _number(key, values.get(key, default), bounds, faults)
        faults += _unknown(key for key in values if not key.startswith("augment."))  # PolicySpec reports its own
        if not faults:
            faults += _disagreements(**built)
        if faults:
            raise ConfigError("invalid configuration:\n" + "\n".join(f"  {fault}" for fault in faults))
        return cls(**built)

    def components(self) -> set[tuple[str, str]]:
        """The kind and the name of every registered component that takes part; of a sum or a model, its parts too."""
        named = {(registry.kind, getattr(self, section).name) for section, registry in COMPONENTS.items()}
        named |= {(LOSSES.kind, part) for part in self.loss.name.split("+")}
        named |= {(HEADS.kind, self.model.name.partition("_")[0]), (POLICIES.kind, self.augment.family)}
        return named | {(TRANSFORMS.kind, item.name) for item in self.augment.transforms}

    def flat(self) -> dict[str, Scalar]:
        """Every key with its value; `TrialConfig.from_flat(config.flat()) == config`."""
        flat: dict[str, Scalar] = {}
        for section in COMPONENTS:
            component: Component = getattr(self, section)
            flat[f"{section}.name"] = component.name
            flat.update({f"{section}.{key}": value for key, value in component.params.items()})
        flat.update({f"{TRAINING}.{key}": value for key, value in dataclasses.asdict(self.training).items()})
        flat.update({f"augment.{key}": value for key, value in self.augment.flat().items()})
        flat["image_size"] = format_size(self.image_size)
        flat["resize"] = self.resize
        flat.update({key: getattr(self, key) for key in NUMBERS})
        return flat


def known_keys() -> list[str]:
    """Every key that some configuration can have, for messages and completion."""
    keys = ["image_size", "resize", *NUMBERS, "augment.policy"]
    keys += [f"{TRAINING}.{key}" for key in parameters_of(TrainingOptions)]
    for section, registry in COMPONENTS.items():
        keys += [f"{section}.name", *(f"{section}.{key}" for key in sorted(registry.all_parameters()))]
    for name in TRANSFORMS:
        keys += [f"augment.{name}.p", *(f"augment.{name}.{key}" for key in TRANSFORMS.parameters(name))]
    return keys


def check_keys(keys: Iterable[str]) -> None:
    """Rejects keys that no configuration can have.

    Raises:
        ConfigError: One line per key, with the names that come close.
    """
    faults = _unknown(keys)
    if faults:
        raise ConfigError("\n".join(faults))


def parse_value(key: str, value: Any) -> Scalar:
    """Converts the value of a key, such as text from `--set`, to the key's type; bounds are checked with the whole.

    Raises:
        ConfigError: If the key is unknown, or the value is of another type or looks like a key or a password.
    """
    check_keys([key])
    refuse_secrets({key: value})
    if key in ("image_size", "resize", "augment.policy") or key.endswith(".name"):
        return str(value)
    section, _, rest = key.partition(".")
    if key in NUMBERS:
        type_: type = int
    elif section == "augment":
        transform, _, magnitude = rest.partition(".")
        type_ = float if magnitude == "p" else TRANSFORMS.parameters(transform)[magnitude].type
    elif section == TRAINING:
        type_ = parameters_of(TrainingOptions)[rest].type
    else:
        type_ = COMPONENTS[section].all_parameters()[rest].type
    try:
        return parse_scalar(value, type_)
    except ValueError as error:
        raise ConfigError(f"{key}={value}: {error}") from error


def refuse_secrets(values: Mapping[str, Any]) -> None:
    """Refuses a configuration that would carry a secret into every file of a run.

    Raises:
        ConfigError: With the keys of the values that look like one.
    """
    if keys := secrets_in(values):
        raise ConfigError(
            f"{', '.join(keys)}: the value looks like a key, a token or a password, and run folders keep every "
            "configuration as it is; let the component read it from an environment variable"
        )


def format_size(size: tuple[int, int]) -> str:
    """Writes (height, width) as HEIGHTxWIDTH."""
    return f"{size[0]}x{size[1]}"


def parse_size(text: str) -> tuple[int, int]:
    """Reads HEIGHTxWIDTH in pixels.

    Raises:
        ValueError: If the text is something else, a side is below 16 pixels, or there are more pixels than any picture
            may have.
    """
    parts = str(text).lower().split("x")
    if len(parts) != 2 or not all(part.isdigit() for part in parts):
        raise ValueError(f"must be HEIGHTxWIDTH in pixels, such as 96x128, not {text!r}")
    height, width = int(parts[0]), int(parts[1])
    if min(height, width) < 16:
        raise ValueError(f"each side must be at least 16 pixels, not {text}")
    if height * width > max_pixels():
        raise ValueError(
            f"{text} has more than {max_pixels() / 1e6:.0f} million pixels ({MAX_PIXELS} raises the limit)"
        )
    return height, width


def _component(section: str, registry: Registry[Any], values: Mapping[str, Any], faults: list[str]) -> Component:
    name = str(values.get(f"{section}.name", DEFAULT_NAMES[section]))
    try:
        accepted = registry.parameters(name)
    except UnknownNameError as error:
        faults.append(f"{section}.name: {error}")
        return Component(name)
    params: dict[str, Scalar] = {}
    for key, parameter in accepted.items():
        full = f"{section}.{key}"
        value = values.get(full, parameter.default)
        if value is None:
            faults.append(f"{full}: {name} needs a value")
            continue
        try:
            params[key] = parameter.parse(value)
        except ValueError as error:
            faults.append(f"{full}={value}: {error}")
    prefix = f"{section}."
    for full in values:
        key = full.removeprefix(prefix)
        if full.startswith(prefix) and key != "name" and key not in accepted:
            owners = [other for other in registry if key in registry.parameters(other)]
            if owners or key in registry.all_parameters():
                faults.append(f"{full}: {name} has no {key}; it belongs to {', '.join(owners) or registry.pattern}")
    return Component(name, params)


def _training(values: Mapping[str, Any], faults: list[str]) -> TrainingOptions:
    options: dict[str, Any] = {}
    for key, parameter in parameters_of(TrainingOptions).items():
        full = f"{TRAINING}.{key}"
        try:
            options[key] = parameter.parse(values.get(full, parameter.default))
        except ValueError as error:
            faults.append(f"{full}={values[full]}: {error}")
    return TrainingOptions(**options)


def _disagreements(
    *, model: Component, training: TrainingOptions, batch_size: int, resize: str, **others: Any
) -> Iterator[str]:
    """What is valid by itself but not together."""
    smallest = min_train_batch(model.name)
    if batch_size < smallest:
        yield f"batch_size: {model.name} needs at least {smallest} images per step, not {batch_size}"
    if training.freeze != "none" and model.params["weights"] == "none":
        yield f"training.freeze={training.freeze}: with model.weights=none there is nothing worth keeping; leave it out"
    if training.class_tiles and way_of(resize) not in CUTTING:
        yield (
            f"training.class_tiles={training.class_tiles:g}: with resize={resize} training sees whole images, not "
            f"parts of them; leave it out, or set resize={' or '.join(CUTTING)}"
        )


def _policy(values: Mapping[str, Any], faults: list[str]) -> PolicySpec:
    prefix = "augment."
    try:
        return PolicySpec.from_flat({k.removeprefix(prefix): v for k, v in values.items() if k.startswith(prefix)})
    except ConfigError as error:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        faults += lines[1:] if lines and lines[0].endswith(":") else lines
        return PolicySpec.from_flat({})


def _size(value: Any, faults: list[str]) -> tuple[int, int]:
    if value is None:
        faults.append("image_size: needs a value, HEIGHTxWIDTH")
        return (0, 0)
    try:
        return parse_size(format_size(value) if isinstance(value, tuple) else value)
    except ValueError as error:
        faults.append(f"image_size: {error}")
        return (0, 0)


def _resize(value: Any, faults: list[str]) -> str:
    try:
        return parse_resize(value)
    except ValueError as error:
        faults.append(f"resize: {error}")
        return str(value)


def _number(key: str, value: Any, bounds: Range, faults: list[str]) -> int:
    if value is None:
        faults.append(f"{key}: needs a value")
        return 0
    try:
        number = int(parse_scalar(value, int))
        fault = bounds.fault(number)
        if fault:
            raise ValueError(fault)
        return number
    except ValueError as error:
        faults.append(f"{key}={value}: {error}")
        return 0


def _unknown(keys: Iterable[str]) -> list[str]:
    known = known_keys()
    return [_unknown_key(key, known) for key in keys if key not in known]


def _unknown_key(key: str, known: list[str]) -> str:
    close = difflib.get_close_matches(key, known, n=3, cutoff=0.6)
    hint = f"did you mean {' or '.join(close)}?" if close else f"{commands.components()} lists them"
    return f"unknown key {key!r}; {hint}"
