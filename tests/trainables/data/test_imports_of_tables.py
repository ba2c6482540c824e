"""Hugging Face data sets on disk: what is unpacked has the pixels that were put in."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import PIL.Image
import pyarrow
import pytest
from pyarrow import parquet

from trainables.data.check import check
from trainables.data.imports.hugging_face import tables
from trainables.errors import DataError

from .test_imports import folder, initialised

PICTURE = pyarrow.struct([("bytes", pyarrow.binary()), ("path", pyarrow.string())])
Row = tuple[bytes, bytes]


def encoded(array: np.ndarray, kind: str = "PNG") -> bytes:
    stream = io.BytesIO()
    PIL.Image.fromarray(array).save(stream, kind)
    return stream.getvalue()


def rows(count: int, first: int = 0, classes: int = 3) -> list[tuple[np.ndarray, np.ndarray]]:
    drawn = [np.random.default_rng(first + number) for number in range(count)]
    return [
        (rng.integers(0, 256, (24, 32, 3), np.uint8), rng.integers(0, classes, (24, 32), np.uint8)) for rng in drawn
    ]


def table(pairs: list[tuple[np.ndarray, np.ndarray]], image: str = "image", mask: str = "label") -> pyarrow.Table:
    pictures = [
        pyarrow.array([{"bytes": encoded(pair[side]), "path": None} for pair in pairs], PICTURE) for side in (0, 1)
    ]
    numbers = pyarrow.array(range(len(pairs)))
    return pyarrow.table({"id": numbers, image: pictures[0], mask: pictures[1]})


def test_parquet_of_a_repository_is_unpacked_with_its_splits_and_names(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "data").mkdir()
    train, val = rows(40), rows(9, 100)
    for place, part in enumerate((train[:25], train[25:])):
        parquet.write_table(table(part), tmp_path / "data" / f"train-{place:05d}-of-00002.parquet")
    parquet.write_table(table(val), tmp_path / "data" / "validation-00000-of-00001.parquet")
    (tmp_path / "id2label.json").write_text(json.dumps({"0": "ground", "1": "road", "2": "car"}))
    with pytest.raises(DataError, match=r"no images, but Hugging Face tables \(3 files\); say which: .*init .*unpacks"):
        folder(tmp_path)
    shown = initialised(tmp_path, capsys)
    assert "unpacked from 3 tables: images of 'image', masks of 'label'" in shown
    data = folder(tmp_path)
    assert [info.name for info in data.classes] == ["ground", "road", "car"]
    splits = data.splits()
    assert len(splits.val) == 9 and len(splits.train) + len(splits.test) == 40
    assert not check(data, splits).errors
    for part, pairs in (("train", train), ("val", val)):
        for number, (image, mask) in enumerate(pairs):
            np.testing.assert_array_equal(data.image(f"{part}/{number:06d}"), image)
            np.testing.assert_array_equal(data.mask(f"{part}/{number:06d}"), mask)
    written = {path: path.stat().st_mtime_ns for path in (tmp_path / "segsweep_unpacked").rglob("*.png")}
    initialised(tmp_path, capsys)
    assert written == {path: path.stat().st_mtime_ns for path in written}, "nothing is unpacked twice"
    parquet.write_table(table(rows(4, 500)), tmp_path / "data" / "validation-00000-of-00001.parquet")
    initialised(tmp_path, capsys)
    assert len(folder(tmp_path).splits().val) == 4, "other tables are unpacked anew"


def test_arrow_that_was_saved_to_disk_without_splits(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pairs = rows(20)
    of_all = table(pairs, "pixel_values", "segmentation_mask")
    path = tmp_path / "data-00000-of-00001.arrow"
    with pyarrow.OSFile(str(path), "wb") as sink, pyarrow.ipc.new_stream(sink, of_all.schema) as stream:
        stream.write_table(of_all, max_chunksize=7)
    initialised(tmp_path, capsys)
    data = folder(tmp_path)
    assert len(data.ids()) == 20
    for number, (image, mask) in enumerate(pairs):
        np.testing.assert_array_equal(data.image(f"{number:06d}"), image)
        np.testing.assert_array_equal(data.mask(f"{number:06d}"), mask)


def test_tables_that_do_not_say_enough_are_refused_with_the_cure(tmp_path: Path) -> None:
    path = tmp_path / "train.parquet"
    pairs = rows(2)
    parquet.write_table(table(pairs, "left", "right"), path)
    with pytest.raises(DataError, match="which of the columns left, right are images"):
        tables(tmp_path)
    parquet.write_table(pyarrow.table({"text": ["a"]}), path)
    assert not tables(tmp_path), "somebody else's"
    path.write_bytes(b"PAR1 cut off")
    with pytest.raises(DataError, match=r"train\.parquet cannot be read"):
        tables(tmp_path)


@pytest.mark.parametrize(
    ("picture", "told"), [(None, "has no picture in it, only its path"), (b"no picture", "row 0 is no picture")]
)
def test_row_without_a_picture_leaves_nothing_behind(
    tmp_path: Path, picture: bytes | None, told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    good = encoded(rows(1)[0][0])
    columns = {name: pyarrow.array([{"bytes": data, "path": "a.png"}], PICTURE)
               for name, data in (("image", good), ("mask", picture))}  # fmt: skip
    parquet.write_table(pyarrow.table(columns), tmp_path / "train.parquet")
    with pytest.raises(AssertionError):
        initialised(tmp_path, capsys)
    assert told in " ".join(capsys.readouterr().err.split())
    assert not (tmp_path / "segsweep_unpacked").exists()
