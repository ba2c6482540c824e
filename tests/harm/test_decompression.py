"""Files that unpack to more than the memory: refused by their heads, with the cure, and before anything is decoded."""

from __future__ import annotations

import base64
import io
import json
import os
import struct
import subprocess
import sys
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import PIL.Image
import pyarrow
import pytest
from pyarrow import ipc, parquet

from analysis.audit.kept_scores import read_scores
from sweep.manifest import SweepManifest
from trainables.checkpoint import load_trial
from trainables.config import parse_size
from trainables.data.imports.arrow_sizes import unpacked_bytes
from trainables.data.imports.base import empty_mask
from trainables.data.imports.hugging_face import _holds_pictures, _rows, tables, unpack
from trainables.data.imports.labelme import _pixels
from trainables.data.layouts.finding import Said
from trainables.data.reading.read import read_image, read_stored_mask, stored_size
from trainables.errors import DataError, UsageError
from trainables.limits import (
    MAX_FILE,
    MAX_PIXELS,
    check_archive,
    check_file,
    check_texts,
    opened_image,
    rows_that_fit,
)
from trainables.paths import within

from ..command import REPO

SIDE = 13_000
"""169 million pixels, which Pillow decodes: half a gigabyte as RGB, from a file of a few kilobytes."""


PICTURES = pyarrow.struct([("bytes", pyarrow.binary()), ("path", pyarrow.string())])
"""A column of pictures in a table of Hugging Face."""


