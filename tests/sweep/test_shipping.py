"""The code that Ray brings to the nodes of a cluster."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from sweep import shipping
from sweep.shipping import shipped_code
from trainables.errors import SegsweepError
from trainables.versions import CODE, code_version


def test_what_is_brought_is_the_drivers_code_and_nothing_beside_it() -> None:
    with shipped_code() as environment:
        folder = Path(environment["working_dir"])
        assert {path.name for path in folder.iterdir()} == set(CODE)
        assert not list(folder.rglob("__pycache__"))
        program = "from trainables import versions, commands; print(versions.code_version(), commands.ROOT)"
        done = subprocess.run(
            [sys.executable, "-c", program], cwd=folder, capture_output=True, text=True, check=True
        ).stdout.split()
        assert done == [code_version(), str(folder)]
    assert not folder.exists()


def test_code_that_is_too_large_is_refused_with_its_largest_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for package in CODE:
        (tmp_path / package).mkdir()
    (tmp_path / "analysis" / "weights.pth").write_bytes(bytes(2**20))
    monkeypatch.setattr(shipping, "LIMIT", 2**19)
    with pytest.raises(SegsweepError, match=r"such as analysis/weights\.pth"), shipped_code(tmp_path):
        pass
