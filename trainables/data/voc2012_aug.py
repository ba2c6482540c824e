"""PASCAL VOC 2012 with the masks of the Semantic Boundaries Dataset (SBD), known as "train_aug"."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from trainables.data.base import DATASETS, RECOGNISERS, Splits, StoredMask, recogniser
from trainables.data.reading.files import read_list
from trainables.data.reading.names import expanded
from trainables.data.reading.published import downloading
from trainables.data.voc2012 import Voc2012, voc2012
from trainables.errors import DataError

_SBD_PLACES = ("", "sbd", "SBD", "benchmark_RELEASE/dataset", "VOCaug/dataset")
_SBD_LISTS = ("train.txt", "val.txt", "train_noval.txt")
_AUG_LISTS = ("train_aug.txt", "trainaug.txt", "aug.txt")
_AUG_MASKS = "SegmentationClassAug"
_FORMS = (
    "SBD as it is published (img/, cls/*.mat, train.txt, val.txt), in the data root or in a folder sbd of it, or "
    f"{_AUG_MASKS}/ beside SegmentationClass with {' or '.join(_AUG_LISTS)} in ImageSets/Segmentation"
)
_CURE = "give --data-root the folder that holds VOCdevkit and sbd, or add --download"


class Voc2012Aug(Voc2012):
    """VOC 2012 with more training images: those that only SBD has masks of.

    Val and test are those of `voc2012`, with VOC's own masks. SBD's lists overlap VOC's official val, which is test
    here: such ids are removed. An image with masks of both kinds keeps VOC's. SBD's masks have no void.

    Hariharan, Arbelaez, Bourdev, Maji and Malik, "Semantic Contours from Inverse Detectors", ICCV 2011.
    """

    name = "voc2012_aug"

    def __init__(self, root: Path, extra: Sequence[str], images: Path, masks: Path, suffix: str) -> None:
        super().__init__(root)
        if not self._val:
            raise DataError(
                f"{root}: ImageSets/Segmentation/val.txt is missing; voc2012_aug needs it, because SBD's lists hold "
                "images of VOC's val, which must not be trained on"
            )
        self._overlap = len(set(extra) & set(self._val))
        self._extra = frozenset(extra) - {*self._train, *self._val}
        self._images, self._masks, self._suffix = images, masks, suffix

    def ids(self) -> Sequence[str]:
        """The listed ids of VOC and of SBD, sorted."""
        return sorted({*super().ids(), *self._extra})

    def paths(self, image_id: str) -> tuple[Path, Path]:
        """The files of VOC, or of SBD for the images that only SBD has masks of."""
        if image_id in self._extra:
            return self._images / f"{image_id}.jpg", self._masks / f"{image_id}{self._suffix}"
        return super().paths(image_id)

    def file_mask(self, image_id: str) -> StoredMask:
        """The ids of the mask file; of a `.mat` those of its class segmentation."""
        path = self.paths(image_id)[1]
        return _read_mat(path) if path.suffix == ".mat" else super().file_mask(image_id)

    def splits(self, *, seed: int = 0) -> Splits:
        """Val and test of `voc2012`; train with the images of SBD."""
        voc = super().splits(seed=seed)
        return Splits(
            tuple(sorted({*voc.train, *self._extra})),
            voc.val,
            voc.test,
            origin=f"{voc.origin}; train has {len(self._extra)} more images with masks of SBD, from whose lists "
            f"{self._overlap} ids of VOC's val were removed",
        )


def _read_mat(path: Path) -> StoredMask:
    # Imported here: only this format needs it, and it takes a while to load.
    from scipy.io import loadmat
    from scipy.io.matlab import MatReadError

    damage = (MatReadError, OSError, ValueError, TypeError, KeyError, IndexError, NotImplementedError, zlib.error)
    try:
        segmentation = np.asarray(loadmat(str(path), variable_names="GTcls")["GTcls"][0]["Segmentation"][0])
    except FileNotFoundError:
        raise DataError(f"{path}: mask is missing; restore the file or take its id out of the lists") from None
    except damage as error:
        raise DataError(f"{path}: mask cannot be decoded ({error}); replace it by a whole copy") from None
    if segmentation.ndim != 2 or segmentation.dtype != np.uint8:
        raise DataError(f"{path}: mask is not an SBD segmentation (8 bits, HEIGHTxWIDTH); replace it by a whole copy")
    return segmentation


@DATASETS.register("voc2012_aug")
def voc2012_aug(*, root: Path | None = None, download: bool = False) -> Voc2012Aug:
    """PASCAL VOC 2012 with the SBD masks.

    Args:
        root: The folder that holds VOC 2012 (see `voc2012`) and SBD, or VOC 2012 with `SegmentationClassAug`.
        download: Fetch both into `root` with torchvision's downloaders where they are not there yet (2 + 1.4 GB).

    Raises:
        DataError: If one of them is not there, cannot be downloaded, or VOC's val list is missing.
    """
    voc = voc2012(root=root, download=download).root
    lists = voc / "ImageSets" / "Segmentation"
    ready = next((lists / name for name in _AUG_LISTS if (lists / name).is_file()), None)
    if ready is not None and (voc / _AUG_MASKS).is_dir():
        return Voc2012Aug(voc, read_list(ready), voc / "JPEGImages", voc / _AUG_MASKS, ".png")
    # VOC lies in root itself, or one or two folders below.
    top = expanded(root or voc).absolute()
    sbd = _find_sbd(top)
    if sbd is None and download:
        _download_sbd(top / "sbd")
        sbd = _find_sbd(top)
    if sbd is None:
        raise DataError(f"data root {top} holds VOC 2012 without its extension, {_FORMS}; {_CURE}")
    extra = [image_id for name in _SBD_LISTS if (sbd / name).is_file() for image_id in read_list(sbd / name)]
    return Voc2012Aug(voc, extra, sbd / "img", sbd / "cls", ".mat")


@recogniser("voc2012_aug")
def _is_voc2012_aug(root: Path) -> bool:
    if not RECOGNISERS["voc2012"](root):
        return False
    try:
        voc2012_aug(root=root)
    except DataError:
        return False
    return True


def _find_sbd(top: Path) -> Path | None:
    for place in (top / name for name in _SBD_PLACES):
        if (place / "cls").is_dir() and any((place / name).is_file() for name in _SBD_LISTS):
            return place
    return None


def _download_sbd(place: Path) -> None:
    # Imported here: torchvision takes seconds to load and is needed by no one else in this module.
    from torchvision.datasets import SBDataset

    with downloading("SBD", place, "benchmark.tgz yourself and unpack it there"):
        SBDataset(str(place), image_set="train", mode="segmentation", download=True)
