"""Folders and lists of other people, given to every command that takes images: nothing there is changed or read."""

import hashlib
import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import PIL.Image
import pytest

from search_spaces import preview
from sweep.config import SweepConfig, from_command_line
from trainables import train
from trainables.data import DATASETS, check
from trainables.data.imports.base import Finder
from trainables.data.layouts.tree import files_below, media_files
from trainables.errors import DataError

COMMANDS: dict[str, Callable[[Sequence[str]], int]] = {
    "check": check.main,
    "train": lambda flags: train.main([*flags, "--device", "cpu", "--epochs", "1", "--out", "out"]),
    "preview": lambda flags: preview.main([*flags, "--out", "preview.png"]),
}
"""By a short name; what they would write lies in the current folder."""


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, the home and the cache of every test, apart from what it looks at."""
    place = tmp_path / "elsewhere"
    (place / "home").mkdir(parents=True)
    monkeypatch.chdir(place)
    monkeypatch.setenv("HOME", str(place / "home"))
    monkeypatch.setenv("SEGSWEEP_CACHE", str(place / "cache"))
    return place


def snapshot(folder: Path) -> dict[str, tuple[str, int]]:
    """Kind or content, and time of change, of everything below a folder; links are not followed."""
    found = {}
    for path in sorted(folder.rglob("*")):
        if path.is_symlink():
            what = f"link to {os.readlink(path)}"
        else:
            what = hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "folder"
        found[path.relative_to(folder).as_posix()] = (what, path.lstat().st_mtime_ns)
    return found


def _run_of_a_sweep(folder: Path) -> None:
    (folder / "manifest.json").write_text(json.dumps({"format": 1, "data": {"name": "scenes"}, "files": {}}))
    (folder / "journal.jsonl").write_text("{}\n")
    (folder / "best").mkdir()


def _manifest_that_lists_files_of_the_user(folder: Path) -> None:
    (folder / "thesis.tex").write_text("years of work")
    names = ["thesis.tex", "../neighbour.txt", str(folder.parent / "neighbour.txt")]
    (folder / "manifest.json").write_text(json.dumps({"drawing": "0123456789", "files": dict.fromkeys(names, "")}))


def _links(folder: Path) -> None:
    (folder / "JPEGImages").symlink_to(folder.parent)
    (folder / "images").symlink_to(folder.parent)
    (folder / "manifest.json").symlink_to(folder.parent / "neighbour.txt")


def _photos(folder: Path) -> None:
    PIL.Image.new("RGB", (8, 8)).save(folder / "holiday.jpg")
    (folder / ".DS_Store").touch()


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("fill", [_run_of_a_sweep, _manifest_that_lists_files_of_the_user, _links, _photos])
def test_folder_that_holds_something_else_is_left_alone_by_every_data_set(
    fill: Callable[[Path], None], command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "theirs" / "folder"
    folder.mkdir(parents=True)
    (folder.parent / "neighbour.txt").write_text("{}")
    fill(folder)
    before = snapshot(folder.parent)
    for name in DATASETS.names():
        assert COMMANDS[command](["--data", name, "--data-root", str(folder)]) == 1, name
        told = capsys.readouterr().err
        assert str(folder) in told and "Traceback" not in told, name
    assert snapshot(folder.parent) == before
    assert not Path("out").exists() and not Path("preview.png").exists()


def _pair(image: Path, mask: Path) -> None:
    for path in (image, mask):
        path.parent.mkdir(parents=True, exist_ok=True)
    PIL.Image.new("RGB", (16, 12)).save(image)
    PIL.Image.fromarray(np.repeat([[1], [2]], 6, axis=0).repeat(16, axis=1).astype(np.uint8)).save(mask)


def _voc(root: Path, ids: Sequence[str]) -> Path:
    base = root / "VOCdevkit" / "VOC2012"
    _pair(base / "JPEGImages" / "a.jpg", base / "SegmentationClass" / "a.png")
    (base / "ImageSets" / "Segmentation").mkdir(parents=True)
    (base / "ImageSets" / "Segmentation" / "val.txt").write_text("a")
    (base / "ImageSets" / "Segmentation" / "train.txt").write_text("\n".join(ids))
    return base


def _voc_aug(root: Path, ids: Sequence[str]) -> None:
    base = _voc(root, ["b"])
    (base / "SegmentationClassAug").mkdir()
    (base / "ImageSets" / "Segmentation" / "train_aug.txt").write_text("\n".join(ids))


def _sbd(root: Path, ids: Sequence[str]) -> None:
    _voc(root, ["b"])
    (root / "sbd" / "cls").mkdir(parents=True)
    (root / "sbd" / "train.txt").write_text("\n".join(ids))


def _pet(root: Path, ids: Sequence[str]) -> None:
    base = root / "oxford-iiit-pet"
    _pair(base / "images" / "a.jpg", base / "annotations" / "trimaps" / "a.png")
    (base / "annotations" / "test.txt").write_text("a 1 1 1\n")
    (base / "annotations" / "trainval.txt").write_text("".join(f"{image_id} 1 1 1\n" for image_id in ids))


def _folder(root: Path, ids: Sequence[str]) -> None:
    _pair(root / "images" / "a.png", root / "masks" / "a.png")
    classes = [{"id": number, "name": f"c{number}", "color": [number, 0, 0]} for number in (1, 2)]
    (root / "classes.json").write_text(json.dumps({"classes": classes}))
    for part in ("val", "test"):
        (root / f"{part}.txt").write_text("a")
    (root / "train.txt").write_text("\n".join(ids))


def _scenes(root: Path, ids: Sequence[str]) -> None:
    """Of a forged drawing, whose manifest fits its files."""
    _pair(root / "JPEGImages" / "a.jpg", root / "SegmentationClass" / "a.png")
    (root / "ImageSets" / "Segmentation").mkdir(parents=True)
    for part in ("train", "val", "test"):
        (root / "ImageSets" / "Segmentation" / f"{part}.txt").write_text("\n".join(ids))
    files = [path for path in root.rglob("*") if path.is_file()]
    digests = {path.relative_to(root).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}
    (root / "manifest.json").write_text(json.dumps({"drawing": "0123456789", "files": digests}))


LISTS: dict[str, tuple[str, Callable[[Path, Sequence[str]], object]]] = {
    "voc2012": ("voc2012", _voc),
    "voc2012_aug": ("voc2012_aug", _voc_aug),
    "voc2012_aug with SBD": ("voc2012_aug", _sbd),
    "oxford_pet": ("oxford_pet", _pet),
    "folder": ("folder", _folder),
    "scenes": ("scenes", _scenes),
}
"""Data set, and how to write one whose list for training names the ids given."""


@pytest.mark.parametrize("name", LISTS)
@pytest.mark.parametrize("kind", ["above", "absolute", "control"])
def test_ids_of_lists_that_lead_elsewhere_are_refused(name: str, kind: str, tmp_path: Path) -> None:
    data_set, make = LISTS[name]
    root, secret = tmp_path / "theirs" / "data", tmp_path / "theirs" / "secret" / "x"
    for suffix in (".jpg", ".png"):
        _pair(secret.with_suffix(suffix), secret.with_suffix(".png"))
    bad = {"above": "../../../../secret/x", "absolute": str(secret), "control": "a\0b"}[kind]
    make(root, ["a", bad] if name == "folder" else ["c", bad])
    before = snapshot(tmp_path / "theirs")
    with pytest.raises(DataError, match="image id is the name of a file below the data root") as caught:
        data = DATASETS.get(data_set)(root=root)
        data.ids()
    assert (repr(bad) if kind == "control" else bad) in str(caught.value)
    assert snapshot(tmp_path / "theirs") == before


@pytest.mark.parametrize(
    "name", ["../secret/x.png", "{theirs}/secret/x.png", "..\\secret\\x.png", "images/../../secret/x.png"]
)
def test_annotation_finds_only_images_below_its_folder(name: str, tmp_path: Path) -> None:
    for place in ("secret/x.png", "data/images/a.png"):
        _pair(tmp_path / place, tmp_path / "masks" / place)
    files = media_files(tmp_path / "data")
    assert [file.relative for file in files] == ["images/a.png"]
    assert Finder(files).find(name.format(theirs=tmp_path)) is None
    assert Finder(files).find("/where/it/was/written/images/a.png") is files[0]


def test_every_data_set_that_reads_lists_is_among_those_asked() -> None:
    by_file_names_alone = {"camvid", "cityscapes"}
    assert {data_set for data_set, _ in LISTS.values()} | by_file_names_alone == set(DATASETS.names())


@pytest.mark.parametrize("image_id", ["../../secret/x", "/etc/passwd", "a\0b"])
def test_given_splits_name_nothing_that_the_data_set_does_not_have(image_id: str, tmp_path: Path) -> None:
    root = tmp_path / "theirs"
    _folder(root, ["a"])
    (tmp_path / "lists").mkdir()
    (tmp_path / "lists" / "train.txt").write_text(f"a\n{image_id}\n")
    table = tmp_path / "table.csv"
    table.write_text(f'id,split\na,train\n"{image_id}",val\n')
    before = snapshot(root)
    for given in (tmp_path / "lists", table):
        assert check.main(["--data", "folder", "--data-root", str(root), "--splits", str(given)]) == 1
    assert snapshot(root) == before


def test_home_folder_in_a_configuration_file_is_found(elsewhere: Path) -> None:
    Path("sweep.yaml").write_text("data: folder\ndata_root: ~/x\nsplits: ~/lists\n")
    config = from_command_line(["--config", "sweep.yaml"])
    assert isinstance(config, SweepConfig)
    assert (config.data_root, config.splits) == (elsewhere / "home" / "x", elsewhere / "home" / "lists")


@pytest.mark.parametrize("name", ["masks/a.png", "instances.json"])
def test_pipes_in_a_folder_of_images_are_passed_over(name: str, tmp_path: Path) -> None:
    (tmp_path / "masks").mkdir()
    os.mkfifo(tmp_path / name)
    (tmp_path / "masks" / "b.png").touch()
    (tmp_path / "masks" / "gone.png").symlink_to(tmp_path / "nowhere.png")
    assert sorted(file.path.name for file in media_files(tmp_path)) == ["b.png", "gone.png"]
    assert files_below(tmp_path, ".json") == []
