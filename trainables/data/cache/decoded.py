"""Images and masks decoded once per node: every trial and every process of it maps the same files.

What is kept is found by content: the hashes of the image file and of the mask file, what decides how they are decoded,
and the sizes. A changed file is decoded again, a data set that was renamed or moved is not, and what two splits, two
image sizes or two sweeps have in common is kept once.
"""

from __future__ import annotations

import hashlib
import json
import logging
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

import cv2
import numpy as np
import numpy.typing as npt
import PIL

from trainables.data.base import Image, Mask, SegmentationData
from trainables.data.cache.packs import Bytes, PackStore, fitting_prefix
from trainables.data.cache.scan import pixels_by_class, scan
from trainables.data.resizing import Size, content_size, fill_image, resize_image, resize_mask
from trainables.data.void import MaskType, mask_type
from trainables.errors import DataError
from trainables.options import STRETCH, TILE, way_of
from trainables.places import OnProgress, cache_root

DETAIL = 2
"""Training images are kept at up to this multiple of the training size, so that a zoom finds detail to show."""

Use = Literal["train", "evaluation"]
"""`train_arrays`, or `eval_arrays` and `whole_arrays`."""

_FORMAT = 1
"""Raise it with every change that makes decoding or resizing give different bytes."""

_log = logging.getLogger("segsweep.cache")


class _Entry(NamedTuple):
    """An image and its mask as one use wants them; their bytes follow each other."""

    use: Use
    image_id: str
    channels: int
    image_size: Size
    mask_size: Size
    mask_type: MaskType
    hashes: tuple[str, str]
    """SHA-256 of the image file and of the mask file."""
    key: str

    @property
    def bytes(self) -> int:
        return self.channels * math.prod(self.image_size) + self.mask_type.itemsize * math.prod(self.mask_size)

    def split(self, flat: Bytes) -> tuple[Image, Mask]:
        pixels = self.channels * math.prod(self.image_size)
        mask = flat[pixels:].view(self.mask_type).reshape(self.mask_size)
        return flat[:pixels].reshape(*self.image_size, self.channels), np.require(mask, requirements="A")


@dataclass(frozen=True)
class CachePlan:
    """What a decoded cache would hold, known before anything is decoded."""

    images: int
    """Images asked for, those wanted in two ways counted twice."""
    needed_bytes: int
    """Of all these images."""
    limit_bytes: int
    cached_images: int
    """How many of the images, in their order, fit into the limit."""
    cached_bytes: int
    missing_bytes: int
    """The part of `cached_bytes` that is not on disk yet."""

    def __str__(self) -> str:
        if self.limit_bytes == 0:
            return f"decoded cache: off; the {self.images} images are decoded at each use"
        text = f"decoded cache: {self.images} images, {_megabytes(self.needed_bytes)}"
        if self.cached_images < self.images:
            text += (
                f"; the limit of {_megabytes(self.limit_bytes)} holds the first {self.cached_images}, the others are "
                f"decoded at each use (--cache-limit {math.ceil(self.needed_bytes / 2**30)}G would hold all)"
            )
        return text if self.missing_bytes else f"{text}; nothing to build"


