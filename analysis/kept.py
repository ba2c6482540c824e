"""Evaluations kept in a run's report, read many times, and trusted only where this machine's user made them.

They are in `RUN/report/evaluations/SPLIT/TRIAL_ID/`: sums for each image (`results.npz`), the predicted masks at
their original sizes (`NNNNNN.png`, class ids), and `evaluation.json`, which says of which weights and which images they
are, holds the hash of every file, and is sealed with a key of this user's. What does not match is computed again.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import hmac
import itertools
import json
import os
import re
import secrets
import shutil
import stat
import tempfile
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image
from torch import Tensor

from trainables.checkpoint import file_sha256
from trainables.config import TrialConfig, format_size
from trainables.data.base import Mask
from trainables.data.splits.frozen import Split
from trainables.data.void import mask_type
from trainables.errors import DataError
from trainables.files import write_json
from trainables.latency import one_thread
from trainables.limits import opened_image
from trainables.loaders import mask_array
from trainables.metrics import (
    SCORE_CELLS,
    SCORE_LEVELS,
    Collector,
    Confusions,
    ImageCounts,
    PerImageConfusion,
    RegionConfidence,
    ScoreHistogram,
)
from trainables.options import STRETCH
from trainables.paths import within
from trainables.places import cache_root
from trainables.run_folder import evaluations

FORMAT = 3


DESCRIPTION_FILE = "evaluation.json"


RESULTS_FILE = "results.npz"


KEY_FILE = "evaluations.key"
"""In the cache folder: what kept evaluations are sealed with. It never leaves this machine."""


KEY_BYTES = 32


HISTOGRAM_BYTES = 2**25
"""Score histograms that are held until they are written: 32 MiB."""


HISTOGRAM_COMPRESSION = 1
"""Level of zlib."""


OnStep = Callable[[str, int, int], None]
"""Called with what is evaluated, how many images are done, and of how many."""


@dataclass(frozen=True)
class Evaluation:
    """What one checkpoint did on every image of a split.

    Attributes:
        trial_id: Whose checkpoint; `majority` for the floor.
        split: `val` or `test`.
        image_ids: Length N, in the split's order.
        groups: Group of each image, None for an image of its own.
        confusions: Of shape (N, C, C): rows truth, columns prediction, void truth left out.
        confidence: Confidence of each predicted region, shape (N, C), NaN where the class is not predicted.
        latency_ms: Median time of a forward pass (`measure_latency`); NaN for the floor.
        folder: Where it is kept.
    """

    trial_id: str
    split: str
    image_ids: tuple[str, ...]
    groups: tuple[str | None, ...]
    confusions: Confusions
    confidence: npt.NDArray[np.float64]
    latency_ms: float
    folder: Path

    def histograms(self, class_id: int) -> npt.NDArray[np.int32]:
        """Score histograms of one class in each image, shape (N, 2, SCORE_LEVELS).

        They are read at each use, for all of them are large.
        """
        return np.concatenate(list(self.histogram_blocks(class_id)))

    def histogram_blocks(self, class_id: int) -> Iterator[npt.NDArray[np.int32]]:
        """The same, some images at a time in their order, as they were written."""
        for number in itertools.count():
            name = f"histograms/{class_id}/{number}"
            if name not in self._arrays:
                return
            yield self._arrays[name]

    def score_totals(self, class_id: int) -> npt.NDArray[np.int64]:
        """Score histogram of one class over all images, shape (2, SCORE_CELLS); read at each use."""
        totals: npt.NDArray[np.int64] = self._arrays[f"totals/{class_id}"]
        return totals

    @functools.cached_property
    def _arrays(self) -> Any:
        """The file, open: to find its members takes longer than to read one where there are many classes."""
        return np.load(self.folder / RESULTS_FILE, allow_pickle=False)

    @functools.cached_property
    def _places(self) -> dict[str, int]:
        return {image_id: place for place, image_id in enumerate(self.image_ids)}

    def prediction_path(self, image_id: str) -> Path:
        """The PNG of a predicted mask.

        Raises:
            KeyError: If the image is not in the split.
        """
        return self.folder / _mask_name(self._places[image_id])

    def prediction(self, image_id: str) -> Mask:
        """Predicted class ids at the mask's original size, shape (H, W)."""
        with opened_image(self.prediction_path(image_id), what="mask") as image:
            return np.asarray(image, dtype=mask_type(self.confusions.shape[1]))


def load_evaluation(folder: Path, key: Mapping[str, Any]) -> Evaluation | None:
    """Reads a kept evaluation; None if there is none, or it is torn, altered, or of other weights or images.

    Only what this user's machine sealed is trusted (`sealing_key`): hashes alone can be written by anybody.

    Args:
        folder: `RUN/report/evaluations/SPLIT/TRIAL_ID`.
        key: What it must be of: format, weights, input size, split.
    """
    try:
        description = json.loads((folder / DESCRIPTION_FILE).read_bytes())
        seal, secret = description.pop("seal"), sealing_key()
        if secret is None or not hmac.compare_digest(seal, _seal(description, secret)):
            return None
        return _read_evaluation(folder, key, description)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None


