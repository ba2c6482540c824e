import errno
import fcntl
import json
import os
import pickle
import shutil
import threading
import time
from collections import namedtuple
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from trainables import places
from trainables.data.cache.packs import Bytes, PackStore

SIZES = {"a": 5, "b": 300, "c": 70}
Usage = namedtuple("Usage", "total used free")


def entry(key: str, size: int) -> Bytes:
    return np.random.default_rng(list(key.encode())).integers(0, 256, size, np.uint8)


class Maker:
    """Makes entries and keeps account of them."""

    def __init__(self, sizes: dict[str, int], *, lost: Sequence[str] = ()) -> None:
        self.sizes, self.lost, self.made = sizes, lost, list[str]()

    def __call__(self, key: str) -> Bytes | None:
        self.made.append(key)
        return None if key in self.lost else entry(key, self.sizes[key])


def filled(folder: Path, sizes: dict[str, int], *, limit: int = 10**6) -> tuple[PackStore, list[str]]:
    """A store that was asked for `sizes`, and what it had to make for that."""
    store, maker = PackStore(folder), Maker(sizes)
    store.fill(sizes, maker, limit_bytes=limit)
    return store, sorted(maker.made)


def readable(store: PackStore, sizes: dict[str, int]) -> list[str]:
    """The keys that can be read; what is read must be right."""
    found = {key: store.read(key) for key in sizes}
    for key, view in found.items():
        if view is not None:
            np.testing.assert_array_equal(view, entry(key, sizes[key]))
    return [key for key, view in found.items() if view is not None]


def files(folder: Path, suffix: str) -> list[Path]:
    return sorted(folder.glob(f"*{suffix}"))


def total(folder: Path) -> int:
    return sum(path.stat().st_size for path in files(folder, ".u8"))


def age(folder: Path, seconds: float) -> None:
    """Makes every pack's last use older."""
    for path in files(folder, ".json"):
        used = path.stat().st_mtime - seconds
        os.utime(path, (used, used))


def test_entries_are_made_once_and_read_by_every_store(tmp_path: Path) -> None:
    first, made = filled(tmp_path, SIZES)
    second, again = filled(tmp_path, SIZES)
    assert (made, again) == (["a", "b", "c"], [])
    for store in (first, second):
        assert readable(store, SIZES) == ["a", "b", "c"]
    assert first.read("z") is None
    assert [path.suffix for path in sorted(tmp_path.iterdir())] == [".json", ".u8", ""]


def test_only_what_no_pack_holds_is_made(tmp_path: Path) -> None:
    filled(tmp_path, {"a": 5, "b": 300})
    store, made = filled(tmp_path, {"b": 300, "c": 70})
    assert made == ["c"]
    assert readable(store, SIZES) == ["b", "c"]
    assert store.present(["a", "c", "z"]) == {"a", "c"}


def test_what_is_read_is_the_mapped_file_itself_and_cannot_be_written(tmp_path: Path) -> None:
    store, _ = filled(tmp_path, SIZES)
    view = store.read("b")
    assert view is not None and not view.flags.owndata
    with pytest.raises(ValueError, match="read-only"):
        view[0] = 1
    first, second = store.read("b"), store.read("b")
    assert first is not None and second is not None and np.shares_memory(first, second)


def test_progress_counts_every_entry_once(tmp_path: Path) -> None:
    filled(tmp_path, {"a": 5})
    told: list[tuple[int, int]] = []
    PackStore(tmp_path).fill(SIZES, Maker(SIZES), limit_bytes=10**6, progress=lambda *step: told.append(step))
    assert told == [(2, 3), (3, 3)]


@pytest.mark.parametrize("torn", ["data shorter", "data longer", "data missing", "index shorter", "index altered"])
def test_torn_pack_is_never_used_and_made_again(tmp_path: Path, torn: str) -> None:
    filled(tmp_path, SIZES)
    (data,), (index,) = files(tmp_path, ".u8"), files(tmp_path, ".json")
    match torn:
        case "data shorter":
            os.truncate(data, 374)
        case "data longer":
            os.truncate(data, 376)
        case "data missing":
            data.unlink()
        case "index shorter":
            os.truncate(index, 20)
        case "index altered":
            content = json.loads(index.read_bytes())
            content["entries"]["b"][0] += 1
            index.write_text(json.dumps(content))
    assert PackStore(tmp_path).present(SIZES) == set()
    store, made = filled(tmp_path, SIZES)
    assert made == ["a", "b", "c"]
    assert readable(store, SIZES) == ["a", "b", "c"]
    assert (len(files(tmp_path, ".u8")), len(files(tmp_path, ".json"))) == (1, 1)


