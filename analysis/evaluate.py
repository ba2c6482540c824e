"""A checkpoint on a split: per-image results, kept once and read many times. The one place that opens the test split.

Kept results stand in `RUN/report/evaluations/SPLIT/TRIAL_ID/`: sums an image (`results.npz`), the predicted masks at
their original sizes (`NNNNNN.png`, class ids), and `evaluation.json`, which says of which weights and which images they
are and holds the hash of every file. What does not match is computed again, never trusted.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor, nn

from sweep.manifest import OPENINGS_FILE, openings_of
from trainables.checkpoint import TrialRecord, file_sha256, load_model, load_trial
from trainables.config import format_size
from trainables.data.base import Mask, SegmentationData
from trainables.data.cache import class_pixels
from trainables.data.scan import scan
from trainables.data.splits import Split, load_split, load_test_split, split_hash
from trainables.errors import DataError, DivergedError
from trainables.metrics import SCORE_LEVELS, SCORE_LIMIT, Collector, PerImageConfusion, RegionConfidence, ScoreHistogram
from trainables.training import evaluate, evaluation_loader

FORMAT = 1
DESCRIPTION_FILE = "evaluation.json"
RESULTS_FILE = "results.npz"
MAJORITY = "majority"
"""Trial id and label of the floor: the commonest class of train, everywhere."""

LATENCY_WARM_UP = 2
LATENCY_REPEATS = (5, 30)
LATENCY_SECONDS = 1.0

Progress = Callable[[str, int, int], None]
"""Told what is evaluated, how many images are done, and of how many."""


@dataclass(frozen=True)
class Evaluation:
    """What one checkpoint did on every image of a split.

    Attributes:
        trial_id: Whose checkpoint; `majority` for the floor.
        split: `val` or `test`.
        image_ids: Length N, in the split's order.
        groups: Group of each image, None for an image of its own.
        confusions: int64 of shape (N, C, C): rows truth, columns prediction, void truth left out.
        confidence: Confidence of each predicted region, shape (N, C), NaN where the class is not predicted.
        latency_ms: Median time of a forward pass (`measure_latency`); NaN for the floor.
        folder: Where it is kept.
    """

    trial_id: str
    split: str
    image_ids: tuple[str, ...]
    groups: tuple[str | None, ...]
    confusions: npt.NDArray[np.int64]
    confidence: npt.NDArray[np.float64]
    latency_ms: float
    folder: Path

    @property
    def histograms(self) -> npt.NDArray[np.int32]:
        """Score histograms of shape (N, C, 2, SCORE_LEVELS); read at each use, for they are large."""
        with np.load(self.folder / RESULTS_FILE, allow_pickle=False) as arrays:
            return np.asarray(arrays["histograms"], dtype=np.int32)

    def prediction_path(self, image_id: str) -> Path:
        """The PNG of a predicted mask.

        Raises:
            KeyError: If the image is not in the split.
        """
        if image_id not in self.image_ids:
            raise KeyError(image_id)
        return self.folder / _mask_name(self.image_ids.index(image_id))

    def prediction(self, image_id: str) -> Mask:
        """Predicted class ids at the mask's original size, uint8 of shape (H, W)."""
        with Image.open(self.prediction_path(image_id)) as image:
            return np.asarray(image, dtype=np.uint8)


def load_run_split(run_dir: Path, name: str) -> Split:
    """The frozen split `val`, `train` or `test` of a run.

    Knowing which images are test images opens nothing; evaluating a checkpoint on them does (`evaluate_checkpoints`).
    """
    return load_test_split(run_dir) if name == "test" else load_split(run_dir, name)


