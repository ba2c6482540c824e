from pathlib import Path

import numpy as np
import PIL.Image
import pytest
from scipy.io import savemat

from trainables.data import DATASETS
from trainables.data.check import check
from trainables.errors import DataError

voc2012, voc2012_aug = DATASETS.get("voc2012"), DATASETS.get("voc2012_aug")

TRAIN = [f"2007_{number:06d}" for number in range(20)]
VAL = [f"2008_{number:06d}" for number in range(6)]
SBD_ONLY = [f"2009_{number:06d}" for number in range(8)]


def pixels(image_id: str, *shape: int, high: int) -> np.ndarray:
    return np.random.default_rng(list(image_id.encode())).integers(0, high, shape, np.uint8)


def write_sbd_mask(path: Path, mask: np.ndarray) -> None:
    """In the form of SBD: a struct GTcls of Boundaries, Segmentation and CategoriesPresent."""
    present = np.unique(mask[mask > 0])
    content = {"Boundaries": np.zeros((20, 1), object), "Segmentation": mask, "CategoriesPresent": present}
    savemat(path, {"GTcls": content}, do_compression=True)


@pytest.fixture
def voc(tmp_path: Path) -> Path:
    """VOC 2012 with 20 training and 6 validation images; SBD's photographs are among them, as in the real archive."""
    root = tmp_path / "data"
    base = root / "VOCdevkit" / "VOC2012"
    for folder in ("JPEGImages", "SegmentationClass", "ImageSets/Segmentation"):
        (base / folder).mkdir(parents=True)
    for part, ids in (("train", TRAIN), ("val", VAL)):
        (base / "ImageSets" / "Segmentation" / f"{part}.txt").write_text("\n".join(ids))
        for image_id in ids:
            mask = PIL.Image.fromarray(pixels(image_id, 9, 11, high=4))
            mask.save(base / "SegmentationClass" / f"{image_id}.png")
    for image_id in TRAIN + VAL + SBD_ONLY:
        photograph = PIL.Image.fromarray(pixels(image_id, 9, 11, 3, high=255))
        photograph.save(base / "JPEGImages" / f"{image_id}.jpg")
    return root


def add_sbd(place: Path) -> None:
    """SBD's lists overlap VOC's train by two ids and VOC's val by three, one of them in `val.txt`."""
    (place / "img").mkdir(parents=True)
    (place / "cls").mkdir()
    lists = {"train": [*TRAIN[:2], *VAL[:2], *SBD_ONLY[:5]], "val": [VAL[4], *SBD_ONLY[5:]]}
    lists["train_noval"] = [image_id for image_id in lists["train"] if image_id not in VAL]
    for name, ids in lists.items():
        (place / f"{name}.txt").write_text("\n".join(ids) + "\n")
        for image_id in ids:
            photograph = PIL.Image.fromarray(pixels(image_id, 9, 11, 3, high=255))
            photograph.save(place / "img" / f"{image_id}.jpg")
            write_sbd_mask(place / "cls" / f"{image_id}.mat", pixels(f"sbd{image_id}", 9, 11, high=21))


def add_ready_masks(root: Path) -> None:
    base = root / "VOCdevkit" / "VOC2012"
    (base / "SegmentationClassAug").mkdir()
    ids = [*TRAIN, *VAL[:3], *SBD_ONLY]
    (base / "ImageSets" / "Segmentation" / "train_aug.txt").write_text("\n".join(ids))
    for image_id in ids:
        mask = PIL.Image.fromarray(pixels(f"sbd{image_id}", 9, 11, high=21))
        mask.save(base / "SegmentationClassAug" / f"{image_id}.png")


@pytest.fixture(params=["sbd", "sbd in the root", "published folder", "ready masks"])
def both(voc: Path, request: pytest.FixtureRequest) -> Path:
    """VOC with its extension in each of the known layouts."""
    if request.param == "ready masks":
        add_ready_masks(voc)
    else:
        places = {"sbd": "sbd", "sbd in the root": "", "published folder": "benchmark_RELEASE/dataset"}
        add_sbd(voc / places[request.param])
    return voc


def test_ids_of_official_val_are_removed_from_train_and_their_number_is_said(both: Path) -> None:
    splits = voc2012_aug(root=both).splits()
    assert splits.test == tuple(VAL)
    assert sorted(splits.train + splits.val) == sorted(TRAIN + SBD_ONLY)
    assert "8 more images with masks of SBD" in splits.origin and "3 ids of VOC's val were removed" in splits.origin


