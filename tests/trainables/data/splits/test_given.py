from collections.abc import Callable
from pathlib import Path

import pytest

from trainables.data import DATASETS, SegmentationData
from trainables.data.splits.frozen import freeze_splits, load_split, load_test_split
from trainables.data.splits.given import given_splits, make_splits
from trainables.errors import DataError

IDS = tuple(f"a{number:02d}" for number in range(20))


@pytest.fixture
def data(make_folder: Callable[..., Path]) -> SegmentationData:
    """20 images in pairs: a00 and a01 are of one group, and so on."""
    root = make_folder(20, groups="pairs.csv")
    (root / "pairs.csv").write_text("id,group\n" + "".join(f"{i},p{n // 2}\n" for n, i in enumerate(IDS)))
    return DATASETS.get("folder")(root=root)


@pytest.fixture
def lists(tmp_path: Path) -> Callable[..., Path]:
    """Writes a folder of lists."""

    def write(**parts: str) -> Path:
        folder = tmp_path / "lists"
        folder.mkdir(exist_ok=True)
        for part, ids in parts.items():
            (folder / f"{part}.txt").write_text(ids.replace(" ", "\n") + "\n")
        return folder

    return write


@pytest.fixture
def table(tmp_path: Path) -> Callable[[str], Path]:
    """Writes a CSV file, rows separated by blanks."""

    def write(rows: str) -> Path:
        path = tmp_path / "split.csv"
        path.write_text("\ufeff" + rows.replace(" ", "\r\n"), encoding="utf-8")
        return path

    return write


def together(data: SegmentationData, splits) -> bool:  # type: ignore[no-untyped-def]
    groups = [{splits.group(data, i) for i in part} for part in (splits.train, splits.val, splits.test)]
    return not (groups[0] & groups[1] or groups[0] & groups[2] or groups[1] & groups[2])


def test_three_lists_are_taken_as_they_are_and_what_is_left_out_is_said(data, lists) -> None:  # type: ignore[no-untyped-def]
    folder = lists(train="a05 a00", val="a02", test="a01 a03")
    splits = given_splits(data, folder, seed=3)
    assert (splits.train, splits.val, splits.test) == (("a05", "a00"), ("a02",), ("a01", "a03"))
    assert splits.origin == f"given in {folder}"
    assert splits.warnings == ("15 of 20 images are in no split and left out",)
    assert splits == given_splits(data, folder, seed=4), "nothing was drawn"


def test_missing_val_is_drawn_from_the_train_list(data, lists) -> None:  # type: ignore[no-untyped-def]
    splits = given_splits(data, lists(train=" ".join(IDS[:10]), test=" ".join(IDS[10:])), seed=3)
    assert splits.test == IDS[10:] and sorted(splits.train + splits.val) == list(IDS[:10])
    assert len(splits.val) == 2 and together(data, splits) and not splits.warnings
    assert (
        "val drawn: 20% of the 10 images of train, stratified by pixels and images of each class with seed 3"
        in splits.origin
    )
    assert splits == make_splits(data, splits=lists(), seed=3)


def test_missing_val_and_test_are_drawn_and_groups_stay_together(data, lists) -> None:  # type: ignore[no-untyped-def]
    splits = given_splits(data, lists(train=" ".join(IDS)), seed=3)
    assert (len(splits.train), len(splits.val), len(splits.test)) == (12, 4, 4) and together(data, splits)
    assert "val and test drawn: 20% of the 20 images of train each" in splits.origin
    assert given_splits(data, lists(train=" ".join(IDS)), seed=4) != splits


def test_missing_train_is_every_image_that_no_list_names(data, lists) -> None:  # type: ignore[no-untyped-def]
    splits = given_splits(data, lists(val="a03 a02", test="a19"))
    assert splits.train == tuple(i for i in IDS if i not in ("a02", "a03", "a19"))
    assert "train is every image that it does not name" in splits.origin and "drawn" not in splits.origin
    (lists() / "val.txt").unlink()
    splits = given_splits(data, lists())
    assert len(splits.val) == 4 and sorted(splits.train + splits.val) == list(IDS[:19]) and splits.test == ("a19",)


def test_table_gives_split_by_any_column_and_groups(data, table) -> None:  # type: ignore[no-untyped-def]
    path = table("id,split,fold,group a04,train,test,x a01,val,train,y a02,test,val,x")
    splits = given_splits(data, path)
    assert (splits.train, splits.val, splits.test) == (("a04",), ("a01",), ("a02",))
    assert splits.groups == {"a04": "x", "a01": "y", "a02": "x"}
    splits = given_splits(data, Path(f"{path}:fold"), groups={"a04": "z"})
    assert (splits.train, splits.val, splits.test) == (("a01",), ("a02",), ("a04",))
    assert splits.groups == {"a04": "z"}
    assert given_splits(data, table("id,split a04,train a01,val a02,test")).groups is None


