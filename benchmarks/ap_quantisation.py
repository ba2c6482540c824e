"""How far the pixel AP of quantised scores lies from scikit-learn's on the raw ones, on a run's val split.

python benchmarks/ap_quantisation.py runs/NAME
"""

from __future__ import annotations

import sys
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


class RawScores:
    """Keeps every pixel's probabilities and truth."""

    def __init__(self) -> None:
        self.probabilities: list[Tensor] = []
        self.truth: list[Tensor] = []

    def process(self, image_id: str, logits: Tensor, prediction: Tensor, target: Tensor) -> None:
        """See `trainables.metrics.Collector`."""
        known = target != IGNORE
        self.probabilities.append(logits.double().softmax(0)[:, known])
        self.truth.append(target[known])


def main() -> None:
    """Prints one line per class: AP quantised, AP raw, difference."""
    run = Path(sys.argv[1])
    data = open_data(run, open_run(run))
    model, record = rebuild_model(run / "best" / "best")
    loader = evaluation_loader(
        data,
        load_split(run, "val").ids,
        size=record.config.image_size,
        batch_size=record.config.batch_size,
        normalisation=record.normalisation,
    )
    quantised, raw = ScoreHistogram(len(record.classes)), RawScores()
    evaluate(model, loader, [quantised, raw])
    ours = average_precision(quantised.value().sum(0))
    truth = torch.cat(raw.truth).numpy()
    probabilities = torch.cat(raw.probabilities, dim=1).numpy()
    gaps = []
    for index, info in enumerate(record.classes):
        if (truth == index).any():
            exact = average_precision_score(truth == index, probabilities[index])
            gaps.append(ours[index] - exact)
            print(f"{info.name:<16} quantised {ours[index]:.5f}  raw {exact:.5f}  difference {gaps[-1]:+.5f}")
    print(f"mean difference {np.mean(gaps):+.5f}, largest {np.max(np.abs(gaps)):.5f}")


if __name__ == "__main__":
    main()