def _read_evaluation(folder: Path, key: Mapping[str, Any], description: Mapping[str, Any]) -> Evaluation | None:
    if description["key"] != dict(key) or description["trial_id"] != folder.name:
        return None
    names = [RESULTS_FILE, *(_mask_name(place) for place in range(len(description["image_ids"])))]
    if list(description["files"]) != names or any(
        file_sha256(folder / name) != digest for name, digest in description["files"].items()
    ):
        return None
    with np.load(folder / RESULTS_FILE, allow_pickle=False) as arrays:
        confusions, confidence = kept_confusions(arrays), arrays["confidence"]
    latency = description["latency"]["ms"]
    return Evaluation(
        trial_id=description["trial_id"],
        split=description["split"],
        image_ids=tuple(description["image_ids"]),
        groups=tuple(description["groups"]),
        confusions=confusions,
        confidence=confidence,
        latency_ms=float("nan") if latency is None else float(latency),
        folder=folder,
    )


def kept_confusions(arrays: Mapping[str, npt.NDArray[Any]]) -> ImageCounts:
    """Confusion matrices of a file of results; those of earlier versions are whole arrays."""
    if "confusions" in arrays:
        return ImageCounts.of_matrices(arrays["confusions"])
    return ImageCounts.of({name: arrays[f"confusions/{name}"] for name in ImageCounts.NAMES})


def sealing_key() -> bytes | None:
    """The key that this user's evaluations are sealed with, made at its first use; None where none can be kept safe."""
    path = cache_root() / KEY_FILE
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(FileExistsError):
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(descriptor, "wb") as stream:
                stream.write(secrets.token_bytes(KEY_BYTES))
        with os.fdopen(os.open(path, os.O_RDONLY | os.O_NOFOLLOW), "rb") as stream:
            status, key = os.fstat(stream.fileno()), stream.read(KEY_BYTES + 1)
    except OSError:
        return None
    is_private = stat.S_ISREG(status.st_mode) and status.st_uid == os.geteuid() and not status.st_mode & 0o077
    return key if is_private and len(key) == KEY_BYTES else None


def _seal(description: Mapping[str, Any], key: bytes) -> str:
    """HMAC-SHA256 (hex) of a description without its seal."""
    return hmac.new(key, json.dumps(description, sort_keys=True).encode(), "sha256").hexdigest()


def kept_numbers(folder: Path, name: str, key: Mapping[str, Any]) -> npt.NDArray[np.float64] | None:
    """Numbers that `keep_numbers` kept beside an evaluation; None if there are none, or not of this key or machine.

    Args:
        folder: Of the evaluation.
        name: Of the file, without `.json`.
        key: What they must be of.
    """
    try:
        description = json.loads((folder / f"{name}.json").read_bytes())
        seal, secret = description.pop("seal"), sealing_key()
        if secret is None or not hmac.compare_digest(seal, _seal(description, secret)):
            return None
        return np.array(description["numbers"], dtype=float) if description["key"] == dict(key) else None
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None


def keep_numbers(folder: Path, name: str, key: Mapping[str, Any], numbers: npt.NDArray[np.float64]) -> None:
    """Keeps a few numbers beside an evaluation, sealed as it is; where no seal can be made, none are kept.

    Args:
        folder: Of the evaluation, which is there.
        name: Of the file, without `.json`.
        key: What they are of.
        numbers: Shape (N,), finite.

    Raises:
        OSError: If the file cannot be written.
    """
    secret = sealing_key()
    if secret is not None:
        description = {"key": dict(key), "numbers": numbers.tolist()}
        write_json(folder / f"{name}.json", {**description, "seal": _seal(description, secret)})