def evaluate_checkpoints(
    run_dir: Path,
    folders: Mapping[str, Path],
    data: SegmentationData,
    split: Split,
    *,
    device: str = "cpu",
    workers: int = 0,
    progress: Progress | None = None,
) -> dict[str, Evaluation]:
    """Evaluates the checkpoints of labels on a split, each trial once; what is kept and valid is only read.

    If the split is test and a checkpoint among them was never evaluated on it, that is an opening, and it is written
    down before the first image is looked at.

    Args:
        run_dir: The run.
        folders: `best/LABEL` folder of each label.
        data: The data set.
        split: Where to evaluate.
        device: `cpu` or `cuda`.
        workers: Loader processes.
        progress: Told how far it is.

    Returns:
        Evaluation of each trial id.

    Raises:
        CheckpointError: If a checkpoint is missing or damaged.
        DataError: If the data set's files are no longer those of the split, or its classes not those of the model.
        DivergedError: If a model's outputs are not finite.
    """
    records = {label: load_trial(folder) for label, folder in folders.items()}
    kept: dict[str, Evaluation] = {}
    missing: dict[str, str] = {}
    for label, record in records.items():
        if record.trial_id in kept or record.trial_id in missing:
            continue
        evaluation = load_evaluation(_place(run_dir, split, record.trial_id), _key_of(record, split))
        if evaluation is None:
            missing[record.trial_id] = label
        else:
            kept[record.trial_id] = evaluation
    if missing:
        _check_files(data, split)
        models = {trial_id: load_model(folders[label]) for trial_id, label in missing.items()}
        for trial_id, label in missing.items():
            _check_classes(folders[label], models[trial_id][1], data)
        if split.name == "test":
            asked = {label: record for label, record in records.items() if record.trial_id in missing}
            record_opening(run_dir, split, asked)
        for trial_id, (model, record) in models.items():
            kept[trial_id] = _evaluate_model(
                model, record, data, split, _place(run_dir, split, trial_id), device, workers, progress
            )
    return {trial_id: kept[trial_id] for trial_id in dict.fromkeys(record.trial_id for record in records.values())}


def evaluate_majority(
    run_dir: Path, data: SegmentationData, split: Split, train_ids: Sequence[str], *, progress: Progress | None = None
) -> Evaluation:
    """Evaluates the floor: every pixel predicted as the commonest class of train, scores as the classes' shares there.

    It has no parameters to choose by, so evaluating it on test is no opening.
    """
    counts = class_pixels(data, train_ids)
    digest = hashlib.sha256(json.dumps(counts.tolist()).encode()).hexdigest()
    key = _key(digest, "constant", split)
    folder = _place(run_dir, split, MAJORITY)
    kept = load_evaluation(folder, key)
    if kept is not None:
        return kept
    _check_files(data, split)
    scores = torch.from_numpy(np.log(np.maximum(counts, 1) / counts.sum())).float()
    winner = int(counts.argmax())
    with _NewEvaluation(folder, len(data.classes), MAJORITY, split, progress) as new:
        for image_id in split.ids:
            target = torch.from_numpy(data.mask(image_id).astype(np.int64))
            new.process(
                image_id, scores[:, None, None].expand(-1, *target.shape), torch.full_like(target, winner), target
            )
        return new.keep(key, {"ms": None})


def record_opening(run_dir: Path, split: Split, records: Mapping[str, TrialRecord]) -> bool:
    """Writes an opening of the test split down, unless all these weights have been evaluated on it before.

    Args:
        run_dir: The run; the list of openings stands beside it and is shared by all runs there.
        split: The test split.
        records: The checkpoints to be evaluated, by label.

    Returns:
        Whether it is an opening.
    """
    path = run_dir.resolve().parent / OPENINGS_FILE
    with path.open("a+b") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        stream.seek(0)
        content = stream.read()
        seen = {
            checkpoint.get("sha256")
            for opening in openings_of(content, split.hash)
            for checkpoint in opening.get("checkpoints", [])
        }
        if all(record.sha256 in seen for record in records.values()):
            return False
        line = {
            "time": datetime.now(UTC).isoformat(timespec="seconds"),
            "run": run_dir.resolve().name,
            "split_hash": split.hash,
            "checkpoints": [
                {"label": label, "trial_id": record.trial_id, "sha256": record.sha256}
                for label, record in records.items()
            ],
            "command": sys.argv,
        }
        # A line that a crash cut short must not swallow this one.
        start = b"" if not content or content.endswith(b"\n") else b"\n"
        stream.write(start + json.dumps(line).encode() + b"\n")
        stream.flush()
        os.fsync(stream.fileno())
    return True


