"""Everything that can be found wrong before the first second of training; nothing is written to the runs folder."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from search_spaces import SPACES
from search_spaces.space import SearchSpace
from sweep.config import SweepConfig
from trainables.config import TrialConfig, format_size, parse_value
from trainables.data import DATASETS, SegmentationData, Splits
from trainables.data.check import CheckResult, check
from trainables.errors import ConfigError, DataError
from trainables.models import ensure_weights, parameter_count
from trainables.registry import Scalar

BYTES_PER_PARAMETER = 12
"""Of a checkpoint in training: weights and two moments of AdamW in float32."""


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
        UsageError: If a key is unknown, a value impossible, or a starting point is no valid configuration.
    """
    reserved = {"epochs": "--max-epochs", "model.name": "--models", "model.weights": "--weights"}
    faults = [f"--set {key}: use {reserved[key]}" for key in config.set_ if key in reserved]
    overrides: dict[str, Scalar] = {}
    for key, value in config.set_.items():
        try:
            overrides[key] = parse_value(key, value)
        except ConfigError as error:
            faults.append(str(error))
    if faults:
        raise ConfigError("\n".join(faults))
    space = SPACES.get(config.space)(list(config.models), config.weights).fix(overrides)
    base: dict[str, Scalar] = {
        "image_size": format_size(default_size),
        "epochs": config.max_epochs,
        "model.name": config.models[0],
        "model.weights": config.weights,
        "seed": config.seed,
    }
    for point in space.start:
        TrialConfig.from_flat({**base, **space.fixed, **point})
    return space, base


def prepare(config: SweepConfig, *, progress: Callable[[int, int], None] | None = None) -> Plan:
    """Builds space and data set and checks all that can be checked without Ray.

    Raises:
        UsageError: Bad usage, before anything is read.
        DataError: Every offender of the data set in one message.
        WeightsError: Predefined weights that cannot be had.
    """
    factory = DATASETS.get(config.data)
    plan_space(config, (96, 128))  # faults of usage come before any file is read; the size is not decided yet
    data = factory(root=config.data_root, download=config.download)
    space, base = plan_space(config, data.default_image_size)
    splits = data.splits()
    checked = check(data, splits, progress=progress)
    checked.raise_for_errors()
    for name in ("train", "val", "test"):
        if not getattr(splits, name):
            raise DataError(f"the {name} split of {config.data} is empty; a sweep needs images in train, val and test")
    for model in config.models:
        ensure_weights(model, config.weights)
    check_disk(config, config.runs_dir)
    return Plan(space, base, data, splits, checked)


def check_disk(config: SweepConfig, runs_dir: Path) -> None:
    """Refuses a sweep whose checkpoints cannot fit.

    Raises:
        DataError: With the bytes needed and free.
    """
    largest = max(parameter_count(model, 21) for model in config.models)
    needed = largest * BYTES_PER_PARAMETER * config.trials
    existing = next(folder for folder in [runs_dir.resolve(), *runs_dir.resolve().parents] if folder.is_dir())
    free = shutil.disk_usage(existing).free
    if free < needed:
        raise DataError(
            f"{config.trials} trials need up to {needed / 2**30:.1f} GiB for checkpoints, {existing} has "
            f"{free / 2**30:.1f} GiB free: free space, lower --trials, or give another --runs-dir"
        )
