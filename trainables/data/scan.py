"""What is in the files of a data set, found out once: hashes, sizes, pixels of each stored id.

Splits, checks and class counts all ask this; the answers are kept in the cache folder for as long as a file's path,
size and modification time stay the same.
"""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from trainables.data.base import VOID, SegmentationData
from trainables.data.places import cache_root, cores, write_atomically
from trainables.errors import DataError

Progress = Callable[[int, int], None]
"""Called with (done, total), from any thread, one call at a time."""

_FORMAT = 1


@dataclass(frozen=True)
class FileRecord:
    """One file: missing (all empty), damaged (`fault`), or whole."""

    exists: bool = False
    sha256: str = ""
    size: tuple[int, int] | None = None
    """Height and width in pixels."""
    fault: str = ""


@dataclass(frozen=True)
class ImageRecord:
    """An image, its mask, and the pixels of each id stored in the mask."""

    image: FileRecord
    mask: FileRecord
    pixels: dict[int, int] = field(default_factory=dict)


def scan(
    data: SegmentationData, ids: Iterable[str] | None = None, *, progress: Progress | None = None
) -> dict[str, ImageRecord]:
    """Reads every image and mask once, in parallel, and remembers the outcome.

    Args:
        data: The data set.
        ids: Which images; all by default.
        progress: Told how far it is.

    Returns:
        A record an image id, in the order asked for.
    """
    wanted = list(dict.fromkeys(data.ids() if ids is None else ids))
    known = _load(data)
    records: dict[str, ImageRecord] = {}
    keys = {image_id: _key(data, image_id) for image_id in wanted}
    stale = [image_id for image_id in wanted if known.get(image_id, {}).get("key") != keys[image_id]]
    done, lock = len(wanted) - len(stale), threading.Lock()

    def read(image_id: str) -> ImageRecord:
        nonlocal done
        record = _read(data, image_id)
        with lock:
            done += 1
            if progress:
                progress(done, len(wanted))
        return record

    if progress:
        progress(done, len(wanted))
    with ThreadPoolExecutor(max_workers=min(16, cores())) as pool:
        fresh = dict(zip(stale, pool.map(read, stale), strict=True))
    for image_id in wanted:
        records[image_id] = fresh[image_id] if image_id in fresh else _from_json(known[image_id])
    if fresh:
        entries = {i: {"key": keys[i], **asdict(record)} for i, record in fresh.items()}
        _save(data, {**known, **entries})
    return records


def pixels_by_class(data: SegmentationData, record: ImageRecord) -> npt.NDArray[np.int64]:
    """Pixels of each class in one mask, shape (C,); void and unknown ids are left out."""
    counts = np.zeros(len(data.classes), np.int64)
    meaning = data.stored_ids()
    for stored, pixels in record.pixels.items():
        class_id = meaning.get(stored, VOID)
        if class_id != VOID:
            counts[class_id] += pixels
    return counts


def class_presence(data: SegmentationData, ids: Sequence[str]) -> npt.NDArray[np.bool_]:
    """Which class occurs in which image, shape (N, C); images that cannot be read show none."""
    records = scan(data, ids)
    presence = np.zeros((len(ids), len(data.classes)), bool)
    for row, image_id in enumerate(ids):
        presence[row] = pixels_by_class(data, records[image_id]) > 0
    return presence


def _read(data: SegmentationData, image_id: str) -> ImageRecord:
    image_path, mask_path = data.paths(image_id)
    image, _ = _file(image_path, lambda: data.image(image_id))
    mask, stored = _file(mask_path, lambda: data.stored_mask(image_id))
    pixels: dict[int, int] = {}
    if stored is not None:
        counts = np.bincount(stored.ravel(), minlength=256)
        pixels = {int(value): int(counts[value]) for value in np.flatnonzero(counts)}
    return ImageRecord(image, mask, pixels)


def _file(path: Path, decode: Callable[[], npt.NDArray[np.uint8]]) -> tuple[FileRecord, npt.NDArray[np.uint8] | None]:
    if not path.is_file():
        return FileRecord(), None
    try:
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        return FileRecord(exists=True, fault=str(error)), None
    try:
        array = decode()
    except DataError as error:
        return FileRecord(exists=True, sha256=digest, fault=str(error).removeprefix(f"{path}: ")), None
    return FileRecord(exists=True, sha256=digest, size=(array.shape[0], array.shape[1])), array


def _key(data: SegmentationData, image_id: str) -> list[list[Any]]:
    key = []
    for path in data.paths(image_id):
        try:
            status = path.stat()
            key.append([str(path), status.st_size, status.st_mtime_ns])
        except OSError:
            key.append([str(path), -1, -1])
    return key


def _memory(data: SegmentationData) -> Path:
    place = hashlib.sha256(f"{data.name} {data.root.resolve()}".encode()).hexdigest()[:16]
    return cache_root() / "scans" / f"{data.name}-{place}.json"


def _load(data: SegmentationData) -> dict[str, Any]:
    try:
        content = json.loads(_memory(data).read_bytes())
    except (OSError, ValueError):
        return {}
    if not isinstance(content, dict) or content.get("format") != _FORMAT:
        return {}
    images = content.get("images")
    return images if isinstance(images, dict) else {}


def _save(data: SegmentationData, images: dict[str, Any]) -> None:
    try:
        write_atomically(_memory(data), json.dumps({"format": _FORMAT, "images": images}).encode())
    except OSError:
        # The memory only saves time: a home that cannot be written costs a second reading, not the sweep.
        return


def _from_json(entry: dict[str, Any]) -> ImageRecord:
    def file_record(fields: dict[str, Any]) -> FileRecord:
        size = fields["size"]
        return FileRecord(**{**fields, "size": (size[0], size[1]) if size else None})

    pixels = {int(stored): count for stored, count in entry["pixels"].items()}
    return ImageRecord(file_record(entry["image"]), file_record(entry["mask"]), pixels)
