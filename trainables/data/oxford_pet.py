"""Oxford-IIIT Pet: photographs of cats and dogs, the animal against the background."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from trainables.data.base import DATASETS, VOID, ClassInfo, Splits, recogniser
from trainables.data.reading.files import FileData, read_lines
from trainables.data.reading.names import check_ids
from trainables.data.reading.published import Published
from trainables.data.splits.stratified import VAL_SHARE, draw, how_drawn
from trainables.errors import DataError

_PET, _BACKGROUND, _BORDER = 1, 2, 3


class OxfordPet(FileData):
    """The images listed in `annotations`; classes are background and pet.

    The border of the animal, which the trimaps mark as "not classified", is void. Official test is the test split; val
    is drawn from official trainval.

    Parkhi, Vedaldi, Zisserman and Jawahar, "Cats and Dogs", CVPR 2012.
    """

    name = "oxford_pet"
    classes = (ClassInfo("background", (0, 0, 0)), ClassInfo("pet", (220, 120, 40)))
    default_image_size = (256, 256)

    def __init__(self, root: Path) -> None:
        self.root = root
        self._trainval, self._test = (_listed(root / "annotations" / f"{part}.txt") for part in ("trainval", "test"))
        shared = sorted(set(self._trainval) & set(self._test))
        if shared:
            raise DataError(f"{root / 'annotations'}: ids both in trainval.txt and test.txt: {', '.join(shared)}")

    def ids(self) -> Sequence[str]:
        """The listed ids, sorted."""
        return sorted({*self._trainval, *self._test})

    def paths(self, image_id: str) -> tuple[Path, Path]:
        """`images/ID.jpg` and `annotations/trimaps/ID.png`."""
        return self.root / "images" / f"{image_id}.jpg", self.root / "annotations" / "trimaps" / f"{image_id}.png"

    def stored_ids(self) -> dict[int, int]:
        """1 is the pet, 2 the background, 3 the border (void)."""
        return {_BACKGROUND: 0, _PET: 1, _BORDER: VOID}

    def splits(self, *, seed: int = 0) -> Splits:
        """Official test; val drawn from trainval."""
        train, val = draw(self, sorted(self._trainval), (1 - VAL_SHARE, VAL_SHARE), seed=seed)
        return Splits(
            train,
            val,
            tuple(sorted(self._test)),
            origin=f"test is the official test of Oxford-IIIT Pet; val is {VAL_SHARE:.0%} of official trainval, "
            f"{how_drawn(seed)}",
        )


def _listed(path: Path) -> tuple[str, ...]:
    """The ids of a list whose lines are `ID CLASS SPECIES BREED`; lines with # are comments."""
    ids = tuple(line.split()[0] for line in read_lines(path) if not line.startswith("#"))
    check_ids(ids, path)
    return ids


def _fetch(into: str) -> None:
    # Imported here: torchvision takes seconds to load and is needed by no one else in this module.
    from torchvision.datasets import OxfordIIITPet

    OxfordIIITPet(into, target_types="segmentation", download=True)


_PUBLISHED = Published(
    "oxford_pet",
    "Oxford-IIIT Pet",
    folder="oxford-iiit-pet",
    holds="{images,annotations/{trimaps,trainval.txt,test.txt}}",
    listed="annotations/trainval.txt",
    ids=r"[A-Za-z_]+_\d+",
    files=("images/{}.jpg", "annotations/trimaps/{}.png"),
    fetch=_fetch,
    by_hand="images.tar.gz and annotations.tar.gz yourself and unpack them in oxford-iiit-pet there",
)


recogniser("oxford_pet")(_PUBLISHED.recognises)


@DATASETS.register("oxford_pet")
def oxford_pet(*, root: Path | None = None, download: bool = False) -> OxfordPet:
    """Oxford-IIIT Pet in torchvision's layout.

    Args:
        root: `oxford-iiit-pet` itself, or the folder that holds it.
        download: Fetch it into `root` with torchvision's own downloader where it is not there yet (0.8 GB).

    Raises:
        DataError: If it is not there, or cannot be downloaded.
    """
    return OxfordPet(_PUBLISHED.locate(root, download=download))
