import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import PIL.Image
import pytest

from trainables.data import DATASETS, Splits
from trainables.data.cache import scan as scan_module
from trainables.data.check import check, main
from trainables.data.faults import CURES
from trainables.data.presence import RARE_IMAGES, RARE_SHARE
from trainables.data.reading import files as files_module
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
    root = make_folder(25)
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


def _drop_image(root: Path) -> None:
    (root / "images" / "a03.png").unlink()


def _cut_image(root: Path) -> None:
    path = root / "images" / "a03.png"
    path.write_bytes(path.read_bytes()[:200])


def _cut_mask(root: Path) -> None:
    path = root / "masks" / "a03.png"
    path.write_bytes(path.read_bytes()[:90])


def _colour_mask(root: Path) -> None:
    mask = np.full((12, 16, 3), (70, 70, 70), np.uint8)
    mask[0, :5], mask[1, 0] = (0, 0, 7), 255
    put(root, "masks/a03.png", mask)


def _smooth_colour_mask(root: Path) -> None:
    put(root, "masks/a03.png", np.arange(12 * 16 * 3).reshape(12, 16, 3).astype(np.uint8))


def _lossy_mask(root: Path) -> None:
    put(root, "masks/a03.jpg", np.full((12, 16), 3, np.uint8))
    (root / "masks" / "a03.png").unlink()


def _deep_image(root: Path) -> None:
    (root / "images" / "a03.png").unlink()
    put(root, "images/a03.tif", np.full((12, 16), 70000, np.int32))


def _text_image(root: Path) -> None:
    (root / "images" / "a03.png").write_text("<html>")


def _cut_jpeg(root: Path) -> None:
    path = root / "images" / "a03.jpg"
    PIL.Image.open(root / "images" / "a03.png").save(path)
    path.write_bytes(path.read_bytes()[:-20])
    (root / "images" / "a03.png").unlink()


def _shrink_mask(root: Path) -> None:
    put(root, "masks/a03.png", np.full((12, 15), 3, np.uint8))


def _strange_ids(root: Path) -> None:
    mask = np.full((12, 16), 3, np.uint8)
    mask[0, :5], mask[1, :2] = 4, 200
    put(root, "masks/a03.png", mask)


