"""Bytes under keys, kept on disk and shared by all processes of a node through the page cache.

A pack is two files: `NAME.u8` holds its entries one after another, `NAME.json` says where each is and is written last.
NAME is the hash of the index, which has the size of the data and a checksum of every entry: a torn pack is never used.
An entry's checksum is compared when a process first reads it. A pack that another user could have written is not used.

One process builds at a time, under a lock (`flock`) that ends with its holder; a reader holds a shared lock on a pack
for as long as it is mapped, so that it is not evicted. On a file system without locks every process builds its own pack
and nothing is evicted.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import logging
import os
import shutil
import threading
import zlib
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from trainables.files import new_file, write_atomically
from trainables.kept import foreign, open_kept, read_kept, tell_foreign
from trainables.places import OnProgress, decoding_threads

Bytes = npt.NDArray[np.uint8]
"""A flat array."""

_FORMAT = 1
_LOCK = "lock"
_DATA, _INDEX, _UNFINISHED = ".u8", ".json", ".tmp"

_log = logging.getLogger("segsweep.cache")


class _Slot(NamedTuple):
    """Where an entry lies."""

    pack: str
    offset: int
    size: int
    checksum: int


@dataclass(frozen=True)
class _Pack:
    """A whole pack, as its index describes it."""

    name: str
    slots: Mapping[str, _Slot]
    bytes: int
    last_use: float

    def useful(self, keys: Collection[str]) -> int:
        """Bytes of the entries among `keys`."""
        return sum(slot.size for key, slot in self.slots.items() if key in keys)


class PackStore:
    """A folder of packs.

    Sent to another process it keeps its place in the folder and maps the same files there.

    Args:
        folder: Belongs to packs alone; made when the first is written.
        what: What it is, for messages.
        otherwise: What happens to images that are not in it, for messages.
    """

    def __init__(
        self, folder: Path, *, what: str = "decoded cache", otherwise: str = "are decoded at each use"
    ) -> None:
        self.folder = folder
        self.what = what
        self.otherwise = otherwise
        self._slots: dict[str, _Slot] = {}
        self._maps: dict[str, Bytes] = {}
        self._intact: set[str] = set()

    def present(self, keys: Collection[str]) -> set[str]:
        """Those of the keys that a whole pack holds now."""
        return {key for pack in self._packs() for key in pack.slots if key in keys}

    def fill(
        self,
        sizes: Mapping[str, int],
        make: Callable[[str], Bytes | None],
        *,
        limit_bytes: int,
        progress: OnProgress | None = None,
    ) -> None:
        """Makes entries readable: those that are there at once, the others after making them, in parallel.

        Unused packs are evicted, least recently used first, until the folder stays within the limit. The entries that
        find no room even so, the last of `sizes`, are left out; so are those that would take more than half of the
        disk's free space, because checkpoints must be written too.

        Args:
            sizes: The keys wanted, with the bytes of each entry.
            make: Gives the entry of a key, or None if it cannot be obtained; called in threads.
            limit_bytes: Upper bound of the folder's size.
            progress: Called with how many of the entries are done.

        Raises:
            OSError: If the folder cannot be written; what was readable stays readable.
        """
        self._attach(sizes)
        if len(self._slots) == len(sizes):
            return
        with self._building() as alone:
            self._detach()
            try:
                if alone:
                    self._remove_leftovers()
                self._write(self._make_room(sizes, limit_bytes), make, len(sizes), progress)
            finally:
                self._attach(sizes)

    def holds(self, key: str) -> bool:
        """Whether a pack that is mapped has the entry."""
        return key in self._slots

    def read(self, key: str) -> Bytes | None:
        """The entry as a read-only view of the mapped file; None if it is not there, or damaged."""
        slot = self._slots.get(key)
        mapped = self._map(slot.pack) if slot else None
        if slot is None or mapped is None:
            return None
        entry = mapped[slot.offset : slot.offset + slot.size]
        if key not in self._intact:
            if _checksum(entry) != slot.checksum:
                self._condemn(slot.pack)
                return None
            self._intact.add(key)
        return entry

    def _attach(self, keys: Collection[str]) -> None:
        """Maps the packs that hold `keys`; they count as used now."""
        self._detach()
        for pack in self._packs():
            slots = {key: slot for key, slot in pack.slots.items() if key in keys and key not in self._slots}
            if slots and self._map(pack.name) is not None:
                self._slots |= slots
                with contextlib.suppress(OSError):
                    os.utime(self._file(pack.name, _INDEX))

    def _detach(self) -> None:
        self._slots, self._maps, self._intact = {}, {}, set()

    def _map(self, name: str) -> Bytes | None:
        if name not in self._maps:
            try:
                with os.fdopen(open_kept(self._file(name, _DATA)), "rb") as file:
                    # The mapping keeps a duplicate of the descriptor, and with it the lock, until it is given up.
                    with contextlib.suppress(OSError):
                        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
                    self._maps[name] = np.asarray(np.memmap(file, np.uint8, "r"))
            except (OSError, ValueError):  # evicted, or emptied, since its index was read
                return None
        return self._maps[name]

    def _packs(self) -> list[_Pack]:
        return [pack for path in sorted(self.folder.glob(f"*{_INDEX}")) if (pack := _read_index(path)) is not None]

    def _file(self, name: str, suffix: str) -> Path:
        return self.folder / f"{name}{suffix}"

    @contextlib.contextmanager
    def _building(self) -> Iterator[bool]:
        """Holds the folder's lock, waiting for its holder; False where the file system has no locks."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / _LOCK).open("ab") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                locked = True
            except BlockingIOError:
                _log.warning("waiting for another process that builds the %s in %s", self.what, self.folder)
                fcntl.flock(file, fcntl.LOCK_EX)
                locked = True
            except OSError:
                locked = False
            yield locked

    def _remove_leftovers(self) -> None:
        """Deletes what builders that were killed left, and torn packs."""
        whole = {pack.name for pack in self._packs()}
        for path in self.folder.iterdir():
            with contextlib.suppress(FileNotFoundError):
                if path.lstat().st_uid != os.geteuid():
                    continue  # of another user, whose packs we do not read
                if path.suffix == _UNFINISHED or (path.suffix in (_DATA, _INDEX) and path.stem not in whole):
                    path.unlink()

    def _make_room(self, sizes: Mapping[str, int], limit_bytes: int) -> dict[str, int]:
        """Evicts what must go, and gives the missing entries that fit, in their order."""
        packs = self._packs()
        useful = {pack.name: pack.useful(sizes) for pack in packs}
        for pack in sorted(packs, key=lambda pack: (useful[pack.name], pack.last_use)):
            room = limit_bytes - sum(pack.bytes for pack in packs)
            if sum(_missing(sizes, packs).values()) <= room:
                break
            if useful[pack.name] < pack.bytes and self._evict(pack.name):
                packs.remove(pack)
        missing = _missing(sizes, packs)
        kept, free = sum(pack.bytes for pack in packs), shutil.disk_usage(self.folder).free
        room = min(limit_bytes - kept, free // 2)
        fitting = dict(list(missing.items())[: fitting_prefix(list(missing.values()), room)])
        if len(fitting) < len(missing):
            _log.warning(
                "%s in %s has no room for %d of %d images, which %s: %d MB of the limit of %d MB are taken, %d MB of "
                "the disk are free",
                self.what,
                self.folder,
                len(missing) - len(fitting),
                len(sizes),
                self.otherwise,
                kept // 10**6,
                limit_bytes // 10**6,
                free // 10**6,
            )
        return fitting

    def _evict(self, name: str) -> bool:
        """Deletes a pack unless some process maps it, or the file system cannot say."""
        try:
            with self._file(name, _DATA).open("rb") as file:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                self._file(name, _INDEX).unlink()
                self._file(name, _DATA).unlink()
        except OSError:
            return False
        return True

    def _write(
        self, sizes: Mapping[str, int], make: Callable[[str], Bytes | None], total: int, progress: OnProgress | None
    ) -> None:
        """Makes entries and writes them as a pack; `total - len(sizes)` are there already."""
        if not sizes:
            return
        ends = np.cumsum(list(sizes.values())).tolist()
        offsets = dict(zip(sizes, [0, *ends[:-1]], strict=True))
        done, lock = total - len(sizes), threading.Lock()
        descriptor, unfinished = new_file(self.folder, "tmp", _UNFINISHED)

        def write(key: str) -> int | None:
            nonlocal done
            entry = make(key)
            if entry is not None:
                _write_at(descriptor, entry, offsets[key])
            with lock:
                done += 1
                if progress:
                    progress(done, total)
            return None if entry is None else _checksum(entry)

        try:
            os.truncate(descriptor, ends[-1])
            with ThreadPoolExecutor(decoding_threads(max(sizes.values()))) as pool:
                checksums = dict(zip(sizes, pool.map(write, sizes), strict=True))
            # Not flushed to the disk: what a power cut tears, the checksums find.
            slots = {key: (offsets[key], sizes[key], crc) for key, crc in checksums.items() if crc is not None}
            if slots:
                index = json.dumps({"format": _FORMAT, "bytes": ends[-1], "entries": slots}).encode()
                os.replace(unfinished, self._file(_name(index), _DATA))
                write_atomically(self._file(_name(index), _INDEX), index)
        finally:
            os.close(descriptor)
            unfinished.unlink(missing_ok=True)

    def _condemn(self, name: str) -> None:
        """Stops using a pack whose bytes are not those that were written; the next builder makes it again."""
        damaged = self._file(name, _DATA)
        _log.warning("%s is damaged; its images %s until the cache is built again", damaged, self.otherwise)
        self._slots = {key: slot for key, slot in self._slots.items() if slot.pack != name}
        with contextlib.suppress(OSError):
            self._file(name, _INDEX).unlink()

    def __getstate__(self) -> dict[str, Any]:
        return {"folder": self.folder, "what": self.what, "otherwise": self.otherwise, "_slots": self._slots}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._maps, self._intact = {}, set()


def fitting_prefix(sizes: Sequence[int], room: int) -> int:
    """How many of the first sizes fit into the room together.

    Example:
        >>> fitting_prefix([4, 4, 4, 1], 9)
        2
    """
    return int(np.searchsorted(np.cumsum(sizes), room, side="right"))


def _missing(sizes: Mapping[str, int], packs: Sequence[_Pack]) -> dict[str, int]:
    present = {key for pack in packs for key in pack.slots}
    return {key: size for key, size in sizes.items() if key not in present}


def _read_index(path: Path) -> _Pack | None:
    """The pack of an index; None unless both are whole."""
    try:
        content, used = read_kept(path), path.stat().st_mtime
        data = path.with_suffix(_DATA).lstat()
        if fault := foreign(data):
            tell_foreign(path.with_suffix(_DATA), fault)
            return None
        data_bytes = data.st_size
        if _name(content) != path.stem:
            return None
        index = json.loads(content)
    except (OSError, ValueError):
        return None
    if index["format"] != _FORMAT or index["bytes"] != data_bytes:
        return None
    slots = {key: _Slot(path.stem, *place) for key, place in index["entries"].items()}
    return _Pack(path.stem, slots, data_bytes, used)


def _name(index: bytes) -> str:
    return hashlib.sha256(index).hexdigest()[:32]


def _checksum(entry: Bytes) -> int:
    return zlib.crc32(entry.data)


def _write_at(descriptor: int, entry: Bytes, offset: int) -> None:
    rest = entry.data
    while rest:
        written = os.pwrite(descriptor, rest, offset)
        rest, offset = rest[written:], offset + written
