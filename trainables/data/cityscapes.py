"""Cityscapes: street scenes of 50 cities, the 19 classes that the benchmark evaluates."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from trainables.data.base import DATASETS, VOID, ClassInfo, Offender, Splits, recogniser
from trainables.data.reading.files import FileData, require_root, unpaired
from trainables.data.reading.names import check_ids
from trainables.data.splits.stratified import VAL_SHARE, draw, how_drawn
from trainables.errors import DataError

_IMAGES, _MASKS = "leftImg8bit", "gtFine"
_IMAGE_END, _MASK_END = "_leftImg8bit.png", "_gtFine_labelIds.png"
_NAME = re.compile(r"([a-z-]+)/\1_\d{6}_\d{6}_[^/]+")
"""Of a file in the folder of its city: city, sequence, frame."""
_LAYOUT = f"{_IMAGES}/{{train,val}}/CITY/*{_IMAGE_END} and {_MASKS}/{{train,val}}/CITY/*{_MASK_END}"
_CURE = f"give --data-root the folder that holds {_IMAGES} and {_MASKS}, or the two archives of the official site"


class Cityscapes(FileData):
    """The images of official train and val with fine masks.

    Official val is the test split, because official test has no public masks. Val is drawn from official train, whole
    cities at a time, as the official parts are made; a recorded sequence is the group of its images.

    Cordts et al., "The Cityscapes Dataset for Semantic Urban Scene Understanding", CVPR 2016.
    """

    name = "cityscapes"
    default_image_size = (512, 1024)

    def __init__(self, root: Path) -> None:
        # Imported here: torchvision takes seconds to load and is needed by no one else in this module.
        from torchvision.datasets import Cityscapes as Official

        self.root = root
        labels = sorted((label.train_id, label) for label in Official.classes if label.train_id not in (VOID, -1))
        self.classes = tuple(ClassInfo(label.name, label.color) for _, label in labels)
        # One label, of licence plates, is -1 and never drawn.
        self._stored_ids = {label.id: label.train_id for label in Official.classes if label.id >= 0}
        self._part_of: dict[str, str] = {}
        self._orphans: list[Offender] = []
        for part in ("train", "val"):
            try:
                listed = Official(str(root), split=part, mode="fine", target_type="semantic")
            except (OSError, RuntimeError) as error:
                raise DataError(f"data root {root} holds no Cityscapes ({_LAYOUT}): {error}; {_CURE}") from None
            images = {
                _stem(path, _IMAGE_END): path for path in map(Path, listed.images) if path.match(f"*{_IMAGE_END}")
            }
            found = sorted((root / _MASKS / part).glob(f"*/*{_MASK_END}"))
            masks = {_stem(path, _MASK_END): path for path in found}
            self._part_of |= {image_id: part for image_id in images if image_id in masks}
            self._orphans += unpaired(images, masks)
        check_ids(self._part_of, root)

    def ids(self) -> Sequence[str]:
        """`CITY_SEQUENCE_FRAME` of the images that have a mask, sorted."""
        return sorted(self._part_of)

    def paths(self, image_id: str) -> tuple[Path, Path]:
        """The left image and its mask of label ids."""
        below = Path(self._part_of[image_id]) / _city(image_id)
        return (
            self.root / _IMAGES / below / f"{image_id}{_IMAGE_END}",
            self.root / _MASKS / below / f"{image_id}{_MASK_END}",
        )

    def orphans(self) -> Sequence[Offender]:
        """Images without a mask and masks without an image."""
        return self._orphans

    def stored_ids(self) -> Mapping[int, int]:
        """The label ids 0..33; those that the benchmark leaves out are void."""
        return self._stored_ids

    def group(self, image_id: str) -> str:
        """`CITY_SEQUENCE`: what was recorded in one go."""
        return image_id.rsplit("_", 1)[0]

    def splits(self, *, seed: int = 0) -> Splits:
        """Official val as test; val drawn from train, whole cities at a time."""
        official = [image_id for image_id in self.ids() if self._part_of[image_id] == "train"]
        cities = [_city(image_id) for image_id in official]
        train, val = draw(self, official, (1 - VAL_SHARE, VAL_SHARE), seed=seed, groups=cities)
        names = ", ".join(sorted({_city(image_id) for image_id in val}))
        return Splits(
            train,
            val,
            tuple(image_id for image_id in self.ids() if self._part_of[image_id] == "val"),
            origin=f"test is the official val of Cityscapes; val is about {VAL_SHARE:.0%} of official train in whole "
            f"cities ({names}), {how_drawn(seed)}",
        )


def _stem(path: Path, end: str) -> str:
    return path.name.removesuffix(end)


def _city(image_id: str) -> str:
    return image_id.split("_", 1)[0]


@recogniser("cityscapes")
def _is_cityscapes(root: Path) -> bool:
    if all((root / f"{side}_trainvaltest.zip").is_file() for side in (_IMAGES, _MASKS)):
        return True
    sides = ((_IMAGES, _IMAGE_END), (_MASKS, _MASK_END))
    found = (next((root / side / part).glob(f"*/*{end}"), None) for side, end in sides for part in ("train", "val"))
    return all(path is not None and _NAME.fullmatch(f"{path.parent.name}/{path.name}") for path in found)


@DATASETS.register("cityscapes")
def cityscapes(*, root: Path | None = None, download: bool = False) -> Cityscapes:
    """Cityscapes in torchvision's layout, with fine masks.

    Args:
        root: The folder with `leftImg8bit` and `gtFine`, or with the archives `leftImg8bit_trainvaltest.zip` and
            `gtFine_trainvaltest.zip`, which are then unpacked.
        download: Not offered: the official site asks for an account.

    Raises:
        DataError: If it is not there, or a download is asked for.
    """
    if download:
        raise DataError(f"cityscapes cannot be downloaded without an account at its official site; {_CURE}")
    return Cityscapes(require_root(root, "cityscapes", _LAYOUT, _CURE))
