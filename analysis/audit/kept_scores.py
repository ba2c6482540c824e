"""What a report kept of the probabilities behind its masks: counted scores of pixels, and confidences of regions.

No mask can tell whether they are the model's. What is checked is that they count the pixels of the true masks, and that
the tables follow from them.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from analysis.audit.pixels import Flags, Floats, Integers, share
from trainables.errors import DataError
from trainables.limits import check_archive

RESULTS = "results.npz"
DISTANCES = "distances.json"


@dataclass(frozen=True)
class KeptScores:
    """The scores that were kept of one trial; histograms are read when they are asked for.

    Attributes:
        path: The file.
        confidence: Of each predicted region, shape (N, C).
    """

    path: Path
    confidence: Floats

    def totals(self, class_id: int) -> Integers:
        """Pixels of a class, then of all others, by rising score over the split, shape (2, L)."""
        with np.load(self.path, allow_pickle=False) as arrays:
            return np.asarray(arrays[f"totals/{class_id}"], np.int64)

    def levels(self, class_id: int) -> Integers:
        """The same by coarser scores in each image, shape (N, 2, L)."""
        with np.load(self.path, allow_pickle=False) as arrays:
            names = sorted(
                (name for name in arrays.files if name.startswith(f"histograms/{class_id}/")),
                key=lambda name: int(name.rpartition("/")[2]),
            )
            return np.concatenate([arrays[name] for name in names])


def read_distances(folder: Path) -> Floats | None:
    """How far each image is from the training images, as the report kept it; None where it kept nothing.

    Args:
        folder: Of a trial's evaluation.

    Raises:
        DataError: If it cannot be read.
    """
    path = folder / DISTANCES
    if not path.is_file():
        return None
    try:
        return np.array(json.loads(path.read_bytes())["numbers"], dtype=np.float64)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path} cannot be read ({error}): make the report again") from error


def read_scores(folder: Path, shape: tuple[int, int]) -> KeptScores:
    """Opens what was kept of a trial.

    Args:
        folder: Of its evaluation.
        shape: Images and classes.

    Raises:
        DataError: If it cannot be read, or is of other images or classes.
    """
    path = folder / RESULTS
    try:
        check_archive(path)
        with np.load(path, allow_pickle=False) as arrays:
            confidence = np.asarray(arrays["confidence"], np.float64)
    except (OSError, ValueError, KeyError) as error:
        raise DataError(f"{path} cannot be read ({error}): make the report again") from error
    if confidence.shape != shape:
        raise DataError(
            f"{path} is of {confidence.shape} images and classes, the masks of {shape}: make the report again"
        )
    return KeptScores(path, confidence)


def pixel_precision(counts: Integers) -> Floats:
    """Average precision of pixels from counted scores, sum of (R_n - R_(n-1)) P_n over falling scores.

    Args:
        counts: Pixels of the class, then others, by rising score, shape (..., 2, L).

    Returns:
        Shape (...); NaN without a pixel of the class.
    """
    own, others = counts[..., 0, ::-1], counts[..., 1, ::-1]
    found = np.cumsum(own, axis=-1)
    seen = found + np.cumsum(others, axis=-1)
    recall = share(found, found[..., -1:])
    steps = np.diff(recall, axis=-1, prepend=0)
    return np.asarray((steps * np.nan_to_num(share(found, seen))).sum(axis=-1))


def without_each(levels: Integers, totals: Integers, block: Integers, blocks: int) -> Floats:
    """Average precision of a class's pixels without each block of images in turn, shape (B,).

    That of the split, and how far it moves by the coarser scores, of which there are some for each image.

    Args:
        levels: Shape (N, 2, L).
        totals: Shape (2, L').
        block: Of each image, shape (N,).
        blocks: Number of blocks B.
    """
    whole = levels.sum(axis=0, dtype=np.int64)
    used: Flags = whole.any(axis=0)
    parts = np.zeros((blocks, 2, int(used.sum())), np.int64)
    np.add.at(parts, block, levels[:, :, used])
    moved = pixel_precision(whole[None][:, :, used] - parts) - pixel_precision(whole[:, used])
    return np.clip(pixel_precision(totals) + moved, 0, 1)