def load_evaluation(folder: Path, key: Mapping[str, Any]) -> Evaluation | None:
    """Reads a kept evaluation; None if there is none, or it is torn, altered, or of other weights or images.

    Args:
        folder: `RUN/report/evaluations/SPLIT/TRIAL_ID`.
        key: What it must be of: format, weights, input size, split.
    """
    try:
        description = json.loads((folder / DESCRIPTION_FILE).read_bytes())
        if description["key"] != dict(key):
            return None
        names = [RESULTS_FILE, *(_mask_name(place) for place in range(len(description["image_ids"])))]
        if list(description["files"]) != names or any(
            file_sha256(folder / name) != digest for name, digest in description["files"].items()
        ):
            return None
        with np.load(folder / RESULTS_FILE, allow_pickle=False) as arrays:
            confusions, confidence = arrays["confusions"], arrays["confidence"]
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
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def measure_latency(model: nn.Module, size: tuple[int, int], *, device: str = "cpu") -> float:
    """Median time of a forward pass in milliseconds.

    Protocol: one image of random numbers at the model's input size, float32, already on the device; one thread on the
    CPU; 2 passes to warm up; then at least 5 and at most 30 timed passes, until a second is over. On a GPU each pass
    is waited for.

    Args:
        model: Evaluated in evaluation mode.
        size: Height and width of the input.
        device: `cpu` or `cuda`; where the model is.
    """
    threads = torch.get_num_threads()
    image = torch.randn(1, 3, *size, generator=torch.Generator().manual_seed(0)).to(device)
    wait: Callable[[], None] = torch.cuda.synchronize if device.startswith("cuda") else (lambda: None)
    seconds: list[float] = []
    model.eval()
    torch.set_num_threads(1)
    try:
        with torch.inference_mode():
            for _ in range(LATENCY_WARM_UP):
                model(image)
            least, most = LATENCY_REPEATS
            while len(seconds) < least or (len(seconds) < most and sum(seconds) < LATENCY_SECONDS):
                wait()
                start = time.perf_counter()
                model(image)
                wait()
                seconds.append(time.perf_counter() - start)
    finally:
        torch.set_num_threads(threads)
    return statistics.median(seconds) * 1000


class _NewEvaluation:
    """An evaluation in the making: collects into a folder beside its place, which appears by one rename."""

    def __init__(self, folder: Path, classes: int, trial_id: str, split: Split, progress: Progress | None) -> None:
        self.folder = folder
        self.temporary = folder.with_name(f".{folder.name}.{os.getpid()}.tmp")
        self.trial_id = trial_id
        self.split = split
        self.progress = progress
        self.confusions = PerImageConfusion(classes)
        self.histograms = ScoreHistogram(classes)
        self.confidence = RegionConfidence(classes)

    def __enter__(self) -> _NewEvaluation:
        shutil.rmtree(self.temporary, ignore_errors=True)
        self.temporary.mkdir(parents=True)
        return self

    def __exit__(self, *_: object) -> None:
        shutil.rmtree(self.temporary, ignore_errors=True)

    def process(self, image_id: str, logits: Tensor, prediction: Tensor, target: Tensor) -> None:
        place = len(self.confusions.image_ids)
        collectors: tuple[Collector, ...] = (self.confusions, self.histograms, self.confidence)
        for collector in collectors:
            collector.process(image_id, logits, prediction, target)
        mask = prediction.to(torch.uint8).cpu().numpy()
        Image.fromarray(mask).save(self.temporary / _mask_name(place), compress_level=3)
        if self.progress:
            self.progress(self.trial_id, place + 1, len(self.split.ids))

    def keep(self, key: Mapping[str, Any], latency: Mapping[str, Any]) -> Evaluation:
        if tuple(self.confusions.image_ids) != self.split.ids:
            raise RuntimeError("the loader did not give the images of the split in their order")
        np.savez_compressed(
            self.temporary / RESULTS_FILE,
            confusions=self.confusions.value(),
            histograms=self.histograms.value(),
            confidence=self.confidence.value(),
        )
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
        (self.temporary / DESCRIPTION_FILE).write_text(json.dumps(description, indent=1) + "\n", encoding="utf-8")
        shutil.rmtree(self.folder, ignore_errors=True)
        self.temporary.rename(self.folder)
        kept = load_evaluation(self.folder, key)
        if kept is None:
            raise DataError(f"{self.folder} cannot be read back after writing: check the disk and try again")
        return kept