def test_flipped_byte_is_found_at_the_first_reading_and_made_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    filled(tmp_path, SIZES)
    (data,) = files(tmp_path, ".u8")
    with data.open("r+b") as file:
        file.seek(5 + 150)
        byte = file.read(1)[0]
        file.seek(5 + 150)
        file.write(bytes([byte ^ 1]))
    store, made = filled(tmp_path, SIZES)
    assert made == []
    assert store.read("b") is None
    assert f"{data} is damaged" in caplog.text
    store, made = filled(tmp_path, SIZES)
    assert made == ["a", "b", "c"]
    assert readable(store, SIZES) == ["a", "b", "c"]


def test_leftovers_of_killed_builders_are_removed_by_the_next(tmp_path: Path) -> None:
    for name in ("tmpx.tmp", ".0.json.y.tmp", "0123.u8"):
        (tmp_path / name).write_bytes(b"half")
    filled(tmp_path, SIZES)
    assert [path.suffix for path in sorted(tmp_path.iterdir())] == [".json", ".u8", ""]


def test_entry_that_cannot_be_made_is_left_out(tmp_path: Path) -> None:
    store = PackStore(tmp_path)
    store.fill(SIZES, Maker(SIZES, lost=["b"]), limit_bytes=10**6)
    assert readable(store, SIZES) == ["a", "c"]
    store.fill(SIZES, Maker(SIZES, lost=["b"]), limit_bytes=10**6)
    assert readable(store, SIZES) == ["a", "c"]
    assert len(files(tmp_path, ".u8")) == 1, "nothing was made, so there is no second pack"


def test_failed_write_leaves_nothing_behind_and_what_was_readable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    filled(tmp_path, {"a": 5})

    def full(*arguments: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "pwrite", full)
    store = PackStore(tmp_path)
    with pytest.raises(OSError, match="No space left"):
        store.fill(SIZES, Maker(SIZES), limit_bytes=10**6)
    assert readable(store, SIZES) == ["a"]
    assert len(list(tmp_path.iterdir())) == 3


def test_folder_that_can_only_be_read_is_read(tmp_path: Path) -> None:
    filled(tmp_path, {"a": 5})
    (tmp_path / "lock").unlink()
    (tmp_path / "lock").mkdir()
    store = PackStore(tmp_path)
    with pytest.raises(OSError, match="lock"):
        store.fill(SIZES, Maker(SIZES), limit_bytes=10**6)
    assert readable(store, SIZES) == ["a"]
    assert readable(filled(tmp_path, {"a": 5})[0], SIZES) == ["a"]


def test_short_writes_are_completed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = os.pwrite
    monkeypatch.setattr(os, "pwrite", lambda handle, data, offset: whole(handle, data[:7], offset))
    assert readable(filled(tmp_path, SIZES)[0], SIZES) == ["a", "b", "c"]


def test_least_recently_used_packs_go_first(tmp_path: Path) -> None:
    filled(tmp_path, {"a": 400})
    age(tmp_path, 100)
    filled(tmp_path, {"b": 400})
    age(tmp_path, 100)
    filled(tmp_path, {"a": 400})
    filled(tmp_path, {"c": 400}, limit=1000)
    assert PackStore(tmp_path).present("abc") == {"a", "c"}
    assert total(tmp_path) == 800


