import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import PIL.Image
import pytest

from trainables.data import DATASETS, Splits
from trainables.data import files as files_module
from trainables.data.check import check, main
from trainables.errors import DataError

MakeFolder = Callable[..., Path]


def checked(root: Path, splits: Splits | None = None):  # type: ignore[no-untyped-def]
    data = DATASETS.get("folder")(root=root)
    return check(data, splits or data.splits())


def kinds(offenders) -> list[tuple[str, str]]:  # type: ignore[no-untyped-def]
    return sorted((offender.kind, offender.image_id) for offender in offenders)


def put(root: Path, name: str, array: np.ndarray) -> None:
    PIL.Image.fromarray(array).save(root / name)


def test_whole_folder_has_no_faults_and_true_counts(make_folder: MakeFolder) -> None:
    root = make_folder(10)
    data = DATASETS.get("folder")(root=root)
    splits = data.splits()
    result = check(data, splits)
    assert not result.errors and not result.warnings
    result.raise_for_errors()
    for part in ("train", "val", "test"):
        masks = np.stack([data.mask(image_id) for image_id in getattr(splits, part)])
        assert result.class_pixels[part].dtype == np.int64
        assert result.class_pixels[part].tolist() == [int((masks == c).sum()) for c in range(3)]
        assert result.void_pixels[part] == int((masks == 255).sum())
    image, mask = data.paths("a04")
    assert result.hashes["a04"] == tuple(hashlib.sha256(path.read_bytes()).hexdigest() for path in (image, mask))


def _drop_mask(root: Path) -> None:
    (root / "masks" / "a03.png").unlink()


def _drop_image(root: Path) -> None:
    (root / "images" / "a03.png").unlink()


def _cut_image(root: Path) -> None:
    path = root / "images" / "a03.png"
    path.write_bytes(path.read_bytes()[:200])


def _cut_mask(root: Path) -> None:
    path = root / "masks" / "a03.png"
    path.write_bytes(path.read_bytes()[:90])


def _colour_mask(root: Path) -> None:
    put(root, "masks/a03.png", np.zeros((12, 16, 3), np.uint8))


def _shrink_mask(root: Path) -> None:
    put(root, "masks/a03.png", np.full((12, 15), 3, np.uint8))


def _strange_ids(root: Path) -> None:
    mask = np.full((12, 16), 3, np.uint8)
    mask[0, :5], mask[1, :2] = 4, 200
    put(root, "masks/a03.png", mask)


@pytest.mark.parametrize(
    ("harm", "kind", "facts"),
    [
        (_drop_mask, "image without mask", "images/a03.png"),
        (_drop_image, "mask without image", "masks/a03.png"),
        (_cut_image, "unreadable image", "cannot be decoded"),
        (_cut_mask, "unreadable mask", "cannot be decoded"),
        (_colour_mask, "unreadable mask", "mode RGB"),
        (_shrink_mask, "size mismatch", "image 12x16, mask 12x15"),
        (_strange_ids, "ids outside the class list", "4 (5 pixels), 200 (2 pixels); allowed: 3, 7, 40, 255"),
    ],
)
def test_each_fault_is_found_alone_with_its_facts(
    make_folder: MakeFolder, harm: Callable[[Path], None], kind: str, facts: str
) -> None:
    root = make_folder(10)
    harm(root)
    result = checked(root)
    assert kinds(result.errors) == [(kind, "a03")]
    with pytest.raises(DataError) as caught:
        result.raise_for_errors()
    assert facts in str(caught.value)


def test_all_offenders_stand_in_one_message_one_a_line(make_folder: MakeFolder) -> None:
    root = make_folder(12)
    (root / "masks" / "a00.png").unlink()
    (root / "images" / "a01.png").unlink()
    (root / "images" / "a02.png").write_bytes(b"")
    put(root, "masks/a04.png", np.full((3, 3), 3, np.uint8))
    put(root, "masks/a05.png", np.full((12, 16), 99, np.uint8))
    with pytest.raises(DataError) as caught:
        checked(root).raise_for_errors()
    lines = str(caught.value).splitlines()
    assert "5 faults" in lines[0] and str(root) in lines[0]
    assert len(lines) == 7 and "run the same command again" in lines[-1]
    for image_id in ("a00", "a01", "a02", "a04", "a05"):
        assert sum(f" {image_id} (" in line for line in lines[1:-1]) == 1


def test_listed_id_without_any_file_is_missing(make_folder: MakeFolder) -> None:
    root = make_folder(5)
    for name, ids in (("train", "a00\na01\nzz"), ("val", "a02"), ("test", "a03\na04")):
        (root / f"{name}.txt").write_text(ids)
    assert kinds(checked(root).errors) == [("missing image", "zz"), ("missing mask", "zz")]


