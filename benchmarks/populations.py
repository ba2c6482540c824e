"""Populations of images whose true metrics are known: real checkpoints on many images, and simulated ones.

What a model does on a whole population of images is kept once; splits are then drawn from it, and a metric on the
population is the truth that intervals from the splits should hold. Draws are with replacement, so that the images, or
the groups, of a split are independent.
"""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
from torch import Tensor

from analysis.failures.kinds import class_kinds
from analysis.failures.split import ImageFailures, SplitFailures, measure_image, measure_split
from trainables.config import TrialConfig
from trainables.data import DATASETS
from trainables.data.base import SegmentationData
from trainables.data.cache.decoded import DataCaches
from trainables.data.scenes.dataset import Scenes, _write_all
from trainables.execution import TrialData
from trainables.loaders import evaluation_loader
from trainables.loops import evaluate
from trainables.metrics import METRICS, Metric, PerImageConfusion, RegionConfidence, ScoreHistogram
from trainables.places import DEFAULT_LIMIT_BYTES, cache_root
from trainables.trial import Trial

SCENES, TRAINED_ON = 1500, 200
"""Scenes in a population, and those that its model was trained on."""
VOC_TRAINED_ON = 200
"""The other images are the population."""
EPOCHS = {"scenes, 2 epochs": 2, "scenes, 10 epochs": 10, "voc, 8 epochs": 8, "voc, 24 epochs": 24}
"""Of the models, by the names of their populations."""


@dataclass(frozen=True)
class Images:
    """What a model did on images: a population, or a split drawn from one.

    Attributes:
        confusions: Shape (N, C, C).
        confidence: Of predicted regions, shape (N, C); None where nothing is known of it.
        scores: Histograms of shape (C, N, 2, L); None where nothing is known of scores.
        group: Of each image, shape (N,).
        grouped: Whether images come in groups; else each has a group of its own.
    """

    confusions: npt.NDArray[np.int64]
    confidence: npt.NDArray[np.float64] | None
    scores: npt.NDArray[np.int32] | None
    group: npt.NDArray[np.intp]
    grouped: bool = False

    @property
    def groups(self) -> tuple[str | None, ...]:
        """As evaluations hold them."""
        return tuple(map(str, self.group)) if self.grouped else (None,) * len(self.group)

    @property
    def metrics(self) -> list[Metric]:
        """Those that can be computed of it."""
        known = {"confusion", *(["regions"] if self.confidence is not None else [])}
        known |= {"scores"} if self.scores is not None else set()
        return [METRICS.get(name) for name in METRICS if METRICS.get(name).needs <= known]

    def histograms(self, class_id: int) -> npt.NDArray[np.int32]:
        """As metrics ask for them."""
        assert self.scores is not None
        return self.scores[class_id]

    def histogram_blocks(self, class_id: int) -> list[npt.NDArray[np.int32]]:
        """As metrics ask for them."""
        return [self.histograms(class_id)]

    def score_totals(self, class_id: int) -> npt.NDArray[np.int64]:
        """As metrics ask for them; as coarse as those of single images, for which images are drawn is known later."""
        return np.asarray(self.histograms(class_id).sum(axis=0, dtype=np.int64))

    def take(self, places: npt.NDArray[np.intp], group: npt.NDArray[np.intp], *, grouped: bool) -> Images:
        """Some of them; an image that was drawn twice is there twice."""
        confidence = None if self.confidence is None else self.confidence[places]
        scores = None if self.scores is None else self.scores[:, places]
        return Images(self.confusions[places], confidence, scores, group, grouped)


class Population(Protocol):
    """From what splits are drawn."""

    @property
    def images(self) -> Images:
        """All of it, or so many of an endless one that its metrics are known."""

    def draw(self, seed: int, units: int) -> Images:
        """A split of so many images or groups."""


@dataclass(frozen=True)
class Finite:
    """A population of images that are there."""

    images: Images

    def draw(self, seed: int, units: int) -> Images:
        """See `Population`."""
        drawn = np.random.default_rng([seed, units]).integers(0, self.images.group.max() + 1, units)
        members = [np.flatnonzero(self.images.group == one) for one in drawn]
        group = np.repeat(np.arange(units), [len(one) for one in members])
        return self.images.take(np.concatenate(members), group, grouped=self.images.grouped)


