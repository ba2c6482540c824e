"""Images of 480x640 pixels and 20 classes as they are asked for, and a model of one convolution that predicts them."""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional

from analysis.kept import RESULTS_FILE, Evaluation
from trainables.data.base import VOID, ClassInfo, Image, Mask, SegmentationData, Splits
from trainables.metrics import SCORE_CELLS, SCORE_LEVELS, ImageCounts

Values = npt.NDArray[Any]


class MadeUp(SegmentationData):
    """Images of 480x640 pixels and 20 classes, drawn when they are asked for; nothing is held."""

    name, root, default_image_size = "made up", Path(), (480, 640)

    def __init__(self, images: int) -> None:
        colors = np.random.default_rng(0).integers(0, 256, (20, 3)).tolist()
        self.classes = tuple(ClassInfo(f"class {i}", (r, g, b)) for i, (r, g, b) in enumerate(colors))
        self._ids = tuple(f"{number:06d}" for number in range(images))

    def ids(self) -> Sequence[str]:  # noqa: D102
        return self._ids

    def paths(self, image_id: str) -> tuple[Path, Path]:  # noqa: D102
        raise NotImplementedError

    def splits(self, *, seed: int = 0) -> Splits:  # noqa: D102
        raise NotImplementedError

    def mask(self, image_id: str) -> Mask:
        """Regions of some eight classes, things on them, and a seam of void."""
        rng = np.random.default_rng(int(image_id))
        own = rng.choice(len(self.classes), 8, replace=False)
        fields = rng.normal(size=(6, 8, 4)).astype(np.float32)
        mask = own[cv2.resize(fields, (640, 480), interpolation=cv2.INTER_CUBIC).argmax(axis=2)].astype(np.uint8)
        for _ in range(12):
            centre, axes = rng.integers(0, (640, 480)).tolist(), rng.integers(6, 60, 2).tolist()
            cv2.ellipse(mask, centre, axes, float(rng.integers(180)), 0, 360, int(own[rng.integers(8)]), -1)
        mask[:, 320] = VOID
        return mask

    def image(self, image_id: str) -> Image:
        """The classes' colours with noise."""
        table = np.zeros((256, 3), np.float32)
        table[: len(self.classes)] = [info.color for info in self.classes]
        noise = np.random.default_rng([1, int(image_id)]).normal(0, 60, (120, 160, 3)).astype(np.float32)
        noisy = table[self.mask(image_id)] + cv2.resize(noise, (640, 480), interpolation=cv2.INTER_LINEAR)
        return np.clip(noisy, 0, 255).astype(np.uint8)


KEPT_TOGETHER = 100
"""Images whose score histograms are written at once, as an evaluation of so many classes does."""


def keep_made_up_counts(folder: Path, images: int, classes: int = 20) -> Evaluation:
    """Counts of a split as an evaluation keeps them, of no pixels: each image shows a few classes.

    The score histograms of the first `KEPT_TOGETHER` images come again and again.
    """
    rng = np.random.default_rng(0)
    present = rng.random((images, classes)) < 0.3
    present[:, 0] = True
    confusions = rng.poisson(40, (images, classes, classes)) * present[:, :, None] * present[:, None, :]
    confusions[:, range(classes), range(classes)] *= 60
    confidence = np.where(confusions.sum(axis=1) > 0, rng.random((images, classes)), np.nan)
    levels = np.arange(SCORE_LEVELS)
    shares = [np.exp(-(((levels - centre) / 120) ** 2)) for centre in (1150, 900)]
    with zipfile.ZipFile(folder / RESULTS_FILE, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as results:

        def write(name: str, values: Values) -> None:
            with results.open(f"{name}.npy", "w", force_zip64=True) as member:
                np.lib.format.write_array(member, np.ascontiguousarray(values), allow_pickle=False)

        for class_id in range(classes):
            counts = [rng.multinomial(30_000, share / share.sum(), KEPT_TOGETHER) for share in shares]
            block = np.stack(counts, axis=1).astype(np.int32)
            total = np.zeros((2, SCORE_LEVELS), np.int64)
            for start in range(0, images, KEPT_TOGETHER):
                own = block[: images - start]
                total += own.sum(axis=0)
                write(f"histograms/{class_id}/{start // KEPT_TOGETHER}", own)
            totals = np.zeros((2, SCORE_LEVELS, SCORE_CELLS // SCORE_LEVELS), np.int64)
            totals[..., 0] = total
            write(f"totals/{class_id}", totals.reshape(2, SCORE_CELLS))
        counts = ImageCounts.of_matrices(confusions)
        for name, array in counts.arrays().items():
            write(f"confusions/{name}", array)
        write("confidence", confidence)
    ids = tuple(map(str, range(images)))
    return Evaluation("made up", "test", ids, (None,) * images, counts, confidence, 1.0, folder)


class NearestColor(nn.Module):
    """Each pixel's class by the nearest of the classes' colours, at an eighth of the size: a convolution of 1x1."""

    def __init__(self, colors: Values) -> None:
        super().__init__()
        table = torch.from_numpy(colors / 255).float()
        self.head = nn.Conv2d(3, len(table), 1)
        self.head.weight.data = 40 * table[:, :, None, None]
        self.head.bias.data = -20 * (table**2).sum(dim=1)  # type: ignore[union-attr]

    def forward(self, images: Tensor, *, resize: bool = True) -> dict[str, Tensor]:
        """Logits of shape (B, C, H / 8, W / 8)."""
        return {"out": self.head(functional.avg_pool2d(images, 8))}
