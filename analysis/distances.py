"""How far images are from the training images in the features of a checkpoint; kept beside its evaluation."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import cast

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from analysis.failures.training_images import LEAST_TRAINING, TrainingImages, mean_distance, unit_length
from analysis.kept import OnStep, inputs_of, keep_numbers, kept_numbers, key_of_weights, place_of
from trainables.checkpoint import load_trial, rebuild_model
from trainables.data.base import Image, SegmentationData
from trainables.data.cache.scan import pixels_by_image, scan
from trainables.data.resizing import Size, fill_image
from trainables.data.splits.frozen import Split, split_hash
from trainables.data.tiles import windows
from trainables.errors import DataError, DivergedError
from trainables.loaders import Batch, evaluation_loader
from trainables.logits import seen_share
from trainables.loops import is_channels_last, to_input
from trainables.models.base import SegmentationModel
from trainables.options import CROP, STRETCH

TRAINING_SAMPLE = 100
"""Training images that stand for all: Sun et al. (see `mean_distance`) do with 1% of ImageNet's."""

DISTANCES = "distances"

Floats = npt.NDArray[np.float64]


def training_images(
    run_dir: Path,
    labels: Sequence[str],
    checkpoint: Path,
    data: SegmentationData,
    split: Split,
    train: Split,
    *,
    device: str = "cpu",
    workers: int = 0,
    progress: OnStep | None = None,
) -> TrainingImages:
    """What a run's training images say of a split: how many of them have each class, how far its images are from them.

    Args:
        run_dir: The run.
        labels: Those whose model measures the distances, which are one trial; they cost as much as its backbone on the
            split and on `TRAINING_SAMPLE` images.
        checkpoint: A `best/LABEL` folder of it.
        data: The data set.
        split: The images that are judged; the checkpoint was evaluated on them before.
        train: The training images.
        device: `cpu` or `cuda`.
        workers: Loader processes.
        progress: Called with how far it is.
    """
    if why := _unusable(data, train):
        return TrainingImages(missing=(f"Frequency of the class in training and distance to it are not known: {why}.",))
    frequency = (pixels_by_image(data, train.ids) > 0).mean(axis=0)
    try:
        if len(train.ids) < LEAST_TRAINING:
            raise DataError(f"it takes {LEAST_TRAINING} of them, and there are {len(train.ids)}")
        record = load_trial(checkpoint)
        key = {
            **key_of_weights(record.sha256, inputs_of(record.config), split),
            "train": train.hash,
            "sample": TRAINING_SAMPLE,
        }
        place = place_of(run_dir, split, record.trial_id)
        kept = kept_numbers(place, DISTANCES, key)
        if kept is None:
            kept = _distances(checkpoint, data, split, train, device=device, workers=workers, progress=progress)
            keep_numbers(place, DISTANCES, key, kept)
    except (DataError, DivergedError) as error:
        return TrainingImages(frequency, missing=(f"The distance to the training images is not known: {error}.",))
    return TrainingImages(frequency, dict.fromkeys(labels, kept))


def _unusable(data: SegmentationData, train: Split) -> str:
    """Why the training images cannot be looked at; empty if they can."""
    records = scan(data, train.ids)
    unread = sum(not (one.image.sha256 and one.mask.sha256) for one in records.values())
    if unread:
        return f"{unread:,} of {len(train.ids):,} training images cannot be read"
    hashes = {image_id: (one.image.sha256, one.mask.sha256) for image_id, one in records.items()}
    return "" if split_hash(train.ids, hashes) == train.hash else "the training images are no longer those of the run"


def sampled(train: Split) -> list[str]:
    """The training images that stand for all: drawn at random, the same for the same split."""
    count = min(TRAINING_SAMPLE, len(train.ids))
    chosen = np.random.default_rng(int(train.hash[:16], 16)).choice(len(train.ids), count, replace=False)
    return [train.ids[place] for place in sorted(chosen.tolist())]