def clustered(images: Images, size: int, *, unequal: bool = False) -> Images:
    """The same images in groups in which rare classes stand together: neighbours by their rarest class, mostly.

    Args:
        images: Without groups.
        size: Of a group, in the mean.
        unequal: Whether the sizes differ, by a factor of 2.2 up and down in the standard deviation.
    """
    rng = np.random.default_rng(1)
    present = images.confusions.sum(axis=2) > 0
    rarest = np.where(present, present.mean(axis=0), 2.0).min(axis=1)
    order = np.argsort(rarest + 0.3 * rng.random(len(rarest)), kind="stable")
    sizes = np.full(len(order) // size, size)
    if unequal:
        sizes = np.maximum(3, (size * np.exp(0.8 * rng.standard_normal(2 * len(sizes))) / 1.4).astype(int))
        sizes = sizes[: int(np.searchsorted(sizes.cumsum(), len(order)))]
    kept = order[: sizes.sum()]
    return images.take(kept, np.repeat(np.arange(len(sizes)), sizes), grouped=True)


PRESENCE = np.array([1, 1, 0.9, 0.7, 0.5, 0.3, 0.2, 0.1, 0.06])
RECALL = np.array([0.95, 0.9, 0.85, 0.8, 0.7, 0.65, 0.5, 0.6, 0.5])
SIZE = np.array([8, 6, 3, 2, 1, 0.7, 0.4, 0.5, 0.5])


@dataclass(frozen=True)
class Simulated:
    """Confusion matrices from a model: 9 classes, the rarest in 6% of the images.

    Attributes:
        frames: Images in a group; 1 for independent images.
        alike: Correlation of quality within a group.
        clustering: How much the classes of a group's images hang together: 0 not at all, 1 wholly.
    """

    frames: int = 1
    alike: float = 0.0
    clustering: float = 0.0

    @property
    def images(self) -> Images:
        """160,000 of them."""
        count = 160_000 // self.frames
        parts = [self.draw(seed, count // 8) for seed in range(-8, 0)]
        total = np.stack([part.confusions.sum(axis=0) for part in parts])
        return Images(total, None, None, np.arange(len(total)))

    def draw(self, seed: int, units: int) -> Images:
        """See `Population`."""
        rng = np.random.default_rng([seed % 2**32, units, self.frames])
        count, classes = units * self.frames, len(PRESENCE)
        group = np.repeat(np.arange(units), self.frames)
        shared = rng.standard_normal((units, 1))[group]
        quality = np.sqrt(self.alike) * shared + np.sqrt(1 - self.alike) * rng.standard_normal((count, 1))
        alone, together = rng.random((count, classes)), rng.random((units, classes))[group]
        of_group = rng.random((count, classes)) < self.clustering
        present = np.where(of_group, together, alone) < PRESENCE
        area = np.where(present, SIZE * np.exp(0.7 * rng.standard_normal((count, classes))), 0)
        pixels = area / area.sum(1, keepdims=True) * 10000
        logit = np.log(RECALL / (1 - RECALL)) + 0.7 * quality + 0.9 * rng.standard_normal((count, classes))
        hit = pixels / (1 + np.exp(-logit))
        attracts = area + 0.15 * (rng.random((count, classes)) < 0.15)
        to_others = attracts[:, None, :] * (1 - np.eye(classes))
        total = to_others.sum(2, keepdims=True)
        matrix = np.where(total > 0, (pixels - hit)[:, :, None] * to_others / np.maximum(total, 1e-12), 0)
        matrix[:, np.arange(classes), np.arange(classes)] = hit
        return Images(np.round(matrix).astype(np.int64), None, None, group, grouped=self.frames > 1)


def real(name: str, data_root: Path | None = None) -> Images:
    """What a checkpoint that is trained here does on images that it has not seen, kept in the cache folder.

    Args:
        name: One of `EPOCHS`.
        data_root: Folder with `VOCdevkit`, for VOC.
    """
    with np.load(_kept(name, data_root)) as arrays:
        confusions, confidence, scores = (arrays[one] for one in ("confusions", "confidence", "scores"))
    return Images(confusions, confidence, scores, np.arange(len(confusions)))


def failures(first: str, second: str, data_root: Path | None = None) -> tuple[SplitFailures, SplitFailures]:
    """What went wrong in the same images under two checkpoints.

    Args:
        first: As the name of `real`.
        second: Another one on the same images.
        data_root: As of `real`.
    """
    with np.load(_kept(first, data_root)) as one, np.load(_kept(second, data_root)) as other:
        sizes = one["sizes"]
        truths, *predictions = (
            _images(flat, sizes) for flat in (one["truths"], one["predictions"], other["predictions"])
        )
    images, _, ids, _ = _chosen(first, data_root)
    names = [one.name for one in images.classes]
    kinds = class_kinds(names)

    def measure(place: int) -> list[ImageFailures]:
        return measure_image(truths[place], [one[place] for one in predictions], names, kinds)

    found = measure_split(ids, measure, (first, second))
    return found[first], found[second]


def _images(flat: npt.NDArray[np.uint8], sizes: npt.NDArray[np.int64]) -> list[npt.NDArray[np.uint8]]:
    """Masks of these sizes that lie one after another."""
    parts = np.split(flat, np.cumsum(sizes.prod(axis=1))[:-1])
    return [part.reshape(size) for part, size in zip(parts, sizes, strict=True)]


def subset(split: SplitFailures, places: npt.NDArray[np.intp]) -> SplitFailures:
    """Some of its images; one that was drawn twice is there twice."""
    return SplitFailures(tuple(split.image_ids[one] for one in places), tuple(split.images[one] for one in places))


def _kept(name: str, data_root: Path | None) -> Path:
    """Where the arrays of a population lie; they are made first where they do not."""
    place = cache_root() / "populations" / f"{name.replace(', ', '-').replace(' ', '-')}-masks.npz"
    if not place.is_file():
        place.parent.mkdir(parents=True, exist_ok=True)
        _predict(name, data_root, place)
    return place


class _Masks:
    """Keeps the truth and the prediction of each image."""

    def __init__(self) -> None:
        self.truths: list[npt.NDArray[np.uint8]] = []
        self.predictions: list[npt.NDArray[np.uint8]] = []

    def process(self, image_id: str, logits: Tensor, prediction: Tensor, target: Tensor) -> None:
        """See `Collector`."""
        for kept, mask in ((self.truths, target), (self.predictions, prediction)):
            kept.append(mask.cpu().numpy().astype(np.uint8))


def _predict(name: str, data_root: Path | None, place: Path) -> None:
    images, trained_on, population, base = _chosen(name, data_root)
    config = TrialConfig.from_flat({**base, "epochs": EPOCHS[name], "seed": 0})
    caches = DataCaches()
    trial = Trial(config, TrialData(images, tuple(trained_on), ()), caches=caches)
    while not trial.done:
        trial.run_epoch()
    cache = caches.get(images, config.image_size, limit_bytes=DEFAULT_LIMIT_BYTES)
    loader = evaluation_loader(cache, population, size=config.image_size, batch_size=config.batch_size,
                               normalisation=trial.model.normalisation, workers=0, pin_memory=False)  # fmt: skip
    classes = len(images.classes)
    kept: tuple[Any, ...] = (PerImageConfusion(classes), RegionConfidence(classes), ScoreHistogram(classes))
    masks = _Masks()
    evaluate(trial.updater.evaluated, loader, [*kept, masks], device=trial.device, precision=trial.precision)
    confusions, confidence, scores = (one.value() for one in kept)
    arrays = {"confusions": np.asarray(confusions), "confidence": confidence, "scores": scores.transpose(1, 0, 2, 3)}
    arrays |= {"sizes": np.array([mask.shape for mask in masks.truths])}
    arrays |= {name: np.concatenate([mask.ravel() for mask in own]) for name, own in vars(masks).items()}
    with zipfile.ZipFile(place, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for key, array in arrays.items():
            with archive.open(f"{key}.npy", "w", force_zip64=True) as member:
                np.lib.format.write_array(member, np.ascontiguousarray(array), allow_pickle=False)


Chosen = tuple[SegmentationData, Sequence[str], Sequence[str], dict[str, Any]]


def _chosen(name: str, data_root: Path | None) -> Chosen:
    """The data, the images that a model is trained on, those of the population, and the configuration."""
    return _scenes() if name.startswith("scenes") else _voc(data_root)


def _scenes() -> Chosen:
    place = cache_root() / "populations" / f"scenes-{SCENES}"
    if not place.is_dir():
        _write_all(place, {"train": TRAINED_ON, "val": 1, "test": SCENES})
    images = Scenes(place)
    splits = images.splits()
    base = {"image_size": "48x64", "model.name": "lraspp_mobilenet_v3_large", "model.weights": "none", "batch_size": 16}
    return images, splits.train, splits.test, base


def _voc(data_root: Path | None) -> Chosen:
    images: SegmentationData = DATASETS.get("voc2012")(root=data_root)
    ids = np.random.default_rng(0).permutation(sorted(images.ids())).tolist()
    base = {
        "image_size": "192x192",
        "model.name": "lraspp_efficientnet_lite0",
        "model.weights": "imagenet",
        "training.freeze": "backbone",
        "batch_size": 16,
    }
    return images, ids[:VOC_TRAINED_ON], ids[VOC_TRAINED_ON:], base