def _evaluate_model(
    model: nn.Module,
    record: TrialRecord,
    data: SegmentationData,
    split: Split,
    folder: Path,
    device: str,
    workers: int,
    progress: Progress | None,
) -> Evaluation:
    size = record.config.image_size
    model = model.to(device)
    loader = evaluation_loader(
        data,
        split.ids,
        size=size,
        batch_size=record.config.batch_size,
        normalisation=record.normalisation,
        workers=workers,
    )
    with _NewEvaluation(folder, len(data.classes), record.trial_id, split, progress) as new:
        try:
            evaluate(model, loader, [new], device=device)
        except DivergedError as error:
            raise DivergedError(f"trial {record.trial_id} cannot be evaluated on {split.name}: {error}") from error
        latency = {
            "ms": measure_latency(model, size, device=device),
            "device": torch.cuda.get_device_name() if device.startswith("cuda") else "cpu",
            "input": format_size(size),
        }
        return new.keep(_key_of(record, split), latency)


def _check_files(data: SegmentationData, split: Split) -> None:
    records = scan(data, split.ids)
    missing = [i for i, found in records.items() if not (found.image.sha256 and found.mask.sha256)]
    if not missing:
        hashes = {i: (found.image.sha256, found.mask.sha256) for i, found in records.items()}
        if split_hash(split.ids, hashes) == split.hash:
            return
    named = f": {', '.join(missing[:5])}{' ...' if len(missing) > 5 else ''} cannot be read" if missing else ""
    raise DataError(
        f"the files under {data.root} are not those of the run's {split.name} split any more{named}\n"
        "restore them as they were during the sweep, or start a new sweep on the data as it is"
    )


def _check_classes(folder: Path, record: TrialRecord, data: SegmentationData) -> None:
    trained, present = [c.name for c in record.classes], [c.name for c in data.classes]
    if trained != present:
        raise DataError(
            f"{folder} was trained on the classes {', '.join(trained)}, but {data.name} under {data.root} has "
            f"{', '.join(present)}: give the data root that the sweep used"
        )


def _key_of(record: TrialRecord, split: Split) -> dict[str, Any]:
    return _key(record.sha256, format_size(record.config.image_size), split)


def _key(sha256: str, image_size: str, split: Split) -> dict[str, Any]:
    return {
        "format": FORMAT,
        "sha256": sha256,
        "image_size": image_size,
        "split_hash": split.hash,
        "score_levels": SCORE_LEVELS,
        "score_limit": SCORE_LIMIT,
    }


def _place(run_dir: Path, split: Split, trial_id: str) -> Path:
    return run_dir / "report" / "evaluations" / split.name / trial_id


def _mask_name(place: int) -> str:
    # Numbers, since an image id may hold what a file name must not.
    return f"{place:06d}.png"
