"""A cache folder that several users share: what another one could have written is told, left alone and made again."""

from __future__ import annotations

import json
import logging
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from trainables import kept, plugins
from trainables.data.base import DATASETS
from trainables.data.cache.packs import PackStore
from trainables.data.reading.memory import recall, remember
from trainables.errors import CheckpointError
from trainables.files import write_json
from trainables.kept import ForeignFileError, read_kept
from trainables.remembered import Memory

from ..plugin import nothing_left_behind, write

SOMEBODY = 54321


def _of_somebody(path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can give a file away")
    os.chown(path, SOMEBODY, -1)


def _of_a_group(path: Path) -> None:
    if os.geteuid() == 0:
        os.chown(path, 0, SOMEBODY)
    path.chmod(0o664)


WAYS: dict[str, Callable[[Path], None]] = {
    "belongs to user 54321": _of_somebody,
    "can be written by everybody": lambda path: path.chmod(0o646),
    "can be written by its group": _of_a_group,
    "is no regular file": lambda path: (path.unlink(), os.mkfifo(path))[1],
}


@pytest.fixture(autouse=True)
def untold(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kept, "_told", set())


@pytest.mark.parametrize("fault", WAYS)
def test_file_that_another_user_could_have_written_is_not_read_and_told_once(
    fault: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    if fault.endswith("group") and os.geteuid() != 0:
        pytest.skip("a user's own group may be theirs alone")
    for name in ("a", "b"):
        write_json(tmp_path / name, {})
        assert read_kept(tmp_path / name) == b"{}\n"
        WAYS[fault](tmp_path / name)
        with pytest.raises(ForeignFileError, match=fault):
            read_kept(tmp_path / name)
    (warning,) = caplog.messages
    assert f"{tmp_path / 'a'} {fault}" in warning and "SEGSWEEP_CACHE" in warning


def test_links_are_not_followed(tmp_path: Path) -> None:
    write_json(tmp_path / "mine", {})
    (tmp_path / "link").symlink_to(tmp_path / "mine")
    with pytest.raises(OSError, match="link"):
        read_kept(tmp_path / "link")


@pytest.mark.parametrize("suffix", [".u8", ".json"])
def test_poisoned_pack_is_made_again(suffix: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    honest = np.arange(100, dtype=np.uint8)
    for folder, entry in (("own", honest), ("theirs", 255 - honest)):
        PackStore(tmp_path / folder).fill({"a": 100}, lambda _, entry=entry: entry, limit_bytes=10**6)
    shutil.rmtree(tmp_path / "own")
    (tmp_path / "theirs").rename(tmp_path / "own")  # whole, and its checksums fit
    for path in (tmp_path / "own").glob(f"*{suffix}"):
        path.chmod(0o666)
    store = PackStore(tmp_path / "own")
    assert not store.present(["a"])
    store.fill({"a": 100}, lambda _: honest, limit_bytes=10**6)
    read = store.read("a")
    assert read is not None and np.array_equal(read, honest)
    assert any("another user" in message for message in caplog.messages)
    again = PackStore(tmp_path / "own")
    again.fill({"a": 100}, lambda _: pytest.fail("is there"), limit_bytes=10**6)


def test_remembered_facts_are_found_out_again_and_kept_safely(tmp_path: Path) -> None:
    remember(tmp_path / "scans.json", "images", {"a": 1}, version=1)
    assert recall(tmp_path / "scans.json", "images", version=1) == {"a": 1}
    memory = Memory(tmp_path)
    memory.note("names", ["a"])
    memory.save()
    for path in tmp_path.glob("*.json"):
        path.chmod(0o666)
    assert recall(tmp_path / "scans.json", "images", version=1) == {}
    assert Memory(tmp_path).recall("names", lambda: ["b"]) == ["b"]
    remember(tmp_path / "scans.json", "images", {"a": 2}, version=1)
    assert recall(tmp_path / "scans.json", "images", version=1) == {"a": 2}


@pytest.mark.parametrize("mode", [0o644, 0o666])
def test_list_of_plugins_of_somebody_else_runs_nothing(mode: int, tmp_path: Path) -> None:
    ran = tmp_path / "ran"
    with nothing_left_behind(tmp_path / "cache") as as_new:
        path = write(tmp_path, f"open({str(ran)!r}, 'w')", "theirs.py")
        (plugin,) = plugins.load([path])
        ran.unlink()
        as_new()
        (tmp_path / "cache" / plugins.USED_FILE).chmod(mode)
        told = [{"name": path.name, "sha256": plugin.sha256}]
        if mode == 0o644:
            plugins.load_used(told)
        else:
            with pytest.raises(CheckpointError, match=r"theirs\.py"):
                plugins.load_used(told)
    assert ran.exists() == (mode == 0o644)


def test_scenes_of_somebody_else_are_drawn_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEGSWEEP_CACHE", str(tmp_path))
    monkeypatch.setattr("trainables.data.scenes.dataset._is_whole", lambda place: place.exists())
    monkeypatch.setattr("trainables.data.scenes.dataset._build", lambda place: place.mkdir())
    own = DATASETS.get("scenes")(root=None).root
    (own / "manifest.json").write_text(json.dumps({}))
    assert DATASETS.get("scenes")(root=None).root == own
    (own / "manifest.json").chmod(0o666)
    assert DATASETS.get("scenes")(root=None).root == own.with_name(f"{own.name}-of-{os.geteuid()}")
