import json
import random
import re
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import PIL.Image
import pytest

from trainables.data import DATASETS, Splits, init
from trainables.data.check import check
from trainables.data.layouts.sides import matching
from trainables.data.splits import groups
from trainables.data.splits.given import make_splits
from trainables.errors import DataError

from ...conformance.layouts import names as layout_names

folder = DATASETS.get("folder")


def test_arbitrary_ids_become_contiguous_and_void_stays(make_folder: Callable[..., Path]) -> None:
    root = make_folder(1)
    stored = np.array(PIL.Image.open(root / "masks" / "a00.png"))
    expected = np.select([stored == 3, stored == 7, stored == 40], [0, 1, 2], 255)
    data = folder(root=root)
    np.testing.assert_array_equal(data.mask("a00"), expected)
    assert [info.name for info in data.classes] == ["ground", "wall", "thing"]


def test_classes_follow_their_ids_whatever_the_order_in_the_file(make_folder: Callable[..., Path]) -> None:
    root = make_folder(1)
    before = folder(root=root)
    content = json.loads((root / "classes.json").read_text())
    (root / "classes.json").write_text(json.dumps({"classes": content["classes"][::-1]}))
    after = folder(root=root)
    assert after.classes == before.classes
    np.testing.assert_array_equal(after.mask("a00"), before.mask("a00"))


def test_more_than_one_void_id(make_folder: Callable[..., Path]) -> None:
    root = make_folder(1, void=[255, 9])
    stored = np.array(PIL.Image.open(root / "masks" / "a00.png"))
    stored[0] = 9
    PIL.Image.fromarray(stored).save(root / "masks" / "a00.png")
    assert (folder(root=root).mask("a00")[0] == 255).all()


def test_unknown_id_in_a_mask_is_never_silently_dropped(make_folder: Callable[..., Path]) -> None:
    root = make_folder(1)
    PIL.Image.fromarray(np.full((12, 16), 5, np.uint8)).save(root / "masks" / "a00.png")
    with pytest.raises(
        DataError, match=r"a00\.png: ids outside the class list of folder: 5 \(192 pixels\); allowed: 3, 7, 40, 255"
    ):
        folder(root=root).mask("a00")


def test_class_with_id_255_stands_before_the_default_void(make_folder: Callable[..., Path]) -> None:
    root = make_folder(2)
    content = json.loads((root / "classes.json").read_text())
    content["classes"].append({"id": 255, "name": "sky", "color": [1, 2, 3]})
    del content["void"]
    (root / "classes.json").write_text(json.dumps(content))
    data = folder(root=root)
    assert data.stored_ids() == {3: 0, 7: 1, 40: 2, 255: 3} and data.assumed_void is None
    stored = np.array(PIL.Image.open(root / "masks" / "a00.png"))
    np.testing.assert_array_equal(data.mask("a00"), np.searchsorted([3, 7, 40, 255], stored))
    result = check(data, Splits(("a00",), ("a01",), (), origin=""))
    assert result.void_pixels == {"train": 0, "val": 0, "test": 0}
    assert result.class_pixels["train"].tolist() == [int((stored == i).sum()) for i in (3, 7, 40, 255)]
    (root / "classes.json").write_text(json.dumps({**content, "void": 255}))
    with pytest.raises(DataError, match="void: 255 is the id of a class, too"):
        folder(root=root)


def test_void_may_be_nothing_at_all(make_folder: Callable[..., Path]) -> None:
    root = make_folder(1, void=[])
    assert folder(root=root).stored_ids() == {3: 0, 7: 1, 40: 2}
    with pytest.raises(DataError, match=r"ids outside the class list of folder: 255 .*; allowed: 3, 7, 40$"):
        folder(root=root).mask("a00")
    with pytest.raises(DataError, match=r"void: None must be an integer, such as 255, or a list of them"):
        folder(root=make_folder(1, void=None))


def test_255_is_assumed_to_be_void_only_where_nobody_says_so(make_folder: Callable[..., Path]) -> None:
    assert folder(root=make_folder(1, void=255)).assumed_void is None
    root = make_folder(1)
    content = json.loads((root / "classes.json").read_text())
    del content["void"]
    (root / "classes.json").write_text(json.dumps(content))
    assert folder(root=root).assumed_void == 255


