from pathlib import Path

import numpy as np
import PIL.Image
import pytest

from trainables.data import DATASETS
from trainables.data.check import check
from trainables.errors import DataError

oxford_pet = DATASETS.get("oxford_pet")

BREEDS = ("Abyssinian", "beagle")


@pytest.fixture
def pets(tmp_path: Path) -> Path:
    """20 images to train on and 8 to test on, with the lines of the real lists."""
    base = tmp_path / "data" / "oxford-iiit-pet"
    for folder in ("images", "annotations/trimaps"):
        (base / folder).mkdir(parents=True)
    for part, count in (("trainval", 10), ("test", 4)):
        lines = []
        for breed, name in enumerate(BREEDS, 1):
            for number in range(count):
                image_id = f"{name}_{number + 100 * (part == 'test')}"
                lines.append(f"{image_id} {breed} {1 + (name[0].islower())} {breed}")
                rng = np.random.default_rng([breed, number, count])
                photograph = PIL.Image.fromarray(rng.integers(0, 256, (12, 14, 3), np.uint8))
                photograph.save(base / "images" / f"{image_id}.jpg")
                trimap = PIL.Image.fromarray(rng.integers(1, 4, (12, 14)).astype(np.uint8))
                trimap.save(base / "annotations" / "trimaps" / f"{image_id}.png")
        (base / "annotations" / f"{part}.txt").write_text("\n".join(lines) + "\n")
    return tmp_path / "data"


@pytest.mark.parametrize("below", ["", "oxford-iiit-pet"])
def test_root_may_be_the_folder_or_the_one_around_it(pets: Path, below: str) -> None:
    assert oxford_pet(root=pets / below).root == pets / "oxford-iiit-pet"


def test_trimap_becomes_pet_background_and_void_border(pets: Path) -> None:
    data = oxford_pet(root=pets)
    stored = np.array(PIL.Image.open(data.paths("beagle_3")[1]))
    np.testing.assert_array_equal(data.mask("beagle_3"), np.array([9, 1, 0, 255])[stored])
    assert [info.name for info in data.classes] == ["background", "pet"]


def test_official_test_is_test_and_val_is_drawn_from_trainval(pets: Path) -> None:
    data = oxford_pet(root=pets)
    splits = data.splits(seed=2)
    assert splits.test == tuple(sorted(f"{breed}_{number}" for breed in BREEDS for number in range(100, 104)))
    assert (len(splits.train), len(splits.val)) == (16, 4)
    assert set(splits.train + splits.val + splits.test) == set(data.ids())
    assert "official test" in splits.origin and not check(data, splits).errors


def test_listed_ids_are_those_of_torchvision(pets: Path) -> None:
    from torchvision.datasets import OxfordIIITPet

    data = oxford_pet(root=pets)
    splits = data.splits()
    official = OxfordIIITPet(str(pets), split="trainval", target_types="segmentation")
    assert len(official) == len(splits.train) + len(splits.val)
    np.testing.assert_array_equal(np.asarray(official[0][0]), data.image("Abyssinian_0"))
    np.testing.assert_array_equal(np.asarray(official[0][1]), data.stored_mask("Abyssinian_0"))


def test_zero_is_no_trimap_value(pets: Path) -> None:
    data = oxford_pet(root=pets)
    PIL.Image.fromarray(np.zeros((12, 14), np.uint8)).save(data.paths("beagle_3")[1])
    (offender,) = check(data, data.splits()).errors
    assert offender.detail == "0 (168 pixels); allowed: 1..3"


def test_id_in_both_lists_is_refused(pets: Path) -> None:
    with (pets / "oxford-iiit-pet/annotations/test.txt").open("a") as file:
        file.write("beagle_3 2 2 2\n")
    with pytest.raises(DataError, match="beagle_3"):
        oxford_pet(root=pets)


def test_download_uses_torchvision_only_where_nothing_is_there(pets: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[tuple[str, dict[str, object]]] = []

    def unreachable(root: str, **options: object) -> None:
        calls.append((root, options))
        raise OSError("no route to host")

    monkeypatch.setattr("torchvision.datasets.OxfordIIITPet", unreachable)
    oxford_pet(root=pets, download=True)
    assert not calls
    with pytest.raises(DataError, match=r"could not be downloaded.*no route to host.*annotations\.tar\.gz"):
        oxford_pet(root=pets / "new", download=True)
    assert calls == [(str(pets / "new"), {"target_types": "segmentation", "download": True})]


def test_absent_root_names_the_layout_and_the_download(tmp_path: Path) -> None:
    for root in (None, tmp_path / "none", tmp_path):
        with pytest.raises(DataError, match=r"oxford-iiit-pet.*--download"):
            oxford_pet(root=root)
