"""What every registered data set must do; a new one only needs a way to be built here."""

import inspect
import json
import pickle
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import PIL.Image
import pytest

from trainables.data import DATASETS, VOID, SegmentationData, init
from trainables.data import check as check_command
from trainables.data.check import check
from trainables.data.layouts.known import known_as
from trainables.data.scenes import dataset as scenes_dataset
from trainables.errors import DataError


def _pair(image: Path, mask: Path, seed: int, count: int, *, first: int = 0, void: int = VOID) -> None:
    """An image and its mask of the stored ids from `first` on, a row of them void."""
    rng = np.random.default_rng(seed)
    height, width = 18 + seed % 3, 24
    for path in (image, mask):
        path.parent.mkdir(parents=True, exist_ok=True)
    PIL.Image.fromarray(rng.integers(0, 256, (height, width, 3), np.uint8)).save(image)
    ids = rng.integers(first, first + count, (height, width)).astype(np.uint8)
    ids[0] = void
    PIL.Image.fromarray(ids).save(mask)


def _voc2012(root: Path, request: pytest.FixtureRequest) -> None:
    base = root / "VOCdevkit" / "VOC2012"
    ids = [f"2007_{number:06d}" for number in range(20)]
    for number, image_id in enumerate(ids):
        _pair(base / "JPEGImages" / f"{image_id}.jpg", base / "SegmentationClass" / f"{image_id}.png", number, 21)
    (base / "ImageSets" / "Segmentation").mkdir(parents=True)
    (base / "ImageSets" / "Segmentation" / "train.txt").write_text("\n".join(ids))


def _camvid(root: Path, request: pytest.FixtureRequest) -> None:
    for number in range(100):
        name = f"0001TP_{30 * number:06d}.png"
        _pair(root / "train" / name, root / "trainannot" / name, number, 11)


def _folder(root: Path, request: pytest.FixtureRequest) -> None:
    for number in range(20):
        _pair(root / "images" / f"{number:02d}.png", root / "masks" / f"{number:02d}.png", number, 4)
    classes = [{"id": number, "name": f"c{number}", "color": [9 * number, 0, 0]} for number in range(4)]
    (root / "classes.json").write_text(json.dumps({"classes": classes}))


def _voc2012_aug(root: Path, request: pytest.FixtureRequest) -> None:
    _voc2012(root, request)
    base = root / "VOCdevkit" / "VOC2012"
    extra = [f"2009_{number:06d}" for number in range(6)]
    for number, image_id in enumerate(extra, 20):
        _pair(base / "JPEGImages" / f"{image_id}.jpg", base / "SegmentationClassAug" / f"{image_id}.png", number, 21)
    lists = base / "ImageSets" / "Segmentation"
    train = (lists / "train.txt").read_text().split()
    (lists / "train.txt").write_text("\n".join(train[:15]))
    (lists / "val.txt").write_text("\n".join(train[15:]))
    (lists / "train_aug.txt").write_text("\n".join([*train, *extra]))


def _oxford_pet(root: Path, request: pytest.FixtureRequest) -> None:
    base = root / "oxford-iiit-pet"
    for part, numbers in (("trainval", range(15)), ("test", range(15, 20))):
        ids = [f"beagle_{number}" for number in numbers]
        for number, image_id in zip(numbers, ids, strict=True):
            mask = base / "annotations" / "trimaps" / f"{image_id}.png"
            _pair(base / "images" / f"{image_id}.jpg", mask, number, 2, first=1, void=3)
        (base / "annotations" / f"{part}.txt").write_text("".join(f"{image_id} 5 2 1\n" for image_id in ids))


def _cityscapes(root: Path, request: pytest.FixtureRequest) -> None:
    cities = {"train": ("aachen", "bochum", "jena", "ulm", "zurich"), "val": ("frankfurt",)}
    for number, (part, city, frame) in enumerate(
        (p, c, f) for p, names in cities.items() for c in names for f in range(4)
    ):
        stem = f"{city}_{frame // 2:06d}_{frame:06d}"
        image = root / "leftImg8bit" / part / city / f"{stem}_leftImg8bit.png"
        _pair(image, root / "gtFine" / part / city / f"{stem}_gtFine_labelIds.png", number, 34, void=0)


def _scenes(root: Path, request: pytest.FixtureRequest) -> None:
    shutil.copytree(request.getfixturevalue("drawn_scenes"), root, dirs_exist_ok=True)


@pytest.fixture(scope="module")
def drawn_scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("scenes") / "few"
    scenes_dataset._build(place, {"train": 6, "val": 3, "test": 3})
    return place


ROOTS: dict[str, Callable[[Path, pytest.FixtureRequest], None]] = {
    "scenes": _scenes,
    "voc2012": _voc2012,
    "voc2012_aug": _voc2012_aug,
    "oxford_pet": _oxford_pet,
    "cityscapes": _cityscapes,
    "camvid": _camvid,
    "folder": _folder,
}
"""How to put a small data set of each kind into an empty folder."""


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEGSWEEP_CACHE", str(tmp_path / "cache"))