COLORS = np.array([[128, 64, 128], [70, 70, 70], [220, 20, 60], [0, 0, 0]], np.uint8)
"""Of the three classes in their order, and one for void."""


def test_mask_in_the_colours_of_the_classes_gives_the_same_ids(make_folder: Callable[..., Path]) -> None:
    root = make_folder(2, void_colors=[[0, 0, 0]])
    data = folder(root=root)
    expected = data.mask("a00")
    for mode in ("RGB", "RGBA"):
        painted = PIL.Image.fromarray(COLORS[np.where(expected == 255, 3, expected)]).convert(mode)
        painted.save(root / "masks" / "a00.png")
        np.testing.assert_array_equal(folder(root=root).mask("a00"), expected)
    assert (folder(root=root).mask("a01") != 0).any(), "masks of ids may stand beside"


def test_palette_of_a_mask_never_counts_as_its_colours(make_folder: Callable[..., Path]) -> None:
    root = make_folder(1)
    expected = folder(root=root).mask("a00")
    mask = PIL.Image.open(root / "masks" / "a00.png")
    mask.putpalette(COLORS[np.arange(256) % 4].ravel().tolist())
    mask.save(root / "masks" / "a00.png")
    np.testing.assert_array_equal(folder(root=root).mask("a00"), expected)


def test_colour_that_is_no_class_is_never_void_unless_it_is_said(make_folder: Callable[..., Path]) -> None:
    painted = np.full((12, 16, 3), (128, 64, 128), np.uint8)
    painted[0] = 0
    root = make_folder(1)
    PIL.Image.fromarray(painted).save(root / "masks" / "a00.png")
    with pytest.raises(DataError, match=r"colours outside .*: \(0, 0, 0\) \(16 pixels\); allowed: .*\(220, 20, 60\)"):
        folder(root=root).mask("a00")
    (root / "classes.json").unlink()
    make_folder(0, void_colors=[[0, 0, 0]])
    assert (folder(root=root).mask("a00")[0] == 255).all()


def test_mask_as_jpeg_is_refused_with_the_reason(make_folder: Callable[..., Path]) -> None:
    root = make_folder(1)
    PIL.Image.open(root / "masks" / "a00.png").convert("RGB").save(root / "masks" / "a00.jpg")
    (root / "masks" / "a00.png").unlink()
    with pytest.raises(DataError, match=r"a00\.jpg: mask is a JPEG, which changes ids and colours"):
        folder(root=root).mask("a00")


@pytest.mark.parametrize("colors", [[0, 0, 0], "black", [[0, 0]], [[0, 0, 256]]])
def test_void_colours_of_another_form_are_refused(make_folder: Callable[..., Path], colors: object) -> None:
    with pytest.raises(DataError, match=r"void_colors: must be a list of colours"):
        folder(root=make_folder(1, void_colors=colors))


def test_all_faults_of_classes_json_are_told_together(make_folder: Callable[..., Path]) -> None:
    root = make_folder(1)
    broken = {
        "classes": [
            {"id": 3, "name": "ground", "color": [1, 2]},
            {"id": 3, "name": "wall", "color": [1, 2, 3], "colour": 1},
            {"id": 1 << 24, "name": "", "color": [1, 2, 3]},
        ],
        "void": 3,
        "void_colors": [[1, 2, 3]],
        "viod": 255,
    }
    (root / "classes.json").write_text(json.dumps(broken))
    with pytest.raises(DataError) as caught:
        folder(root=root)
    for fault in (
        "color (1, 2, 3) is given to more than one", "void_colors: (1, 2, 3) is the color", "unknown keys: viod",
        "classes[0]: color must be three", "classes[1]: unknown keys: colour",
        "classes[2]: id must be", "classes[2]: name must be", "id 3 is given to more than one", "void: 3 is the id",
    ):  # fmt: skip
        assert fault in str(caught.value)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"classes": []}', '{"classes": 3}', '{"classes": [3]}'])
