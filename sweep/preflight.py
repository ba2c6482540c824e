"""Everything that can be found wrong before the first second of training; nothing is written to the runs folder."""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from search_spaces.augment import reachable
from search_spaces.bands import without_colours
from search_spaces.core.space import SearchSpace
from sweep.compiled import plan_space, values_of
from sweep.config import SweepConfig
from sweep.latencies import models_to_time
from sweep.objectives import Objective, objective_of, on_classes
from trainables.augmentations import PolicySpec
from trainables.config import parse_size
from trainables.cost import BYTES_PER_PARAMETER
from trainables.data import DATASETS, SegmentationData, Splits
from trainables.data.bands import Bands
from trainables.data.check import CheckResult, check
from trainables.data.resizing import Size
from trainables.data.splits.given import make_splits
from trainables.data.usual_size import UsualSize, usual_size
from trainables.errors import DataError, UsageError
from trainables.forked import Forked
from trainables.metrics import LATENCY, split_key
from trainables.registry import Scalar


@dataclass(frozen=True)
class Prepared:
    """What a sweep will try on which data, as far as it is known before its plan."""

    space: SearchSpace
    base: Mapping[str, Scalar]
    data: SegmentationData
    splits: Splits
    checked: CheckResult
    objectives: tuple[Objective, ...]
    usual: UsualSize
    """The input size where nobody says one."""
    weights: tuple[str, ...] = ()
    """What each model takes of a user's file of weights."""
    left_out: str = ""
    """What of the space is not for the data set's images, as a sentence."""


def prepare(config: SweepConfig, *, progress: Callable[[int, int], None] | None = None) -> Prepared:
    """Builds space and data set and checks all that can be checked without Ray.

    Raises:
        UsageError: Bad usage, before anything is read.
        DataError: Every offender of the data set in one message.
        WeightsError: Predefined weights that cannot be obtained.
        WiringError: Transformations that do not do what they say with the libraries that are installed.
    """
    factory = DATASETS.get(config.data)
    planned = plan_space(config, (96, 128))  # faults of usage come before any file is read; the size is not decided yet
    if LATENCY.name in config.objective:
        models_to_time(*planned)
    data = factory(root=config.data_root, download=config.download)
    usual = usual_size(data)
    space, base, left_out = plan_for(config, usual.size, data)
    classes = [info.name for info in data.classes]
    objectives = tuple(on_classes(objective_of(key), classes) for key in config.objective)
    with Forked(lambda: _check_components(space, base, classes, data.bands)) as components:
        splits = make_splits(data, splits=config.splits, group_by=config.group_by, progress=progress)
        checked = check(data, splits, progress=progress)
        checked.raise_for_errors()
        _check_objectives(objectives, data, checked)
        for name in ("train", "val", "test"):
            if not getattr(splits, name):
                told = f"the {name} split of {config.data} is empty"
                raise DataError(f"{told}; a sweep needs images in train, val and test")
        own = tuple(components.result())
    return Prepared(space, base, data, splits, checked, objectives, usual, own, left_out)


def _check_components(
    space: SearchSpace, base: Mapping[str, Scalar], classes: Sequence[str], bands: Bands | None
) -> list[str]:
    """Tries the transformations, and makes sure that weights are there; says what each model takes of a user's file."""
    for size in values_of(space, base, "image_size"):
        preflight(reachable(space), parse_size(str(size)), len(classes), bands)
    models = [str(model) for model in values_of(space, base, "model.name")]
    check_models(models, bands)
    asked = itertools.product(models, values_of(space, base, "model.weights"))
    taken = [(model, ensure_weights(model, str(weights), classes)) for model, weights in asked]
    return [f"{model}: {told}" for model, told in taken if told]


def preflight(specs: Iterable[PolicySpec], size: Size, classes: int, bands: Bands | None) -> None:
    """`trainables.augmentations.preflight`, which loads Albumentations."""
    from trainables import augmentations

    augmentations.preflight(specs, size, classes, None if bands is None else bands.channels)


def ensure_weights(model: str, weights: str, classes: Sequence[str]) -> str:
    """`trainables.models.ensure_weights`, which loads torchvision."""
    from trainables import models

    return models.ensure_weights(model, weights, classes)


def plan_for(
    config: SweepConfig, size: tuple[int, int], data: SegmentationData
) -> tuple[SearchSpace, dict[str, Scalar], str]:
    """The space and base of a sweep on a data set, and what was left out for its sake, as a sentence or nothing.

    Raises:
        UsageError: As `plan_space`.
    """
    space, base = plan_space(config, size)
    if data.bands is None:
        return space, base, ""
    space, left_out = without_colours(space)
    return space, base, left_out


def check_models(models: Iterable[str], bands: Bands | None) -> None:
    """Refuses models that cannot take the channels of images.

    Raises:
        UsageError: One line for each such model.
    """
    if bands is None:
        return
    from trainables.models.build import why_not_for

    faults = [why for model in dict.fromkeys(models) if (why := why_not_for(model, bands))]
    if faults:
        raise UsageError("\n".join(faults))


def _check_objectives(objectives: Iterable[Objective], data: SegmentationData, checked: CheckResult) -> None:
    """Refuses a metric of one class of which val shows nothing.

    Raises:
        DataError: If there is one.
    """
    pixels = dict(zip((info.name for info in data.classes), checked.class_pixels["val"], strict=True))
    for objective in objectives:
        of_class = split_key(objective.key)
        if of_class is not None and not pixels[of_class[1]]:
            raise DataError(
                f"--objective {objective.key}: no image of val shows the class {of_class[1]!r}, so that it cannot be "
                "measured there; add such images to val (--splits), or name another class"
            )


def checkpoint_bytes(models: Sequence[str]) -> int:
    """Of a checkpoint in training of the largest of some models, at least."""
    from trainables.models import parameter_count

    return max(parameter_count(model, 21) for model in models) * BYTES_PER_PARAMETER


def check_disk(needed: int, *, trials: int, runs_dir: Path) -> None:
    """Refuses a sweep whose checkpoints cannot fit.

    Args:
        needed: Bytes of them, at most.
        trials: How many they are of, for the message.
        runs_dir: Where they are written; need not exist.

    Raises:
        DataError: With the bytes needed and free.
    """
    existing = next(folder for folder in [runs_dir.resolve(), *runs_dir.resolve().parents] if folder.is_dir())
    free = shutil.disk_usage(existing).free
    if free < needed:
        raise DataError(
            f"{trials} trials (with those that finish a label) need up to {needed / 2**30:.1f} GiB for checkpoints, "
            f"{existing} has {free / 2**30:.1f} GiB free: free space, lower --trials, or give another --runs-dir"
        )
