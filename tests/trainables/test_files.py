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


def test_file_can_be_read_by_others(tmp_path: Path) -> None:
    write_atomically(tmp_path / "file", b"")
    assert (tmp_path / "file").stat().st_mode & 0o777 == 0o644


@pytest.mark.parametrize(("indent", "text"), [(1, '{\n "a": [\n  1\n ]\n}\n'), (None, '{"a": [1]}\n')])
def test_json_ends_with_a_line_end_and_is_read_back(tmp_path: Path, indent: int | None, text: str) -> None:
    write_json(tmp_path / "file.json", {"a": [1]}, indent=indent)
    assert (tmp_path / "file.json").read_text() == text
    assert json.loads(text) == {"a": [1]}


def test_number_that_is_no_json_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(tmp_path / "file.json", {"a": float("nan")})
    assert not list(tmp_path.iterdir())