@pytest.fixture(params=DATASETS.names())
def data(request: pytest.FixtureRequest, tmp_path: Path) -> SegmentationData:
    assert request.param in ROOTS, f"tell this test in ROOTS how to make a small {request.param}"
    root = tmp_path / "root"
    root.mkdir()
    ROOTS[request.param](root, request)
    return DATASETS.get(request.param)(root=root)


def test_factory_has_the_agreed_signature_and_name(data: SegmentationData) -> None:
    factory = DATASETS.get(data.name)
    parameters = inspect.signature(factory).parameters
    assert list(parameters) == ["root", "download"]
    assert all(parameter.kind is inspect.Parameter.KEYWORD_ONLY for parameter in parameters.values())
    assert (parameters["root"].default, parameters["download"].default) == (None, False)


def test_ids_are_sorted_unique_and_lead_to_files(data: SegmentationData) -> None:
    ids = list(data.ids())
    assert ids == sorted(set(ids)) and ids
    for image_id in ids:
        assert all(path.is_file() and data.root in path.parents for path in data.paths(image_id))


def test_images_are_rgb_and_masks_hold_class_ids_or_void(data: SegmentationData) -> None:
    for image_id in list(data.ids())[:10]:
        image, mask = data.image(image_id), data.mask(image_id)
        assert image.dtype == mask.dtype == np.uint8
        assert image.shape == (*mask.shape, 3)
        assert ((mask < len(data.classes)) | (mask == VOID)).all()
        assert (mask == VOID).any()


def test_classes_have_names_and_colours(data: SegmentationData) -> None:
    names = [info.name for info in data.classes]
    assert len(set(names)) == len(names) and all(names)
    assert len({info.color for info in data.classes}) == len(names)
    assert all(0 <= channel <= 255 for info in data.classes for channel in info.color)
    assert min(data.default_image_size) >= 32


def test_splits_are_disjoint_known_repeatable_and_explained(data: SegmentationData) -> None:
    splits = data.splits(seed=1)
    everything = splits.train + splits.val + splits.test
    assert len(set(everything)) == len(everything) and set(everything) <= set(data.ids())
    assert splits.train and splits.val and splits.test
    assert data.splits(seed=1) == splits
    assert splits.origin
    groups = [{data.group(i) for i in part} - {None} for part in (splits.train, splits.val, splits.test)]
    assert not (groups[0] & groups[1] or groups[0] & groups[2] or groups[1] & groups[2])


def test_sound_data_passes_the_check(data: SegmentationData) -> None:
    result = check(data, data.splits())
    assert not result.errors
    assert set(result.hashes) == set(data.ids())


def test_damaged_files_are_found_by_the_check_and_raise_when_read(data: SegmentationData) -> None:
    splits = data.splits()
    first, second = splits.train[:2]
    image, mask = data.paths(first)[0], data.paths(second)[1]
    image.write_bytes(image.read_bytes()[: image.stat().st_size // 2])
    mask.unlink()
    found = {(offender.kind, offender.image_id) for offender in check(data, splits).errors}
    assert found == {("unreadable image", first), ("missing mask", second)}
    with pytest.raises(DataError, match=image.name):
        data.image(first)
    with pytest.raises(DataError, match=mask.name):
        data.mask(second)


@pytest.mark.parametrize("data", [name for name in DATASETS.names() if name != "folder"], indirect=True)
def test_folder_of_a_known_data_set_is_told_with_the_command_that_reads_it(
    data: SegmentationData, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = tmp_path / "root"
    init.main([str(root)])
    told = " ".join(capsys.readouterr())
    commands = re.findall(rf"-m (trainables\.data\.check --data {data.name} --data-root \S+)", told)
    assert commands, told
    assert check_command.main(commands[0].split()[1:]) == 0
    if "dataset.yaml" in told:
        described = DATASETS.get("folder")(root=root)
        assert any(f"--data {data.name} " in note for note in described.notes())
    for path in (path for path in root.rglob("*") if path.is_file()):
        # Images of one's own in the same folders.
        if path.suffix == ".txt":
            path.write_text("".join(f"own-{line}\n" for line in path.read_text().splitlines()))
        else:
            path.rename(path.with_name(f"own-{path.name}"))
    assert known_as(root) == ""


def test_data_set_travels_to_another_process(data: SegmentationData) -> None:
    arrived = pickle.loads(pickle.dumps(data))
    assert (list(arrived.ids()), arrived.classes, arrived.name) == (list(data.ids()), data.classes, data.name)
    np.testing.assert_array_equal(arrived.mask(data.ids()[0]), data.mask(data.ids()[0]))


@pytest.mark.parametrize("name", [name for name in DATASETS.names() if name != "scenes"])
def test_absent_root_is_one_error_with_the_expected_layout(name: str, tmp_path: Path) -> None:
    for root, fault in ((None, "--data-root"), (tmp_path / "nowhere", "does not exist")):
        with pytest.raises(DataError, match=fault):
            DATASETS.get(name)(root=root)


def test_importing_the_data_sets_loads_no_library_that_only_one_of_them_needs() -> None:
    program = "import sys, trainables.data.check; print(*{'torchvision', 'torch', 'scipy.io'} & sys.modules.keys())"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []
