"""What components and types of error cost: seconds of CPU for each image of a split, with and without them.

    python -m benchmarks.failure_types DATA_ROOT

127 VOC masks of 21 classes; predictions are the masks at a sixteenth of their size with 4% of the cells wrong, enlarged
bilinearly. Without: the failing (image, class) regions alone. Beside both stands what an evaluation costs before:
LRASPP-MobileNetV3 on 256x256, logits enlarged to 375x500, and the collectors of all metrics. One thread; CPU time, the
median of three rounds.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import cv2
import numpy as np
import torch

from analysis.failures.kinds import class_kinds
from analysis.failures.measure import failing_regions
from analysis.failures.split import measure_image
from trainables.data.base import VOID, Mask
from trainables.data.voc2012 import NAMES, voc2012
from trainables.metrics import PerImageConfusion, RegionConfidence, ScoreHistogram, confusion_matrix

IMAGES, CELL, WRONG, ROUNDS = 127, 16, 0.04, 3


def prediction_of(mask: Mask, rng: np.random.Generator) -> Mask:
    """A prediction that is roughly right, with smooth edges and some wrong places."""
    height, width = mask.shape
    small = np.where(mask == VOID, 0, mask)[CELL // 2 :: CELL, CELL // 2 :: CELL].copy()
    wrong = rng.random(small.shape) < WRONG
    small[wrong] = rng.integers(0, len(NAMES), wrong.sum())
    scores = np.eye(len(NAMES), dtype=np.float32)[small]
    return cv2.resize(scores, (width, height), interpolation=cv2.INTER_LINEAR).argmax(axis=2).astype(np.uint8)


def evaluation() -> Callable[[], None]:
    """One image through a small model, its logits enlarged, and the collectors of all metrics."""
    from torchvision.models.segmentation import lraspp_mobilenet_v3_large

    model = lraspp_mobilenet_v3_large(weights=None, weights_backbone=None, num_classes=len(NAMES)).eval()
    image, target = torch.randn(1, 3, 256, 256), torch.randint(0, len(NAMES), (375, 500), dtype=torch.uint8)
    collectors = [collect(len(NAMES)) for collect in (PerImageConfusion, ScoreHistogram, RegionConfidence)]

    def work() -> None:
        with torch.no_grad():
            logits = torch.nn.functional.interpolate(model(image)["out"], size=(375, 500), mode="bilinear")[0]
            for collector in collectors:
                collector.process("image", logits, logits.argmax(0), target)

    return work


def milliseconds(work: Callable[[], None], times: int) -> float:
    """CPU time of each of several times, the median of the rounds."""
    rounds = []
    for _ in range(ROUNDS):
        start = time.process_time()
        work()
        rounds.append(1000 * (time.process_time() - start) / times)
    return median(rounds)


def main() -> None:
    """Prints the three costs."""
    torch.set_num_threads(1)
    cv2.setNumThreads(0)
    data, rng = voc2012(root=Path(sys.argv[1])), np.random.default_rng(0)
    ids = list(data.ids())[:: max(1, len(data.ids()) // IMAGES)][:IMAGES]
    pairs = [(mask := data.mask(image_id), prediction_of(mask, rng)) for image_id in ids]
    known = [
        confusion_matrix(torch.from_numpy(prediction), torch.from_numpy(mask.copy()), len(NAMES)).numpy()
        for mask, prediction in pairs
    ]
    kinds = class_kinds(NAMES)

    def regions() -> None:
        for (mask, prediction), confusion in zip(pairs, known, strict=True):
            failing_regions(mask, prediction, NAMES, confusion=confusion, kinds=kinds)

    def everything() -> None:
        for (mask, prediction), confusion in zip(pairs, known, strict=True):
            measure_image(mask, [prediction], NAMES, kinds, confusions=[confusion])

    one = evaluation()
    before = milliseconds(lambda: [one() for _ in range(10)] and None, 10)
    without, with_types = milliseconds(regions, len(ids)), milliseconds(everything, len(ids))
    print(f"{len(ids)} images, CPU ms each: evaluation {before:.1f}, regions {without:.2f}, all {with_types:.2f}")
    print(f"with components and types / without: {(before + with_types) / (before + without):.3f}")


if __name__ == "__main__":
    main()
