"""A whole split looked at: every kept mask of every trial beside its truth, image by image."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt

from analysis.audit.components import find_parts
from analysis.audit.effects import Cases, Wrong, wrong_pixels
from analysis.audit.factors import DISTANCE, NAMES, measure
from analysis.audit.images import Component, look_at
from analysis.audit.intervals import Rests, Units, leave_out
from analysis.audit.kept_scores import KeptScores, read_distances, read_scores
from analysis.audit.pixels import Floats, Integers, Mask, Recount, count_pairs
from analysis.audit.regions import region_row
from analysis.failures.kinds import BACKGROUND_NAMES, STUFF_NAMES
from trainables.data.base import SegmentationData
from trainables.data.void import mask_type
from trainables.errors import DataError
from trainables.limits import opened_image
from trainables.machine import cores
from trainables.paths import within

NO_TYPES = np.zeros((0, 4), np.int64)
MAJORITY_SHARE = 0.5
"""Where no name is known, a class that holds this share of the true pixels is the background (docs/METRICS.md)."""

Row = Mapping[str, float | str]

OfImage = tuple[Integers, Integers, list[Component], dict[tuple[int, int], Row]]
"""Pixels by pair of classes, by type, components, and failing regions."""


@dataclass(frozen=True)
class Sought:
    """What is looked for.

    Attributes:
        data: Source of images and true masks.
        image_ids: Of the split.
        names: Of the classes.
        iou_limit: A region or component fails at or below it.
        folders: Of the kept masks of each trial.
        confused: The class that the table `failures` says a region is confused with, by trial, image id and class.
        failures_of: Trials whose failures the tables tell: all but the floor.
        frequency: Share of the training images that have each class; None where they cannot be read.
    """

    data: SegmentationData
    image_ids: Sequence[str]
    names: Sequence[str]
    iou_limit: float
    folders: Mapping[str, Path]
    confused: Mapping[tuple[str, str, str], str]
    failures_of: Sequence[str]
    frequency: Floats | None = None

    def mask(self, trial_id: str, place: int) -> Mask:
        """The mask that was kept of a trial.

        Raises:
            DataError: If it cannot be read.
        """
        path = within(self.folders[trial_id], f"{place:06d}.png")
        try:
            with opened_image(path, what="mask") as image:
                return np.asarray(image, dtype=mask_type(len(self.names)))
        except OSError as error:
            raise DataError(f"{path} cannot be read ({error}): make the report again") from error

    def masks(self, trial_ids: Sequence[str], place: int) -> tuple[Mask, list[Mask]]:
        """The truth of an image and what trials predicted.

        Raises:
            DataError: If a mask is missing, or two differ in size or hold an unknown class.
        """
        truth, image_id = self.data.mask(self.image_ids[place]), self.image_ids[place]
        predictions = [self.mask(trial_id, place) for trial_id in trial_ids]
        for trial_id, prediction in zip(trial_ids, predictions, strict=True):
            path = self.folders[trial_id] / f"{place:06d}.png"
            if truth.shape != prediction.shape:
                raise DataError(
                    f"{path} is {prediction.shape}, the mask of {image_id} {truth.shape}: make the report again"
                )
            if prediction.max(initial=0) >= len(self.names):
                raise DataError(f"{path} holds the class {prediction.max()}, which is none: make the report again")
        return truth, predictions


@dataclass(frozen=True)
class Trial:
    """What one trial did on every image.

    Attributes:
        pixels: Counted.
        types: Wrong pixels by type, true and predicted class of each image; none of the floor.
        components: Of each image; none of the floor.
        regions: Rows of `failures` by place of the image and class id; none of the floor.
        scores: What was kept beside the masks.
    """

    pixels: Recount
    types: list[Integers]
    components: list[list[Component]]
    regions: Mapping[tuple[int, int], Row]
    scores: KeptScores

    @cached_property
    def wrong(self) -> Wrong:
        """Its wrong pixels by type."""
        return wrong_pixels(self.types, self.pixels.pairs)


@dataclass(frozen=True)
class Looked:
    """What was found in the masks of a split.

    Attributes:
        sought: What was looked for.
        trials: By trial id.
        factors: Of the true components of each image, shape (K, 13).
        units: What intervals leave out.
    """

    sought: Sought
    trials: Mapping[str, Trial]
    factors: list[Floats]
    units: Units

    @cached_property
    def rests(self) -> dict[str, dict[str, Rests]]:
        """Every metric of every trial, and without each block of images."""
        return {name: leave_out(one.pixels, one.scores, self.units) for name, one in self.trials.items()}

    def cases(self, trial_id: str, *, with_distance: bool) -> Cases:
        """The true components of the split under a trial.

        Args:
            trial_id: The trial.
            with_distance: Whether the distances from training that were kept of it, if any, are a factor.
        """
        own = [(place, one) for place, found in enumerate(self.trials[trial_id].components) for one in found]
        own = [(place, one) for place, one in own if one.is_true]
        factors = np.concatenate(self.factors)
        names: tuple[str, ...] = NAMES
        kept = read_distances(self.sought.folders[trial_id]) if with_distance else None
        if kept is not None:
            of_component = kept[[place for place, _ in own]]
            factors, names = np.column_stack([factors, of_component]), (*NAMES, DISTANCE)
        return Cases(
            iou=np.array([one.iou for _, one in own]),
            class_id=np.array([one.class_id for _, one in own], np.int64),
            image=self.units.unit[[place for place, _ in own]],
            factors=factors,
            names=names,
            frequency=self.sought.frequency,
        )


def look_through(sought: Sought, units: Units) -> Looked:
    """Looks at every mask of a split, several images at a time.

    Args:
        sought: What is looked for.
        units: What intervals leave out.

    Raises:
        DataError: As `Sought.masks`, or if what was kept beside the masks cannot be read.
    """
    kinds = kinds_of(sought)
    trial_ids = list(sought.folders)
    trials: dict[str, Trial] = {}
    pairs: dict[str, list[Integers]] = {name: [] for name in trial_ids}
    types: dict[str, list[Integers]] = {name: [] for name in trial_ids}
    components: dict[str, list[list[Component]]] = {name: [] for name in trial_ids}
    regions: dict[str, dict[tuple[int, int], Row]] = {name: {} for name in trial_ids}
    measured: list[Floats] = []

    def of_image(place: int) -> tuple[Floats, list[OfImage]]:
        truth, predictions = sought.masks(trial_ids, place)
        image = sought.data.image(sought.image_ids[place])
        parts = find_parts(truth)
        found: list[OfImage] = []
        for trial_id, prediction in zip(trial_ids, predictions, strict=True):
            if trial_id not in sought.failures_of:
                found.append((count_pairs(truth, prediction, len(kinds)), NO_TYPES, [], {}))
                continue
            one = look_at(truth, parts, prediction, kinds)
            failing = _failing(sought, trial_id, place, truth, prediction, one.pairs, kinds)
            found.append((one.pairs, one.types, one.components, failing))
        return measure(image, truth, parts, kinds, sought.data.bands), found

    with ThreadPoolExecutor(max_workers=cores()) as pool:
        for of_factors, found in pool.map(of_image, range(len(sought.image_ids))):
            measured.append(of_factors)
            for trial_id, (counted, typed, own, failing) in zip(trial_ids, found, strict=True):
                pairs[trial_id].append(counted)
                types[trial_id].append(typed)
                components[trial_id].append(own)
                regions[trial_id].update(failing)
    for trial_id in trial_ids:
        counts = Recount(np.array(pairs[trial_id]))
        scores = read_scores(sought.folders[trial_id], (len(counts.pairs), len(sought.names)))
        trials[trial_id] = Trial(counts, types[trial_id], components[trial_id], regions[trial_id], scores)
    return Looked(sought, trials, measured, units)


def _failing(
    sought: Sought,
    trial_id: str,
    place: int,
    truth: Mask,
    prediction: Mask,
    pairs: Integers,
    kinds: npt.NDArray[np.integer],
) -> dict[tuple[int, int], Row]:
    """The rows of `failures` of one image."""
    rows: dict[tuple[int, int], Row] = {}
    values = Recount(pairs[None]).image_iou[0]
    for class_id in np.flatnonzero((values <= sought.iou_limit) & (values < 1)).tolist():
        written = sought.confused.get((trial_id, sought.image_ids[place], sought.names[class_id]), "")
        rows[place, class_id] = region_row(
            truth, prediction, class_id, pairs, sought.names, kinds, written=written
        )  # fmt: skip
    return rows


def kinds_of(sought: Sought) -> npt.NDArray[np.int64]:
    """Background 0, stuff 1 or thing 2 of each class, by its name; by its pixels where no name is known."""
    kinds = np.full(len(sought.names), 2)
    for place, name in enumerate(sought.names):
        plain = " ".join(name.lower().replace("-", " ").replace("_", " ").split()) or name
        if plain in STUFF_NAMES:
            kinds[place] = 1
        if plain in BACKGROUND_NAMES or name.lower() in BACKGROUND_NAMES:
            kinds[place] = 0
    if (kinds == 2).all():
        pixels = np.zeros(len(kinds), np.int64)
        for image_id in sought.image_ids:
            pixels += np.bincount(sought.data.mask(image_id).ravel(), minlength=len(kinds))[: len(kinds)]
        if pixels.sum() and pixels.max() >= MAJORITY_SHARE * pixels.sum():
            kinds[int(pixels.argmax())] = 0
    return kinds


def folder_of(folder: Path, image_ids: tuple[str, ...], again: str) -> Path:
    """A folder of kept masks, of these images in this order.

    Args:
        folder: Of a trial's evaluation.
        image_ids: Of the split.
        again: The command that makes the report.

    Raises:
        DataError: If it cannot be read, or is of other images.
    """
    path = folder / "evaluation.json"
    try:
        told = json.loads(path.read_bytes())["image_ids"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path} cannot be read ({error}): make the report: {again}") from error
    if tuple(told) != image_ids:
        raise DataError(f"{path} is of other images than the split of the run: make the report: {again}")
    return folder
