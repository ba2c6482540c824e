"""Samples per second into training-ready batches, against torchvision's segmentation reference.

    python benchmarks/input_pipeline.py [DATA_ROOT] [--images N] [--rounds N]

DATA_ROOT holds VOCdevkit. The rival is written as `references/segmentation/presets.py` of torchvision is: PIL decodes
the file, then RandomResize (0.5 to 2 times 520), RandomHorizontalFlip, RandomCrop to 480, to float, Normalize. Ours
starts from the decoded cache (warm) and does more: zoom, flip, crop, and the four colour changes of ColorJitter on
every image. Both end with a normalised float32 batch of 8 at 480x480. One thread each, no loader processes.
"""

from __future__ import annotations

import argparse
import random
import time
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import torch
from paired import compare, machine
from PIL import Image
from torch import Tensor
from torchvision.transforms import functional as F

from trainables.augmentations import Policy, PolicySpec
from trainables.data import DATASETS, SegmentationData
from trainables.data.base import VOID
from trainables.data.cache.decoded import DecodedCache
from trainables.loaders import IMAGENET_NORMALISATION, TrainingSet, training_loader
from trainables.loops import to_input

SIZE = (480, 480)
BASE = 520
BATCH = 8
COLOUR = ("brightness", "contrast", "saturation", "hue")
"""What ColorJitter changes."""


def reference_batch(data: SegmentationData, ids: Sequence[str], *, jitter: bool) -> tuple[Tensor, Tensor]:
    """A batch as the reference's dataset, preset and collate function make it."""
    samples = [reference_sample(*data.paths(image_id), jitter=jitter) for image_id in ids]
    images, masks = zip(*samples, strict=True)
    return torch.stack(images), torch.stack(masks)


def reference_sample(image_path: Path, mask_path: Path, *, jitter: bool) -> tuple[Tensor, Tensor]:
    """SegmentationPresetTrain(base_size=520, crop_size=480), PIL backend."""
    image, mask = Image.open(image_path).convert("RGB"), Image.open(mask_path)
    side = random.randint(BASE // 2, BASE * 2)
    image, mask = F.resize(image, side), F.resize(mask, side, interpolation=F.InterpolationMode.NEAREST)
    if random.random() < 0.5:
        image, mask = F.hflip(image), F.hflip(mask)
    short = [max(0, wanted - have) for wanted, have in zip(SIZE[::-1], image.size, strict=True)]
    if any(short):
        image, mask = F.pad(image, [0, 0, *short], fill=0), F.pad(mask, [0, 0, *short], fill=VOID)
    top, left = random.randint(0, image.height - SIZE[0]), random.randint(0, image.width - SIZE[1])
    image, mask = F.crop(image, top, left, *SIZE), F.crop(mask, top, left, *SIZE)
    if jitter:
        for adjust in (F.adjust_brightness, F.adjust_contrast, F.adjust_saturation):
            image = adjust(image, random.uniform(0.7, 1.3))
        image = F.adjust_hue(image, random.uniform(-0.03, 0.03))
    tensor = F.convert_image_dtype(F.pil_to_tensor(image), torch.float)
    normalised = F.normalize(tensor, **{key: list(values) for key, values in IMAGENET_NORMALISATION.items()})
    return normalised, torch.as_tensor(np.array(mask), dtype=torch.int64)


def policy() -> Policy:
    """Zoom and crop, flip, and every colour transformation on every image."""
    settings: dict[str, object] = {"policy": "free", "scale_crop.p": 1.0, "hflip.p": 0.5}
    return Policy(PolicySpec.from_flat(settings | {f"{name}.p": 1.0 for name in COLOUR}), SIZE)


def epoch(samples: TrainingSet, number: int) -> None:
    """All samples once, as a trial loads them."""
    loader, batches = training_loader(samples, batch_size=BATCH)
    batches.epoch = number
    for batch in loader:
        to_input(batch.images, IMAGENET_NORMALISATION, "cpu", channels_last=True)
        batch.masks.long()


def main() -> None:
    """Prints rates and ratios."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("root", nargs="?", type=Path, default=Path("../shared/data"))
    parser.add_argument("--images", type=int, default=96)
    parser.add_argument("--rounds", type=int, default=7)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    cv2.setNumThreads(0)
    data = DATASETS.get("voc2012")(root=asked.root)
    ids = list(data.ids())[: asked.images // BATCH * BATCH]
    cache = DecodedCache(data, SIZE, limit_bytes=2**32)
    cache.build(ids)
    samples = TrainingSet(cache, ids, policy(), seed=0)
    print(machine())
    print(f"{len(ids)} VOC images, batches of {BATCH} at {SIZE[0]}x{SIZE[1]}, zoom, flip, crop, four colour changes")
    for jitter in (False, True):
        random.seed(0)

        def rival(jitter: bool = jitter) -> None:
            for first in range(0, len(ids), BATCH):
                reference_batch(data, ids[first : first + BATCH], jitter=jitter)

        mine, other, ratio = compare(lambda: epoch(samples, 1), rival, rounds=asked.rounds)
        what = "with the same colour changes" if jitter else "without colour changes"
        print(f"ours {len(ids) / mine:6.0f} samples/s   reference {what} {len(ids) / other:6.0f}   ratio {ratio:.2f}")
    started = time.perf_counter()
    again = DecodedCache(data, SIZE, limit_bytes=2**32)
    again.build(ids)
    loader, _ = training_loader(TrainingSet(again, ids, policy(), seed=1), batch_size=BATCH)
    next(iter(loader))
    print(f"first batch of a second trial, cache on disk: {time.perf_counter() - started:.3f} s")


if __name__ == "__main__":
    main()