def test_any_other_classes_json_is_one_clear_error(make_folder: Callable[..., Path], text: str) -> None:
    root = make_folder(1)
    (root / "classes.json").write_text(text)
    with pytest.raises(DataError, match=r"classes\.json"):
        folder(root=root)


def test_folders_of_other_names(make_folder: Callable[..., Path]) -> None:
    root = make_folder(2, images="rgb", masks="labels/v2")
    (root / "images").rename(root / "rgb")
    (root / "labels").mkdir()
    (root / "masks").rename(root / "labels" / "v2")
    assert folder(root=root).image("a01").shape == (12, 16, 3)


@pytest.mark.parametrize(
    ("name", "fault"),
    [
        ("../other/images", "leads out of the folder"),
        ("images/../../other/images", "leads out of the folder"),
        ("/etc", "is an absolute path"),
        ("ima\0ges", "holds a control character, or bytes that are not UTF-8"),
    ],
)
@pytest.mark.parametrize("key", ["images", "masks"])
def test_folders_outside_the_data_root_are_refused(
    make_folder: Callable[..., Path], write_pair: Callable[[Path, str, int], None], key: str, name: str, fault: str
) -> None:
    root = make_folder(1, **{key: name})
    write_pair(root.parent / "other", "a00", 1)
    with pytest.raises(DataError) as caught:
        folder(root=root)
    assert f"{key}: {name!r} {fault}; name a folder below the data root" in str(caught.value)


def test_folder_that_is_a_link_is_read(make_folder: Callable[..., Path], tmp_path: Path) -> None:
    root = make_folder(2)
    (root / "images").rename(tmp_path / "elsewhere")
    (root / "images").symlink_to(tmp_path / "elsewhere")
    assert folder(root=root).image("a01").shape == (12, 16, 3)


def test_groups_may_lie_in_the_home_folder(
    make_folder: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "g.csv").write_text("id,site\na00,x\na01,y\n")
    assert folder(root=make_folder(2, groups="~/g.csv:site")).group("a01") == "y"


def test_missing_folders_are_named(make_folder: Callable[..., Path]) -> None:
    with pytest.raises(DataError, match=r"no folder .*rgb"):
        folder(root=make_folder(1, images="rgb"))


def test_two_files_of_one_stem_are_refused(make_folder: Callable[..., Path]) -> None:
    root = make_folder(1)
    PIL.Image.new("RGB", (16, 12)).save(root / "images" / "a00.jpg")
    with pytest.raises(DataError, match=r"images/a00\.jpg and images/a00\.png"):
        folder(root=root)


def test_groups_by_expression_stay_in_one_split(
    make_folder: Callable[..., Path], write_pair: Callable[[Path, str, int], None]
) -> None:
    root = make_folder(0, groups=r"^(p\d+)_")
    for patient in range(12):
        for view in range(3):
            write_pair(root, f"p{patient}_v{view}", 10 * patient + view)
    data = folder(root=root)
    splits = data.splits()
    groups = [{data.group(image_id) for image_id in part} for part in (splits.train, splits.val, splits.test)]
    assert all(groups) and not groups[0] & groups[1] and not groups[0] & groups[2] and not groups[1] & groups[2]
    assert data.group("p11_v2") == "p11"
    assert 18 <= len(splits.train) <= 24


def test_expression_that_would_not_end_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(groups, "SECONDS", 0.5)
    with pytest.raises(DataError, match=r"--group-by: groups \(\(a\+\)\+\$\) takes more than 0.5 s for 1 id"):
        groups.groups_by(r"(a+)+$", ["a" * 40 + "b"], source="--group-by")
    monkeypatch.setattr(groups, "SECONDS", 60)
    odd = ["p1_ä", "p2_\udcff", "p10_"]
    found = groups.groups_by(r"p(\d+)", odd, source="--group-by")
    assert found == {image_id: re.search(r"p(\d+)", image_id)[1] for image_id in odd}  # type: ignore[index]
    with pytest.raises(DataError, match="not a regular expression"):
        groups.groups_by("(" * 5000 + ")" * 5000, odd, source="--group-by")


