"""What a trial with a frozen backbone reads: feature maps and masks, no images."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from trainables.augmentations.views import View, Views, views_of
from trainables.data.base import Image, Mask
from trainables.data.cache.decoded import DecodedCache
from trainables.data.cache.packs import Bytes
from trainables.features import FeaturesOnce, Source
from trainables.loaders import Batch, EvaluationSet, TrainingSet
from trainables.models.base import SegmentationModel
from trainables.seeds import derived_seed

MOST_VIEWS = 2
"""Images that a policy may make of one, for their features to be kept."""


def feature_sets(
    samples: TrainingSet, images: EvaluationSet, model: nn.Module, *, precision: str, limit_bytes: int
) -> tuple[FeatureTrainingSet, FeatureEvaluationSet] | None:
    """Training and evaluation with the feature maps of a frozen backbone, which are computed where they are not kept.

    Args:
        samples: To train on.
        images: To validate on.
        model: Whose backbone is frozen; on its device.
        precision: Of the backbone's forward pass, one of `PRECISIONS`.
        limit_bytes: Most that all these features may take in the cache folder.

    Returns:
        None where an image has too many views, the model is not made of a backbone and a head, or the features of all
        images would take more than the limit: then the backbone has to run in every step.
    """
    views = views_of(samples.policy, most=MOST_VIEWS)
    if views is None or not isinstance(model, SegmentationModel):
        return None
    model.backbone.eval()
    features = FeaturesOnce(model, size=samples.policy.size, precision=precision, limit_bytes=limit_bytes)
    if features.bytes * (len(views.all) * len(samples.ids) + len(images)) > limit_bytes:
        return None
    training = FeatureTrainingSet(samples, views, features)
    evaluation = FeatureEvaluationSet(images.cache, images.ids, features)
    features.build([*training.sources, *evaluation.sources])
    return training, evaluation


class _Sample(NamedTuple):
    image_id: str
    row: Bytes
    mask: Mask


class FeatureTrainingSet(TrainingSet):
    """The samples of another set, as feature maps.

    Args:
        samples: Whose policy makes few images of one, and draws no tiles.
        views: All that it makes.
        features: Of their size.
    """

    def __init__(self, samples: TrainingSet, views: Views, features: FeaturesOnce) -> None:
        super().__init__(samples.cache, samples.ids, samples.policy, seed=samples.seed)
        self.features = features
        self._views = views
        self._sources = {(one, view): self._source(one, view) for one in self.ids for view in views.all}

    @property
    def sources(self) -> Iterator[Source]:
        """Of all features that are used."""
        yield from self._sources.values()

    def __getitem__(self, item: tuple[int, int]) -> _Sample:
        image_id, parts = self.drawn_for(item)
        view = self._views.drawn(derived_seed("augment", *parts))
        _, mask = self.cache.train_arrays(image_id)
        return _Sample(image_id, self.features.row(self._sources[image_id, view]), self._views.mask(mask, view))

    def collate(self, samples: Sequence[_Sample]) -> Batch:
        """Stacks samples into a batch."""
        ids, rows, masks = zip(*samples, strict=True)
        return Batch(ids, self.features.batch(rows), torch.from_numpy(np.stack(masks)))

    def _source(self, image_id: str, view: View) -> Source:
        def pixels() -> Image:
            return self._views.image(self.cache.train_arrays(image_id)[0], view)

        shown = f"{self.policy.resize} {self.policy.size} {view}"
        return _source(self.cache.content("train", image_id), shown, pixels)


class FeatureEvaluationSet(EvaluationSet):
    """The images of an evaluation, as feature maps; masks untouched.

    Args:
        cache: Decoded images.
        ids: Image ids.
        features: Of the cache's size.
    """

    def __init__(self, cache: DecodedCache, ids: Sequence[str], features: FeaturesOnce) -> None:
        super().__init__(cache, ids)
        self.features = features
        self._sources = [
            _source(cache.content("evaluation", one), f"{cache.resize} {cache.size}", partial(_shown, cache, one))
            for one in ids
        ]

    @property
    def sources(self) -> Iterator[Source]:
        """Of all features that are used."""
        yield from self._sources

    def __getitem__(self, index: int) -> tuple[str, Any, Tensor]:
        _, mask = self.cache.whole_arrays(self.ids[index])
        return self.ids[index], self.features.row(self._sources[index]), torch.from_numpy(mask)

    def collate(self, samples: Sequence[tuple[str, Any, Tensor]]) -> Batch:
        """Stacks the features; masks keep their sizes."""
        ids, rows, masks = zip(*samples, strict=True)
        return Batch(ids, self.features.batch(rows), masks)


def _source(content: str, shown: str, pixels: Callable[[], Image]) -> Source:
    """An image by what it was decoded from and how it is shown; by its pixels where decoded images are not kept."""
    return Source(f"{content} {shown}", pixels) if content else Source.of_pixels(pixels)


def _shown(cache: DecodedCache, image_id: str) -> Image:
    return cache.eval_arrays(image_id)[0]
