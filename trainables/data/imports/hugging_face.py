"""Hugging Face `datasets` on disk: images and masks in columns of Parquet or Arrow files, unpacked as files.

Parquet as a snapshot of a repository has it (`data/train-00000-of-00002.parquet`), Arrow as `save_to_disk` writes it
(`train/data-00000-of-00001.arrow`, a stream).
"""

from __future__ import annotations

import io
import json
import shutil
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from trainables.data.imports.arrow_sizes import check_stream
from trainables.data.imports.base import sources_hash
from trainables.data.layouts.finding import Said, SaidClass
from trainables.data.layouts.tree import UNPACKED_FOLDER, files_below, media_files
from trainables.data.layouts.words import PARTS, folder_name, tokens
from trainables.errors import DataError
from trainables.limits import check_unpacked, opened_image, rows_that_fit
from trainables.words import counted, some_of

if TYPE_CHECKING:
    import pyarrow
    from pyarrow import parquet

FORMAT = "Hugging Face tables"
_NAMES = "id2label.json"
_MARK = "unpacked.txt"
"""In that folder: of what it was unpacked; without it the folder is somebody else's."""
_ROWS = 16
"""Read at once, at the most: images of 20 megapixels stay below a gigabyte."""
_TIMES = 20
"""Bytes that pictures may have for each byte of their table: one that has more repeats a few of them for ever."""


@dataclass(frozen=True)
class Table:
    """A file with a column of images and one of masks."""

    path: Path
    image: str
    mask: str
    part: str
    """train, val or test; empty where neither the file's nor its folder's name says so."""


def tables(root: Path) -> Sequence[Table]:
    """The files of a folder that holds such tables and no images of its own; otherwise none.

    Raises:
        DataError: If a file cannot be read, or its columns do not say which holds the masks.
    """
    paths = [*files_below(root, ".parquet"), *files_below(root, ".arrow")]
    if not paths or any(file.below[:1] != (UNPACKED_FOLDER,) for file in media_files(root)):
        return ()
    found = []
    for path in paths:
        columns = _columns(_schema(path), path)
        if columns is not None:
            found.append(Table(path, *columns, _part(path, root)))
    return found


def unpack(root: Path, found: Sequence[Table], extra: Said) -> tuple[Said, Sequence[str]]:
    """Writes the images and masks of tables as files, in place of those that were unpacked before.

    The bytes are left as they are. A killed run leaves nothing that is taken for the whole.

    Args:
        root: Of the data set.
        found: From `tables`.
        extra: What the user said.

    Returns:
        What is said of the folder now, and notes.

    Raises:
        DataError: If a row has no picture, or the folder is somebody else's or cannot be written.
    """
    folder, hidden = root / UNPACKED_FOLDER, root / f".{UNPACKED_FOLDER}"
    sources = sources_hash(root, [table.path for table in found])
    if folder.exists() and not (folder / _MARK).is_file():
        raise DataError(f"{folder} was not written by this command, and is left alone: rename it")
    try:
        if not folder.exists() or (folder / _MARK).read_text("utf-8").strip() != sources:
            shutil.rmtree(hidden, ignore_errors=True)
            _write(found, hidden)
            (hidden / _MARK).write_text(sources + "\n", "utf-8")
            shutil.rmtree(folder, ignore_errors=True)
            hidden.rename(folder)
    except OSError as error:
        raise DataError(f"{folder} cannot be written ({error}); free some space, or copy the data set") from None
    said = replace(extra, images=f"{UNPACKED_FOLDER}/images", masks=f"{UNPACKED_FOLDER}/masks")
    names = _names(root) if extra.classes is None else ()
    if names:
        said = replace(said, classes=names, source=_NAMES)
    one = found[0]
    return said, (f"unpacked from {counted(len(found), 'table')}: images of {one.image!r}, masks of {one.mask!r}",)


def _write(found: Sequence[Table], folder: Path) -> None:
    parts = {table.part for table in found}
    numbers: dict[str, int] = {}
    for table in found:
        room = _TIMES * table.path.stat().st_size
        for image, mask in _rows(table):
            room -= len(image) + len(mask)
            if room < 0:
                raise DataError(
                    f"{table.path}: its rows are more than {_TIMES} times as large as the file, so they repeat the "
                    "same pictures; write each once, or save them as files in two folders, images and masks"
                )
            # Rows without a part of their own stand beside those that have one: they are to be drawn into splits.
            below = table.part if parts != {table.part} else ""
            number = numbers.get(below, 0)
            numbers[below] = number + 1
            for side, data in (("images", image), ("masks", mask)):
                place = folder / side / below / f"{number:06d}{_suffix(data, table, number)}"
                place.parent.mkdir(parents=True, exist_ok=True)
                place.write_bytes(data)