def test_identical_images_count_across_splits_and_not_within_one(make_folder: MakeFolder) -> None:
    root = make_folder(6)
    shutil.copy(root / "images" / "a00.png", root / "images" / "a01.png")
    shutil.copy(root / "images" / "a02.png", root / "images" / "a05.png")
    splits = Splits(("a00", "a01", "a02"), ("a03", "a04"), ("a05",), origin="")
    (offender,) = checked(root, splits).errors
    assert (offender.kind, offender.detail) == (
        "identical images across splits",
        "a02 in train is the same file as a05 in test",
    )


def test_id_in_two_splits_and_empty_split(make_folder: MakeFolder) -> None:
    root = make_folder(4)
    splits = Splits(("a00", "a01"), ("a01", "a02"), (), origin="")
    assert kinds(checked(root, splits).errors) == [("empty split", "test"), ("id in two splits", "a01")]


def test_warnings_for_absent_class_void_mask_and_torn_group(make_folder: MakeFolder) -> None:
    root = make_folder(6, groups=r"a0[0-4]|a05")
    put(root, "masks/a05.png", np.full((12, 16), 255, np.uint8))
    splits = Splits(("a00", "a01"), ("a02", "a03"), ("a05",), origin="")
    data = DATASETS.get("folder")(root=root)
    data.group = lambda image_id: "shared" if image_id in ("a01", "a02") else image_id  # type: ignore[method-assign]
    result = check(data, splits)
    assert not result.errors
    assert kinds(result.warnings) == sorted(
        [("class absent from a split", "test")] * 3
        + [("mask of nothing but void", "a05"), ("group in two splits", "shared")]
    )


def test_second_check_reads_no_image_and_a_changed_file_is_read_again(
    make_folder: MakeFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = make_folder(8)
    first = checked(root)
    opened: list[str] = []
    whole = files_module.read_image
    monkeypatch.setattr(files_module, "read_image", lambda path: (opened.append(path.stem), whole(path))[1])
    second = checked(root)
    assert opened == []
    assert second.hashes == first.hashes
    assert {k: v.tolist() for k, v in second.class_pixels.items()} == {
        k: v.tolist() for k, v in first.class_pixels.items()
    }
    put(root, "masks/a06.png", np.full((12, 16), 77, np.uint8))
    assert kinds(checked(root).errors) == [("ids outside the class list", "a06")]
    assert opened == ["a06"]


def test_torn_memory_is_ignored(make_folder: MakeFolder, own_cache: Path) -> None:
    root = make_folder(4)
    first = checked(root)
    (memory,) = (own_cache / "scans").iterdir()
    memory.write_bytes(memory.read_bytes()[:50])
    assert checked(root).hashes == first.hashes


def test_cache_that_cannot_be_written_costs_nothing_but_time(
    make_folder: MakeFolder, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("SEGSWEEP_CACHE", str(tmp_path / "file" / "below"))
    assert not checked(make_folder(4)).errors


def test_progress_counts_up_to_all_images(make_folder: MakeFolder) -> None:
    data = DATASETS.get("folder")(root=make_folder(7))
    seen: list[tuple[int, int]] = []
    check(
        data, Splits(("a00",), ("a01",), ("a02",), origin=""), progress=lambda done, total: seen.append((done, total))
    )
    assert seen[0] == (0, 7) and seen[-1] == (7, 7)
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)


def test_command_speaks_json_and_exits_with_the_truth(
    make_folder: MakeFolder, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    root = make_folder(10)
    assert main(["--data", "folder", "--data-root", str(root), "--json"]) == 0
    content = json.loads(capsys.readouterr().out)
    assert (content["errors"], content["splits"]) == ([], {"train": 6, "val": 2, "test": 2})
    (root / "masks" / "a03.png").unlink()
    assert main(["--data", "folder", "--data-root", str(root), "--json"]) == 1
    (offender,) = json.loads(capsys.readouterr().out)["errors"]
    assert (offender["kind"], offender["image_id"]) == ("image without mask", "a03")
    assert main(["--data", "folder", "--data-root", str(root)]) == 1
    assert "image without mask: a03" in capsys.readouterr().out
    assert main(["--data", "folder", "--data-root", str(tmp_path / "none")]) == 1
    assert "does not exist" in capsys.readouterr().err
    assert main(["--data", "foldr"]) == 2
    assert "did you mean folder" in capsys.readouterr().err
