"""What the batches of an Arrow stream unpack to, by their heads: Arrow itself unpacks a whole batch as it reads it.

The head of a message is a flatbuffer (`Message.fbs` of the Arrow format): tables whose fields are found by offsets and
may be missing. A compressed buffer begins with the bytes that it unpacks to, or -1 where it is stored as it is.
"""

from __future__ import annotations

import struct
from pathlib import Path
from typing import TYPE_CHECKING

from trainables.limits import check_unpacked

if TYPE_CHECKING:
    import pyarrow

_DICTIONARY, _RECORDS = 2, 3
"""Kinds of messages that hold buffers (`MessageHeader`)."""


def check_stream(path: Path) -> None:
    """Refuses a stream of which a batch unpacks to more than the limit (`SEGSWEEP_MAX_FILE`).

    Args:
        path: An Arrow file as `save_to_disk` writes it.

    Raises:
        DataError: With the size and how to raise the limit.
        pyarrow.ArrowException, OSError, struct.error: If it cannot be read.
    """
    import pyarrow
    from pyarrow import ipc

    with pyarrow.memory_map(str(path)) as source:
        for number, message in enumerate(ipc.MessageReader.open_stream(source)):
            check_unpacked(message.body.size, unpacked_bytes(message), path, f"message {number}")


def unpacked_bytes(message: pyarrow.Message) -> int:
    """Bytes that the buffers of a message take once they are read.

    Raises:
        struct.error: If its head is damaged.
    """
    head, body = memoryview(message.metadata), memoryview(message.body)
    root = _follow(head, 0)
    (kind,) = struct.unpack_from("<B", head, _field(head, root, 1))
    if kind not in (_DICTIONARY, _RECORDS):
        return 0
    batch = _follow(head, _field(head, root, 2))
    if kind == _DICTIONARY:
        batch = _follow(head, _field(head, batch, 1))
    if not _field(head, batch, 3):  # BodyCompression
        return len(body)
    buffers = _follow(head, _field(head, batch, 2))
    (count,) = struct.unpack_from("<I", head, buffers)
    unpacked = 0
    for number in range(count):
        offset, length = struct.unpack_from("<qq", head, buffers + 4 + 16 * number)
        if length:
            (size,) = struct.unpack_from("<q", body, offset)
            unpacked += length if size < 0 else size
    return unpacked


def _follow(head: memoryview, place: int) -> int:
    """Where an offset at a place leads."""
    (offset,) = struct.unpack_from("<I", head, place)
    return place + int(offset)


def _field(head: memoryview, table: int, number: int) -> int:
    """The place of a table's field; 0 if it is missing."""
    (back,) = struct.unpack_from("<i", head, table)
    fields = table - back
    (size,) = struct.unpack_from("<H", head, fields)
    if 6 + 2 * number > size:
        return 0
    (offset,) = struct.unpack_from("<H", head, fields + 4 + 2 * number)
    return table + int(offset) if offset else 0