@pytest.mark.parametrize("seed", [0, 7])
def test_val_is_that_of_voc2012_so_that_both_compare(both: Path, seed: int) -> None:
    plain, extended = voc2012(root=both).splits(seed=seed), voc2012_aug(root=both).splits(seed=seed)
    assert (extended.val, extended.test) == (plain.val, plain.test)
    assert set(extended.train) == {*plain.train, *SBD_ONLY}


def test_masks_are_voc_s_own_where_voc_has_them_and_otherwise_those_of_sbd(both: Path) -> None:
    data = voc2012_aug(root=both)
    for image_id in [*TRAIN[:2], VAL[0]]:
        np.testing.assert_array_equal(data.mask(image_id), pixels(image_id, 9, 11, high=4))
    for image_id in SBD_ONLY:
        np.testing.assert_array_equal(data.mask(image_id), pixels(f"sbd{image_id}", 9, 11, high=21))
        assert data.image(image_id).shape == (9, 11, 3)
    assert not check(data, data.splits()).errors


def test_damaged_and_strange_mat_files_are_offenders(voc: Path) -> None:
    add_sbd(voc / "sbd")
    cls = voc / "sbd" / "cls"
    (cls / f"{SBD_ONLY[0]}.mat").write_bytes(b"no mat file")
    (cls / f"{SBD_ONLY[1]}.mat").write_bytes((cls / f"{SBD_ONLY[1]}.mat").read_bytes()[:-40])
    savemat(cls / f"{SBD_ONLY[2]}.mat", {"other": np.zeros(3)})
    write_sbd_mask(cls / f"{SBD_ONLY[3]}.mat", np.zeros((9, 11)))
    (cls / f"{SBD_ONLY[4]}.mat").write_bytes(b"")
    (cls / f"{SBD_ONLY[5]}.mat").unlink()
    write_sbd_mask(cls / f"{SBD_ONLY[6]}.mat", np.full((9, 11), 21, np.uint8))
    data = voc2012_aug(root=voc)
    found = [(offender.kind, offender.image_id) for offender in check(data, data.splits()).errors]
    unreadable = [("unreadable mask", image_id) for image_id in SBD_ONLY[:5]]
    assert found == [*unreadable, ("missing mask", SBD_ONLY[5]), ("ids outside the class list", SBD_ONLY[6])]


def test_mat_file_cut_anywhere_is_one_error_of_its_own(voc: Path) -> None:
    add_sbd(voc / "sbd")
    data = voc2012_aug(root=voc)
    path = data.paths(SBD_ONLY[0])[1]
    content = path.read_bytes()
    for length in range(0, len(content) - 5, 9):
        path.write_bytes(content[:length])
        with pytest.raises(DataError, match=r"\.mat: mask"):
            data.mask(SBD_ONLY[0])


def test_without_extension_or_val_list_it_says_what_is_needed(voc: Path) -> None:
    with pytest.raises(DataError, match=r"without its extension.*cls/\*\.mat.*SegmentationClassAug.*--download"):
        voc2012_aug(root=voc)
    add_sbd(voc / "sbd")
    (voc / "VOCdevkit/VOC2012/ImageSets/Segmentation/val.txt").unlink()
    with pytest.raises(DataError, match=r"val\.txt is missing.*must not be trained on"):
        voc2012_aug(root=voc)


def test_download_fetches_sbd_with_torchvision_where_it_is_missing(voc: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[dict[str, object]] = []

    def fetch(root: str, **options: object) -> None:
        calls.append({"root": root, **options})
        add_sbd(Path(root))

    monkeypatch.setattr("torchvision.datasets.SBDataset", fetch)
    first = voc2012_aug(root=voc, download=True)
    assert voc2012_aug(root=voc, download=True).ids() == first.ids() and len(first.ids()) == 34
    assert calls == [{"root": str(voc / "sbd"), "image_set": "train", "mode": "segmentation", "download": True}]


def test_failed_download_says_what_to_fetch(voc: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def unreachable(root: str, **options: object) -> None:
        raise OSError("no route to host")

    monkeypatch.setattr("torchvision.datasets.SBDataset", unreachable)
    with pytest.raises(DataError, match=r"no route to host.*benchmark\.tgz"):
        voc2012_aug(root=voc, download=True)


def test_torchvision_reads_the_small_sbd_alike(voc: Path) -> None:
    from torchvision.datasets import SBDataset

    add_sbd(voc / "sbd")
    official = SBDataset(str(voc / "sbd"), image_set="train", mode="segmentation")
    data = voc2012_aug(root=voc)
    for index, path in enumerate(official.masks):
        if Path(path).stem in SBD_ONLY:
            np.testing.assert_array_equal(np.asarray(official[index][1]), data.mask(Path(path).stem))