class DecodedCache:
    """A data set's arrays for one training size, mapped from files that all trials and processes of a node share.

    `build` makes the files, or finds them; without it, and for images beyond the limit, each use decodes. The arrays
    are the same either way.

    Args:
        data: The data set.
        size: Height and width that images are trained at.
        resize: How they come to it, one of `RESIZES`.
        limit_bytes: Upper bound of the cache folder, in bytes. Images are kept in the order given until it is full;
            unused packs of other data or sizes are evicted, least recently used first. 0 keeps nothing.
        folder: Where the files are; `decoded` in the cache folder by default.
    """

    def __init__(
        self,
        data: SegmentationData,
        size: Size,
        *,
        limit_bytes: int,
        resize: str = STRETCH,
        folder: Path | None = None,
    ) -> None:
        self.data = data
        self.size = (int(size[0]), int(size[1]))
        self.resize = resize
        self.limit_bytes = limit_bytes
        self._store = PackStore(folder or cache_root() / "decoded")
        self._entries: dict[tuple[Use, str], _Entry] = {}

    def plan(self, train: Sequence[str] = (), evaluation: Sequence[str] = ()) -> CachePlan:
        """What `build` would do for the same ids; decodes nothing that `scan` remembers.

        Args:
            train: Ids whose `train_arrays` are wanted.
            evaluation: Ids whose `eval_arrays` are wanted.
        """
        entries = list(self._wanted(train, evaluation))
        fitting = self._fitting(entries)
        sizes = {entry.key: entry.bytes for entry in fitting}
        present = self._store.present(sizes)
        return CachePlan(
            images=len(entries),
            needed_bytes=sum(entry.bytes for entry in entries),
            limit_bytes=self.limit_bytes,
            cached_images=len(fitting),
            cached_bytes=sum(entry.bytes for entry in fitting),
            missing_bytes=sum(size for key, size in sizes.items() if key not in present),
        )

    def build(
        self, train: Sequence[str] = (), evaluation: Sequence[str] = (), *, progress: OnProgress | None = None
    ) -> None:
        """Decodes in parallel what no pack holds yet and maps it; quick if nothing is missing.

        Of several processes one builds, the others wait and use what it made; if it is killed, the next starts over. A
        folder that cannot be written costs a warning: images are then decoded at each use.

        Args:
            train: Ids whose `train_arrays` are wanted.
            evaluation: Ids whose `eval_arrays` are wanted.
            progress: Called with how many images are done.
        """
        fitting = self._fitting(list(self._wanted(train, evaluation)))
        self._entries = {(entry.use, entry.image_id): entry for entry in fitting}
        by_key = {entry.key: entry for entry in fitting}
        sizes = {key: entry.bytes for key, entry in by_key.items()}
        try:
            self._store.fill(
                sizes, lambda key: self._made(by_key[key]), limit_bytes=self.limit_bytes, progress=progress
            )
        except OSError as error:
            _log.warning(
                "decoded cache in %s cannot be written (%s): images are decoded at each use, which is slower; free "
                "some space there, or set SEGSWEEP_CACHE to a folder that can be written",
                self._store.folder,
                error,
            )

    def train_arrays(self, image_id: str) -> tuple[Image, Mask]:
        """Image (h, w, C) and mask (h, w) to cut from: no side longer than `DETAIL` times that of its `content_size`.

        Smaller ones keep their original size; with `tile` all have their `content_size`. Read-only, because they may be
        the mapped file itself.

        Raises:
            DataError: If the files must be decoded and cannot be.
        """
        image, mask = self._arrays("train", image_id)
        image.flags.writeable = mask.flags.writeable = False
        return image, mask

    def eval_arrays(self, image_id: str) -> tuple[Image, Mask]:
        """Image (H, W, C) at the training size and mask (h, w) at its original size; copies that the caller may change.

        With `letterbox` the image takes the upper left part of it (`content_size`); with `crop` and `tile` it is whole,
        and may be larger.

        Raises:
            DataError: If the files must be decoded and cannot be.
        """
        image, mask = self._arrays("evaluation", image_id)
        image = fill_image(image, self.size)
        return np.require(image, requirements=["C", "W"]), np.require(mask, requirements=["C", "W"])

    def whole_arrays(self, image_id: str) -> tuple[Image, Mask]:
        """Image (h, w, C) at its `content_size`, read-only, maybe the mapped file itself; its mask as a copy.

        Raises:
            DataError: If the files must be decoded and cannot be.
        """
        image, mask = self._arrays("evaluation", image_id)
        image.flags.writeable = False
        return image, np.require(mask, requirements=["C", "W"])

    def content(self, use: Use, image_id: str) -> str:
        """A hash of what decides an image's arrays for a use, their sizes included; empty where they are not kept."""
        entry = self._entries.get((use, image_id))
        return entry.key if entry and self._store.holds(entry.key) else ""

    def _arrays(self, use: Use, image_id: str) -> tuple[Image, Mask]:
        entry = self._entries.get((use, image_id))
        flat = self._store.read(entry.key) if entry else None
        return entry.split(flat) if entry and flat is not None else self._decoded(use, image_id)

    def _decoded(self, use: Use, image_id: str) -> tuple[Image, Mask]:
        image, mask = self.data.image(image_id), self.data.mask(image_id)
        image_size, mask_size = self._sizes(use, (image.shape[0], image.shape[1]), (mask.shape[0], mask.shape[1]))
        return resize_image(image, image_size), resize_mask(mask, mask_size)

    def _made(self, entry: _Entry) -> Bytes | None:
        """The bytes of an entry; None if the files are not, or no longer, those that were scanned."""
        try:
            image, mask = self._decoded(entry.use, entry.image_id)
            hashes = tuple(hashlib.sha256(path.read_bytes()).hexdigest() for path in self.data.paths(entry.image_id))
        except (DataError, OSError):
            return None
        return np.concatenate([image.ravel(), mask.ravel().view(np.uint8)]) if hashes == entry.hashes else None

    def _wanted(self, train: Sequence[str], evaluation: Sequence[str]) -> Iterator[_Entry]:
        """Entries of the images that can be read, in order."""
        decoding, kind = _decoding(self.data), mask_type(len(self.data.classes))
        records = scan(self.data, [*train, *evaluation])
        uses: tuple[tuple[Use, Sequence[str]], ...] = (("train", train), ("evaluation", evaluation))
        for use, ids in uses:
            for image_id in ids:
                image, mask = records[image_id].image, records[image_id].mask
                if image.size and mask.size:
                    sizes = self._sizes(use, image.size, mask.size)
                    page = f" {page}" if (page := self.data.page(image_id)) else ""
                    what = f"{decoding} {image.sha256} {mask.sha256} {sizes}{page}"
                    key = hashlib.sha256(what.encode()).hexdigest()[:32]
                    yield _Entry(use, image_id, self.data.channels, *sizes, kind, (image.sha256, mask.sha256), key)

    def _fitting(self, entries: Sequence[_Entry]) -> Sequence[_Entry]:
        return entries[: fitting_prefix([entry.bytes for entry in entries], self.limit_bytes)]

    def _sizes(self, use: Use, image: Size, mask: Size) -> tuple[Size, Size]:
        """The sizes that a use keeps of an image and a mask of these original sizes."""
        content = content_size(image, self.size, self.resize)
        if use == "evaluation":
            return content, mask
        detail = 1 if way_of(self.resize) == TILE else DETAIL
        most = (detail * content[0], detail * content[1])
        return (min(image[0], most[0]), min(image[1], most[1])), (min(mask[0], most[0]), min(mask[1], most[1]))


