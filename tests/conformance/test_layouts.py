"""Folders as people have them: read without a description, or asked about once, or refused with a cure; none wrong."""

from __future__ import annotations

import contextlib
import random
import re
import shlex
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest

from trainables.data import DATASETS, SegmentationData, init
from trainables.data.check import check
from trainables.data.layouts.finding import UndecidedError
from trainables.data.splits.given import make_splits
from trainables.errors import DataError, SegsweepError

from .layouts import doubts, images, masks, names, tables
from .layouts.base import CASES, Asks, Loads, Outcome, Refused
from .layouts.rows import ROWS, outcomes

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEGSWEEP_CACHE", str(tmp_path / "cache"))


def opened(root: Path) -> SegmentationData:
    return DATASETS.get("folder")(root=root)


def compare(data: SegmentationData, expected: Mapping[str, np.ndarray]) -> None:
    assert list(data.ids()) == sorted(expected)
    for image_id, mask in expected.items():
        np.testing.assert_array_equal(data.mask(image_id), mask, err_msg=image_id, strict=True)


def flags_in(message: str, root: Path) -> list[tuple[str, ...]]:
    """The flags of each `segsweep init` that a message offers."""
    commands = re.findall(r"-m trainables\.data\.init (.*?) \(", message.partition("say which: ")[2])
    given = [tuple(shlex.split(command)) for command in commands]
    assert all(words[0] == root.as_posix() for words in given)
    return [words[1:] for words in given]


def assert_documented(name: str, outcome: str) -> None:
    """That docs/DATA.md tells of a case, and what becomes of it."""
    told = outcomes()
    rows = [row for row in told for key, cases in ROWS.items() if row.startswith(key) and name in cases]
    assert rows and all(outcome in told[row] for row in rows), (name, outcome, rows)


def test_table_of_the_docs_is_shown_row_by_row() -> None:
    rows = list(outcomes())
    assert len(rows) == len(ROWS) and all(row.startswith(key) for row, key in zip(rows, ROWS, strict=True))
    elsewhere = {name for shown in ROWS.values() for name in shown} - CASES.keys()
    for file, test in (name.split("::") for name in elsewhere):
        assert f"def {test}(" in (ROOT / file).read_text(encoding="utf-8")


@pytest.mark.parametrize("write", CASES.values(), ids=CASES.keys())
def test_layout(write: Callable[[Path], Outcome], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = tmp_path / "root"
    right = write(root)
    if isinstance(right, Loads):
        assert_documented(write.__name__, "read")
        _loads(root, right, capsys)
        return
    with pytest.raises(DataError) as caught:
        opened(root)
    message = str(caught.value)
    question = caught.value.question if isinstance(caught.value, UndecidedError) else None
    assert_documented(write.__name__, "refused" if question is None else "drawn" if question.draws else "asked")
    assert "\n" not in message, "one line"
    if isinstance(right, Refused):
        assert right.why in message
        return
    assert right.about in message
    assert set(flags_in(message, root)) == set(right.answers)
    for flags, expected in right.answers.items():
        assert init.main([str(root), *flags]) == 0
        compare(opened(root), expected)
        capsys.readouterr()


def _loads(root: Path, right: Loads, capsys: pytest.CaptureFixture[str]) -> None:
    data = opened(root)
    compare(data, right.masks)
    for image_id, pixels in right.images.items():
        np.testing.assert_array_equal(data.image(image_id), pixels, err_msg=image_id)
    splits = make_splits(data)
    for part, members in right.splits.items():
        assert list(getattr(splits, part)) == list(members)
    assert not check(data, splits).errors
    assert right.told in " / ".join(splits.warnings)
    if right.classes:
        assert [info.name for info in data.classes] == list(right.classes)
    # What `segsweep init` writes down is read alike.
    assert init.main([str(root)]) == 0
    shown = capsys.readouterr()
    assert not shown.err and "Traceback" not in shown.out
    again = opened(root)
    compare(again, right.masks)
    assert [info.name for info in again.classes] == [info.name for info in data.classes]
    assert make_splits(again).train == splits.train
    first = data.ids()[0]
    np.testing.assert_array_equal(again.image(first), data.image(first))


@pytest.mark.parametrize("name", list(CASES)[::5])
@pytest.mark.parametrize("seed", range(3))
def test_damaged_files_are_errors_or_questions_and_nothing_else(
    name: str, seed: int, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    root, rng = tmp_path / "root", random.Random(seed)
    CASES[name](root)
    files = sorted(path for path in root.rglob("*") if path.is_file() and not path.is_symlink())
    for path in rng.sample(files, min(len(files), 1 + seed * 3)):
        content = bytearray(path.read_bytes())
        for _ in range(4):
            content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
        damaged = [bytes(content), bytes(content[: rng.randrange(len(content))]), b"", b"<html>"]
        path.write_bytes(rng.choice(damaged))
    with contextlib.suppress(SegsweepError):
        data = opened(root)
        check(data, make_splits(data))
    assert capfd.readouterr() == ("", "")


def test_enough_layouts_are_read_and_none_is_left_out() -> None:
    source = [
        Path(module.__file__ or "").read_text(encoding="utf-8") for module in (doubts, images, masks, names, tables)
    ]
    assert sum(text.count("@case\n") for text in source) == len(CASES) >= 40


def test_masks_of_every_case_show_classes(tmp_path: Path) -> None:
    """A case that holds nothing but void, or one class, would not tell a right reading from a wrong one."""
    loading = 0
    for name, write in CASES.items():
        right = write(tmp_path / name)
        if isinstance(right, Refused):
            continue
        loading += isinstance(right, Loads)
        for expected in right.answers.values() if isinstance(right, Asks) else [right.masks]:
            shown = {int(value) for mask in expected.values() for value in np.unique(mask)} - {255, 65535}
            assert len(shown) > 1 and len(expected) >= 5, name
    assert loading >= 36