def _by_brute_force(pattern: str, path: str) -> bool:
    if not pattern:
        return not path
    if pattern.startswith("**/"):
        rests = [path, *(path[place + 1 :] for place, letter in enumerate(path) if letter == "/")]
        return any(_by_brute_force(pattern[3:], rest) for rest in rests)
    if pattern.startswith("*"):
        name = len(path.partition("/")[0])
        return any(_by_brute_force(pattern[1:], path[taken:]) for taken in range(name + 1))
    return path[:1] == pattern[0] and _by_brute_force(pattern[1:], path[1:])


def test_patterns_of_files_match_as_by_brute_force_and_end() -> None:
    rng = random.Random(0)
    fit = 0
    for _ in range(3000):
        names = ("".join(rng.choices("ab*", k=rng.randint(1, 4))) for _ in range(rng.randint(1, 3)))
        parts = [re.sub(r"\*+", "*", name) for name in names]
        pattern = "/".join(part for name in parts for part in (["**"] * (rng.random() < 0.3) + [name]))
        path = "/".join("".join(rng.choices("ab", k=rng.randint(1, 4))) for _ in range(rng.randint(1, 4)))
        expected = _by_brute_force(pattern, path)
        assert matching(pattern)(path) == expected, (pattern, path)
        fit += expected
    assert 100 < fit < 2900
    began = time.process_time()
    assert not matching("**/" * 40 + "*a" * 60 + "b")("/".join(["a" * 200] * 60))
    assert time.process_time() - began < 2


def test_groups_from_a_table(make_folder: Callable[..., Path]) -> None:
    root = make_folder(3, groups="groups.csv")
    (root / "groups.csv").write_text("id,group\na00,x\na01,y\na02,x\n")
    data = folder(root=root)
    assert [data.group(image_id) for image_id in data.ids()] == ["x", "y", "x"]
    (root / "groups.csv").write_text("id,group\na00,x\n")
    with pytest.raises(DataError, match="no group for the ids a01, a02"):
        folder(root=root)
    (root / "groups.csv").write_text("name,patient\na00,x\n")
    with pytest.raises(DataError, match="columns id,group; found: name,patient"):
        folder(root=root)
    (root / "groups.csv").write_text("id,group\na00,x\na01,y\na02,x\na00,y\n")
    with pytest.raises(DataError, match="more than one group for the ids a00"):
        folder(root=root)
    (root / "groups.csv").write_text("id,group\na00,x\na01\na02,x\n")
    with pytest.raises(DataError, match="too few columns in line 3"):
        folder(root=root)


def test_group_expression_must_be_valid_and_match_every_stem(make_folder: Callable[..., Path]) -> None:
    with pytest.raises(DataError, match="regular expression"):
        folder(root=make_folder(2, groups="("))
    with pytest.raises(DataError, match="does not match the ids a00, a01"):
        folder(root=make_folder(2, groups="^b"))
    with pytest.raises(DataError, match="does not match the ids a00"):
        folder(root=make_folder(2, groups="^a0(1)?"))


def test_lists_are_taken_as_they_are(make_folder: Callable[..., Path]) -> None:
    root = make_folder(6)
    for name, ids in (("train", "a05\na00\n"), ("val", "a02\n"), ("test", "a01\n\na03")):
        (root / f"{name}.txt").write_text(ids)
    splits = folder(root=root).splits(seed=9)
    assert (splits.train, splits.val, splits.test) == (("a05", "a00"), ("a02",), ("a01", "a03"))
    assert "train.txt" in splits.origin


def test_empty_and_doubled_lists_are_refused(make_folder: Callable[..., Path]) -> None:
    root = make_folder(3)
    (root / "train.txt").write_text("a00\n")
    (root / "val.txt").write_text("a01\na01\n")
    (root / "test.txt").write_text("a02\n")
    with pytest.raises(DataError, match="named more than once: a01"):
        folder(root=root)
    (root / "val.txt").write_text("\n")
    with pytest.raises(DataError, match="is empty"):
        folder(root=root)


def test_drawn_splits_hold_every_class_and_keep_their_shares(make_folder: Callable[..., Path]) -> None:
    data = folder(root=make_folder(20))
    splits = data.splits(seed=3)
    assert sorted(splits.train + splits.val + splits.test) == list(data.ids())
    assert (len(splits.train), len(splits.val), len(splits.test)) == (12, 4, 4)
    assert data.splits(seed=3) == splits
    assert data.splits(seed=4) != splits


