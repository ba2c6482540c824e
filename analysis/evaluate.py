"""A checkpoint on a split: per-image results, kept once and read many times. The one place that opens the test split.

Kept results stand in `RUN/report/evaluations/SPLIT/TRIAL_ID/`: sums an image (`results.npz`), the predicted masks at
their original sizes (`NNNNNN.png`, class ids), and `evaluation.json`, which says of which weights and which images they
are, holds the hash of every file, and is sealed with a key of this user on this machine. What does not match or was
sealed elsewhere is computed again, never trusted.
"""

from __future__ import annotations

import contextlib
import fcntl
import functools
import hashlib
import hmac
import json
import os
import re
import secrets
import shutil
import stat
import statistics
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
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
from trainables.checkpoint import TRIAL_FILE, TrialRecord, file_sha256, load_model, load_trial
from trainables.config import format_size
from trainables.data.base import Mask, SegmentationData
from trainables.data.cache.decoded import class_pixels
from trainables.data.cache.places import cache_root
from trainables.data.cache.scan import scan
from trainables.data.splits.frozen import Split, split_hash
from trainables.errors import DataError, DivergedError
from trainables.loaders import evaluation_loader
from trainables.metrics import SCORE_LEVELS, SCORE_LIMIT, Collector, PerImageConfusion, RegionConfidence, ScoreHistogram
from trainables.paths import within
from trainables.training import evaluate

FORMAT = 2
DESCRIPTION_FILE = "evaluation.json"
RESULTS_FILE = "results.npz"
KEY_FILE = "evaluations.key"
"""In the cache folder: what kept evaluations are sealed with. It never leaves this machine."""
KEY_BYTES = 32
HISTOGRAM_BYTES = 2**25
"""Score histograms that are held until they are written: 32 MiB."""
HISTOGRAM_COMPRESSION = 1
"""Level of zlib."""
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

    def histograms(self, class_id: int) -> npt.NDArray[np.int32]:
        """Score histograms of one class, shape (N, 2, SCORE_LEVELS); read at each use, for all of them are large."""
        with np.load(self.folder / RESULTS_FILE, allow_pickle=False) as arrays:
            names = [name for name in arrays.files if name.startswith(f"histograms/{class_id}/")]
            return np.concatenate([arrays[name] for name in names])

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
        """Predicted class ids at the mask's original size, uint8 of shape (H, W)."""
        with Image.open(self.prediction_path(image_id)) as image:
            return np.asarray(image, dtype=np.uint8)


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

    If the split is test and no line of the list tells that a checkpoint among them was evaluated on it, that is an
    opening, and it is written down before the first image is looked at.

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
    for label, record in records.items():
        if record.trial_id == MAJORITY:
            raise DataError(f"{folders[label] / TRIAL_FILE}: {MAJORITY} is no trial's id, it names the floor")
        _check_classes(folders[label], record, data)
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
    if split.name == "test":
        for label in missing.values():
            load_model(folders[label])  # what cannot be rebuilt is refused before anything is opened
        record_opening(run_dir, split, records)
    for trial_id, label in missing.items():
        place = _place(run_dir, split, trial_id)
        kept[trial_id] = _evaluate_model(folders[label], data, split, place, device, workers, progress)
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
    """Writes an opening of the test split down, unless the list tells already that these weights were evaluated on it.

    Args:
        run_dir: The run; the list of openings stands beside it and is shared by all runs there.
        split: The test split.
        records: The checkpoints to be evaluated, by label.

    Returns:
        Whether it is an opening.

    Raises:
        DataError: If it cannot be written down; then nothing may be evaluated.
    """
    path = within(run_dir.resolve().parent, OPENINGS_FILE)
    try:
        if path.is_file() and not _unlisted(path.read_bytes(), split, records):
            return False
        with path.open("a+b") as stream:
            fcntl.flock(stream, fcntl.LOCK_EX)
            stream.seek(0)
            content = stream.read()
            new = _unlisted(content, split, records)
            if not new:
                return False
            line = {
                "time": datetime.now(UTC).isoformat(timespec="seconds"),
                "run": run_dir.resolve().name,
                "split_hash": split.hash,
                "checkpoints": [
                    {"label": label, "trial_id": record.trial_id, "sha256": record.sha256}
                    for label, record in new.items()
                ],
                "command": sys.argv,
            }
            # A line that a crash cut short must not swallow this one.
            start = b"" if not content or content.endswith(b"\n") else b"\n"
            stream.write(start + json.dumps(line).encode() + b"\n")
            stream.flush()
            os.fsync(stream.fileno())
    except OSError as error:
        raise DataError(
            f"{path} cannot be written ({error}), so the test split was not opened: every opening is written down "
            "there; make the file and its folder writable"
        ) from error
    return True