def _distances(
    checkpoint: Path,
    data: SegmentationData,
    split: Split,
    train: Split,
    *,
    device: str,
    workers: int,
    progress: OnStep | None,
) -> Floats:
    """Distance of each image of a split, shape (N,): 1 is that of a typical training image to the others.

    Raises:
        DataError: If the training images are all one to the model.
        DivergedError: If the features are not finite.
    """
    chosen = sampled(train)
    total = len(chosen) + len(split.ids)
    features = _features(checkpoint, data, [*chosen, *split.ids], device=device, workers=workers)
    bank: list[Floats] = []
    found: list[Floats] = []
    done = 0
    for batch in features:
        # One batch may hold the last training images and the first others.
        new, others = batch[: max(0, len(chosen) - done)], batch[max(0, len(chosen) - done) :]
        bank += [new] if len(new) else []
        done += len(batch)
        if len(others):
            bank = [np.concatenate(bank)]
            found.append(mean_distance(others, bank[0]))
        if progress:
            progress(DISTANCES, done, total)
    typical = float(np.median(mean_distance(bank[0], bank[0], own=True)))
    if not typical > 0:
        raise DataError("the training images are all one to the model")
    return np.concatenate(found) / typical


def _features(
    checkpoint: Path, data: SegmentationData, ids: Sequence[str], *, device: str, workers: int
) -> Iterator[Floats]:
    """What the head is given of each image, averaged over what shows the image, of unit length: batches (B, D)."""
    model, record = rebuild_model(checkpoint)
    assert isinstance(model, SegmentationModel)
    model = model.to(device)
    loader = evaluation_loader(
        data,
        ids,
        size=record.config.image_size,
        batch_size=record.config.batch_size,
        resize=record.config.resize,
        normalisation=record.normalisation,
        workers=workers,
    )
    channels_last = is_channels_last(model)

    def maps_of(images: Tensor) -> Tensor:
        """What the head is given of images (B, H, W, 3), shape (B, D, h, w)."""
        inputs = to_input(images, record.normalisation, device, channels_last=channels_last)
        maps = model.backbone(inputs)
        last = maps[model.head_input] if model.head_input is not None else list(maps.values())[-1]
        return cast("Tensor", last.float())

    with torch.inference_mode():
        for batch in loader:
            if isinstance(batch.images, Tensor):
                means = _pooled(maps_of(batch.images), batch, loader.resize)
            else:
                means = torch.stack([_in_windows(maps_of, image, loader.size) for image in batch.images])
            pooled = means.double().cpu().numpy()
            if not np.isfinite(pooled).all():
                raise DivergedError("the model's features are not finite")
            yield unit_length(pooled)


def _pooled(maps: Tensor, batch: Batch, resize: str) -> Tensor:
    """The mean of each feature map (B, D, h, w) over the part of it that shows the image, shape (B, D)."""
    if resize in (STRETCH, CROP):
        return maps.mean(dim=(2, 3))
    assert isinstance(batch.images, Tensor)
    canvas, found = batch.images.shape[1:3], []
    for one, mask in zip(maps, batch.masks, strict=True):
        seen = seen_share((mask.shape[0], mask.shape[1]), canvas, resize)
        rows, columns = (max(1, round(side * share)) for side, share in zip(one.shape[1:], seen, strict=True))
        found.append(one[:, :rows, :columns].mean(dim=(1, 2)))
    return torch.stack(found)


def _in_windows(maps_of: Callable[[Tensor], Tensor], image: Image, size: Size) -> Tensor:
    """The mean of each feature map over the windows of an image, of each the part that shows it, shape (D,)."""
    rows, columns = windows((image.shape[0], image.shape[1]), size)
    found = []
    for top, left in itertools.product(rows.starts, columns.starts):
        part = np.ascontiguousarray(image[top : top + rows.window, left : left + columns.window])
        maps = maps_of(torch.from_numpy(fill_image(part, size).copy())[None])[0]
        height, width = (
            max(1, round(side * shown / whole))
            for side, shown, whole in zip(maps.shape[1:], part.shape[:2], size, strict=True)
        )
        found.append(maps[:, :height, :width].mean(dim=(1, 2)))
    return torch.stack(found).mean(dim=0)