def test_image_without_a_mask_is_left_out_and_told_once_unless_a_list_names_it(
    make_folder: Callable[..., Path],
) -> None:
    root = make_folder(10)
    for name in ("a03", "a07"):
        (root / "masks" / f"{name}.png").unlink()
    data = folder(root=root)
    assert len(data.ids()) == 8 and not data.orphans()
    splits = make_splits(data)
    assert splits.warnings == ("2 images without a mask are left out: a03, a07",)
    assert not check(data, splits).errors
    for part, ids in (("train", "a00 a01 a02 a03"), ("val", "a04 a05"), ("test", "a06 a08")):
        (root / f"{part}.txt").write_text(ids.replace(" ", "\n"))
    data = folder(root=root)
    (offender,) = check(data, data.splits()).errors
    assert (offender.kind, offender.image_id, offender.path) == ("missing mask", "a03", root / "masks" / "a03.png")


def test_files_in_folders_below_images_are_left_out_as_ever_and_told(
    make_folder: Callable[..., Path], write_pair: Callable[[Path, str, int], None]
) -> None:
    root = make_folder(3)
    for side in ("images", "masks"):
        (root / side / "old").mkdir()
        (root / side / "a02.png").rename(root / side / "old" / "a09.png")
    data = folder(root=root)
    assert data.ids() == ["a00", "a01"]
    assert data.notes() == ["2 files in folders below are left out: images/old, masks/old"]


def test_lists_that_contradict_split_folders_are_asked_about(tmp_path: Path) -> None:
    layout_names.split_folders_inside(tmp_path / "root")
    (tmp_path / "root" / "val.txt").write_text("train/s00\nval/s06")
    data = folder(root=tmp_path / "root")
    with pytest.raises(DataError, match=r"1 image into different splits: train/s00 \(val.txt, folder of train\)"):
        data.splits()


def test_what_init_wrote_counts_before_classes_json_and_a_file_of_others_does_not(
    make_folder: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    root = make_folder(5)
    (root / "dataset.yaml").write_text("path: ../coco\nnames: {0: person}\n")
    assert [info.name for info in folder(root=root).classes] == ["ground", "wall", "thing"]
    assert init.main([str(root)]) == 1
    assert "was not written by this command, and is left alone" in capsys.readouterr().err
    (root / "dataset.yaml").unlink()
    assert init.main([str(root), "--classes", "3:floor,7:wall,40:thing"]) == 0
    assert [info.name for info in folder(root=root).classes] == ["floor", "wall", "thing"]
    # Asked again without flags it keeps what stands there, with the edits that a user made.
    text = (root / "dataset.yaml").read_text()
    (root / "dataset.yaml").write_text(text.replace("floor", "road"))
    assert init.main([str(root)]) == 0
    assert [info.name for info in folder(root=root).classes] == ["road", "wall", "thing"]


def test_picture_of_the_user_is_not_replaced_by_the_contact_sheet(
    make_folder: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    root = make_folder(5)
    PIL.Image.new("RGB", (4, 4)).save(root / "contact_sheet.png")
    before = (root / "contact_sheet.png").read_bytes()
    assert init.main([str(root)]) == 1
    assert "left alone" in capsys.readouterr().err
    assert (root / "contact_sheet.png").read_bytes() == before and not (root / "dataset.yaml").exists()


@pytest.mark.parametrize(
    ("flags", "why"),
    [
        (["--classes", "a,,b"], "an empty name"),
        (["--classes", "0:a,b"], "all classes in one form"),
        (["--classes", "a,a"], "each with a name of its own"),
        (["--void", "white"], "give ids or #rrggbb"),
    ],
)
def test_answers_that_are_none_are_bad_usage(
    make_folder: Callable[..., Path], capsys: pytest.CaptureFixture[str], flags: list[str], why: str
) -> None:
    assert init.main([str(make_folder(3)), *flags]) == 2
    assert why in capsys.readouterr().err