def _unlisted(content: bytes, split: Split, records: Mapping[str, TrialRecord]) -> dict[str, TrialRecord]:
    """The records whose weights no line tells of as evaluated on the split."""
    listed = {
        checkpoint.get("sha256")
        for opening in openings_of(content, split.hash)
        for checkpoint in opening.get("checkpoints", [])
    }
    return {label: record for label, record in records.items() if record.sha256 not in listed}


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
    image = torch.randn(1, 3, *size, generator=torch.Generator().manual_seed(0)).to(device)
    wait: Callable[[], None] = torch.cuda.synchronize if device.startswith("cuda") else (lambda: None)
    seconds: list[float] = []
    model.eval()
    with _one_thread(), torch.inference_mode():
        for _ in range(LATENCY_WARM_UP):
            model(image)
        least, most = LATENCY_REPEATS
        while len(seconds) < least or (len(seconds) < most and sum(seconds) < LATENCY_SECONDS):
            wait()
            start = time.perf_counter()
            model(image)
            wait()
            seconds.append(time.perf_counter() - start)
    return statistics.median(seconds) * 1000


@contextlib.contextmanager
def _one_thread() -> Iterator[None]:
    """Torch works on the CPU with one thread, and afterwards with as many as before."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


class _NewEvaluation:
    """An evaluation in the making: collects into a folder beside its place and moves there when it is whole.

    Score histograms are written as they come, some images at a time, each class on its own: all of them are never in
    memory, neither here nor when they are read.
    """

    def __init__(self, folder: Path, classes: int, trial_id: str, split: Split, progress: Progress | None) -> None:
        self.folder = folder
        self.trial_id = trial_id
        self.split = split
        self.progress = progress
        self.classes = classes
        self.confusions = PerImageConfusion(classes)
        self.histograms = ScoreHistogram(classes)
        self.confidence = RegionConfidence(classes)
        self.blocks = 0

    def __enter__(self) -> _NewEvaluation:
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
        place = len(self.confusions.image_ids)
        collectors: tuple[Collector, ...] = (self.confusions, self.histograms, self.confidence)
        # One image is too little work for several threads: where the cores are busy they mostly wait for each other.
        with _one_thread():
            for collector in collectors:
                collector.process(image_id, logits, prediction, target)
        mask = prediction.to(torch.uint8).cpu().numpy()
        Image.fromarray(mask).save(self.temporary / _mask_name(place), compress_level=3)
        image_bytes = self.classes * 2 * SCORE_LEVELS * np.dtype(np.int32).itemsize
        if (place + 1) % max(1, HISTOGRAM_BYTES // image_bytes) == 0:
            self._write_histograms()
        if self.progress:
            self.progress(self.trial_id, place + 1, len(self.split.ids))

    def keep(self, key: Mapping[str, Any], latency: Mapping[str, Any]) -> Evaluation:
        if tuple(self.confusions.image_ids) != self.split.ids:
            raise RuntimeError("the loader did not give the images of the split in their order")
        self._write_histograms()
        self._write_array("confusions", self.confusions.value())
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
        (self.temporary / DESCRIPTION_FILE).write_text(json.dumps(sealed, indent=1) + "\n", encoding="utf-8")
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

        What else lies there is not ours, and stays.
        """
        self.folder.mkdir(exist_ok=True)
        for path in self.folder.iterdir():
            if _is_own(path.name) and not path.is_dir():
                path.unlink()
        for name in names:
            (self.temporary / name).replace(self.folder / name)

    def _write_histograms(self) -> None:
        block = self.histograms.value()
        self.histograms = ScoreHistogram(self.classes)
        for class_id in range(self.classes):
            self._write_array(f"histograms/{class_id}/{self.blocks}", block[:, class_id])
        self.blocks += 1

    def _write_array(self, name: str, array: npt.NDArray[Any]) -> None:
        with self.results.open(f"{name}.npy", "w", force_zip64=True) as member:
            np.lib.format.write_array(member, np.ascontiguousarray(array), allow_pickle=False)


def _evaluate_model(
    checkpoint: Path,
    data: SegmentationData,
    split: Split,
    folder: Path,
    device: str,
    workers: int,
    progress: Progress | None,
) -> Evaluation:
    # Loaded here, so that one model is in memory at a time.
    model, record = load_model(checkpoint)
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
        "groups": hashlib.sha256(json.dumps(split.groups).encode()).hexdigest(),
        "score_levels": SCORE_LEVELS,
        "score_limit": SCORE_LIMIT,
    }


def _place(run_dir: Path, split: Split, trial_id: str) -> Path:
    return within(run_dir, "report", "evaluations", split.name, trial_id)


def _mask_name(place: int) -> str:
    # Numbers, since an image id may hold what a file name must not.
    return f"{place:06d}.png"


def _is_own(name: str) -> bool:
    """Whether an evaluation's file is called so."""
    return name in (RESULTS_FILE, DESCRIPTION_FILE) or re.fullmatch(r"\d{6,}\.png", name) is not None