def bomb(path: Path, side: int = SIDE) -> Path:
    """A black PNG of one bit a pixel."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    head = struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0)
    rows = zlib.compress(bytes((side + 7) // 8 + 1) * side, 9)
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", rows) + chunk(b"IEND", b""))
    return path


@pytest.fixture(scope="module")
def png(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = bomb(tmp_path_factory.mktemp("bomb") / "a.png")
    assert path.stat().st_size < 50_000
    return path


def _tiff(path: Path) -> Path:
    PIL.Image.new("1", (SIDE, SIDE)).save(path, compression="group4")
    return path


def _npy(path: Path) -> Path:
    with path.open("wb") as file:
        np.lib.format.write_array_header_2_0(file, {"shape": (SIDE, SIDE), "fortran_order": False, "descr": "|u1"})
        file.truncate(file.tell() + SIDE * SIDE)  # a hole: no blocks on the disk
    return path


def test_head_is_enough_to_refuse_and_the_message_has_the_cure(png: Path, tmp_path: Path) -> None:
    cases: list[tuple[Callable[..., object], Path]] = [
        *((read, png) for read in (read_image, read_stored_mask)),
        *((read, _tiff(tmp_path / "a.tif")) for read in (read_image, read_stored_mask)),
        (read_stored_mask, _npy(tmp_path / "a.npy")),
    ]
    for read, path in cases:
        with pytest.raises(DataError, match=rf"a\.\w+: (image|mask) has 13000 x 13000 pixels.*{MAX_PIXELS}=169M"):
            read(path)
    assert stored_size(png) == (SIDE, SIDE)


def test_limit_can_be_raised_and_lowered(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    path = bomb(tmp_path / "a.png", 100)
    monkeypatch.setenv(MAX_PIXELS, "9K")
    with pytest.raises(DataError, match=f"{MAX_PIXELS}=1M"):
        read_image(path)
    monkeypatch.setenv(MAX_PIXELS, "0.01M")
    assert read_image(path).shape == (100, 100, 3)
    monkeypatch.setenv(MAX_PIXELS, "many")
    with pytest.raises(UsageError, match="400M"):
        read_image(path)


def test_page_that_is_larger_than_the_first_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    pages = [PIL.Image.new("L", size) for size in ((8, 8), (80, 80))]
    pages[0].save(tmp_path / "a.tif", save_all=True, append_images=pages[1:])
    monkeypatch.setenv(MAX_PIXELS, "1K")
    assert read_image(tmp_path / "a.tif").shape == (8, 8, 3)
    with pytest.raises(DataError, match="80 x 80"):
        read_image(tmp_path / "a.tif", page=1)


def test_annotations_cannot_ask_for_more_either(png: Path) -> None:
    with pytest.raises(DataError, match=MAX_PIXELS):
        empty_mask(10**6, 10**6, 255)
    shape = {"mask": base64.b64encode(png.read_bytes()).decode(), "points": [[0, 0], [1, 1]]}
    with pytest.raises(DataError, match=MAX_PIXELS):
        _pixels(shape, "mask", (8, 8))


def test_drawing_in_the_place_of_an_image_starts_no_other_program(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n%%EndComments\nshowpage\n")
    with pytest.raises(DataError, match="drawing"):
        read_image(path)
    with pytest.raises(DataError, match="drawing"), opened_image(io.BytesIO(path.read_bytes()), "x", head=True):
        pass


def test_check_of_a_folder_tells_it_once_in_little_memory_and_without_words_of_pillow(
    png: Path, tmp_path: Path
) -> None:
    root = tmp_path / "data"
    for folder in ("images", "masks"):
        (root / folder).mkdir(parents=True)
    for name in ("a", "b"):
        PIL.Image.new("RGB", (16, 16)).save(root / "images" / f"{name}.png")
        PIL.Image.fromarray(np.indices((16, 16)).sum(0).astype(np.uint8) % 2).save(root / "masks" / f"{name}.png")
    os.link(png, root / "images" / "c.png")
    os.link(png, root / "masks" / "c.png")
    classes = [{"id": number, "name": name} for number, name in enumerate(("road", "sky"))]
    (root / "classes.json").write_text(json.dumps({"classes": classes}))
    program = (
        "import sys; from trainables.data import check\n"
        "code = check.main(['--data', 'folder', '--data-root', sys.argv[1]])\n"
        "print(open('/proc/self/status').read()); sys.exit(code)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(root)],
        cwd=REPO,
        env={**os.environ, "SEGSWEEP_CACHE": str(tmp_path / "cache"), "COLUMNS": "200"},
        capture_output=True,
        text=True,
        timeout=120,
    )
    told = done.stdout + done.stderr
    assert done.returncode == 1, told
    assert f"{MAX_PIXELS}=169M" in told and "Warning" not in told and "Traceback" not in told
    kilobytes = int(done.stdout.partition("VmHWM:")[2].split()[0])
    assert kilobytes < 600_000, "with the pixels decoded it is 2.9 GB"


def test_tables_and_texts_of_a_run_are_looked_at_before_they_are_read(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "report" / "tables").mkdir(parents=True)
    (tmp_path / "wandb").mkdir()
    for place in ("manifest.json", "report/tables/failures.csv", "wandb/large.json"):
        (tmp_path / place).write_bytes(b" " * 2000)
    monkeypatch.setenv(MAX_FILE, "2K")
    check_texts(tmp_path)
    monkeypatch.setenv(MAX_FILE, "1K")
    with pytest.raises(DataError, match=rf"manifest\.json.*{MAX_FILE}=1M"):
        SweepManifest.load(tmp_path)
    (tmp_path / "manifest.json").unlink()
    with pytest.raises(DataError, match=r"failures\.csv"):
        check_texts(tmp_path, but_not_below=("wandb",))
    (tmp_path / "report" / "tables" / "failures.csv").unlink()
    check_texts(tmp_path, but_not_below=("wandb",))


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("a.json", b"[" + b"[]," * 1_500_000 + b"[]]", f"about 3000002 values.* 183 MB.*{MAX_FILE}=46M"),
        ("a.csv", b"x,y\n" + b"1,\n" * 1_500_000, f"about 3000002 values.*{MAX_FILE}=46M"),
        ("b.csv", b"a," * 2_500_000 + b"\n", "more than 20000 columns"),
    ],
)
def test_values_of_a_text_are_counted_before_they_fill_the_memory(
    name: str, content: bytes, told: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / name).write_bytes(content)
    monkeypatch.setenv(MAX_FILE, "46M" if name == "b.csv" else "45M")
    with pytest.raises(DataError, match=told):
        check_texts(tmp_path)
    monkeypatch.setenv(MAX_FILE, "46M")
    if name != "b.csv":
        check_texts(tmp_path)


def test_pipe_in_the_place_of_a_text_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "trial.json")
    for read in (check_file, lambda path: load_trial(path.parent), lambda path: within(path.parent, path.name)):
        with pytest.raises(DataError, match=r"trial\.json.* is a pipe"):
            read(tmp_path / "trial.json")


def test_parquet_whose_column_unpacks_to_more_is_refused_by_its_footer(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    rows = [{"bytes": bytes(4_000_000), "path": "a"}]
    table = pyarrow.table({name: pyarrow.array(rows, PICTURES) for name in ("image", "mask")})
    parquet.write_table(table, tmp_path / "train.parquet", compression="zstd")
    (found,) = tables(tmp_path)
    assert len(list(_rows(found))) == 1
    monkeypatch.setenv(MAX_FILE, "3M")
    with pytest.raises(DataError, match=rf"train\.parquet: column image\.bytes has 4 MB.*{MAX_FILE}=4M"):
        list(_rows(found))


@pytest.mark.parametrize("compression", [None, "zstd", "lz4"])
def test_arrow_stream_whose_batch_unpacks_to_more_is_refused_by_its_head(
    compression: str | None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    rows = [{"bytes": bytes(4_000_000), "path": "a"}]
    table = pyarrow.table({name: pyarrow.array(rows, PICTURES) for name in ("image", "mask")})
    table = table.append_column("kind", pyarrow.array(["x"]).dictionary_encode())
    options = ipc.IpcWriteOptions(compression=compression)
    with ipc.new_stream(tmp_path / "train.arrow", table.schema, options=options) as stream:
        stream.write_table(table)
    with pyarrow.memory_map(str(tmp_path / "train.arrow")) as source:
        found = [unpacked_bytes(message) for message in ipc.MessageReader.open_stream(source)]
    assert found[0] == 0 and 0 < found[1] < 1000 and 8_000_000 < found[2] < 8_001_000, "schema, dictionary, rows"
    (one,) = tables(tmp_path)
    assert len(list(_rows(one))) == 1
    monkeypatch.setenv(MAX_FILE, "7M")
    if compression is None:
        assert len(list(_rows(one))) == 1, "as large as its file"
        return
    with pytest.raises(DataError, match=rf"train\.arrow: message 2 has 8 MB.*{MAX_FILE}=8M"):
        list(_rows(one))
    content = bytearray((tmp_path / "train.arrow").read_bytes())
    content[600:700] = bytes(range(100, 200))
    (tmp_path / "train.arrow").write_bytes(content)
    with pytest.raises(DataError, match=r"train\.arrow"):
        list(_rows(one))


def test_table_that_repeats_a_picture_for_ever_does_not_fill_the_disk(tmp_path: Path) -> None:
    file = io.BytesIO()
    PIL.Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)).save(file, "PNG")
    rows = pyarrow.array([{"bytes": file.getvalue(), "path": None}] * 5000, PICTURES)
    parquet.write_table(pyarrow.table({"image": rows, "mask": rows}), tmp_path / "train.parquet")
    with pytest.raises(DataError, match=r"train\.parquet: its rows are more than 20 times as large as the file"):
        unpack(tmp_path, tables(tmp_path), Said())
    written = sum(path.stat().st_size for path in tmp_path.rglob("*.png"))
    assert written <= 20 * (tmp_path / "train.parquet").stat().st_size < 5000 * len(file.getvalue())
    assert rows_that_fit(100 * 2**20, most=16) == 5 and rows_that_fit(2**40, most=16) == 1
    entries = pyarrow.array([b"x"] * 9).dictionary_encode()
    few = pyarrow.StructArray.from_arrays([entries, pyarrow.array(["a"] * 9)], ["bytes", "path"])
    assert not _holds_pictures(pyarrow.table({"image": few}).schema, "image")


def test_size_that_a_configuration_asks_for_has_the_same_limit() -> None:
    assert parse_size("4096x4096") == (4096, 4096)
    with pytest.raises(ValueError, match=MAX_PIXELS):
        parse_size("100000x100000")


def test_archive_that_unpacks_to_more_is_refused_by_its_directory(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "results.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        for number in range(4):
            archive.writestr(f"{number}.npy", bytes(100))
    check_archive(tmp_path / "results.npz", together=True)
    whole = (tmp_path / "results.npz").read_bytes()
    places = [place for place in range(len(whole)) if whole[place : place + 4] == b"PK\x01\x02"]
    for sizes in ([2**30, 100, 100, 100], [400 * 2**20] * 4):  # each of the latter is small enough
        forged = bytearray(whole)
        for place, size in zip(places, sizes, strict=True):
            forged[place + 24 : place + 28] = struct.pack("<I", size)  # uncompressed size in the central directory
        (tmp_path / "results.npz").write_bytes(forged)
        with pytest.raises(DataError, match=MAX_FILE):
            check_archive(tmp_path / "results.npz", together=sizes[0] < 2**30)
    (tmp_path / "results.npz").write_bytes(whole[:20])
    with pytest.raises(DataError, match="make the report again"):
        read_scores(tmp_path, (1, 1))
