"""Data that nothing can be learnt from, and 255 where nobody said what it is."""

import json
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import PIL.Image
import pytest

from trainables import train
from trainables.data import DATASETS, init
from trainables.data.check import CheckResult, check, main
from trainables.errors import DataError

SIZE = (24, 32)


def declared(*ids: int) -> list[dict[str, object]]:
    """Classes of these ids called c0, c1 ..."""
    return [{"id": number, "name": f"c{place}", "color": [9 * place, 1, 1]} for place, number in enumerate(ids)]


def write(root: Path, values: Sequence[Sequence[int]], *, classes: Sequence[object], **more: object) -> Path:
    """Image k shows `values[k]` in stripes of equal height; the last four are two for val and two for test."""
    for name in ("images", "masks"):
        (root / name).mkdir(parents=True)
    rng = np.random.default_rng(0)
    for number, shown in enumerate(values):
        mask = np.repeat(np.array(shown, np.uint8), SIZE[0] // len(shown))[:, None].repeat(SIZE[1], axis=1)
        PIL.Image.fromarray(mask).save(root / "masks" / f"{number}.png")
        PIL.Image.fromarray(rng.integers(0, 256, (*mask.shape, 3), np.uint8)).save(root / "images" / f"{number}.png")
    ids = [str(number) for number in range(len(values))]
    for part, members in (("train", ids[:-4]), ("val", ids[-4:-2]), ("test", ids[-2:])):
        (root / f"{part}.txt").write_text("\n".join(members))
    (root / "classes.json").write_text(json.dumps({"classes": list(classes), **more}))
    return root


def checked(root: Path) -> CheckResult:
    data = DATASETS.get("folder")(root=root)
    return check(data, data.splits())


def told(result: CheckResult) -> list[tuple[str, str]]:
    return [(offender.kind, offender.image_id) for offender in result.errors]


def lines_to_write(text: str) -> list[dict[str, object]]:
    """The classes that a message asks to be written into classes.json."""
    return [json.loads(line) for line in re.findall(r'\{"id": .*?\}', text)]


@pytest.mark.parametrize("palette", [False, True])
@pytest.mark.parametrize(("ids", "missing"), [((0, 255), 1), ((1, 255), 0)])
def test_binary_masks_with_255_are_asked_about_once_and_the_answer_mends_them(
    ids: tuple[int, int], missing: int, palette: bool, tmp_path: Path
) -> None:
    root = write(tmp_path / "root", [ids] * 10, classes=declared(0, 1))
    if palette:
        for path in (root / "masks").iterdir():
            mask = PIL.Image.open(path)
            mask.putpalette([channel for index in range(256) for channel in (index * 7 % 256, 0, 128)])
            mask.save(path)
    result = checked(root)
    (offender,) = result.errors
    assert told(result) == [("void or a class", "id 255")] and not result.warnings
    assert f"{ids[0]} (50.0%), 255 (50.0%); c{missing} (id {missing}) has none of them" in offender.detail
    assert "add" not in offender.detail, "as void it would leave nothing to learn"
    (line,) = lines_to_write(offender.detail)
    classes = [entry for entry in declared(0, 1) if entry["id"] != missing]
    (root / "classes.json").write_text(json.dumps({"classes": [*classes, line]}))
    mended = checked(root)
    assert not mended.errors
    data = DATASETS.get("folder")(root=root)
    names = np.array([info.name for info in data.classes])[data.mask("0")]
    stored = np.array(PIL.Image.open(root / "masks" / "0.png"))
    assert (names == np.where(stored == 255, f"c{missing}", f"c{1 - missing}")).all()
    assert mended.void_pixels == {"train": 0, "val": 0, "test": 0}


def test_commands_end_with_one_where_255_may_be_a_class(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = write(tmp_path / "root", [(0, 0, 255)] * 10, classes=declared(0, 1))
    arguments = ["--data", "folder", "--data-root", str(root)]
    assert main(arguments) == 1
    shown = capsys.readouterr().out
    assert shown.count("error void or a class") == 1 and "class absent" not in shown and "these files" not in shown
    assert train.main([*arguments, "--epochs", "1", "--out", str(tmp_path / "out"), "--device", "cpu"]) == 1
    assert "void or a class" in capsys.readouterr().err and not (tmp_path / "out").exists()
    # A description that says what 255 is would answer the question without having asked it.
    assert init.main([str(root)]) == 1
    assert "does not say what 255 is" in " ".join(capsys.readouterr().err.split())
    assert not (root / "dataset.yaml").exists()


def test_one_of_three_classes_that_has_no_pixel_while_255_has_is_asked_about(tmp_path: Path) -> None:
    root = write(tmp_path / "root", [(0, 1, 255)] * 10, classes=declared(0, 1, 2))
    result = checked(root)
    (offender,) = result.errors
    assert told(result) == [("void or a class", "id 255")] and not result.warnings
    assert lines_to_write(offender.detail) == [{**declared(0, 1, 2)[2], "id": 255}]
    # The other answer, as it is told.
    (answer,) = re.findall(r'add ("void": 255)', offender.detail)
    description = json.loads((root / "classes.json").read_text()) | json.loads(f"{{{answer}}}")
    (root / "classes.json").write_text(json.dumps(description))
    decided = checked(root)
    assert not decided.errors
    absent = [o.image_id for o in decided.warnings if o.kind == "class absent from a split"]
    assert absent == ["train", "val", "test"]


def test_255_is_a_warning_where_several_classes_have_no_pixel_and_others_can_be_learnt(tmp_path: Path) -> None:
    result = checked(write(tmp_path / "root", [(0, 1, 255)] * 10, classes=declared(0, 1, 2, 3)))
    assert not result.errors
    (doubt,) = [offender for offender in result.warnings if offender.kind == "void or a class"]
    assert "c2 (id 2), c3 (id 3) have none of them" in doubt.detail and 'add "void": 255' in doubt.detail


@pytest.mark.parametrize("more", [{"void": 255}, {"void": [255, 9]}])
def test_255_that_is_said_to_be_void_leaves_nothing_to_learn(more: dict[str, object], tmp_path: Path) -> None:
    result = checked(write(tmp_path / "root", [(0, 255)] * 10, classes=declared(0, 1), **more))
    assert told(result) == [("nothing to learn", "train, val and test")] and not result.warnings
    assert "c0 covers everything that is not void; c1 has no pixel" in result.errors[0].detail
    assert "0 (50.0%), 255 (50.0%)" in result.errors[0].detail


def test_255_as_a_thin_seam_is_void_as_ever(tmp_path: Path) -> None:
    result = checked(write(tmp_path / "root", [(0, 0, 0, 1, 1, 255)] * 10, classes=declared(0, 1)))
    assert not result.errors and result.void_pixels["val"] == 2 * 4 * 32
    assert "void or a class" not in {offender.kind for offender in result.warnings}


def test_classes_that_no_mask_shows_are_told_once(tmp_path: Path) -> None:
    result = checked(write(tmp_path / "root", [(4, 4)] * 10, classes=declared(4, 5, 6)))
    assert told(result) == [("nothing to learn", "train, val and test")] and not result.warnings
    assert "c0 covers everything that is not void; c1, c2 have no pixel" in result.errors[0].detail


def test_train_of_one_class_is_told_and_not_once_more_for_every_class(tmp_path: Path) -> None:
    result = checked(write(tmp_path / "root", [(0, 255)] * 6 + [(0, 1, 2)] * 4, classes=declared(0, 1, 2)))
    assert told(result) == [("nothing to learn", "train")]
    assert "c0 covers everything that is not void; c1, c2 have no pixel in train" in result.errors[0].detail
    assert "train" not in {offender.image_id for offender in result.warnings}
    with pytest.raises(DataError, match="change what is named, then run the same command again"):
        result.raise_for_errors()


def test_train_of_nothing_but_void_is_nothing_to_learn(tmp_path: Path) -> None:
    result = checked(write(tmp_path / "root", [(255, 255)] * 6 + [(0, 1)] * 4, classes=declared(0, 1)))
    assert told(result) == [("nothing to learn", "train")]
    assert "no class has a pixel in train" in result.errors[0].detail


@pytest.mark.parametrize("part", ["val", "test"])
def test_split_that_scores_on_one_class_is_told(part: str, tmp_path: Path) -> None:
    alike, mixed = [(1, 1)] * 2, [(0, 1)] * 2
    values = [(0, 1)] * 6 + (alike + mixed if part == "val" else mixed + alike)
    result = checked(write(tmp_path / "root", values, classes=declared(0, 1)))
    assert told(result) == [("nothing to measure", part)]
    assert "so that always answering c1 would score 1" in result.errors[0].detail
    assert part not in {offender.image_id for offender in result.warnings}


def test_each_split_of_one_class_is_told_where_together_they_show_two(tmp_path: Path) -> None:
    values = [(0, 0)] * 6 + [(1, 1)] * 2 + [(0, 1)] * 2
    assert told(checked(write(tmp_path / "root", values, classes=declared(0, 1)))) == [
        ("nothing to learn", "train"),
        ("nothing to measure", "val"),
    ]


@pytest.mark.parametrize(
    ("shown", "more", "suggested"),
    [((7, 255), {}, 255), ((7, 3), {"void": 3}, 3), ((7, 7), {"void": [3]}, 0)],
)
def test_list_of_one_class_is_told_with_the_line_that_is_missing(
    shown: tuple[int, int], more: dict[str, object], suggested: int, tmp_path: Path
) -> None:
    classes = [{"id": 7, "name": "cell", "color": [0, 0, 0]}]
    result = checked(write(tmp_path / "root", [shown] * 10, classes=classes, **more))
    assert told(result) == [("nothing to learn", "class list")] and not result.warnings
    assert lines_to_write(result.errors[0].detail) == [
        {"id": suggested, "name": "background", "color": [255, 255, 255]}
    ]


def test_masks_that_cannot_be_read_are_told_without_guesses_about_classes(tmp_path: Path) -> None:
    root = write(tmp_path / "root", [(0, 0)] * 9 + [(0, 5)], classes=declared(0, 1))
    (root / "masks" / "0.png").write_bytes(b"")
    (root / "masks" / "6.png").write_bytes(b"")
    result = checked(root)
    assert told(result) == [("unreadable mask", "0"), ("unreadable mask", "6"), ("ids outside the class list", "9")]
    assert not [offender for offender in result.warnings if "class" in offender.kind]


def test_empty_split_is_told_without_a_warning_for_every_class(tmp_path: Path) -> None:
    root = write(tmp_path / "root", [(0, 1)] * 10, classes=declared(0, 1))
    data = DATASETS.get("folder")(root=root)
    splits = data.splits()
    result = check(data, type(splits)(splits.train, splits.val, (), origin=""))
    assert told(result) == [("empty split", "test")]
    assert "test" not in {offender.image_id for offender in result.warnings}
