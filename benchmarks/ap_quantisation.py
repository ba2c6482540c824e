"""How far the pixel AP of counted, rounded scores lies from scikit-learn's on probabilities in double precision.

    python benchmarks/ap_quantisation.py [RUN]

Made-up scores first: smooth ones, as networks give them, that know the truth partly, of 2, 21 and 255 classes and of
several scales (10: a sharp model; 0.01: a flat one). With RUN also the winner of a run on its val split, its logits
as they are and times 10.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from sklearn.metrics import average_precision_score
from torch import Tensor

from sweep.verify import open_data, open_run
from trainables.checkpoint import rebuild_model
from trainables.data.splits.frozen import load_split
from trainables.loaders import evaluation_loader
from trainables.loops import evaluate
from trainables.metrics import IGNORE, ScoreHistogram, average_precision

SCALES = (1.0, 10.0, 100.0, 0.1, 0.01)
MADE_UP = ((2, 4), (21, 4), (255, 2))
"""Classes, and images of `SIDE` x `SIDE` pixels."""
SIDE = 160


class AtScale:
    """Counts the scores of logits times a factor, and keeps every pixel's probabilities and truth."""

    def __init__(self, classes: int, scale: float) -> None:
        self.scale = scale
        self.counted = ScoreHistogram(classes)
        self.probabilities: list[Tensor] = []
        self.truth: list[Tensor] = []

    def process(self, image_id: str, logits: Tensor, prediction: Tensor, target: Tensor) -> None:
        """See `trainables.metrics.Collector`."""
        logits, known = logits * self.scale, target != IGNORE
        self.counted.process(image_id, logits, prediction, target)
        self.probabilities.append(logits.double().softmax(0)[:, known])
        self.truth.append(target[known])

    def gaps(self) -> dict[int, tuple[float, float]]:
        """Our AP and scikit-learn's of each class in the truth."""
        ours = average_precision(self.counted.totals())
        truth = torch.cat(self.truth).numpy()
        probabilities = torch.cat(self.probabilities, dim=1).numpy()
        return {
            index: (float(ours[index]), float(average_precision_score(truth == index, probabilities[index])))
            for index in np.unique(truth).tolist()
        }


def made_up(classes: int, seed: int) -> tuple[Tensor, Tensor]:
    """Smooth logits (C, SIDE, SIDE), and a truth that they know partly, with some void."""
    generator = torch.Generator().manual_seed(seed)
    cells = SIDE // 8 + 1
    coarse, noise = (torch.randn(1, classes, cells, cells, generator=generator) * 2 for _ in range(2))
    # Without the border, whose pixels are copies of one another but for their last digit.
    logits, noise = (
        torch.nn.functional.interpolate(one, size=(SIDE + 8, SIDE + 8), mode="bilinear")[0, :, 4:-4, 4:-4]
        for one in (coarse, noise)
    )
    target = (logits + noise).argmax(dim=0)
    target[:8] = IGNORE
    return logits, target


def told(what: str, scale: float, collector: AtScale) -> None:
    """Prints a line: the largest and the mean difference over classes."""
    pairs = np.array(list(collector.gaps().values()))
    gaps = pairs[:, 0] - pairs[:, 1]
    print(
        f"{what:<28} logits x {scale:<6g} {len(gaps):>3} classes   mean AP {pairs[:, 1].mean():.4f}   difference: "
        f"mean {gaps.mean():+.6f}, largest {np.abs(gaps).max():.6f}",
        flush=True,
    )


def of_run(run: Path) -> None:
    """The winner of a run, on val."""
    data = open_data(run, open_run(run))
    model, record = rebuild_model(run / "best" / "best")
    loader = evaluation_loader(
        data,
        load_split(run, "val").ids,
        size=record.config.image_size,
        batch_size=record.config.batch_size,
        normalisation=record.normalisation,
    )
    for scale in (1.0, 10.0):
        collector = AtScale(len(record.classes), scale)
        evaluate(model, loader, [collector])
        for index, (ours, exact) in collector.gaps().items():
            name = record.classes[index].name
            print(f"  {name:<26} logits x {scale:<6g} ours {ours:.6f}   raw {exact:.6f}   {ours - exact:+.6f}")
        told(run.name, scale, collector)


def main() -> None:
    """Prints a line for each kind of scores, and of a run one for each class."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", nargs="?", type=Path, metavar="RUN")
    options = parser.parse_args()
    for classes, images in MADE_UP:
        for scale in SCALES:
            collector = AtScale(classes, scale)
            for seed in range(images):
                logits, target = made_up(classes, seed)
                collector.process(str(seed), logits, logits.argmax(dim=0), target)
            told(f"made up, {classes} classes", scale, collector)
    if options.run is not None:
        of_run(options.run)


if __name__ == "__main__":
    main()