def test_all_faults_are_told_together(data, lists) -> None:  # type: ignore[no-untyped-def]
    (data.root / "masks" / "a06.png").unlink()
    data = DATASETS.get("folder")(root=data.root)
    with pytest.raises(DataError) as caught:
        given_splits(data, lists(train="a00 zz a01 a00 a06", val="a01", test="b02.png"))
    text = str(caught.value)
    assert "does not have (one it has: a00): zz, a06 (image without mask), b02.png" in text
    assert "named more than once: a00 (train, train), a01 (train, val)" in text


@pytest.mark.parametrize(
    ("rows", "fault"),
    [
        ("id,split a00,train a01,dev a02,", r"neither train, val nor test: a01 \(dev\), a02 \(empty\)"),
        ("name,split a00,train", "needs the columns id,split; found: name,split"),
        ("id,split", "found: no rows"),
        ("id,split a00,train a01", "too few columns in line 3"),
        ("id,split a00,train a00,val", r"more than once: a00 \(train, val\)"),
    ],
)
def test_table_that_does_not_fit_is_one_clear_error(data, table, rows: str, fault: str) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(DataError, match=fault):
        given_splits(data, table(rows))


def test_path_that_gives_no_splits_names_the_forms(data, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    (tmp_path / "empty").mkdir()
    (tmp_path / "list.txt").write_text("a00")
    for name in ("empty", "gone", "list.txt"):
        with pytest.raises(DataError, match=r"train\.txt, val\.txt and test\.txt, or a CSV file"):
            given_splits(data, tmp_path / name)
    with pytest.raises(DataError, match=r"gone\.csv: table of splits cannot be read"):
        given_splits(data, tmp_path / "gone.csv")
    (tmp_path / "empty" / "val.txt").write_text("\n")
    with pytest.raises(DataError, match=r"val\.txt: list of ids is empty"):
        given_splits(data, tmp_path / "empty")


def test_without_a_wish_the_splits_are_those_of_the_data_set(data) -> None:  # type: ignore[no-untyped-def]
    seen: list[tuple[int, int]] = []
    assert make_splits(data, seed=5, progress=lambda *done: seen.append(done)) == data.splits(seed=5)
    assert seen[-1] == (20, 20)


@pytest.mark.parametrize("rule", [r"^a(\d)[0-4]?", "expression", "table", "column"])
def test_groups_by_rule_stay_together_and_are_frozen(data, rule: str, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    expected = {image_id: f"g{number % 5}" for number, image_id in enumerate(IDS)}
    (tmp_path / "by.csv").write_text("id,group,x\n" + "".join(f"{i},{g},{g}{g}\n" for i, g in expected.items()))
    if rule == r"^a(\d)[0-4]?":
        expected = {image_id: image_id[1] for image_id in IDS}
    elif rule == "expression":
        rule, expected = r"\d$", {image_id: image_id[2] for image_id in IDS}
    elif rule == "table":
        rule = str(tmp_path / "by.csv")
    else:
        rule, expected = f"{tmp_path / 'by.csv'}:x", {i: g + g for i, g in expected.items()}
    splits = make_splits(data, group_by=rule, seed=2)
    assert splits.groups == expected and together(data, splits)
    assert sorted(splits.train + splits.val + splits.test) == list(IDS)
    assert f"{len(set(expected.values()))} groups ({rule}) kept together" in splits.origin
    assert splits == make_splits(data, group_by=rule, seed=2)
    if all((splits.train, splits.val, splits.test)):
        freeze_splits(data, splits, tmp_path / "run", hashes={i: ("0", "1") for i in IDS})
        for split in (load_split(tmp_path / "run", "train"), load_test_split(tmp_path / "run")):
            assert split.groups == tuple(expected[i] for i in split.ids)


def test_groups_by_rule_hold_for_the_missing_parts_of_given_lists(data, lists) -> None:  # type: ignore[no-untyped-def]
    splits = make_splits(data, splits=lists(train=" ".join(IDS[1:]), test="a00"), group_by=r"\d$", seed=1)
    groups = [{image_id[2] for image_id in part} for part in (splits.train, splits.val)]
    assert splits.val and not groups[0] & groups[1]
    assert splits.group(data, "a13") == "3"


def test_rule_that_fits_no_id_names_the_flag(data) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(DataError, match=r"--group-by: groups \(\^b\) does not match the ids a00"):
        make_splits(data, group_by="^b")
    with pytest.raises(DataError, match=r"--group-by: groups is not a regular expression"):
        make_splits(data, group_by="(")
