"""Masks of single objects and tables of pairs: what is told, and what is refused rather than guessed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import PIL.Image
import pytest

from trainables.data import DATASETS, SegmentationData, init
from trainables.data.check import check
from trainables.data.splits.given import make_splits
from trainables.errors import DataError


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEGSWEEP_CACHE", str(tmp_path / "cache"))


def save(path: Path, pixels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    PIL.Image.fromarray(pixels).save(path)


def square(first: int, size: tuple[int, int] = (12, 16), value: int = 255) -> np.ndarray:
    mask = np.zeros(size, np.uint8)
    mask[2:8, first : first + 4] = value
    return mask


def objects(root: Path, count: int = 4) -> Path:
    """Two objects in each image, which share two columns of six pixels."""
    for number in range(count):
        save(root / f"{number}" / "images" / f"photo{number}.png", np.full((12, 16, 3), 10 * number, np.uint8))
        save(root / f"{number}" / "masks" / f"a{number}x.png", square(3))
        save(root / f"{number}" / "masks" / f"b{number}y.png", square(5))
    return root


def initialised(root: Path, *flags: str) -> SegmentationData:
    assert init.main([str(root), *flags]) == 0
    return DATASETS.get("folder")(root=root)


def test_objects_become_one_class_with_the_names_that_were_given(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = objects(tmp_path / "root", 6)
    save(root / "lost" / "masks" / "c.png", square(1))
    data = initialised(root, "--classes", "slide,nucleus")
    told = capsys.readouterr().out
    assert "12 masks of single objects became the masks of 6 images" in told
    assert "1 mask without an image left out" in told
    assert "overlap" not in told, "objects of one class may"
    assert [info.name for info in data.classes] == ["slide", "nucleus"]
    np.testing.assert_array_equal(data.mask("0/photo0"), np.maximum(square(3), square(5)) > 0)


def test_objects_of_names_that_recur_alone_give_their_class_its_name(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = objects(tmp_path / "root")
    for path in sorted(root.rglob("masks/*")):
        path.rename(path.with_name(f"nucleus_{'ab'.index(path.name[0])}.png"))
    assert [info.name for info in initialised(root).classes] == ["background", "nucleus"]


def test_overlaps_of_classes_are_counted_and_the_later_one_counts(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = objects(tmp_path / "root")
    for path in sorted(root.rglob("masks/*")):
        path.rename(path.with_name({"a": "vessel.png", "b": "cell.png"}[path.name[0]]))
    data = initialised(root, "--classes", "ground,cell,vessel")
    assert "masks of different classes overlap in 48 pixels of 4 images: the class that stands later" in (
        " ".join(capsys.readouterr().out.split())
    )
    mask = data.mask("1/photo1")
    assert (int((mask == 1).sum()), int((mask == 2).sum())) == (12, 24)


def rename_as_classes(root: Path) -> None:
    for path in sorted(root.rglob("masks/*")):
        path.rename(path.with_name({"a": "vessel.png", "b": "cell.png"}[path.name[0]]))


@pytest.mark.parametrize(
    ("spoil", "flags", "why"),
    [
        (lambda root: save(root / "2/masks/a2x.png", square(3, value=2)), (), "here are 255 (.*) and 2 (.*) classes"),
        (lambda root: save(root / "2/masks/a2x.png", square(3, (12, 20))), (), "is 12x20, its image 12x16"),
        (rename_as_classes, ("--classes", "vessel,cell"), "begin with a name for what no mask covers"),
        (rename_as_classes, ("--classes", "ground,vessel,nerve"), "the names of masks are cell, vessel, and"),
    ],
)
def test_objects_that_may_mean_something_else_are_refused(
    spoil: Callable[[Path], None],
    flags: tuple[str, ...],
    why: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    root = objects(tmp_path / "root")
    spoil(root)
    assert init.main([str(root), *flags]) == 1
    said = capsys.readouterr().err
    assert all(part in said for part in why.split("(.*)")), said


def pairs(root: Path, head: str, line: str, count: int = 6) -> Path:
    """Images and masks whose names have nothing in common, and a table of them."""
    lines = [line.format(number) for number in range(count)]
    for number in range(count):
        noise = np.random.default_rng(number).integers(0, 256, (12, 16, 3), np.uint8)
        save(root / "images" / f"photo{number}.png", noise)
        save(root / "masks" / f"m{number}.png", square(number, value=1))
    (root / "pairs.csv").write_text("\n".join([head, *lines]))
    return root


HEAD, LINE = "image,mask", "images/photo{0}.png,masks/m{0}.png"


def test_file_that_a_table_names_and_that_is_not_there_is_an_error_of_the_check(tmp_path: Path) -> None:
    root = pairs(tmp_path / "root", HEAD, LINE)
    (root / "masks" / "m3.png").unlink()
    save(root / "other" / "m3.png", square(0))
    data = DATASETS.get("folder")(root=root)
    found = [(one.kind, one.image_id, one.path) for one in check(data, make_splits(data)).errors]
    assert found == [("missing mask", "photo3", root / "masks" / "m3.png")]


def test_table_below_the_folder_counts_from_its_own_place(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = pairs(tmp_path / "root", HEAD, "../" + LINE.replace(",", ",../"))
    (root / "lists").mkdir()
    (root / "pairs.csv").rename(root / "lists" / "mine.csv")
    data = initialised(root, "--pairs", "lists/mine.csv")
    assert list(data.ids()) == [f"photo{number}" for number in range(6)]
    np.testing.assert_array_equal(data.mask("photo4"), square(4, value=1))


def test_tables_are_left_alone_when_names_are_to_count(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = pairs(tmp_path / "root", HEAD, LINE)
    for number in range(6):
        save(root / "masks" / f"photo{number}.png", square(number + 1, value=1))
    data = initialised(root, "--pairs", "none")
    np.testing.assert_array_equal(data.mask("photo4"), square(5, value=1))


@pytest.mark.parametrize(
    ("head", "line", "flags", "why"),
    [
        ("image,mask,split", LINE + ",x", (), "column 'split' holds 'x': write train, val or test"),
        (HEAD, LINE.replace("masks/m", "images/photo"), (), "images/photo0.png is named more than once in pairs.csv"),
        (HEAD, "images/photo{0}.png,masks/m1.png", (), "masks/m1.png is named more than once in pairs.csv"),
        (HEAD, ",masks/m{0}.png\nimages/photo{0}.png,", (), "row 1 of pairs.csv names no image"),
        (HEAD, "{0}", ("--pairs", "pairs.csv"), "no column names images of"),
        (HEAD, LINE, ("--pairs", "others.csv"), "others.csv cannot be read as a table of pairs"),
        ("image,mask,mask_2", LINE + ",masks/m5.png", (), "the columns mask, mask_2 all name files"),
        (HEAD, "../" * 9 + LINE.replace(",", ",../../"), ("--pairs", "pairs.csv"), "no column names images of"),
    ],
)
def test_tables_that_may_mean_something_else_are_refused(
    head: str, line: str, flags: tuple[str, ...], why: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = pairs(tmp_path / "root", head, line)
    assert init.main([str(root), *flags]) == 1
    assert why in capsys.readouterr().err


def test_line_that_leads_out_of_the_folder_is_refused(tmp_path: Path) -> None:
    root = pairs(tmp_path / "root", HEAD, LINE)
    with (root / "pairs.csv").open("a") as file:
        file.write("\n../../secret.png,masks/m1.png")
    with pytest.raises(DataError, match=r"paths that lead out of .*secret\.png"):
        DATASETS.get("folder")(root=root)
