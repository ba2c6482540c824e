"""PASCAL VOC 2012 segmentation in torchvision's layout."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from trainables.data.base import DATASETS, VOID, ClassInfo, Splits, recogniser
from trainables.data.reading.files import FileData, read_list
from trainables.data.reading.published import Published
from trainables.data.splits.stratified import FRACTIONS, VAL_SHARE, draw, how_drawn
from trainables.errors import DataError

NAMES = (
    "background", "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow",
    "diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor",
)  # fmt: skip


def palette_color(index: int) -> tuple[int, int, int]:
    """The RGB colour of a class in VOC's palette: bits 0, 3, 6 of the id go to red, 1, 4, 7 to green, 2, 5 to blue.

    Source: `VOClabelcolormap.m` of the VOC development kit.

    Example:
        >>> palette_color(15), palette_color(255)
        ((192, 128, 128), (224, 224, 192))
    """
    channels = [0, 0, 0]
    for bit in range(8):
        for channel in range(3):
            channels[channel] |= ((index >> (3 * bit + channel)) & 1) << (7 - bit)
    return channels[0], channels[1], channels[2]


class Voc2012(FileData):
    """The images listed in `ImageSets/Segmentation`, 20 classes and background.

    Official val is the test split, because official test has no public masks; val is drawn from official train. Where
    only `train.txt` is there, all three are drawn from it.
    """

    name = "voc2012"
    classes = tuple(ClassInfo(name, palette_color(index)) for index, name in enumerate(NAMES))
    void_colors = (palette_color(VOID),)
    default_image_size = (384, 384)

    def __init__(self, root: Path) -> None:
        self.root = root
        self._train = read_list(root / "ImageSets" / "Segmentation" / "train.txt")
        val = root / "ImageSets" / "Segmentation" / "val.txt"
        self._val = read_list(val) if val.is_file() else ()
        shared = sorted(set(self._train) & set(self._val))
        if shared:
            raise DataError(f"{val.parent}: ids both in train.txt and val.txt: {', '.join(shared)}; keep each in one")

    def ids(self) -> Sequence[str]:
        """The listed ids, sorted."""
        return sorted({*self._train, *self._val})

    def paths(self, image_id: str) -> tuple[Path, Path]:
        """`JPEGImages/ID.jpg` and `SegmentationClass/ID.png`."""
        return self.root / "JPEGImages" / f"{image_id}.jpg", self.root / "SegmentationClass" / f"{image_id}.png"

    def splits(self, *, seed: int = 0) -> Splits:
        """Official val as test and val drawn from train; or all three drawn from train."""
        train = sorted(self._train)
        if self._val:
            kept, val = draw(self, train, (1 - VAL_SHARE, VAL_SHARE), seed=seed)
            return Splits(
                kept,
                val,
                tuple(sorted(self._val)),
                origin=f"test is the official val of VOC 2012; val is {VAL_SHARE:.0%} of official train, "
                f"{how_drawn(seed)}",
            )
        kept, val, test = draw(self, train, FRACTIONS, seed=seed)
        return Splits(
            kept,
            val,
            test,
            origin=f"drawn 60/20/20 from the {len(train)} ids of official train, {how_drawn(seed)}",
            warnings=(
                "the official val list (val.txt) is not there: test was drawn from official train, so its numbers "
                "do not compare with published ones",
            ),
        )


def _fetch(into: str) -> None:
    # Imported here: torchvision takes seconds to load and is needed by no one else in this package.
    from torchvision.datasets import VOCSegmentation

    VOCSegmentation(into, year="2012", image_set="train", download=True)


_PUBLISHED = Published(
    "voc2012",
    "VOC 2012",
    folder="VOCdevkit/VOC2012",
    holds="{JPEGImages,SegmentationClass,ImageSets/Segmentation}",
    listed="ImageSets/Segmentation/train.txt",
    ids=r"20(0[7-9]|1[0-2])_\d{6}",
    files=("JPEGImages/{}.jpg", "SegmentationClass/{}.png"),
    fetch=_fetch,
    by_hand="VOCtrainval_11-May-2012.tar yourself and unpack it there",
)


recogniser("voc2012")(_PUBLISHED.recognises)


@DATASETS.register("voc2012")
def voc2012(*, root: Path | None = None, download: bool = False) -> Voc2012:
    """PASCAL VOC 2012.

    Args:
        root: `VOC2012` itself, `VOCdevkit`, or the folder that holds it.
        download: Fetch it into `root` with torchvision's own downloader where it is not there yet (2 GB).

    Raises:
        DataError: If it is not there, or cannot be downloaded.
    """
    return Voc2012(_PUBLISHED.locate(root, download=download))