class DataCaches:
    """Decoded images, kept between the trials of one process."""

    def __init__(self) -> None:
        self._caches: dict[tuple[int, Size, str], DecodedCache] = {}

    def get(self, data: SegmentationData, size: Size, *, limit_bytes: int, resize: str = STRETCH) -> DecodedCache:
        """The cache of a data set at a size; made when first asked for."""
        key = (id(data), size, resize)
        if key not in self._caches:
            self._caches.clear()  # one size at a time: a sweep rarely mixes them
            self._caches[key] = DecodedCache(data, size, limit_bytes=limit_bytes, resize=resize)
        return self._caches[key]


def _decoding(data: SegmentationData) -> str:
    """What decides, besides the bytes of the files, what decoding them gives."""
    values = sorted(data.stored_values().items())
    return json.dumps([_FORMAT, PIL.__version__, cv2.__version__, data.name, values, data.decoding()])


def _megabytes(count: int) -> str:
    return f"{count / 1e6:,.0f} MB"


def class_pixels(data: SegmentationData, ids: Sequence[str]) -> npt.NDArray[np.int64]:
    """Pixels of each class over masks at their original size, shape (C,); void is left out."""
    counts = np.zeros(len(data.classes), np.int64)
    for record in scan(data, ids).values():
        counts += pixels_by_class(data, record)
    return counts