class NewEvaluation:
    """An evaluation in the making: collects into a folder beside its place and moves there when it is whole.

    Score histograms are written as they come, some images at a time, each class on its own: all of them are never in
    memory, neither here nor when they are read.
    """

    def __init__(self, folder: Path, classes: int, trial_id: str, split: Split, progress: OnStep | None) -> None:
        self.folder = folder
        self.trial_id = trial_id
        self.split = split
        self.progress = progress
        self.classes = classes
        self.confusions = PerImageConfusion(classes)
        self.histograms = ScoreHistogram(classes)
        self.confidence = RegionConfidence(classes, self.histograms)
        self.blocks = 0

    def __enter__(self) -> NewEvaluation:
        self.folder.parent.mkdir(parents=True, exist_ok=True)
        self.temporary = Path(tempfile.mkdtemp(prefix=f".{self.folder.name}.", suffix=".tmp", dir=self.folder.parent))
        self.results = zipfile.ZipFile(
            self.temporary / RESULTS_FILE, "w", zipfile.ZIP_DEFLATED, compresslevel=HISTOGRAM_COMPRESSION
        )
        return self

    def __exit__(self, *_: object) -> None:
        # On a full disk closing fails as well; the first error is the one to tell.
        with contextlib.suppress(OSError, ValueError):
            self.results.close()
        shutil.rmtree(self.temporary, ignore_errors=True)

    def process(self, image_id: str, logits: Tensor, prediction: Tensor, target: Tensor) -> None:
        """See `trainables.metrics.Collector`."""
        place = len(self.confusions.image_ids)
        collectors: tuple[Collector, ...] = (self.confusions, self.histograms, self.confidence)
        # One image is too little work for several threads: where the cores are busy they mostly wait for each other.
        with one_thread():
            for collector in collectors:
                collector.process(image_id, logits, prediction, target)
        Image.fromarray(mask_array(prediction)).save(self.temporary / _mask_name(place), compress_level=3)
        image_bytes = self.classes * 2 * SCORE_LEVELS * np.dtype(np.int32).itemsize
        if (place + 1) % max(1, HISTOGRAM_BYTES // image_bytes) == 0:
            self._write_histograms()
        if self.progress:
            self.progress(self.trial_id, place + 1, len(self.split.ids))

    def keep(self, key: Mapping[str, Any], latency: Mapping[str, Any]) -> Evaluation:
        """Puts the evaluation in its place, whole and sealed.

        Args:
            key: What it is of: weights, input size, split.
            latency: `ms`, and how it was measured.

        Raises:
            DataError: If it cannot be read back.
        """
        if tuple(self.confusions.image_ids) != self.split.ids:
            raise RuntimeError("the loader did not give the images of the split in their order")
        self._write_histograms()
        for class_id, totals in enumerate(self.histograms.totals()):
            self._write_array(f"totals/{class_id}", totals)
        for name, array in self.confusions.value().arrays().items():
            self._write_array(f"confusions/{name}", array)
        self._write_array("confidence", self.confidence.value())
        self.results.close()
        names = [RESULTS_FILE, *(_mask_name(place) for place in range(len(self.split.ids)))]
        description = {
            "key": dict(key),
            "trial_id": self.trial_id,
            "split": self.split.name,
            "image_ids": list(self.split.ids),
            "groups": list(self.split.groups),
            "latency": dict(latency),
            "files": {name: file_sha256(self.temporary / name) for name in names},
        }
        secret = sealing_key()
        sealed = {**description, "seal": None if secret is None else _seal(description, secret)}
        write_json(self.temporary / DESCRIPTION_FILE, sealed)
        try:
            self._move([*names, DESCRIPTION_FILE])
            kept = _read_evaluation(self.folder, key, description)
        except OSError as error:
            raise DataError(f"{self.folder} cannot be written ({error}): check the disk and try again") from error
        if kept is None:
            raise DataError(f"{self.folder} cannot be read back after writing: check the disk and try again")
        return kept

    def _move(self, names: Sequence[str]) -> None:
        """Puts the files in their place, the description last: without it, or beside others, they are not trusted.

        Other files there are left alone.
        """
        self.folder.mkdir(exist_ok=True)
        for path in self.folder.iterdir():
            if _is_own(path.name) and not path.is_dir():
                path.unlink()
        for name in names:
            (self.temporary / name).replace(self.folder / name)

    def _write_histograms(self) -> None:
        block = self.histograms.take()
        for class_id in range(self.classes):
            self._write_array(f"histograms/{class_id}/{self.blocks}", block[:, class_id])
        self.blocks += 1

    def _write_array(self, name: str, array: npt.NDArray[Any]) -> None:
        with self.results.open(f"{name}.npy", "w", force_zip64=True) as member:
            np.lib.format.write_array(member, np.ascontiguousarray(array), allow_pickle=False)


def inputs_of(config: TrialConfig) -> str:
    """What becomes of an image before the model sees it: the size alone where it is stretched, as it always was."""
    size = format_size(config.image_size)
    return size if config.resize == STRETCH else f"{size} {config.resize}"


def key_of_weights(sha256: str, inputs: str, split: Split) -> dict[str, Any]:
    """What a kept evaluation must be of to be that of these weights, with such inputs, on this split."""
    return {
        "format": FORMAT,
        "sha256": sha256,
        "image_size": inputs,
        "split_hash": split.hash,
        "groups": hashlib.sha256(json.dumps(split.groups).encode()).hexdigest(),
        "score_cells": SCORE_CELLS,
        "score_levels": SCORE_LEVELS,
    }


def place_of(run_dir: Path, split: Split, trial_id: str) -> Path:
    """The folder of a trial's kept evaluation."""
    return within(evaluations(run_dir, split.name), trial_id)


def _mask_name(place: int) -> str:
    # Numbers, since an image id may hold what a file name must not.
    return f"{place:06d}.png"


def _is_own(name: str) -> bool:
    """Whether a file of an evaluation has this name."""
    return name in (RESULTS_FILE, DESCRIPTION_FILE) or re.fullmatch(r"\d{6,}\.png", name) is not None
