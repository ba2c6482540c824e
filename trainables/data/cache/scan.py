"""What is in the files of a data set, found out once: hashes, sizes, pixels of each stored id.

Splits, checks and class counts all ask this; the answers are kept in the cache folder. As long as a file's path, size
and modification time stay the same, nothing is read; files that were moved, copied or touched are read and hashed, and
decoded only where no file of their content was decoded before.
"""

from __future__ import annotations

import hashlib
import math
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from trainables.data.base import Image, SegmentationData
from trainables.data.near_duplicates import thumbnail
from trainables.data.reading.memory import recall, remember
from trainables.data.reading.read import exif_orientation, stored_size
from trainables.data.reading.stored import count_stored
from trainables.errors import DataError
from trainables.places import OnProgress, cache_root, decoding_threads

Array = TypeVar("Array", bound=npt.NDArray[Any])

_KIND = "images"
_FORMAT = 4


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
    """An image, its mask, and what they show."""

    image: FileRecord
    mask: FileRecord
    pixels: dict[int, int] = field(default_factory=dict)
    """Pixels of each value stored in the mask (`SegmentationData.stored_mask`)."""
    content: str = ""
    """SHA-256 of the image's size and decoded pixels: equal for equal pictures in different files."""
    orientation: int = 1
    """How the camera held the image (`exif_orientation`)."""
    thumbnail: str = ""
    """The picture in small (`trainables.data.near_duplicates`); empty if it cannot be read."""
    moments: tuple[tuple[int, int, int], ...] = ()
    """Of each channel (`band_moments`), where the data set says which bands they are."""


def image_sizes(data: SegmentationData, ids: Sequence[str]) -> list[tuple[int, int]]:
    """Height and width of each image; (1, 1) of one that cannot be read: that is told when it is asked for."""
    records = scan(data, ids)
    return [records[image_id].image.size or (1, 1) for image_id in ids]


def scan(
    data: SegmentationData, ids: Iterable[str] | None = None, *, progress: OnProgress | None = None
) -> dict[str, ImageRecord]:
    """Reads every image and mask once, in parallel, and remembers the outcome by place and by content.

    Args:
        data: The data set.
        ids: Which images; all by default.
        progress: Called with how far it is.

    Returns:
        One record per image id, in the order asked for.
    """
    wanted = list(dict.fromkeys(data.ids() if ids is None else ids))
    known = recall(_memory(data), _KIND, version=_FORMAT)
    keys = {image_id: _key(data, image_id) for image_id in wanted}
    stale = [i for i in wanted if (before := known.get(i, {})).get("key") != keys[i] or before["how"] != _how(data, i)]
    seen = _by_content(data) if stale else {}
    done, lock = len(wanted) - len(stale), threading.Lock()

    def read(image_id: str) -> ImageRecord:
        nonlocal done
        record = _read(data, image_id, seen)
        with lock:
            done += 1
            if progress:
                progress(done, len(wanted))
        return record

    if progress:
        progress(done, len(wanted))
    with ThreadPoolExecutor(max_workers=decoding_threads(_largest(data, stale))) as pool:
        fresh = dict(zip(stale, pool.map(read, stale), strict=True))
    if fresh:
        entries = {i: {"key": keys[i], "how": _how(data, i), **asdict(record)} for i, record in fresh.items()}
        remember(_memory(data), _KIND, {**known, **entries}, version=_FORMAT)
    records = {i: fresh[i] if i in fresh else _from_json(known[i]) for i in wanted}
    return {i: replace(record, pixels=data.stored_counts(record.pixels)) for i, record in records.items()}


def _largest(data: SegmentationData, ids: Sequence[str]) -> int:
    """Bytes of the image with its mask, decoded, whose file is the largest; 0 where its head cannot be read."""
    files = {image_id: data.paths(image_id)[0] for image_id in ids}
    if not files:
        return 0
    largest = max(files, key=lambda image_id: _file_bytes(files[image_id]))
    return 4 * math.prod(stored_size(files[largest], data.page(largest)) or (0,))


def _file_bytes(path: Path) -> int:
    """0 where it is not there, or has no name that a file can have."""
    try:
        return path.stat().st_size
    except OSError:
        return 0


def pixels_by_class(data: SegmentationData, record: ImageRecord) -> npt.NDArray[np.int64]:
    """Pixels of each class in one mask, shape (C,); void and unknown values are left out."""
    counts = np.zeros(len(data.classes), np.int64)
    meaning = data.stored_values()
    for stored, pixels in record.pixels.items():
        class_id = meaning.get(stored, data.void)
        if class_id != data.void:
            counts[class_id] += pixels
    return counts


def band_moments(image: Image) -> tuple[tuple[int, int, int], ...]:
    """Pixels, sum of values and sum of squares of each channel of an image (H, W, C).

    Pixels that are 0 in every channel are left out: no data, or the black border of a scene.
    """
    seen = image[image.any(axis=-1)].astype(np.uint64)
    sums, squares = seen.sum(axis=0), (seen**2).sum(axis=0)
    return tuple((len(seen), int(total), int(square)) for total, square in zip(sums, squares, strict=True))