@pytest.mark.parametrize(
    ("harm", "kind", "facts"),
    [
        (_drop_image, "mask without image", "masks/a03.png"),
        (_cut_image, "unreadable image", "cannot be decoded"),
        (_cut_mask, "unreadable mask", "cannot be decoded"),
        (_cut_jpeg, "unreadable image", "truncated"),
        (_text_image, "unreadable image", "cannot be decoded"),
        (_deep_image, "unreadable image", "8-bit RGB"),
        (_lossy_mask, "unreadable mask", "JPEG"),
        (
            _colour_mask,
            "colours outside the class list",
            "(0, 0, 7) (5 pixels), (255, 255, 255) (1 pixel); allowed: (128, 64, 128), (70, 70, 70), (220, 20, 60)",
        ),
        (_smooth_colour_mask, "colours outside the class list", "and 176 more (176 pixels); allowed"),
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


def test_faults_of_one_kind_are_one_paragraph_and_all_are_kept(make_folder: MakeFolder) -> None:
    root = make_folder(30)
    (root / "images" / "a01.png").unlink()
    for number in range(2, 14):
        (root / "images" / f"a{number:02d}.png").write_bytes(b"")
    put(root, "masks/a15.png", np.full((3, 3), 3, np.uint8))
    put(root, "masks/a16.png", np.full((4, 3), 3, np.uint8))
    with pytest.raises(DataError) as caught:
        checked(root).raise_for_errors()
    head, *lines, end = str(caught.value).splitlines()
    assert "15 faults" in head and str(root) in head
    unreadable = lines.index(next(line for line in lines if "unreadable image, 12 images: " in line))
    named = [f"    a{number:02d} (images/a{number:02d}.png)" for number in range(2, 7)]
    assert lines[unreadable + 1 : unreadable + 7] == [*named, "    and 7 more"]
    assert lines[unreadable].endswith(
        "image cannot be decoded (cannot identify image file); replace it by a whole copy"
    )
    sizes = lines.index("  size mismatch, 2 images:")
    assert lines[sizes + 1 : sizes + 3] == [
        "    a15 (masks/a15.png): image 12x16, mask 3x3 (HEIGHTxWIDTH)",
        "    a16 (masks/a16.png): image 12x16, mask 4x3 (HEIGHTxWIDTH)",
    ]
    assert len(lines) == 2 + 7 + 4 and "run the same command again; all are in " in end
    kept = json.loads(Path(end.split("all are in ")[1]).read_text())
    assert [error["image_id"] for error in kept["errors"] if error["kind"] == "unreadable image"] == [
        f"a{number:02d}" for number in range(2, 14)
    ]


def test_few_faults_are_all_named_and_nothing_is_kept(make_folder: MakeFolder, own_cache: Path) -> None:
    root = make_folder(12)
    put(root, "masks/a02.png", np.full((3, 3), 3, np.uint8))
    with pytest.raises(DataError, match=r"(?s)a02 \(.*to mend it: make the mask again .*run the same command again$"):
        checked(root).raise_for_errors()
    assert not (own_cache / "checks").exists()


def _listed(root: Path, **lists: str) -> None:
    for name, ids in {"train": "a00 a01", "val": "a02 a03", "test": "a04 a05", **lists}.items():
        (root / f"{name}.txt").write_text(ids.replace(" ", "\n"))


def _out(root: Path, *folders: str) -> None:
    for folder in folders:
        (root / folder / "a03.png").unlink()


def _declare(root: Path, *values: int, void: bool) -> None:
    file = root / "classes.json"
    content = json.loads(file.read_text())
    if void:
        content["void"] = [content.get("void", 255), *values]
    else:
        content["classes"] += [{"id": value, "name": f"c{value}"} for value in values]
    file.write_text(json.dumps(content))


HARMS_AND_CURES = [
    (lambda root: _listed(root, val="a02 zz"), "missing mask", lambda root: _listed(root)),
    (_drop_image, "mask without image", lambda root: _out(root, "masks")),
    (_cut_image, "unreadable image", lambda root: _out(root, "images", "masks")),
    (_text_image, "unreadable image", lambda root: put(root, "images/a03.png", np.zeros((12, 16, 3), np.uint8))),
    (_cut_mask, "unreadable mask", lambda root: _out(root, "images", "masks")),
    (_cut_mask, "unreadable mask", lambda root: put(root, "masks/a03.png", np.full((12, 16), 3, np.uint8))),
    (_shrink_mask, "size mismatch", lambda root: put(root, "masks/a03.png", np.full((12, 16), 3, np.uint8))),
    (_shrink_mask, "size mismatch", lambda root: _out(root, "images", "masks")),
    (_strange_ids, "ids outside the class list", lambda root: _declare(root, 4, 200, void=True)),
    (_strange_ids, "ids outside the class list", lambda root: _declare(root, 4, 200, void=False)),
    (
        lambda root: put(root, "masks/a03.png", np.full((12, 16, 3), (9, 9, 9), np.uint8)),
        "colours outside the class list",
        lambda root: put(root, "masks/a03.png", np.full((12, 16, 3), (70, 70, 70), np.uint8)),
    ),
    (
        lambda root: (_listed(root), put(root, "masks/a03.png", np.full((12, 16), 255, np.uint8))),
        "mask of nothing but void",
        lambda root: _listed(root, val="a02"),
    ),
    (lambda root: _listed(root, val="a02 a04"), "id in two splits", lambda root: _listed(root)),
    (
        lambda root: (_listed(root), shutil.copy(root / "images" / "a00.png", root / "images" / "a03.png")),
        "identical images across splits",
        lambda root: _listed(root, val="a02"),
    ),
]


@pytest.mark.parametrize(("harm", "kind", "mend"), HARMS_AND_CURES)
def test_each_cure_cures_its_fault(
    make_folder: MakeFolder, harm: Callable[[Path], None], kind: str, mend: Callable[[Path], None]
) -> None:
    root = make_folder(10)
    harm(root)
    assert kind in [
        one.kind for one in checked(root).error_paragraphs if one.cure or "replace it by a whole copy" in one.line
    ]
    mend(root)
    assert not checked(root).errors


def test_each_kind_with_a_cure_was_cured() -> None:
    # An image that a list names has a file or none; a folder's own image without a mask is left out and told.
    same = {"missing image": "missing mask", "image without mask": "mask without image"}
    assert {same.get(kind, kind) for kind in CURES} <= {kind for _, kind, _ in HARMS_AND_CURES}


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


def test_images_are_compared_by_their_pixels_and_not_by_their_files(make_folder: MakeFolder) -> None:
    root = make_folder(6)
    picture = PIL.Image.open(root / "images" / "a00.png")
    picture.save(root / "images" / "a04.png", compress_level=1)
    picture.save(root / "images" / "a05.bmp")
    (root / "images" / "a05.png").unlink()
    assert len({path.read_bytes() for path in (root / "images").glob("a0[045].*")}) == 3
    # The same bytes in another shape are another picture.
    put(root, "images/a03.png", np.asarray(picture).reshape(16, 12, 3))
    put(root, "masks/a03.png", np.full((16, 12), 3, np.uint8))
    splits = Splits(("a00", "a01"), ("a02", "a03", "a04"), ("a05",), origin="")
    (offender,) = checked(root, splits).errors
    assert offender.detail == "a00 in train has the same pixels as a04 in val, a05 in test"


def test_damaged_copies_are_no_further_fault(make_folder: MakeFolder) -> None:
    root = make_folder(3)
    cut = (root / "images" / "a00.png").read_bytes()[:200]
    for name in ("a00", "a01"):
        (root / "images" / f"{name}.png").write_bytes(cut)
    found = kinds(checked(root, Splits(("a00",), ("a01",), ("a02",), origin="")).errors)
    assert found == [("unreadable image", "a00"), ("unreadable image", "a01")]


def test_id_in_two_splits_and_empty_split(make_folder: MakeFolder) -> None:
    root = make_folder(4)
    splits = Splits(("a00", "a01"), ("a01", "a02"), (), origin="")
    assert kinds(checked(root, splits).errors) == [("empty split", "test"), ("id in two splits", "a01")]


def test_warnings_for_absent_class_and_torn_group(make_folder: MakeFolder) -> None:
    root = make_folder(15, groups=r"a\d\d")
    for number in range(10, 15):
        put(root, f"masks/a{number}.png", np.repeat([[3], [7]], 6, axis=0).repeat(16, axis=1).astype(np.uint8))
    ids = [f"a{number:02d}" for number in range(15)]
    splits = Splits(tuple(ids[:5]), tuple(ids[5:10]), tuple(ids[10:]), origin="")
    data = DATASETS.get("folder")(root=root)
    data.group = lambda image_id: "shared" if image_id in ("a01", "a05") else image_id  # type: ignore[method-assign]
    result = check(data, splits)
    assert not result.errors
    assert [(o.kind, o.image_id, o.detail) for o in result.warnings] == [
        (
            "class absent from a split",
            "test",
            "class thing has no pixel in test; it is in 10 images of 9 groups in all",
        ),
        ("group in two splits", "shared", "train and val"),
    ]


def test_groups_given_with_the_splits_stand_before_those_of_the_data_set(make_folder: MakeFolder) -> None:
    root = make_folder(3, groups="a")
    splits = Splits(("a00",), ("a01",), ("a02",), origin="", groups={"a00": "x", "a01": "y", "a02": "x"})
    torn = [offender for offender in checked(root, splits).warnings if offender.kind == "group in two splits"]
    assert [(offender.image_id, offender.detail) for offender in torn] == [("x", "train and test")]


def test_void_mask_stops_where_it_would_be_scored_and_warns_in_train(make_folder: MakeFolder) -> None:
    root = make_folder(6)
    for name in ("a00", "a01", "a02", "a04"):
        put(root, f"masks/{name}.png", np.full((12, 16), 255, np.uint8))
    result = checked(root, Splits(("a00", "a05"), ("a01",), ("a02", "a03"), origin=""))
    void = [(o.image_id, o.detail) for o in result.errors if o.kind == "mask of nothing but void"]
    assert void == [("a01", "in val"), ("a02", "in test")] and len(result.errors) == 2
    void = [(o.image_id, o.detail) for o in result.warnings if o.kind == "mask of nothing but void"]
    assert void == [("a00", "in train"), ("a04", "in no split")]


def test_mask_below_one_percent_labelled_is_near_empty(make_folder: MakeFolder) -> None:
    root = make_folder(3)
    for name, labelled in (("a00", 9), ("a01", 10)):
        mask = np.full(1000, 255, np.uint8)
        mask[:labelled] = 3
        mask[0] = 7
        put(root, f"masks/{name}.png", mask.reshape(20, 50))
        put(root, f"images/{name}.png", np.full((20, 50, 3), labelled, np.uint8))
    result = checked(root, Splits(("a00",), ("a01",), ("a02",), origin=""))
    near = [(o.image_id, o.detail) for o in result.warnings if o.kind == "near-empty mask"]
    assert near == [("a00", "9 of 1000 pixels labelled (0.90%), less than 1%")] and not result.errors


def test_rare_class_by_images_and_by_pixels_with_the_numbers(make_folder: MakeFolder) -> None:
    root = make_folder(8)
    masks = np.full((8, 100, 100), 3, np.uint8)
    # Over 5 images of 10,000 pixels: wall in 4 of them, thing in 5 of them with 24 pixels (the limit is 25).
    masks[:4, :50] = 7
    masks[:5, 99, 95:] = 40
    masks[4, 99, 99] = 3
    for number, mask in enumerate(masks):
        put(root, f"masks/a{number:02d}.png", mask)
        put(root, f"images/a{number:02d}.png", np.full((100, 100, 3), number, np.uint8))
    assert (RARE_IMAGES, RARE_SHARE * 50_000) == (5, 25)
    splits = Splits(("a00", "a01", "a02", "a03", "a04"), ("a05", "a06"), ("a07",), origin="")
    found = [o.detail for o in checked(root, splits).warnings if (o.kind, o.image_id) == ("rare class", "train")]
    rule = "(rare: fewer than 5 images, or less than 0.05%)"
    assert found == [
        f"class wall in train: 4 images, 40.000% of labelled pixels {rule}",
        f"class thing in train: 5 images, 0.048% of labelled pixels {rule}",
    ]
    masks[4, 99, 99] = 40
    masks[4, :50] = 7
    put(root, "masks/a04.png", masks[4])
    assert not [o for o in checked(root, splits).warnings if (o.kind, o.image_id) == ("rare class", "train")]


def test_turned_image_is_a_warning(make_folder: MakeFolder) -> None:
    root = make_folder(3)
    exif = PIL.Image.Exif()
    exif[0x0112] = 3
    PIL.Image.open(root / "images" / "a01.png").save(root / "images" / "a01.png", exif=exif)
    result = checked(root, Splits(("a00",), ("a01",), ("a02",), origin=""))
    turned = [o for o in result.warnings if o.kind == "EXIF orientation"]
    assert [o.image_id for o in turned] == ["a01"] and "orientation 3" in turned[0].detail and not result.errors


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the files that are decoded from now on."""
    names: list[str] = []
    for reader in ("read_image", "read_stored_mask"):
        whole = getattr(files_module, reader)
        monkeypatch.setattr(files_module, reader, lambda path, whole=whole: (names.append(path.name), whole(path))[1])
    return names


def test_data_set_that_was_moved_copied_or_touched_is_hashed_and_not_decoded(
    make_folder: MakeFolder, decoded: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = make_folder(6)
    first = checked(root)
    assert len(decoded) == 12
    decoded.clear()
    shutil.copytree(root, tmp_path / "copy")
    (tmp_path / "copy" / "images" / "a00.png").rename(tmp_path / "copy" / "images" / "b00.png")
    (tmp_path / "copy" / "masks" / "a00.png").rename(tmp_path / "copy" / "masks" / "b00.png")
    for path in root.rglob("*.png"):
        path.touch()
    root.rename(tmp_path / "moved")
    for place in ("copy", "moved"):
        again = checked(tmp_path / place)
        assert decoded == [] and not again.errors
        assert sorted(again.hashes.values()) == sorted(first.hashes.values())
        everything = sum(again.class_pixels.values())
        assert everything.tolist() == sum(first.class_pixels.values()).tolist()  # type: ignore[union-attr]
    hashed: list[Path] = []
    whole = scan_module._hashed
    monkeypatch.setattr(scan_module, "_hashed", lambda path: (hashed.append(path), whole(path))[1])
    checked(tmp_path / "moved")
    assert hashed == [], "remembered by path, size and time from now on"


def test_content_of_a_pair_is_known_only_as_a_pair(make_folder: MakeFolder, decoded: list[str], tmp_path: Path) -> None:
    root = make_folder(4)
    checked(root)
    decoded.clear()
    shutil.copytree(root, tmp_path / "copy")
    shutil.copy(root / "masks" / "a00.png", tmp_path / "copy" / "masks" / "a01.png")
    data = DATASETS.get("folder")(root=tmp_path / "copy")
    counts = check(data, Splits(("a01",), ("a02",), ("a03",), origin="")).class_pixels["train"]
    assert sorted(decoded) == ["a01.png", "a01.png"]
    assert counts.tolist() == [int((data.mask("a00") == c).sum()) for c in range(3)]


def test_faults_are_found_again_in_a_copy_with_its_own_paths(make_folder: MakeFolder, tmp_path: Path) -> None:
    root = make_folder(4)
    (root / "images" / "a00.png").write_text("no image")
    splits = Splits(("a00", "a01"), ("a02",), ("a03",), origin="")
    checked(root, splits)
    shutil.copytree(root, tmp_path / "copy")
    (offender,) = checked(tmp_path / "copy", splits).errors
    assert offender.kind == "unreadable image" and str(root) not in str(offender)


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


def test_command_takes_splits_and_groups(
    make_folder: MakeFolder, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    root = make_folder(12)
    lists = tmp_path / "lists"
    lists.mkdir()
    (lists / "test.txt").write_text("a03\na07\n")
    assert main(["--data", "folder", "--data-root", str(root), "--splits", str(lists), "--json"]) == 0
    content = json.loads(capsys.readouterr().out)
    assert content["splits"] == {"train": 8, "val": 2, "test": 2} and str(lists) in content["origin"]
    assert main(["--data", "folder", "--data-root", str(root), "--group-by", r"^a(\d)", "--json"]) == 1
    content = json.loads(capsys.readouterr().out)
    assert "2 groups" in content["origin"], "a0 and a1 cannot fill three splits"
    assert [error["kind"] for error in content["errors"]] == ["empty split"]
    assert main(["--data", "folder", "--data-root", str(root), "--group-by", "^b"]) == 1
    assert "does not match the ids" in capsys.readouterr().err


def test_progress_never_reaches_standard_output(make_folder: MakeFolder) -> None:
    root = make_folder(6)
    command = [sys.executable, "-m", "trainables.data.check", "--data", "folder", "--json", "--data-root", str(root)]
    environment = {**os.environ, "FORCE_COLOR": "1", "TTY_INTERACTIVE": "1", "TTY_COMPATIBLE": "1"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert json.loads(done.stdout)["data"] == "folder" and done.returncode == 0
    assert "checking" in done.stderr and "6/6" in done.stderr


def test_command_speaks_json_and_exits_with_the_truth(
    make_folder: MakeFolder, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    root = make_folder(10)
    assert main(["--data", "folder", "--data-root", str(root), "--json"]) == 0
    content = json.loads(capsys.readouterr().out)
    assert (content["errors"], content["splits"]) == ([], {"train": 6, "val": 2, "test": 2})
    (root / "images" / "a03.png").unlink()
    assert main(["--data", "folder", "--data-root", str(root), "--json"]) == 1
    (offender,) = json.loads(capsys.readouterr().out)["errors"]
    assert (offender["kind"], offender["image_id"]) == ("mask without image", "a03")
    assert main(["--data", "folder", "--data-root", str(root)]) == 1
    shown = capsys.readouterr().out
    assert "mask without image: a03" in shown and "1 error: " in shown
    assert main(["--data", "folder", "--data-root", str(tmp_path / "none")]) == 1
    assert "does not exist" in capsys.readouterr().err
    assert main(["--data", "folder", "--data-root", str(root / "classes.json")]) == 1
    assert "classes.json is a file; folder expects a folder" in capsys.readouterr().err
    with pytest.raises(SystemExit, match="2"):
        main(["--seed", "-1"])
    assert "'-1' must be a whole number, 0 or more" in capsys.readouterr().err
    assert main(["--data", "foldr"]) == 2
    assert "did you mean folder" in capsys.readouterr().err