def _rows(table: Table) -> Iterator[tuple[bytes, bytes]]:
    for batch in _batches(table):
        for row in batch.to_pylist():
            image, mask = ((row[name] or {}).get("bytes") for name in (table.image, table.mask))
            if not image or not mask:
                raise DataError(
                    f"{table.path}: a row of {table.image!r} and {table.mask!r} has no picture in it, only its path or "
                    "nothing; save the data set with its images embedded"
                )
            yield image, mask


def _suffix(data: bytes, table: Table, number: int) -> str:
    try:
        with opened_image(io.BytesIO(data), f"{table.path}: row {number}", head=True) as image:
            kind = (image.format or "").lower()
    except OSError as error:
        raise DataError(f"{table.path}: row {number} is no picture ({error})") from None
    return {"jpeg": ".jpg", "mpo": ".jpg", "tiff": ".tif"}.get(kind, f".{kind}")


def _batches(table: Table) -> Iterator[pyarrow.RecordBatch]:
    import pyarrow
    from pyarrow import ipc, parquet

    columns = [table.image, table.mask]
    try:
        if table.path.suffix.lower() == ".parquet":
            with parquet.ParquetFile(table.path) as file:
                rows = rows_that_fit(_largest_column(file.metadata, table), most=_ROWS)
                yield from file.iter_batches(batch_size=rows, columns=columns)
            return
        check_stream(table.path)
        with pyarrow.memory_map(str(table.path)) as source, ipc.open_stream(source) as batches:
            for batch in batches:
                for start in range(0, batch.num_rows, _ROWS):
                    yield batch.select(columns).slice(start, _ROWS)
    except (pyarrow.ArrowException, OSError, struct.error) as error:
        raise DataError(f"{table.path} cannot be read ({error}); fetch it again") from None


def _largest_column(metadata: parquet.FileMetaData, table: Table) -> int:
    """Bytes of the largest column in a group of rows, which one row may have again and again (a dictionary).

    Raises:
        DataError: If one unpacks to more than the memory may hold, by the sizes that the file says.
    """
    largest = 0
    for number in range(metadata.num_row_groups):
        group = metadata.row_group(number)
        for column in map(group.column, range(group.num_columns)):
            if column.path_in_schema.split(".")[0] in (table.image, table.mask):
                what = f"column {column.path_in_schema}"
                check_unpacked(column.total_compressed_size, column.total_uncompressed_size, table.path, what)
                largest = max(largest, column.total_uncompressed_size)
    return largest


def _schema(path: Path) -> pyarrow.Schema:
    import pyarrow
    from pyarrow import ipc, parquet

    try:
        if path.suffix.lower() == ".parquet":
            return parquet.read_schema(path)
        with pyarrow.memory_map(str(path)) as source, ipc.open_stream(source) as batches:
            return batches.schema
    except (pyarrow.ArrowException, OSError) as error:
        raise DataError(f"{path} cannot be read ({error}); fetch it again") from None


def _columns(schema: pyarrow.Schema, path: Path) -> tuple[str, str] | None:
    """The names of the columns of images and of masks; None for a table that has no two columns of pictures."""
    pictures = [name for name in schema.names if _holds_pictures(schema, name)]
    if len(pictures) < 2:
        return None
    roles = {name: folder_name(name).role for name in pictures}
    masks = [name for name in pictures if roles[name] == "mask"]
    images = [name for name in pictures if roles[name] == "image"] or [name for name in pictures if not roles[name]]
    if not masks and len(pictures) == 2 and len(images) == 1:
        masks = [name for name in pictures if name not in images]
    if len(masks) != 1 or len(images) != 1:
        raise DataError(
            f"{path}: which of the columns {some_of(pictures, 6)} are images and which are masks? "
            "Keep two of them, named image and mask"
        )
    return images[0], masks[0]


def _holds_pictures(schema: pyarrow.Schema, name: str) -> bool:
    """Whether a column is an `Image` of `datasets`: a structure of bytes and a path.

    Bytes of a dictionary are none: a few of them could stand for any number of rows.
    """
    from pyarrow import types

    kind = schema.field(name).type
    fields = {field.name: field.type for field in kind} if types.is_struct(kind) else {}
    plain = "bytes" in fields and (types.is_binary(fields["bytes"]) or types.is_large_binary(fields["bytes"]))
    return plain and "path" in fields


def _part(path: Path, root: Path) -> str:
    for name in (path.name.partition(".")[0], *reversed(path.relative_to(root).parts[:-1])):
        found = next((PARTS[word] for word in tokens(name) if word in PARTS), None)
        if found is not None:
            return found
    return ""


def _names(root: Path) -> tuple[SaidClass, ...]:
    """The classes of `id2label.json`, as repositories of masks have it beside the tables; none if it is not there."""
    try:
        content = json.loads((root / _NAMES).read_text("utf-8"))
        return tuple(SaidClass(str(name), int(number)) for number, name in content.items())
    except FileNotFoundError:
        return ()
    except (OSError, ValueError, AttributeError) as error:
        raise DataError(f"{root / _NAMES} does not give a name for each id ({error})") from None
