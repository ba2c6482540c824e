"""Everything that can be found wrong before the first second of training; nothing is written to the runs folder."""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from search_spaces import find_space
from search_spaces.augment import reachable
from search_spaces.common import known_good_training
from search_spaces.core.space import SearchSpace
from sweep.config import SweepConfig
from sweep.flags import DEFAULT_ARCHITECTURES, DEFAULT_MODELS
from trainables.augmentations import preflight
from trainables.config import format_size, parse_size, parse_value
from trainables.data import DATASETS, SegmentationData, Splits
from trainables.data.check import CheckResult, check
from trainables.data.splits.given import make_splits
from trainables.errors import ConfigError, DataError, UsageError
from trainables.models import ensure_weights, parameter_count
from trainables.paths import check_name
from trainables.registry import Scalar

BYTES_PER_PARAMETER = 12
"""Of a checkpoint in training: weights and two moments of AdamW in float32."""


RESERVED = {"epochs": "--max-epochs", "model.name": "--models", "model.weights": "--weights"}
"""Keys with a flag of their own."""


@dataclass(frozen=True)
class Plan:
    """What a sweep will try on which data."""

    space: SearchSpace
    base: Mapping[str, Scalar]
    data: SegmentationData
    splits: Splits
    checked: CheckResult


def plan_space(config: SweepConfig, default_size: tuple[int, int]) -> tuple[SearchSpace, dict[str, Scalar]]:
    """Compiles the space with `--set` applied, and the keys that all trials share.

    Raises:
        UsageError: If a key is unknown, a value impossible, or a starting point is not a valid configuration.
    """
    faults = [f"--set {key}: use {RESERVED[key]}" for key in config.set_ if key in RESERVED]
    overrides: dict[str, Scalar] = {}
    for key, value in config.set_.items():
        try:
            overrides[key] = parse_value(key, value)
        except ConfigError as error:
            faults.append(str(error))
    if faults:
        raise ConfigError("\n".join(faults))
    space = find_space(config.space)(list(config.models), config.weights).fix(overrides)
    base: dict[str, Scalar] = {
        "image_size": format_size(default_size),
        "epochs": config.max_epochs,
        "model.name": config.models[0],
        "model.weights": config.weights,
        "seed": config.seed,
    }
    base.update(known_good_training(config.weights))
    _check_reserved(config, space, base)
    configs = [space.trial_config(base, point) for point in space.start]
    parameter = next((p for p in space.parameters if p.key == space.label_by), None)
    names = {space.label(config.flat()) for config in configs} | set(map(str, parameter.ends() if parameter else ()))
    for name in sorted(names):
        check_name(name, f"a value of {space.label_by}, which names the labels of space {space.name},")
    return space, base


def values_of(space: SearchSpace, base: Mapping[str, Scalar], key: str) -> tuple[Scalar, ...]:
    """The values that a key can have in the trials of a space: a parameter's choices, or the one that is held."""
    parameter = next((p for p in space.parameters if p.key == key), None)
    return parameter.ends() if parameter is not None else ({**base, **space.fixed}[key],)


def _check_reserved(config: SweepConfig, space: SearchSpace, base: Mapping[str, Scalar]) -> None:
    """A user's space may name models and weights itself, but not against the flags.

    Raises:
        UsageError: If it does.
    """
    if "epochs" in {*space.fixed, *(parameter.key for parameter in space.parameters)}:
        raise UsageError(f"space {space.name}: epochs is the budget of every trial: use --max-epochs")
    models = values_of(space, base, "model.name")
    if set(models) != set(config.models) and config.models not in (DEFAULT_MODELS, DEFAULT_ARCHITECTURES):
        raise UsageError(f"space {space.name} names its models, {', '.join(map(str, models))}: leave --models out")


def prepare(config: SweepConfig, *, progress: Callable[[int, int], None] | None = None) -> Plan:
    """Builds space and data set and checks all that can be checked without Ray.

    Raises:
        UsageError: Bad usage, before anything is read.
        DataError: Every offender of the data set in one message.
        WeightsError: Predefined weights that cannot be obtained.
        WiringError: Transformations that do not do what they say with the libraries that are installed.
    """
    factory = DATASETS.get(config.data)
    plan_space(config, (96, 128))  # faults of usage come before any file is read; the size is not decided yet
    data = factory(root=config.data_root, download=config.download)
    space, base = plan_space(config, data.default_image_size)
    splits = make_splits(data, splits=config.splits, group_by=config.group_by, progress=progress)
    checked = check(data, splits, progress=progress)
    checked.raise_for_errors()
    for name in ("train", "val", "test"):
        if not getattr(splits, name):
            raise DataError(f"the {name} split of {config.data} is empty; a sweep needs images in train, val and test")
    for size in values_of(space, base, "image_size"):
        preflight(reachable(space), parse_size(str(size)), len(data.classes))
    models = [str(model) for model in values_of(space, base, "model.name")]
    for model, weights in itertools.product(models, values_of(space, base, "model.weights")):
        ensure_weights(model, str(weights))
    check_disk(models, trials=config.trials + _labels(space, config.trials), runs_dir=config.runs_dir)
    return Plan(space, base, data, splits, checked)


def check_disk(models: Sequence[str], *, trials: int, runs_dir: Path) -> None:
    """Refuses a sweep whose checkpoints cannot fit.

    Args:
        models: Of which the largest counts.
        trials: Those of the search, and those that finish a label's stopped representative.
        runs_dir: Where they are written; need not exist.

    Raises:
        DataError: With the bytes needed and free.
    """
    needed = max(parameter_count(model, 21) for model in models) * BYTES_PER_PARAMETER * trials
    existing = next(folder for folder in [runs_dir.resolve(), *runs_dir.resolve().parents] if folder.is_dir())
    free = shutil.disk_usage(existing).free
    if free < needed:
        raise DataError(
            f"{trials} trials (with those that finish a label) need up to {needed / 2**30:.1f} GiB for checkpoints, "
            f"{existing} has {free / 2**30:.1f} GiB free: free space, lower --trials, or give another --runs-dir"
        )


def _labels(space: SearchSpace, trials: int) -> int:
    """The most labels that a sweep can have: a label's best trial, if it was stopped, is finished by one more."""
    parameter = next((p for p in space.parameters if p.key == space.label_by), None)
    known = 1 if parameter is None else len(parameter.choices) if parameter.kind == "choice" else trials
    return min(known, trials)
