import zipfile
from pathlib import Path

import numpy as np
import PIL.Image
import pytest

from trainables.data import DATASETS
from trainables.data.check import check
from trainables.errors import DataError

cityscapes = DATASETS.get("cityscapes")

TRAIN_CITIES, VAL_CITIES = ("aachen", "bochum", "jena", "ulm", "zurich"), ("frankfurt", "lindau")

NAMES = (
    "road", "sidewalk", "building", "wall", "fence", "pole", "traffic light", "traffic sign", "vegetation", "terrain",
    "sky", "person", "rider", "car", "truck", "bus", "train", "motorcycle", "bicycle",
)  # fmt: skip
LABEL_IDS = (7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33)
"""Of the 19 classes, from the benchmark's page."""


@pytest.fixture
def streets(tmp_path: Path) -> Path:
    """Five training and two validation cities of two sequences with three images each."""
    root = tmp_path / "data"
    for part, cities in (("train", TRAIN_CITIES), ("val", VAL_CITIES)):
        for city in cities:
            images, masks = root / "leftImg8bit" / part / city, root / "gtFine" / part / city
            images.mkdir(parents=True)
            masks.mkdir(parents=True)
            for number in range(6):
                stem = f"{city}_{number // 3:06d}_{number:06d}"
                rng = np.random.default_rng([number, *city.encode()])
                photograph = PIL.Image.fromarray(rng.integers(0, 256, (16, 32, 3), np.uint8))
                photograph.save(images / f"{stem}_leftImg8bit.png")
                ids = PIL.Image.fromarray(rng.integers(0, 34, (16, 32)).astype(np.uint8))
                ids.save(masks / f"{stem}_gtFine_labelIds.png")
                ids.save(masks / f"{stem}_gtFine_instanceIds.png")
    return root


def test_classes_are_the_19_of_the_benchmark_and_the_rest_is_void(streets: Path) -> None:
    data = cityscapes(root=streets)
    assert tuple(info.name for info in data.classes) == NAMES
    assert data.classes[0].color == (128, 64, 128) and data.classes[13].color == (0, 0, 142)
    image_id = "jena_000001_000004"
    stored = np.array(PIL.Image.open(data.paths(image_id)[1]))
    expected = np.full(stored.shape, 255)
    for class_id, label in enumerate(LABEL_IDS):
        expected[stored == label] = class_id
    np.testing.assert_array_equal(data.mask(image_id), expected)


def test_official_val_is_test_and_val_is_whole_cities_of_train(streets: Path) -> None:
    data = cityscapes(root=streets)
    splits = data.splits(seed=1)
    assert {i.split("_")[0] for i in splits.test} == set(VAL_CITIES)
    (city,) = {i.split("_")[0] for i in splits.val}
    assert len(splits.val) == 6 and city in TRAIN_CITIES and f"({city})" in splits.origin
    assert not any(i.startswith(city) for i in splits.train) and len(splits.train) == 24
    assert splits != data.splits(seed=2) or splits != data.splits(seed=3)
    assert data.group("ulm_000001_000005") == "ulm_000001"
    assert not check(data, splits).errors


def test_unpaired_files_are_offenders(streets: Path) -> None:
    (streets / "gtFine/train/ulm/ulm_000000_000001_gtFine_labelIds.png").unlink()
    (streets / "leftImg8bit/val/lindau/lindau_000001_000003_leftImg8bit.png").unlink()
    data = cityscapes(root=streets)
    found = sorted((offender.kind, offender.image_id) for offender in check(data, data.splits()).errors)
    assert found == [("image without mask", "ulm_000000_000001"), ("mask without image", "lindau_000001_000003")]


def test_archives_of_the_official_site_are_unpacked(streets: Path, tmp_path: Path) -> None:
    packed = tmp_path / "packed"
    packed.mkdir()
    for folder in ("leftImg8bit", "gtFine"):
        with zipfile.ZipFile(packed / f"{folder}_trainvaltest.zip", "w") as archive:
            for path in (streets / folder).rglob("*.png"):
                archive.write(path, path.relative_to(streets))
    assert list(cityscapes(root=packed).ids()) == list(cityscapes(root=streets).ids())


def test_root_without_the_layout_says_what_was_expected(streets: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"holds no Cityscapes.*gtFine.*archives"):
        cityscapes(root=tmp_path / "empty")
    with pytest.raises(DataError, match="account"):
        cityscapes(root=streets, download=True)