def test_pack_in_use_is_not_evicted_and_limits_what_is_added(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    user, _ = filled(tmp_path, {"a": 400})
    assert readable(user, {"a": 400}) == ["a"]
    other = {"b": 300, "c": 300, "d": 100}
    store, made = filled(tmp_path, other, limit=800)
    assert made == ["b"], "in order until the limit is full"
    assert readable(store, other) == ["b"]
    assert "no room for 2 of 3 images" in caplog.text
    assert total(tmp_path) == 700
    del user
    store, made = filled(tmp_path, other, limit=800)
    assert made == ["c", "d"]
    assert PackStore(tmp_path).present("abcd") == {"b", "c", "d"}


def test_pack_that_is_mostly_of_no_use_makes_room(tmp_path: Path) -> None:
    filled(tmp_path, {"a": 100, "x": 800})
    store, made = filled(tmp_path, {"a": 100, "b": 300}, limit=1000)
    assert made == ["a", "b"]
    assert readable(store, {"a": 100, "b": 300}) == ["a", "b"]
    assert total(tmp_path) == 400


def test_pack_that_is_wholly_of_use_stays(tmp_path: Path) -> None:
    filled(tmp_path, {"a": 600})
    store, made = filled(tmp_path, {"a": 600, "b": 600}, limit=1000)
    assert made == []
    assert readable(store, {"a": 600, "b": 600}) == ["a"]


def test_half_of_the_free_disk_stays_free(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(10**9, 0, 620))
    store, made = filled(tmp_path, SIZES)
    assert made == ["a", "b"]
    assert readable(store, SIZES) == ["a", "b"]


def test_without_locks_everyone_builds_for_himself_and_nothing_is_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    filled(tmp_path, {"x": 400})
    (tmp_path / "other.tmp").write_bytes(b"perhaps another builder's")

    def refuse(*arguments: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", refuse)
    store, made = filled(tmp_path, {"a": 300, "b": 400}, limit=1000)
    assert made == ["a"]
    assert readable(store, {"a": 300}) == ["a"]
    assert PackStore(tmp_path).present("abx") == {"a", "x"}
    assert (tmp_path / "other.tmp").exists()


def test_second_builder_waits_says_so_and_uses_what_the_first_made(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    building, finish = threading.Event(), threading.Event()
    first = Maker(SIZES)

    def slowly(key: str) -> Bytes | None:
        building.set()
        assert finish.wait(20)
        return first(key)

    builder = threading.Thread(target=lambda: PackStore(tmp_path).fill(SIZES, slowly, limit_bytes=10**6))
    builder.start()
    assert building.wait(20)
    outcome: list[tuple[PackStore, list[str]]] = []
    waiter = threading.Thread(target=lambda: outcome.append(filled(tmp_path, SIZES)))
    waiter.start()
    deadline = time.monotonic() + 20
    while "waiting for another process" not in caplog.text and time.monotonic() < deadline:
        time.sleep(0.01)
    assert "waiting for another process" in caplog.text and waiter.is_alive()
    finish.set()
    builder.join(20)
    waiter.join(20)
    ((store, made),) = outcome
    assert (sorted(first.made), made) == (["a", "b", "c"], [])
    assert readable(store, SIZES) == ["a", "b", "c"]


def test_store_travels_without_its_maps_and_reads_on_arrival(tmp_path: Path) -> None:
    store, _ = filled(tmp_path, {"a": 10**6}, limit=10**7)
    assert readable(store, {"a": 10**6}) == ["a"]
    sent = pickle.dumps(store)
    assert len(sent) < 1000
    assert readable(pickle.loads(sent), {"a": 10**6}) == ["a"]


def test_arriving_store_whose_pack_is_gone_has_nothing(tmp_path: Path) -> None:
    sent = pickle.dumps(filled(tmp_path, SIZES)[0])
    (data,) = files(tmp_path, ".u8")
    data.unlink()
    assert readable(pickle.loads(sent), SIZES) == []


def test_ten_thousand_entries_are_found_again_in_less_than_a_second(tmp_path: Path) -> None:
    sizes = {f"{number:032x}": 1 for number in range(10_000)}
    PackStore(tmp_path).fill(sizes, lambda key: np.ones(1, np.uint8), limit_bytes=10**6)
    maker = Maker(sizes)

    def find_again() -> float:
        started = time.perf_counter()
        PackStore(tmp_path).fill(sizes, maker, limit_bytes=10**6)
        return time.perf_counter() - started

    assert min(find_again() for _ in range(3)) < 1, "the best of three, for other processes may be busy"
    assert maker.made == []


def test_fewer_are_made_at_once_where_each_takes_much_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(places, "cores", lambda: 32)
    # A photograph of 24 megapixels with its mask: five times 96 MB, twice within 1 GiB.
    assert [places.decoding_threads(count) for count in (0, 500 * 375 * 4, 24 * 10**6 * 4, 10**9)] == [16, 16, 2, 1]