def band_statistics(data: SegmentationData, ids: Sequence[str]) -> tuple[tuple[float, float], ...]:
    """Mean and standard deviation of each channel over the pixels of images, on the scale 0 .. 1.

    Args:
        data: A data set that has `bands`.
        ids: The images, of which those that cannot be read are passed over: those that a model learns from.

    Returns:
        One pair for each channel; a deviation is at least one grey level, so that it can be divided by.
    """
    found = [record.moments for record in scan(data, ids).values() if record.moments]
    told = []
    for channel in range(data.channels):
        pixels, total, squares = (sum(moments[channel][place] for moments in found) for place in range(3))
        mean = total / max(1, pixels)
        # Whole numbers up to here, so that the difference of two large ones loses nothing.
        variance = (pixels * squares - total * total) / max(1, pixels * pixels)
        told.append((mean / 255, max(1.0, math.sqrt(variance)) / 255))
    return tuple(told)


def pixels_by_image(data: SegmentationData, ids: Sequence[str]) -> npt.NDArray[np.int64]:
    """Pixels of each class in each image, shape (N, C); images that cannot be read show none."""
    records = scan(data, ids)
    counts = np.zeros((len(ids), len(data.classes)), np.int64)
    for row, image_id in enumerate(ids):
        counts[row] = pixels_by_class(data, records[image_id])
    return counts


def _read(data: SegmentationData, image_id: str, seen: Mapping[tuple[str, ...], ImageRecord]) -> ImageRecord:
    image_path, mask_path = data.paths(image_id)
    image, mask = _hashed(image_path), _hashed(mask_path)
    before = seen.get((image.sha256, mask.sha256, _how(data, image_id)))
    if before is not None:
        return before
    image, shown = _decoded(image, image_path, lambda: data.image(image_id))
    mask, stored = _decoded(mask, mask_path, lambda: data.file_mask(image_id))
    return ImageRecord(
        image,
        mask,
        pixels={} if stored is None else count_stored(stored),
        content="" if shown is None else hashlib.sha256(repr(shown.shape).encode() + shown.tobytes()).hexdigest(),
        orientation=exif_orientation(image_path) if image.exists else 1,
        thumbnail="" if shown is None else thumbnail(shown, data.bands),
        moments=() if shown is None or data.bands is None else band_moments(shown),
    )


def _hashed(path: Path) -> FileRecord:
    try:
        if not path.is_file():
            return FileRecord()
        return FileRecord(exists=True, sha256=hashlib.sha256(path.read_bytes()).hexdigest())
    except OSError as error:
        return FileRecord(exists=True, fault=str(error))


def _decoded(file: FileRecord, path: Path, decode: Callable[[], Array]) -> tuple[FileRecord, Array | None]:
    if not file.sha256:
        return file, None
    try:
        array = decode()
    except DataError as error:
        return replace(file, fault=str(error).removeprefix(f"{path}: ")), None
    return replace(file, size=(array.shape[0], array.shape[1])), array


def _key(data: SegmentationData, image_id: str) -> list[list[Any]]:
    key = []
    for path in data.paths(image_id):
        try:
            status = path.stat()
            key.append([str(path), status.st_size, status.st_mtime_ns])
        except OSError:
            key.append([str(path), -1, -1])
    return key


def _how(data: SegmentationData, image_id: str) -> str:
    """What decides, besides the bytes of the two files, what decoding them gives."""
    return f"{data.page(image_id)} {data.decoding()}"


def _memory(data: SegmentationData) -> Path:
    place = hashlib.sha256(f"{data.name} {data.root.resolve()}".encode()).hexdigest()[:16]
    return cache_root() / "scans" / f"{data.name}-{place}.json"


def _by_content(data: SegmentationData) -> dict[tuple[str, ...], ImageRecord]:
    """The records of whole files, by the hashes of image and mask, from every root that a data set of this name had."""
    memories = _memory(data).parent.glob(f"{data.name}-{16 * '?'}.json")
    entries = (entry for memory in memories for entry in recall(memory, _KIND, version=_FORMAT).values())
    records = ((_from_json(entry), entry["how"]) for entry in entries)
    return {(r.image.sha256, r.mask.sha256, how): r for r, how in records if r.image.size and r.mask.size}


def _from_json(entry: dict[str, Any]) -> ImageRecord:
    def file_record(fields: dict[str, Any]) -> FileRecord:
        size = fields["size"]
        return FileRecord(**{**fields, "size": (size[0], size[1]) if size else None})

    pixels = {int(stored): count for stored, count in entry["pixels"].items()}
    image, mask = file_record(entry["image"]), file_record(entry["mask"])
    moments = tuple((count, total, squares) for count, total, squares in entry.get("moments", ()))
    return ImageRecord(image, mask, pixels, entry["content"], entry["orientation"], entry["thumbnail"], moments)
