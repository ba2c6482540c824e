"""Paths that begin with ~, and names in lists that lead elsewhere."""

import argparse
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from trainables.data import DATASETS
from trainables.data.check import check, main
from trainables.data.flags import add_data_flags
from trainables.data.reading.files import files_by_stem, read_list, span
from trainables.data.reading.names import expanded, path_fault
from trainables.data.splits.frozen import SPLITS_FILE, freeze_splits, load_split, split_hash
from trainables.errors import DataError

MakeFolder = Callable[..., Path]


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    place = tmp_path / "home"
    place.mkdir()
    monkeypatch.setenv("HOME", str(place))
    return place


def test_tilde_at_the_beginning_is_the_home_folder_and_nowhere_else(home: Path) -> None:
    assert expanded("~/x") == expanded(Path("~/x")) == home / "x"
    assert expanded("~") == home
    assert expanded("a/~/x") == Path("a/~/x")
    assert expanded("~no-such-user/x") == Path("~no-such-user/x")


def test_flags_of_the_data_expand_it_for_every_command(home: Path) -> None:
    parser = argparse.ArgumentParser()
    add_data_flags(parser)
    asked = parser.parse_args(["--data-root=~/x", "--splits=~/lists.csv:part"])
    assert (asked.data_root, asked.splits) == (home / "x", home / "lists.csv:part")


def test_check_takes_everything_from_the_home_folder(
    make_folder: MakeFolder, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make_folder(12).rename(home / "data")
    (home / "lists").mkdir()
    (home / "lists" / "test.txt").write_text("a03\na07\n")
    (home / "g.csv").write_text("id,site\n" + "".join(f"a{number:02d},{number // 2}\n" for number in range(12)))
    flags = ["--data", "folder", "--json", "--data-root", "~/data"]
    assert main([*flags, "--splits", "~/lists"]) == 0
    assert json.loads(capsys.readouterr().out)["splits"]["test"] == 2
    assert main([*flags, "--group-by", "~/g.csv:site"]) == 0
    assert "6 groups" in json.loads(capsys.readouterr().out)["origin"]


def test_root_of_every_data_set_may_begin_with_a_tilde(home: Path) -> None:
    for name in DATASETS.names():
        with pytest.raises(DataError, match=f"{home}/nowhere"):
            DATASETS.get(name)(root=Path("~/nowhere"))


@pytest.mark.parametrize(
    "name", ["../../x", "a/../../x", "..", "/etc/passwd", "a\0b", "a\nb", "a\x1b[31mb", "\udcff", "a\u2028b"]
)
def test_names_that_lead_elsewhere_have_a_fault(name: str) -> None:
    assert path_fault(name)


@pytest.mark.parametrize("name", ["a", "train/a", "12:30 Uhr", "..a", "a..b", "写真\u3000１", "a\xa0b", "-rf", "~x"])
def test_names_of_files_have_none(name: str) -> None:
    assert not path_fault(name)


def test_list_of_ids_names_every_one_that_leads_elsewhere(tmp_path: Path) -> None:
    path = tmp_path / "train.txt"
    path.write_text("good\n../../x\n/etc/passwd\na\0b\nsub/good\n")
    with pytest.raises(DataError) as caught:
        read_list(path)
    assert str(caught.value).splitlines() == [
        f"{path}: an image id is the name of a file below the data root; rename or take out:",
        "  ../../x leads out of the folder",
        "  /etc/passwd is an absolute path",
        "  'a\\x00b' holds a control character, or bytes that are not UTF-8",
    ]


@pytest.mark.parametrize("name", [b"a\nb.png", b"a\xff.png"])
def test_files_whose_names_no_list_can_hold_are_refused(name: bytes, tmp_path: Path) -> None:
    try:
        open(bytes(tmp_path) + b"/" + name, "wb").close()
    except OSError:
        pytest.skip("this file system does not take such names")
    with pytest.raises(DataError, match="control character, or bytes that are not UTF-8"):
        files_by_stem(tmp_path)


def test_id_too_long_for_a_file_is_a_fault_of_that_image(
    make_folder: MakeFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    root = make_folder(6)
    for part, ids in (("train", f"a00\na01\n{300 * 'x'}"), ("val", "a02\na03"), ("test", "a04\na05")):
        (root / f"{part}.txt").write_text(ids)
    assert main(["--data", "folder", "--data-root", str(root), "--json"]) == 1
    errors = json.loads(capsys.readouterr().out)["errors"]
    assert {error["image_id"] for error in errors} == {300 * "x"}
    assert all("too long" in error["detail"] for error in errors)


def test_ids_of_given_splits_are_shown_without_upsetting_the_terminal(
    make_folder: MakeFolder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = tmp_path / "s.csv"
    table.write_text('id,split\na00,test\n"a\x1b[31m\nb",train\n../../x,val\n')
    assert main(["--data", "folder", "--data-root", str(make_folder(6)), "--splits", str(table)]) == 1
    shown = capsys.readouterr().err
    assert r"'a\x1b[31m\nb', ../../x" in shown and "\x1b" not in shown


def test_split_of_a_run_with_ids_that_lead_elsewhere_is_refused(make_folder: MakeFolder, tmp_path: Path) -> None:
    data = DATASETS.get("folder")(root=make_folder(10))
    splits = data.splits()
    freeze_splits(data, splits, tmp_path / "run", hashes=check(data, splits).hashes)
    path = tmp_path / "run" / SPLITS_FILE
    content = json.loads(path.read_text())
    entry = content["val"]
    entry["ids"][0] = "../../x"
    entry["hash"] = split_hash(entry["ids"], dict(zip(entry["ids"], map(tuple, entry["sha256"]), strict=True)))
    path.write_text(json.dumps(content))
    with pytest.raises(DataError, match=r"\.\./\.\./x leads out"):
        load_split(tmp_path / "run", "val")
    entry["ids"][0] = 3
    entry["hash"] = split_hash(entry["ids"], dict(zip(entry["ids"], map(tuple, entry["sha256"]), strict=True)))
    path.write_text(json.dumps(content))
    with pytest.raises(DataError, match="was changed"):
        load_split(tmp_path / "run", "val")


@pytest.mark.parametrize(
    ("ids", "text"),
    [
        ([0, 1, 2, 5, 255], "0..2, 5, 255"),
        (range(0, 64, 4), ", ".join(map(str, range(0, 64, 4)))),
        (range(0, 900, 3), "0, 3, 6, 9, 12, 15, 18, 21 ... 897 (300 ids)"),
    ],
)
def test_messages_name_few_of_many_ids(ids: list[int], text: str) -> None:
    assert span(ids) == text
