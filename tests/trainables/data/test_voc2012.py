from pathlib import Path

import numpy as np
import PIL.Image
import pytest

from trainables.data import DATASETS
from trainables.data.cache.decoded import class_pixels
from trainables.data.cache.scan import pixels_by_image
from trainables.data.check import check
from trainables.data.voc2012 import NAMES, palette_color
from trainables.errors import DataError

voc2012 = DATASETS.get("voc2012")


@pytest.fixture
def tiny_voc(tmp_path: Path) -> Path:
    """20 training and 6 validation images in torchvision's layout."""
    root = tmp_path / "data"
    base = root / "VOCdevkit" / "VOC2012"
    for folder in ("JPEGImages", "SegmentationClass", "ImageSets/Segmentation"):
        (base / folder).mkdir(parents=True)
    for part, count in (("train", 20), ("val", 6)):
        ids = [f"2007_{part}{number:03d}" for number in range(count)]
        (base / "ImageSets" / "Segmentation" / f"{part}.txt").write_text("\n".join(ids) + "\n")
        for number, image_id in enumerate(ids):
            rng = np.random.default_rng([number, count])
            PIL.Image.fromarray(rng.integers(0, 256, (9, 11, 3), np.uint8)).save(
                base / "JPEGImages" / f"{image_id}.jpg"
            )
            mask = PIL.Image.fromarray(rng.choice(np.array([0, number % 5 + 1, 255], np.uint8), (9, 11)))
            mask.putpalette([channel for index in range(256) for channel in palette_color(index)])
            mask.save(base / "SegmentationClass" / f"{image_id}.png")
    return root


@pytest.mark.parametrize("below", ["", "VOCdevkit", "VOCdevkit/VOC2012"])
def test_root_may_be_any_of_the_three_levels(tiny_voc: Path, below: str) -> None:
    assert voc2012(root=tiny_voc / below).root == tiny_voc / "VOCdevkit" / "VOC2012"


def test_official_val_is_test_and_val_is_drawn_from_train(tiny_voc: Path) -> None:
    data = voc2012(root=tiny_voc)
    splits = data.splits()
    assert splits.test == tuple(f"2007_val{number:03d}" for number in range(6))
    assert len(splits.val) + len(splits.train) == 20
    assert len(splits.val) == 5, "a fifth is 4; the classes that are in two images need one more"
    shown = pixels_by_image(data, splits.train + splits.val) > 0
    twice = shown[:, shown.sum(axis=0) > 1]
    assert twice.size and twice[:15].any(axis=0).all() and twice[15:].any(axis=0).all()
    assert all(image_id.startswith("2007_train") for image_id in splits.train + splits.val)
    assert "official val" in splits.origin and not splits.warnings


def test_without_val_list_all_three_are_drawn_and_it_is_said(tiny_voc: Path) -> None:
    (tiny_voc / "VOCdevkit/VOC2012/ImageSets/Segmentation/val.txt").unlink()
    data = voc2012(root=tiny_voc)
    splits = data.splits()
    shown = [pixels_by_image(data, part) > 0 for part in (splits.train, splits.val, splits.test)]
    assert [len(part) for part in shown] == [10, 5, 5], "12, 4, 4 but for classes that are in three images"
    enough = sum(part.sum(axis=0) for part in shown) >= 3
    assert all(part.any(axis=0)[enough].all() for part in shown)
    assert "official val list" in splits.warnings[0]


def test_listed_image_without_file_is_an_offender(tiny_voc: Path) -> None:
    (tiny_voc / "VOCdevkit/VOC2012/JPEGImages/2007_train003.jpg").unlink()
    (tiny_voc / "VOCdevkit/VOC2012/SegmentationClass/2007_val001.png").unlink()
    data = voc2012(root=tiny_voc)
    found = sorted((offender.kind, offender.image_id) for offender in check(data, data.splits()).errors)
    assert found == [("missing image", "2007_train003"), ("missing mask", "2007_val001")]


def test_id_in_both_lists_is_refused(tiny_voc: Path) -> None:
    with (tiny_voc / "VOCdevkit/VOC2012/ImageSets/Segmentation/val.txt").open("a") as file:
        file.write("2007_train004\n")
    with pytest.raises(DataError, match="2007_train004"):
        voc2012(root=tiny_voc)


def test_absent_root_names_the_layout_and_the_download(tmp_path: Path) -> None:
    for root in (None, tmp_path / "none", tmp_path):
        with pytest.raises(DataError, match=r"VOCdevkit.*--download"):
            voc2012(root=root)


def test_download_uses_torchvision_only_where_nothing_is_there(tiny_voc: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[tuple[str, dict[str, object]]] = []

    def unreachable(root: str, **options: object) -> None:
        calls.append((root, options))
        raise OSError("no route to host")

    monkeypatch.setattr("torchvision.datasets.VOCSegmentation", unreachable)
    voc2012(root=tiny_voc, download=True)
    assert not calls
    with pytest.raises(DataError, match=r"could not be downloaded.*no route to host"):
        voc2012(root=tiny_voc / "new", download=True)
    assert calls == [(str(tiny_voc / "new"), {"year": "2012", "image_set": "train", "download": True})]


def test_palette_is_that_of_the_real_masks(voc_root: Path) -> None:
    data = voc2012(root=voc_root)
    palette = PIL.Image.open(data.paths(data.ids()[0])[1]).getpalette()
    assert palette is not None
    for index, info in enumerate(data.classes):
        assert info.color == tuple(palette[3 * index : 3 * index + 3])


def test_real_images_have_the_documented_statistics(voc_root: Path) -> None:
    data = voc2012(root=voc_root)
    splits = data.splits()
    result = check(data, splits)
    assert not result.errors
    assert ["sheep" in o.detail and "4 images" in o.detail for o in result.warnings] == [True, True], "val and test"
    assert sum((data.mask(image_id) == NAMES.index("sheep")).any() for image_id in splits.test) == 4
    assert len(data.ids()) == 635
    assert sorted(splits.train + splits.val + splits.test) == list(data.ids())
    counts = class_pixels(data, data.ids())
    assert len(counts) == 21 and (counts > 0).all()
    assert counts.tolist() == sum(result.class_pixels.values()).tolist()  # type: ignore[union-attr]
    void = sum(result.void_pixels.values())
    everything = counts.sum() + void
    assert void / everything == pytest.approx(0.048, abs=0.001)
    assert counts[0] / everything == pytest.approx(0.71, abs=0.005)
