"""Files are written whole or stay as they were."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from trainables.files import write_atomically, write_json


@pytest.mark.parametrize("fails", ["fsync", "replace"])
def test_file_that_cannot_be_replaced_stays_as_it_was_and_nothing_lies_beside_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fails: str
) -> None:
    path = tmp_path / "made" / "file"
    write_atomically(path, b"before")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, fails, full)
    with pytest.raises(OSError, match="No space"):
        write_atomically(path, b"after")
    assert path.read_bytes() == b"before"
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("umask", [0o022, 0o077, 0o002])
def test_umask_says_who_may_read_a_file_and_a_private_one_stays_private(tmp_path: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        write_atomically(tmp_path / "file", b"")
        (tmp_path / "plain").touch()
        (tmp_path / "private").touch(0o600)
        write_atomically(tmp_path / "private", b"more")
    finally:
        os.umask(before)
    assert (tmp_path / "file").stat().st_mode & 0o777 == 0o666 & ~umask
    assert (tmp_path / "file").stat().st_mode == (tmp_path / "plain").stat().st_mode
    assert (tmp_path / "private").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(("indent", "text"), [(1, '{\n "a": [\n  1\n ]\n}\n'), (None, '{"a": [1]}\n')])
def test_json_ends_with_a_line_end_and_is_read_back(tmp_path: Path, indent: int | None, text: str) -> None:
    write_json(tmp_path / "file.json", {"a": [1]}, indent=indent)
    assert (tmp_path / "file.json").read_text() == text
    assert json.loads(text) == {"a": [1]}


def test_number_that_is_no_json_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(tmp_path / "file.json", {"a": float("nan")})
    assert not list(tmp_path.iterdir())
