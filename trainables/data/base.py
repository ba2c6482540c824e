"""What every data set gives: image ids, images, masks, classes, groups and splits."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

from trainables.data.bands import Bands, picture_of
from trainables.data.void import VOID as VOID
from trainables.data.void import void_id
from trainables.registry import Registry, table

Image = npt.NDArray[np.uint8]
Mask = npt.NDArray[np.uint8 | np.uint16]
StoredMask = Mask | npt.NDArray[np.int32]
Color = tuple[int, int, int]


@dataclass(frozen=True)
class ClassInfo:
    """A class as users see it: its name and its RGB colour. Its id is its place in `SegmentationData.classes`."""

    name: str
    color: Color


@dataclass(frozen=True)
class Splits:
    """Image ids of the three disjoint splits, and what a reader of the report must know about where they come from."""

    train: tuple[str, ...]
    val: tuple[str, ...]
    test: tuple[str, ...]
    origin: str
    """One sentence: official lists, or drawn how and with which seed."""
    warnings: tuple[str, ...] = field(default=())
    groups: Mapping[str, str] | None = field(default=None, hash=False)
    """The group of each image where groups were given together with the splits; None: those of the data set."""

    def group(self, data: SegmentationData, image_id: str) -> str | None:
        """The unit that stays in one split and that intervals are drawn over; None: the image on its own."""
        return data.group(image_id) if self.groups is None else self.groups.get(image_id)


@dataclass(frozen=True)
class Offender:
    """A file or an image that makes a data set unusable, or that a reader of the report must know of."""

    kind: str
    """What is wrong, in two or three words: "missing mask", "unreadable image"."""
    image_id: str
    path: Path
    detail: str = ""
    """The measured facts: sizes, ids with their pixel counts, the other file."""

    def __str__(self) -> str:
        facts = f": {self.detail}" if self.detail else ""
        return f"{self.kind}: {self.image_id} ({self.path}){facts}"


class SegmentationData(ABC):
    """A data set on disk: random access by image id, no state beyond paths and lists.

    Instances are cheap to build and to send to another process; decoding happens in `image` and `mask`.
    """

    name: str
    """Name in the registry."""
    root: Path
    """Where the files are."""
    classes: tuple[ClassInfo, ...]
    """Class `i` of every mask is `classes[i]`."""
    default_image_size: tuple[int, int]
    """Height and width in pixels that training resizes to by default."""
    image_bits: int | None = None
    """From how many bits images deeper than 8 are scaled (`read_image`); None where there are none."""
    bands: Bands | None = None
    """Which bands of its files the channels of images are; None: red, green and blue."""
    assumed_void: int | None = None
    """The stored id that counts as void by default only: the data set's own description does not say what it is."""

    @abstractmethod
    def ids(self) -> Sequence[str]:
        """All image ids, sorted."""

    @abstractmethod
    def paths(self, image_id: str) -> tuple[Path, Path]:
        """The files of an image and of its mask (for hashing and for messages)."""

    @abstractmethod
    def image(self, image_id: str) -> Image:
        """The RGB image, uint8 of shape (H, W, 3), or (H, W, C) where `bands` says so.

        Raises:
            DataError: If the file is missing, truncated or not an image.
        """

    @property
    def void(self) -> int:
        """The id in its masks of pixels that count in no loss and no metric."""
        return void_id(len(self.classes))

    @property
    def channels(self) -> int:
        """Of its images."""
        return 3 if self.bands is None else self.bands.channels

    def picture(self, image_id: str) -> Image:
        """The image as people see it, RGB, uint8 of shape (H, W, 3); see `picture_of`.

        Raises:
            DataError: As `image`.
        """
        return picture_of(self.image(image_id), self.bands)

    @abstractmethod
    def mask(self, image_id: str) -> Mask:
        """Class ids, `mask_type` of shape (H, W), 0 .. len(classes) - 1 or `void`.

        Raises:
            DataError: If the file is missing, truncated or not an image.
        """

    def stored_mask(self, image_id: str) -> StoredMask:
        """The values as the file stores them, before they become class ids; unlike `mask` it takes unknown ones.

        Raises:
            DataError: If the file is missing, truncated or not an image.
        """
        return self.mask(image_id)

    def file_mask(self, image_id: str) -> StoredMask:
        """The values in the mask file itself, whatever the description of the data set says of them.

        Raises:
            DataError: If the file is missing, truncated or not an image.
        """
        return self.stored_mask(image_id)

    def stored_counts(self, counts: Mapping[int, int]) -> dict[int, int]:
        """Pixels of each value of a `stored_mask`, from those of its `file_mask`."""
        return dict(counts)

    def stored_ids(self) -> Mapping[int, int]:
        """The class id (or `void`) that each id allowed in a mask file stands for."""
        return {**{index: index for index in range(len(self.classes))}, self.void: self.void}

    def stored_values(self) -> Mapping[int, int]:
        """The class id (or `void`) that each value allowed in `stored_mask` stands for."""
        return self.stored_ids()

    def unlabelled(self) -> Collection[str]:
        """Images that have no mask and are left out."""
        return ()

    def orphans(self) -> Sequence[Offender]:
        """Images without a mask and masks without an image beside the listed ids."""
        return ()

    def notes(self) -> Sequence[str]:
        """How the data set was read where that is not a matter of course; each is told in the check and the report."""
        return ()

    def decoding(self) -> str:
        """What decides for all images, besides the bytes of the files, which pixels decoding gives; empty: nothing."""
        return ""

    def orientation_settled(self, image_id: str) -> bool:
        """Whether it is known that a mask fits its image as it is read, although the image has an EXIF orientation."""
        return False

    def page(self, image_id: str) -> int:
        """Which page of its files an image and its mask are, from 0; other pages are other images."""
        return 0

    def group(self, image_id: str) -> str | None:
        """The unit that images of one origin share (a stretch of video, a patient); None where images are independent.

        Images of a group stay in one split, and intervals are drawn over groups.
        """
        return None

    @abstractmethod
    def splits(self, *, seed: int = 0) -> Splits:
        """The official splits where they exist, otherwise drawn; equal for equal files and seed."""


def file_ids(data: SegmentationData) -> list[int]:
    """The id in the data set's own mask files that stands for each class; the smallest one where there are several.

    The place of the class instead, where an id does not fit into a PNG of 16 bits.
    """
    found: dict[int, int] = {}
    for stored, class_id in sorted(data.stored_ids().items()):
        found.setdefault(class_id, stored)
    ids = [found[class_id] for class_id in range(len(data.classes))]
    return ids if min(ids) >= 0 and max(ids) <= 65535 else list(range(len(ids)))


DATASETS: Registry[Callable[..., SegmentationData]] = Registry("data set")
"""Factories `(*, root: Path | None = None, download: bool = False) -> SegmentationData`."""

Recogniser = Callable[[Path], bool]
RECOGNISERS: dict[str, Recogniser] = table()
"""Of the data sets that can be told by their folders: whether a data root holds one; see `recogniser`."""


def recogniser(name: str) -> Callable[[Recogniser], Recogniser]:
    """Registers how a data set is recognised, so that nobody reads it as a folder of unknown classes unknowingly.

    The function looks at names of folders and files, and at lists; it decodes nothing. A folder that it recognises is
    one that the factory takes as its root.

    Args:
        name: Of the data set, in `DATASETS`.
    """

    def decorate(recognises: Recogniser) -> Recogniser:
        RECOGNISERS[name] = recognises
        return recognises

    return decorate
